--- Downloads firmware and software packages: the caller gets a whole, verified package or an error.
-- @module thingsboard.ota.download
local core = require "thingsboard.core"
local answer = require "thingsboard.http.answer"
local check = require "thingsboard.check"
local client = require "thingsboard.http.client"
local errors = require "thingsboard.error"
local options = require "thingsboard.options"

local download = {}

local PROGRESS_PERIOD = 0.2 -- seconds
local LARGEST_CHUNKED = 2 ^ 31 - 1 -- the server counts in 32 bits

-- What the statuses of the server mean for a package.
local function meanings(what, prefix)
  return {
    [400] = ("another %s than this title and version is assigned; read the shared attributes again"):format(what),
    [404] = ("the server has no %s for this device; if the shared attribute %s_url is set, it lies there"):format(what,
      prefix),
    [500] = ("the server has lost the %s, or is over a rate limit; try again in a while"):format(what),
  }
end

local expected = {
  firmware = answer.package(meanings("firmware", "fw")), software = answer.package(meanings("software", "sw")),
}

local function fail(what, message, ...)
  return nil, errors.new("package", what .. ": " .. message:format(...))
end

-- What to say of a package that is not what was expected.
local function unexpected(what, sink, message, ...)
  local encoded = "; it came compressed, which was not asked for: serve it as it is"
  return fail(what, message .. (sink.encoded and encoded or ""), ...)
end

local function file_error(what, reason)
  return nil, errors.new("file", what .. ": " .. reason)
end

-- A file may have as many bytes as the server announces; an answer that announces nothing might never end.
local function too_large(what, limit, path)
  local message = "the package has more than the %d bytes of max_response; give a path, and it goes to a file"
  if path then message = "the answer has more than %d bytes and does not say its length; give the package's size" end
  return nil, errors.new("answer", what .. ": " .. message:format(limit), { code = "BODY_TOO_LARGE" })
end

-- Waits for the exchange, and reports progress.
local function wait(loop, exchange, progress, total)
  while not loop:wait(exchange, progress and core.monotonic() + PROGRESS_PERIOD) do
    local received, announced = exchange:received()
    progress(received, total or announced)
  end
end

-- Where the bytes go: a file or memory; the checksum is updated on the way.
local function new_sink(what, given, checksum)
  local sink = { received = 0, parts = {}, checksum = checksum }
  if given.path then
    local file, reason = core.file(given.path, given.temporary)
    if not file then return file_error(what, reason) end
    sink.file = file
  end
  return sink
end

