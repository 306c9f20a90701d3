--- For scripts that run in lua-eco, from release 4 on: a call suspends the coroutine that makes it, alone. The script
-- itself is one.
--
--     require "thingsboard.adapter.eco".attach()
--     assert(dev:send_telemetry { temperature = 21.5 })
--
-- Tested by hand with release 4.1.3 on x86-64. The specs do not run it, since Debian has no package of lua-eco.
-- @module thingsboard.adapter.eco
local eco = require "eco"
local sync = require "eco.sync"
local loop = require "thingsboard.loop"

local adapter = {}

--- Attaches lua-eco's loop. The script ends when no task, iterator or call is active.
function adapter.attach()
  local on = loop.default()
  on:attach {
    start = function()
      eco.run(function()
        local io <close> = eco.io(on:pollfd())
        repeat assert(io:wait(eco.READ)) until not on:serve()
      end)
    end,
    suspendable = function() return true end,
    suspend = function(waiter)
      waiter.woken = sync.cond()
      waiter.woken:wait()
    end,
    resume = function(waiter)
      waiter.woken:signal()
    end,
  }
end

return adapter
