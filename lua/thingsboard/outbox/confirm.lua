--- Decides when records that were answered 200 are stored, and may leave the file.
--
-- 200 means only that the server has put the records into its queue, in memory; when it stops, the queue is lost. To
-- learn more, the outbox posts markers. A marker is a client attribute whose value counts up. The queue keeps the order
-- of a device's messages, so a marker that can be read back shows that what was posted before it has left the queue.
-- It may be about to be stored still; so it counts as stored once a second marker, posted after the first was read, can
-- be read as well.
--
-- A marker shows nothing of records that were posted before a restart: they were in the old process's queue, and it is
-- in the new one's. So between a record and its second marker there must be no sign of a restart, which
-- `thingsboard.outbox.chain` looks for. When there is one, all that is sent and not confirmed is sent again, at once
-- where an exchange has failed, else before the next marker. What was stored after all does not change by that.
--
-- What is sent is kept in stretches. The open one takes what is posted. A marker ends it; it waits in `behind` until
-- that marker and a later one have been read. Each marker is the second for one stretch and the first for the next:
--
--     records     marker 1   records     marker 2                        records     marker 3
--     stretch A   A ends     stretch B   B ends; once read, A is stored  stretch C   once read, B is stored
--
-- While there is more to send, a marker follows every ten posts or every 2 MiB, and no more than two stretches are sent
-- before the older one's marker has been read. When records trickle, markers and reads are a tenth of the posts; but
-- what was sent before a pause is confirmed within a quarter of an hour.
--
-- Somebody else may answer posts with an empty 200 now and then, while markers pass. So the 200 for a marker that has
-- come back shows how many headers the server's have: what was answered with another number is sent again.
--
-- Where markers do not come back though posts pass, they are given up, but only once it is proved that the server takes
-- the posts. Somebody else may answer all of them with an empty 200, and keeps no markers either.
-- @module thingsboard.outbox.confirm
local chain = require "thingsboard.outbox.chain"
local core = require "thingsboard.core"

local confirm = {}
confirm.__index = confirm

local EVERY_POSTS, EVERY_BYTES = 10, 2 << 20 -- between two markers, while a backlog drains
local SHARE = 0.1 -- markers and reads for each post, when records trickle
local COST = 4 -- two markers and two reads
local FIRST_READ, LONGEST_READ = 0.05, 1 -- seconds between two reads for one marker
-- Refusals of markers or their reads that count, before there are none: where the server has kept one before, and where
-- it has not. Each wait for the next marker is twice as long, up to a minute: 4 minutes, and 15 seconds, together.
local REFUSALS_KEPT, REFUSALS, LONGEST_WAIT = 9, 4, 60
local ACCIDENTS = 3 -- refusals without words, of a marker and nothing else, before what is sent goes again
-- Seconds for which the server's queue waits for its database before it goes on, and markers overtake records. So after
-- a marker that took longer, the second one waits for as long again, in which the database catches up.
local QUEUE_WAITS = 2
-- So many stretches in a row in which the 200s for all records differ are the way of a proxy, and are confirmed.
local DIFFERENT = 5
local OVERWRITES = 3 -- of somebody's, before that is said: markers of an earlier process may come late
local TIMES_KEPT, TIMES = 31, 2 -- times `marker_timeout` without a marker that comes back, before there are none, alike
-- Why there are none.
local WITHOUT = "the server does not keep client attributes, by which it would show what it has stored"
local REFUSED = "the server refuses the client attribute by which it would show what it has stored"
local FOREIGN = "somebody on the way answers where the server would show what it has stored, by a client attribute"

--- Seconds after which a marker that has not come back is lost; the next one gets twice as many. A server may be behind
-- by half a minute when it is well.
confirm.marker_timeout = 60

--- Seconds until markers that were given up are tried again, and where that was for somebody else's answers.
confirm.try_after, confirm.try_soon = 3600, 300

--- Seconds without a post before what trickles is confirmed beyond its share, and since the last marker.
confirm.idle_after, confirm.idle_every = 5, 900

local function stretch()
  return { marker = nil, items = {}, posts = 0, bytes = 0 }
end

