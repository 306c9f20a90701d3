--- The devices: who they are and what is stored of them.
local actor = require "spec.emulator.actor"
local attributes = require "spec.emulator.attributes"

local devices = {}

local Registry = {}
Registry.__index = Registry

--- Makes an empty registry.
function devices.new()
  return setmetatable({ by_token = {}, by_name = {} }, Registry)
end

local letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

--- Twenty letters and digits, as the server makes tokens and names.
function devices.random_text()
  return (("."):rep(20):gsub(".", function()
    local at = math.random(#letters)
    return letters:sub(at, at)
  end))
end

--- Makes a device.
-- @param fields `name` and `token` (made up if missing), `credentials` for one that has no token
function Registry:create(fields)
  local device = {
    name = fields.name or devices.random_text(),
    token = fields.token or not fields.credentials and devices.random_text() or nil,
    credentials = fields.credentials,
    pre_provisioned = fields.pre_provisioned,
    messages = {},
    telemetry = {},
    client_requests = {},
    scopes = { client = attributes.new_scope(), shared = attributes.new_scope(), server = attributes.new_scope() },
    sessions = {},
    packages = {},
    actor = actor.new(),
  }
  if device.token then self.by_token[device.token] = device end
  self.by_name[device.name] = device
  return device
end

--- The device of a token, or nil.
function Registry:find(token) return self.by_token[token] end

--- The device of a name, or nil.
function Registry:named(name) return self.by_name[name] end

--- Gives a device another token: its open polls hear nothing more.
function Registry:change_token(device, token)
  self.by_token[device.token] = nil
  device.token = token
  self.by_token[token] = device
  actor.forget_polls(device)
end

--- Deletes a device; returns the sessions that were open.
function Registry:delete(device)
  if device.token then self.by_token[device.token] = nil end
  self.by_name[device.name] = nil
  return device.sessions
end

return devices
