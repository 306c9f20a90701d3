--- Plain HTTP over a socket of its own, for specs that look at the emulator itself: nothing is hidden or repeated.
local socket = require "socket"

local wire = {}

local Talk = {}
Talk.__index = Talk

--- Sends a request and returns at once.
-- @tparam number port of the emulator
-- @tparam string method
-- @tparam string target
-- @tparam[opt] string body
-- @tparam[opt] table headers further ones, by name
-- @return the talk, to `finish` or to `give_up`
function wire.open(port, method, target, body, headers)
  local lines = { method .. " " .. target .. " HTTP/1.1", "Host: 127.0.0.1" }
  for name, value in pairs(headers or {}) do lines[#lines + 1] = name .. ": " .. value end
  if body then lines[#lines + 1] = "Content-Length: " .. #body end
  local connection = assert(socket.connect("127.0.0.1", port))
  local talk = setmetatable({ socket = connection, method = method, started = socket.gettime() }, Talk)
  assert(connection:send(table.concat(lines, "\r\n") .. "\r\n\r\n" .. (body or "")))
  return talk
end

local function read_chunks(connection)
  local parts = {}
  while true do
    local size = tonumber(assert(connection:receive("*l")), 16)
    parts[#parts + 1] = size > 0 and assert(connection:receive(size)) or nil
    assert(connection:receive("*l"))
    if size == 0 then return table.concat(parts) end
  end
end

--- Reads the answer.
-- @tparam[opt=20] number seconds to wait for it
-- @return `{ status=, headers=, body=, seconds= }`, names of headers in lower case; nil if nothing came
function Talk:finish(seconds)
  self.socket:settimeout(seconds or 20)
  local line = self.socket:receive("*l")
  if not line then
    self.socket:close()
    return nil
  end
  local answer = { status = math.tointeger(tonumber(line:match("^HTTP/1%.1 (%d+)"))), headers = {} }
  for header in function() return self.socket:receive("*l") end do
    if header == "" then break end
    local name, value = header:match("^([^:]+): (.*)$")
    answer.headers[name:lower()] = value
  end
  local length = tonumber(answer.headers["content-length"])
  if self.method == "HEAD" then answer.body = ""
  elseif length then answer.body = length > 0 and assert(self.socket:receive(length)) or ""
  else answer.body = read_chunks(self.socket) end
  answer.seconds = socket.gettime() - self.started
  self.socket:close()
  return answer
end

--- Goes away without waiting for the answer.
function Talk:give_up() self.socket:close() end

--- Sends a request and reads the answer.
function wire.request(...) return wire.open(...):finish() end

return wire
