--- Server-side RPC by two long polls: no request is lost between two polls, and none is returned twice.
--
-- After a poll that brought nothing the server believes that it is still open, and sends the next one-way request to
-- it: that is lost. So two polls are kept half a period apart, and one of them is always open.
-- @module thingsboard.api.rpc_requests
local core = require "thingsboard.core"
local iterator = require "thingsboard.http.iterator"
local long_poll = require "thingsboard.http.long_poll"

local rpc_requests = {}

-- All in seconds.
-- After a delivery the other poll follows once the new one has been open for so long: then no more requests wait.
local SETTLED = 0.1
-- How long after the 200 for a reply a poll may still bring the request: 200 means that the reply is queued.
local REMEMBERED = 5
-- Pauses between polls while a request is unanswered, for the server answers every poll with it at once.
local FIRST_TRY, LAST_TRY = 0.5, 10
-- Bytes that a queued request is assumed to take in addition to its text.
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

-- The other one of the two polls.
local function other(state, which)
  return which == state.polls[1] and state.polls[2] or state.polls[1]
end

-- The timeout to ask the server for, so that this poll ends half a period before or after the other one.
local function seconds_for(state, which)
  local period, ends_at = state.period, other(state, which).ends_at
  if not ends_at then return period * 10 / 9 end
  local left = math.max(0, ends_at - core.monotonic())
  return left <= period and left + period / 2 or left - period / 2
end

-- The time from which the poll may be sent; math.huge when something must change first.
local function when_to_send(state, which)
  if state.waiting > state.client.max_response then return math.huge end
  local hold, leader = state.hold, state.leader
  if hold then return which == leader and hold.try_at or math.huge end
  if leader == nil or leader == which then return 0 end
  return leader.ends_at and leader.opened_at + SETTLED or math.huge
end

local function notify(state)
  for _, which in ipairs(state.polls) do
    if which.changed then which.changed:raise() end
  end
end

local function wait_to_send(state, which)
  local loop = state.client.loop
  while not state.ended do
    which.changed = which.changed or loop:signal() -- while it waits: most of the time polls are open
    which.changed:lower()
    local at = when_to_send(state, which)
    if at <= core.monotonic() then break end
    loop:wait(which.changed, at < math.huge and at or nil)
  end
  which.changed = nil
end

-- What is known of a request, by its id:
--
--   delivered  The iterator has returned it and it is not answered: while it waits at the server, every poll brings it.
--   answered   The server has queued the answer, but may not have processed it: for a while a poll may bring the
--              request again.
--   expired    The server no longer has it: the id may come again, for another request. Such an entry is removed.
--
-- `since` is when it entered that state, `first_at` when the iterator returned it.
local function new_entry(text)
  local now = core.monotonic()
  return { state = "delivered", since = now, first_at = now, text = text }
end

-- The poll was sent after that, and the server has had time to bring the request, by the other poll, too, whose answer
-- may be slow to arrive on a bad link.
local function is_expired(entry, which, twin, now)
  return entry.since < which.opened_at and now - entry.since >= REMEMBERED
    and not (twin.ends_at and twin.opened_at < entry.since + REMEMBERED)
end

-- A poll has brought something else than the requests that came before that time: those still waiting at the server it
-- would have brought first.
local function remove_expired(state, which, before)
  local now, twin = core.monotonic(), other(state, which)
  for id, entry in next, state.known do
    if entry.first_at < before and is_expired(entry, which, twin, now) then state.known[id] = nil end
  end
end

-- Whether the server has restarted its ids: the id belongs to another request, or comes back after a later one, which
-- the waiting request would have held up.
local function is_restarted(state, which, id, text)
  local entry, last = state.known[id], state.known[state.last_id]
  return entry ~= nil
    and (entry.text ~= text or last ~= nil and id < state.last_id and which.opened_at > last.first_at)
end

-- What a request is that a poll brings: `new`; a `copy`, which the twin brought while this poll was open; `unanswered`
-- or `answered`, which comes again.
local function kind_of(entry, which)
  if not entry then return "new" end
  if entry.state == "answered" and which.opened_at >= entry.since + REMEMBERED then return "new" end
  if which.opened_at <= entry.first_at then return "copy" end
  return entry.state == "answered" and "answered" or "unanswered"
end

local on_arrival = {}

function on_arrival.new(state, which, message, text)
  which.copies = nil
  remove_expired(state, which, math.huge)
  state.hold = nil
  state.leader = which
  state.known[message.id] = new_entry(text)
  state.last_id = message.id
  state.last = state.last + 1
  state.queue[state.last] = {
    bytes = #text + OVERHEAD,
    request = setmetatable({
      id = message.id, method = message.method, params = message.params, device = state.device,
    }, request_type),
  }
  state.waiting = state.waiting + #text + OVERHEAD
  state.arrived:raise()
