--- Records and attributes that the server has refused alone. Decides when they are tried again, and when it is proved
-- that the server refuses them and nothing else.
--
-- A server that is busy or limits rates answers 500 like one that is sent a bad value, so a refusal proves nothing by
-- itself. A trial is three posts in a row: a sample, of the same kind and at least the same size; what is in doubt,
-- alone; the sample again. It counts when both samples pass. Four trials in a row that count are a proof, and before
-- the last of them a minute or more has passed: they are 2, 4, 8 and 65 seconds apart. Once anything else is refused,
-- or the server is out of reach, they begin anew, and it takes six. A trial that does not count doubles the wait for
-- the next one, up to a quarter of an hour. The sample after one trial is the sample before the next one, where nothing
-- else is posted between them. Before every other trial the sample has to pass twice: else a server that refuses each
-- third post, whatever it is, could refuse the same one of the three each time. When the sample before is refused,
-- what is in doubt is posted all the same: it may pass.
--
-- The sample for a record is a record that has passed, with spaces behind it, or a list of such: to send them again
-- changes nothing, for they have times of their own. Until there are any, a record is tried without. An outbox that is
-- full of bad records, and refuses others, never gets any; so after ten minutes the sample is a record of the outbox's
-- own. The sample for an attribute is an attribute of its own: an older value of another one would come back.
-- @module thingsboard.outbox.doubts
local core = require "thingsboard.core"
local heap = require "thingsboard.loop.timer_heap"

local doubts = {}
doubts.__index = doubts

--- Seconds before each of the trials that are a proof together; and between two trials at most.
doubts.waits, doubts.longest_wait = { 2, 4, 8, 65 }, 900

--- Bytes of a post that is kept as a sample, at most.
doubts.largest_sample = 16 * 1024

-- Trials more, where something else was refused: where a third of all posts is refused at random, which is the worst,
-- four count together once in two thousand times, six once in a hundred thousand.
local MORE_TRIALS = 2

-- A sample is repeated until it is large enough, but not more often.
local MOST_COPIES = 1000

--- @tparam number first seconds before the first try without a sample
-- @tparam number longest seconds between two of these at most
-- @tparam string key of the samples that are the outbox's own, as JSON
function doubts.new(first, longest, key)
  return setmetatable({
    first = first, longest = longest, key = key,
    count = 0, -- how many entries there are, see `add`
    waiting = heap.new(), -- those that have a sample, by when they are due
    alone = heap.new(), -- those that have none
    object = nil, records = nil, -- samples for records, see `keep_sample`
    own = nil, -- the sample for records that is the outbox's own; nil while there is another
    lists = true, -- whether the server takes lists
    trial = nil, -- the entry that is on trial, which is in no heap
    step = nil, -- the post of the trial that is next: `alone`, `before`, `itself`, `after`
    control = nil, -- the sample that was posted last and has passed, `count` times in a row; nil after anything else
    changed = false, -- entries, since the file was told
    disturbances = 0, -- how often something else was refused
  }, doubts)
end

-- The sample for a record that is one itself, if it has points enough.
local function object_for(self, entry)
  return self.object and self.object.points >= entry.points and self.object or nil
end

-- How many copies of the sample are as large as an entry; nil where that cannot be.
local function copies(self, entry)
  if entry.kind == "attributes" or object_for(self, entry) then return 1 end
  local sample = self.records
  if not sample or not self.lists then return nil end
  local count = math.max(1, math.ceil(entry.points / sample.points), math.ceil(entry.bytes / sample.bytes))
  return count <= MOST_COPIES and count or nil
end

local function put(self, entry)
  local entries = copies(self, entry) and self.waiting or self.alone
  entries:add(entry)
end

--- Adds what was refused alone.
-- @tparam string kind `records` or `attributes`
-- @param id number of the record, or key of the attribute
-- @tparam integer points of the sample, at least; 0 where its size does not matter
-- @tparam integer bytes likewise
-- @tparam string said the server's words
-- @tparam number now seconds of the monotonic clock
-- @tparam boolean disturbed something else was refused, too, and has passed later
-- @treturn table its entry
function doubts:add(kind, id, points, bytes, said, now, disturbed)
  return self:take_up({
    kind = kind, id = id, points = points, bytes = bytes, said = said,
    wait = self.first, at = now + self.first, -- before the next try, and when that is due
    counted = 0, -- trials in a row that count
    disturbed = disturbed, -- something else was refused, too
  }, now)
end

