--- Server-side RPC: two long polls that lose no request, and bring none twice.
--
-- The server takes a poll that has ended empty for one that still listens, and sends the next one-way request there:
-- it is lost. So there are two polls, kept half a period apart, and one of them is always open.
-- @module thingsboard.api.rpc_requests
local core = require "thingsboard.core"
local poll = require "thingsboard.http.long_poll"

local rpc = {}

-- All in seconds.
-- A poll must have been open for this long before the other follows it: then nothing was waiting.
local SETTLED = 0.1
-- A 200 for a reply means that it is queued: for so long the next poll may bring the request again.
local REMEMBERED = 5
-- While a request stays unanswered the server brings it to every poll, at once: a try now and then is enough.
local FIRST_TRY, LAST_TRY = 0.5, 10
-- Bytes that a request takes here, beside its text.
local OVERHEAD = 256

local request_type = {}
request_type.__index = request_type
request_type.__name = "thingsboard.rpc_request"

--- Answers the request.
-- @param value any JSON value
-- @treturn[1] boolean true: the server has taken it
-- @treturn[2] nil
-- @treturn[2] table the error
function request_type:reply(value)
  return self.device:reply_rpc(self.id, value)
end

-- One poll, seen with its twin.
local function other(state, which)
  return which == state.polls[1] and state.polls[2] or state.polls[1]
end

-- How long to ask the server for, so that this poll ends half a period from the other's end.
local function seconds_for(state, which)
  local period, ends_at = state.period, other(state, which).ends_at
  if not ends_at then return period * 10 / 9 end
  local left = math.max(0, ends_at - core.monotonic())
  return left <= period and left + period / 2 or left - period / 2
end

-- From when on the poll may be sent; math.huge: not before something changes.
local function when_to_send(state, which)
  if state.waiting > state.client.max_response then return math.huge end
  local hold, leader = state.hold, state.leader
  if hold then return which == leader and hold.try_at or math.huge end
  if leader == nil or leader == which then return 0 end
  return leader.ends_at and leader.opened_at + SETTLED or math.huge
end

local function notify(state)
  for _, which in ipairs(state.polls) do which.changed:raise() end
end

local function wait_to_send(state, which)
  local loop = state.client.loop
  while true do
    which.changed:lower()
    local at = when_to_send(state, which)
    if at <= core.monotonic() then return end
    loop:wait(which.changed, at < math.huge and at or nil)
  end
end

-- Whether a poll was sent so early that the server may have answered it with the request.
local function may_bring(which, old)
  return not old.answered_at or which.opened_at < old.answered_at + REMEMBERED
end

-- The poll would have brought every request that came before `before` and still waits: what it has not brought is gone
-- from the server, and its id may come again, for another request. Unless the other poll brings it still: on a bad link
-- an answer can be under way for long.
local function forget(state, which, before)
  local now, twin = core.monotonic(), other(state, which)
  for id, old in next, state.seen do
    local settled_at = old.answered_at or old.first_at
    if old.first_at < before and settled_at < which.opened_at and now - settled_at >= REMEMBERED
      and not (twin.ends_at and twin.opened_at < settled_at + REMEMBERED) then
      state.seen[id] = nil
    end
  end
end

local function hold_back(state, which, id)
  local hold = state.hold
  if hold and hold.id == id then
    hold.delay = math.min(LAST_TRY, hold.delay * 2)
  else
    hold = { id = id, delay = FIRST_TRY }
    state.hold = hold
  end
  hold.try_at = core.monotonic() + hold.delay
  state.leader = which
end

-- Whether the server has begun to count anew: the id stands for another request, or comes back after a later one, which
-- it would have held up while it waited.
local function is_restarted(state, which, id, text)
  local old, last = state.seen[id], state.seen[state.last_id]
  return old ~= nil and (old.text ~= text or last ~= nil and id < state.last_id and which.opened_at > last.first_at)
end

