--- The endpoints of the device API. Each says what it needs of a request and what it answers.
-- Fields: `body` ("required" or "optional"); `method_name` for the message about a missing one; `parameters`, a
-- function that reads the rest of the request; `wants_json` where the client has to accept JSON; `handle`.
local cqueues = require "cqueues"
local actor = require "spec.emulator.actor"
local answers = require "spec.emulator.answers"
local attributes = require "spec.emulator.attributes"
local claim = require "spec.emulator.claim"
local client_rpc = require "spec.emulator.client_rpc"
local conversion = require "spec.emulator.conversion"
local errors = require "spec.emulator.errors"
local ota = require "spec.emulator.ota"
local parameters = require "spec.emulator.parameters"
local provision = require "spec.emulator.provision"
local session = require "spec.emulator.session"
local telemetry = require "spec.emulator.telemetry"

local endpoints = {}

-- An exception behind the token check: with a text where it comes from reading JSON, else bare.
local function failed(exchange, message, why)
  if message == "" then return answers.empty(500, why) end
  return answers.text(exchange, 500, message)
end

local NOT_STORED = "200, but nothing is stored: a key is blank, longer than 255 characters, or looks like markup"

local function accepted(stored) return answers.empty(200, not stored and NOT_STORED or nil) end

-- Opens a session, lets `begin` work with it, and waits. Over the rate limit nothing happens until the request is
-- given up.
local function wait_in_session(world, exchange, device, timeout, begin)
  local within_limit = timeout < 0 or world.limits:pass(device)
  local open = session.open(world, device, within_limit and timeout or nil, {
    timeout = function() return answers.empty(408) end,
    gave_up = function() return errors.gave_up(world, exchange, not within_limit and world.limits:why()) end,
  })
  open.exchange = exchange
  if within_limit then begin(open) end
  return open:wait(exchange.watch)
end

local function poll_parameters(exchange)
  local timeout, message = parameters.number(exchange.query, "timeout", "long", 0)
  return timeout and { timeout = timeout }, message
end

local function poll_timeout(world, asked)
  return asked == 0 and world.settings.request_timeout or asked
end

local function package_parameters(exchange)
  local asked = {}
  for _, name in ipairs { "title", "version" } do
    asked[name] = parameters.text(exchange.query, name)
    if not asked[name] then
      return nil, ("Required request parameter '%s' for method parameter type String is not present"):format(name)
    end
  end
  for _, name in ipairs { "size", "chunk" } do
    local message
    asked[name], message = parameters.number(exchange.query, name, "int", 0)
    if not asked[name] then return nil, message end
  end
  return asked
end

local function package_endpoint(kind)
  return {
    parameters = package_parameters,
    handle = function(world, exchange, device, asked)
      if not world.limits:pass(device) then return answers.empty(500, world.limits:why()) end
      return ota.download(exchange, device, kind, asked)
    end,
  }
end

endpoints.post_telemetry = {
  body = "required",
  method_name = "postTelemetry(java.lang.String,java.lang.String,jakarta.servlet.http.HttpServletRequest)",
  handle = function(world, exchange, device, _, body)
    local records, message, why = conversion.telemetry(body, world:now(), world.settings.string_limit)
    if not records then return failed(exchange, message, why) end
    if #records == 0 then
      -- Nothing is sent on, so nothing comes back.
      return session.open(world, device, nil, {
        gave_up = function() return errors.gave_up(world, exchange) end,
      }):wait(exchange.watch)
    end
    local points = 0
    for _, record in ipairs(records) do points = points + #record.values end
    if not world.limits:pass(device, points) then return answers.empty(500, world.limits:why()) end
    return accepted(world.queue:add(device, function() return telemetry.accept(device, records) end))
  end,
}

