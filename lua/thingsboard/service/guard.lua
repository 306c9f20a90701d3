--- Ends a script that lets nobody else go on, whatever it does: loops, catches errors, resumes coroutines of its own.
--
-- A hook looks at the clock after so many instructions of Lua. Once the script has run for too long, the hook raises
-- an error, and again at every further instruction of the script's, until it has left all of its functions. Code in C,
-- such as `os.execute`, cannot be interrupted.
-- @module thingsboard.service.guard
local core = require "thingsboard.core"
local watcher = require "thingsboard.loop.watcher"

local guard = {}
guard.__index = guard

local STUCK <const> = 10 -- seconds without letting others go on
-- Instructions of Lua. The counting halves the speed of a script that computes; one that waits is not affected.
local LOOK_EVERY <const> = 1000000

--- A guard of one run of a script.
-- @tparam table loop
function guard.new(loop)
  local self = setmetatable({
    watcher = watcher.of(loop),
    threads = setmetatable({}, { __mode = "k" }), -- the set of the script's
    began = nil, -- when the loop gave control to the script
    steps = nil, -- of the loop until then: a script that steps the loop within a coroutine of its own blocks nobody
    why = nil, -- it is being ended
  }, guard)
  self.hook = function() self:look() end
  return self
end

--- A guard for what runs after the script has been ended: finalizers.
function guard:afresh()
  return guard.new(self.watcher.loop)
end

--- The loop has given control to the script.
function guard:begin_turn()
  self.began, self.steps = core.monotonic(), self.watcher.steps
end

--- How long the script has had control without the loop taking a step.
-- @treturn number seconds
function guard:turn()
  if self.watcher.steps ~= self.steps then self:begin_turn() end
  return core.monotonic() - self.began
end

-- The hook: called in a thread of the script.
function guard:look()
  if not self.why and self:turn() > STUCK then
    self:condemn(("it blocked everything for more than %d s"):format(STUCK))
  end
  if self.why then error(self.why, 3) end
end

--- Watches a thread of the script.
-- @tparam thread thread
function guard:watch(thread)
  self.threads[thread] = true
  debug.sethook(thread, self.hook, "", self.why and 1 or LOOK_EVERY)
end

--- Raises an error at every instruction of the script from now on.
-- @tparam string why
function guard:condemn(why)
  self.why = why
  for thread in next, self.threads do debug.sethook(thread, self.hook, "", 1) end
end

return guard
