--- Updates firmware or software: watches the shared attributes for a package, downloads it, resuming after
-- interruptions, verifies it, applies it at most once, and reports every state to the server.
--
-- The state is kept in a file that is replaced atomically before each step that depends on it, so that after a kill or
-- a power cut the next start continues from there.
-- @module thingsboard.ota.updater
local core = require "thingsboard.core"
local attributes = require "thingsboard.ota.attributes"
local backoff = require "thingsboard.http.backoff"
local check = require "thingsboard.check"
local clock = require "thingsboard.outbox.record_clock"
local errors = require "thingsboard.error"
local json = require "thingsboard.json.decode"
local options = require "thingsboard.options"
local resume = require "thingsboard.ota.resume"

local updater = {}

local strong = { SHA256 = true, SHA384 = true, SHA512 = true }

local FIRST_PAUSE, LAST_PAUSE = 1, 300 -- seconds between tries, after failures that are retryable
local MOST_TRIES = 6 -- without progress, when the server refuses or sends something else
local APART = 0.002 -- seconds between two states that have no time of their own
local TOLD_BEFORE_APPLY = 10 -- seconds to wait for UPDATING to be reported before `apply` is called
local MISSING_FOR = 5 -- seconds until an attribute that is missing is a failure: an assignment can be two messages

-- The package that the attributes tell of; nil when they tell of none. Its `missing` is the key of one that is not
-- there.
local function package_of(told, prefix)
  local package = attributes.read(prefix, told)
  -- What else there is may be left of a package that was taken away by hand.
  if told[prefix .. "title"] == nil and told[prefix .. "version"] == nil and not package.url then return nil end
  if package.nonsense then return package end
  if not package.title then
    package.missing = prefix .. "title"
  elseif not package.version then
    package.missing = prefix .. "version"
  elseif not package.url and not package.size then
    package.missing = prefix .. "size"
  end
  return package
end

local function is_same(one, other)
  for _, name in ipairs(attributes.names) do
    if one[name] ~= other[name] then return false end
  end
  return one.nonsense == other.nonsense and one.missing == other.missing
end

-- Writes the state file. Raises on failure: nothing may continue without it.
local function save(self)
  local file, reason = core.file(self.state_path, self.state_path .. ".new")
  local ok
  if file then
    ok, reason = file:write(core.body():value(self.state):text())
    if ok then ok, reason = file:commit() end
    file:close()
  end
  if not ok then error(errors.new("file", "updates: " .. reason), 0) end
end

local function load(self)
  local file = io.open(self.state_path, "rb")
  local text = file and file:read "a"
  if file then file:close() end
  local state = text and json.decode(text)
  if type(state) ~= "table" or type(state.untold) ~= "table" then state = { untold = {} } end
  core.array(state.untold)
  self.state = state
end

local function record_of(self, state, reason)
  local values = {
    ["current_" .. self.prefix .. "title"] = self.given.current.title,
    ["current_" .. self.prefix .. "version"] = self.given.current.version,
    [self.prefix .. "state"] = state,
    [self.prefix .. "error"] = reason,
  }
  if not clock.known() then return values end
  -- Timestamps grow by at least 1 ms even if the clock steps back: of two states with one timestamp the server would
  -- keep one, and it would take an older state for history.
  self.state.told_at = math.max(core.now(), (self.state.told_at or 0) + 1)
  return { ts = self.state.told_at, values = values }
end

-- Enters a phase: it is written to disk together with the states that are still to be reported.
local function reach(self, phase, told, reason)
  self.state.phase = phase
  if told then
    table.insert(self.state.untold, record_of(self, told, reason))
    self.all_told:lower()
  end
  save(self)
  self.news:raise()
end

local function report(self, record)
  if self.given.outbox then return self.given.outbox:put(record, true) end
  return self.device:send_telemetry(record)
end

-- Reports a state. Where the title, the version or the reason cannot be sent, the state goes without these.
local function report_anyway(self, record)
  local ok, err = report(self, record)
  if ok or err.kind ~= "value" then return ok, err end
  local name = self.prefix .. "state"
  local values = { [name] = (record.values or record)[name], [self.prefix .. "error"] = err.message }
  return report(self, record.ts and { ts = record.ts, values = values } or values)
end

-- Waits after a failure: as long as the backoff says; where the device's server was out of reach, at most until it
-- answers another call.
local function wait(self, pause, err)
  if err and err.retryable and (err.kind == "network" or err.kind == "timeout" or err.kind == "answer") then
    return self.client.server:wait(pause)
  end
  self.loop:sleep(pause:next())
end

