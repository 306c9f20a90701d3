-- Runs the thermostat, from provisioning to a firmware update, against the emulator of the specs. The thermostat is a
-- process of its own, and this script plays the user of the server.
local emulator = require "spec.support.emulator"

local lua = arg[-1]
local directory = io.popen("mktemp -d"):read "l"
local server <close> = emulator.start()

local function say(who, ...) print(("%-6s | %s"):format(who, (...))) end

server:provision_profile { key = "demo-key", secret = "demo-secret", strategy = "CHECK_PRE_PROVISIONED" }
local token = server:create_device { name = "thermostat-1" }
server:set_shared(token, '{"setpoint":19.5}')
server:on_client_rpc "echo"
say("server", "runs at " .. server.url)

local function ask(method)
  say("user", "asks the device: " .. method)
  return server:rpc(token, { method = method, params = "{}" })
end

local function stored()
  local count = 0
  for _, list in pairs(server:series(token)) do count = count + #list end
  return count
end

-- What the user does when the device has said something, in this order.
local asked
local script = {
  { "degrees, heating", function()
    say("user", "sets the setpoint to 22.5 degrees")
    server:set_shared(token, '{"setpoint":22.5}')
  end },
  { "the setpoint is 22.5", function() asked = ask "getStatus" end },
  { "degrees, heating", function()
    say("user", "is told " .. server:rpc_result(asked, 10).body)
    say("user", "assigns firmware 2.0")
    server:assign(token, "firmware", { title = "thermostat", version = "2.0", size = 50000 })
  end },
  { "whole and verified", function() asked = ask "shutdown" end },
  { "is shut down", function() say("user", "is told " .. server:rpc_result(asked, 10).body) end },
}

local device = assert(io.popen(("%s examples/thermostat.lua %s demo-key demo-secret thermostat-1 %s 2>&1"):format(
  lua, server.url, directory)))
local at = 1
for line in device:lines() do
  say("device", line)
  local next_step = script[at]
  if next_step and line:find(next_step[1], 1, true) then
    at = at + 1
    next_step[2]()
  end
end
device:close()
os.execute("rm -r " .. directory)

say("server", ("has %d values of telemetry"):format(stored()))
if at <= #script then
  print("the demo has failed: it waited for '" .. script[at][1] .. "'")
  os.exit(false, true)
end
print "all done: provisioning, telemetry, attributes, updates, both kinds of RPC, firmware"
