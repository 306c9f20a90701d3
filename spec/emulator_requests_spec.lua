--- How true the emulator is to a server: the requests that a ThingsBoard 4.3.1.3 was sent, and what it answered.
-- All go over raw sockets and all at once, for some answers take half a minute. Here a second lasts a twentieth: the
-- async timeout and the timeouts of polls are divided by TIME, and the seconds compared are multiplied by it.
local cjson = require "cjson"
local socket = require "socket"
local emulator = require "spec.support.emulator"

local TIME = 20

local BAD_TOKEN = "NO_SUCH_TOKEN"

-- Requests that the emulator cannot answer as the server did: name and reason.
local exceptions = {}

-- What the device had stored before the requests for attributes were recorded.
local STORED = { '{"ts":1,"values":{"a":1}}', '{"a1":1,"a2":"x","a3":true,"a4":1.5,"a5":{"k":[1,null]},"a6":42.0}' }

local function read_lines(name)
  local requests = {}
  for line in io.lines("spec/data/" .. name) do requests[#requests + 1] = cjson.decode(line) end
  return requests
end

-- The transcript shortens long texts; this writes them out.
local function lengthen(text, whole)
  local start, length = text:match("^(.*)%.%.%.%((%d+)[ bytes]*%)$")
  if not start then
    length = text:match("^%((%d+) bytes%)$")
    if not length then return text end
    start = ""
  end
  length = math.tointeger(tonumber(length))
  if start:find("%[$") then
    local depth = (length - 6) // 2
    return '{"a":' .. ("["):rep(depth) .. ("]"):rep(depth) .. "}"
  end
  local ending = whole and '"}' or ""
  return start .. (start:match("t$") or "x"):rep(length - #start - #ending) .. ending
end

local function latin1(text)
  return (text:gsub("[\xC2-\xF4][\x80-\xBF]*", function(char) return string.char(utf8.codepoint(char)) end))
end

-- Divides the milliseconds of a poll. One of a few milliseconds stays.
local function quicken(target)
  return (target:gsub("timeout=(%d%d%d+)$", function(digits)
    return #digits < 10 and "timeout=" .. math.tointeger(digits) // TIME or nil
  end):gsub("timeout=0x100$", "timeout=0xC"))
end

local function bytes_of(request, token)
  local options = request.options or {}
  local function fill(text) return (text:gsub("{T}", token):gsub("{B}", BAD_TOKEN)) end
  if options.raw then return fill(options.raw) end
  local target = lengthen(quicken(fill(request.target)))
  if #target > 300 then target = target:sub(1, -11) .. "/telemetry" end
  local lines = { ("%s %s HTTP/1.%d"):format(request.method, target, options.http10 and 0 or 1), "Host: 127.0.0.1" }
  for name, value in pairs(request.headers) do lines[#lines + 1] = name .. ": " .. lengthen(value) end
  local body = request.body ~= cjson.null and latin1(lengthen(request.body, true))
  if body and options.chunked then
    lines[#lines + 1] = "Transfer-Encoding: chunked"
    body = ("%x\r\n%s\r\n0\r\n\r\n"):format(#body, body)
  elseif body then
    lines[#lines + 1] = "Content-Length: " .. #body
  end
  return table.concat(lines, "\r\n") .. "\r\n\r\n" .. (body or "")
end

-- An answer that has come, as far as it has: nil while something is missing.
local function parse_answer(bytes, method)
  local interim = {}
  local status, head_end
  local at = 1
  repeat
    status = bytes:match("^HTTP/1%.1 (%d%d%d) \r\n", at)
    head_end = select(2, bytes:find("\r\n\r\n", at, true))
    if not status or not head_end then return nil end
    status = math.tointeger(status)
    if status < 200 then
      interim[#interim + 1] = status
      at = head_end + 1
    end
  until status >= 200
  local headers, vary = {}, 0
  for name, value in bytes:sub(at, head_end):gmatch("\r\n([^:\r\n]+): ([^\r\n]*)") do
    headers[name:lower()] = value
    if name == "Vary" then vary = vary + 1 end
  end
  local body = bytes:sub(head_end + 1)
  if method == "HEAD" then
    body = ""
  elseif headers["transfer-encoding"] == "chunked" then
    local size, start = body:match("^(%x+)\r\n()")
    if not size or not body:find("\r\n0\r\n\r\n$") then return nil end
    body = body:sub(start, start + tonumber(size, 16) - 1)
  elseif #body < tonumber(headers["content-length"]) then
    return nil
  end
  return { status = status, headers = headers, body = body, vary = vary, interim = interim }
end

local Talk = {}
Talk.__index = Talk

local function open_talk(e, request)
  local talk = setmetatable({ request = request, out = bytes_of(request, e.token), sent = 0, received = "" }, Talk)
  talk.socket = assert(socket.connect("127.0.0.1", e.port))
  talk.socket:settimeout(0)
  talk.started = socket.gettime()
  return talk
end

function Talk:send()
  local last, _, partial = self.socket:send(self.out, self.sent + 1)
  self.sent = last or partial or self.sent
  if self.sent == #self.out and self.request.options and self.request.options.half_close then
    self.socket:shutdown("send")
  end
end

function Talk:receive()
  local bytes, why, partial = self.socket:receive(65536)
  self.received = self.received .. (bytes or partial or "")
  self.closed = why == "closed"
  if not self.answer then
    self.answer = parse_answer(self.received, self.request.method)
    if self.answer then self.answer.seconds = socket.gettime() - self.started end
  end
end

local GRACE = 0.3 -- how long a connection that stays open is watched

-- Holds all talks at once; each ends when its connection has, or has stayed open for a while.
local function hold(talks)
  local deadline = socket.gettime() + 20
  local open = { table.unpack(talks) }
  while #open > 0 and socket.gettime() < deadline do
    local readers, writers, by_socket = {}, {}, {}
    for _, talk in ipairs(open) do
      readers[#readers + 1] = talk.socket
      if talk.sent < #talk.out then writers[#writers + 1] = talk.socket end
      by_socket[talk.socket] = talk
    end
    local readable, writable = socket.select(readers, writers, 0.1)
    for _, ready in ipairs(writable) do by_socket[ready]:send() end
    for _, ready in ipairs(readable) do by_socket[ready]:receive() end
    local still = {}
    for _, talk in ipairs(open) do
      local idle = talk.answer and socket.gettime() - talk.started - talk.answer.seconds > GRACE
      if not talk.closed and not idle then still[#still + 1] = talk end
    end
    open = still
  end
  for _, talk in ipairs(talks) do talk.socket:close() end
end

local function comparable(body, token)
  return (body:gsub('"timestamp":%d+', '"timestamp":0'):gsub("body is missing: [^\"]*", "body is missing")
    :gsub(token, "{T}"))
end

local COMPARED = {
  "content-type", "content-length", "content-language", "transfer-encoding", "connection", "allow", "accept",
}

-- @param lag how long the slowest of the answers took that came at once
local function compare(talk, token, lag)
  local wanted, got = talk.request.answer, talk.answer
  assert(got, "no answer: " .. talk.received:sub(1, 200))
  assert.equal(wanted.status, got.status)
  assert.equal(comparable(wanted.body, token), comparable(got.body, token))
  for _, name in ipairs(COMPARED) do
    assert.equal(wanted.headers[name], got.headers[name], name)
  end
  assert.equal(wanted.then_closed, talk.closed or false, "closed")
  assert.same(talk.request.interim or {}, got.interim)
  assert.equal(wanted.security_headers, got.headers["x-frame-options"] == "DENY", "security headers")
  if wanted.security_headers then
    assert.equal("nosniff", got.headers["x-content-type-options"])
    assert.equal("0", got.headers["x-xss-protection"])
    assert.equal("no-cache, no-store, max-age=0, must-revalidate", got.headers["cache-control"])
    assert.equal("no-cache", got.headers.pragma)
    assert.equal("0", got.headers.expires)
    assert.equal(3, got.vary)
  end
  assert.is_nil(got.headers.server)
  -- Nothing is late by more than what was answered at once, but for the step of the checks.
  local seconds = talk.request.seconds
  if seconds >= 0.9 and wanted.status ~= 413 then
    assert.is_true(got.seconds * TIME > seconds - 1.1, "too early: " .. got.seconds * TIME)
    assert.is_true((got.seconds - lag) * TIME < seconds + 2, "too late: " .. got.seconds * TIME)
  end
end

describe("the emulator answers as recorded:", function()
  local e
  local talks, lag = {}, 0
  local requests = read_lines("requests-4.3.1.3.jsonl")

  setup(function()
    e = emulator.start({ async_timeout = 30000 // TIME, async_check = 1000 // TIME, request_timeout = 60000 // TIME })
    for _, body in ipairs(STORED) do
      local storing = open_talk(e, { method = "POST", target = "/api/v1/{T}/attributes", headers = {}, body = body })
      hold({ storing })
    end
    -- Those of many megabytes first, for they would hold up the others, whose seconds count.
    for _, large in ipairs { true, false } do
      local all = {}
      for _, request in ipairs(requests) do
        if (request.name:find("length%-%d+") ~= nil) == large then
          talks[request.name] = open_talk(e, request)
          all[#all + 1] = talks[request.name]
        end
      end
      hold(all)
      for _, talk in ipairs(all) do
        if talk.answer and talk.request.seconds < 0.2 and not large then lag = math.max(lag, talk.answer.seconds) end
      end
    end
  end)

  teardown(function() e:stop() end)

  for _, request in ipairs(requests) do
    if exceptions[request.name] then
      pending(request.name .. ": " .. exceptions[request.name])
    else
      it(request.name, function() compare(talks[request.name], e.token, lag) end)
    end
  end

  it("with at most eight exceptions", function()
    local count = 0
    for _ in pairs(exceptions) do count = count + 1 end
    assert.is_true(count <= 8)
    assert.equal(132, #requests)
  end)
end)
