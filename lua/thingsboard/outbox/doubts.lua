--- Records and attributes that the server has refused alone. Decides when they are tried again, and when it is proved
-- that the server refuses them and nothing else.
--
-- A server that is busy or limits rates answers 500 like one that is sent a bad value, so a refusal proves nothing by
-- itself. A trial is three posts in a row: a sample of what has passed, of the same kind and at least the same size;
-- what is in doubt, alone; the sample again. It counts when both samples pass. Four trials in a row that count are a
-- proof, and before the last of them a minute or more has passed. While nothing else is refused they are 2, 4, 8 and 65
-- seconds apart. Once anything else is refused, or the server is out of reach, they begin anew, a minute apart, then
-- two, up to fifteen. Until there is a sample, what is in doubt is tried without.
-- @module thingsboard.outbox.doubts
local doubts = {}
doubts.__index = doubts

--- Seconds before each of the trials that are a proof together.
doubts.waits = { 2, 4, 8, 65 }
--- Seconds between trials when something else was refused meanwhile: at first, and at most.
doubts.doubtful_wait, doubts.longest_wait = 60, 900

-- A sample is repeated until it is large enough, but not more often.
local MOST_COPIES = 1000

--- @tparam number first seconds before the first try without a sample
-- @tparam number longest seconds between two of these at most
function doubts.new(first, longest)
  return setmetatable({
    first = first, longest = longest,
    entries = {}, -- see `add`
    samples = {}, -- what has passed, by kind
    trial = nil, -- the entry that is on trial
    step = nil, -- the post of the trial that is next: `alone`, `before`, `itself`, `after`
  }, doubts)
end

--- Adds what was refused alone.
-- @tparam string kind `records` or `attributes`
-- @param id number of the record, or key of the attribute
-- @tparam integer points
-- @tparam integer bytes
-- @tparam boolean any_size whether the size of the sample does not matter: it was too large
-- @tparam string said the server's words
-- @tparam number now seconds of the monotonic clock
-- @treturn table its entry
function doubts:add(kind, id, points, bytes, any_size, said, now)
  local entry = {
    kind = kind, id = id, points = points, bytes = bytes, any_size = any_size, said = said,
    wait = self.first, due = now + self.first, -- before the next try
    counted = 0, -- trials in a row that count
    disturbed = false, -- something else was refused since its first trial
  }
  table.insert(self.entries, entry)
  return entry
end

--- Keeps a sample of what has passed.
-- @tparam string kind
-- @tparam table sample `text` of the records between the brackets of a list, or of an object of attributes; `records`,
-- `points`, `bytes`
function doubts:keep_sample(kind, sample)
  local kept = self.samples[kind]
  if not kept or sample.bytes <= kept.bytes then self.samples[kind] = sample end
end

--- Forgets a sample.
function doubts:drop_sample(kind)
  self.samples[kind] = nil
end

-- How many copies of the sample are as large as an entry; nil where that cannot be.
local function copies(self, entry)
  local sample = self.samples[entry.kind]
  if not sample then return nil end
  if entry.any_size or entry.kind == "attributes" then return 1 end
  local count = math.max(math.ceil(entry.points / sample.points), math.ceil(entry.bytes / sample.bytes))
  return count <= MOST_COPIES and count or nil
end

--- The sample for the entry on trial.
-- @treturn string its body
-- @treturn integer its points
function doubts:control()
  local sample, count = self.samples[self.trial.kind], copies(self, self.trial)
  if self.trial.kind == "attributes" or count * sample.records == 1 then return sample.text, sample.points end
  return "[" .. sample.text .. ("," .. sample.text):rep(count - 1) .. "]", sample.points * count
end

--- What to post next.
-- @tparam number now seconds of the monotonic clock
-- @treturn ?table an entry; nil when nothing is due
-- @treturn ?string `before` or `after`: its control; `alone` or `itself`: what is in doubt
function doubts:next(now)
  if not self.trial then
    for _, entry in ipairs(self.entries) do
      if entry.due <= now and (not self.trial or entry.due < self.trial.due) then self.trial = entry end
    end
    if self.trial then self.step = copies(self, self.trial) and "before" or "alone" end
  end
  return self.trial, self.step
end

--- When something is due.
-- @treturn ?number seconds of the monotonic clock
function doubts:due()
  local at = self.trial and 0 or nil
  for _, entry in ipairs(self.entries) do at = math.min(at or entry.due, entry.due) end
  return at
end

--- Takes out what is not in doubt any more.
function doubts:remove(entry)
  for i, one in ipairs(self.entries) do
    if one == entry then
      table.remove(self.entries, i)
      break
    end
  end
  if self.trial == entry then self.trial, self.step = nil, nil end
end

--- Forgets all of a kind.
function doubts:forget(kind)
  for i = #self.entries, 1, -1 do
    if self.entries[i].kind == kind then self:remove(self.entries[i]) end
  end
end

-- Ends a trial; the next one of its entry comes after a while.
local function finish(self, wait, now)
  local entry = self.trial
  entry.wait, entry.due = wait, now + wait
  self.trial, self.step = nil, nil
end

local function wait_in_doubt(entry)
  entry.counted = 0
  local wait = entry.disturbed and entry.wait * 2 or doubts.doubtful_wait
  entry.disturbed = true
  return math.min(wait, doubts.longest_wait)
end

--- The post that `next` asked for has passed.
-- @tparam number now seconds of the monotonic clock
-- @treturn ?string `passed`: what was in doubt has passed; `proved`: the server refuses it, and nothing else
function doubts:passed(now)
  local entry, step = self.trial, self.step
  if step == "before" then
    self.step = "itself"
  elseif step == "after" then
    entry.counted = entry.counted + 1
    if entry.counted >= #doubts.waits then return "proved" end
    finish(self, entry.disturbed and entry.wait or doubts.waits[entry.counted + 1], now)
  else
    self:remove(entry)
    return "passed"
  end
end

--- The post that `next` asked for was refused.
-- @tparam number now seconds of the monotonic clock
-- @tparam string said the server's words
-- @tparam boolean may_count whether these do not speak of a limit
function doubts:refused(now, said, may_count)
  local entry, step = self.trial, self.step
  if step == "itself" and may_count then
    entry.said = said
    self.step = "after"
  elseif step == "alone" and copies(self, entry) then
    finish(self, doubts.waits[1], now)
  elseif step == "alone" then
    finish(self, math.min(entry.wait * 2, self.longest), now)
  else
    finish(self, wait_in_doubt(entry), now)
  end
end

--- Something else was refused, or the server is out of reach: trials begin anew.
-- @tparam number now seconds of the monotonic clock
function doubts:disturb(now)
  if self.trial then finish(self, self.trial.wait, now) end
  for _, entry in ipairs(self.entries) do
    if entry.counted > 0 or entry.disturbed then
      entry.counted, entry.disturbed = 0, true
      entry.wait = math.max(entry.wait, doubts.doubtful_wait)
      entry.due = now + entry.wait
    end
  end
end

--- The server is there again: what has not been on trial yet is tried at once.
-- @tparam number now seconds of the monotonic clock
function doubts:hurry(now)
  for _, entry in ipairs(self.entries) do
    if entry.counted == 0 and not entry.disturbed and not copies(self, entry) then entry.due = now end
  end
end

return doubts
