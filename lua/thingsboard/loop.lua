--- Tasks over the reactor. A task is a coroutine that is suspended while it waits for an event: an exchange, a signal,
-- or another task; each has a method `done`. Code outside of tasks may wait, too: while it waits, it steps the loop.
--
-- A foreign event loop, the host, watches `pollfd()` for reading and calls `step(0)` whenever it is readable. When the
-- host is attached, a wait in one of its coroutines suspends that coroutine alone.
-- @module thingsboard.loop
local core = require "thingsboard.core"
local errors = require "thingsboard.error"
local timers = require "thingsboard.loop.timer_heap"

local resume, running, status, yield = coroutine.resume, coroutine.running, coroutine.status, coroutine.yield
local monotonic, suspendable, pcall = core.monotonic, core.suspendable, pcall
local reactor_step -- the method of every reactor, looked up once

local loop = {}
loop.__index = loop

local task = {}
task.__index = task
task.__name = "thingsboard.task"

-- A task that has no coroutine before it begins: see `spawn_later`.
local late_task = setmetatable({ background = true, __name = task.__name }, { __index = task })
late_task.__index = late_task

-- Stands for a coroutine of the host during one wait.
local waiter = {}
waiter.__index = waiter

local signal = {}
signal.__index = signal

local SHORT_OF_MEMORY = 1 -- seconds until the next try

local function report(_, message)
  io.stderr:write("thingsboard: a task failed: ", message, "\n")
end

-- The time at which the next sleeping task is due. Removes stale entries from the top of the heap.
local function next_deadline(self)
  local entry = self.timers[1]
  while entry and entry.task.timer ~= entry do
    self.timers:remove_first()
    entry = self.timers[1]
  end
  return entry and entry.at
end

-- Arms the reactor's timer: for now when a task is ready, else for the next deadline.
local function arm(self)
  local at = self.first and 0 or self.timers.n > 0 and next_deadline(self) or false
  if at == self.armed then return end
  self.armed = at
  self.reactor:wake_at(at or nil)
end

-- As `arm`, but between two steps: a timer that is armed for now is left alone until the next step.
local function arm_between_steps(self)
  if self.armed ~= 0 then arm(self) end
end

--- A new loop, with a reactor of its own.
function loop.new()
  local self = setmetatable({
    reactor = core.reactor(),
    tasks = {}, -- those that have not finished, by coroutine; by themselves before they have one
    clients = setmetatable({}, { __mode = "k" }), -- the set of clients that use this loop
    waiting = {}, -- the task or waiter that waits, by event
    timers = timers.new(),
    first = false, -- the queue of tasks to be resumed, linked by `next`; false when it is empty
    last = false,
    round = 0, -- counts the runs through that queue
    count = 0, -- tasks that run() waits for
    waiters = 0, -- suspended coroutines of the host
    depth = 0, -- how many tasks run, each started by a step within the one before
    unfinished = 0, -- steps that have begun and not ended; an error can leave some behind
    -- Who watches the descriptor: false for nobody; `script`, which asked for it; or the host that is attached, which
    -- is `serving` while there is something to step for, and else `idle`.
    host_state = false,
    -- False rather than nil: Lua would look for a nil field in the metatable at every step.
    host = false, -- the event loop that is attached
    closed = false,
    -- What the reactor's timer is armed for, a time: 0 is now, false is never, true is a time that has passed.
    armed = false,
    watcher = false, -- of descriptors and signals, once one is asked for
    on_error = report,
  }, loop)
  self.idle = { done = function() return self.count == 0 end }
  reactor_step = self.reactor.step
  return self
end

local default

--- The loop that all devices use. It is made at the first call, and again after it was closed.
function loop.default()
  default = default or loop.new()
  return default
end

-- Waking a task allocates nothing, so that a task cannot be lost when memory runs out. That is why all of its fields
-- exist from the start, false when they are empty.
local function make_ready(self, which)
  which.round = self.round
  if self.last then self.last.next = which else self.first = which end
  self.last = which
