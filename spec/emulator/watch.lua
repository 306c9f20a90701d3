--- What the page shows: differences between two looks at the world, as tables that become JSON.
local cjson = require "cjson"

local watch = {}

local FIRST_REQUESTS = 300   -- so many of those that arrived before the page was opened
local MOST_REQUESTS = 500    -- of one look
local MOST_POINTS = 2000     -- of one look and device: beyond, the page asks for the series anew
local MOST_ASKED = 20        -- requests of a device, the last ones
local MOST_RPCS = 100        -- requests of the user, the last ones
local PREVIEW = 160          -- characters of a body in the list of requests

-- JSON is UTF-8: what is none is left out, or shown with question marks.
local function clean(text) return text and (utf8.len(text) and text or text:gsub("[\x80-\xFF]", "?")) end

-- The text of a body, cut at a character; nil for bytes that are no text.
local function readable(bytes, most)
  if not bytes then return nil end
  if #bytes > most then bytes = bytes:sub(1, utf8.offset(bytes, 0, most + 1) - 1) end
  return utf8.len(bytes) and bytes or nil
end

local function scope(entries)
  local list = {}
  for index, key in ipairs(entries.order) do
    local entry = entries.entries[key]
    list[index] = { key = key, type = entry.type, value = entry.value }
  end
  return list
end

