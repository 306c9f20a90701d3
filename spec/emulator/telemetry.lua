--- What telemetry becomes: messages for the rule engine, then stored values.
local cqueues = require "cqueues"
local conversion = require "spec.emulator.conversion"
local keys = require "spec.emulator.keys"

local telemetry = {}

-- The names of the storage's monthly partitions have four digits for the year.
local LAST_TS = 253402300799999
local AT_ONCE = 500

-- Returns whether it was stored.
local function store(device, record)
  if not keys.all_fit(record.values) then return false end
  for _, entry in ipairs(record.values) do
    -- The database takes no U+0000 in a string.
    local value = entry.type == "STRING" and entry.value:gsub("\0", "") or entry.value
    local stored = device.telemetry
    stored[#stored + 1] = {
      ts = record.ts, server_ts = record.server_ts, key = entry.key, type = entry.type, value = value,
    }
  end
  return true
end

local function take(device, record)
  local message = conversion.rule_message(record.values)
  local stored = conversion.stored_telemetry(message, record.ts, record.server_ts)
  if not stored or stored.ts > LAST_TS then stored = { ts = record.ts, values = {} } end
  local messages = device.messages
  messages[#messages + 1] = {
    ts = record.ts, server_ts = record.server_ts, json = message,
    transport = record.values, stored = stored.values,
  }
  return store(device, stored)
end

--- Takes the records of one request. Of many the rest is seen to later: the 200 means that they are queued.
-- @return whether storage took all of those that were seen to
function telemetry.accept(device, records)
  local now = math.min(#records, AT_ONCE)
  local stored = true
  for index = 1, now do stored = take(device, records[index]) and stored end
  if now == #records then return stored end
  cqueues.running():wrap(function()
    for index = now + 1, #records do
      if index % AT_ONCE == 0 then cqueues.sleep(0) end
      take(device, records[index])
    end
  end)
  return stored
end

--- Stores values that the server itself writes.
function telemetry.write(device, ts, values)
  store(device, { ts = ts, server_ts = true, values = values })
end

return telemetry
