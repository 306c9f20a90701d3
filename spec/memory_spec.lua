-- What goes on when Lua's memory runs out for a while: no task, and nothing that one waits for, is forgotten. The
-- torture (spec/torture/memory.lua) has all allocations fail, those of curl and SQLite too.
local emulator = require "spec.support.emulator"
local library = require "spec.support.library"
local loop = require "thingsboard.loop"
local starve = library.load "starve"
local tb = require "thingsboard"

describe("when memory runs out", function()
  local e, token, dev

  setup(function() e = emulator.start() end)
  teardown(function() e:stop() end)

  before_each(function()
    token = e:create_device {}
    dev = tb.device { url = e.url, token = token }
    tb.on_error(function() end)
  end)

  after_each(function() loop.default():close() end)

  local function await(condition, seconds)
    local deadline = tb.now() + (seconds or 10) * 1000
    while not condition() and tb.now() < deadline do pcall(tb.sleep, 0.001) end
    return condition()
  end

  -- Calls below so many others: where the stack must grow next depends on it.
  local function below(depth, f)
    if depth == 0 then return f() end
    local result = below(depth - 1, f)
    return result
  end

  -- Runs tasks while the n-th allocation fails, and all behind it, on a stack of its own; all must be done in the end.
  -- How many allocations there were, and whether the step was left.
  local function run_starved(n, depth)
    local tasks = {}
    tasks[1] = tb.spawn(function() return dev:send_telemetry { a = n } end)
    tasks[2] = tb.spawn(function() return tasks[1]:join() end)
    tasks[3] = tb.spawn(function() return error "broken" end)
    tasks[4] = tb.spawn(function() return tasks[3]:join() end)
    local function all_done()
      for i = 1, 4 do
        if not tasks[i]:done() then return false end
      end
      return true
    end
    local on = loop.default()
    local stack = coroutine.create(function()
      below(depth, function()
        while not all_done() do on:step(1) end
      end)
    end)
    local resume = coroutine.resume
    local count, _, well = starve.call(n, 0, function() return (resume(stack)) end)
    coroutine.close(stack)
    assert(await(all_done), ("a task is forgotten when allocation %d fails, %d calls below"):format(n, depth))
    tb.run()
    for _, task in ipairs(tasks) do
      local ended, why = task:join()
      assert(ended or why:find "memory" or why:find "broken", why)
    end
    return count, well
  end

  it("in a step, what ended or happened in it is noted at the next", function()
    local left = 0
    for depth = 0, 8 do
      local n = 0
      repeat
        n = n + 1
        local count, well = run_starved(n, depth)
        if not well then left = left + 1 end
      until n > count
    end
    assert.is_true(left > 5, "steps left: " .. left)
  end)

  it("in a poll, that goes on a little later", function()
    local requests <close> = dev:rpc_requests()
    local request
    local task <const> = tb.spawn(function() request = requests() end)
    tb.sleep(0)
    local handle = e:rpc(token, { method = "large", params = '"' .. ("x"):rep(300000) .. '"', timeout = 30000 })
    starve.call(1, 100000, function() -- in both polls: each has its copy
      await(function() return starve.refused() >= 4 end)
    end)
    assert.is_false(task:done())
    assert.is_true(await(function() return task:done() end))
    assert.equal(300000, #request.params)
    assert.is_true(request:reply(true))
    assert.equal("true", e:rpc_result(handle, 5).body)
  end)

  it("in a poll, and is not there to wait either, its iterator ends and says so", function()
    local ended, n = 0, 0
    repeat
      n = n + 1
      token = e:create_device {}
      local one <close> = tb.device { url = e.url, token = token }
      local requests <const> = one:rpc_requests()
      local request, err
      local task <const> = tb.spawn(function() request, err = requests() end)
      e:clear()
      tb.sleep(0)
      assert(e:arrived(1) >= 1)
      e:rpc(token, { method = "m" .. n, timeout = 30000 })
      local on = loop.default()
      local count = starve.call(n, 0, function()
        while not task:done() do on:step(1) end
      end)
      assert(await(function() return task:done() end), "the iterator waits for ever when allocation " .. n .. " fails")
      if err then
        assert.equal("memory", err.kind)
        assert.equal(err, requests.error)
        ended = ended + 1
      elseif request then
        assert.equal("m" .. n, request.method)
      else -- the task that waited for the iterator had no memory either
        assert.equal("not enough memory", select(2, task:join()))
      end
    until n > count
    assert.is_true(ended > 0)
  end)
end)