end

-- Call this after any change. A change between two steps makes the descriptor readable, for the host that watches it.
local function notify_host(self)
  if self.depth > 0 or self.closed or not self.host_state then return end
  if self.armed ~= 0 then
    self.armed = 0
    self.reactor:wake_at(0)
  end
  if self.host_state == "idle" and self:working() then
    self.host_state = "serving"
    self.host.start()
  end
end

-- Takes the task off the event and the deadline that it waits for.
local function stop_waiting(self, which)
  self.waiting[which.event] = nil -- false is never a key of it
  which.event = false
  which.timer = false -- marks its entry in the heap as stale
end

local function wake(self, which)
  if which == nil or not which.event then return end
  self.waiting[which.event] = nil
  which.event, which.timer = false, false -- as `stop_waiting` does, without the call: this runs for every answer
  if which.round then make_ready(self, which) else which.host.resume(which) end -- only tasks have a round
end

local function finish(self, which, outcome)
  which.outcome = outcome
  self.tasks[which.thread or which] = nil
  which.thread = false -- frees the stack, even if the script keeps the task
  if not which.background then self.count = self.count - 1 end
  wake(self, self.waiting[which])
  if self.count == 0 then wake(self, self.waiting[self.idle]) end
  notify_host(self)
end

-- Called when a task has ended, or has yielded without waiting for anything.
local function after_resume(self, which, ok, message)
  local thread = which.thread
  if status(thread) ~= "dead" then return make_ready(self, which) end -- resume it in the next step
  stop_waiting(self, which) -- memory may have run out while it was being suspended
  finish(self, which, ok and which.outcome or errors.NO_MEMORY) -- replaced below if memory suffices
  if ok then
    coroutine.close(thread) -- frees most of its stack before the collector comes
    return
  end
  which.outcome = errors.text_of(message)
  local traceback = debug.traceback(thread, which.outcome)
  coroutine.close(thread) -- closes its to-be-closed variables now, rather than when it is collected
  self.on_error(which, traceback)
end

-- The body of a task's coroutine. The first resume stores the arguments on its stack, the second runs the task.
local function begin(which, body, ...)
  yield()
  which.outcome = table.pack(body(...))
end

-- Adds a task that has not begun to those that wait. Raises when memory has run out.
local function await_begin(self, which, event, at)
  local timer = at and { at = at, task = which } or false
  if timer then self.timers:add(timer) end
  self.waiting[event] = which
  which.event, which.timer = event, timer
end

-- Gives a late task its coroutine.
local function begin_late(self, which)
  local thread = coroutine.create(begin)
  local ok, message = resume(thread, which, which.body.run)
  if not ok then error(message, 0) end
  self.tasks[thread] = which
  self.tasks[which] = nil -- from here on nothing allocates
  which.thread = thread
end

-- There is no memory for a late task's coroutine: tries again later, or where it cannot even wait, ends it.
local function put_off(self, which)
  if pcall(await_begin, self, which, which, monotonic() + SHORT_OF_MEMORY) then return end
  local tell = which.body.signal
  tell.raised = errors.NO_MEMORY -- before any call, which may raise
  wake(self, self.waiting[tell])
  finish(self, which, errors.NO_MEMORY)
end

-- Resumes the tasks that are ready. If the handler of `on_error` raises, the remaining ones wait for the next step.
local function run_round(self, round)
  self.depth = self.depth + 1
  local which = self.first
  while which and which.round < round do
    local after = which.next
    self.first = after
    if not after then self.last = false end
    which.next = false
    if not which.outcome then
      if which.thread or pcall(begin_late, self, which) then
        local ok, message = resume(which.thread)
        if not ok or not which.event then after_resume(self, which, ok, message) end
      else
        put_off(self, which)
      end
    end
    which = self.first
  end
