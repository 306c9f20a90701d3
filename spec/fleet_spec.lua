-- Many devices and many tasks on one loop; how each of them ends; and the descriptor that a foreign loop watches.
local socket = require "socket"
local count_descriptors = require "spec.support.descriptors"
local emulator = require "spec.support.emulator"
local loop = require "thingsboard.loop"
local tb = require "thingsboard"

describe("on one loop", function()
  local e, failures

  setup(function() e = emulator.start() end)
  teardown(function() e:stop() end)

  before_each(function()
    failures = {}
    tb.on_error(function(task, traceback) failures[#failures + 1] = { task = task, traceback = traceback } end)
  end)

  after_each(function()
    loop.default():close()
    e:clear_faults()
  end)

  local function new_device(token)
    return tb.device { url = e.url, token = token or e.token }
  end

  local function connections_of(path)
    local found = {}
    for _, request in ipairs(e:requests()) do
      if request.target and request.target:find(path, 1, true) then found[#found + 1] = request end
    end
    return found
  end

  describe("devices", function()
    it("of two hundred are served, each with its own", function()
      local COUNT = 200
      local tokens, answered = {}, 0
      for n = 1, COUNT do tokens[n] = e:create_device { name = "fleet " .. n } end
      for n, token in ipairs(tokens) do
        tb.spawn(function()
          local dev = new_device(token)
          assert(dev:send_telemetry { n = n })
          local requests <close> = dev:rpc_requests()
          local request = requests()
          assert(request:reply { n = n })
          answered = answered + 1
          dev:close()
        end)
      end
      local handles = {}
      tb.spawn(function()
        tb.sleep(0.5)
        for n, token in ipairs(tokens) do handles[n] = e:rpc(token, { method = "which", timeout = 20000 }) end
      end)
      tb.run()
      assert.same({}, failures)
      assert.equal(COUNT, answered)
      for n, token in ipairs(tokens) do
        assert.equal(('{"n":%d}'):format(n), e:rpc_result(handles[n]).body)
        assert.equal(tostring(n), e:telemetry(token)[1].value)
      end
    end)

    it("that are more than one pool holds post together, when others were closed as well", function()
      local COUNT = 300
      local devices, sent = {}, 0
      for n = 1, COUNT do devices[n] = new_device() end
      local function post_all()
        for _, dev in pairs(devices) do
          tb.spawn(function()
            assert(dev:send_telemetry { n = 1 })
            sent = sent + 1
          end)
        end
        tb.run()
      end
      post_all()
      assert.equal(COUNT, sent)
      for n = 1, COUNT, 2 do
        devices[n]:close()
        devices[n] = nil
      end
      for n = COUNT + 1, COUNT + 200 do devices[n] = new_device() end -- some where those closed were, some elsewhere
      post_all()
      assert.equal(COUNT + COUNT // 2 + 200, sent)
      assert.same({}, failures)
    end)

    it("that are closed leave their places to others: more need no descriptors", function()
      local function make(count)
        for _ = 1, count do new_device():close() end
        return count_descriptors()
      end
      assert.equal(make(1), make(600)) -- more than two pools hold
    end)

    it("have as many connections as they may", function()
      e:fault { path = "/telemetry$", how = "delay", seconds = 0.1 }
      for _, limit in ipairs { 1, false } do
        tb.max_connections(limit or nil)
        e:clear()
        for _ = 1, 3 do
          local dev = new_device()
          tb.spawn(function() assert(dev:send_telemetry { a = 1 }) end)
        end
        tb.run()
        local found = {}
        for _, request in ipairs(connections_of "/telemetry") do found[request.connection] = true end
        assert.equal(limit == 1, next(found, (next(found))) == nil)
      end
      assert.same({}, failures)
    end)

    it("end alone: the others go on", function()
      local doomed, other = new_device(), new_device(e:create_device {})
      local stranger = new_device "nobody"
      e:fault { path = e.token .. "/telemetry$", how = "stall" }
      local ends = {}
      for n = 1, 3 do
        tb.spawn(function() ends[n] = select(2, doomed:send_telemetry { n = n }).kind end)
      end
      tb.spawn(function()
        local requests = doomed:rpc_requests()
        for _ in requests, nil, nil, requests do end
        ends[4] = requests.error or "no error"
      end)
      tb.spawn(function()
        local updates = doomed:attribute_updates()
        for _ in updates, nil, nil, updates do end
        ends[5] = updates.error or "no error"
      end)
      tb.spawn(function() ends[6] = select(2, stranger:send_telemetry { a = 1 }).status end)
      local sent = 0
      tb.spawn(function()
        tb.sleep(0.2)
        doomed:close()
        for n = 1, 3 do
          assert(other:send_telemetry { n = n })
          sent = sent + 1
        end
      end)
      local from = socket.gettime()
      tb.run()
      assert.same({}, failures)
      assert.same({ "closed", "closed", "closed", "no error", "no error", 401 }, ends)
      assert.equal(3, sent)
      assert.is_true(socket.gettime() - from < 5)
      assert.equal("closed", select(2, doomed:send_telemetry { a = 1 }).kind)
    end)
  end)

  describe("a task is cancelled, beside what loop_spec has,", function()
    local function closing(list, name)
      return setmetatable({}, { __close = function() list[#list + 1] = name end })
    end

    -- Cancels a task, once `before` has returned; says whether it closed what it had to close.
    local function cancelled(body, before)
      local closed, went_on = {}, false
      local victim = tb.spawn(function()
        local _ <close> = closing(closed, "closed")
        body()
        went_on = true
      end)
      tb.spawn(before):join()
      victim:cancel()
      assert.is_true(victim:done())
      local result, why = victim:join()
      assert.is_nil(result)
      assert.equal("cancelled", why)
      victim:cancel() -- harmless
      tb.run()
      assert.is_false(went_on)
      assert.same({}, failures)
      return closed
    end

    local function soon() tb.sleep(0.05) end

    it("while it waits for an answer, which the server then sees given up", function()
      local dev = new_device(e:create_device { name = "given up", token = "GIVEN_UP" })
      assert.same({ "closed" }, cancelled(function() dev:send_rpc("unanswered") end, soon))
      local deadline = socket.gettime() + 5
      local found
      repeat
        found = connections_of("GIVEN_UP/rpc")[1]
      until found and found.given_up or socket.gettime() > deadline
      assert.is_true(found.given_up)
    end)

    it("while it waits for a signal, which can be raised still", function()
      local signal = loop.default():signal()
      assert.same({ "closed" }, cancelled(function() loop.default():wait(signal) end, soon))
      signal:raise()
      tb.run()
    end)

    it("after it has yielded by itself", function()
      assert.same({ "closed" }, cancelled(function() while true do coroutine.yield() end end, soon))
    end)

    it("and whoever waits for it hears so", function()
      local victim = tb.spawn(tb.sleep, 60)
      local result, why
      tb.spawn(function() result, why = victim:join() end)
      tb.spawn(function()
        tb.sleep(0.05)
        victim:cancel()
      end)
      tb.run()
      assert.is_nil(result)
      assert.equal("cancelled", why)
    end)
  end)

  describe("closing", function()
    it("cancels tasks, ends calls and iterators, and closes devices", function()
      local on = loop.default()
      local dev, closed = new_device(), {}
      e:fault { path = "/telemetry$", how = "stall" }
      for n, body in ipairs {
        function() dev:send_telemetry { a = 1 } end,
        function() for _ in dev:rpc_requests() do end end,
        function() for _ in dev:attribute_updates() do end end,
        function() tb.sleep(60) end,
        coroutine.yield,
      } do
        tb.spawn(function()
          local _ <close> = setmetatable({}, { __close = function() closed[n] = true end })
          body()
        end)
      end
      tb.spawn(function() tb.sleep(0.2) end):join()
      on:close()
      on:close() -- idempotent
      assert.same({ true, true, true, true, true }, closed)
      assert.same({}, failures)
      assert.is_false(on:working())
      assert.equal("closed", select(2, dev:send_telemetry { a = 1 }).kind)
      assert.error_matches(function() on:spawn(print) end, "the loop is closed")
      assert.error_matches(function() on:sleep(1) end, "the loop is closed")
    end)

    it("lets there be a new loop after it", function()
      loop.default():close()
      local dev = new_device()
      assert(dev:send_telemetry { a = 1 })
    end)

    it("is not for a task", function()
      local ok, message
      tb.spawn(function() ok, message = pcall(loop.close, loop.default()) end)
      tb.run()
      assert.is_false(ok)
      assert.matches("a task cannot close its loop", message)
    end)
  end)

  describe("run", function()
    it("is refused in a task", function()
      tb.spawn(tb.run)
      tb.run()
      assert.matches("called from a task", failures[1].traceback)
    end)
  end)

  describe("the descriptor", function()
    -- Whether it is readable within some seconds.
    local function stirs(on, seconds)
      local fd = on:pollfd()
      local watched = { getfd = function() return fd end, dirty = function() return false end }
      return socket.select({ watched }, nil, seconds)[1] ~= nil
    end

    local function settle(on)
      while stirs(on, 0) do on:step(0) end
    end

    it("is quiet while nothing is to be done", function()
      local on = loop.default()
      settle(on)
      assert.is_false(stirs(on, 0.1))
      assert.is_nil(on:timeout())
      assert.equal("r", on:events())
    end)

    it("stirs for a task that is started, and for one that is woken", function()
      local on = loop.default()
      local signal, woken = on:signal(), false
      on:spawn(function()
        on:wait(signal)
        woken = true
      end)
      assert.is_true(stirs(on, 0))
      assert.equal(0, on:timeout())
      settle(on)
      signal:raise()
      assert.is_true(stirs(on, 0))
      settle(on)
      assert.is_true(woken)
    end)

    it("tells a host that only asks for the time as well", function()
      local other = loop.new()
      assert.is_nil(other:timeout())
      local task = other:spawn(function() other:sleep(30) end)
      assert.equal(0, other:timeout())
      other:step(0)
      assert.near(30, other:timeout() or 0, 10)
      task:cancel()
      other:close()
    end)

    it("needs not stir for what has happened already", function()
      local on = loop.default()
      local signal = on:signal()
      assert.is_false(on:wait(signal, 0))
      signal:raise()
      assert.is_true(on:wait(signal, 0))
      assert.is_true(on:wait(signal))
    end)

    it("stirs when a time has come, and not before", function()
      local on = loop.default()
      on:spawn(function() on:sleep(0.2) end)
      settle(on)
      local left = on:timeout()
      assert.is_true(left > 0.1 and left <= 0.2)
      assert.is_false(stirs(on, 0.1))
      assert.is_true(stirs(on, 1))
      settle(on)
      assert.is_false(on:working())
    end)

    it("carries a call from its start to its end", function()
      local on = loop.default()
      local dev = new_device()
      local sent
      on:spawn(function() sent = assert(dev:send_telemetry { a = 1 }) end)
      local steps = 0
      while on:working() do
        assert.is_true(stirs(on, 5), "it hangs")
        on:step(0)
        steps = steps + 1
      end
      assert.is_true(sent)
      assert.is_true(steps < 20, "steps: " .. steps)
    end)

    it("stirs when a device is closed whose calls are in flight", function()
      local on = loop.default()
      local dev = new_device()
      e:fault { path = "/telemetry$", how = "stall" }
      local err
      on:spawn(function() err = select(2, dev:send_telemetry { a = 1 }) end)
      local deadline = socket.gettime() + 0.2
      while socket.gettime() < deadline do
        if stirs(on, 0.05) then on:step(0) end
      end
      dev:close()
      assert.is_true(stirs(on, 0))
      settle(on)
      assert.equal("closed", err.kind)
    end)

    it("costs nothing while polls are open", function()
      local on = loop.default()
      local dev = new_device()
      local requests <close> = dev:rpc_requests()
      on:spawn(function() requests() end)
      local deadline, steps = socket.gettime() + 1, 0
      while socket.gettime() < deadline do
        if stirs(on, 0.1) then
          on:step(0)
          steps = steps + 1
        end
      end
      assert.is_true(steps < 30, "steps: " .. steps)
    end)
  end)
end)
