--- Whether the wall's clock can be believed, and times that no step of it disorders.
-- @module thingsboard.clock
local core = require "thingsboard.core"

local clock = {}
clock.__index = clock

local TRUSTED_FROM = 1735689600000 -- 2025: a device without a clock of its own starts long before
-- A step back by more than this was no correction: what the clock said before it was wrong.
local LONGEST_STEP = 7 * 24 * 3600 * 1000
-- Times that are found from before may lie ahead, when many came at once; what lies further ahead is another's word.
local MOST_AHEAD = 60 * 1000

local told -- by the script; nil: the year decides

--- Says, or tells, whether the clock is known.
-- @tparam ?boolean known
-- @treturn boolean
function clock.known(known)
  if known ~= nil then told = known end
  if told ~= nil then return told end
  return core.now() >= TRUSTED_FROM
end

--- A maker of times, each later than the one before.
-- @tparam function times milliseconds since the system's start, and since 1970
function clock.new(times)
  return setmetatable({ times = times }, clock)
end

--- Learns from a server what time it is, good to a second.
-- @tparam string date of HTTP, `Tue, 24 Nov 2026 23:04:33 GMT`
function clock:learn(date)
  local day, name, year, hour, minute, second = date:match("^%a+, (%d+) (%a+) (%d+) (%d+):(%d+):(%d+) GMT$")
  local month = name and ("JanFebMarAprMayJunJulAugSepOctNovDec"):find(name, 1, true)
  if not month or month % 3 ~= 1 then return end
  month = month // 3 + 1
  -- Days since 1970 by the calendar of years that begin in March.
  local y, m = tonumber(year), (month + 9) % 12
  if month <= 2 then y = y - 1 end
  local days = 365 * y + y // 4 - y // 100 + y // 400 + (153 * m + 2) // 5 + tonumber(day) - 719469
  local seconds = ((days * 24 + tonumber(hour)) * 60 + tonumber(minute)) * 60 + tonumber(second)
  self.learnt = seconds * 1000 - self.times()
end

-- What has to be added to the time since the system's start; nil when nobody knows.
local function offset_of(self, up, now)
  local known = told
  if known == nil then known = now >= TRUSTED_FROM end
  if known then return now - up end
  return self.learnt
end

--- What has to be added to the time since the system's start; nil when nobody knows.
-- @treturn ?integer milliseconds
function clock:offset_now()
  return offset_of(self, self.times())
end

--- The next time: never before the last, nor the same. After a step back of the clock it runs at half speed until the
-- clock has come up with it, so that order and spacing stay.
-- @treturn integer milliseconds since 1970, or since the system's start
-- @treturn boolean whether it is the latter: nobody knows the time
function clock:next()
  local up, wall = self.times()
  local offset = offset_of(self, up, wall)
  local now, last = up + (offset or 0), self.last
  if offset and self.undated then -- what came before the time was known has it now, too
    last, self.undated = last + offset, false
  elseif not offset and not self.undated then
    last, self.undated = nil, true
  end
  if last and last >= now and last - now <= LONGEST_STEP then
    local passed = (up - self.last_up) // 2
    now = passed > 1 and last + passed or last + 1
  end
  self.last, self.last_up = now, up
  return now, not offset
end

--- Goes on behind a time that was given before, unless that lies too far ahead to have been.
-- @tparam integer time milliseconds
-- @tparam[opt=60000] ?integer most milliseconds that it may lie ahead
function clock:follow(time, most)
  local up, wall = self.times()
  local offset = offset_of(self, up, wall)
  if not offset or self.undated or time - up - offset > (most or MOST_AHEAD) then return end
  if time <= (self.last or up + offset) then return end
  self.last, self.last_up, self.undated = time, up, false
end

--- The last time given, when it is later than the true one: more were asked for than there were milliseconds, or the
-- clock was stepped back.
-- @treturn ?integer milliseconds since 1970
function clock:ahead()
  if self.undated or not self.last then return end
  local up, wall = self.times()
  local offset = offset_of(self, up, wall)
  if offset and self.last > up + offset then return self.last end
end

--- Takes more times, a millisecond each, from the last on.
function clock:skip(count)
  self.last = self.last + count
end

return clock
