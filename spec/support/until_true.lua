--- Waits until a condition holds, for a minute at most by default: a machine may be busy. Tasks go on meanwhile.
-- @tparam function condition
-- @tparam ?number seconds
-- @return what it returned, which is true; raises in the name of its caller when the time is over
local core = require "thingsboard.core"
local tb = require "thingsboard"

local PATIENCE <const> = 60 -- seconds

return function(condition, seconds)
  local deadline = core.monotonic() + (seconds or PATIENCE)
  repeat
    local value = condition()
    if value then return value end
    tb.sleep(0.05)
  until core.monotonic() > deadline
  error("in vain", 2)
end
