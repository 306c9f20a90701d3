--- Exponential backoff with full jitter, so that a thousand devices do not retry at the same moment.
-- @module thingsboard.http.backoff
local backoff = {}
backoff.__index = backoff

--- @tparam number first the longest first wait, in seconds
-- @tparam number most the longest wait of all, in seconds
function backoff.new(first, most)
  return setmetatable({
    first = first, most = most, ceiling = first,
    least = false, -- the shortest next wait, in seconds; see `thingsboard.http.server`
  }, backoff)
end

--- The next wait: a random time below a ceiling that doubles.
-- @treturn number seconds
function backoff:next()
  local wait = math.random() * self.ceiling
  self.ceiling = math.min(self.most, self.ceiling * 2)
  return wait
end

--- Whether there was no wait since the last success.
function backoff:is_over()
  return self.ceiling == self.first
end

--- Call this after a success: the next wait is below the first ceiling again.
function backoff:reset()
  self.ceiling = self.first
  self.least = false
end

return backoff
