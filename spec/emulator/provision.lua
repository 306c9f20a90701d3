--- Provisioning: a device that has no token yet asks for one.
local attributes = require "spec.emulator.attributes"
local conversion = require "spec.emulator.conversion"
local devices = require "spec.emulator.devices"
local gson = require "spec.emulator.gson"
local text = require "spec.emulator.text"

local provision = {}

local TYPES = { ACCESS_TOKEN = true, X509_CERTIFICATE = true, MQTT_BASIC = true, LWM2M_CREDENTIALS = true }
local TYPE_CLASS = "org.thingsboard.server.gen.transport.TransportProtos.CredentialsType."

local function fail(message) error({ message = message }, 0) end

local function field(object, name, required)
  local value = object.values[name]
  if value then
    local string, message = conversion.as_string(value)
    return string or fail(message)
  end
  if required then fail(("Failed to find the field %s in JSON body %s!"):format(name, gson.write(object))) end
  return ""
end

local function read(object)
  if object.kind ~= "object" then fail("Can't parse value: " .. gson.write(object)) end
  local request = { name = field(object, "deviceName"), type = "ACCESS_TOKEN" }
  if object.values.credentialsType then
    request.type = field(object, "credentialsType")
    -- Java's enumeration has this name of its own making.
    if request.type == "UNRECOGNIZED" then fail("Can't get the number of an unknown enum value.") end
    if not TYPES[request.type] then fail("No enum constant " .. TYPE_CLASS .. request.type) end
  end
  for _, name in ipairs { "token", "clientId", "username", "password", "hash" } do
    request[name] = field(object, name)
  end
  request.key = field(object, "provisionDeviceKey", true)
  request.secret = field(object, "provisionDeviceSecret", true)
  if object.values.gateway then field(object, "gateway") end
  return request
end

--- Reads the body of a provisioning request.
-- @return the request; or nil and the message of the answer
function provision.read(body)
  local object, message = gson.parse(body)
  if not object then return nil, message end
  local done, request = pcall(read, object)
  if done then return request end
  if type(request) ~= "table" then error(request, 0) end
  return nil, request.message
end

local STATE = "provisionState"
local NOT_FOUND = '{"errorMsg":"Provision data was not found!","status":"NOT_FOUND"}'
local FAILURE = '{"errorMsg":"Failed to provision device!","status":"FAILURE"}'

local function success(kind, value)
  return ('{%s"credentialsType":"%s","status":"SUCCESS"}'):format(
    value and '"credentialsValue":' .. value .. "," or "", kind)
end

-- What the device will identify itself by: its kind, how the answer tells it, and what must be unique.
local function credentials(request)
  local filled = request.token .. request.hash .. request.username .. request.password .. request.clientId
  if filled == "" then
    local token = devices.random_text()
    return { type = "ACCESS_TOKEN", json = gson.quote(token), id = token, token = token }
  elseif request.type == "ACCESS_TOKEN" then
    if request.token == "" then return nil end
    return { type = request.type, json = gson.quote(request.token), id = request.token, token = request.token }
  elseif request.type == "MQTT_BASIC" then
    if request.clientId == "" and request.username == "" then return nil end
    return {
      type = request.type, id = "mqtt " .. request.clientId .. "|" .. request.username,
      json = ('{"clientId":%s,"userName":%s,"password":%s}'):format(
        gson.quote(request.clientId), gson.quote(request.username), gson.quote(request.password)),
    }
  elseif request.type == "X509_CERTIFICATE" then
    if request.hash == "" then return nil end
    local bare = request.hash:gsub("%-%-%-%-%-[^-]*%-%-%-%-%-", ""):gsub("[\r\n]", "")
    return { type = request.type, json = gson.quote(bare), id = "x509 " .. bare }
  end
end

local function is_taken(world, new)
  if new.token then return world.devices:find(new.token) ~= nil end
  for _, device in pairs(world.devices.by_name) do
    if device.credentials and device.credentials.id == new.id then return true end
  end
  return false
end

-- The server notes in an attribute of its own that a device has been provisioned.
local function mark(device)
  attributes.save(device.scopes.server, { { key = STATE, type = "STRING", value = "provisioned" } })
end

local function create(world, request)
  local name = request.name ~= "" and request.name or devices.random_text()
  name = name:match("^%s*(.-)%s*$")
  if name == "" or text.utf16_length(name) > 255 or world.devices:named(name) then return FAILURE end
  local new = credentials(request)
  if not new or is_taken(world, new) then return FAILURE end
  mark(world.devices:create({ name = name, token = new.token, credentials = not new.token and new or nil }))
  return success(new.type, new.json)
end

-- Once only: whoever loses this answer is locked out.
local function hand_out(world, request)
  local device = world.devices:named(request.name)
  if not device or device.scopes.server.entries[STATE] then return FAILURE end
  mark(device)
  if device.token then return success("ACCESS_TOKEN", gson.quote(device.token)) end
  return success(device.credentials.type, device.credentials.json)
end

--- Answers a provisioning request: the body, with status 200 whatever became of it; nil where the server breaks.
function provision.answer(world, request)
  local profile = world.profiles[request.key]
  if request.key == "" or request.secret == "" or not profile or profile.secret ~= request.secret
    or profile.strategy == "DISABLED" then
    return NOT_FOUND
  end
  if profile.strategy == "X509_CERTIFICATE_CHAIN" then return nil end
  if profile.strategy == "ALLOW_CREATE" then return create(world, request) end
  return hand_out(world, request)
end

return provision
