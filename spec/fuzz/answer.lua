-- Whatever a server answers, every call ends, with a value or with an error that says which, and no secret in it.
-- The first byte is the call, the second how the server behaves; the rest are its answers, in order, a line of `---`
-- between two. Nothing is mocked: they come over a socket.
local core = require "thingsboard.core"
local errors = require "thingsboard.error"
local loop = require "thingsboard.loop"
local socket = require "socket"
local tb = require "thingsboard"

local SECRET = "S3CRET-t0ken"
local MOST, MOST_TURNS, IDLE_TURNS = 1000, 300, 6
local TITLE = { title = "fw", version = "2" }

local listener = assert(socket.bind("127.0.0.1", 0))
listener:settimeout(0)
local _, port = listener:getsockname()
local url = ("http://127.0.0.1:%d"):format(math.tointeger(tonumber(port)))
local directory = io.popen("mktemp -d -p /dev/shm"):read "l"
setmetatable(TITLE, { __gc = function() os.execute("rm -r " .. directory) end })

local kinds = {}
for kind in ("value http answer timeout network tls closed memory file package not_found refused"):gmatch "%S+" do
  kinds[kind] = true
end

local function check_message(message)
  assert(type(message) == "string" and utf8.len(message), "a message that is not UTF-8")
  if message:find "%c" then error("a message with a control character: " .. message) end
  if message:find(SECRET, 1, true) then error("a secret in " .. message) end
  if #message > 1000 then error("a long message: " .. message) end
end

local function check_error(err)
  assert(errors.is(err), "no error: " .. tostring(err))
  assert(kinds[err.kind], err.kind)
  assert(type(err.retryable) == "boolean")
  check_message(tostring(err))
end

local function package(more)
  for name, value in next, TITLE do more[name] = value end
  return more
end

-- What a finished exchange tells.
local function check_exchange(exchange, most)
  local status, body, text = exchange:result()
  if status then
    assert(math.type(status) == "integer" and #body <= most, "a body above its cap")
  else
    assert(type(body) == "string")
    if text:find(SECRET, 1, true) then error("a secret in " .. text) end
  end
  local received = exchange:received()
  assert(received >= 0 and received <= most, "more than the cap was taken in")
end

local function one_exchange(_, method, body, file, limit)
  local on = loop.default()
  local client = core.client(on.reactor, { prefix = url .. "/" .. SECRET, SECRET }, MOST)
  for _ = 1, 2 do
    local checksum = file and core.checksum "MURMUR3_128"
    local sink <close> = file and assert(core.file(directory .. "/sink"))
    local exchange <close> = client:start(method, "/x", body, 2000,
      { file = sink, checksum = checksum, limit = limit })
    on:wait(exchange, core.monotonic() + 2)
    assert(exchange:done(), "an exchange that does not end")
    check_exchange(exchange, math.max(MOST, limit or 1 << 40))
  end
  client:close()
  return true
end

local calls = {
  function(dev) return dev:send_telemetry { a = 1 } end,
  function(dev) return dev:send_attributes { a = 1 } end,
  function(dev) return dev:request_attributes { client = { "a" }, shared = { "b" } } end,
  function(dev) return dev:send_rpc("m") end,
  function(dev) return dev:claim() end,
  function(dev) return dev:firmware(package { size = 5, checksum = "3610a686", checksum_algorithm = "CRC32" }) end,
  function(dev) return dev:firmware(package { path = directory .. "/package" }) end,
  function(dev) return dev:software(package { size = 5, chunk_size = 2 }) end,
  function()
    return tb.provision { url = url, key = SECRET, secret = SECRET, timeout = 2, max_response = MOST }
  end,
  function(dev)
    local requests <close> = dev:rpc_requests()
    local request, err = requests()
    if request then
      assert(math.type(request.id) == "integer" and type(request.method) == "string")
      return request:reply(request.params)
    end
    return request, err
  end,
  function(dev)
    local updates <close> = dev:attribute_updates()
    for _ = 1, 2 do
      local values, deleted = updates()
      if not values then return nil, deleted end
      assert(type(values) == "table" and type(deleted) == "table")
    end
    return true
  end,
  function(dev)
    return dev:updates {
      kind = "firmware", current = { title = "fw", version = "1" }, directory = directory, chunk_size = 2,
      apply = function() return true end,
    }
  end,
  function(dev) return one_exchange(dev, "GET") end,
  function(dev) return one_exchange(dev, "POST", "{}") end,
  function(dev) return one_exchange(dev, "GET", nil, true) end,
  function(dev) return one_exchange(dev, "GET", nil, true, 7) end,
}

local function split(text)
  local list, from = {}, 1
  while true do
    local at, last = text:find("\n---\n", from, true)
    list[#list + 1] = text:sub(from, (at or 0) - 1)
    if not at then return list end
    from = last + 1
  end
end

-- The server's side of one connection, at every turn of the loop.
local function serve(connection, answers, how)
  local _, _, got = connection.socket:receive(8192)
  if got and got ~= "" then
    connection.heard = connection.heard .. got
    connection.idle = 0
  end
  if connection.heard:find("\r\n\r\n", 1, true) and answers[1] then
    connection.heard = ""
    connection.rest = table.remove(answers, 1)
  elseif connection.rest then
    local bytes = how.slow and 40 or #connection.rest
    connection.socket:send(connection.rest:sub(1, bytes))
    connection.rest = #connection.rest > bytes and connection.rest:sub(bytes + 1) or nil
  else
    connection.idle = connection.idle + 1
    if connection.idle == (how.keeps and IDLE_TURNS or 1) and not how.resets then connection.socket:shutdown "send" end
    if connection.idle == IDLE_TURNS and how.resets then connection.socket:close() end
  end
end

-- Ends whatever is still under way when the answers are used up.
local function run_server(answers, how, state)
  local connections = {}
  for turn = 1, MOST_TURNS do
    local accepted = listener:accept()
    if accepted then
      accepted:settimeout(0)
      accepted:setoption("linger", { on = true, timeout = 0 }) -- no TIME_WAIT: there are many of these
      connections[#connections + 1] = { socket = accepted, heard = "", idle = 0 }
    end
    local busy = turn < IDLE_TURNS * 5
    for _, connection in ipairs(connections) do
      serve(connection, answers, how)
      busy = busy or connection.idle < IDLE_TURNS * 5
    end
    if state.done or not busy then break end
    tb.sleep(0)
  end
  if not state.done and state.device then state.device:close() end
  while not state.done do
    local accepted = listener:accept()
    if accepted then accepted:close() end
    tb.sleep(0)
  end
  for _, connection in ipairs(connections) do connection.socket:close() end
end

return function(text)
  local call = calls[(text:byte(1) or 0) % #calls + 1]
  local flags = text:byte(2) or 0
  local how = { slow = flags & 1 ~= 0, keeps = flags & 2 ~= 0, resets = flags & 4 ~= 0 }
  os.remove(directory .. "/firmware.state")
  local device <close> = tb.device { url = url, token = SECRET, timeout = 2, max_response = MOST }
  local state = { device = device }
  local server = tb.spawn(run_server, split(text:sub(3)), how, state)
  local task = tb.spawn(function()
    local value, err = call(device)
    if not value then
      if err == nil then return end -- closed
      check_error(err)
    end
  end)
  local began = core.monotonic()
  local well, reason = task:join()
  state.done = true
  server:join()
  loop.default():close()
  if not well then error(reason) end
  if core.monotonic() - began > 5 then error "it took long" end
end