end

-- Any call may run out of memory and raise; the depth is restored nevertheless.
local function run_ready(self)
  local depth, round = self.depth, self.round + 1 -- tasks that become ready now run in the next step
  self.round = round
  local ok, why = pcall(run_round, self, round)
  self.depth = depth
  if self.host_state and depth == 0 and not self.closed then arm(self) end
  if not ok then error(why, 0) end
end

--- Starts a task. It runs for the first time at the next step.
-- @tparam function body
-- @param ... its arguments
-- @treturn task
function loop:spawn(body, ...)
  if self.closed then error("the loop is closed", 2) end
  local thread = coroutine.create(begin)
  local which = setmetatable({
    loop = self, thread = thread, background = false, event = false, timer = false, next = false, round = 0,
    outcome = false, -- a table of its results, or why there are none
  }, task)
  local ok, message = resume(thread, which, body, ...)
  if not ok then error(message, 0) end -- no memory for the arguments
  self.tasks[thread] = which
  self.count = self.count + 1
  make_ready(self, which)
  notify_host(self)
  return which
end

--- Starts a task that `run` does not wait for.
function loop:spawn_background(body, ...)
  local which = self:spawn(body, ...)
  which.background = true
  self.count = self.count - 1
  return which
end

--- Starts a task that `run` does not wait for, and that begins later. Until then it has no coroutine, which takes more
-- memory than all else that an open poll needs in Lua.
-- @param event after which it begins, that nobody else waits for; nil for none
-- @tparam ?number at when it begins at the latest, seconds of the monotonic clock
-- @tparam table body `run`, a function that is called without arguments; `signal`, which is raised with
-- `errors.NO_MEMORY` if the task ends because there is no memory for it
-- @treturn task
function loop:spawn_later(event, at, body)
  if self.closed then error("the loop is closed", 2) end
  local which = setmetatable({
    loop = self, thread = false, body = body, event = false, timer = false, next = false, round = 0, outcome = false,
  }, late_task)
  self.tasks[which] = which
  if event and event:done() then
    make_ready(self, which)
  else
    local ok, message = pcall(await_begin, self, which, event or which, at)
    if not ok then
      self.tasks[which] = nil
      error(message, 0)
    end
  end
  notify_host(self)
  return which
end

-- After an error has left a step, for lack of memory or of stack: wakes what should have been woken, and queues the
-- tasks that should have been resumed.
local function catch_up(self)
  local ready, entry = {}, self.first
  while entry do
    ready[entry] = true
    entry = entry.next
  end
  for thread, which in next, self.tasks do
    if thread ~= which and status(thread) == "dead" then
      stop_waiting(self, which)
      finish(self, which, which.outcome or errors.NO_MEMORY)
    elseif not which.event and not ready[which] then
      make_ready(self, which)
    end
  end
  for event, which in next, self.waiting do
    if event:done() then wake(self, which) end
  end
end

-- Wakes the tasks that are due.
local function wake_sleepers(self)
  local deadline, now = next_deadline(self), monotonic()
  while deadline and deadline <= now do
    wake(self, self.timers[1].task)
    deadline = next_deadline(self)
  end
end

--- Waits until an event happens that somebody waits for, or not at all when a task is ready; then runs the tasks that
-- are ready.
-- @tparam ?number timeout seconds to wait at most; nil for as long as it takes
function loop:step(timeout)
  local reactor, depth = self.reactor, self.depth
  if depth == 0 and self.unfinished ~= 0 then
    catch_up(self)
    self.unfinished = 0
  end
  self.unfinished = self.unfinished + 1
  local armed = self.armed
  if armed ~= 0 and (armed or self.first or self.timers.n > 0) then
    arm(self)
    armed = self.armed
  end
  local exchange, more = reactor_step(reactor, timeout)
  if exchange then wake(self, self.waiting[exchange]) end
  while more do
    exchange, more = reactor_step(reactor, 0)
    wake(self, self.waiting[exchange])
  end
  if armed == 0 then self.armed = true end
  if self.watcher then self.watcher:step() end
  if self.timers.n > 0 then wake_sleepers(self) end
  if self.first then run_ready(self) elseif self.host_state and depth == 0 then arm(self) end
  self.unfinished = self.unfinished - 1
