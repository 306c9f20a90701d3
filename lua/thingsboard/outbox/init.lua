--- The outbox: records and attributes are kept on disk until the server has them.
-- @module thingsboard.outbox
local core = require "thingsboard.core"
local backoff = require "thingsboard.http.backoff"
local bisect = require "thingsboard.outbox.bisect"
local budget = require "thingsboard.outbox.rate_limit"
local check = require "thingsboard.check"
local confirm = require "thingsboard.outbox.confirm"
local doubts = require "thingsboard.outbox.doubts"
local errors = require "thingsboard.error"
local json = require "thingsboard.json.decode"
local options = require "thingsboard.outbox.options"
local pace = require "thingsboard.outbox.pace"
local payload = require "thingsboard.json.payload"
local ranges = require "thingsboard.outbox.ranges"
local saved = require "thingsboard.outbox.saved"
local schema = require "thingsboard.outbox.schema"
local sender = require "thingsboard.outbox.sender"
local spool = require "thingsboard.spool"
local files = require "thingsboard.outbox.file"

local outbox = {}
outbox.__index = outbox
outbox.__name = "thingsboard.outbox"

-- Budgets by the name of a plan.
local PLANS = {
  ["cloud-free"] = { messages = "50:1,600:60,7000:3600", points = "100:1,2000:60,15000:3600" },
}

local MOST_IN_MEMORY = 10000 -- records, while the disk fails
local MOST_REJECTED = 1000
local MOST_WAITING = 4096 -- bytes of attributes that wait for `sync_every`; a small file may lack room for more

local function check_budget(name, notation)
  return budget.new(notation) or
    error(("outbox: option '%s' must be like \"20:1,600:60\", amounts and seconds"):format(name), 3)
end

--- Opens an outbox; see `device:outbox`.
-- @tparam table client
-- @tparam table given
function outbox.new(client, given)
  local option = check.read("outbox", given, options)
  local plan = PLANS[option.plan] or {}
  local messages = check_budget("messages", option.messages or plan.messages)
  local points = check_budget("points", option.points or plan.points)
  if option.confirm_key:find(",", 1, true) then
    error("outbox: option 'confirm_key' holds a comma, and the server would take it for two keys", 2)
  end
  if client.closed then return nil, errors.new("closed", "outbox: the device is closed") end
  local file, reason = files.of(option.path) -- before the outbox: at the end of all, that is collected first
  if not file then return nil, errors.new("file", "outbox: " .. reason) end
  file:check_free(3)
  if file.users[option.name] then -- before there is an outbox whose end would close the other
    error("outbox: this file is open for this device already; devices that share one need a 'name' each", 2)
  end
  local self = setmetatable({
    client = client, loop = client.loop,
    closed = false,

    -- Options, and what follows from them.
    name = option.name,
    sync_every = option.sync_every,
    in_memory = option.on_trouble == "memory",
    refuse = option.when_full == "refuse",
    max_records = option.max_records or math.maxinteger,
    max_bytes = option.max_bytes,
    has_max_bytes = given.max_bytes ~= nil, -- it was given
    max_age = option.max_age,
    server_time = option.server_time,
    messages = messages, points = points, -- budgets

    -- What waits.
    file = file, spool = file.spool,
    number = nil, -- this device's in the spool
    file_number = nil, -- this device's in the file; nil before that has been opened
    pending = {}, -- attributes, by JSON text of the key: `value`, `version`, `on_disk`
    versions = 0, -- how many values of attributes have been given
    lost = {}, -- counts by cause
    unsynced = 0, -- records in memory because the disk fails

    -- What the sender knows.
    running = false,
    posting = false, -- a post is in flight
    body = core.body(), -- for what is sent: no string of its size for each post
    -- Of a post, at most.
    batch = { bytes = option.batch_bytes, records = option.batch_records, points = option.batch_points },
    most_attributes = math.maxinteger, -- of a post
    turn = 0, -- the kind of post that was sent last
    backlog_end = 0, -- records from this number on are fresh
    held = ranges.new(), -- records that no batch may take: those that are sent, in doubt, or removed after either
    sent_undeleted = {}, -- ranges of records, and attributes: they are sent and could not be removed yet
    bisect = bisect.new(), -- searches for the record for which a batch was refused
    doubts = doubts.new(sender.first_pause, sender.longest_pause, -- what was refused alone
      payload.value("outbox", option.confirm_key .. "_sample")),
    pace = pace.new(sender.longest_pause), -- what the server is found to take
    confirm = confirm.new(option.confirm), -- what is sent and not confirmed
    noted_wait = 0, -- what the file has of `confirm.waited`, milliseconds
    marker_name = option.confirm_key,
    marker_key = payload.value("outbox", option.confirm_key), -- as JSON
    marker_path = "/attributes?clientKeys=" .. client.escape(option.confirm_key),
    pause = backoff.new(sender.first_pause, sender.longest_pause), -- between tries while the server is out of reach
    retry_at = nil, -- when the next of these is due
    expire_at = nil, -- when the old are to be dropped again
    note_doubts_at = 0, -- when what is in doubt is to be noted again
    -- The first record of the last post that failed for a limit or by somebody else's answer, or `attributes`.
    stuck_at = nil,
    stuck = 0, -- how often in a row posts have failed so there
    accidents = {}, -- by kind of post, the last that was refused without words: `first`, `last`, how often as `count`
    short_list = nil, -- one that was refused: `first`, `last` and how many are `left` to pass alone
    lists_refused = 0, -- short lists whose records have passed alone, since a list has passed
    objects_only = nil, -- while no lists are sent: how many objects go before a short one is tried again
    err = nil, -- the last error of sending, until a post passes
    sent = { records = 0, attributes = 0, posts = 0, confirmed = 0, again = 0 },
    news = client.loop:signal(), -- something has been put, or the outbox has been closed
    wake = client.loop:signal(), -- the server is there again, or the outbox has been closed
  }, outbox)
  file.users[self.name] = self
  local ok
  self.number, reason = self.spool:device(self.name)
  if self.number then ok, reason = file:take_in(self) end
  -- It can wait in memory, but not where the file is open and nobody knows what that has of it.
  if not ok and not (self.in_memory and (self.file_number or not file:is_open())) then
    self.closed = true
    file:leave(self)
    return nil, errors.new("file", "outbox: " .. reason, { retryable = true })
  end
  client:bind(self)
  sender.listen(self)
  return self
