-- A thermostat: gets its credentials, reports the temperature, heats to a setpoint that the server can change, answers
-- requests, and fetches the firmware that is assigned to it.
-- Usage: lua5.4 thermostat.lua URL KEY SECRET NAME DIRECTORY
local tb = require "thingsboard"

local url, key, secret, name, directory = table.unpack(arg)
assert(directory, "usage: thermostat.lua URL KEY SECRET NAME DIRECTORY")
io.stdout:setvbuf "line"

local credentials = assert(tb.provision {
  url = url, key = key, secret = secret, device_name = name, store = directory .. "/credentials",
})
print "has its credentials"

local dev = tb.device { url = url, token = credentials.token }
local firmware = { title = "thermostat", version = "1.0" }
local temperature, setpoint, heating = 18.0, 20.0, false

assert(dev:send_attributes { model = "TH-1", fw_title = firmware.title, fw_version = firmware.version })
local clock = dev:send_rpc "getTime"
print(clock and "asked the server for its time: " .. tostring(clock.time) or "the server tells no time")

-- The room: it warms while the heating is on, and cools otherwise.
local function regulate()
  temperature = temperature + (heating and 0.7 or -0.3)
  heating = temperature < setpoint
end

local function report()
  while true do
    regulate()
    local ok, err = dev:send_telemetry { temperature = temperature, heating = heating }
    if ok then
      print(("%.1f degrees, heating %s"):format(temperature, heating and "on" or "off"))
    elseif err.kind == "closed" then
      return
    else
      print(err)
    end
    tb.sleep(1)
  end
end

local function update(told)
  local path = directory .. "/firmware.bin"
  local ok, err = dev:firmware {
    title = told.fw_title, version = told.fw_version, size = told.fw_size,
    checksum = told.fw_checksum, checksum_algorithm = told.fw_checksum_algorithm,
    path = path, chunk_size = 16 * 1024,
    progress = function(received, total) print(("firmware: %d of %d bytes"):format(received, total)) end,
  }
  print(ok and ("firmware %s is whole and verified"):format(told.fw_version) or err)
end

local function obey()
  local told = {}
  local keys = { "setpoint", "fw_title", "fw_version", "fw_size", "fw_checksum", "fw_checksum_algorithm" }
  for values, deleted in dev:attribute_updates(keys) do
    for _, gone in ipairs(deleted) do told[gone] = nil end
    for changed, value in pairs(values) do told[changed] = value end
    if values.setpoint then
      setpoint = values.setpoint
      print(("the setpoint is %.1f degrees"):format(setpoint))
    end
    if told.fw_checksum and told.fw_version ~= firmware.version then
      firmware.version = told.fw_version
      tb.spawn(update, told)
    end
  end
end

local function answer()
  dev:serve_rpc {
    getStatus = function()
      return { temperature = temperature, setpoint = setpoint, heating = heating, firmware = firmware.version }
    end,

    shutdown = function()
      tb.spawn(function()
        tb.sleep(0.5) -- the answer goes first
        dev:close()
      end)
      return "goodbye"
    end,
  }
end

tb.spawn(report)
tb.spawn(obey)
tb.spawn(answer)
tb.run()
print "is shut down"
