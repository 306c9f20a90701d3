--- Learns how much the server accepts: how often, if no budget is given, and how large a post. Additive increase,
-- multiplicative decrease.
-- @module thingsboard.outbox.pace
local pace = {}
pace.__index = pace

local FIRST_RATE = 20 -- posts a second: the first refusal halves this
local SLOWEST = 0.1 -- posts a second: what is put meanwhile must not wait for long behind what is refused
local FREE_RATE = 100 -- posts a second that are as good as no limit
local RATE_STEP = 1 -- posts a second, for every post that passes
local POINTS_STEP = 4 -- points of a post, for every post that passes
local BYTES_STEPS = 64 -- posts that pass, until one is as large again as one that was too large
-- Refusals of what was posted, in a row, that do not slow down: a search among ten thousand records meets not more.
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
    proved = false, -- what was refused has passed later: there is a limit indeed
  }, pace)
end

local function wait(self, now)
  self.next_at = now + (0.5 + math.random() / 2) / self.rate
end

--- A post was refused.
-- @tparam number now seconds of the monotonic clock
-- @tparam integer points of the post; 0 where it was not refused for them
-- @tparam ?boolean for_itself whether the server says that it refuses what was posted
-- @treturn boolean whether that may be a limit: the pace has shrunk
function pace:refused(now, points, for_itself)
  self.in_row = self.in_row + 1
  if for_itself then -- no limit: slower all the same, where a server refuses everything
    if self.in_row > EXCUSED then
      self.rate = math.min(self.rate, FIRST_RATE / 2)
      wait(self, now)
    end
    return false
  end
  if points > 0 then self.points = math.max(1, math.min(self.points, points) // 2) end
  self.rate = math.max(1 / self.longest, SLOWEST, math.min(self.rate, FIRST_RATE) / 2)
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
  if self.points == math.huge and self.rate == math.huge then self.proved = false end
  wait(self, now)
end

--- What has been refused before has passed: there is a limit.
function pace:prove()
  self.proved = true
end

--- What was found.
-- @treturn ?table `points` of a post and `posts` a second, each absent where there is no limit; nil where there is none
-- at all
function pace:found()
  if not self.proved then return nil end
  return { points = self.points < math.huge and self.points or nil, posts = self.rate < math.huge and self.rate or nil }
end

return pace
