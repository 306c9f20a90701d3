--- The file of an outbox, which several devices may share: opens it, writes it, and replaces it when it is damaged.
-- @module thingsboard.outbox.file
local core = require "thingsboard.core"
local clock = require "thingsboard.outbox.record_clock"
local saved = require "thingsboard.outbox.saved"
local schema = require "thingsboard.outbox.schema"
local spool = require "thingsboard.spool"

local file = {}
file.__index = file

-- SQLite's names of errors that tell of a damaged file, and the outbox's own of one that was taken away.
local DAMAGE = { CORRUPT = true, NOTADB = true, MOVED = true }

local NONE = 2 -- the errno of a file that is not there
local TAKEN_AT_ONCE = 100 -- milliseconds
local RETRY_EVERY = 1 -- seconds, when the disk fails

local files = setmetatable({}, { __mode = "v" }) -- those of this process, by path

--- The file of a path: one object for all its users.
-- @tparam string path
-- @treturn[1] table
-- @treturn[2] nil
-- @treturn[2] string what is wrong
function file.of(path)
  local real, reason = spool.real_path(path)
  if not real then return nil, reason end
  local self = files[real]
  if self then return self end
  local records = spool.spool(real)
  self = setmetatable({
    path = real,
    spool = records, -- the C side of it
    clock = clock.new(records), -- which dates the records
    state = "closed", -- see `move`
    trouble = nil, -- why it is not "open", in words
    damage = nil, -- what kind of damage, while it is "damaged": a key of DAMAGE
    boot = nil, -- the id of this start of the system; set by opening the file
    taken = nil, -- times up to this one are reserved, see `take_times`; set by opening the file
    noted_offset = nil, -- what turns uptimes into times since 1970, as the file has it
    has_lost = false, -- records of earlier starts of the system wait for the time, too
    undated = false, -- whether some of its records wait for a date
    users = {}, -- the outboxes, by name
    max_bytes = nil, has_max_bytes = false, -- what they may take together, and whether one was told; see `set_limit`
    changed = false, -- some of their attributes or counters are not on the disk
    in_flight = 0, -- posts: while there are any, records must not be renumbered
    inside = false, -- in a transaction or another step that no finalizer may interrupt by one of its own
    sync_at = nil, -- when `task` is to write, seconds of the monotonic clock
    task = nil, -- writes in the background, where `sync_every` is used
    left = nil, -- the signal that ends the task
  }, file)
  -- A process may be killed right after it has learned the time: a later one must know. What fails is tried again.
  self.clock.on_known = function() pcall(self.date, self) end
  files[real] = self
  return self
end

-- The states of a file. This is the one place that changes them.
--   closed   it has not been opened, or could not be
--   open     all that was written is on the disk
--   failing  it is open, but the last write failed: what could not be written waits in memory, what could not be
--            removed is not sent again
--   damaged  it is open, but SQLite finds it damaged, or it was taken away: it is replaced once no post is in flight
-- In all but "open", `trouble` says what is wrong, if anything has been tried.
local function move(self, state, trouble, damage)
  if self.state ~= "closed" and state == "closed" then
    self.spool:shut()
    for _, outbox in next, self.users do outbox:renumbered() end
  end
  self.state, self.trouble, self.damage = state, trouble, damage
end

--- Something could not be removed from it.
-- @tparam string reason
function file:failed(reason)
  if self.state == "open" then move(self, "failing", reason) end
end

--- Whether statements can be run on it.
function file:is_open()
  return self.state ~= "closed"
end

--- Raises when a finalizer calls this during another call, which could not go on.
-- @tparam integer level as `error` takes
function file:check_free(level)
  if self.inside or self.spool:busy() then
    error("the outbox is in use: a finalizer has called it in the midst of another call", level)
  end
end

-- Begins a section that no finalizer may interrupt; closing the returned variable ends it.
local function enter(self)
  self:check_free(4)
  self.inside = true
  return self
end

function file:__close()
  self.inside = false
end