end

--- Forgets everything that is kept by records' numbers: the records get new ones.
function outbox:renumbered()
  self.held, self.sent_undeleted = ranges.new(), {}
  self.bisect:stop()
  self.doubts:forget("records")
  self.confirm:broke(false)
  self.confirm:take_stale()
  for _, attribute in next, self.pending do attribute.sent = nil end
  self.backlog_end = 0
end

--- Forms the body of a post of one record, whatever its size.
-- @tparam integer id its number
-- @return as `spool:batch`; false where it is gone
function outbox:record(id)
  local most = math.maxinteger
  return self.spool:batch(self.number, id, id, most, 1, most, self.body)
end

--- Counts what is lost.
function outbox:lose(cause, count)
  if count == 0 then return end
  self.lost[cause] = (self.lost[cause] or 0) + count
  self.file.changed = true
end

local function check_self(self, level)
  if getmetatable(self) ~= outbox then error("an outbox expected: call its methods with a colon", level) end
end

local function check_open(self, what)
  check_self(self, 4)
  if self.closed then return nil, errors.new("closed", what .. ": the outbox is closed") end
  self.file:check_free(4)
  return true
end

-- Counts records that were removed from the file. Those that were answered 200 are not lost for all we know, so they
-- count apart.
local function lose_removed(self, cause, first, last, removed)
  local sent = self.confirm:forget(first, last, function(from, to)
    local most = math.maxinteger
    return select(4, self.spool:batch(self.number, from, to, most, most, most, core.body())) or 0
  end)
  self:lose(cause, removed - sent)
  self:lose("unconfirmed", sent)
end

local function drop(self, count)
  while count > 0 do
    local first, last = self.spool:oldest(self.number)
    if not first then return end
    last = math.min(last, first + count - 1)
    local dropped = self.spool:remove(self.number, first, last)
    if not dropped then return end
    lose_removed(self, "full", first, last, dropped)
    count = count - dropped
  end
end

--- Drops some of the oldest records that are on the disk.
-- @treturn boolean whether there were any
function outbox:drop_oldest()
  local first = self.spool:oldest(self.number)
  local dropped = self.spool:remove_oldest(self.number)
  if not dropped or dropped == 0 then return false end
  local left = self.spool:oldest(self.number) or select(3, self.spool:counts(self.number))
  lose_removed(self, "full", first, left - 1, dropped)
  return true
