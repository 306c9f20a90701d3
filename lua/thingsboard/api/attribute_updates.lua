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
-- Seconds over which the requests of devices are spread whose polls were sent together: all at once, each would need a
-- connection of its own.
local SPREAD = 0.25
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

-- Stands for nil in `touched`.
local NOTHING = {}

-- Sets a value, or deletes it (nil). Returns whether that is a change.
local function set(state, key, value)
  local before = state.current[key]
  if state.wanted and not state.wanted[key] or same(value, before) then return false end
  if state.touched[key] == nil then state.touched[key] = before == nil and NOTHING or before end
  state.current[key] = value
  state.changed:raise()
  return true
end

local function is_update(message)
  return json.is_object(message) and next(message) ~= nil
end

local KIND = long_poll.kind("attribute_updates", "/attributes/updates", is_update)

-- Applies one key of a message. Left to the next request are a key that a request found changed since the poll was
-- sent, for a message can be delayed on a bad link; and, where all keys are wanted, a new one, for a portal's JSON has
-- keys as well.
local function update(state, key, value)
  if state.found[key] or not state.wanted and state.current[key] == nil then return false end
  return set(state, key, value)
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

-- Requests the attributes, and again if another poll was sent meanwhile.
local function run_refresh(state)
  local loop, poll, pause = state.client.loop, state.poll, nil
  repeat
    local early = poll.opened_at + state.behind - core.monotonic()
    if early > 0 then loop:sleep(early) end
    local at = core.monotonic()
    local fresh, err = refresh(state)
    if err then
      if long_poll.is_final(err) then return finish(state, err) end
      pause = pause or backoff.new(1, 60)
      state.client.server:wait(pause)
    elseif not fresh then
      loop:sleep(state.behind)
    end
  until state.ended or fresh and poll.opened_at <= at - state.behind
  state.refresh = nil
end

-- The first request, before the first poll.
local function begin(state)
  local pause = backoff.new(1, 60)
  while not state.ended do
    local answer, err = state.request()
    if answer then
      apply_all(state, answer.shared)
      state.begun = true
      state.changed:raise()
      return
    end
    if long_poll.is_final(err) then return finish(state, err.kind ~= "closed" and err or nil) end
    state.client.server:wait(pause)
  end
end

-- Applies what the poll has brought.
local function receive(state)
  local message, err = state.poll:receive()
  if message then
    if not apply_update(state, message) then state.client.loop:sleep(NOTHING_NEW) end
  elseif err then
    if long_poll.is_final(err) then return finish(state, err) end
    state.poll:recover()
  end
end

-- Does what is to be done while no poll is open, and sends the next one. Then the task ends; the next task begins when
-- the poll has ended, and one that requests the attributes when the poll has been open for a while.
local function run(state)
  local loop, poll = state.client.loop, state.poll
  if not state.begun then begin(state) end
  if poll.exchange then receive(state) end
  if state.ended then return end
  state.found = {}
  local exchange = poll:send(state.period)
  if not exchange then return finish(state) end -- the device was closed
  if not state.refresh then
    local at = poll.opened_at + state.behind + math.random() * SPREAD
    state.refresh = loop:spawn_later(nil, at, {
      signal = state.changed, run = function() return iterator.run_poll(loop, finish, run_refresh, state) end,
    })
  end
  state.task = loop:spawn_later(exchange, nil, poll)
end

-- The changes since the last ones that were returned; nothing when there are none. The first time all values, if any.
local function difference(state)
  if not state.begun then return nil end
  local values, deleted, any = {}, {}, not state.returned
  for key, before in next, state.touched do
    local now = state.current[key]
    if before == NOTHING then before = nil end
    if not same(now, before) then
      any = true
      if now == nil then deleted[#deleted + 1] = key else values[key] = now end
    end
  end
  state.touched = {}
  state.returned = true
  if any then return values, deleted end
end

local function next_change(state)
  local loop = state.client.loop
  if not state.task then state.task = loop:spawn_background(state.poll.run) end
  while true do
    iterator.lower(state.changed, finish, state)
    local values, deleted = difference(state)
    if values then return values, deleted end
    if state.ended then return nil, state.err end
    iterator.wait(loop, state.changed)
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
  local state = {
    client = client, request = request, period = period, behind = math.min(BEHIND_POLL, period / 2),
    wanted = wanted, -- the set of keys; nil for all
    poll = long_poll.new(client, KIND),
    current = {}, -- values by key
    touched = {}, -- those that the iterator has returned, by key, where others have come since
    found = {}, -- the set of keys that a request found changed since the last poll was sent
    updates = 0, -- messages that have come: a request during which one came is stale
    changed = client.loop:signal(),
    -- And, nil until then: `begun` once the first request was answered, `returned` once the iterator has returned the
    -- values; `task` takes up the poll's end, `refresh` requests the attributes; `emptied` when the last request said
    -- that there are none any more; `ended`, and `err` why.
  }
  state.poll.signal = state.changed
  function state.poll.run() return iterator.run_poll(client.loop, finish, run, state) end
  return iterator.new(client, function() return next_change(state) end, function()
    finish(state)
    if state.task then iterator.stop(state.task) end
    if state.refresh then iterator.stop(state.refresh) end
    state.poll:close()
  end)
end

return attribute_updates