-- Gives a damaged file another name, and its log with it.
local function set_aside(path)
  local stem, n = ("%s.damaged-%d"):format(path, core.now() // 1000), 0
  local name = stem
  for existing in function() return io.open(name, "rb") end do
    existing:close()
    n = n + 1
    name = stem .. "-" .. n
  end
  local ok, reason = os.rename(path, name)
  if ok then os.rename(path .. "-wal", name .. "-wal") end
  return ok, reason
end

-- Dates records of earlier starts of the system that nobody has dated: they follow the last time that is known, each
-- start behind the one before it. Where nobody has ever known it, they wait until somebody does, and come before this
-- start.
local function date_lost(self)
  local are_first = self.has_lost -- none before this start is dated
  self.has_lost = false
  local before = self.spool:query(schema.periods_before, self.boot)
  if not before or not before[1] then return end
  self.spool:query(schema.forget_periods, self.boot)
  local periods, latest = self.spool:query(schema.undated_before, self.boot), self.spool:query(schema.latest_known)
  local dated, last_dated = self.spool:span(0)
  if not periods or not latest or dated == nil then return end
  local lost, length, offset = {}, 0, self.clock:offset_now()
  for _, row in ipairs(periods) do
    local first, last = self.spool:span(row[1])
    if first == nil then return end
    if first then
      table.insert(lost, { number = row[1], first = first, last = last })
      length = length + 1 + last - first
    end
  end
  local known = math.max(latest[1][1] or 0, dated and last_dated or 0)
  local at = not are_first and known > 0 and known or offset and offset - length
  self.has_lost = not at and lost[1] ~= nil
  if not at then return end
  for _, period in ipairs(lost) do
    local number, first, last = period.number, period.first, period.last
    local from = at + 1 - first
    at = from + last
    -- Of every device that shares the file, whether it is here or not. They may be sent before another start is dated,
    -- which must come behind them.
    local ok = self.spool:query(schema.begin) and self.spool:query(schema.count_undated, spool.NUMBERS, number)
      and self.spool:query(schema.date_period, from, number)
      and self.spool:query(schema.count, 0, schema.last_known_time, at) and self.spool:query(schema.commit)
    if not ok then return self.spool:query(schema.rollback) end
  end
  for _, outbox in next, self.users do saved.read_undated(outbox) end
  self.clock:follow(at)
end

-- The last timestamp ahead of the clock, where it is not reserved yet; else nil.
local function unreserved(self)
  local last = self.clock:ahead()
  return last and last > self.taken and last or nil
end

-- A later process must not reissue timestamps ahead of the clock, since their records may have been sent. So they are
-- reserved in the file, some more at a time, before any of these records is written.
local function take_times(self)
  local last = unreserved(self)
  if not last then return true end
  local taken = last + TAKEN_AT_ONCE
  local ok, reason, code = self.spool:query(schema.take_times, taken)
  if ok then self.taken = taken end
  return ok, reason, code
end

-- Dates what waits for a date, if the time is known, which a later process gets to know until the system's next start.
local function date(self)
  local offset, noted = self.clock:offset_now(), self.noted_offset
  if not offset then return end
  if self.undated and self.spool:date(offset) then
    self.undated = false
    take_times(self)
  end
  if self.has_lost then date_lost(self) end
  if noted and math.abs(offset - noted) <= 1500 or not self:is_open() then return end
  if self.spool:query(schema.note_offset, self.boot, offset) then self.noted_offset = offset end
end

-- Takes up what the file has, for all its users or, on failure, for none.
local function take_up(self)
  local taken, reason, code = self.spool:query(schema.times_taken)
  if not taken then return nil, reason, code end
  self.taken = taken[1] and taken[1][1] or 0
  local noted
  noted, reason, code = self.spool:query(schema.noted_offset, self.boot)
  if not noted then return nil, reason, code end
  self.noted_offset = noted[1] and noted[1][1]
  if self.noted_offset then self.clock:recall(self.noted_offset) end
  local undated
  undated, reason, code = self.spool:query(schema.undated_now, self.boot)
  if not undated then return nil, reason, code end
  if undated[1] then
    local first, last
    first, last, code = self.spool:span(undated[1][1])
    if first == nil then return nil, last, code end
    self.undated = true
    if first then self.spool:follow_uptimes(first, last) end
  end
  self.has_lost = false
  date_lost(self)
  local found = {}
  for _, outbox in next, self.users do
    found[outbox], reason, code = saved.read(outbox)
    if not found[outbox] then return nil, reason, code end
  end
  self.clock:follow(self.taken, math.maxinteger)
  for outbox, has in next, found do saved.opened(outbox, has) end
  return true
end

-- How much the file and its log may take: what its users may, and where none of them says how much that is, at most
-- half the file system.
-- @tparam ?table new an outbox that was not among the users when this was called last
local function set_limit(self, new)
  local added = self.max_bytes and new and { new } or self.users
  if added == self.users then self.max_bytes, self.has_max_bytes = 0, false end
  for _, outbox in next, added do
    self.max_bytes = self.max_bytes + math.min(outbox.max_bytes, 1 << 50)
    self.has_max_bytes = self.has_max_bytes or outbox.has_max_bytes
  end
  local half = not self.has_max_bytes and self.spool:half_of_disk()
  self.spool:set_limit(math.min(self.max_bytes, half or math.maxinteger))
end

-- Why the system opens no such file for reading and writing; SQLite knows of "disk I/O error" only. Where another has
-- it open that is not asked for: this process may be the other, by another name, and to close it would drop its locks.
local function refusal(self, code)
  if code == "BUSY" then return nil end
  local opened <close>, reason, errno = io.open(self.path, "r+b")
  return not opened and errno ~= NONE and reason or nil
end

local function open(self)
  if self.in_flight > 0 then return nil, self.trouble end
  set_limit(self)
  local boot, reason, code, anew = self.spool:open()
  if boot or anew then
    for _, outbox in next, self.users do outbox:renumbered() end
  end
  if not boot then return nil, refusal(self, code) or reason, code end
  self.boot = boot
  local ok
  ok, reason, code = take_up(self)
  if not ok then
    self.spool:shut()
    return nil, reason, code
  end
  move(self, "open")
  date(self)
  return true
end

-- Begins a new file in place of one that is damaged, or was taken away.
local function replace(self)
  local damage = self.damage
  move(self, "closed")
  local ok, reason = true, nil
  if damage ~= "MOVED" then ok, reason = set_aside(self.path) end
  if ok then
    for _, outbox in next, self.users do outbox:lose("damaged", 1) end
    ok, reason = open(self)
  end
  if not ok then move(self, "closed", reason) end
  return ok == true
end

-- Whether SQLite's error meant that the file had to be replaced, and it has been.
local function mend(self, reason, code)
  if not DAMAGE[code] then return false end
  move(self, "damaged", reason, code)
  return self.in_flight == 0 and replace(self)
end

--- Replaces a file that is damaged or was removed: a damaged one is renamed, and a new one begins with what is in
-- memory.
-- @tparam string reason what is wrong
-- @tparam ?string code SQLite's name of an error, or `MOVED`
-- @treturn boolean whether it was so, and is in order now
function file:mend(reason, code)
  local _ <close> = enter(self)
  return mend(self, reason, code)
end

-- Runs statements as one transaction. Returns as `spool:query` does; where that is nil, nothing is on the disk.
local function transact(self, write)
  local ok, reason, code = self.spool:query(schema.begin)
  if ok then ok, reason, code = write() end
  if ok then ok, reason, code = self.spool:query(schema.commit) end
  if ok then return ok end
  self.spool:query(schema.rollback)
  return nil, reason, code
end

-- Writes the changed attributes and counters of all users, in one transaction.
local function write_changes(self)
  if not self.changed then return true end
  local bytes = 0
  for _, outbox in next, self.users do bytes = bytes + saved.size_of_changes(outbox) end
  local ok, reason, code = self.spool:reserve(bytes)
  if not ok then return nil, reason, code end
  ok, reason, code = transact(self, function()
    for _, outbox in next, self.users do
      local written, why, name = saved.write_changes(outbox)
      if not written then return nil, why, name end
    end
    return true
  end)
  if not ok then return nil, reason, code end
  for _, outbox in next, self.users do saved.changes_written(outbox) end
  self.changed = false
  return true
end

--- Runs statements as one transaction.
-- @tparam function write returns what the last of them returns
-- @treturn boolean whether it is on the disk; else nothing is
function file:transaction(write)
  local _ <close> = enter(self)
  return transact(self, write) ~= nil
end

local function write(self)
  local ok, reason, code = true, nil, nil
  if self.state == "closed" then ok, reason, code = open(self) end
  if ok then ok, reason, code = take_times(self) end
  if ok then ok, reason, code = write_changes(self) end
  if not ok then return nil, reason, code end
  return self.spool:sync()
end

-- Drops what is needed least: what records that are gone have left, then the oldest records that were set aside, then
-- some records that wait, by each outbox's `when_full`: of the outbox that has most.
-- @treturn boolean whether there is more room now
local function make_room(self)
  if (self.spool:remove_leftovers() or 0) > 0 then return true end
  local rejected = self.spool:query(schema.is_rejected)
  if rejected and rejected[1] and self.spool:query(schema.forget_oldest_rejected) then return true end
  local fullest, most = nil, 0
  for _, outbox in next, self.users do
    local count = self.spool:counts(outbox.number)
    if count > most and not outbox.refuse then fullest, most = outbox, count end
  end
  return fullest ~= nil and fullest:drop_oldest()
end

--- Writes everything that has changed. Where the file is full, and may not grow, the oldest records make room.
-- @treturn[1] boolean true: it is on the disk
-- @treturn[2] nil
-- @treturn[2] string what is wrong; it waits in memory
-- @treturn[2] ?string SQLite's name of the error
function file:sync()
  if self.state == "open" and not self.changed and not self.inside then -- as nearly always
    if not unreserved(self) and self.spool:sync() then
      self.sync_at = nil
      return true
    end
  end
  local _ <close> = enter(self)
  if self.state == "damaged" and self.in_flight == 0 then replace(self) end
  local ok, reason, code = write(self)
  if not ok and mend(self, reason, code) then ok, reason, code = write(self) end
  while not ok and code == "FULL" and self:is_open() and make_room(self) do ok, reason, code = write(self) end
  if self.state == "open" or self.state == "failing" then
    move(self, ok and "open" or "failing", reason)
  elseif self.state == "closed" then
    move(self, "closed", reason)
  end
  self.sync_at = nil
  return ok, reason, code
end

--- Takes an outbox in, which is among the users already: it gets to know what the file has of it.
-- @treturn[1] boolean true
-- @treturn[2] nil
-- @treturn[2] string what is wrong
function file:take_in(outbox)
  if not self:is_open() then return self:sync() end
  local _ <close> = enter(self)
  set_limit(self, outbox)
  local found, reason = saved.read(outbox)
  if not found then return nil, reason end
  saved.opened(outbox, found)
  return true
end

-- The file is held weakly: a task that waits must not keep an outbox from being collected.
local function due(held)
  return held[1] and held[1].sync_at
end

local function sync_when_due(held)
  local self = held[1]
  if self and self.sync_at and core.monotonic() >= self.sync_at and not self:sync() then
    self.sync_at = core.monotonic() + RETRY_EVERY
  end
end

local function keep_syncing(held, loop, left)
  local at = due(held)
  while at and not loop:wait(left, at) do
    sync_when_due(held)
    at = due(held)
  end
end

--- Writes what waits in memory after a while, whatever the script waits for by then.
-- @tparam number at seconds of the monotonic clock
-- @tparam table loop
function file:sync_at_last(at, loop)
  if not self.task or self.task:done() then
    self.left = loop:signal()
    self.task = loop:spawn_background(keep_syncing, setmetatable({ self }, { __mode = "v" }), loop, self.left)
  end
  self.sync_at = at
end

--- Dates what waits for a date, once the time is known.
function file:date()
  if not self.clock:look() then return end
  local _ <close> = enter(self)
  date(self)
end

--- Records have been put that nobody could date; the hook of NTP may know more by now.
function file:put_undated()
  self.undated = true
  self:date()
end

--- Takes an outbox out; the last one closes the file.
function file:leave(outbox)
  self.users[outbox.name] = nil
  self.max_bytes = nil -- to be counted again
  if next(self.users) then return end
  if self.left then self.left:raise() end
  files[self.path] = nil
  self.spool:close()
end

return file
