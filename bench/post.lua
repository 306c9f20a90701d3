--- `lua post.lua URL COUNT [TASKS]`: telemetry through this module, in a plain script or in so many tasks.
local tb = require "thingsboard"

local url, count, tasks = arg[1], tonumber(arg[2]), tonumber(arg[3])
local device = tb.device { url = url, token = "A1_TEST_TOKEN" }

local function post(i)
  assert(device:send_telemetry { temperature = 21.5, humidity = 10 + i % 90, battery = 3.123 })
end

if tasks then
  local i = 0
  for _ = 1, tasks do
    tb.spawn(function()
      while i < count do
        i = i + 1
        post(i)
      end
    end)
  end
  tb.run()
else
  for i = 1, count do post(i) end
end
