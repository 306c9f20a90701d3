--- For scripts that run in cqueues: a call in a coroutine of the controller suspends that coroutine alone.
--
--     local cq = require "cqueues".new()
--     require "thingsboard.adapter.cqueues".attach(cq)
--     cq:wrap(function() assert(dev:send_telemetry { temperature = 21.5 }) end)
--     assert(cq:loop())
--
-- A call blocks in the main program, in another controller, and in other coroutines of the script.
-- @module thingsboard.adapter.cqueues
local cqueues = require "cqueues"
local condition = require "cqueues.condition"
local loop = require "thingsboard.loop"

local adapter = {}

--- Attaches a controller. `controller:loop()` returns when no task, iterator or call is active.
-- @param controller of cqueues
function adapter.attach(controller)
  local on = loop.default()
  local fd = on:pollfd()
  on:attach {
    start = function()
      controller:wrap(function()
        repeat cqueues.poll(on) until not on:serve()
      end)
    end,
    stop = function() controller:cancel(fd) end,
    suspendable = function()
      local running, direct = cqueues.running()
      return running == controller and direct
    end,
    suspend = function(waiter)
      waiter.woken = waiter.woken or condition.new()
      waiter.woken:wait()
    end,
    resume = function(waiter)
      waiter.woken:signal()
    end,
  }
end

return adapter