--- @tparam boolean on whether markers are used
function confirm.new(on)
  -- No earlier process has used it, not even where the script seeds the random numbers.
  local value = math.random(1 << 50) ~ core.now() << 9
  return setmetatable({
    on = on,
    suspicion = nil, -- why they are to be given up, in words, once it is proved that the server takes the posts
    problem = nil, -- why they are not used any more, in words
    try_at = 0, -- when they are tried again
    before = value, value = value, -- all values of this process's markers come after the one; the other is the last
    outstanding = nil, -- the value of the marker that was posted and has not been read
    seen = nil, -- the value that was read last
    overwritten = false, -- somebody else has written the attribute since: the marker is posted once more
    overwrites = 0, -- how often that was so
    contests = 0, -- how often since a marker was read: after the first it is posted again ever later
    posted_at = 0, read_at = 0, read_pause = 0, -- of that marker: when it was posted, when to read it, and how often
    looked_at = nil, -- when it was read last
    open = stretch(), -- what was sent since the last marker that was a first one for something
    second_only = false, -- the marker that is due is the second one for what is behind another, and no first one: else
    -- what trickles between the two would want a third
    behind = {}, -- stretches that end in a marker, oldest first
    stale = {}, -- items to be sent again, because the chain broke
    at_once = false, -- these are to be sent again at once
    chain = chain.new(),
    breaks = 0, -- how often the chain broke
    headers = nil, -- how many the 200 for the last marker had
    different = 0, -- stretches in a row in which the 200s for all records had another number
    credit = 0, -- requests that markers and reads may take, when records trickle
    in_row = 0, -- posts since nothing was left to send
    passed_at = 0, marked_at = -confirm.idle_every, -- the last post, and the last marker
    is_kept = false, -- the server has shown a marker, of this process or of another
    waited = 0, -- seconds for markers since one has come back, those of earlier processes too
    missed = 0, -- markers since one has come back
    posts_pass = false, -- whether the last post has passed
    in_question = 0, -- refusals of a marker, or its read, since the last post: the next one tells if that counts
    refused = 0, -- refusals that count, since one was read; see `weigh`
    mark_at = 0, -- when a marker may go after a refusal
  }, confirm)
end

