-- Load and uptime: load_1, load_5, load_15, uptime (seconds).
local measure = require "thingsboard.service.measure"
local tb, device, options = ...

measure.run(tb, device, options, {}, 60, function(given)
  local values = {}
  local load = measure.read(given.root .. "/proc/loadavg") or ""
  local one, five, fifteen = load:match "^([%d.]+) ([%d.]+) ([%d.]+)"
  values.load_1, values.load_5, values.load_15 = tonumber(one), tonumber(five), tonumber(fifteen)
  values.uptime = tonumber((measure.read(given.root .. "/proc/uptime") or ""):match "^%d+")
  return values
end)