local function asked_by(device)
  local list, requests = {}, device.client_requests
  for index = math.max(1, #requests - MOST_ASKED + 1), #requests do
    local request = requests[index]
    list[#list + 1] = {
      index = index, method = request.method, params = request.params,
      answer = request.open.answer and request.open.answer.body, waits = request.open.registered,
    }
  end
  return list
end

local function describe(device)
  local packages = {}
  for kind, package in pairs(device.packages) do
    packages[kind] = {
      title = package.title, version = package.version, size = package.size, url = package.url,
      checksum = package.checksum, checksum_algorithm = package.checksum_algorithm,
    }
  end
  return {
    name = device.name, token = device.token, credentials = device.credentials and device.credentials.type,
    client = scope(device.scopes.client), shared = scope(device.scopes.shared), server = scope(device.scopes.server),
    packages = packages, asked = asked_by(device), listens = next(device.sessions) ~= nil,
    claimed = device.claimed, offer = device.offer and { secret = device.offer.secret, ends_at = device.offer.ends_at },
  }
end

local function point(entry)
  return { entry.key, tostring(entry.ts), entry.type, clean(entry.value) }
end

local function later(left, right) return not left or right.ts >= left.ts end

-- Of each key the value of the greatest time.
local function latest(device)
  local found, list = {}, {}
  for _, entry in ipairs(device.telemetry) do
    if later(found[entry.key], entry) then found[entry.key] = entry end
  end
  for _, entry in pairs(found) do list[#list + 1] = point(entry) end
  return list
end

local function json_value(entry)
  if entry.type == "STRING" or entry.type == "JSON" then return cjson.encode(clean(entry.value)) end
  return entry.value
end

--- A key's values as JSON, `[[ts, value], ...]` by time: a time once, with its last value; nested JSON as a text.
function watch.series(device, key)
  local places, list = {}, {}
  for _, entry in ipairs(device.telemetry) do
    if entry.key == key then
      if not places[entry.ts] then list[#list + 1] = entry.ts end
      places[entry.ts] = entry
    end
  end
  table.sort(list)
  for index, ts in ipairs(list) do list[index] = ("[%d,%s]"):format(ts, json_value(places[ts])) end
  return "[" .. table.concat(list, ",") .. "]"
end

-- Why it went as it did: what the emulator knows, else what the server says with a status of failure.
local function why(entry)
  return clean(entry.why) or (entry.status or 0) >= 400 and entry.answer and readable(entry.answer.body, PREVIEW) or nil
end

local function brief(entry)
  return {
    id = entry.id, at = entry.at, ended_at = entry.ended_at, method = clean(entry.method), target = clean(entry.target),
    status = entry.status, why = why(entry), fault = entry.fault, given_up = entry.given_up,
    preview = readable(entry.body, PREVIEW), size = entry.body and #entry.body,
  }
end

--- A request with all that is known of it.
function watch.request(entry)
  local all, answer = brief(entry), entry.answer
  all.headers = {}
  for name, value in pairs(entry.headers or {}) do all.headers[clean(name)] = clean(value) end
  all.body = readable(entry.body, math.maxinteger)
  if answer then
    all.answer, all.answer_size = readable(answer.body, math.maxinteger), answer.size
    all.answer_headers = answer.headers
  end
  return all
end

local Watch = {}
Watch.__index = Watch

--- Starts to watch a world: the first look sees all of it.
-- @param handles the RPCs that were sent from the page
function watch.new(world, handles)
  return setmetatable({
    world = world, handles = handles, first = true,
    told = {},      -- JSON of what was told last, by part or device
    points = {},    -- how many values of each device have been told
    last = math.max(0, world.journal.requests - FIRST_REQUESTS), -- the last request told
    open = {},      -- requests that were told before they ended
  }, Watch)
end

-- The value if it differs from what was told last under this name.
function Watch:news(name, value)
  local text = cjson.encode(value)
  if self.told[name] == text then return nil end
  self.told[name] = text
  return value
end

function Watch:device_changes(changes)
  local devices, gone = {}, {}
  local present = self.world.devices.by_name
  for name in pairs(self.points) do
    if not present[name] then
      gone[#gone + 1] = name
      self.points[name], self.told[name] = nil, nil
    end
  end
  for name, device in pairs(present) do
    devices[#devices + 1] = self:news(name, describe(device))
  end
  changes.devices, changes.gone = devices[1] and devices, gone[1] and gone
end

function Watch:telemetry_changes(changes)
  local list = {}
  for name, device in pairs(self.world.devices.by_name) do
    local told, count = self.points[name], #device.telemetry
    if not told or count - told > MOST_POINTS then
      if count > 0 then list[#list + 1] = { device = name, points = latest(device), reload = true } end
    elseif count > told then
      local points = {}
      for index = told + 1, count do points[#points + 1] = point(device.telemetry[index]) end
      list[#list + 1] = { device = name, points = points }
    end
    self.points[name] = count
  end
  changes.telemetry = list[1] and list
end

function Watch:request_changes(changes)
  local list, journal = {}, self.world.journal
  for entry in pairs(self.open) do
    if entry.ended_at then
      self.open[entry] = nil
      list[#list + 1] = brief(entry)
    end
  end
  for id = math.max(self.last + 1, journal.requests - MOST_REQUESTS + 1), journal.requests do
    local entry = journal:find(id)
    if entry then -- else it has been cleared
      list[#list + 1] = brief(entry)
      if not entry.ended_at then self.open[entry] = true end
    end
  end
  self.last = journal.requests
  changes.requests = list[1] and list
end

function Watch:rpcs()
  local list, handles = {}, self.handles
  for index = math.max(1, #handles - MOST_RPCS + 1), #handles do
    local request = handles[index]
    list[#list + 1] = {
      index = index, device = request.device, id = request.id, method = request.method, params = request.params,
      oneway = request.oneway, persistent = request.persistent, status = request.status, sent_at = request.sent_at,
      result = request.result, result_at = request.result_at, response = request.response,
    }
  end
  return list
end

--- What has changed since the last look, or nil.
function Watch:changes()
  local world, changes = self.world, {}
  self:device_changes(changes)
  self:telemetry_changes(changes)
  self:request_changes(changes)
  changes.rpcs = self:news("\0rpcs", self:rpcs())
  changes.faults = self:news("\0faults", world.faults.list)
  changes.settings = self:news("\0settings", {
    rate_limits = world.settings.rate_limits, date_offset = world.settings.date_offset,
    queue_delay = world.settings.queue_delay,
    claiming_allowed = world.settings.claiming_allowed, client_rpc_reply = world.client_rpc_reply,
  })
  changes.profiles = self:news("\0profiles", world.profiles)
  if self.first then self.first, changes.start = nil, true end
  return next(changes) and changes
end

return watch
