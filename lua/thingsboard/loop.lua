--- Tasks over the reactor. A task is a coroutine that is suspended while it waits for an event: an exchange, a signal,
-- or another task, each of which answers `done()`. Code outside of tasks waits too: it steps the loop meanwhile.
-- @module thingsboard.loop
local core = require "thingsboard.core"
local timers = require "thingsboard.timers"

local loop = {}
loop.__index = loop

local task = {}
task.__index = task
task.__name = "thingsboard.task"

local signal = {}
signal.__index = signal

local function report(_, message)
  io.stderr:write("thingsboard: a task failed: ", message, "\n")
end

--- A new loop, with a reactor of its own.
function loop.new()
  return setmetatable({
    reactor = core.reactor(),
    tasks = setmetatable({}, { __mode = "k" }), -- by coroutine
    waiting = {}, -- the task that waits, by event
    timers = timers.new(),
    ready = {}, -- tasks to be resumed, from ready[first] to ready[last]
    first = 1,
    last = 0,
    count = 0, -- tasks that run() waits for
    on_error = report,
  }, loop)
end

local default

--- The loop that everything uses; made when first asked for.
function loop.default()
  default = default or loop.new()
  return default
end

local function make_ready(self, which)
  self.last = self.last + 1
  self.ready[self.last] = which
end

-- Whatever the task waits for, it waits no more.
local function stop_waiting(self, which)
  if which.event ~= nil then self.waiting[which.event] = nil end
  which.event = nil
  which.timer = nil -- an entry still in the heap is known as stale by this
  which.parked = false
end

local function wake(self, which)
  if which == nil or not which.parked then return end
  stop_waiting(self, which)
  make_ready(self, which)
end

local function finish(self, which)
  which.finished = true
  if not which.background then self.count = self.count - 1 end
  wake(self, self.waiting[which])
end

local function resume(self, which)
  if which.finished then return end
  local thread = which.thread
  local results = table.pack(coroutine.resume(thread))
  if coroutine.status(thread) ~= "dead" then
    if not which.parked then make_ready(self, which) end -- a yield of the script's own: on with it at the next step
    return
  end
  if results[1] then
    which.results = results
  else
    which.failure = tostring(results[2])
    local traceback = debug.traceback(thread, which.failure)
    coroutine.close(thread) -- what the task was to close is closed now, not when it is collected
    finish(self, which)
    self.on_error(which, traceback)
    return
  end
  finish(self, which)
end

local function run_ready(self)
  for at = self.first, self.last do -- what becomes ready meanwhile waits for the next step
    local which = self.ready[at]
    if at < self.first then goto continue end -- a nested step has seen to it
    self.ready[at] = nil
    self.first = at + 1
    resume(self, which)
    ::continue::
  end
end

--- Starts a task. It runs for the first time at the next step.
-- @tparam function body
-- @param ... its arguments
-- @treturn task
function loop:spawn(body, ...)
  local arguments = table.pack(...)
  local thread = coroutine.create(function()
    return body(table.unpack(arguments, 1, arguments.n))
  end)
  local which = setmetatable({ loop = self, thread = thread, parked = false }, task)
  self.tasks[thread] = which
  self.count = self.count + 1
  make_ready(self, which)
  return which
end

--- Starts a task that `run` does not wait for.
function loop:spawn_background(body, ...)
  local which = self:spawn(body, ...)
  which.background = true
  self.count = self.count - 1
  return which
end

--- The task that runs now, or nil where nothing can be suspended: outside of tasks, in a coroutine of the script's own,
-- below a C function that cannot yield.
function loop:current()
  local which = self.tasks[coroutine.running()]
  return which and coroutine.isyieldable() and which or nil
end

--- Waits for an event.
-- @param event an exchange, a signal or a task
-- @tparam ?number deadline seconds of the monotonic clock
-- @treturn boolean whether it has happened; false when the deadline came first
function loop:wait(event, deadline)
  while not event:done() do
    if deadline and core.monotonic() >= deadline then return false end
    local which = self:current()
    if which then
      if self.waiting[event] then error("another task waits for the same thing already", 2) end
      self.waiting[event] = which
      which.event = event
      which.parked = true
      if deadline then
        which.timer = { at = deadline, task = which }
        self.timers:add(which.timer)
      end
      coroutine.yield()
    else
      self:step(deadline and deadline - core.monotonic())
    end
  end
  return true
end

local never = { done = function() return false end }

--- Lets time pass; other tasks go on.
-- @tparam number seconds
function loop:sleep(seconds)
  self:wait(setmetatable({}, { __index = never }), core.monotonic() + seconds)
end

--- Something to wait for that a task can raise.
-- @treturn signal with `done`, `raise`, `lower`
function loop:signal()
  return setmetatable({ loop = self, raised = false }, signal)
end

function signal:done()
  return self.raised
end

--- Wakes who waits, and all who come, until `lower`.
function signal:raise()
  self.raised = true
  wake(self.loop, self.loop.waiting[self])
end

function signal:lower()
  self.raised = false
end

-- When the first of the sleeping tasks is to be woken; stale entries are thrown away on the way.
local function next_deadline(self)
  local entry = self.timers:first()
  while entry and entry.task.timer ~= entry do
    self.timers:remove_first()
    entry = self.timers:first()
  end
  return entry and entry.at
end

--- Waits until something stirs, unless a task is ready already, and runs the tasks that are ready then.
-- @tparam ?number timeout seconds to wait at most; nil for as long as it takes
function loop:step(timeout)
  local reactor = self.reactor
  local deadline = next_deadline(self)
  if deadline then timeout = math.min(timeout or math.huge, deadline - core.monotonic()) end
  if self.first <= self.last then timeout = 0 end
  reactor:step(timeout)
  local exchange = reactor:finished()
  while exchange do
    wake(self, self.waiting[exchange])
    exchange = reactor:finished()
  end
  local now = core.monotonic()
  deadline = next_deadline(self)
  while deadline and deadline <= now do
    wake(self, self.timers:first().task)
    deadline = next_deadline(self)
  end
  run_ready(self)
end

--- Runs until no task is left.
function loop:run()
  while self.count > 0 do self:step() end
end

--- Whether the task has come to its end.
function task:done()
  return self.finished == true
end

--- Waits for the task's end.
-- @treturn[1] boolean true
-- @return[1] ... what its function returned
-- @treturn[2] nil
-- @treturn[2] string why it came to no good end
function task:join()
  self.loop:wait(self)
  if self.results then return table.unpack(self.results, 1, self.results.n) end
  return nil, self.failure
end

--- Ends the task where it waits; what it has to close is closed, its exchange in flight is dropped. Harmless when it
-- has ended already.
function task:cancel()
  if self.finished then return end
  if coroutine.status(self.thread) ~= "suspended" then error("a task cannot cancel itself: let it return", 2) end
  stop_waiting(self.loop, self)
  self.failure = "cancelled"
  local closed, message = coroutine.close(self.thread)
  finish(self.loop, self)
  if not closed then self.loop.on_error(self, tostring(message)) end
end

return loop