-- Reports the states to the server in order; runs until it is cancelled.
local function tell(self)
  local pause = backoff.new(FIRST_PAUSE, LAST_PAUSE)
  while true do
    local record = self.state.untold[1]
    if record then
      local ok, err = report_anyway(self, record)
      if ok or not err.retryable and err.kind ~= "closed" and err.status ~= 401 then
        table.remove(self.state.untold, 1)
        save(self)
        -- Without a time of its own a state gets the server's: of two in one millisecond the server would keep one.
        if not record.ts then self.loop:sleep(APART) end
        pause:reset()
      else
        wait(self, pause, err)
      end
    else
      self.all_told:raise()
      self.news:lower()
      self.loop:wait(self.news)
    end
  end
end

local function why_refused(self, package)
  local given = self.given
  if package.nonsense then return ("the shared attribute %s makes no sense"):format(package.nonsense) end
  if package.missing then return ("the shared attribute %s is missing"):format(package.missing) end
  local https = package.url and package.url:lower():find("^https://")
  if package.url and not https and not (given.allow_http and package.url:lower():find("^http://")) then
    return "the package's URL is not https"
  end
  if not package.checksum then
    if https and given.unverified == "https" then return nil end
    return "the package has no checksum; give it one, or allow unverified packages by https"
  end
  if not package.checksum_algorithm then return "the package has a checksum, and no checksum algorithm" end
  local known, expected = pcall(core.checksum, package.checksum_algorithm)
  if not known then
    return ("the package's checksum algorithm '%s' is unknown (%s)"):format(package.checksum_algorithm,
      expected:match "%((.+)%)$")
  end
  if given.strong and not strong[package.checksum_algorithm:upper()] then
    return ("the package's %s protects from accidents only, and strong ones are demanded"):format(
      package.checksum_algorithm)
  end
end

local function fail(self, reason)
  resume.remove(self.part_path)
  reach(self, "failed", "FAILED", self.client:quote(reason)) -- quoted: `apply` or the server may have said any bytes
end

-- Whether to try the same request again. A wrong answer is tried a few times, too: the assignment may have changed and
-- the attributes not have come yet, or the server's cache may have dropped the package.
local function may_pass(err, tries, package)
  local status = err.kind == "http" and err.status or 0
  local portal = status >= 300 and status < 500 and package.url and package.url:find "^[Hh][Tt][Tt][Pp]:" -- perhaps
  local refused = status == 400 or status == 404 or portal
  if err.kind == "package" or refused then return tries < MOST_TRIES end
  return err.retryable
end

-- Downloads the whole package, continuing where it was. Returns true, or nil and the reason.
local function download(self)
  local state, package = self.state, self.state.package
  local pause = backoff.new(FIRST_PAUSE, LAST_PAUSE)
  local resumed = state.received > 0
  local tries = 0 -- without progress
  while true do
    local before = state.received
    local ok, err = resume.fetch(self, package)
    if ok then
      local well, reason = resume.verify(self, package)
      if well then return true end
      if not resumed then return nil, reason end
      resumed = false -- what was left on disk may be wrong: start over, once
      state.received = 0
      save(self)
    else
      tries = state.received > before and 0 or tries + 1
      if tries == 0 then pause:reset() end
      if not may_pass(err, tries, package) then return nil, err.message end
      resumed = true
      wait(self, pause, not package.url and err)
    end
  end
end

local function apply(self)
  local state = self.state
  local package = {}
  for _, name in ipairs(attributes.names) do package[name] = state.package[name] end
  package.path = self.part_path
  package.size = package.size or resume.size(self.part_path)
  local pause = backoff.new(FIRST_PAUSE, LAST_PAUSE)
  while true do
    reach(self, "updating", "UPDATING") -- after a restart from here on it has been applied or has failed
    self.loop:wait(self.all_told, core.monotonic() + TOLD_BEFORE_APPLY)
    self.applying = true
    local ok, result, reason = pcall(self.given.apply, package)
    self.applying = false
    if ok and result == true then
      self.given.current = { title = package.title, version = package.version }
      resume.remove(self.part_path)
      return reach(self, "updated", "UPDATED")
    end
    if not ok or result ~= "again" then
      return fail(self, errors.text_of(not ok and result or reason or "applying the package failed"))
    end
    state.phase = "verified"
    save(self)
    if self.next_package then return end
    self.loop:sleep(pause:next())
  end
end

