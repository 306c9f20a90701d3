-- Answers the server's RPC requests until the device is deleted.
-- Usage: lua5.4 rpc_server.lua URL TOKEN
local tb = require "thingsboard"
local dev = tb.device { url = assert(arg[1], "usage: rpc_server.lua URL TOKEN"), token = arg[2] }
local pins = {}

local _, err = dev:serve_rpc {
  setGpio = function(params)
    pins[params.pin] = params.enabled
    return { pin = params.pin, enabled = params.enabled }
  end,

  getGpio = function(params)
    return { pin = params.pin, enabled = pins[params.pin] or false }
  end,

  -- A task of its own, so that other requests are answered while it runs.
  blink = function(params)
    tb.spawn(function()
      for _ = 1, params.times do
        pins[params.pin] = not pins[params.pin]
        print(("pin %d is %s"):format(params.pin, pins[params.pin] and "on" or "off"))
        tb.sleep(0.2)
      end
    end)
    return "blinking"
  end,
}
print(err)
