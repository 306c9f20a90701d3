--- Descriptors and signals that the tasks of a loop wait for.
-- @module thingsboard.loop.watcher
local process = require "thingsboard.process"

local watcher = {}
watcher.__index = watcher

local handler_type = {}
handler_type.__index = handler_type
handler_type.__name = "thingsboard.signal_handler"

--- The watcher of a loop, made when first asked for.
-- @tparam table loop
-- @treturn watcher
function watcher.of(loop)
  if not loop.watcher then
    local poller = process.poller()
    assert(loop.reactor:watch(poller:pollfd()), "the system cannot watch one more descriptor")
    loop.watcher = setmetatable({
      loop = loop, poller = poller,
      waiting = {}, -- signals of the loop, by the descriptor that each stands for
      handlers = {}, -- sets of handlers, by the name of the signal of the system
      steps = 0, -- of the loop
    }, watcher)
  end
  return loop.watcher
end

--- Waits until a descriptor can be read or written. It may also return early: what cannot be done yet is to be tried
-- again.
-- @tparam integer fd
-- @tparam string what `"r"` or `"w"`
-- @tparam ?number deadline seconds of the monotonic clock
-- @treturn boolean false when the deadline came first
function watcher:wait(fd, what, deadline)
  local ready = self.loop:signal()
  self.waiting[fd] = ready -- before it is watched: `step` finds a signal for all that is
  if not self.poller:watch(fd, what) then return true end
  return self.loop:wait(ready, deadline)
end

--- Calls a function, in a task of its own, whenever the process gets a signal. Several functions may be called for one.
-- @tparam string name `"HUP"`, `"INT"`, `"TERM"`, `"QUIT"`, `"USR1"`, `"USR2"`, `"PIPE"` or `"CHLD"`
-- @tparam function handler called with the name
-- @treturn table with `close()`: when the last one is closed, the system's default applies again
function watcher:on_signal(name, handler)
  self.poller:catch(name, true)
  self.handlers[name] = self.handlers[name] or {}
  local entry = setmetatable({ watcher = self, name = name, call = handler }, handler_type)
  self.handlers[name][entry] = true
  return entry
end

--- Ends it. Idempotent.
function handler_type:close()
  local on, set = self.watcher, self.watcher.handlers[self.name]
  if not set or not set[self] then return end
  set[self] = nil
  if next(set) ~= nil then return end
  on.handlers[self.name] = nil
  if not on.closed then on.poller:catch(self.name, false) end
end

handler_type.__close = handler_type.close

--- Wakes who waits for what has happened. Called in every step of the loop.
function watcher:step()
  self.steps = self.steps + 1
  for what in self.poller.step, self.poller do
    if math.type(what) then
      self.waiting[what]:raise()
    else
      for entry in next, self.handlers[what] or {} do self.loop:spawn_background(entry.call, what) end
    end
  end
end

--- Gives all back.
function watcher:close()
  self.closed = true
  self.poller:close()
end

return watcher
