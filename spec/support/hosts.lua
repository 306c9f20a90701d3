--- What every adapter promises, said once. A host is told by its name, `attach`, and how its users do things: `go(f)`
-- starts a coroutine, `run(done)` runs the loop until it has nothing to do (one that does not know asks `done`),
-- `tick()` suspends the calling coroutine for a moment by the host's own means, `readable(socket)` until there is
-- something to read from a socket.
-- `run_raises` tells that an error in a coroutine of its own ends `run`: luv ends the process then, Copas prints it.
local busted = require "busted"
local assert = require "luassert"
local socket = require "socket"
local emulator = require "spec.support.emulator"

local describe, it, setup, teardown = busted.describe, busted.it, busted.setup, busted.teardown
local before_each, after_each = busted.before_each, busted.after_each

local hosts = {}

--- Loads a library of Debian's; says which package is missing.
function hosts.require(name, package_name)
  local ok, library = pcall(require, name)
  if not ok then
    error(("these specs need %s: install Debian's %s\n%s"):format(name, package_name, library), 0)
  end
  return library
end

-- What a coroutine of the host's raises, `run` raises.
local function new_runner(host, loop)
  local live, failure = 0, nil
  local function go(body)
    live = live + 1
    host.go(function()
      local ok, message = xpcall(body, debug.traceback)
      live = live - 1
      if not ok then failure = failure or message end
    end)
  end
  local function run()
    host.run(function() return live == 0 and not loop.default():working() end)
    if failure then error(failure, 0) end
    return live
  end
  return go, run
end