local function put(what, sink, bytes)
  sink.received = sink.received + #bytes
  if sink.checksum then sink.checksum:update(bytes) end
  if not sink.file then
    sink.parts[#sink.parts + 1] = bytes
    return true
  end
  local ok, reason = sink.file:write(bytes)
  if not ok then return file_error(what, reason) end
  return true
end

local function fetch_whole(from, what, path, given, sink)
  local exchange <close>, closed = from:start("GET", path, nil, nil,
    { file = sink.file, checksum = sink.checksum, limit = given.size })
  if not exchange then return nil, closed end
  wait(from.loop, exchange, given.progress, given.size)
  sink.encoded = exchange:encoded()
  local body, err = from:outcome(what, exchange, expected[what] or answer.file)
  if not body then
    if err.code ~= "BODY_TOO_LARGE" then return nil, err end
    if given.size then
      return unexpected(what, sink, "the package has more bytes than the %d expected", given.size)
    end
    return too_large(what, from.max_response, given.path)
  end
  if sink.file then
    sink.received = exchange:received()
    return true
  end
  return put(what, sink, body)
end

local function path_of(what, package)
  return ("/%s?title=%s&version=%s"):format(what, client.escape(package.title), client.escape(package.version))
end

--- One chunk of a package.
-- @tparam table from client
-- @tparam string what `firmware` or `software`
-- @tparam table package `title`, `version`, `size`
-- @tparam integer chunk_size bytes
-- @tparam integer chunk the first being 0
-- @treturn[1] string as long as it must be
-- @treturn[2] nil
-- @treturn[2] table the error
function download.chunk(from, what, package, chunk_size, chunk)
  local path = ("%s&size=%d&chunk=%d"):format(path_of(what, package), chunk_size, chunk)
  local body, err = from:call(what, "GET", path, nil, nil, expected[what])
  if not body then return nil, err end
  local length = math.min(chunk_size, package.size - chunk * chunk_size)
  if #body == length then return body end
  local message = ("chunk %d has %d bytes where %d were expected"):format(chunk, #body, length)
  -- Retryable: the server's cache may have dropped the package, and loads it for the next request.
  return nil, errors.new("package", what .. ": " .. message .. "; ask again, and check the size", { retryable = true })
end

local function fetch_chunks(from, what, _, given, sink)
  local size, chunk_size = given.size, given.chunk_size
  for chunk = 0, math.max(0, (size - 1) // chunk_size) do
    local bytes, err = download.chunk(from, what, given, chunk_size, chunk)
    if not bytes then return nil, err end
    local ok
    ok, err = put(what, sink, bytes)
    if not ok then return nil, err end
    if given.progress then given.progress(sink.received, size) end
  end
  return true
end

local function verify(what, given, sink)
  if given.size and sink.received ~= given.size then
    return unexpected(what, sink, "the package has %d bytes where %d were expected", sink.received, given.size)
  end
  if sink.checksum then
    local found, wanted = sink.checksum:hex(), given.checksum:lower()
    if found ~= wanted then
      return unexpected(what, sink, "the package's %s is %s where %s was expected", given.checksum_algorithm, found,
        wanted)
    end
  end
  return true
end

-- Checks that types cannot express. The methods of the device make a tail call, so level 3 is the script.
local function check_together(what, given, max_response)
  for name, other in next, { checksum = "checksum_algorithm", checksum_algorithm = "checksum" } do
    if given[name] and not given[other] then
      error(("%s: option '%s' is missing beside '%s'"):format(what, other, name), 3)
    end
  end
  if not given.chunk_size then return end
  if not given.size then
    error(what .. ": option 'size' is missing beside 'chunk_size': only by it a short chunk is told from the last", 3)
  end
  if math.max(given.size, given.chunk_size) > LARGEST_CHUNKED then
    error(what .. ": the server cuts no package of 2 GiB or more into chunks, nor into such", 3)
  end
  if given.chunk_size > max_response then
    error(("%s: option 'chunk_size' is above the %d bytes of max_response"):format(what, max_response), 3)
  end
end

local function new_checksum(what, given)
  if not given.checksum then return nil end
  local ok, made = pcall(core.checksum, given.checksum_algorithm)
  if ok then return made end
  error(("%s: option 'checksum_algorithm': %s"):format(what, made:match("%((.+)%)$") or made), 3)
end

--- Fetches what a path has, to a file or a string, and verifies it.
-- @tparam table from client
-- @tparam string what for messages
-- @tparam string path
-- @tparam table given see `options.package`; `temporary`: the file's name until it is whole
-- @tparam ?userdata checksum
-- @treturn as `download.package`
function download.fetch(from, what, path, given, checksum)
  local sink, err = new_sink(what, given, checksum)
  if not sink then return nil, err end
  local file <close> = sink.file
  local fetch = given.chunk_size and fetch_chunks or fetch_whole
  local ok
  ok, err = fetch(from, what, path, given, sink)
  if ok then ok, err = verify(what, given, sink) end
  if not ok then return nil, err end
  if given.progress and not given.chunk_size then given.progress(sink.received, sink.received) end
  if not file then return table.concat(sink.parts) end
  local committed, reason = file:commit()
  if not committed then return file_error(what, reason) end
  return given.path
end

--- Downloads a package.
-- @tparam table from client
-- @tparam string what `firmware` or `software`: the method, and the path
-- @tparam table given see `options.package`
-- @treturn[1] string the package, or the path of the file that holds it
-- @treturn[2] nil
-- @treturn[2] table the error; no file has been written, and one that stood at the path stands there still
function download.package(from, what, given)
  given = check.read(what, given, options.package)
  check_together(what, given, from.max_response)
  local checksum = new_checksum(what, given)
  if not given.path and (given.size or 0) > from.max_response then return too_large(what, from.max_response) end
  return download.fetch(from, what, path_of(what, given), given, checksum)
end

return download
