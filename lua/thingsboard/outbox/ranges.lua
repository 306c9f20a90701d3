--- A set of record numbers, stored as ranges: the records that no batch may include.
-- @module thingsboard.outbox.ranges
local ranges = {}
ranges.__index = ranges

--- An empty set: a list of `first` and `last`, in order, which neither touch nor overlap.
function ranges.new()
  return setmetatable({}, ranges)
end

-- The index of the first range that ends at a number or after it.
local function find(self, number)
  local low, high = 1, #self + 1
  while low < high do
    local middle = (low + high) // 2
    if self[middle].last < number then low = middle + 1 else high = middle end
  end
  return low
end

--- Adds the numbers from `first` to `last`.
function ranges:add(first, last)
  local at = find(self, first - 1)
  while self[at] and self[at].first <= last + 1 do
    first, last = math.min(first, self[at].first), math.max(last, self[at].last)
    table.remove(self, at)
  end
  table.insert(self, at, { first = first, last = last })
end

--- Takes the numbers from `first` to `last` out.
function ranges:remove(first, last)
  local at = find(self, first)
  while self[at] and self[at].first <= last do
    local range = table.remove(self, at)
    if range.last > last then table.insert(self, at, { first = last + 1, last = range.last }) end
    if range.first < first then
      table.insert(self, at, { first = range.first, last = first - 1 })
      at = at + 1
    end
  end
end

--- The first numbers between two that are not in the set.
-- @treturn integer the first of them
-- @treturn integer the last before the next one that is in the set; less than the first where there are none
function ranges:gap(first, last)
  local at = find(self, first)
  if self[at] and self[at].first <= first then
    first = self[at].last + 1
    at = at + 1
  end
  if self[at] then last = math.min(last, self[at].first - 1) end
  return first, last
end

return ranges
