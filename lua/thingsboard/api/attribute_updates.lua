--- Iterates over the updates of shared attributes; no lasting update is missed.
--
-- The server drops updates while no poll is open, and sends some assignments as two messages, of which a poll gets one.
-- So the attributes are requested around every poll, and the iterator returns what differs from its last values.
-- @module thingsboard.api.attribute_updates
local core = require "thingsboard.core"
local backoff = require "thingsboard.http.backoff"
local json = require "thingsboard.json.decode"
local iterator = require "thingsboard.http.iterator"
local long_poll = require "thingsboard.http.long_poll"

local attribute_updates = {}

-- Seconds between a poll and its request: the request could overtake the poll, and neither would see a change between.
local BEHIND_POLL = 1
-- Seconds until the next poll after one that brought nothing new: do not busy-poll a server that repeats itself.
local NOTHING_NEW = 0.25

local function same(a, b)
  if type(a) ~= "table" or type(b) ~= "table" then return a == b and math.type(a) == math.type(b) end
  if getmetatable(a) ~= getmetatable(b) then return false end -- an empty array, an empty object
  for key, value in next, a do
    if not same(value, b[key]) then return false end
  end
  for key in next, b do
    if a[key] == nil then return false end
  end
  return true
end

-- Sets a value, or deletes it (nil). Returns whether that is a change.
local function set(state, key, value)
  if not state.wants(key) or same(value, state.current[key]) then return false end
  state.current[key] = value
  state.touched[key] = true
  state.changed:raise()
  return true
end

local function is_update(message)
  return json.is_object(message) and next(message) ~= nil
end

-- Applies one key of a message. A message can be delayed on a bad link, so a key that a request found changed since the
-- poll was sent is left to the next request.
local function update(state, key, value)
  return not state.found[key] and set(state, key, value)
end

-- Applies a message of the server: values by key, or {"deleted": [keys]}. Returns whether it changed anything.
local function apply_update(state, message)
  state.updates = state.updates + 1
  local deleted, new = message.deleted, false
  if type(deleted) == "table" and next(message, "deleted") == nil and next(message) == "deleted" then
    for _, key in ipairs(deleted) do new = update(state, key, nil) or new end
  else
    for key, value in next, message do new = update(state, key, value) or new end
  end
  return new
end

-- Applies all attributes: a key that is missing is deleted.
local function apply_all(state, values)
  for key, value in next, values do state.found[key] = set(state, key, value) or state.found[key] end
  for key in next, state.current do
    if values[key] == nil then state.found[key] = set(state, key, nil) or state.found[key] end
  end
end

local function finish(state, err)
  state.err = state.err or err
  state.ended = true
  state.changed:raise()
end

-- Starts a task that goes on after memory has run out.
local function keep(state, body)
  local loop = state.client.loop
  return loop:spawn_background(iterator.run_poll, loop, function(why) finish(state, why) end, body, state)
end

-- Requests the attributes. Returns false when the answer is stale, or may come from a failing database.
local function refresh(state)
  local updates = state.updates
  local answer, err = state.request()
  if not answer then return nil, err end
  if state.updates ~= updates then return false end -- it could undo a newer value
  -- A server whose database fails answers that there are no attributes: believe this only when it is said twice.
  if next(answer.shared) == nil and next(state.current) ~= nil and not state.emptied then
    state.emptied = true
    return false
  end
  state.emptied = false
  apply_all(state, answer.shared)
  return true
end

-- Requests the attributes once the poll has been open for a while, and again if another poll was sent meanwhile. Then
-- the task ends: starting one per poll needs less memory than one that always waits.
local function run_refresh(state)
  local loop, pause = state.client.loop, backoff.new(1, 60)
  repeat
    loop:sleep(math.max(0, state.opened_at + state.behind - core.monotonic()))
    local at = core.monotonic()
    local fresh, err = refresh(state)
    if err then
      if long_poll.is_final(err) then return finish(state, err) end
      state.client.server:wait(pause)
    elseif not fresh then
      loop:sleep(state.behind)
    end
  until state.ended or fresh and state.opened_at <= at - state.behind
end

local function run_poll(state)
  local updates = long_poll.new(state.client, "attribute_updates", "/attributes/updates", is_update)
  local loop, tasks = state.client.loop, state.tasks
  while not state.ended do
    local exchange <close> = updates:send(state.period)
    if not exchange then return finish(state) end -- the device was closed
    state.opened_at = updates.opened_at
    state.found = {}
    if not tasks.refresh or tasks.refresh:done() then tasks.refresh = keep(state, run_refresh) end
    local message, err = updates:receive(exchange)
    if message then
      if not apply_update(state, message) then loop:sleep(NOTHING_NEW) end
    elseif err then
      if long_poll.is_final(err) then return finish(state, err) end
      updates:recover()
    end
  end
end

-- The changes since the last ones that were returned; nothing when there are none.
local function difference(state)
  local values, deleted, any = {}, {}, false
  for key in next, state.touched do
    local now, before = state.current[key], state.handed[key]
    if not same(now, before) then
      any = true
      if now == nil then deleted[#deleted + 1] = key else values[key] = now end
      state.handed[key] = now
    end
  end
  state.touched = {}
  if any then return values, deleted end
end

-- The first request is sent before the first poll, and its values are returned as they are.
local function begin(state)
  local pause = backoff.new(1, 60)
  while not state.ended do
    local answer, err = state.request()
    if answer and not state.ended then
      apply_all(state, answer.shared)
      local values = difference(state) or {}
      state.tasks = { poll = keep(state, run_poll) }
      return values, {}
    end
    if err and long_poll.is_final(err) then return nil, err.kind ~= "closed" and err or nil end
    if not state.ended then state.client.server:wait(pause, state.changed) end -- closing the iterator ends it
  end
end

local function next_change(state)
  if not state.tasks then return begin(state) end
  while true do
    state.changed:lower()
    local values, deleted = difference(state)
    if values then return values, deleted end
    if state.ended then return nil, state.err end
    state.client.loop:wait(state.changed)
  end
end

--- The changes of shared attributes, beginning with their values.
-- @tparam table client
-- @tparam function request returns all of the attributes that are wanted, as `request_attributes` does
-- @tparam ?table keys names; nil for all
-- @tparam number period seconds that a poll stays open
-- @treturn iterator of a table of values and a list of deleted keys
function attribute_updates.new(client, request, keys, period)
  local wanted
  if keys then
    wanted = {}
    for _, key in ipairs(keys) do wanted[key] = true end
  end
  local loop = client.loop
  local state = {
    client = client, request = request, period = period, behind = math.min(BEHIND_POLL, period / 2),
    wants = function(key) return wanted == nil or wanted[key] or false end,
    current = {}, handed = {}, touched = {},
    found = {}, -- the set of keys that a request found changed since the last poll was sent
    updates = 0, -- messages that have come: a request during which one came is stale
    changed = loop:signal(),
  }
  return iterator.new(client, function() return next_change(state) end, function()
    finish(state)
    for _, task in next, state.tasks or {} do iterator.stop(task) end
  end)
end

return attribute_updates
