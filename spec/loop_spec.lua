local child = require "spec.support.child"
local emulator = require "spec.support.emulator"
local loop = require "thingsboard.loop"
local tb = require "thingsboard"

describe("tasks", function()
  local e, dev, failures

  setup(function()
    e = emulator.start()
    dev = tb.device { url = e.url, token = e.token }
  end)

  teardown(function()
    dev:close()
    e:stop()
  end)

  before_each(function()
    failures = {}
    tb.on_error(function(_, message) failures[#failures + 1] = message end)
  end)

  it("run side by side, and run() ends with the last of them", function()
    local order = {}
    for n = 1, 3 do
      tb.spawn(function(name)
        for step = 1, 2 do
          order[#order + 1] = name .. step
          tb.sleep(0.01)
        end
      end, "t" .. n)
    end
    tb.run()
    assert.same({ "t11", "t21", "t31", "t12", "t22", "t32" }, order)
  end)

  it("go on while other code waits", function()
    local count = 0
    local task = tb.spawn(function()
      while true do
        count = count + 1
        tb.sleep(0.01)
      end
    end)
    tb.sleep(0.2)
    assert.is_true(count > 3)
    task:cancel()
  end)

  it("run for a step even when no time is to pass", function()
    local ran = false
    tb.spawn(function() ran = true end)
    tb.sleep(0)
    assert.is_true(ran)
  end)

  it("wait for each other's results", function()
    local task = tb.spawn(function()
      tb.sleep(0.01)
      return 1, nil, 3
    end)
    assert.same({ true, 1, nil, 3, n = 4 }, table.pack(task:join()))
    assert.is_true(task:done())
    assert.same({ true, 1, nil, 3, n = 4 }, table.pack(task:join()))
  end)

  it("that fail are reported with a traceback, and do not stop the others", function()
    local reached = false
    local task = tb.spawn(function() error "broken" end)
    tb.spawn(function()
      tb.sleep(0.05)
      reached = true
    end)
    tb.run()
    assert.is_true(reached)
    assert.equal(1, #failures)
    assert.truthy(failures[1]:find("broken", 1, true))
    assert.truthy(failures[1]:find("stack traceback", 1, true))
    local ok, reason = task:join()
    assert.is_nil(ok)
    assert.truthy(reason:find("broken", 1, true))
  end)

  it("stop run() when the handler of errors raises", function()
    tb.on_error(function(_, message) error(message, 0) end)
    tb.spawn(function() error("fatal", 0) end)
    local ok, message = pcall(tb.run)
    assert.is_false(ok)
    assert.truthy(message:find("fatal", 1, true))
  end)

  describe("are cancelled", function()
    local function closing(flag)
      return setmetatable({}, { __close = function() flag.closed = true end })
    end

    it("before they began", function()
      local ran = false
      local task = tb.spawn(function() ran = true end)
      task:cancel()
      tb.run()
      assert.is_false(ran)
      assert.same({ nil, "cancelled" }, { task:join() })
    end)

    it("while they sleep", function()
      local flag = {}
      local task = tb.spawn(function()
        local _ <close> = closing(flag)
        tb.sleep(3600)
      end)
      tb.sleep(0.01)
      task:cancel()
      task:cancel()
      assert.is_true(flag.closed)
      tb.run()
    end)

    it("while they wait for an answer, which is dropped", function()
      e:fault { path = "/telemetry", how = "stall", count = 1 }
      local reached = false
      local task = tb.spawn(function()
        dev:send_telemetry { a = 1 }
        reached = true
      end)
      tb.sleep(0.1)
      task:cancel()
      tb.run()
      assert.is_false(reached)
      assert.is_true(dev:send_telemetry { a = 2 })
    end)

    it("while they wait for another task", function()
      local sleeper = tb.spawn(function() tb.sleep(3600) end)
      local waiter = tb.spawn(function() sleeper:join() end)
      tb.sleep(0.01)
      waiter:cancel()
      local next_waiter = tb.spawn(function() return select(2, sleeper:join()) end) -- in its place
      tb.sleep(0.01)
      sleeper:cancel()
      tb.run()
      assert.same({ true, "cancelled" }, { next_waiter:join() })
    end)

    it("while they iterate, and their polls with them", function()
      for _, iterate in ipairs {
        function() for _ in dev:rpc_requests() do end end, -- luacheck: ignore 542
        function() dev:serve_rpc {} end,
      } do
        local task = tb.spawn(iterate)
        tb.sleep(0.2)
        task:cancel()
        local requests <close> = dev:rpc_requests() -- another may iterate now
        assert.is_function(requests.close)
      end
    end)

    it("when they are ready to go on", function()
      local task = tb.spawn(function()
        coroutine.yield()
        error "resumed"
      end)
      tb.sleep(0)
      task:cancel()
      tb.run()
      assert.same({}, failures)
    end)

    it("harmlessly when they have ended", function()
      local task = tb.spawn(function() return 5 end)
      tb.run()
      task:cancel()
      assert.same({ true, 5 }, { task:join() })
    end)

    it("not by themselves", function()
      local task
      local line = debug.getinfo(1, "l").currentline + 1
      task = tb.spawn(function() task:cancel() end)
      tb.run()
      assert.truthy(failures[1]:find(("loop_spec.lua:%d: a task that is running cannot be cancelled: let it return\n")
        :format(line), 1, true))
    end)
  end)

  it("may yield on their own: they go on at the next step", function()
    local count = 0
    tb.spawn(function()
      for _ = 1, 3 do
        count = count + 1
        coroutine.yield()
      end
    end)
    tb.run()
    assert.equal(3, count)
  end)

  it("may have coroutines of their own, which block their task's caller only there", function()
    local answered
    tb.spawn(function()
      local inner = coroutine.wrap(function() return dev:send_telemetry { a = 1 } end)
      answered = inner()
    end)
    tb.run()
    assert.is_true(answered)
  end)

  it("may not wait for one end together, nor for their own, nor for all", function()
    local sleeper = tb.spawn(function() tb.sleep(0.05) end)
    for _ = 1, 2 do tb.spawn(function() sleeper:join() end) end
    local itself
    itself = tb.spawn(function() itself:join() end)
    tb.spawn(function() tb.run() end)
    tb.spawn(function() coroutine.wrap(function() tb.run() end)() end)
    tb.run()
    assert.equal(4, #failures)
    local said = table.concat(failures, "\n")
    assert.truthy(said:find("loop_spec.lua:%d+: join: a task cannot wait for its own end"))
    assert.truthy(said:find("loop_spec.lua:%d+: join: another waits for this task's end already"))
    assert.equal(2, select(2, said:gsub("loop_spec.lua:%d+: run: cannot be called from a task", "")))
  end)

  it("may not wait for the same thing, nor iterate over it", function()
    local own = require "thingsboard.loop".new()
    local signal, said = own:signal(), nil
    own:spawn(function() own:wait(signal) end)
    own:spawn(function()
      said = select(2, pcall(function() own:wait(signal) return end))
      signal:raise()
    end)
    own:run()
    own:close()
    assert.matches("^[^:]*loop_spec.lua:%d+: another task waits for the same thing already$", said)
    for _, method in ipairs { "rpc_requests", "attribute_updates" } do
      local values <close> = dev[method](dev)
      local first = tb.spawn(function() while true do values() end end)
      tb.sleep(0)
      local ok
      tb.spawn(function() ok, said = pcall(function() while true do values() end end) end):join()
      assert.is_false(ok or first:done())
      first:cancel()
      assert.matches("^[^:]*loop_spec.lua:%d+: another task iterates over this already$", said)
    end
  end)

  it("that fail are told of on the standard error, where nobody else hears of it", function()
    local said = child.run "local tb = require 'thingsboard' tb.spawn(function() error 'wrong' end) tb.run()"
    assert.matches("^thingsboard: a task failed: %(command line%):1: wrong\nstack traceback:\n", said)
  end)

  it("tell a mistake with a loop at its line", function()
    local own = loop.new()
    local signal, told = own:signal(), {}
    local function try(call)
      local ok, said = pcall(function()
        call()
        return nil -- or this function would be gone, and with it the line
      end)
      assert.is_false(ok)
      told[#told + 1] = said:gsub("^.*(loop_spec%.lua):%d+: ", "%1: ")
    end
    own:spawn(function() own:wait(signal) end)
    own:spawn(function()
      try(function() own:wait(signal) end)
      try(function() own:run() end)
      try(function() own:close() end)
    end)
    own:step(0)
    own:close()
    try(function() own:spawn(print) end)
    try(function() own:wait(signal) end)
    try(function() own:spawn_later(signal, nil, {}) end)
    local AT <const> = "loop_spec.lua: "
    assert.same({
      AT .. "another task waits for the same thing already", AT .. "run: cannot be called from a task",
      AT .. "a task cannot close its loop", AT .. "the loop is closed", AT .. "the loop is closed",
      AT .. "the loop is closed",
    }, told)
  end)

  it("that fail with what cannot be shown are told of, and closed, all the same", function()
    local closed
    local bad = tb.spawn(function()
      local _ <close> = setmetatable({}, { __close = function() closed = true end })
      error(setmetatable({}, { __tostring = function() error "no text" end }))
    end)
    tb.run()
    assert.truthy(failures[1]:find("a table that cannot be shown", 1, true))
    assert.is_true(closed)
    assert.same({ nil, "a table that cannot be shown" }, { bad:join() })
  end)

  -- Below a task the stack ends in a step of the loop, at any of its calls.
  it("go on when another's recursion has no end", function()
    local ticks = 0
    local other = tb.spawn(function()
      while true do
        tb.sleep(0)
        ticks = ticks + 1
      end
    end)
    local function deep(...)
      table.sort({ 1, 2, 3 }, function(a, b)
        tb.sleep(0)
        return a < b
      end)
      return deep(...) + 1
    end
    local task = tb.spawn(function() deep(table.unpack({}, 1, 200)) end) -- which takes much of the stack, and ends soon
    assert.truthy(select(2, task:join()):find "stack overflow")
    ticks = 0
    for _ = 1, 10 do tb.sleep(0.001) end
    assert.is_true(ticks > 0)
    other:cancel()
  end)

  it("go on, and can be ended, when a recursion outside of them has no end", function()
    local own = require "thingsboard.loop".new()
    own:spawn(function() while true do own:sleep(0.001) end end)
    local function retry(...)
      pcall(own.sleep, own, 0)
      return retry(...) + 1
    end
    assert.is_false(pcall(retry, table.unpack({}, 1, 200))) -- as above
    assert.same({ true, "ran" }, { own:spawn(function() return "ran" end):join() })
    own:close()
  end)

  it("sleep in order of their deadlines", function()
    local order = {}
    local delays = { 0.25, 0.05, 0.15, 0.1, 0.2 } -- far enough apart for a machine that is slow to start them
    for n, delay in ipairs(delays) do
      tb.spawn(function()
        tb.sleep(delay)
        order[#order + 1] = n
      end)
    end
    tb.run()
    assert.same({ 2, 4, 3, 5, 1 }, order)
  end)

  -- As when memory runs out just behind a task's end, before that is noted.
  it("whose end was not noted do not keep the loop from closing", function()
    local own = require "thingsboard.loop".new()
    local task = own:spawn(function() return 7 end)
    coroutine.resume(task.thread)
    assert.is_true(own.tasks[task.thread] ~= nil)
    debug.sethook(function() error "it does not end" end, "", 1000000)
    local ok, message = pcall(own.close, own)
    debug.sethook()
    assert.is_true(ok, message)
    assert.same({ true, 7 }, { task:join() })
  end)

  -- As when memory runs out in a step that has taken them from the queue.
  it("are all resumed though an error has left the step that was to do so", function()
    local own = require "thingsboard.loop".new()
    local count = 0
    for _ = 1, 3 do own:spawn(function() count = count + 1 end) end
    own.first, own.last, own.unfinished = false, false, 1
    own:step(0)
    assert.equal(3, count)
    local order = {}
    for n = 1, 3 do
      own:spawn(function()
        for _ = 1, 2 do
          order[#order + 1] = n
          own:sleep(0)
        end
      end)
    end
    own.first, own.unfinished = own.first.next, 1 -- the others are in the queue still
    debug.sethook(function() error "it does not end" end, "", 1000000)
    local ok, message = pcall(own.run, own)
    debug.sethook()
    assert.is_true(ok, message)
    table.sort(order)
    assert.same({ 1, 1, 2, 2, 3, 3 }, order)
    own:close()
  end)

  it("keep their host at work, which cannot be replaced meanwhile", function()
    local own, starts, stops = require "thingsboard.loop".new(), 0, 0
    local function attach()
      own:attach {
        start = function() starts = starts + 1 end, stop = function() stops = stops + 1 end,
        suspendable = function() return false end,
      }
    end
    attach()
    assert.equal(0, starts)
    for n = 1, 2 do
      local task = own:spawn(function() own:sleep(0.05) end)
      own:spawn(function() own:sleep(0.01) end)
      assert.same({ n, n - 1 }, { starts, stops })
      local ok, said = pcall(attach)
      assert.is_false(ok)
      assert.truthy(said:find "loop_spec.lua:%d+: the event loop that is attached is still at work$", said)
      repeat until not own:serve()
      assert.is_true(task:done())
      assert.same({ n, n }, { starts, stops })
    end
    attach()
    own:attach(nil)
    own:spawn(function() end)
    assert.same({ 2, 2 }, { starts, stops })
    attach() -- while there is something to do
    assert.same({ 3, 2 }, { starts, stops })
    assert.is_false(own:serve())
    own:close()
    own:close() -- once more
    assert.error_matches(function() own:spawn(function() end) end, "^the loop is closed$")
  end)

  it("check what they are given", function()
    assert.error_matches(function() tb.spawn(5) end, "spawn: body must be a function, got number")
    assert.error_matches(function() tb.sleep(-1) end, "sleep: seconds")
    assert.error_matches(function() tb.sleep(0 / 0) end, "sleep: seconds")
    assert.error_matches(function() tb.sleep() end, "sleep: seconds")
    assert.error_matches(function() tb.on_error(5) end, "on_error: handler must be a function")
  end)
end)
