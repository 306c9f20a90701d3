--- Finds the record for which the server refuses a batch: a binary search, one post at a time.
--
-- | state | a batch passes | several records are refused | one record is refused |
-- |---|---|---|---|
-- | idle | idle | searching: their first half is next | idle: found |
-- | searching | searching: half of the rest is next; idle when nothing is left | searching, likewise | idle: found |
--
-- After two refusals in a row a single record is tried next: if it passes, the server works. While it is searching,
-- batches that the search did not ask for change nothing.
--
-- Bad records often lie near each other. So the batch after one that is found has one record, and each that passes
-- doubles the next one, until nothing bounds it: where every third record is bad, that takes four posts for each.
-- @module thingsboard.outbox.bisect
local bisect = {}
bisect.__index = bisect

local LARGE = 4096 -- records: a batch that passes with as many has no bound any more

function bisect.new()
  return setmetatable({
    first = nil, last = nil, -- where the record is, while searching
    records = nil, -- how many of these to try next
    in_row = 0, -- refusals since a batch passed
    most = math.huge, -- records of a batch, at most
  }, bisect)
end

--- What to try next.
-- @treturn ?integer number of the first record; nil when idle
-- @treturn ?integer number of the last
-- @treturn ?integer how many of them at most, from the first on
function bisect:next()
  return self.first, self.last, self.records
end

--- How many records a batch may have that the search does not ask for.
-- @treturn number
function bisect:room()
  return self.most
end

--- Ends the search.
function bisect:stop()
  self.first, self.last, self.records = nil, nil, nil
end

local function covers(self, first, last)
  return not self.first or first >= self.first and last <= self.last
end

--- A batch has passed.
-- @tparam integer first number of its first record
-- @tparam integer last
-- @tparam integer records how many there are
-- @treturn boolean whether all that was refused has passed since: it was no record's fault
function bisect:passed(first, last, records)
  self.in_row = 0
  if records >= self.most then self.most = records < LARGE and 2 * records or math.huge end
  if not self.first or last < self.first or first > self.last then return false end
  self.first = last + 1
  if self.first > self.last then
    self:stop()
    return true
  end
  self.records = math.max(1, (self.last - self.first + 1) // 2)
  return false
end

--- A batch was refused.
-- @tparam integer first number of its first record
-- @tparam integer last
-- @tparam integer records how many there are
-- @treturn boolean whether that is one record, which is found by that
function bisect:refused(first, last, records)
  if not covers(self, first, last) then return records == 1 end
  if records == 1 then
    self:stop()
    self.most = 1
    return true
  end
  self.in_row = self.in_row + 1
  self.first, self.last, self.records = first, last, self.in_row > 1 and 1 or records // 2
  return false
end

return bisect
