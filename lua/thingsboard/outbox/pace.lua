--- Learns how much the server accepts: how often, if no budget is given, and how large a post. Additive increase,
-- multiplicative decrease. Slower posts help against a limit, and not where the server fails now and then, however
-- rarely it is asked. So refusals without words slow down only in a row, and not much until they are many in a row.
-- @module thingsboard.outbox.pace
local pace = {}
pace.__index = pace

local FIRST_RATE = 20 -- posts a second: the first refusal halves this
local SLOWEST = 0.1 -- posts a second: what is put meanwhile must not wait for long behind what is refused
local SLOW = 2 -- posts a second: slow enough for refusals that are not many in a row, and may be no limit's
local FREE_RATE = 100 -- posts a second that are as good as no limit
local RATE_STEP = 1 -- posts a second, for every post that passes
local POINTS_STEP = 4 -- points of a post, for every post that passes
local BYTES_STEPS = 64 -- posts that pass, until one is as large again as one that was too large
-- Refusals in a row that do not slow down where what was posted is refused, or not below SLOW where no cause is told:
-- a search among ten thousand records meets not more.
local EXCUSED = 16

--- A pace without any limit.
-- @tparam number longest seconds between two posts, at most
function pace.new(longest)
  return setmetatable({
    longest = longest,
    points = math.huge, -- of a post, at most
    bytes = math.huge, -- likewise
    bytes_step = 0, -- for every post that passes
    rate = math.huge, -- posts a second
    in_row = 0, -- refusals
    next_at = 0, -- when the next post may go, seconds of the monotonic clock
    proved = false, -- what was refused has passed later: there is a limit indeed, or the server fails now and then
    unchanged = false, -- it has passed as it was
  }, pace)
end

local function wait(self, now)
  self.next_at = now + (0.5 + math.random() / 2) / self.rate
end

--- A post was refused.
-- @tparam number now seconds of the monotonic clock
-- @tparam integer points of the post; 0 where it was not refused for them
-- @tparam ?string cause nil: a limit; `itself`: the server says that it refuses what was posted; `unclear`: it says
-- nothing. Then the first in a row may be an accident, and the second, too, where what was refused has passed unchanged
-- @treturn boolean whether it may be a limit
function pace:refused(now, points, cause)
  self.in_row = self.in_row + 1
  if cause == "itself" then -- slower all the same, where a server refuses everything
    if self.in_row > EXCUSED then
      self.rate = math.min(self.rate, FIRST_RATE / 2)
      wait(self, now)
    end
    return false
  end
  local is_unclear = cause == "unclear"
  if not is_unclear or self.in_row > (self.unchanged and 2 or 1) then
    if points > 0 then self.points = math.max(1, math.min(self.points, points) // 2) end
    local least = is_unclear and self.in_row <= EXCUSED and math.min(SLOW, self.rate)
      or math.max(1 / self.longest, SLOWEST)
    self.rate = math.max(least, math.min(self.rate, FIRST_RATE) / 2)
  end
  wait(self, now)
  return true
end

--- A post was too large.
-- @tparam integer bytes of the post
function pace:too_large(bytes)
  self.bytes = math.max(1, bytes // 2)
  self.bytes_step = math.max(1, self.bytes // BYTES_STEPS)
end

--- A post has passed.
-- @tparam number now seconds of the monotonic clock
-- @tparam table most `points` and `bytes` of a post, by the options
function pace:passed(now, most)
  self.in_row = 0
  self.points = self.points + POINTS_STEP
  self.bytes = self.bytes + self.bytes_step
  self.rate = self.rate + RATE_STEP
  if self.points >= most.points then self.points = math.huge end
  if self.bytes >= most.bytes then self.bytes = math.huge end
  if self.rate >= FREE_RATE then self.rate = math.huge end
  if self.points == math.huge and self.rate == math.huge then self.proved, self.unchanged = false, false end
  wait(self, now)
end

--- What has been refused before has passed: there is a limit, or it was an accident.
-- @tparam ?boolean unchanged it has passed as it was, not in parts
function pace:prove(unchanged)
  self.proved, self.unchanged = true, self.unchanged or unchanged
end

--- What was found.
-- @treturn ?table `points` of a post and `posts` a second, each absent where there is no limit; nil where there is none
-- at all
function pace:found()
  if not self.proved then return nil end
  return { points = self.points < math.huge and self.points or nil, posts = self.rate < math.huge and self.rate or nil }
end

return pace