-- Runs the phases of a package from the one that was reached to the end.
local function work(self)
  local state = self.state
  local package = state.package
  local is_here = state.phase == "downloaded" or state.phase == "verified"
  if is_here and self.given.package_directory and not resume.size(self.part_path) then -- memory that was cleared
    state.phase, state.received = "downloading", 0
  end
  if state.phase == "new" then
    local refused = why_refused(self, package)
    if refused then return fail(self, refused) end
    resume.remove(self.part_path)
    state.received = 0
    reach(self, "downloading", "DOWNLOADING")
  end
  if state.phase == "downloading" then
    local ok, reason = download(self)
    if not ok then return fail(self, reason) end
    reach(self, "downloaded", "DOWNLOADED")
    reach(self, "verified", "VERIFIED")
  elseif state.phase == "downloaded" or state.phase == "verified" then -- after a restart: verify it again
    local ok, reason = resume.verify(self, package)
    if not ok then return fail(self, reason) end
    if state.phase == "downloaded" then reach(self, "verified", "VERIFIED") end
  end
  if state.phase == "verified" then apply(self) end
end

-- The last run ended while it applied a package. Checks whether that version is running now.
local function conclude(self)
  local state, current = self.state, self.given.current
  if state.phase ~= "updating" then return end
  if current.title == state.package.title and current.version == state.package.version then
    resume.remove(self.part_path)
    reach(self, "updated", "UPDATED")
  else
    fail(self, ("version %s runs after the update, not %s"):format(current.version, state.package.version))
  end
end

local function consider(self, package)
  local state, current = self.state, self.given.current
  if state.package and is_same(package, state.package) then return end
  if self.applying then -- do not interrupt `apply`
    self.next_package = package
    return
  end
  if self.worker then self.worker:cancel() end
  self.worker = nil
  state.package = package
  if package.title == current.title and package.version == current.version then
    return reach(self, "updated")
  end
  reach(self, "new")
end

-- Starts a task whose failure ends `updates`.
local function spawn(self, body, ...)
  return self.loop:spawn_background(function(...)
    local ok, err = pcall(body, ...)
    if ok then return end
    self.failure = err
    self.updates:close()
  end, self, ...)
end

local unfinished = { new = true, downloading = true, downloaded = true, verified = true }

local function start_worker(self)
  if not unfinished[self.state.phase] or self.worker and not self.worker:done() then return end
  self.worker = spawn(self, function()
    work(self)
    local package = self.next_package
    if package then
      self.next_package = nil
      self.worker = nil
      consider(self, package)
      start_worker(self)
    end
  end)
end

local function consider_missing(self, package)
  self.loop:sleep(MISSING_FOR)
  consider(self, package)
  start_worker(self)
end

--- Runs until the device is closed, the server answers 401, or the state file cannot be written.
-- @tparam table device
-- @tparam table client the device's
-- @tparam table given see `options.updates`
-- @treturn nil
-- @treturn ?table the error that ended it
function updater.run(device, client, given)
  local wished = type(given) == "table" and given.chunk_size
  given = check.read("updates", given, options.updates)
  for _, name in ipairs { "title", "version" } do
    if type(given.current[name]) ~= "string" then
      error(("updates: option 'current' must have a string '%s'"):format(name), 2)
    end
  end
  if wished and wished > client.max_response then
    error(("updates: option 'chunk_size' is above the %d bytes of the device's max_response"):format(
      client.max_response), 2)
  end
  check.read("updates: url_options", given.url_options or {}, options.elsewhere)
  local loop = client.loop
  local self = {
    device = device, client = client, given = given, loop = loop, kind = given.kind,
    prefix = attributes.prefixes[given.kind],
    chunk_size = math.min(given.chunk_size, client.max_response),
    state_path = given.directory .. "/" .. given.kind .. ".state",
    part_path = (given.package_directory or given.directory) .. "/" .. given.kind .. ".package",
    news = loop:signal(), all_told = loop:signal(),
  }
  self.save = function() save(self) end
  load(self)
  local ok, err = pcall(function()
    conclude(self)
    save(self) -- fails now if the directory is not writable
    local keys = attributes.keys(self.prefix)
    self.updates = given.attribute_updates and given.attribute_updates(keys) or device:attribute_updates(keys)
    local teller, waiting = spawn(self, tell), nil
    local _ <close> = setmetatable({}, { __close = function()
      teller:cancel()
      if waiting then waiting:cancel() end
      if self.worker then self.worker:cancel() end
    end })
    local told = {}
    start_worker(self)
    for values, deleted in self.updates, nil, nil, self.updates do
      for _, key in ipairs(deleted) do told[key] = nil end
      for key, value in next, values do told[key] = value end
      if waiting then waiting:cancel() end
      waiting = nil
      local package = package_of(told, self.prefix)
      if package and package.missing then
        waiting = spawn(self, consider_missing, package)
      elseif package then
        consider(self, package)
        start_worker(self)
      end
    end
  end)
  if self.updates then self.updates:close() end
  err = self.failure or (not ok and err) or self.updates.error
  if err and not errors.is(err) then error(err, 0) end
  return nil, err
end

return updater
