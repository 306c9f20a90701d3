--- Broken answers, ordered through the control interface.
-- Some stand in place of an answer, so that the request is never handled; others spoil the true one.
local cqueues = require "cqueues"
local socket = require "socket"

local faults = {}

local Faults = {}
Faults.__index = Faults

--- Makes an empty list of faults.
function faults.new() return setmetatable({ list = {} }, Faults) end

--- Orders a fault.
-- @param fault `how`; `path` (a Lua pattern for the target), `method`, `request_body` (a text in it), `connection` (its
-- number), `count`, `rate` (requests a second that pass) and `burst` (so many more at once), `share` (of the requests,
-- which `seed` draws) say which answers it breaks; `name` for whoever wants to remove it, or to replace it
function Faults:add(fault)
  if not faults.instead[fault.how] and not faults.spoil[fault.how] and fault.how ~= "delay" then
    error("no such fault: " .. tostring(fault.how), 0)
  end
  for name, value in pairs(fault) do fault[name] = math.type(value) and math.tointeger(value) or value end
  if fault.name then self:remove(fault.name) end
  self.list[#self.list + 1] = fault
end

--- Forgets all faults.
function Faults:clear() self.list = {} end

--- Forgets the fault of a name, if there is one.
function Faults:remove(name)
  for index, fault in ipairs(self.list) do
    if fault.name == name then return table.remove(self.list, index) end
  end
end

local function has(body, text)
  local bytes = body:read()
  return bytes ~= nil and bytes:find(text, 1, true) ~= nil
end

-- Whether a request passes a fault that is a rate limit, as nginx's `limit_req` does: a bucket that leaks evenly.
local function is_within(fault)
  if not fault.rate then return false end
  local now = cqueues.monotime()
  local excess = math.max(0, (fault.excess or 0) - (now - (fault.passed_at or now)) * fault.rate)
  if excess > (fault.burst or 0) then return false end
  fault.excess, fault.passed_at = excess + 1, now
  return true
end

-- Whether a request is not among those that a fault with a share breaks.
local function is_spared(fault)
  if not fault.share then return false end
  fault.seed = ((fault.seed or 1) * 6364136223846793005 + 1442695040888963407)
  return (fault.seed >> 33) / (1 << 31) >= fault.share
end

--- The fault for a request, or nil; it is counted.
function Faults:take(method, target, body, connection)
  for index, fault in ipairs(self.list) do
    if (not fault.method or fault.method == method) and (not fault.path or target:find(fault.path))
      and (not fault.connection or fault.connection == connection)
      and (not fault.request_body or has(body, fault.request_body)) and not is_within(fault)
      and not is_spared(fault) then
      if fault.count then
        fault.count = fault.count - 1
        if fault.count <= 0 then table.remove(self.list, index) end
      end
      return fault
    end
  end
end

local HELLO = '{"hello":"w"}'
-- The second header marks a package, and means nothing elsewhere.
local HEAD = "HTTP/1.1 200 \r\nContent-Type: application/json\r\nContent-Disposition: attachment\r\n"

local function pour(wire, bytes, limit)
  local poured = 0
  while poured < limit and wire:write(bytes) do poured = poured + #bytes end
end

local function stay_silent(wire, fault)
  wire:wait_for_end(fault.seconds)
end

-- With nothing to linger for, closing sends a reset.
local function reset(wire)
  wire.aborted = true
  local file = socket.tcp()
  file:close()
  file:setfd(wire:pollfd())
  file:setoption("linger", { on = true, timeout = 0 })
  file:setfd(-1)
end

-- A deflate stream of zeros: after the first byte come copies of 258 bytes, thirteen bits each, so that
-- thirteen bytes of it stand for eight copies and repeat.
local function gzip_of_zeros(size)
  local copies = size // 258 // 8 * 8 + 16
  local bits = { "110" .. "00110000" }
  for _ = 1, 16 do bits[#bits + 1] = "11000101" .. "00000" end
  local start = table.concat(bits):sub(1, 16 + 104)
  local packed = start:gsub("%d%d%d%d%d%d%d%d", function(byte) return string.char(tonumber(byte:reverse(), 2)) end)
  local body = packed:sub(1, 2) .. packed:sub(3):rep(copies // 8)
  return "\x1F\x8B\x08\0\0\0\0\0\0\xFF" .. body
end

-- An error in the words of the monolith: where a fault gives no body of its own.
local function server_error(fault)
  local status = fault.status or 500
  local body = ""
  if status ~= 401 and status ~= 408 and status ~= 500 then
    body = ('{"message":null,"errorCode":2,"status":%d,"timestamp":1750000000000}'):format(status)
  end
  return { status = status, headers = {}, body = body, close = fault.close }
end

--- Faults in place of an answer. Each gets the wire (`write`, `pollfd`, `wait_for_end`) and the fault; after it the
-- connection is closed, unless it returns an answer to give.
faults.instead = {
  close = function() end,
  reset = reset,
  stall = stay_silent,
  status = function(_, fault)
    if fault.seconds then cqueues.sleep(fault.seconds) end
    if not fault.body and not fault.headers and (fault.status or 500) >= 400 then return server_error(fault) end
    local headers = {}
    for name, value in pairs(fault.headers or {}) do headers[#headers + 1] = { name, value } end
    return { status = fault.status or 500, headers = headers, body = fault.body or "", close = fault.close }
  end,
  redirect = function(_, fault)
    local location = fault.headers and fault.headers.Location or "/api/v1/elsewhere"
    return { status = fault.status or 302, headers = { { "Location", location } }, body = fault.body or "" }
  end,
  raw = function(wire, fault)
    wire:write(fault.raw or "")
    if fault.reset then reset(wire) end
  end,
  garbage = function(wire, fault)
    local bytes = {}
    for index = 1, fault.bytes or 512 do bytes[index] = string.char(math.random(0, 255)) end
    wire:write(table.concat(bytes))
  end,
  huge_headers = function(wire, fault)
    local filler = ("x"):rep(fault.bytes or 1048576)
    wire:write(HEAD .. "X-Huge: " .. filler .. "\r\nContent-Length: " .. #HELLO .. "\r\n\r\n" .. HELLO)
  end,
  endless_headers = function(wire, fault)
    wire:write(HEAD)
    pour(wire, ("X-Endless: and so it goes on\r\n"):rep(100), fault.bytes or math.huge)
  end,
  endless_body = function(wire, fault)
    wire:write(HEAD .. "Connection: close\r\n\r\n")
    pour(wire, ("x"):rep(65536), fault.bytes or math.huge)
  end,
  endless_chunked = function(wire, fault)
    wire:write(HEAD .. "Transfer-Encoding: chunked\r\n\r\n")
    pour(wire, "10000\r\n" .. ("x"):rep(65536) .. "\r\n", fault.bytes or math.huge)
  end,
  gzip_bomb = function(wire, fault)
    local body = gzip_of_zeros(fault.bytes or 1073741824)
    wire:write(HEAD .. "Content-Encoding: gzip\r\nContent-Length: " .. #body .. "\r\n\r\n" .. body)
  end,
}

local function split_head(bytes)
  local stop = select(2, bytes:find("\r\n\r\n", 1, true))
  return bytes:sub(1, stop - 2), bytes:sub(stop + 1)
end

local function change_length(bytes, change)
  local head, body = split_head(bytes)
  return change(head, #body) .. "\r\n" .. body
end

--- Faults that spoil a true answer: each gets the wire, the fault and the answer's bytes; then the connection closes.
faults.spoil = {
  close_after = function(wire, fault, bytes) wire:write(bytes:sub(1, fault.bytes or 1)) end,
  reset_after = function(wire, fault, bytes)
    wire:write(bytes:sub(1, fault.bytes or 1))
    reset(wire)
  end,
  stall_after = function(wire, fault, bytes)
    wire:write(bytes:sub(1, fault.bytes or 1))
    stay_silent(wire, fault)
  end,
  slow = function(wire, fault, bytes)
    local step = fault.bytes or 1
    for at = 1, #bytes, step do
      if not wire:write(bytes:sub(at, at + step - 1)) then return end
      cqueues.sleep(fault.seconds or 0.05)
    end
  end,
  wrong_length = function(wire, fault, bytes)
    wire:write(change_length(bytes, function(head, length)
      local told = math.max(0, length + (fault.bytes or 10))
      return head:gsub("Content%-Length: %d+\r\n", "") .. "Content-Length: " .. told .. "\r\n"
    end))
  end,
  two_lengths = function(wire, fault, bytes)
    wire:write(change_length(bytes, function(head, length)
      return head .. "Content-Length: " .. length + (fault.bytes or 10) .. "\r\n"
    end))
  end,
  no_length = function(wire, _, bytes)
    wire:write(change_length(bytes, function(head) return (head:gsub("Content%-Length: %d+\r\n", "")) end))
  end,
}

--- Whether the request is handled before its answer is broken.
function faults.handles_first(fault)
  return fault.handled or faults.spoil[fault.how] ~= nil or fault.how == "delay"
end

return faults
