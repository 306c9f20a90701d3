--- What telemetry becomes: messages for the rule engine, then stored values.
local conversion = require "spec.emulator.conversion"
local keys = require "spec.emulator.keys"

local telemetry = {}

-- The names of the storage's monthly partitions have four digits for the year.
local LAST_TS = 253402300799999

local function store(device, record)
  if record.ts > LAST_TS or not keys.all_fit(record.values) then return end
  for _, entry in ipairs(record.values) do
    -- The database takes no U+0000 in a string.
    local value = entry.type == "STRING" and entry.value:gsub("\0", "") or entry.value
    local stored = device.telemetry
    stored[#stored + 1] = { ts = record.ts, server_ts = record.server_ts, key = entry.key, type = entry.type, value = value }
  end
end

--- Takes the records of one request.
function telemetry.accept(device, records)
  for _, record in ipairs(records) do
    local message = conversion.rule_message(record.values)
    local stored = conversion.stored_telemetry(message, record.ts, record.server_ts)
    local messages = device.messages
    messages[#messages + 1] = {
      ts = record.ts, server_ts = record.server_ts, json = message,
      transport = record.values, stored = stored and stored.values or {},
    }
    if stored then store(device, stored) end
  end
end

--- Stores values that the server itself writes.
function telemetry.write(device, ts, values)
  store(device, { ts = ts, server_ts = true, values = values })
end

return telemetry