--- Takes up an entry that another process has added. The system may have been started again since, but when its uptime
-- has come to that of `at`, the wait is over all the same. No entry waits longer than from now on.
-- @tparam table entry with the fields that `add` gives it
-- @tparam number now seconds of the monotonic clock
-- @treturn table the entry
function doubts:take_up(entry, now)
  entry.at = math.min(entry.at, now + entry.wait)
  entry.seen = self.disturbances -- those that are taken into account
  entry.gone = false -- it is not in doubt any more; its heap drops it when it comes up
  self.count, self.changed = self.count + 1, true
  put(self, entry)
  return entry
end

--- Keeps samples of records that have passed: the smallest, and of single ones that with most points.
-- @tparam table sample `text` of the records between the brackets of a list; `records`, `points`, `bytes`
-- @tparam number now seconds of the monotonic clock
function doubts:keep_sample(sample, now)
  if self.own then self.object, self.records, self.own = nil, nil, nil end
  if not self.records or sample.bytes < self.records.bytes then self.records = sample end
  if sample.records == 1 and (not self.object or sample.points > self.object.points) then self.object = sample end
  if self.records ~= sample and self.object ~= sample or self.alone.n == 0 then return end
  local alone = self.alone
  self.alone = heap.new()
  for i = 1, alone.n do
    local entry = alone[i]
    if copies(self, entry) then entry.at = math.min(entry.at, now) end
    if not entry.gone then put(self, entry) end
  end
end