end

function on_arrival.copy() end

-- Holds both polls back, except that this one tries now and then: every poll would bring the request at once.
function on_arrival.unanswered(state, which, message)
  local hold = state.hold
  if hold and hold.id == message.id then
    hold.delay = math.min(LAST_TRY, hold.delay * 2)
  else
    hold = { id = message.id, delay = FIRST_TRY }
    state.hold = hold
  end
  hold.try_at = core.monotonic() + hold.delay
  state.leader = which
end

-- The server has queued the answer, but has not processed it yet.
function on_arrival.answered(state, which)
  which.copies = (which.copies or 0) + 1
  state.client.loop:sleep(math.min(REMEMBERED, SETTLED * 2 ^ (which.copies - 1)))
end

local function arrive(state, which, message, text)
  if is_restarted(state, which, message.id, text) then state.known = {} end
  local entry = state.known[message.id]
  local kind = kind_of(entry, which)
  if kind ~= "new" then remove_expired(state, which, entry.first_at) end
  on_arrival[kind](state, which, message, text)
end

-- The server's ids have 32 bits, and it accepts no answer to any other id.
local function is_request(message)
  return math.type(message.id) == "integer" and message.id >= -2 ^ 31 and message.id < 2 ^ 31
    and type(message.method) == "string"
end

local KIND = long_poll.kind("rpc_requests", "/rpc", is_request)

local function finish(state, err)
  state.err = state.err or err
  state.ended = true
  state.arrived:raise()
end

-- Takes up what the poll has brought.
local function receive(state, which)
  local message, err, text = which:receive()
  if message then
    arrive(state, which, message, text)
  elseif not err then
    which.copies = nil
    remove_expired(state, which, math.huge)
    if state.leader == which then state.leader, state.hold = nil, nil end
  else
    if long_poll.is_final(err) then return finish(state, err) end
    if state.leader == which and not state.hold then state.leader = nil end
    notify(state)
    which:recover()
  end
  notify(state)
end

-- Does what is to be done while the poll is not open, and sends it again. Then the task ends; the next task begins when
-- the poll has ended.
local function run(state, which)
  if which.exchange then receive(state, which) end
  wait_to_send(state, which)
  if state.ended then return end
  local exchange = which:send(seconds_for(state, which))
  if not exchange then return finish(state) end -- the device was closed
  notify(state)
  which.task = state.client.loop:spawn_later(exchange, nil, which)
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
    iterator.lower(state.arrived, finish, state)
    if state.ended then return nil, state.err end
    iterator.wait(state.client.loop, state.arrived)
  end
end

--- The requests of the server, as they come.
-- @tparam string what the method, for the error
-- @tparam table device whose `reply_rpc` answers them
-- @tparam table client
-- @tparam number period seconds from the end of a poll to its next end
-- @treturn iterator
function rpc_requests.new(what, device, client, period)
  if client.rpc then error(what .. ": the device's requests are being iterated over already", 3) end
  local loop = client.loop
  local state = {
    device = device, client = client, period = period,
    known = {}, -- requests that were returned, by id: see `new_entry`
    last_id = -1, -- the one that was returned last
    queue = {}, first = 1, last = 0, waiting = 0, -- bytes of the queued requests
    arrived = loop:signal(),
  }
  state.polls = {}
  for i = 1, 2 do
    local which = long_poll.new(client, KIND)
    which.task = nil -- the one that takes up its end, and sends it again
    which.changed = nil -- the signal that it waits for, while it waits to be sent
    which.copies = nil -- answers in a row that brought only requests that have been answered
    which.signal = state.arrived
    function which.run() return iterator.run_poll(loop, finish, run, state, which) end
    state.polls[i] = which
  end
  local it = iterator.new(client, function() return next_request(state) end, function()
    client.rpc = nil
    finish(state)
    for _, which in ipairs(state.polls) do
      if which.task then iterator.stop(which.task) end
      which:close()
    end
  end) -- before the tasks: if one cannot be started, this ends the other
  if client.closed then return it end
  client.rpc = state
  for _, which in ipairs(state.polls) do which.task = loop:spawn_background(which.run) end
  return it
end

--- Says that a request has been answered.
function rpc_requests.answered(client, id)
  local state = client.rpc
  local entry = state and state.known[id]
  if not entry then return end
  entry.state, entry.since = "answered", core.monotonic()
  if state.hold and state.hold.id == id then state.hold = nil end
  notify(state)
end

return rpc_requests
