-- A device script for a host in C: it starts its tasks and returns, and the host does the waiting.
-- Arguments: the server's address and the device's token. It ends when the server sends the request "stop".
local tb = require "thingsboard"

local url, token = ...
local dev = tb.device { url = url, token = token }

local reporter = tb.spawn(function()
  local state <close> = setmetatable({}, { __close = function() print "reporter closed" end })
  for count = 1, math.huge do
    state.count = count
    local sent, err = dev:send_telemetry { count = count }
    if not sent then print(err) end
    tb.sleep(0.2)
  end
end)

tb.spawn(function()
  for request in dev:rpc_requests() do
    assert(request:reply { method = request.method })
    if request.method == "stop" then break end
  end
  reporter:cancel()
  dev:close()
end)
