--- For scripts that run in libuv's loop: a call in a coroutine suspends that coroutine alone.
--
--     require "thingsboard.adapter.luv".attach()
--     coroutine.wrap(function() assert(dev:send_telemetry { temperature = 21.5 }) end)()
--     uv.run()
--
-- Callbacks of luv do not run in a coroutine, so a call in one blocks: start a coroutine or a task there. A call in a
-- generator yields to the caller of the generator. Tasks of this library must not wait by luv's functions.
-- @module thingsboard.adapter.luv
local uv = require "luv"
local loop = require "thingsboard.loop"

local adapter = {}

--- Attaches luv's loop. `uv.run()` returns when no task, iterator or call is active.
function adapter.attach()
  local on = loop.default()
  local poll, soon = assert(uv.new_poll(on:pollfd())), assert(uv.new_timer())
  local woken = {} -- threads to be resumed after the step

  local function resume_woken()
    local threads = woken
    woken = {}
    for at, thread in ipairs(threads) do
      local alive = coroutine.status(thread) == "suspended" -- a script may have closed it meanwhile
      local ok, message = true, nil
      if alive then ok, message = coroutine.resume(thread) end
      if not ok then
        table.move(threads, at + 1, #threads, #woken + 1, woken)
        if woken[1] then soon:start(0, 0, resume_woken) end
        error(debug.traceback(thread, message), 0)
      end
    end
  end

  on:attach {
    start = function() poll:start("r", function() on:serve() end) end,
    stop = function() poll:stop() end,
    suspendable = function() return true end,
    suspend = function(waiter)
      waiter.thread = coroutine.running()
      coroutine.yield()
    end,
    resume = function(waiter)
      woken[#woken + 1] = waiter.thread
      soon:start(0, 0, resume_woken)
    end,
  }
end

return adapter
