--- Claiming: a device offers itself with a secret, a user takes it.
local conversion = require "spec.emulator.conversion"
local gson = require "spec.emulator.gson"

local claim = {}

--- Reads the body of a claim, "" for none.
-- @return secret and duration; or nil and the message of the answer, "" for none
function claim.read(body)
  if body == "" then return "", 0 end
  local object, message = gson.parse(body)
  if not object then return nil, message end
  if object.kind ~= "object" then return nil, "Can't parse value: " .. gson.write(object) end
  local secret, duration = "", 0
  if object.values.secretKey then
    secret = conversion.as_string(object.values.secretKey)
    if not secret then return nil, "" end
  end
  if object.values.durationMs then
    duration = conversion.as_long(object.values.durationMs)
    if not duration then return nil, "" end
  end
  return secret, duration
end

--- The device offers itself. While an offer stands, another is ignored.
function claim.offer(world, device, secret, duration)
  local allowed = device.scopes.server.entries.claimingAllowed
  if not world.settings.claiming_allowed and not (allowed and allowed.value == "true") then return end
  if device.claimed then return end
  local now = world:now()
  if device.offer and device.offer.ends_at > now then return end
  if duration <= 0 then duration = world.settings.claim_duration end
  device.offer = { secret = secret, ends_at = now + duration }
end

--- A user tries to take the device: a wrong secret spoils the offer.
-- @return "SUCCESS", "FAILURE" or "CLAIMED"
function claim.take(world, device, secret)
  if device.claimed then return "CLAIMED" end
  local offer = device.offer
  device.offer = nil
  if not offer or offer.ends_at <= world:now() or offer.secret ~= secret then return "FAILURE" end
  device.claimed = true
  return "SUCCESS"
end

return claim