endpoints.post_attributes = {
  body = "required",
  method_name = "postDeviceAttributes(java.lang.String,java.lang.String)",
  handle = function(world, exchange, device, _, body)
    local values, message, why = conversion.attributes(body, world.settings.string_limit)
    if not values then return failed(exchange, message, why) end
    if not world.limits:pass(device, #values) then return answers.empty(500, world.limits:why()) end
    return accepted(world.queue:add(device, function()
      if not world.settings.keeps_attributes then return true end
      return attributes.save(device.scopes.client, conversion.stored_attributes(conversion.rule_message(values)))
    end))
  end,
}

endpoints.get_attributes = {
  wants_json = true,
  handle = function(world, exchange, device)
    return wait_in_session(world, exchange, device, world.settings.request_timeout, function(open)
      local body = attributes.read(device, parameters.text(exchange.query, "clientKeys") or "",
        parameters.text(exchange.query, "sharedKeys") or "")
      if body then open:give(answers.json(body)) end
    end)
  end,
}

endpoints.get_updates = {
  wants_json = true,
  parameters = poll_parameters,
  handle = function(world, exchange, device, asked)
    return wait_in_session(world, exchange, device, poll_timeout(world, asked.timeout), function(open)
      world:later(world.settings.subscribe_delay, function() open.wants_updates = true end)
    end)
  end,
}

endpoints.get_rpc = {
  wants_json = true,
  parameters = poll_parameters,
  handle = function(world, exchange, device, asked)
    return wait_in_session(world, exchange, device, poll_timeout(world, asked.timeout), function(open)
      -- The timer of a poll that waits for no time at all is faster than the actor.
      if asked.timeout < 0 then open:deregister() end
      world:later(world.settings.subscribe_delay, function() actor.subscribe(world, device, open) end)
      if asked.timeout < 0 then open.answer = answers.empty(408) end
    end)
  end,
}

endpoints.post_reply = {
  body = "required",
  method_name = "replyToCommand(java.lang.String,java.lang.Integer,java.lang.String)",
  parameters = function(_, id_text)
    local id, message = parameters.integer(id_text, "requestId", "java.lang.Integer")
    return id and { id = id }, message
  end,
  handle = function(world, _, device, asked, body)
    if not world.limits:pass(device) then return answers.empty(500, world.limits:why()) end
    world:later(world.settings.reply_delay, function() actor.reply(world, device, asked.id, body) end)
    return answers.empty(200)
  end,
}

endpoints.post_rpc = {
  body = "required",
  method_name = "postRpcRequest(java.lang.String,java.lang.String,jakarta.servlet.http.HttpServletRequest)",
  handle = function(world, exchange, device, _, body)
    local request, message = client_rpc.read(body)
    if not request then return failed(exchange, message, "method and params must both be there, method a text") end
    return wait_in_session(world, exchange, device, world.settings.request_timeout, function(open)
      local requests = device.client_requests
      requests[#requests + 1] = request
      request.open = open
      local reply = client_rpc.answer(world, world.client_rpc_reply, request)
      if reply then
        open:give(answers.text(exchange, 200, reply))
      elseif world.settings.client_rpc_timeout < world.settings.request_timeout then
        world:later(world.settings.client_rpc_timeout, function()
          open:give(answers.text(exchange, 200, '{"error":"timeout"}'))
        end)
      end
    end)
  end,
}

endpoints.post_claim = {
  body = "optional",
  handle = function(world, exchange, device, _, body)
    local secret, duration = claim.read(body)
    if not secret then return failed(exchange, duration, "secretKey must be a text, durationMs a whole number") end
    if not world.limits:pass(device) then return answers.empty(500, world.limits:why()) end
    claim.offer(world, device, secret, duration)
    return answers.empty(200)
  end,
}

endpoints.get_firmware = package_endpoint("firmware")
endpoints.get_software = package_endpoint("software")

endpoints.post_provision = {
  body = "required",
  method_name = "provisionDevice(java.lang.String)",
  without_token = true,
  handle = function(world, exchange, _, _, body)
    local request, message = provision.read(body)
    if not request then return errors.thrown(world, exchange, message) end
    local answer = provision.answer(world, request)
    if answer then return answers.text(exchange, 200, answer) end
    cqueues.sleep(world.settings.core_timeout / 1000)
    return answers.empty(500, "the server cannot provision by this profile's strategy")
  end,
}

return endpoints
