--- Exponential backoff with full jitter, so that a thousand devices do not retry at the same moment.
-- @module thingsboard.http.backoff
local backoff = {}
backoff.__index = backoff

--- @tparam number first seconds that the first wait takes at most
-- @tparam number most seconds that any wait takes at most
function backoff.new(first, most)
  return setmetatable({
    first = first, most = most, ceiling = first,
    least = false, -- seconds that the next wait takes at least; see `thingsboard.http.server`
  }, backoff)
end

--- The next wait: a random time below a ceiling that doubles.
-- @treturn number seconds
function backoff:next()
  local wait = math.random() * self.ceiling
  self.ceiling = math.min(self.most, self.ceiling * 2)
  return wait
end

--- To be called after a success: begins again with the first ceiling.
function backoff:reset()
  self.ceiling = self.first
  self.least = false
end

return backoff
