--- Rate limits: buckets that fill at an even rate, "20:1,600:60" for 20 a second and 600 a minute.
local cqueues = require "cqueues"

local limits = {}

local Limits = {}
Limits.__index = Limits

--- Makes the limits; they follow `settings.rate_limits`, with the keys `messages`, `telemetry_messages` and
-- `telemetry_points`, for each device.
function limits.new(settings)
  return setmetatable({ settings = settings, buckets = setmetatable({}, { __mode = "k" }) }, Limits)
end

local function parse(notation)
  local bands = {}
  for amount, seconds in notation:gmatch("(%d+):(%d+)") do
    bands[#bands + 1] = { capacity = tonumber(amount), seconds = tonumber(seconds), left = tonumber(amount) }
  end
  return bands
end

function Limits:bands(device, kind)
  local notation = self.settings.rate_limits[kind]
  if not notation or notation == "" then return {} end
  local buckets = self.buckets[device]
  if not buckets then
    buckets = {}
    self.buckets[device] = buckets
  end
  local bucket = buckets[kind]
  if not bucket or bucket.notation ~= notation then
    bucket = { notation = notation, bands = parse(notation), at = cqueues.monotime() }
    buckets[kind] = bucket
  end
  local now = cqueues.monotime()
  for _, band in ipairs(bucket.bands) do
    band.left = math.min(band.capacity, band.left + (now - bucket.at) * band.capacity / band.seconds)
  end
  bucket.at = now
  return bucket.bands
end

function Limits:take(device, kind, amount)
  local bands = self:bands(device, kind)
  for _, band in ipairs(bands) do
    if band.left < amount then return false end
  end
  for _, band in ipairs(bands) do band.left = band.left - amount end
  return true
end

--- Why a message does not pass.
function Limits:why()
  return self.settings.api_disabled and "the API is disabled" or "over the rate limit of the device's profile"
end

--- Counts a message of a device.
-- @param points how many values it brings: with any, the limits for telemetry count, else that for other messages
-- @return whether it may pass
function Limits:pass(device, points)
  if self.settings.api_disabled then return false end
  if not points or points == 0 then return self:take(device, "messages", 1) end
  return self:take(device, "telemetry_messages", 1) and self:take(device, "telemetry_points", points)
end

return limits
