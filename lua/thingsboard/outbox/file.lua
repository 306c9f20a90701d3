--- A file of an outbox, which devices may share: opened, written, set aside when it is damaged.
-- @module thingsboard.outbox.file
local core = require "thingsboard.core"
local clock = require "thingsboard.outbox.record_clock"
local spool = require "thingsboard.spool"

local store = {}
store.__index = store

local DAMAGED = { CORRUPT = true, NOTADB = true }

local TAKEN_AT_ONCE = 1000 -- milliseconds
local RETRY_EVERY = 1 -- seconds, when the disk fails

local stores = setmetatable({}, { __mode = "v" }) -- those of this process, by path

--- The store of a path; one for all who ask.
-- @tparam string path
-- @treturn[1] table
-- @treturn[2] nil
-- @treturn[2] string what is wrong
function store.of(path)
  local real, reason = spool.real_path(path)
  if not real then return nil, reason end
  local self = stores[real]
  if self then return self end
  local on = spool.spool(real)
  self = setmetatable({
    path = real, spool = on, clock = clock.new(on),
    users = {}, -- the outboxes, by name
    busy = 0, -- batches in flight: the numbers of their records must not change under them
    inside = false, -- a transaction, or another step that a finalizer in its midst must not get into
  }, store)
  stores[real] = self
  return self
end

--- Raises where a finalizer has called this in the midst of another call, which could not go on.
-- @tparam integer level as `error` takes
function store:check_free(level)
  if self.inside or self.spool:busy() then
    error("the outbox is in use: a finalizer has called it in the midst of another call", level)
  end
end

-- Begins what finalizers must not get into; the variable that is to be closed ends it.
local function enter(self)
  self:check_free(4)
  self.inside = true
  return self
end

function store:__close()
  self.inside = false
end

