--- Downloads a package to disk in pieces. Each piece is synced, and an interrupted download continues after the last.
-- @module thingsboard.ota.resume
local core = require "thingsboard.core"
local answer = require "thingsboard.http.answer"
local client = require "thingsboard.http.client"
local errors = require "thingsboard.error"
local options = require "thingsboard.options"
local download = require "thingsboard.ota.download"

local resume = {}

local READ = 256 * 1024 -- bytes at once
local SMALLEST_LIMIT = 64 * 1024 -- bytes of an answer: so much may an error have to say

--- Removes what has been downloaded.
function resume.remove(path)
  os.remove(path)
  os.remove(path .. ".new")
end

--- The size of what has been downloaded.
-- @tparam string path
-- @treturn[1] integer
-- @treturn[2] nil
-- @treturn[2] string why there is none
function resume.size(path)
  local file <close>, reason = io.open(path, "rb")
  return file and file:seek "end", reason
end

local function file_error(reason)
  return nil, errors.new("file", "updates: " .. reason)
end

local function has_room(self, bytes)
  local directory = self.given.package_directory or self.given.directory
  local free, reason = core.free_space(directory)
  if not free then return file_error(reason) end
  if free >= bytes then return true end
  return file_error(("%d bytes are needed in %s, and %d are free"):format(bytes, directory, free))
end

-- Writes at the offset that the state has, which need not be the end of the file. The file is open only meanwhile: Lua
-- does not mark its files as close-on-exec, and a program that another task starts would inherit this one.
local function put(self, chunk, total)
  local file <close>, reason = io.open(self.part_path, "r+b")
  local ok = file and file:seek("set", self.state.received)
  if ok then ok, reason = file:write(chunk) end
  if ok then ok, reason = file:flush() end
  if ok then ok, reason = core.sync(self.part_path) end
  if not ok then return file_error(reason) end
  self.state.received = self.state.received + #chunk
  self.save()
  if self.given.progress then self.given.progress(self.state.received, total) end
  return true
end

-- Makes the file where there is none, readable by its owner alone. Begins anew where it is shorter than the state says.
local function prepare(self)
  local size = resume.size(self.part_path)
  if not size or size < self.state.received then self.state.received = 0 end
  if size then return true end
  local file <close>, reason = core.file(self.part_path, self.part_path .. ".new")
  local ok = file
  if file then ok, reason = file:commit() end
  if not ok then return file_error(reason) end
  return true
end

local function fetch_chunks(self, package)
  -- A chunk begins at a multiple of its size. If the size was changed, part of the last chunk is fetched again.
  self.state.received = self.state.received // self.chunk_size * self.chunk_size
  while self.state.received < package.size do
    local number = self.state.received // self.chunk_size
    local chunk, err = download.chunk(self.client, self.kind, package, self.chunk_size, number)
    if not chunk then return nil, err end
    local ok
    ok, err = put(self, chunk, package.size)
    if not ok then return nil, err end
  end
  return true
end

-- Whether an answer has the bytes that were asked for, from `first` on, as they are. A server may give fewer; some give
-- others. Returns the size of the whole package, too, if the answer tells it.
local function is_piece(exchange, first, body)
  local from, to, total = (exchange:range() or ""):match "^bytes (%d+)%-(%d+)/([%d*]+)$"
  local is_right = tonumber(from) == first and tonumber(to) == first + #body - 1 and not exchange:encoded()
  return is_right, tonumber(total)
end

