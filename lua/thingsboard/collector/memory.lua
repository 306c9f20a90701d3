-- Memory: memory_total, memory_available (bytes).
local measure = require "thingsboard.service.measure"
local tb, device, options = ...

measure.run(tb, device, options, {}, 60, function(given)
  local kilobytes = {}
  for name, count in (measure.read(given.root .. "/proc/meminfo") or ""):gmatch "(%w+): +(%d+) kB" do
    kilobytes[name] = math.tointeger(tonumber(count))
  end
  if not kilobytes.MemTotal then return {} end
  local available = kilobytes.MemAvailable -- which Linux before 3.14 does not tell
    or (kilobytes.MemFree or 0) + (kilobytes.Buffers or 0) + (kilobytes.Cached or 0)
  return { memory_total = kilobytes.MemTotal * 1024, memory_available = available * 1024 }
end)
