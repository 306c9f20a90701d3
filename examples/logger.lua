-- A logger: posts the system's load every ten seconds.
-- Usage: lua5.4 logger.lua URL TOKEN [TIMES]
local tb = require "thingsboard"
local dev = tb.device { url = assert(arg[1], "usage: logger.lua URL TOKEN [TIMES]"), token = arg[2] }

for n = 1, tonumber(arg[3]) or math.huge do
  if n > 1 then tb.sleep(10) end
  local load = io.open("/proc/loadavg"):read "n"
  local ok, err = dev:send_telemetry { load = load + 0.0 }
  if not ok then print(err) end -- the next one may succeed
end
