--- Waits until a condition holds, for 15 seconds at most; tasks go on meanwhile.
-- @tparam function condition
-- @return what it returned, which is true; raises in the name of its caller when the time is over
local tb = require "thingsboard"

local PATIENCE <const> = 15000 -- milliseconds

return function(condition)
  local deadline = tb.now() + PATIENCE
  repeat
    local value = condition()
    if value then return value end
    tb.sleep(0.05)
  until tb.now() > deadline
  error("in vain", 2)
end