local function arrive(state, which, message, text)
  local id = message.id
  if is_restarted(state, which, id, text) then state.seen = {} end
  local old = state.seen[id]
  if old and may_bring(which, old) then -- a copy
    local came_back = which.opened_at > old.first_at
    forget(state, which, old.first_at)
    if came_back and not old.answered_at then
      hold_back(state, which, id)
    elseif came_back then -- the server has the reply, and has not come to it yet
      which.copies = which.copies + 1
      state.client.loop:sleep(math.min(REMEMBERED, SETTLED * 2 ^ (which.copies - 1)))
    end
    return
  end
  which.copies = 0
  forget(state, which, math.huge)
  state.hold = nil
  state.leader = which
  state.seen[id] = { first_at = core.monotonic(), text = text }
  state.last_id = id
  state.last = state.last + 1
  state.queue[state.last] = {
    bytes = #text + OVERHEAD,
    request = setmetatable({
      id = id, method = message.method, params = message.params, device = state.device,
    }, request_type),
  }
  state.waiting = state.waiting + #text + OVERHEAD
  state.arrived:raise()
end

-- Ids have 32 bits at the server, which can take the answer to no other.
local function is_request(message)
  return math.type(message.id) == "integer" and message.id >= -2 ^ 31 and message.id < 2 ^ 31
    and type(message.method) == "string"
end

local function finish(state, err)
  state.err = state.err or err
  state.ended = true
  state.arrived:raise()
end

local function run(state, which)
  which.ends_at = nil
  while true do
    wait_to_send(state, which)
    if state.ended then return end
    local exchange <close> = which:send(seconds_for(state, which))
    if not exchange then return finish(state) end -- the device was closed
    notify(state)
    local message, err, text = which:receive(exchange)
    if message then
      arrive(state, which, message, text)
    elseif not err then
      which.copies = 0
      forget(state, which, math.huge)
      if state.leader == which then state.leader, state.hold = nil, nil end
    else
      if poll.is_final(err) then
        return finish(state, err)
      end
      if state.leader == which and not state.hold then state.leader = nil end
      notify(state)
      which:recover()
    end
    notify(state)
  end
end

local function next_request(state)
  while true do
    local entry = state.queue[state.first]
    if entry then
      state.queue[state.first] = nil
      state.first = state.first + 1
      state.waiting = state.waiting - entry.bytes
      notify(state)
      return entry.request
    end
    if state.ended then return nil, state.err end
    state.arrived:lower()
    state.client.loop:wait(state.arrived)
  end
end

--- The requests of the server, as they come.
-- @tparam table device whose `reply_rpc` answers them
-- @tparam table client
-- @tparam number period seconds from the end of a poll to its next end
-- @treturn iterator
function rpc.requests(device, client, period)
  if client.rpc then error("rpc_requests: the device's requests are being iterated over already", 3) end
  local loop = client.loop
  local state = {
    device = device, client = client, period = period,
    seen = {}, -- what has been handed out, by id: first_at, answered_at, text
    last_id = -1, -- the one that was handed out last
    queue = {}, first = 1, last = 0, waiting = 0, -- bytes of what waits to be handed out
    arrived = loop:signal(),
  }
  state.polls = {}
  for i = 1, 2 do
    local which = poll.new(client, "rpc_requests", "/rpc", is_request)
    which.changed = loop:signal()
    which.copies = 0 -- answers in a row that brought nothing but what has been answered
    state.polls[i] = which
  end
  local tasks = {}
  local function at_end(err) finish(state, err) end
  local it = poll.iterator(client, function() return next_request(state) end, function()
    client.rpc = nil
    finish(state)
    for _, task in ipairs(tasks) do poll.stop(task) end
  end) -- before the tasks: if one cannot be started, this ends the other
  if client.closed then return it, nil, nil, it end
  client.rpc = state
  for i, which in ipairs(state.polls) do
    tasks[i] = loop:spawn_background(poll.keep, loop, at_end, run, state, which)
  end
  return it, nil, nil, it
end

--- Says that a request has been answered.
function rpc.answered(client, id)
  local state = client.rpc
  local old = state and state.seen[id]
  if not old then return end
  old.answered_at = core.monotonic()
  if state.hold and state.hold.id == id then state.hold = nil end
  notify(state)
end

return rpc