end

local step = loop.step

-- What can be suspended here: the running task, or a waiter for the host's coroutine. Nil outside of tasks, in a
-- coroutine of the script, and below a C function that cannot yield.
local function current(self)
  local thread = suspendable()
  if not thread then return nil end
  local which = self.tasks[thread]
  if which then return which end
  local host = self.host
  if host and self.depth == 0 and host.suspendable() then return setmetatable({ loop = self, host = host }, waiter) end
end

task.suspend = yield -- the service's scripts have their own, which notes how long they ran

function waiter:suspend()
  local _ <close> = self
  self.loop.waiters = self.loop.waiters + 1
  notify_host(self.loop)
  self.host.suspend(self)
end

-- The host has resumed the coroutine, or closed it.
function waiter:__close()
  stop_waiting(self.loop, self)
  self.loop.waiters = self.loop.waiters - 1
  notify_host(self.loop)
end

--- Waits for an event that has not happened yet. An exchange has not ended when it has just been started.
-- @param event an exchange, a signal or a task
-- @tparam ?number deadline seconds of the monotonic clock
-- @treturn boolean whether it has happened; false when the deadline came first
function loop:await(event, deadline)
  local which = current(self)
  repeat
    if self.closed then error("the loop is closed", 2) end
    if which then
      if self.waiting[event] then error("another task waits for the same thing already", 2) end
      local timer = deadline and { at = deadline, task = which } or false
      if timer then self.timers:add(timer) end
      self.waiting[event] = which
      which.event, which.timer = event, timer -- last: from here on nothing allocates
      which:suspend()
    else
      step(self, deadline and math.max(0, deadline - monotonic()))
    end
    if deadline and monotonic() >= deadline then return event:done() end
  until event:done()
  return true
end

--- Waits for an event, which may have happened already.
-- @param event as for `await`
-- @tparam ?number deadline
-- @treturn boolean whether it has happened
function loop:wait(event, deadline)
  if event:done() then return true end
  return self:await(event, deadline)
end

local never = { done = function() return false end }

--- Waits for some seconds. Other tasks run during that time, for one step at least.
-- @tparam number seconds
function loop:sleep(seconds)
  self:wait(setmetatable({}, { __index = never }), monotonic() + seconds)
end

--- A new signal: an event that a task can raise.
-- @treturn signal with `done`, `raise`, `lower`
function loop:signal()
  return setmetatable({ loop = self, raised = false }, signal)
end

function signal:done()
  return self.raised
end

--- Wakes the task that waits. Until `lower`, waiting for the signal returns at once.
function signal:raise()
  self.raised = self.raised or true
  wake(self.loop, self.loop.waiting[self])
  notify_host(self.loop)
end

function signal:lower()
  self.raised = false
end

--- The descriptor to watch for reading: readable when `step` has something to do.
-- @treturn integer
function loop:pollfd()
  if not self.host_state then self.host_state = "script" end
  arm_between_steps(self)
  return self.reactor:pollfd()
end

--- What to watch the descriptor for.
-- @treturn string `"r"`
function loop:events()
  return self.reactor:events()
end

--- How long until the next timer, when `step` has something to do though no descriptor is readable.
-- @treturn ?number seconds; nil when there is no timer
function loop:timeout()
  arm_between_steps(self)
  return self.reactor:timeout()
end

--- Whether the loop needs to be stepped: a task has not finished, or a coroutine of the host waits.
function loop:working()
  return next(self.tasks) ~= nil or self.waiters > 0
