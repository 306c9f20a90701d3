-- Temperature: temperature_NAME (degrees Celsius) of the thermal zones and of the sensors of hwmon.
local measure = require "thingsboard.service.measure"
local process = require "thingsboard.process"
local tb, device, options = ...

local function put(values, name, path)
  local thousandths = tonumber(measure.read(path) or "")
  if not thousandths then return end
  local key, number = "temperature_" .. measure.key(name), 1
  while values[key] do -- several of one name
    number = number + 1
    key = "temperature_" .. measure.key(name) .. "_" .. number
  end
  values[key] = thousandths / 1000
end

local function sorted(path)
  local names = process.list(path) or {}
  table.sort(names)
  return names
end

local function line(path)
  return (measure.read(path) or ""):match "^[^\n]+"
end

measure.run(tb, device, options, {}, 60, function(given)
  local values = {}
  local zones, sensors = given.root .. "/sys/class/thermal", given.root .. "/sys/class/hwmon"
  for _, name in ipairs(sorted(zones)) do
    local zone = zones .. "/" .. name
    if name:find "^thermal_zone" then put(values, line(zone .. "/type") or name, zone .. "/temp") end
  end
  for _, name in ipairs(sorted(sensors)) do
    local sensor = sensors .. "/" .. name
    for _, input in ipairs(sorted(sensor)) do
      if input:find "^temp%d+_input$" then put(values, line(sensor .. "/name") or name, sensor .. "/" .. input) end
    end
  end
  return values
end)
