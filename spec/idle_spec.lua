-- Connections that nobody uses are closed, whether another call comes or not. It takes the time that it takes.
local descriptors = require "spec.support.descriptors"
local emulator = require "spec.support.emulator"
local loop = require "thingsboard.loop"
local tb = require "thingsboard"

local IDLE = 50 -- seconds

describe("idle connections", function()
  local e

  before_each(function() e = emulator.start() end)

  after_each(function()
    loop.default():close()
    e:stop()
  end)

  it("of all pools are closed after a while, and those that are in use are not", function()
    local devices = {
      tb.device { url = e.url, token = e.token },
      tb.device { url = e.tls_url, ca_file = e.ca_file, token = e.token },
    }
    for n = 1, 260 do devices[#devices + 1] = tb.device { url = e.url, token = "T" .. n } end -- a pool of their own
    devices[#devices + 1] = tb.device { url = e.url, token = e.token }
    local none = descriptors()
    local used = { devices[1], devices[2], devices[#devices] }
    for _, dev in ipairs(used) do
      for _ = 1, 3 do tb.spawn(function() assert(dev:send_telemetry { a = 1 }) end) end
    end
    tb.run()
    local open = descriptors()
    assert.is_true(open - none >= 7, "opened: " .. open - none) -- two of HTTP/1.1 with three calls each, one of HTTP/2
    local asked = tb.now()
    tb.spawn(function()
      while descriptors() > none and tb.now() < asked + (IDLE + 10) * 1000 do tb.sleep(0.5) end
    end)
    tb.run()
    assert.is_true(tb.now() >= asked + (IDLE - 1) * 1000)
    assert.is_true(descriptors() <= none, "left: " .. descriptors() - none)
    for _, dev in ipairs(used) do assert(dev:send_telemetry { a = 2 }) end
  end)
end)