end

--- Attaches the host, an event loop that watches the descriptor: see `thingsboard.adapter`.
-- @tparam ?table host functions; nil for none
--
-- - `start()`: from now on `serve()` is to be called whenever the descriptor is readable, until it returns false
-- - `stop()`, optional: called when the host need not watch the descriptor any longer
-- - `suspendable()`: whether the coroutine that runs is one that the host can suspend
-- - `suspend(waiter)`: suspends it until `resume(waiter)`; returning early does no harm
-- - `resume(waiter)`: schedules the coroutine to go on soon, but not within this call
function loop:attach(host)
  if self.waiters > 0 or self.host_state == "serving" then
    error("the event loop that is attached is still at work", 2)
  end
  self.host = host or false
  self.host_state = host and "idle" or "script"
  notify_host(self)
end

--- One step for the host.
-- @treturn boolean whether there is more to do; if not, `start` will be called when there is
function loop:serve()
  local ok, message = true, nil
  if not self.closed then ok, message = pcall(self.step, self, 0) end
  if ok and not self.closed and self:working() then return true end
  self.host_state = "idle"
  if self.host.stop then self.host.stop() end
  if self.closed then
    self.reactor:close()
  elseif not ok then
    notify_host(self) -- the other tasks go on
    error(message, 0)
  end
  return false
end

--- Runs until no task is left.
function loop:run()
  if self.depth > 0 then error("run: cannot be called from a task", 2) end
  if self.waiting[self.idle] then error("run: another waits for the end of all tasks already", 2) end
  if current(self) then return self:wait(self.idle) end -- in a coroutine of the host's
  while self.count > 0 do step(self) end
end

--- Cancels all tasks, closes all devices, their connections and the descriptor. Idempotent.
function loop:close()
  if self.closed then return end
  if self.depth > 0 then error("a task cannot close its loop", 2) end
  while next(self.tasks) do -- closing a task may start another
    local tasks = {}
    for _, which in next, self.tasks do tasks[#tasks + 1] = which end
    for _, which in ipairs(tasks) do which:cancel() end
  end
  for client in next, self.clients do client:close() end
  if self.watcher then self.watcher:close() end
  self.closed = true
  if default == self then default = nil end
  if self.host_state ~= "serving" then return self.reactor:close() end
  self.reactor:wake_at(0) -- the host still watches the descriptor: `serve` will close it
  for _, which in next, self.waiting do which.host.resume(which) end
end

--- Whether the task has come to its end.
-- @treturn boolean
function task:done()
  return self.outcome ~= false
end

--- Whether the task is running now, or has resumed the coroutine that is.
function task:is_running()
  local now = self.thread and status(self.thread)
  return now == "running" or now == "normal"
end

--- Waits for the task's end.
-- @treturn[1] boolean true
-- @return[1] ... what its function returned
-- @treturn[2] nil
-- @treturn[2] string why it came to no good end
function task:join()
  if self.thread == running() then error("join: a task cannot wait for its own end", 2) end
  if self.loop.waiting[self] then error("join: another waits for this task's end already", 2) end
  self.loop:wait(self)
  local outcome = self.outcome
  if type(outcome) == "table" then return true, table.unpack(outcome, 1, outcome.n) end
  return nil, outcome
end

--- Ends the task where it waits: its to-be-closed variables are closed, its exchange in flight is dropped. Does nothing
-- when it has ended already.
function task:cancel()
  if not self.loop.tasks[self.thread or self] then return end
  if self:is_running() then error("a task that is running cannot be cancelled: let it return", 2) end
  stop_waiting(self.loop, self)
  local closed, message = true, nil
  if self.thread then closed, message = coroutine.close(self.thread) end
  finish(self.loop, self, self.outcome or "cancelled") -- it has an outcome if memory ran out after its end
  if not closed then self.loop.on_error(self, errors.text_of(message)) end
end

return loop
