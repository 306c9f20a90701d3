-- How a poll judges what it meets, seen from the attempts that it makes.
local socket = require "socket"
local client = require "thingsboard.http.client"
local emulator = require "spec.support.emulator"
local scratch = require "spec.support.scratch"
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

  it("has an address that no other request has, so that no cache knows it; likewise who asks for attributes", function()
    local e <close> = emulator.start()
    local directory = scratch.new()
    local dev <close> = tb.device { url = e.url, token = e.token }
    local outbox <close> = assert(dev:outbox { path = directory .. "/outbox" })
    for _ = 1, 2 do assert(dev:request_attributes()) end
    for _ = 1, 2 do assert(dev:request_attributes { shared = { "a" } }) end
    assert(outbox:put { a = 1 })
    tb.spawn(function() for _ in dev:rpc_requests { period = 0.02 } do end end)
    tb.spawn(function() for _ in dev:attribute_updates(nil, { period = 0.02 }) do end end)
    local seen, twice, enough
    local function look()
      local count = {}
      seen, twice, enough = {}, nil, 0
      for _, request in ipairs(e:requests()) do
        if request.method == "GET" then
          local before = seen[request.target]
          if before and before ~= 408 then twice = request.target end -- curl itself repeats a request that got 408
          seen[request.target] = request.status or 0
          local what = request.target:find "outbox" and "marker" or request.target:match "(%w+)[^/]*$"
          count[what] = (count[what] or 0) + 1
          if count[what] == 2 then enough = enough + 1 end
        end
      end
    end
    local drained
    tb.spawn(function()
      drained = outbox:drain { deadline = 20 }
      local deadline = tb.now() + 20000
      repeat
        tb.sleep(0.02)
        look()
      until enough == 4 or tb.now() > deadline
      dev:close()
    end)
    tb.run()
    assert.is_true(drained)
    assert.equal(4, enough) -- attributes, markers, polls of both kinds
    assert.is_nil(twice)
    scratch.remove(directory)
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

  describe("after an outage", function()
    local e

    before_each(function() e = emulator.start() end)
    after_each(function() e:stop() end)

    -- Lets polls fail until they wait for long; then they may pass.
    local function let_fail(seconds)
      e:fault { path = "/rpc%?", how = "status", status = 500 }
      e:fault { path = "/attributes", how = "status", status = 500 }
      tb.sleep(seconds)
      e:clear_faults()
    end

    -- How soon both kinds of polls are there, while `other` makes calls.
    local function come_back(other)
      local backoff = require "thingsboard.http.backoff"
      local new = backoff.new
      backoff.new = function() return new(200, 200) end -- luacheck: ignore 122
      local random = math.random
      math.random = function(...) return select("#", ...) == 0 and 0.9 or random(...) end -- luacheck: ignore 122
      local dev <close> = tb.device { url = e.url, token = e.token }
      e:set_shared(e.token, '{"n":1}')
      local came = {}
      local tasks = {
        tb.spawn(function()
          local requests <close> = dev:rpc_requests()
          came.rpc = requests().method
        end),
        tb.spawn(function()
          local updates <close> = dev:attribute_updates()
          came.n = updates().n
        end),
      }
      let_fail(0.5)
      backoff.new = new -- luacheck: ignore 122
      e:rpc(e.token, { method = "m", timeout = 20000 })
      assert(other(dev))
      local deadline = tb.now() + 10000
      while not (came.rpc and came.n) and tb.now() < deadline do tb.sleep(0.05) end
      math.random = random -- luacheck: ignore 122
      for _, task in ipairs(tasks) do task:cancel() end
      assert.same({ rpc = "m", n = 1 }, came)
    end

    it("comes back when a call of the device succeeds", function()
      come_back(function(dev) return dev:send_telemetry { a = 1 } end)
    end)

    it("comes back when another device of the same server has success", function()
      local token = e:create_device { name = "other" }
      come_back(function()
        local other <close> = tb.device { url = e.url .. "/", token = token }
        return other:send_telemetry { a = 1 }
      end)
    end)

    it("is not made a hot loop by calls that succeed", function()
      local dev <close> = tb.device { url = e.url, token = e.token }
      e:fault { path = "/rpc%?", how = "status", status = 500 }
      local requests <close> = dev:rpc_requests()
      local deadline = tb.now() + 6000
      while tb.now() < deadline do
        assert(dev:send_telemetry { a = 1 })
        tb.sleep(0.02)
      end
      assert.is_nil(requests.error)
      local polls = 0
      for _, request in ipairs(e:requests()) do
        if request.target:find "/rpc%?" then polls = polls + 1 end
      end
      assert.is_true(polls >= 6 and polls <= 60, "polls: " .. polls)
    end)
  end)

  -- A server that is down says the same words at once.
  for _, status in ipairs { 408, 503, 504 } do
    it("that ends at once with " .. status .. " is a failure, not the word that nothing came", function()
      local e <close> = emulator.start()
      local dev <close> = tb.device { url = e.url, token = e.token }
      e:fault { path = "/rpc%?", how = "status", status = status }
      e:fault { path = "/updates", how = "status", status = status }
      do
        local requests <close> = dev:rpc_requests()
        local updates <close> = dev:attribute_updates()
        assert.is_table((updates()))
        tb.sleep(4)
        assert.is_nil(requests.error)
      end
      local polls = { rpc = 0, updates = 0 }
      for _, request in ipairs(e:requests()) do
        local kind = request.target:match "/(rpc)%?" or request.target:match "/(updates)%?"
        if kind then polls[kind] = polls[kind] + 1 end
      end
      -- Waits that double from 0.1 s: about seven polls, and twice as many for two; a hot loop makes hundreds.
      assert.is_true(polls.rpc >= 4 and polls.rpc <= 80, "polls: " .. polls.rpc)
      assert.is_true(polls.updates >= 2 and polls.updates <= 40, "polls: " .. polls.updates)
    end)
  end
end)
