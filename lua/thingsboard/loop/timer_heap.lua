--- A binary heap of tasks, ordered by the time at which they are due. The next one is at index 1.
-- @module thingsboard.loop.timer_heap
local timers = {}
timers.__index = timers

--- An empty heap.
function timers.new()
  return setmetatable({ n = 0 }, timers)
end

--- Adds an entry.
-- @tparam table entry with `at`, seconds of the monotonic clock
function timers:add(entry)
  local at = self.n + 1
  self[at] = entry -- before anything else changes: this may run out of memory
  self.n = at
  while at > 1 do
    local parent = at // 2
    if self[parent].at <= entry.at then break end
    self[at] = self[parent]
    at = parent
  end
  self[at] = entry
end

--- Removes the entry that is due next.
function timers:remove_first()
  local n = self.n
  local last = self[n]
  self[n] = nil
  n = n - 1
  self.n = n
  if n == 0 then return end
  local at = 1
  while true do
    local child = at * 2
    if child > n then break end
    if child < n and self[child + 1].at < self[child].at then child = child + 1 end
    if self[child].at >= last.at then break end
    self[at] = self[child]
    at = child
  end
  self[at] = last
end

return timers
