--- HTTP/2, which the server takes over TLS. No answer closes a connection here.
local cqueues = require "cqueues"
local condition = require "cqueues.condition"
local h2_connection = require "http.h2_connection"
local h2_stream = require "http.h2_stream"
local new_headers = require "http.headers".new
local application = require "spec.emulator.application"
local faults = require "spec.emulator.faults"

local http2 = {}

local STREAMS = 100
local BODY_TIMEOUT = 60

local security = {
  { "vary", "Origin" }, { "vary", "Access-Control-Request-Method" }, { "vary", "Access-Control-Request-Headers" },
  { "x-content-type-options", "nosniff" }, { "x-xss-protection", "0" },
  { "cache-control", "no-cache, no-store, max-age=0, must-revalidate" }, { "pragma", "no-cache" }, { "expires", "0" },
  { "x-frame-options", "DENY" },
}

-- What is under way when a stream ends is no error: lua-http would end the connection for it.
local DATA = 0
local on_data = h2_stream.frame_handlers[DATA]
h2_stream.frame_handlers[DATA] = function(stream, ...)
  if stream.state == "closed" then return true end
  return on_data(stream, ...)
end

local Body = {}
Body.__index = Body

function Body:read()
  if self.bytes then return self.bytes end
  self.bytes = self.stream:get_body_as_string(BODY_TIMEOUT)
  if not self.bytes then return nil, "EOFException: " end
  self.entry.body = self.bytes
  return self.bytes
end

local function new_exchange(stream, entry)
  local received = stream:get_headers(BODY_TIMEOUT)
  if not received then return nil end
  local headers = {}
  for name, value in received:each() do
    if name:sub(1, 1) ~= ":" then headers[name] = headers[name] and headers[name] .. ", " .. value or value end
  end
  entry.method, entry.target, entry.headers = received:get(":method"), received:get(":path"), headers
  return {
    method = entry.method, raw_target = entry.target, headers = headers,
    length = math.tointeger(tonumber(headers["content-length"])),
    body = setmetatable({ stream = stream, entry = entry }, Body),
    continue = function()
      if headers.expect and headers.expect:lower() == "100-continue" then stream:write_continue(BODY_TIMEOUT) end
    end,
  }
end

local function give(world, stream, exchange, answer)
  local headers = new_headers()
  headers:append(":status", tostring(answer.status))
  if not answer.plain then
    for _, header in ipairs(security) do headers:append(header[1], header[2]) end
  end
  for _, header in ipairs(answer.headers) do headers:append(header[1]:lower(), header[2]) end
  if not answer.chunked then headers:append("content-length", tostring(#answer.body)) end
  headers:append("date", world:date())
  local body = exchange.method == "HEAD" and "" or answer.body
  if stream:write_headers(headers, body == "", BODY_TIMEOUT) and body ~= "" then
    stream:write_chunk(body, true, BODY_TIMEOUT)
  end
end

-- Of the faults only those can be had here that stand for an answer or wait before it; others end the stream.
local function answer_of(world, exchange, entry)
  local fault = world.faults:take(exchange.method, exchange.raw_target, exchange.body, entry.connection)
  if not fault then return application.answer(world, exchange) end
  entry.fault = fault.name or fault.how
  exchange.body:read() -- what came for a stream that has ended would end the connection
  if fault.how == "delay" then
    cqueues.sleep(fault.seconds or 1)
    return application.answer(world, exchange)
  end
  exchange.body:read()
  if fault.handled then application.answer(world, exchange) end
  if fault.how == "stall" then cqueues.sleep(fault.seconds or math.huge) end
  if fault.how == "status" or fault.how == "redirect" then return faults.instead[fault.how](nil, fault) end
end

local function serve_stream(world, id, stream, state)
  local entry = world.journal:arrived({ connection = id })
  local exchange = new_exchange(stream, entry)
  local answer = exchange and answer_of(world, exchange, entry)
  local gone = state.ended or stream.state == "closed" -- the client has reset the stream, or ended the connection
  if gone then entry.given_up = true end
  if answer and not answer.never and not answer.cut and not gone then
    world.journal:answered(entry, answer)
    give(world, stream, exchange, answer)
  end
  world.journal:ended(entry)
  if not state.ended then stream:shutdown() end
end

-- Ends a connection on which no stream has been open for a while.
local function end_when_idle(connection, state, seconds)
  while not state.ended do
    local left = state.open > 0 and seconds or state.idle_since + seconds - cqueues.monotime()
    if left <= 0 then
      connection:shutdown() -- GOAWAY
      connection.socket:shutdown("rw")
      return
    end
    state.changed:wait(left)
  end
end

--- Serves a connection to its end.
function http2.serve(world, socket)
  local connection = h2_connection.new(socket, "server", { MAX_CONCURRENT_STREAMS = STREAMS })
  if not connection then return end
  local id = world.journal:next_connection()
  local state = { open = 0, idle_since = cqueues.monotime(), changed = condition.new() }
  local queue = cqueues.running()
  queue:wrap(end_when_idle, connection, state, world.settings.http2_idle_timeout / 1000)
  for stream in function() return connection:get_next_incoming_stream() end do
    state.open = state.open + 1
    queue:wrap(function()
      serve_stream(world, id, stream, state)
      state.open = state.open - 1
      state.idle_since = cqueues.monotime()
      state.changed:signal()
    end)
  end
  state.ended = true
  state.changed:signal()
  connection:shutdown()
  connection:close()
end

return http2
