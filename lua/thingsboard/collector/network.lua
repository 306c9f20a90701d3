-- Network: network_NAME_received, network_NAME_sent (bytes a second) of `interfaces`; of all but lo if absent.
local core = require "thingsboard.core"
local measure = require "thingsboard.service.measure"
local tb, device, options = ...

local before, measured_at = {}, nil -- counters by interface, at that time

local function wanted(given, name)
  if not given.interfaces then return name ~= "lo" end
  for _, one in ipairs(given.interfaces) do
    if one == name then return true end
  end
  return false
end

measure.run(tb, device, options, { interfaces = "table" }, 60, function(given)
  local values, now, counters = {}, core.monotonic(), {}
  local text = measure.read(given.root .. "/proc/net/dev") or ""
  for name, numbers in text:gmatch "([^%s:]+):([%d ]+)" do
    local fields = {}
    for field in numbers:gmatch "%d+" do fields[#fields + 1] = tonumber(field) end
    if #fields >= 9 and wanted(given, name) then counters[name] = { received = fields[1], sent = fields[9] } end
  end
  for name, counted in next, counters do
    for direction, count in next, counted do
      local last = before[name] and before[name][direction]
      if last and count >= last then -- else the interface is new, or counts anew
        values[("network_%s_%s"):format(measure.key(name), direction)] = (count - last) / (now - measured_at)
      end
    end
  end
  before, measured_at = counters, now
  return values
end)
