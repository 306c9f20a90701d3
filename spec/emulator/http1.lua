--- HTTP/1.1 as Tomcat speaks it, byte by byte: requests off a socket, answers onto it.
local cqueues = require "cqueues"
local errno = require "cqueues.errno"
local application = require "spec.emulator.application"
local errors = require "spec.emulator.errors"
local faults = require "spec.emulator.faults"

local http1 = {}

local CLOSING = {
  [400] = true, [408] = true, [411] = true, [413] = true, [414] = true, [500] = true, [501] = true, [503] = true,
}
local SWALLOWED = 2097152 -- so much of an unread body is read to keep a connection
local UPLOAD_TIMEOUT = 60
local MOST_HEADERS = 100

local SECURITY = "Vary: Origin\r\nVary: Access-Control-Request-Method\r\nVary: Access-Control-Request-Headers\r\n"
  .. "X-Content-Type-Options: nosniff\r\nX-XSS-Protection: 0\r\n"
  .. "Cache-Control: no-cache, no-store, max-age=0, must-revalidate\r\nPragma: no-cache\r\nExpires: 0\r\n"
  .. "X-Frame-Options: DENY\r\n"

local TOKEN = "^[%w!#$%%&'*+.^_`|~-]+$"

-- Reads the lines of a head. Returns them; or nil and "gone", "large" or "bad".
local function read_lines(connection)
  local limit = connection.world.settings.header_limit
  local lines, size = {}, 0
  local timeout = connection.world.settings.idle_timeout / 1000
  while true do
    local line = connection.socket:xread("*L", timeout)
    if not line then return nil, "gone" end
    size = size + #line
    if size > limit then return nil, "large" end
    if line:sub(-1) ~= "\n" then return nil, "gone" end
    line = line:match("^(.-)\r?\n$")
    if line ~= "" then
      lines[#lines + 1] = line
    elseif lines[1] then
      return lines
    end
    -- HTTP/0.9 has nothing but this line.
    if #lines == 1 and line:find("^[A-Z]+ +/%S*$") then return lines end
  end
end

local function parse_headers(lines)
  if #lines > MOST_HEADERS + 1 then return nil end
  local headers, counts = {}, {}
  local last
  for index = 2, #lines do
    local line = lines[index]
    if line:find("^[ \t]") then
      if not last then return nil end
      headers[last] = headers[last] .. " " .. line:match("^[ \t]*(.-)[ \t]*$")
    else
      local name, value = line:match("^([^:]*):[ \t]*(.-)[ \t]*$")
      if not name or not name:find(TOKEN) or value:find("[\0-\8\10-\31\127]") then return nil end
      last = name:lower()
      counts[last] = (counts[last] or 0) + 1
      headers[last] = headers[last] and headers[last] .. ", " .. value or value
    end
  end
  return headers, counts
end

local function has_token(header, token)
  return header ~= nil and ("," .. header:lower():gsub("[ \t]", "") .. ","):find("," .. token .. ",", 1, true) ~= nil
end

-- Whether a Host header names a host, perhaps with a port. Underscores pass, though no name of a host has any.
local function is_host(value)
  return value:find("^[%w._-]*$") or value:find("^[%w._-]*:%d*$") or value:find("^%[[%x:.]+%]$")
    or value:find("^%[[%x:.]+%]:%d*$")
end

-- The checks of a head before anything is done with it. Returns a status that refuses it, or nil.
local function check_head(exchange, counts)
  local headers = exchange.headers
  if exchange.version == "1.1" and counts.host ~= 1 then return 400 end
  if (counts.host or 0) > 1 or headers.host and not is_host(headers.host) then return 400 end
  local named = exchange.raw_target:match("^%a[%w+.-]*://([^/?#]*)")
  if named and headers.host and named ~= headers.host then return 400 end
  local coding = headers["transfer-encoding"]
  if coding then
    if coding:lower():match("^%s*(.-)%s*$") ~= "chunked" then return 501 end
    exchange.chunked = true
  end
  local length = headers["content-length"]
  if length then
    local value = length:find("^%d+$") and math.tointeger(length) -- nil beyond 64 bits, too
    if not value then return 400 end
    if exchange.chunked then exchange.close = true else exchange.length = value end
  end
  if headers.expect and exchange.version == "1.1" then
    if headers.expect:lower() ~= "100-continue" then return 417 end
    exchange.expects = true
  end
end

local Body = {}
Body.__index = Body

local BAD_CHUNK = "BadRequestException: Invalid chunk header"
local CUT_SHORT = "EOFException: "

function Body:chunks()
  local socket, parts = self.socket, {}
  while true do
    local line = socket:xread("*L", UPLOAD_TIMEOUT)
    if not line then return nil, CUT_SHORT end
    local digits = line:match("^(%x+)[ \t]*[;\r\n]")
    if not digits or #digits > 8 then return nil, BAD_CHUNK end
    local size = tonumber(digits, 16)
    if size == 0 then break end
    local chunk = socket:xread(size, UPLOAD_TIMEOUT)
    if not chunk or #chunk < size then return nil, CUT_SHORT end
    parts[#parts + 1] = chunk
    local ending = socket:xread("*L", UPLOAD_TIMEOUT)
    if not ending then return nil, CUT_SHORT end
    if not ending:find("^\r?\n$") then return nil, BAD_CHUNK end
  end
  repeat -- the trailer
    local line = socket:xread("*L", UPLOAD_TIMEOUT)
    if not line then return nil, CUT_SHORT end
  until line:find("^\r?\n$")
  return table.concat(parts)
end

--- Reads the whole body; nil and a message if it does not come whole.
function Body:read()
  if self.bytes or self.failed then return self.bytes, self.failed end
  if self.chunked then
    self.bytes, self.failed = self:chunks()
  else
    self.bytes = self.length > 0 and self.socket:xread(self.length, UPLOAD_TIMEOUT) or self.length == 0 and "" or nil
    if not self.bytes or #self.bytes < self.length then self.bytes, self.failed = nil, CUT_SHORT end
  end
  if self.bytes then self.entry.body = self.bytes end
  return self.bytes, self.failed
end

--- Whether nothing of it is left on the wire.
function Body:finished()
  return self.bytes ~= nil or not self.chunked and self.length == 0
end

-- Notices that the client goes away while its request waits.
local function new_watch(connection, entry)
  local watch = { pollable = { pollfd = connection.socket:pollfd(), events = "r" } }
  function watch:listening() -- luacheck: no self
    local ready, why = connection.socket:fill(1, 0)
    if ready then return false end -- the next request is here already: the end cannot be seen behind it
    if why == errno.ETIMEDOUT then
      connection.socket:clearerr()
      return true
    end
    entry.given_up = true
    return false
  end
  return watch
end

local Exchange = {}
Exchange.__index = Exchange

--- Asks for the body if the client waits for that.
function Exchange:continue()
  if self.expects and self.connection:write("HTTP/1.1 100 \r\n\r\n") then self.continued = true end
end

local Connection = {}
Connection.__index = Connection

--- Writes bytes; nil when the client has gone.
function Connection:write(bytes)
  return (self.socket:xwrite(bytes, "bn", UPLOAD_TIMEOUT))
end

--- The descriptor of the connection.
function Connection:pollfd() return self.socket:pollfd() end

--- Waits until the client has closed or the time is over.
function Connection:wait_for_end(seconds)
  local deadline = cqueues.monotime() + (seconds or math.huge)
  while cqueues.monotime() < deadline do
    local left = deadline - cqueues.monotime()
    local bytes, why = self.socket:xread(-65536, left < math.huge and left or nil)
    if not bytes and why ~= errno.ETIMEDOUT then
      self.entry.given_up = true
      return
    end
  end
end

-- Whether the connection lives on after this answer, and the headers that say so.
local function persistence(connection, exchange, answer)
  local asked = exchange.headers.connection
  local keep = not (answer.close or exchange.close or CLOSING[answer.status] or has_token(asked, "close"))
  if exchange.version ~= "1.1" and not has_token(asked, "keep-alive") then keep = false end
  if connection.served >= connection.world.settings.keep_alive_requests then keep = false end
  if exchange.expects and answer.status >= 300 and not exchange.body:finished() then keep = false end
  if answer.chunked and exchange.version ~= "1.1" then keep = false end
  if not keep then return false, "Connection: close\r\n" end
  if has_token(asked, "keep-alive") then
    return true, ("Keep-Alive: timeout=%d\r\nConnection: keep-alive\r\n"):format(
      connection.world.settings.idle_timeout // 1000)
  end
  return true, ""
end

-- The bytes of an answer, and whether the connection lives on.
local function render(connection, exchange, answer)
  local keep, connection_headers = persistence(connection, exchange, answer)
  local head = { ("HTTP/1.1 %d \r\n"):format(answer.status) }
  if not answer.plain then head[2] = SECURITY end
  for _, header in ipairs(answer.headers) do head[#head + 1] = header[1] .. ": " .. header[2] .. "\r\n" end
  local body = answer.body
  if not answer.chunked then
    head[#head + 1] = "Content-Length: " .. #body .. "\r\n"
  elseif exchange.version == "1.1" then
    head[#head + 1] = "Transfer-Encoding: chunked\r\n"
    body = ("%x\r\n%s\r\n0\r\n\r\n"):format(#body, body)
  end
  head[#head + 1] = "Date: " .. connection.world:date() .. "\r\n"
  head[#head + 1] = connection_headers
  head[#head + 1] = "\r\n"
  if exchange.version == "0.9" then return answer.body, false end
  if exchange.method == "HEAD" then body = "" end
  head[#head + 1] = body
  return table.concat(head), keep
end

-- Gives the answer, or what a fault makes of it. Returns whether the connection lives on.
local function give(connection, exchange, answer, fault)
  if answer.cut then return false end
  if answer.never then
    connection:wait_for_end()
    return false
  end
  connection.world.journal:answered(connection.entry, answer)
  local bytes, keep = render(connection, exchange, answer)
  if fault and faults.spoil[fault.how] then
    faults.spoil[fault.how](connection, fault, bytes)
    if fault.stay then connection:wait_for_end() end
    return false
  end
  if not connection:write(bytes) then
    connection.entry.given_up = true
    return false
  end
  if not keep then return false end
  local body = exchange.body
  if body:finished() then return true end
  if body.length > SWALLOWED then return false end
  return body:read() ~= nil
end

local function handle(connection, exchange)
  local world = connection.world
  if connection.for_page then return give(connection, exchange, world.page:answer(connection, exchange)) end
  local fault = world.faults:take(exchange.method, exchange.raw_target, exchange.body, exchange.connection.id)
  if not fault then return give(connection, exchange, application.answer(world, exchange)) end
  connection.entry.fault = fault.name or fault.how
  if fault.how == "delay" then cqueues.sleep(fault.seconds or 1) end
  local answer
  if faults.handles_first(fault) then answer = application.answer(world, exchange) end
  local instead = faults.instead[fault.how]
  if instead then
    exchange.body:read()
    answer = instead(connection, fault)
    if fault.stay then connection:wait_for_end() end
  end
  return answer and give(connection, exchange, answer, fault) or false
end

-- Answers what cannot be taken for a request.
local function refuse(connection, status)
  local body = { finished = function() return true end }
  return give(connection, { version = "1.1", headers = {}, body = body }, errors.page(status))
end

local function new_exchange(connection, lines)
  local method, raw_target, version = lines[1]:match("^(%S+)[ \t]+(%S+)[ \t]+HTTP/(%d%.%d)$")
  if not method then
    method, raw_target = lines[1]:match("^([A-Z]+) +(%S+)$")
    version = "0.9"
  end
  if not method or not method:find(TOKEN) then return nil, 400 end
  local headers, counts = parse_headers(lines)
  if not headers then return nil, 400 end
  local entry = connection.entry
  entry.method, entry.target, entry.headers = method, raw_target, headers
  local exchange = setmetatable({
    connection = connection, method = method, raw_target = raw_target, version = version, headers = headers,
    watch = new_watch(connection, entry),
  }, Exchange)
  local refused = version > "1.1" and 505 or check_head(exchange, counts)
  exchange.body = setmetatable({
    socket = connection.socket, entry = entry, chunked = exchange.chunked, length = exchange.length or 0,
  }, Body)
  if refused then return nil, refused end
  return exchange
end

-- Serves one request; returns whether there may be another.
local function serve_one(connection)
  local lines, why = read_lines(connection)
  if why == "gone" then return false end
  connection.served = connection.served + 1
  local world = connection.world
  -- No fault breaks the page's own requests, and the journal does not have them.
  connection.for_page = lines and world.page and world.page:owns(lines[1])
  local entry = { connection = connection.id }
  connection.entry = entry
  if not connection.for_page then world.journal:arrived(entry) end
  local keep
  if not lines then
    keep = refuse(connection, 400)
  else
    local exchange, status = new_exchange(connection, lines)
    if exchange then
      keep = handle(connection, exchange)
      connection.unread = not exchange.body:finished()
    else
      keep = refuse(connection, status)
    end
  end
  connection.unread = connection.unread or not lines
  if not connection.for_page then world.journal:ended(entry) end
  return keep
end

-- Closes so that the client can still read what was sent to it: what it sends is read away for a while.
local function close(connection)
  local socket = connection.socket
  if not connection.aborted then socket:shutdown("w") end
  if connection.unread then
    local deadline = cqueues.monotime() + 5
    repeat
      local bytes = socket:xread(-65536, deadline - cqueues.monotime())
    until not bytes or cqueues.monotime() > deadline
  end
  socket:close()
end

--- Serves a connection to its end.
function http1.serve(world, socket)
  socket:setmode("b", "bn")
  socket:setmaxline(world.settings.header_limit + 1)
  socket:onerror(function(_, _, why) return why end)
  local connection = setmetatable({ world = world, socket = socket, served = 0, id = world.journal:next_connection() },
    Connection)
  while serve_one(connection) do end
  close(connection)
end

return http1