-- Gives a damaged file another name, and its log with it.
local function set_aside(path)
  local stem, n = ("%s.damaged-%d"):format(path, core.now() // 1000), 0
  local name = stem
  for file in function() return io.open(name, "rb") end do
    file:close()
    n = n + 1
    name = stem .. "-" .. n
  end
  local ok, reason = os.rename(path, name)
  if ok then os.rename(path .. "-wal", name .. "-wal") end
  return ok, reason
end

-- Records of earlier starts of the system that nobody has dated follow the last time that is known, as they followed
-- one another.
local function date_lost(self)
  local at = self.spool:query("SELECT max(at) FROM (SELECT max(ts) AS at FROM runs WHERE boot IS NULL UNION ALL " ..
    "SELECT max(count) FROM counters WHERE cause = 'last known time')")
  at = at and at[1][1] or self.clock:offset_now() and core.now()
  if not at then return end -- nobody has ever known
  local lost = self.spool:query("SELECT boot, min(ts), max(ts) FROM runs WHERE boot <> ? GROUP BY boot ORDER BY boot",
    self.boot) or {}
  for _, boot in ipairs(lost) do
    -- Of every device that shares the file, whether it is here or not.
    local ok = self.spool:query "BEGIN" and
      self.spool:query("INSERT INTO counters SELECT id / ?, 'undated', sum(count) FROM runs WHERE boot = ? " ..
        "GROUP BY 1 ON CONFLICT (device, cause) DO UPDATE SET count = count + excluded.count",
        spool.NUMBERS, boot[1]) and
      self.spool:query("UPDATE runs SET ts = ts + ?, boot = NULL WHERE boot = ?", at + 1 - boot[2], boot[1]) and
      self.spool:query "COMMIT"
    if not ok then return self.spool:query "ROLLBACK" end
    at = at + 1 + boot[3] - boot[2]
  end
end

-- Takes up what the file has, for all its users or, on failure, for none.
local function take_up(self)
  local taken, reason, code = self.spool:query "SELECT count FROM counters WHERE device = 0 AND cause = 'times taken'"
  if not taken then return nil, reason, code end
  self.taken = taken[1] and taken[1][1] or 0
  self.clock:follow(self.taken, math.maxinteger)
  date_lost(self)
  local undated
  undated, reason, code = self.spool:query("SELECT 1 FROM runs WHERE boot = ? LIMIT 1", self.boot)
  if not undated then return nil, reason, code end
  local found = {}
  for _, outbox in next, self.users do
    found[outbox], reason, code = outbox:read()
    if not found[outbox] then return nil, reason, code end
  end
  if undated[1] then self.undated = true end
  for outbox, has in next, found do outbox:opened(has) end
  return true
end

local function open(self)
  if self.is_open then return true end
  if self.busy > 0 then return nil, self.trouble end
  local boot, reason, code = self.spool:open()
  for _, outbox in next, self.users do outbox:renumbered() end
  if not boot then return nil, reason, code end
  self.boot = boot
  local ok
  ok, reason, code = take_up(self)
  if not ok then
    self.spool:shut()
    return nil, reason, code
  end
  self.is_open = true
  return true
end

local function mend(self, code)
  if not DAMAGED[code] and code ~= "MOVED" or self.busy > 0 then return false end
  self.spool:shut()
  self.is_open = false
  for _, outbox in next, self.users do outbox:renumbered() end
  local ok, reason = true, nil
  if DAMAGED[code] then ok, reason = set_aside(self.path) end
  if ok then
    for _, outbox in next, self.users do outbox:lose("damaged", 1) end
    ok, reason = open(self)
  end
  if not ok then self.trouble = reason end -- while it lasts, the file is not open
  return ok == true
end

--- Sees to a damaged file, or one that was taken away: a damaged one gets another name, and a new one is begun with
-- what is in memory.
-- @tparam ?string code SQLite's name of an error, or `MOVED`
-- @treturn boolean whether it was so, and is in order now
function store:mend(code)
  local _ <close> = enter(self)
  return mend(self, code)
end

-- Times ahead of the clock must not be given again by a process that comes after this one, when their records may have
-- been sent: so they are taken in the file, a second's worth at once, before any of these records is there.
local function take_times(self)
  local last = self.clock:ahead()
  if not last or last <= self.taken then return true end
  local taken = last + TAKEN_AT_ONCE
  local ok, reason, code = self.spool:query("INSERT OR REPLACE INTO counters VALUES (0, 'times taken', ?)", taken)
  if ok then self.taken = taken end
  return ok, reason, code
end

local function write(self)
  local ok, reason, code = open(self)
  if ok then ok, reason, code = take_times(self) end
  if not ok then return nil, reason, code end
  local changed
  for _, outbox in next, self.users do changed = changed or outbox:has_changes() end
  if changed then
    ok, reason, code = self.spool:query "BEGIN"
    for _, outbox in next, self.users do
      if ok then ok, reason, code = outbox:write_changes() end
    end
    if ok then ok, reason, code = self.spool:query "COMMIT" end
    if not ok then
      self.spool:query "ROLLBACK"
      return nil, reason, code
    end
    for _, outbox in next, self.users do outbox:changes_written() end
  end
  return self.spool:sync()
end

--- Writes everything that has changed.
-- @treturn[1] boolean true: it is on the disk
-- @treturn[2] nil
-- @treturn[2] string what is wrong; it waits in memory
function store:sync()
  local _ <close> = enter(self)
  local ok, reason, code = write(self)
  if not ok and mend(self, code) then ok, reason = write(self) end
  self.trouble = not ok and reason or nil
  self.sync_at = nil
  return ok, reason
end

--- Takes an outbox in, which is among the users already: it gets to know what the file has of it.
-- @treturn[1] boolean true
-- @treturn[2] nil
-- @treturn[2] string what is wrong
function store:take_in(outbox)
  if not self.is_open then return self:sync() end
  local _ <close> = enter(self)
  local found, reason = outbox:read()
  if not found then return nil, reason end
  outbox:opened(found)
  return true
end

-- The store is held weakly: a task that waits must not keep an outbox from being collected.
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
function store:sync_at_last(at, loop)
  if not self.task or self.task:done() then
    self.left = loop:signal()
    self.task = loop:spawn_background(keep_syncing, setmetatable({ self }, { __mode = "v" }), loop, self.left)
  end
  self.sync_at = at
end

--- Dates what waits for a date, once the time is known.
function store:date()
  local offset = self.undated and self.clock:offset_now()
  if offset and self.spool:date(offset) then self.undated = false end
end

--- Gives the store up; the last user closes it.
function store:leave(outbox)
  self.users[outbox.name] = nil
  if next(self.users) then return end
  if self.left then self.left:raise() end
  stores[self.path] = nil
  self.spool:close()
end

return store