end

-- Drops the oldest while there are too many, and those that are too old.
local function keep_bounds(self)
  local count, bytes = self.spool:counts(self.number)
  if count > self.max_records then drop(self, count - self.max_records) end
  while bytes > self.max_bytes and count > 1 do
    drop(self, math.max(1, math.ceil((bytes - self.max_bytes) * count / bytes)))
    local left
    left, bytes = self.spool:counts(self.number)
    if left == count then return end
    count = left
  end
end

--- Drops what is too old.
function outbox:expire()
  local offset = self.max_age and self.file.clock:offset_now()
  if not offset then return end
  local oldest = spool.uptime() + offset - math.ceil(self.max_age * 1000)
  while true do
    local first, last = self.spool:oldest(self.number, false, oldest)
    if not first then return end
    local removed = self.spool:remove(self.number, first, last)
    if not removed then return end
    lose_removed(self, "expired", first, last, removed)
  end
end

-- Writes what was put to the disk: now, or at the next commit of `sync_every`.
local function settle(self, at_once)
  local file = self.file
  if self.sync_every and not at_once and not file.trouble then
    local now = core.monotonic()
    if not file.sync_at then file:sync_at_last(now + self.sync_every, self.loop) end
    if now < file.sync_at then
      self.spool:wait(math.ceil((file.sync_at - now) * 1000))
      return true
    end
  end
  return file:sync()
end

--- Writes the counts of losses to the disk even if nothing is put.
function outbox:write_losses()
  if self.file.changed then settle(self) end
end

local function is_full(self, more)
  local count, bytes = self.spool:counts(self.number)
  return count - self.confirm:count() + more > self.max_records or bytes >= self.max_bytes
end

--- Whether the file is so full that sent records should be confirmed soon, to make room.
function outbox:is_tight()
  local count, bytes = self.spool:counts(self.number)
  return count > self.max_records // 2 or bytes > self.max_bytes // 2
end

local function refused(self, count, call, reason)
  self:lose("refused", count)
  return nil, errors.new("full", ("%s: %s"):format(call, reason or "the outbox is full"), { retryable = true })
end

-- The error for so many values that could not be written.
local function not_kept(self, count, call, reason, code)
  if code == "FULL" then return refused(self, count, call) end
  if code == "TOOBIG" then return refused(self, count, call, reason) end
  return nil, errors.new("file", ("%s: this cannot be kept: %s"):format(call, reason), { retryable = true })
end

-- Sees to the records that were put last, so many.
local function keep(self, count, at_once)
  local ok, reason, code = settle(self, at_once)
  if ok then
    self.unsynced = 0
    return true
  elseif code == "FULL" and self.refuse or not self.in_memory then
    local _, _, following = self.spool:counts(self.number) -- the file may be another, and their numbers, too
    if not self.spool:remove(self.number, following - count, following - 1) then -- some of many may be on the disk
      self.spool:discard_pending(self.number, following - count, following - 1)
    end
    return not_kept(self, count, "put", reason, code)
  end
  self.unsynced = self.unsynced + count
  while self.unsynced > MOST_IN_MEMORY do
    local oldest = self.spool:oldest(self.number, true)
    if not oldest then break end
    self:lose("memory", self.spool:discard_pending(self.number, oldest, oldest))
    self.unsynced = self.unsynced - 1
  end
  return true
end

--- Records values. They are on disk when this returns, unless `sync_every` is set.
-- @tparam table values a table of values, which get the time of this call; `{ts=, values=}` with `ts` in milliseconds;
-- or a list of both
-- @tparam ?boolean in_order they are sent behind all that waits, not before it
-- @treturn[1] boolean true
-- @treturn[2] nil
-- @treturn[2] table the error: kind `value` for what the server would not take, `full`, `file`
function outbox:put(values, in_order)
  local ok, err
  if not self or self.closed ~= false or self.file.inside then -- where it is open, nothing is called for this
    ok, err = check_open(self, "put")
    if not ok then return nil, err end
  end
  if self.refuse and type(values) == "table" then
    local more = values[1] ~= nil and #values or 1
    if is_full(self, more) then return refused(self, more, "put") end
  end
  local first, last, may_wait, count, bytes, undated = self.spool:put(self.number, values)
  if not first then return nil, errors.new("value", "put: " .. last) end
  if self.refuse and bytes > self.max_bytes then
    return refused(self, self.spool:discard_pending(self.number, first, last), "put")
  end
  if undated then self.file:put_undated() end
  if not may_wait or not self.sync_every then
    ok, err = keep(self, last - first + 1, may_wait == nil)
    if not ok then return nil, err end
  end
  if in_order then self.backlog_end = select(3, self.spool:counts(self.number)) end
  if not self.refuse and (count > self.max_records or bytes > self.max_bytes) then keep_bounds(self) end
  if self.running then self.news:raise() end
  return true
