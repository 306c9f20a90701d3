--- For scripts that run in Copas: a call in one of its threads suspends that thread alone.
--
--     require "thingsboard.adapter.copas".attach()
--     copas.addthread(function() assert(dev:send_telemetry { temperature = 21.5 }) end)
--     copas.loop()
--
-- In the main program a call blocks. In a generator that a thread runs it yields to the caller of the generator, as all
-- waits of Copas do. Copas uses `select`, which cannot watch descriptors from 1024 on.
--
-- What Copas waits for is anything that `socket.select` takes, that is, what has `getfd` and `dirty`; `copas.receive`
-- suspends a thread until `receive` of such an object gives something. All releases from 1.2 to 4 have these.
-- @module thingsboard.adapter.copas
local copas = require "copas"
local loop = require "thingsboard.loop"

local adapter = {}

local pollable = {}
pollable.__index = pollable

function pollable:getfd() return self.fd end

function pollable:dirty() return self.ready end

-- Copas asks once, waits for the descriptor or for `dirty`, and asks again.
function pollable:receive()
  self.asked = not self.asked
  if self.asked and not self.ready then return nil, "timeout" end
  return true
end

function pollable:close() end -- luacheck: no self

local function new_pollable(fd)
  return setmetatable({ fd = fd, ready = false, asked = false }, pollable)
end

--- Attaches Copas. `copas.loop()` returns when no task, iterator or call is active.
function adapter.attach()
  local on = loop.default()
  on:attach {
    start = function()
      copas.addthread(function()
        repeat copas.receive(new_pollable(on:pollfd())) until not on:serve()
      end)
    end,
    suspendable = function() return true end,
    suspend = function(waiter)
      waiter.woken = new_pollable(-1)
      copas.receive(waiter.woken)
    end,
    resume = function(waiter)
      waiter.woken.ready = true
      waiter.woken.fd = on:pollfd()
    end,
  }
end

return adapter
