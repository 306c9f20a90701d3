--- An executable that installs updates. It is called with one of
--
-- - `version`: prints the title and the version of what runs, a line each
-- - `verify FILE`: whether the package in FILE fits this machine
-- - `apply FILE`: installs it; the machine may restart meanwhile
--
-- and ends with 0 for done, 21 for a later try, any other code for a failure, whose reason is the last line that it
-- prints.
-- @module thingsboard.service.handler
local child = require "thingsboard.loop.child"
local errors = require "thingsboard.error"
local loop = require "thingsboard.loop"

local LATER <const> = 21
local ASK_TIMEOUT <const>, VERIFY_TIMEOUT <const>, APPLY_TIMEOUT <const> = 30, 600, 3600 -- seconds
local RESTART_TIMEOUT <const> = 300 -- seconds that a machine may take to go down

local handler = {}
handler.__index = handler

--- @tparam string path
function handler.new(path)
  return setmetatable({ path = path }, handler)
end

local function reason_of(result, what)
  if result.timed_out then return what .. " took too long" end
  if result.signal then return ("%s was ended by signal %d"):format(what, result.signal) end
  local last = result.output:match "([^\n]*%S[^\n]*)%s*$"
  return last or ("%s ended with code %d"):format(what, result.code)
end

-- Runs it. Returns true, or nil or "again" and the reason.
local function run(self, timeout, what, file)
  local result, reason = child.run(loop.default(), { self.path, what, file, timeout = timeout, detached = true })
  if not result then return nil, reason end
  if result.code == 0 and not result.too_long then return true end
  return result.code == LATER and "again" or nil, reason_of(result, what)
end

--- What runs on this machine.
-- @treturn[1] table `title` and `version`
-- @treturn[2] nil
-- @treturn[2] table the error
function handler:current()
  local result, reason = child.run(loop.default(), { self.path, "version", timeout = ASK_TIMEOUT })
  if result and result.code ~= 0 then reason = ("%s version: %s"):format(self.path, reason_of(result, "it")) end
  local title, version
  if not reason then title, version = result.output:match "^([^\n]+)\n([^\n]+)\n?$" end
  if title then return { title = title, version = version } end
  reason = reason or self.path .. " version: it must print a title and a version, a line each"
  return nil, errors.new("file", reason, { retryable = true })
end

--- Installs a package, as `apply` of `device:updates`.
-- @tparam table package
-- @treturn[1] boolean true: the new version runs
-- @treturn[2] string `"again"`
-- @treturn[3] nil
-- @treturn[3] string the reason
function handler:apply(package)
  local ok, reason = run(self, VERIFY_TIMEOUT, "verify", package.path)
  if ok == true then ok, reason = run(self, APPLY_TIMEOUT, "apply", package.path) end
  if ok ~= true then return ok, reason end
  local deadline = RESTART_TIMEOUT
  while true do -- what has been applied may run only once the machine has been restarted, which ends this process
    local current = self:current()
    if current and current.title == package.title and current.version == package.version then return true end
    if deadline <= 0 then
      return nil, current and ("version %s runs, not %s"):format(current.version, package.version)
        or "it is not known which version runs"
    end
    loop.default():sleep(10)
    deadline = deadline - 10
  end
end

return handler