-- Fetches one piece: returns its bytes and whether they are the last ones, as far as the answer tells; "whole" when the
-- server does not support ranges; or nil and the error.
local function fetch_piece(self, package, from)
  local first = self.state.received
  local last = math.min(first + self.chunk_size, package.size or math.maxinteger) - 1
  local exchange <close>, closed = from:start("GET", "", nil, nil, { range = ("%d-%d"):format(first, last) })
  if not exchange then return nil, closed end
  self.loop:wait(exchange)
  local status, body, text = exchange:result()
  if status == 206 then
    local is_right, total = is_piece(exchange, first, body)
    if not is_right then return "whole" end
    return body, not package.size and (first + #body == total or not total and #body < self.chunk_size)
  end
  if status == 416 and first > 0 then
    local total = tonumber((exchange:range() or ""):match "^bytes %*/(%d+)$") or package.size or first
    return total > first and "whole" or "", true
  end
  if status == 200 or status == 416 or not status and body == "BODY_TOO_LARGE" then return "whole" end
  if status then return nil, errors.of_status("updates", status, from:quote(body), answer.file.meanings) end
  return nil, errors.of_code("updates", body, text, from:host())
end

-- Fetches all pieces. Returns true, "whole" when the server does not support ranges, or nil and the error.
local function fetch_pieces(self, package, from)
  local ready, reason = prepare(self)
  if not ready then return nil, reason end
  while not package.size or self.state.received < package.size do
    local piece, last = fetch_piece(self, package, from)
    if not piece or piece == "whole" then return piece, last end
    local ok, err = put(self, piece, package.size)
    if not ok then return nil, err end
    if last then break end
  end
  return true
end

-- Fetches a package by URL, without the device's token: in pieces if the server supports ranges and a checksum can show
-- that they belong together, otherwise in one request.
local function fetch_url(self, package)
  local base, path = package.url:match("^(%a+://[^/?#]+)([^#]*)")
  if not base or path:find "[%s%c]" or client.mistake("updates", { url = base }) then
    return nil, errors.new("value", "updates: the package's URL must be like https://host/path, with a port from 1 to "
      .. "65535 if with any, without user and password, and with %20 for a blank")
  end
  local given = { url = base, max_response = math.max(self.chunk_size, SMALLEST_LIMIT) }
  for _, option in ipairs(options.elsewhere) do
    local name = option.name
    local value = self.given.url_options and self.given.url_options[name]
    if value == nil and option.shared then value = self.client.shared[name] end
    if value == nil then value = given[name] or option.default end
    if value == false and option.type == "text or false" then value = nil end
    given[name] = value
  end
  local mistake = client.mistake("updates", given)
  if mistake then return nil, errors.new("value", mistake) end
  local well, from = pcall(client.new, "updates", given, path, {})
  if not well then return nil, errors.new("value", "updates: " .. errors.words_of(from)) end
  local ok, err = "whole", nil
  if package.checksum then ok, err = fetch_pieces(self, package, from) end
  if ok == "whole" then
    ok, err = download.fetch(from, "updates", "", {
      path = self.part_path, temporary = self.part_path .. ".new", size = package.size, progress = self.given.progress,
    })
  end
  from:close()
  return ok, err
end

--- Downloads what is missing. After an error that is retryable the next call continues from there.
-- @tparam table self of the update: `state.received` is kept by `save`
-- @tparam table package
-- @treturn[1] boolean true
-- @treturn[2] nil
-- @treturn[2] table the error
function resume.fetch(self, package)
  local room, err = has_room(self, (package.size or 0) - self.state.received)
  if not room then return nil, err end
  if package.url then return fetch_url(self, package) end
  local ready
  ready, err = prepare(self)
  if not ready then return nil, err end
  return fetch_chunks(self, package)
end

-- What a file has from a byte on; it is open only meanwhile, see `put`.
local function read(path, from)
  local file <close>, reason = io.open(path, "rb")
  local piece = file and file:seek("set", from) and file:read(READ)
  return piece, reason or path .. ": it was cut off"
end

--- Whether the file is the package, by its length and, if there is one, its checksum. Other tasks run during the check.
-- @tparam table self of the update
-- @tparam table package
-- @treturn[1] boolean true
-- @treturn[2] nil
-- @treturn[2] string why not
function resume.verify(self, package)
  local size, gone = resume.size(self.part_path)
  if not size then return nil, gone end
  if package.size and size ~= package.size then
    return nil, ("the package has %d bytes where %d were expected"):format(size, package.size)
  end
  if not package.checksum then return true end
  local checksum <close> = core.checksum(package.checksum_algorithm)
  for from = 0, size - 1, READ do
    local piece, reason = read(self.part_path, from)
    if not piece then return nil, reason end
    checksum:update(piece)
    self.loop:sleep(0)
  end
  local found = checksum:hex()
  if found == package.checksum:lower() then return true end
  return nil, ("the package's %s is %s where %s was expected"):format(package.checksum_algorithm, found,
    package.checksum)
end

return resume
