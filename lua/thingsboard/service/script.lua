--- One device script of the service: its tasks, its registered handlers, its failures.
-- @module thingsboard.service.script
local backoff = require "thingsboard.http.backoff"
local core = require "thingsboard.core"
local environment = require "thingsboard.service.environment"
local errors = require "thingsboard.error"
local guard = require "thingsboard.service.guard"
local patience = require "thingsboard.service.patience"
local process = require "thingsboard.process"
local tb = require "thingsboard"

local script = {}
script.__index = script

local BLOCKED <const> = 1 -- seconds without letting others go on: told
local RAN_WELL <const> = 60 -- seconds; who fails after them is started again soon
local WRITABLE_BY_OTHERS <const> = 2 -- permission bit

--- @tparam table service
-- @tparam string name for the log
-- @tparam string path
-- @tparam ?table options handed to the script as its third argument
function script.new(service, name, path, options)
  return setmetatable({
    service = service, name = name, path = path, options = options,
    changed = nil, -- what `stat` said of the file that runs
    state = "new", restarts = 0,
    tasks = nil, -- the set of its tasks; nil while it does not run
    guard = nil, -- of this run
    ending = nil, -- the set of those that run handlers of signals
    handles = nil, -- of its handlers of signals
    devices = nil, -- that it has made itself
    failure = service.loop:signal(),
    why = nil, -- it has failed
  }, script)
end

-- A task has run until it waits or ends: long without letting others go on?
local function note_time(task)
  local took = task.guard:turn()
  if took >= BLOCKED then
    local name = task.script.name
    task.script.service.log:warning("%s: it blocked everything for %.1f s; use tb.sleep, and start programs in the "
      .. "background", name, took)
  end
end

local function suspend(task)
  note_time(task)
  coroutine.yield()
  task.guard:begin_turn()
end

local function finish(task, ok, ...)
  note_time(task)
  if not ok then error(..., 0) end
  return ...
end

--- Starts a task that ends with the script. An error in it is the script's failure.
function script:spawn(body, ...)
  if not self.tasks then error("the script has been stopped", 2) end
  local task
  local function keep_traceback(raised)
    local text = errors.text_of(raised)
    task.traceback = debug.traceback(text, 2)
    return text
  end
  task = self.service.loop:spawn(function(...)
    task.guard:begin_turn()
    return finish(task, xpcall(body, keep_traceback, ...)) -- caught here, so that the hook sees what is closed then
  end, ...)
  task.script, task.guard, task.suspend = self, self.guard, suspend
  self.guard:watch(task.thread)
  self.tasks[task] = true
  return task
end

-- For `xpcall`: what is raised becomes a text here, where the guard watches a `__tostring` of the script's.
local function text_with_traceback(raised)
  return debug.traceback(errors.text_of(raised), 2)
end

--- Calls a handler of the script's in a task of its own, and waits for its end.
-- @tparam function handler
-- @param ... its arguments
-- @treturn[1] boolean true
-- @return[1] ... what it returned
-- @treturn[2] boolean false
-- @treturn[2] string what it raised, with a traceback
-- @treturn[3] nil the script was stopped meanwhile
function script:call(handler, ...)
  local result
  local task = self:spawn(function(...) result = table.pack(xpcall(handler, text_with_traceback, ...)) end, ...)
  self.service.loop:wait(task)
  if result then return table.unpack(result, 1, result.n) end
end

--- A task of it has failed.
-- @tparam table task
-- @tparam string why
function script:failed(task, why)
  if task.guard ~= self.guard then return end -- of an earlier run
  self.why = self.why or task.traceback or why
  self.failure:raise()
end

-- The library as the script sees it: what it starts ends with it.
local function library(self)
  local own, tasks = {}, self.tasks
  function own.sleep(seconds)
    if self.tasks ~= tasks then error("the script has been stopped", 2) end -- it sleeps as its variables are closed
    return tb.sleep(seconds)
  end
  function own.spawn(body, ...)
    if type(body) ~= "function" then error("spawn: body must be a function, got " .. type(body), 2) end
    return self:spawn(body, ...)
  end
  function own.on_signal(name, handler)
    local handle = tb.on_signal(name, function(...)
      if self.tasks then self.ending[self:spawn(handler, ...)] = true end
    end)
    self.handles[#self.handles + 1] = handle
    return handle
  end
  function own.device(...)
    local device, err = tb.device(...)
    if device then self.devices[device] = true end
    return device, err
  end
  function own.run() error("run: the service runs the script's tasks by itself", 2) end
  function own.on_error() error("on_error: the service reports errors itself", 2) end
  return setmetatable(own, { __index = tb })
end

local function print_into(self)
  return function(...)
    local texts = table.pack(...)
    for i = 1, texts.n do texts[i] = tostring(texts[i]) end
    self.service.log:info("%s: %s", self.name, table.concat(texts, "\t"))
  end
end

-- Its file as a function, with globals of its own.
local function read(self, own_library)
  local about, reason = process.stat(self.path)
  if not about then return nil, reason end
  self.changed = about.changed
  if about.type ~= "file" then return nil, self.path .. ": not a regular file" end -- to open a pipe would block
  if about.mode & WRITABLE_BY_OTHERS ~= 0 then return nil, "every user can write to it; chmod o-w it" end
  return loadfile(self.path, "t", environment.new(own_library, self.guard, print_into(self)))
end

-- Runs it until it fails. Returns why.
local function run(self)
  local weak = { __mode = "k" }
  self.tasks, self.ending = setmetatable({}, weak), setmetatable({}, weak)
  self.handles, self.devices = {}, setmetatable({}, weak)
  self.guard = guard.new(self.service.loop)
  self.failure:lower()
  self.why = nil
  local own_library = library(self)
  local chunk, reason = read(self, own_library)
  if not chunk then return reason end
  self.state = "running"
  self:spawn(chunk, own_library, self.service:device_for(self), self.options)
  self.service.loop:wait(self.failure)
  return self.why
end

-- Ends all that it has started.
local function clear(self)
  local tasks = self.tasks or {}
  self.tasks = nil
  for task in next, tasks do
    if not task:is_running() then task:cancel() end
  end
  if self.guard then self.guard:condemn "the script has been stopped" end -- what waits within a coroutine of its own
  for _, handle in ipairs(self.handles or {}) do handle:close() end
  for device in next, self.devices or {} do device:close() end
  self.service.rpc:remove(self)
  self.service:remove_update_handler(self)
end

--- Starts it, and restarts it whenever it fails, after growing pauses.
function script:start()
  local loop = self.service.loop
  self.supervisor = loop:spawn_background(function()
    local pause = backoff.new(patience.first_pause, patience.longest_pause)
    while true do
      local from = core.monotonic()
      local why = run(self)
      clear(self)
      self.state, self.restarts = "failed", self.restarts + 1
      self.service.log:error("%s failed, and is started again: %s", self.name, why)
      if core.monotonic() - from > RAN_WELL then pause:reset() end
      loop:sleep(pause:next())
    end
  end)
end

--- Ends it, with all that it has in flight.
function script:stop()
  self.supervisor:cancel()
  clear(self)
  self.state = "stopped"
end

--- Whether a handler of a signal still runs.
function script:is_ending()
  for task in next, self.ending or {} do
    if not task:done() then return true end
  end
  return false
end

return script