-- Makes a sample for records where none has passed.
local function make_sample(self, now)
  if self.object or self.records then return end
  local text = ('{"ts":%d,"values":{%s:0}}'):format(core.now(), self.key)
  local own = { text = text, records = 1, points = 1, bytes = #text }
  self:keep_sample(own, now)
  self.own = own
end

local function list(sample, count)
  if count * sample.records == 1 then return sample.text, sample.points end
  return "[" .. sample.text .. ("," .. sample.text):rep(count - 1) .. "]", sample.points * count
end

--- The sample for records.
-- @treturn ?string its body; nil while there is none
-- @treturn ?integer its points
function doubts:sample()
  local sample = self.object or self.lists and self.records
  if sample then return list(sample, 1) end
end

--- The sample for an entry.
-- @tparam table entry that `next` has returned with `before` or `after`
-- @treturn string its body
-- @treturn integer its points
function doubts:sample_for(entry)
  if entry.kind == "records" then
    local object = object_for(self, entry)
    if not object then return list(self.records, copies(self, entry)) end
    return object.text .. (" "):rep(entry.bytes - #object.text), object.points
  end
  local size = math.max(1, entry.bytes - #self.key - 5)
  return ('{%s:"%s"}'):format(self.key, ("x"):rep(size)), 1
end

-- Takes into account what was disturbed since the entry was looked at last.
local function disturb(self, entry)
  entry.seen = self.disturbances
  if entry.counted > 0 then entry.counted, entry.disturbed = 0, true end
end

-- The entry of a heap that is due next.
local function first(self, entries)
  local entry = entries[1]
  while entry and (entry.gone or entry.seen ~= self.disturbances) do
    entries:remove_first()
    if not entry.gone then
      disturb(self, entry)
      entries:add(entry)
    end
    entry = entries[1]
  end
  return entry
end

-- How often in a row the sample for an entry has passed, or one that is large enough, since the entry was due.
local function times_passed(control, entry)
  local counts = control and control.kind == entry.kind and control.at >= entry.at
    and control.points >= entry.points and control.bytes >= entry.bytes
  return counts and control.count or 0
end

local function is_ready(control, entry)
  return times_passed(control, entry) > entry.counted % 2
end

--- What to post next: of the trial that is on, or else of the first that is due.
-- @tparam number now seconds of the monotonic clock
-- @treturn ?table an entry; nil when nothing is due
-- @treturn ?string `before` or `after`: its sample; `alone` or `itself`: what is in doubt
function doubts:next(now)
  if self.trial then return self.trial, self.step end
  local entry = first(self, self.waiting)
  while entry and entry.at <= now and not copies(self, entry) do -- the sample has got too small
    self.waiting:remove_first()
    self.alone:add(entry)
    entry = first(self, self.waiting)
  end
  if entry and entry.at <= now then return entry, is_ready(self.control, entry) and "itself" or "before" end
  entry = first(self, self.alone)
  if entry and entry.at <= now then return entry, "alone" end
end

--- When something is due.
-- @treturn ?number seconds of the monotonic clock
function doubts:due()
  if self.trial then return 0 end
  local waiting, alone = first(self, self.waiting), first(self, self.alone)
  if waiting and alone then return math.min(waiting.at, alone.at) end
  return waiting and waiting.at or alone and alone.at
end

--- Anything is posted.
-- @tparam table post where `next` has asked for it, it has its entry as `doubt` and its `step`
function doubts:posted(post)
  if not post.doubt then
    self.control = nil
  elseif not self.trial then
    self.trial, self.step = post.doubt, post.step
    local entries = post.step == "alone" and self.alone or self.waiting
    entries:remove_first()
  end
end

--- Takes out what is not in doubt any more.
function doubts:remove(entry)
  if entry.gone then return end
  entry.gone = true
  self.count, self.changed = self.count - 1, true
  if self.trial == entry then self.trial, self.step = nil, nil end
end

--- All entries.
-- @treturn table a list
function doubts:list()
  local found = { self.trial }
  for _, name in ipairs { "waiting", "alone" } do
    local entries = heap.new()
    for i = 1, self[name].n do
      local entry = self[name][i]
      if not entry.gone then
        if entry.seen ~= self.disturbances then disturb(self, entry) end
        entries:add(entry)
        found[#found + 1] = entry
      end
    end
    self[name] = entries
  end
  return found
end

--- Forgets all of a kind.
function doubts:forget(kind)
  for _, entry in ipairs(self:list()) do
    if entry.kind == kind then self:remove(entry) end
  end
end

-- Ends a trial; the next one of its entry comes after a while.
local function finish(self, wait, now)
  local entry = self.trial
  entry.wait, entry.at, entry.seen = wait, now + wait, self.disturbances
  self.trial, self.step = nil, nil
  self.changed = true
  put(self, entry)
end

--- Whether there are entries without a sample, so that the next post should be one.
-- @treturn boolean
function doubts:wants_sample()
  return self.alone.n > 0
end

--- The sender begins: what its last run has left of a trial does not count.
-- @tparam number now seconds of the monotonic clock
function doubts:begin(now)
  self.control = nil
  if self.trial then finish(self, self.trial.wait, now) end
end

local function wait_in_doubt(entry)
  entry.counted, entry.disturbed = 0, true
  return math.min(entry.wait * 2, doubts.longest_wait)
end

--- A post of the trial has passed.
-- @tparam table post with its entry as `doubt`, its `points` and `bytes`
-- @tparam number now seconds of the monotonic clock
-- @treturn ?string `passed`: what was in doubt has passed; `proved`: the server refuses it, and nothing else
function doubts:passed(post, now)
  local entry, step = post.doubt, self.step
  if entry ~= self.trial then return nil end
  if step == "before" or step == "after" then
    local count = times_passed(self.control, entry) + 1
    self.control = { kind = entry.kind, points = post.points, bytes = post.bytes, at = now, count = count }
  end
  if step == "before" then
    self.step = is_ready(self.control, entry) and "itself" or "before"
  elseif step == "after" then
    entry.counted = entry.counted + 1
    local following = entry.counted + 1 - (entry.disturbed and MORE_TRIALS or 0)
    if following > #doubts.waits then return "proved" end
    finish(self, doubts.waits[math.max(1, following)], now)
  else
    self.control = nil
    self:remove(entry)
    return "passed"
  end
end

--- A post of the trial was refused.
-- @tparam table post with its entry as `doubt`
-- @tparam number now seconds of the monotonic clock
-- @tparam string said the server's words
-- @tparam boolean may_count whether these do not speak of a limit
function doubts:refused(post, now, said, may_count)
  local entry, step = post.doubt, self.step
  self.control = nil
  if entry ~= self.trial then return end
  if step == "itself" and may_count then
    entry.said = said
    self.step = "after"
  elseif step == "before" and may_count then
    entry.counted, entry.disturbed = 0, true
    self.step = "alone"
  elseif step == "alone" and copies(self, entry) then
    finish(self, entry.disturbed and wait_in_doubt(entry) or doubts.waits[1], now)
  elseif step == "alone" then
    if entry.kind == "records" and entry.wait >= self.longest then make_sample(self, now) end
    finish(self, copies(self, entry) and doubts.waits[1] or math.min(entry.wait * 2, self.longest), now)
  else
    finish(self, wait_in_doubt(entry), now)
  end
end

--- Something else was refused, or the server is out of reach: trials begin anew.
-- @tparam number now seconds of the monotonic clock
function doubts:disturb(now)
  self.disturbances, self.control = self.disturbances + 1, nil
  self.changed = true
  if not self.trial or self.step == "alone" then return end
  local entry = self.trial
  disturb(self, entry)
  finish(self, entry.wait, now)
end

--- The server is there again: what has no sample, and was never on trial, is tried at once.
-- @tparam number now seconds of the monotonic clock
function doubts:hurry(now)
  local entry = first(self, self.alone)
  if entry and entry.counted == 0 and not entry.disturbed then entry.at = math.min(entry.at, now) end
end

return doubts
