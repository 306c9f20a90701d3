-- How a poll judges what it meets, seen from the attempts that it makes.
local socket = require "socket"
local client = require "thingsboard.http.client"
local emulator = require "spec.support.emulator"
local tb = require "thingsboard"

describe("a poll", function()
  it("of a device that is closed already is none: the iterators end", function()
    local dev = tb.device { url = "http://127.0.0.1:9", token = "T" }
    dev:close()
    local requests = dev:rpc_requests()
    assert.same({ nil, nil }, { requests() })
    assert.is_nil(requests.error)
    local updates = dev:attribute_updates()
    assert.same({ nil, nil }, { updates() })
    assert.is_nil(dev:serve_rpc {})
    local box, err = dev:outbox { path = "never made" }
    assert.is_nil(box)
    assert.equal("closed", err.kind)
    assert.is_nil(io.open "never made")
  end)

  it("of a device that is closed before it is sent ends, too", function()
    local dev = tb.device { url = "http://127.0.0.1:9", token = "T" }
    local requests = dev:rpc_requests()
    local updates = dev:attribute_updates()
    dev:close()
    assert.is_nil((requests()))
    assert.is_nil((updates()))
  end)

  -- While a script is quiet only the polls' own tasks make anything to collect.
  it("ends when nobody holds its iterator, whichever task the collector finds that in", function()
    local e <close> = emulator.start()
    local dev <close> = tb.device { url = e.url, token = e.token }
    local loop = require "thingsboard.loop".default()
    local function begin() -- a function of its own: nothing of it stays in a register
      dev:rpc_requests { period = 0.02 }
    end
    local pause, step = collectgarbage("setpause", 10), collectgarbage("setstepmul", 1000)
    collectgarbage() -- from here on the collector is always at work
    begin()
    local begun = next(loop.tasks) ~= nil
    local deadline = tb.now() + 20000
    while next(loop.tasks) and tb.now() < deadline do loop:step(0.1) end
    collectgarbage("setpause", pause)
    collectgarbage("setstepmul", step)
    assert.is_true(begun)
    assert.is_nil(next(loop.tasks))
  end)

  it("waits ever longer when there is no connection to be had", function()
    local deaf = assert(socket.bind("127.0.0.1", 0, 0))
    local _, port = deaf:getsockname()
    local full = {} -- its queue: more, and the system answers no more
    for n = 1, 4 do
      full[n] = socket.tcp()
      full[n]:settimeout(0)
      full[n]:connect("127.0.0.1", port)
    end
    local attempts, start = 0, client.start
    client.start = function(...) -- luacheck: ignore 122
      attempts = attempts + 1
      return start(...)
    end
    local dev = tb.device { url = "http://127.0.0.1:" .. port, token = "T", connect_timeout = 0.2 }
    do
      local requests <close> = dev:rpc_requests { period = 0.1 }
      tb.sleep(8)
      client.start = start -- luacheck: ignore 122
      assert.is_function(getmetatable(requests).__call)
    end
    dev:close()
    for _, other in ipairs(full) do other:close() end
    deaf:close()
    -- Two polls. Were every wait as short as the first, it would be 60 attempts; doubling it is about 14.
    assert.is_true(attempts >= 4 and attempts <= 36, "attempts: " .. attempts)
  end)
end)
