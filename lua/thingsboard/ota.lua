--- Downloads of firmware and software packages, whole and verified or not at all.
-- @module thingsboard.ota
local core = require "thingsboard.core"
local check = require "thingsboard.check"
local client = require "thingsboard.client"
local errors = require "thingsboard.error"

local ota = {}

--- What `firmware` and `software` take.
ota.options = {
  title = "text!", version = "text!", -- of the package that is assigned
  size = "non-negative integer", -- bytes
  checksum = "text", checksum_algorithm = "text", -- as in the shared attributes fw_checksum, fw_checksum_algorithm
  path = "text", -- a file to write; without it the package is returned as a string
  chunk_size = "positive integer", -- bytes of a request; without it one request brings all
  progress = "function", -- called with the bytes that have come, and those in all, when known
}

local PROGRESS_PERIOD = 0.2 -- seconds
local LARGEST_CHUNKED = 2 ^ 31 - 1 -- the server counts in 32 bits

local function fail(what, message, ...)
  return nil, errors.new("package", what .. ": " .. message:format(...), { retryable = true })
end

-- Waits for the exchange, and tells how far it has come meanwhile.
local function wait(loop, exchange, progress, total)
  while not loop:wait(exchange, progress and core.monotonic() + PROGRESS_PERIOD) do
    local received, announced = exchange:received()
    progress(received, total or announced)
  end
end

-- Where the package goes: a file or memory, and past the checksum.
local function new_sink(options)
  local sink = { received = 0, parts = {} }
  if options.checksum then sink.checksum = core.checksum(options.checksum_algorithm) end
  if options.path then
    local file, reason = core.file(options.path)
    if not file then return nil, errors.new("file", reason) end
    sink.file = file
  end
  return sink
end

local function put(sink, bytes)
  sink.received = sink.received + #bytes
  if sink.checksum then sink.checksum:update(bytes) end
  if not sink.file then
    sink.parts[#sink.parts + 1] = bytes
    return true
  end
  local ok, reason = sink.file:write(bytes)
  if not ok then return nil, errors.new("file", reason) end
  return true
end

local function fetch_whole(from, what, path, options, sink)
  local exchange <close>, closed = from:start("GET", path, nil, nil, sink.file, sink.checksum, options.size)
  if not exchange then return nil, closed end
  wait(from.loop, exchange, options.progress, options.size)
  local body, err = from:outcome(what, exchange)
  if not body then
    if err.code == "BODY_TOO_LARGE" and options.size then
      return fail(what, "the package has more than the %d bytes that were expected", options.size)
    end
    return nil, err
  end
  if sink.file then
    sink.received = exchange:received()
    return true
  end
  return put(sink, body)
end

local function fetch_chunks(from, what, path, options, sink)
  local size, chunk_size = options.size, options.chunk_size
  for chunk = 0, (size + chunk_size - 1) // chunk_size - 1 do
    local expected = math.min(chunk_size, size - sink.received)
    local body, err = from:call(what, "GET", ("%s&size=%d&chunk=%d"):format(path, chunk_size, chunk))
    if not body then return nil, err end
    if #body ~= expected then
      return fail(what, "chunk %d has %d bytes where %d were expected; ask again, and check the size", chunk, #body,
        expected)
    end
    local ok
    ok, err = put(sink, body)
    if not ok then return nil, err end
    if options.progress then options.progress(sink.received, size) end
  end
  return true
end

local function verify(what, options, sink)
  if options.size and sink.received ~= options.size then
    return fail(what, "the package has %d bytes where %d were expected", sink.received, options.size)
  end
  if sink.checksum then
    local found, wanted = sink.checksum:hex(), options.checksum:lower()
    if found ~= wanted then
      return fail(what, "the package's %s is %s where %s was expected", options.checksum_algorithm, found, wanted)
    end
  end
  return true
end

--- Downloads a package.
-- @tparam table from client
-- @tparam string what `firmware` or `software`: the method, and the path
-- @tparam table options see `ota.options`
-- @treturn[1] string the package, or the path of the file that holds it
-- @treturn[2] nil
-- @treturn[2] table the error; no file has been written, and one that stood at the path stands there still
function ota.download(from, what, options)
  check.options(what, options, ota.options)
  if options.checksum and not options.checksum_algorithm then
    error(what .. ": option 'checksum_algorithm' is missing beside 'checksum'", 3)
  end
  if options.chunk_size then
    if not options.size then
      error(what .. ": option 'size' is missing beside 'chunk_size': only by it a short chunk is told from the last", 3)
    end
    if options.size > LARGEST_CHUNKED or options.chunk_size > LARGEST_CHUNKED then
      error(what .. ": the server cuts no package of 2 GiB or more into chunks", 3)
    end
  end
  local sink, err = new_sink(options)
  if not sink then return nil, err end
  local file <close> = sink.file
  local path = ("/%s?title=%s&version=%s"):format(what, client.escape(options.title), client.escape(options.version))
  local fetch = options.chunk_size and fetch_chunks or fetch_whole
  local ok
  ok, err = fetch(from, what, path, options, sink)
  if ok then ok, err = verify(what, options, sink) end
  if not ok then return nil, err end
  if options.progress and not options.chunk_size then options.progress(sink.received, sink.received) end
  if not file then return table.concat(sink.parts) end
  local committed, reason = file:commit()
  if not committed then return nil, errors.new("file", reason) end
  return options.path
end

return ota