--- The specs of an adapter.
function hosts.behaves(host)
  describe("the adapter for " .. host.name, function()
    local tb, loop, e, dev, go, run

    setup(function()
      e = emulator.start()
      tb, loop = require "thingsboard", require "thingsboard.loop"
    end)

    teardown(function() e:stop() end)

    before_each(function()
      host.attach()
      dev = tb.device { url = e.url, token = e.token }
      go, run = new_runner(host, loop)
    end)

    after_each(function()
      dev:close()
      loop.default():close()
      e:clear_faults()
    end)

    it("suspends only the coroutine that calls", function()
      e:fault { path = "/telemetry$", how = "delay", seconds = 0.3 }
      local sent, ticks, last = 0, 0, nil
      for n = 1, 5 do
        go(function()
          assert(dev:send_telemetry { n = n })
          sent = sent + 1
          last = ticks
        end)
      end
      go(function()
        while sent < 5 do
          host.tick()
          ticks = ticks + 1
        end
      end)
      local from = socket.gettime()
      assert.equal(0, run())
      assert.equal(5, sent)
      assert.is_true(last > 1, "ticks meanwhile: " .. last)
      assert.is_true(socket.gettime() - from < 1.2, "the five calls went one after another")
    end)

    it("lets the host's sockets go on", function()
      e:fault { path = "/telemetry$", how = "delay", seconds = 0.3 }
      local near, far = assert(socket.udp()), assert(socket.udp())
      assert(near:setsockname("127.0.0.1", 0))
      near:settimeout(0)
      assert(far:setpeername(near:getsockname()))
      local sent, received = false, 0
      local meanwhile
      go(function()
        sent = assert(dev:send_telemetry { n = 1 })
        meanwhile = received
        far:send("last")
      end)
      go(function()
        repeat
          host.readable(near)
          received = received + 1
        until near:receive() == "last"
      end)
      go(function()
        while not sent do
          far:send("one")
          host.tick()
        end
      end)
      assert.equal(0, run())
      assert.is_true(meanwhile > 1, "received meanwhile: " .. meanwhile)
      near:close()
      far:close()
    end)

    it("lets the host's loop end when nothing is left, and goes on when there is work anew", function()
      for n = 1, 3 do
        local sent
        go(function() sent = assert(dev:send_telemetry { n = n }) end)
        assert.equal(0, run())
        assert.is_true(sent)
        assert.is_false(loop.default():working())
      end
    end)

    it("hands out what iterators bring", function()
      local methods, values = {}, nil
      go(function()
        for request in dev:rpc_requests() do
          methods[#methods + 1] = request.method
          assert(request:reply(true))
          if #methods == 2 then break end
        end
      end)
      go(function()
        for changed in dev:attribute_updates { "interval" } do
          values = changed
          if changed.interval == 7 then break end
        end
      end)
      go(function()
        tb.sleep(0.2)
        e:rpc(e.token, { method = "first", timeout = 5000 })
        tb.sleep(0.1)
        e:rpc(e.token, { method = "second", timeout = 5000 })
        e:set_shared(e.token, '{"interval":7}')
      end)
      assert.equal(0, run())
      assert.same({ "first", "second" }, methods)
      assert.same({ interval = 7 }, values)
    end)

    it("runs tasks, and lets coroutines wait for them", function()
      local answer, late, waits, said
      go(function()
        local task = tb.spawn(function()
          tb.sleep(0.05)
          return "done"
        end)
        answer = select(2, task:join())
      end)
      go(function()
        local task = tb.spawn(function() while not said do tb.sleep(0.02) end end)
        waits = true
        tb.run()
        late = task:done()
      end)
      go(function()
        while not waits do host.tick() end
        said = select(2, pcall(function() tb.run() return end))
      end)
      assert.equal(0, run())
      assert.matches("^[^:]*hosts.lua:%d+: run: another waits for the end of all tasks already$", said)
      assert.equal("done", answer)
      assert.is_true(late)
    end)

    it("wakes the sleeping in order", function()
      local order = {}
      for _, seconds in ipairs { 0.15, 0.05, 0.1 } do
        go(function()
          tb.sleep(seconds)
          order[#order + 1] = seconds
        end)
      end
      assert.equal(0, run())
      assert.same({ 0.05, 0.1, 0.15 }, order)
    end)

    it("ends a call in flight when another coroutine closes the device", function()
      e:fault { path = "/telemetry$", how = "stall" }
      local err
      go(function() err = select(2, dev:send_telemetry { a = 1 }) end)
      go(function()
        tb.sleep(0.1)
        dev:close()
      end)
      local from = socket.gettime()
      assert.equal(0, run())
      assert.equal("closed", err.kind)
      assert.is_true(socket.gettime() - from < 5)
    end)

    it("ends a call in flight when the loop is closed", function()
      e:fault { path = "/telemetry$", how = "stall" }
      local err, cancelled
      go(function() err = select(2, dev:send_telemetry { a = 1 }) end)
      go(function() cancelled = select(2, tb.spawn(function() tb.sleep(60) end):join()) end)
      go(function()
        tb.sleep(0.1)
        loop.default():close()
      end)
      assert.equal(0, run())
      assert.equal("closed", err.kind)
      assert.equal("cancelled", cancelled)
    end)

    it("does not spin while all wait", function()
      go(function() tb.sleep(1) end)
      local from = os.clock()
      assert.equal(0, run())
      assert.is_true(os.clock() - from < 0.5)
    end)

    it("blocks in the main program, where nothing can be suspended", function()
      local sent
      go(function() sent = assert(dev:send_telemetry { a = 1 }) end)
      assert(dev:send_telemetry { a = 2 })
      assert.equal(0, run())
      assert.is_true(sent)
    end)

    it("lets the handler of errors call the server", function()
      tb.on_error(function(_, message) assert(dev:send_attributes { failure = message:match("broken") }) end)
      local sent
      go(function()
        tb.spawn(function() error("broken") end):join()
        sent = assert(dev:send_telemetry { a = 1 })
      end)
      assert.equal(0, run())
      assert.is_true(sent)
      assert.same({ type = "STRING", value = "broken" }, e:attributes(e.token, "client").failure)
    end)

    if host.run_raises then
      it("raises what the handler of errors raises out of the host's loop, and goes on after it", function()
        tb.on_error(function() error("raised on") end)
        local sent
        go(function()
          tb.spawn(error, "broken")
          tb.sleep(0.05)
          sent = assert(dev:send_telemetry { a = 1 })
        end)
        assert.error_matches(run, "raised on")
        assert.equal(0, run())
        assert.is_true(sent)
      end)
    end
  end)
end

return hosts