-- Adds an item to a list: a range of records behind the last one becomes a part of that.
local function add(items, item)
  local last = items[#items]
  if last and item.first and last.last and last.last + 1 == item.first and last.headers == item.headers then
    last.last, last.records = item.last, last.records + item.records
  else
    items[#items + 1] = item
  end
end

-- A rate limit refuses posts as often as markers. So the refusal of a marker counts when the posts before and after it
-- pass; when one of these is refused, one refusal less counts.
local function weigh(self, passed)
  if self.in_question > 0 then
    self.refused = math.max(0, self.refused + (passed and self.posts_pass and 1 or -1))
    self.in_question = 0
  end
  self.posts_pass = passed
end

--- A post was refused, or went without an answer of the server's.
function confirm:failed()
  weigh(self, false)
end

--- A post has been answered 200.
-- @tparam table item `first`, `last` and `records`, or `versions` and `attributes`; and the number of
-- `headers` of the 200
-- @tparam integer bytes of the post
-- @tparam number now seconds of the monotonic clock
function confirm:passed(item, bytes, now)
  local open = self.open
  self.passed_at = now
  add(open.items, item)
  open.posts, open.bytes = open.posts + 1, open.bytes + bytes
  self.in_row = self.in_row + 1
  weigh(self, true)
  self.credit = math.min(self.credit + SHARE, 2 * COST)
end

local function each_stretch(self)
  local all = { self.open }
  for _, one in ipairs(self.behind) do all[#all + 1] = one end
  return ipairs(all)
end

--- The chain has broken.
-- @tparam boolean at_once whether what is not confirmed has to be sent again at once
function confirm:broke(at_once)
  self.breaks = self.breaks + 1
  for _, one in ipairs(self.behind) do
    for _, item in ipairs(one.items) do add(self.stale, item) end
  end
  for _, item in ipairs(self.open.items) do add(self.stale, item) end
  self.open, self.behind, self.outstanding = stretch(), {}, nil
  self.at_once = self.stale[1] ~= nil and (self.at_once or at_once)
end

--- Notes an exchange of the device that has ended; see `thingsboard.outbox.chain`.
function confirm:heard(status, answered, now)
  local how = self.chain:heard(status, answered, now)
  if how then self:broke(how == "failed") end
end

--- Notes the connections that were lost until an exchange ended; see `thingsboard.outbox.chain`.
function confirm:lost_connections(count)
  if self.chain:lost_connections(count) then self:broke(false) end
end

-- Whether as much is sent as may be before the marker has come back.
local function is_full(self)
  local posts, bytes = self.open.posts, self.open.bytes
  for _, one in ipairs(self.behind) do
    if one.marker == self.outstanding then posts, bytes = posts + one.posts, bytes + one.bytes end
  end
  return posts >= 2 * EVERY_POSTS or bytes >= 2 * EVERY_BYTES
end

-- Whether the server was given time enough to show that it keeps client attributes, and has not. It may have kept some
-- before, and still show the last of these.
local function is_without(self)
  local times = self.is_kept and TIMES_KEPT or TIMES
  return self.looked_at ~= nil and self.waited >= times * confirm.marker_timeout
end

--- What to do next.
-- @tparam number now seconds of the monotonic clock
-- @tparam string mode `more`: there is more to send; `idle`: there is nothing to send now; `final`: nothing will come,
-- or what is sent takes room that is needed
-- @treturn ?string `mark`: post a marker; `read`: read it; `again`: send again what `take_stale` gives; `missed`: a
-- marker is lost, see `miss`; `prove` that the server takes the posts, for markers are to be given up; `wait`; nil:
-- nothing
-- @treturn ?number until when to wait, seconds of the monotonic clock
function confirm:next(now, mode)
  if self.problem and now >= self.try_at then self.on = true end
  if not self.on then return nil end
  if self.suspicion then return "prove" end
  if self.at_once then return "again" end
  if mode ~= "more" then self.in_row = 0 end
  if self.outstanding then
    if now - self.posted_at > confirm.marker_timeout * 2 ^ self.missed or is_without(self) then return "missed" end
    if self.overwritten and now >= self.mark_at then return "mark" end
    if now >= self.read_at then return "read" end
    if mode == "more" and not is_full(self) then return nil end
    return "wait", self.read_at
  end
  local open = self.open
  self.second_only = false
  if now < self.mark_at then
    if mode == "more" and not is_full(self) then return nil end
    if not open.items[1] and not self.stale[1] and not self.behind[1] then return nil end
    return "wait", self.mark_at
  end
  local is_long = open.bytes >= EVERY_BYTES
  if mode == "more" then
    return (is_long or self.in_row >= EVERY_POSTS and open.posts >= EVERY_POSTS) and "mark" or nil
  end
  self.second_only = mode == "idle"
  if self.behind[1] then return "mark" end
  self.second_only = false
  if not open.items[1] and not self.stale[1] then return nil end
  if mode == "idle" and self.credit < COST + (self.stale[1] and 1 or 0) and not is_long then
    local at = math.max(self.passed_at + confirm.idle_after, self.marked_at + confirm.idle_every)
    if now < at then return "wait", at end
  end
  return self.stale[1] and "again" or "mark"
end

--- Removes and returns what has to be sent again.
-- @treturn table a list of items
function confirm:take_stale()
  local stale = self.stale
  self.stale, self.at_once = {}, false
  return stale
end

--- A value for the next marker. No two markers share one: the server may have taken one that went without an answer.
function confirm:next_value()
  self.value = self.value + 1
  return self.value
end

--- The marker that has the last value has been answered 200.
-- @tparam number now seconds of the monotonic clock
-- @tparam integer breaks what `breaks` was when it was posted
-- @tparam ?integer headers of the 200
function confirm:marked(now, breaks, headers)
  self.credit, self.marked_at = self.credit - 1, now
  if self.breaks ~= breaks then return end
  self.read_at, self.read_pause, self.looked_at, self.overwritten = now, FIRST_READ, nil, false
  self.headers = headers
  if self.outstanding then return end -- it was posted once more: the first value still stands for it
  self.outstanding, self.posted_at = self.value, now
  if self.open.items[1] and not self.second_only then
    self.open.marker = self.value
    table.insert(self.behind, self.open)
    self.open = stretch()
  end
end

-- Notes a value that was read in place of the marker. Where it changes, the server keeps attributes; and where the new
-- one is no marker of this process, somebody else uses the attribute, another outbox of the device perhaps, and may
-- have overwritten the marker. True when that is to be said.
local function look(self, value, now)
  if value == nil or value == self.seen then return end
  self.waited = 0
  local is_own = math.type(value) == "integer" and value > self.before and value <= self.value
  self.seen = value
  if not self.looked_at or is_own then return end
  self.overwritten, self.overwrites = true, self.overwrites + 1
  if self.contests > 0 then
    local pause = math.min(LONGEST_READ, FIRST_READ * 2 ^ self.contests)
    self.mark_at = math.max(self.mark_at, now + pause * math.random())
  end
  self.contests = self.contests + 1
  return self.overwrites == OVERWRITES
end

-- Confirms what is stored by the word of the marker that was read, except for what somebody else has answered.
local function take_own(self, items, confirmed)
  local records, own = false, false
  for _, item in ipairs(items) do
    records = records or item.first ~= nil
    own = own or item.first ~= nil and item.headers == self.headers
  end
  local any = not own and self.different >= DIFFERENT
  for _, item in ipairs(items) do
    if item.headers == self.headers or any and item.first then
      add(confirmed, item)
    else
      add(self.stale, item)
      self.at_once = true
    end
  end
  if own then self.different = 0 elseif records and not any then self.different = self.different + 1 end
end

--- What the server shows as marker.
-- @tparam number now seconds of the monotonic clock
-- @param value as read; nil when the server has none
-- @treturn table the items that are confirmed by it
-- @treturn ?boolean true, once: somebody else writes the attribute as well
function confirm:read(now, value)
  self.credit = math.max(self.credit - 1, -COST)
  self.is_kept = self.is_kept or value ~= nil
  self.refused, self.in_question = 0, 0
  if type(value) == "table" then value = false end -- no two tables are the same
  local confirmed = {}
  local first = self.outstanding
  if not first then return confirmed end
  if math.type(value) ~= "integer" or value < first or value > self.value then
    self.waited = self.waited + now - (self.looked_at or self.posted_at)
    local is_shared = look(self, value, now)
    self.looked_at = now
    self.read_at = now + self.read_pause
    self.read_pause = math.min(2 * self.read_pause, LONGEST_READ)
    return confirmed, is_shared
  end
  self.outstanding, self.seen, self.waited, self.missed, self.problem = nil, value, 0, 0, nil
  self.contests = 0
  local took = now - self.posted_at
  if took > QUEUE_WAITS then self.mark_at = now + math.min(took, LONGEST_WAIT) end
  while self.behind[1] and self.behind[1].marker < first do
    take_own(self, table.remove(self.behind, 1).items, confirmed)
  end
  if confirmed[1] then self.chain:confirmed() end
  return confirmed
end

--- Markers are to be given up, and the server does take the posts. From time to time one more marker is tried; where
-- that fails as well, they are given up at once.
-- @tparam number now seconds of the monotonic clock
-- @treturn table all that was sent: nothing will confirm it
-- @treturn boolean whether that is new
function confirm:give_up(now)
  self:broke(true)
  local is_new = not self.problem
  self.on, self.problem, self.suspicion = false, self.suspicion, nil
  self.try_at = now + (self.problem == FOREIGN and confirm.try_soon or confirm.try_after)
  return self:take_stale(), is_new
end

--- Markers were to be given up, and somebody else takes the posts: all that is sent is sent again, and markers are
-- used as before.
function confirm:go_on()
  self.suspicion, self.refused, self.in_question, self.waited, self.missed = nil, 0, 0, 0, 0
  self:broke(true)
end

--- A marker has not come back in time: what is sent is sent again. Where none has for long, though all else passes,
-- markers are to be given up.
function confirm:miss()
  if is_without(self) then self.suspicion = WITHOUT end
  self.missed = self.missed + 1
  self:broke(true)
end

--- A marker was refused, or to show it; not by an answer that speaks of a limit. It is tried again later. When that is
-- refused, too, and nothing was posted in between, what is sent goes again, to see whether posts pass. Where they do,
-- markers are to be given up in the end.
-- @tparam number now seconds of the monotonic clock
-- @tparam ?string cause `unclear`: the server has said nothing of the cause, which may be an accident; `foreign`:
-- somebody else has answered
function confirm:refuse(now, cause)
  if self.refused >= (self.is_kept and REFUSALS_KEPT or REFUSALS) then
    self.suspicion = cause == "foreign" and FOREIGN or REFUSED
    return
  end
  self.mark_at = now
  self.in_question = self.in_question + 1
  if self.in_question > (cause == "unclear" and ACCIDENTS or 1) then
    self:broke(true)
  else
    self.mark_at = now + math.min(LONGEST_READ * 2 ^ self.refused, LONGEST_WAIT)
  end
  self.read_at = self.mark_at
end

--- How many records are sent and not confirmed.
function confirm:count()
  local count = 0
  for _, one in each_stretch(self) do
    for _, item in ipairs(one.items) do count = count + (item.records or 0) end
  end
  for _, item in ipairs(self.stale) do count = count + (item.records or 0) end
  return count
end

--- Records have been removed.
-- @tparam integer first number of the first
-- @tparam integer last number of the last
-- @tparam function count how many there are now from one number to another, for items that have gaps
-- @treturn integer how many of them were sent
function confirm:forget(first, last, count)
  local forgotten = 0
  local function forget(items)
    for _, item in ipairs(items) do
      if item.first and item.records > 0 and item.first <= last and item.last >= first then
        local gone = math.min(last, item.last) - math.max(first, item.first) + 1
        if item.records <= item.last - item.first then gone = item.records - count(item.first, item.last) end
        item.records = item.records - gone
        forgotten = forgotten + gone
      end
    end
  end
  for _, one in each_stretch(self) do forget(one.items) end
  forget(self.stale)
  return forgotten
end

return confirm
