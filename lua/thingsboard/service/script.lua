--- One device script of the service: its tasks, its registered handlers, its failures.
-- @module thingsboard.service.script
local backoff = require "thingsboard.http.backoff"
local core = require "thingsboard.core"
local patience = require "thingsboard.service.patience"
local process = require "thingsboard.process"
local tb = require "thingsboard"

local script = {}
script.__index = script

local BLOCKED <const>, STUCK <const> = 1, 10 -- seconds without letting others go on: told; ended as a failure
-- Instructions of Lua. The counting halves the speed of a script that computes; one that waits is not affected.
local LOOK_EVERY <const> = 1000000
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
    ending = nil, -- the set of those that run handlers of signals
    handles = nil, -- of its handlers of signals
    devices = nil, -- that it has made itself
    failure = service.loop:signal(),
    why = nil, -- it has failed
  }, script)
end

-- A task has run until it waits or ends: long without letting others go on?
local function note_time(self, task)
  local took = core.monotonic() - task.resumed_at
  if took >= BLOCKED then
    self.service.log:warning("%s: it blocked everything for %.1f s; use tb.sleep, and start programs in the background",
      self.name, took)
  end
end

local function suspend(task)
  note_time(task.script, task)
  coroutine.yield()
  task.resumed_at = core.monotonic()
end

local function finish(task, ...)
  note_time(task.script, task)
  return ...
end

--- Starts a task that ends with the script. An error in it is the script's failure.
function script:spawn(body, ...)
  if not self.tasks then error("the script has been stopped", 2) end
  local loop, task = self.service.loop, nil
  task = loop:spawn(function(...)
    task.resumed_at = core.monotonic()
    return finish(task, body(...))
  end, ...)
  task.script, task.resumed_at, task.suspend = self, core.monotonic(), suspend
  debug.sethook(task.thread, function()
    if core.monotonic() - task.resumed_at > STUCK then
      error(("it blocked everything for more than %d s"):format(STUCK), 2)
    end
  end, "", LOOK_EVERY)
  self.tasks[task] = true
  return task
end

--- A task of it has failed.
-- @tparam string why with the traceback
function script:failed(why)
  self.why = self.why or why
  self.failure:raise()
end

-- The library as the script sees it: what it starts ends with it.
local function library(self)
  local own = {}
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

-- The script's globals are its own; what it prints goes to the log.
local function environment(self)
  local own = setmetatable({}, { __index = _G })
  own._G = own
  own.os = setmetatable({ exit = function() error("os.exit: a script ends by itself alone", 2) end }, { __index = os })
  function own.print(...)
    local texts = table.pack(...)
    for i = 1, texts.n do texts[i] = tostring(texts[i]) end
    self.service.log:info("%s: %s", self.name, table.concat(texts, "\t"))
  end
  return own
end

local function read(self)
  local about, reason = process.stat(self.path)
  if not about then return nil, reason end
  self.changed = about.changed
  if about.mode & WRITABLE_BY_OTHERS ~= 0 then return nil, "every user can write to it; chmod o-w it" end
  return loadfile(self.path, "t", environment(self))
end

-- Runs it until it fails. Returns why.
local function run(self)
  local weak = { __mode = "k" }
  self.tasks, self.ending = setmetatable({}, weak), setmetatable({}, weak)
  self.handles, self.devices = {}, setmetatable({}, weak)
  self.failure:lower()
  self.why = nil
  local chunk, reason = read(self)
  if not chunk then return reason end
  self.state = "running"
  local main = self:spawn(chunk, library(self), self.service:device_for(self), self.options)
  main.main = true
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