end

--- Writes at once what `sync_every` holds back.
-- @treturn[1] boolean true: it is on the disk
-- @treturn[2] nil
-- @treturn[2] table the error
function outbox:sync()
  local ok, err = check_open(self, "sync")
  if not ok then return nil, err end
  local reason
  ok, reason = self.file:sync()
  if ok then return true end
  return nil, errors.new("file", "sync: " .. reason, { retryable = true })
end

--- Records client attributes. Of each key only the last value is kept, and sent.
-- @tparam table values
-- @treturn[1] boolean true
-- @treturn[2] nil
-- @treturn[2] table the error: kind `value`, `full`, `file`
function outbox:attributes(values)
  local ok, err = check_open(self, "attributes")
  if not ok then return nil, err end
  if type(values) ~= "table" then error("attributes: a table expected, got " .. type(values), 2) end
  ok, err = payload.attributes("attributes", values)
  if not ok then return nil, err end
  local new, before = {}, {}
  for key, value in next, values do
    local name, text = payload.value("attributes", key), "null"
    if value ~= json.null then text = payload.attributes("attributes", { [key] = value }):sub(#name + 3, -2) end
    new[name] = { value = text, on_disk = false }
  end
  for name, attribute in next, new do -- here the collector cannot run
    self.versions = self.versions + 1
    attribute.version = self.versions
    before[name] = self.pending[name] or false
    self.pending[name] = attribute
    if before[name] and before[name].in_doubt then self.doubts:remove(before[name].in_doubt) end
  end
  self.file.changed = true
  local reason, code
  ok, reason, code = settle(self, saved.size_of_changes(self) > MOST_WAITING)
  if not ok and not self.in_memory then
    local count = 0
    for key, attribute in next, before do
      self.pending[key] = attribute or nil
      if attribute then attribute.in_doubt = nil end
      count = count + 1
    end
    return not_kept(self, count, "attributes", reason, code)
  end
  if self.running then self.news:raise() end
  return true
end

--- Attributes that the server has: they go, unless they have another value by now. Where the disk has no room for
-- that, or the file, which may have an older value, cannot be opened, later.
-- @tparam table sent versions by key
function outbox:attributes_sent(sent)
  local left
  for key, version in next, sent do
    local attribute = self.pending[key]
    if attribute and attribute.version == version then
      local forgotten, reason = self.spool:query(schema.forget_attribute, self.file_number or 0, key)
      if forgotten then
        self.pending[key] = nil
      else
        self.file:failed(reason)
        attribute.sent = true
        left = left or {}
        left[key] = version
      end
    end
  end
  if left then table.insert(self.sent_undeleted, { versions = left, records = 0 }) end
end

--- Sets aside records that the server does not accept.
-- @tparam integer first number of the first
-- @tparam integer last number of the last
-- @tparam integer records how many
-- @tparam string body their JSON
-- @tparam string reason the server's words
-- @treturn boolean whether that is on the disk
function outbox:reject(first, last, records, body, reason)
  if not self.file:is_open() then return false end
  local function note() return self.spool:query(schema.reject, self.file_number, body, reason, core.now()) end
  local noted = note()
  if not self.spool:remove(self.number, first, last) then return false end
  self:lose("rejected", records)
  if not noted and not note() then -- in a file that is full it takes the records' room, and that of older ones
    self.spool:query(schema.forget_oldest_rejected)
    note()
  end
  self.spool:query(schema.forget_rejected,
    self.file_number, MOST_REJECTED)
  return true
end

--- The posts that were set aside because the server does not accept them: the last thousand.
-- @treturn[1] table a list, oldest first: `body` (JSON text of a list of records), `reason`, `at` (milliseconds)
-- @treturn[2] nil
-- @treturn[2] table the error
function outbox:rejected()
  local ok, err = check_open(self, "rejected")
  if not ok then return nil, err end
  if not self.file:is_open() then return {} end
  local rows, reason = self.spool:query(schema.rejected, self.file_number)
  if not rows then return nil, errors.new("file", "rejected: " .. reason) end
  for i, row in ipairs(rows) do rows[i] = { body = row[1], reason = row[2], at = row[3] } end
  return rows
end

--- The outbox's state and counters.
-- @treturn table `records` and `attributes`: how many wait to be sent; `unconfirmed`: records that are sent and not yet
-- confirmed; `bytes`: of all of these; `sent`, since it was opened: `records`, `attributes`, `posts`, `confirmed`
-- (records), `again` (records that were sent once more, for they could not be confirmed); `lost`, since the file was
-- made: records by cause: `full`, `refused`, `expired`, `memory`, `rejected` (set aside), `unconfirmed` (sent, and
-- dropped before it was known that they are stored), `undated` (sent with the last time known), and `damaged` (files
-- set aside); `in_doubt`: records and attributes that were refused alone and are tried again; `limits`: what the server
-- was found to take, if that is less than was sent: `points` of a post, `posts` a second; `confirm`: whether what is
-- sent is confirmed, or in words why it cannot be; `trouble`: why the disk cannot be written, if so; `err`: the last
-- error of sending, if the last post failed
function outbox:stats()
  check_self(self, 3)
  local stats = { records = 0, bytes = 0, attributes = 0, sent = {}, lost = {}, trouble = self.file.trouble,
    err = self.err, confirm = self.confirm.problem or self.confirm.on, in_doubt = self.doubts.count,
    limits = self.pace:found() }
  if not self.closed then stats.records, stats.bytes = self.spool:counts(self.number) end
  for _, range in ipairs(self.sent_undeleted) do stats.records = stats.records - range.records end
  stats.unconfirmed = self.confirm:count()
  stats.records = stats.records - stats.unconfirmed
  for _, attribute in next, self.pending do
    if not attribute.sent then stats.attributes = stats.attributes + 1 end
  end
  for what, count in next, self.sent do stats.sent[what] = count end
  for cause, count in next, self.lost do stats.lost[cause] = count end
  return stats
end

--- Sends what waits and what comes, until the outbox or its device is closed: run it in a task.
-- @treturn nil
-- @treturn ?table the error that ended it: the server knows no such device (401, 404). Recording goes on
function outbox:run()
  local ok, err = check_open(self, "run")
  if not ok then return nil, err end
  err = select(2, sender.run(self))
  return nil, err
end

--- Sends what waits.
-- @tparam ?table given `deadline`: seconds after which it gives up
-- @treturn[1] boolean true: nothing waits any more
-- @treturn[2] nil
-- @treturn[2] table the error that was in the way
function outbox:drain(given)
  local ok, err = check_open(self, "drain")
  if not ok then return nil, err end
  check.options("drain", given or {}, { deadline = "positive number" })
  ok, err = sender.run(self, core.monotonic() + (given and given.deadline or math.huge))
  return ok, err
end

--- Writes what waits in memory, and closes the file. Idempotent.
-- @treturn[1] boolean true
-- @treturn[2] nil
-- @treturn[2] table the error: what waited in memory is lost
function outbox:close()
  check_self(self, 3)
  if self.closed then return true end
  self.file:check_free(3)
  -- It counts as closed even if memory is short, or in a forked child.
  pcall(self.file.date, self.file)
  local well, ok, reason = pcall(self.file.sync, self.file)
  pcall(saved.note_time, self)
  pcall(saved.note_markers, self)
  pcall(saved.note_doubts, self)
  self.closed = true
  self.news:raise()
  self.wake:raise()
  self.client.iterators[self] = nil
  self.file:leave(self)
  if well and ok then return true end
  return nil, errors.new("file", "close: what waited in memory is lost: " .. (well and reason or ok))
end

outbox.__close = outbox.close
outbox.__gc = outbox.close

function outbox:__tostring()
  return ("thingsboard.outbox (%s)"):format(self.closed and "closed" or self.file.path)
end

return outbox
