--- What can be set, with the values that the server is shipped with. Times are in milliseconds, sizes in bytes.
local settings = {}

local shipped = {
  flavour = "mono",                  -- "mono": one process; "micro": the separate HTTP transport
  async_timeout = 30000,             -- a request still unanswered then gets 503 ...
  async_check = 1000,                -- ... at the next of these checks
  request_timeout = 60000,           -- of polls that name none, and of other requests that wait for the core
  core_timeout = 10000,              -- how long the transport waits for a core that does not answer it
  client_rpc_timeout = 60000,        -- below request_timeout, a device's request unanswered gets an error object
  idle_timeout = 60000,              -- an idle connection is closed
  http2_idle_timeout = 20000,        -- over HTTP/2: one without an open stream
  http2 = true,                      -- over TLS; false: HTTP/1.1 alone
  certificate = "good",              -- or "expired", "self_signed", "other_name"
  keep_alive_requests = 100,         -- this answer on a connection is its last
  header_limit = 8192,               -- request line and headers together
  payload_limit = 16777216,
  rpc_payload_limit = 65536,
  string_limit = 0,                  -- longest string value, 0 for any
  rpc_strategy = "BURST",            -- or SEQUENTIAL_ON_ACK_FROM_DEVICE, SEQUENTIAL_ON_RESPONSE_FROM_DEVICE
  rpc_min_timeout = 5000,            -- of a request that the server's user sends
  rpc_default_timeout = 10000,
  rpc_response_timeout = 30000,      -- how long SEQUENTIAL_ON_RESPONSE waits for an answer
  reply_delay = 0,                   -- from the 200 for a reply until the device's actor knows it
  subscribe_delay = 0,               -- from a poll's arrival until the actor knows it
  queue_delay = 0,                   -- from the 200 for telemetry and attributes until they are stored
  keeps_attributes = true,           -- false: the rule chain does not store client attributes
  ota_delay = 600,                   -- from an assignment until the attributes tell of it
  claiming_allowed = true,
  claim_duration = 86400000,
  api_disabled = false,              -- usage of the API used up: answers as over every rate limit
  date_offset = 0,                   -- how far the clock in `Date` is ahead, behind if negative
  journal_size = 20000,              -- how many requests are kept for the control interface
}

local micro = { async_timeout = 300000, payload_limit = 52428800 }

local function convert(name, value)
  local wanted = shipped[name]
  if name == "rate_limits" then
    assert(type(value) == "table", "setting rate_limits: a table expected")
    return value
  end
  assert(wanted ~= nil, "no such setting: " .. tostring(name))
  if type(wanted) == "number" then
    return tonumber(value) or error(("setting %s: a number expected"):format(name))
  elseif type(wanted) == "boolean" then
    return value == true or value == "true"
  end
  return tostring(value)
end

--- Whether there is a setting of this name.
function settings.has(name)
  return shipped[name] ~= nil or name == "rate_limits"
end

--- Changes settings; raises on an unknown name or an unfit value.
function settings.change(current, changes)
  for name, value in pairs(changes) do current[name] = convert(name, value) end
end

--- Shipped settings with changes.
function settings.new(changes)
  local current = { rate_limits = {} }
  for name, value in pairs(shipped) do current[name] = value end
  if changes.flavour == "micro" then
    for name, value in pairs(micro) do current[name] = value end
  end
  settings.change(current, changes)
  return current
end

return settings
