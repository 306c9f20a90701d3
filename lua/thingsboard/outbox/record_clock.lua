--- Whether the wall's clock can be believed, and times that no step of it disorders.
-- @module thingsboard.outbox.record_clock
local core = require "thingsboard.core"

local clock = {}
clock.__index = clock

local TRUSTED_FROM = 1735689600000 -- 2025: a device without a clock of its own starts long before
-- Times that are found from before may lie ahead, when many came at once; what lies further ahead is another's word.
local MOST_AHEAD = 60 * 1000

local told -- by the script; nil: the year decides
local clocks = setmetatable({}, { __mode = "k" }) -- a set

local tell

--- Says, or tells, whether the clock is known.
-- @tparam ?boolean known
-- @treturn boolean
function clock.known(known)
  if known ~= nil then
    told = known
    for one in next, clocks do tell(one) end
  end
  if told ~= nil then return told end
  return core.now() >= TRUSTED_FROM
end

function tell(self)
  self.spool:set_clock_policy(told, TRUSTED_FROM, self.learnt)
end

--- Sees to the times that a spool gives to records.
-- @tparam userdata spool
function clock.new(spool)
  local self = setmetatable({ spool = spool }, clock)
  clocks[self] = true
  tell(self)
  return self
end

--- Learns from a server what time it is, good to a second.
-- @tparam string date of HTTP, `Tue, 24 Nov 2026 23:04:33 GMT`
-- @tparam integer uptime milliseconds since the system's start
function clock:learn(date, uptime)
  local day, name, year, hour, minute, second = date:match("^%a+, (%d+) (%a+) (%d+) (%d+):(%d+):(%d+) GMT$")
  local month = name and ("JanFebMarAprMayJunJulAugSepOctNovDec"):find(name, 1, true)
  if not month or month % 3 ~= 1 then return end
  month = month // 3 + 1
  -- Days since 1970 by the calendar of years that begin in March.
  local y, m = tonumber(year), (month + 9) % 12
  if month <= 2 then y = y - 1 end
  local days = 365 * y + y // 4 - y // 100 + y // 400 + (153 * m + 2) // 5 + tonumber(day) - 719469
  local seconds = ((days * 24 + tonumber(hour)) * 60 + tonumber(minute)) * 60 + tonumber(second)
  self.learnt = seconds * 1000 - uptime
  tell(self)
end

--- What has to be added to the time since the system's start; nil when nobody knows.
-- @treturn ?integer milliseconds
function clock:offset_now()
  return self.spool:offset()
end

--- Goes on behind a time that was given before, unless that lies too far ahead to have been.
-- @tparam integer time milliseconds
-- @tparam[opt=60000] ?integer most milliseconds that it may lie ahead
function clock:follow(time, most)
  self.spool:follow(time, most or MOST_AHEAD)
end

--- The last time given, when it is later than the true one: more were asked for than there were milliseconds, or the
-- clock was stepped back.
-- @treturn ?integer milliseconds since 1970
function clock:ahead()
  return self.spool:ahead()
end

return clock
