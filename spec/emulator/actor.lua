--- The device's actor: requests that the server's user sends to the device (server-side RPC).
local condition = require "cqueues.condition"
local cqueues = require "cqueues"
local cjson = require "cjson.safe"
local socket = require "socket"
local answers = require "spec.emulator.answers"
local gson = require "spec.emulator.gson"
local numbers = require "spec.emulator.numbers"

local actor = {}

local strict = cjson.new()
strict.decode_invalid_numbers(false)

--- Makes the state of an actor: as after a start of the server.
function actor.new()
  return {
    next_id = 0,
    pending = {},       -- requests kept for the device, in their order
    subscriptions = {}, -- polls that the actor believes open, in their order: also those that ended without an answer
  }
end

--- Forgets the polls, as a change of credentials does.
function actor.forget_polls(device)
  device.actor.subscriptions = {}
  for open in pairs(device.sessions) do open.wants_updates = nil end
end

local function settle(request, status, body)
  if request.result then return end
  request.result = { status = status, body = body }
  request.result_at = socket.gettime()
  request.changed:signal()
end

local function remove(state, request)
  for index, other in ipairs(state.pending) do
    if other == request then return table.remove(state.pending, index) end
  end
end

local function find(state, id)
  for _, request in ipairs(state.pending) do
    if request.id == id then return request end
  end
end

local function uuid()
  return (("xxxxxxxx-xxxx-4xxx-8xxx-xxxxxxxxxxxx"):gsub("x", function() return ("%x"):format(math.random(0, 15)) end))
end

local next_in_turn

-- Whether or not anybody reads the answer, the request counts as delivered.
local function deliver(world, device, open, request)
  local body = ('{"id":%d,"method":%s,"params":%s}'):format(request.id, gson.quote(request.method), request.params)
  if not open:give(answers.json(body)) then return end
  world.limits:pass(device) -- reporting the delivery costs a message
  if request.oneway then
    if remove(device.actor, request) then request.status = "DELIVERED" end
  else
    request.delivered, request.status = true, "DELIVERED"
  end
  if world.settings.rpc_strategy == "SEQUENTIAL_ON_ACK_FROM_DEVICE" then next_in_turn(world, device) end
end

-- What a poll gets of the requests that wait.
local function due(world, state)
  local strategy = world.settings.rpc_strategy
  if strategy == "SEQUENTIAL_ON_ACK_FROM_DEVICE" then
    for _, request in ipairs(state.pending) do
      if not request.delivered then return request end
    end
  elseif strategy == "SEQUENTIAL_ON_RESPONSE_FROM_DEVICE" then
    local first = state.pending[1]
    return first and not first.delivered and first or nil
  else
    return state.pending[1]
  end
end

local function hand_over(world, device, open, request)
  deliver(world, device, open, request)
  if request.oneway and not request.persistent then
    settle(request, 200, "")
    remove(device.actor, request)
  end
end

function next_in_turn(world, device)
  local state = device.actor
  local request = due(world, state)
  if request and #state.subscriptions > 0 then
    local listening = state.subscriptions
    state.subscriptions = {}
    for _, open in ipairs(listening) do hand_over(world, device, open, request) end
  end
end

--- A poll arrives.
function actor.subscribe(world, device, open)
  local state = device.actor
  if #state.pending == 0 then
    state.subscriptions[#state.subscriptions + 1] = open
    return
  end
  -- With requests waiting the poll is not kept, even if none of them is due.
  local request = due(world, state)
  if not request then return end
  hand_over(world, device, open, request)
  if world.settings.rpc_strategy == "SEQUENTIAL_ON_RESPONSE_FROM_DEVICE" and not request.oneway then
    world:later(world.settings.rpc_response_timeout, function()
      if find(state, request.id) == request then request.delivered = false end
    end)
  end
end

local function expire(world, device, request)
  if not remove(device.actor, request) then return end
  request.status = "EXPIRED"
  local early = request.delivered and 408 or 409
  settle(request, request.version == 1 and early or 504, "")
  next_in_turn(world, device)
end

local function may_send(world, state)
  local strategy = world.settings.rpc_strategy
  if strategy == "SEQUENTIAL_ON_ACK_FROM_DEVICE" then return due(world, state) == nil end
  return strategy ~= "SEQUENTIAL_ON_RESPONSE_FROM_DEVICE" or #state.pending == 0
end

-- Params travel through two JSON libraries before they reach the device; this is what the first makes of them.
local function params_text(params)
  local tree = params and assert(gson.parse(params)) or gson.null
  return gson.write(tree, { number = numbers.jackson })
end

--- The server's user sends a request to the device.
-- @param fields `method`, `params` (JSON text), `oneway`, `persistent`, `timeout` (milliseconds), `version` of the
-- user's API
-- @return the request; its `result` appears when the user gets an answer
function actor.send(world, device, fields)
  local state = device.actor
  local timeout = math.max(world.settings.rpc_min_timeout, fields.timeout or world.settings.rpc_default_timeout)
  local request = {
    device = device.name, id = state.next_id, method = fields.method, params = params_text(fields.params),
    oneway = fields.oneway, persistent = fields.persistent, version = fields.version,
    status = "QUEUED", changed = condition.new(), sent_at = socket.gettime(),
  }
  state.next_id = state.next_id + 1
  local listening = may_send(world, state) and state.subscriptions or {}
  local sent = #listening > 0
  if sent then state.subscriptions = {} end
  if request.persistent then
    request.rpc_id = uuid()
    settle(request, 200, ('{"rpcId":"%s"}'):format(request.rpc_id))
  end
  if request.oneway and sent and not request.persistent then
    settle(request, 200, "")
  else
    state.pending[#state.pending + 1] = request
    world:later(timeout, function() expire(world, device, request) end)
    -- The user's own request is given up like any other.
    world:later(1000 * (world:async_deadline() - cqueues.monotime()), function() settle(request, 503, "") end)
  end
  for _, open in ipairs(listening) do deliver(world, device, open, request) end
  return request
end

--- The device replies: the first reply to a request that still waits counts, all others are ignored.
function actor.reply(world, device, id, payload)
  local request = remove(device.actor, find(device.actor, id))
  if not request then return end
  local body = strict.decode(payload) ~= nil and gson.write(gson.parse(payload), { number = numbers.jackson })
  if request.persistent then
    request.status = "SUCCESSFUL"
    request.response = body or '{"error":' .. gson.quote(payload) .. "}"
  else
    request.status = "SUCCESSFUL"
    settle(request, body and 200 or 406, body or "")
  end
  next_in_turn(world, device)
end

--- What a restart of the server leaves: persistent requests that were not delivered, with new ids.
function actor.restart(device)
  local state = device.actor
  local kept = {}
  for _, request in ipairs(state.pending) do
    if request.persistent and request.status == "QUEUED" then
      request.id = #kept
      kept[#kept + 1] = request
    end
  end
  state.pending, state.subscriptions, state.next_id = kept, {}, #kept
end

return actor
