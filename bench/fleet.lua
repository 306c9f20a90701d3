--- `lua fleet.lua URL PATH COUNT SECONDS`: so many devices in one process, each with a poll of attributes and an
-- outbox, all in one file. Each records three values a minute, evenly spread, and sends them. Prints the bytes of
-- resident memory of a device, and the share of a core while that goes on.
package.path = "bench/?.lua;" .. package.path
local support = require "support"
local tb = require "thingsboard"

local url, path, count, seconds = arg[1], arg[2], tonumber(arg[3]), tonumber(arg[4])
local BATCH, TICK = 200, 0.1 -- devices that start together; seconds

tb.clock(true) -- no server tells the time here

local asks = tb.device { url = url, token = "ASKS" }
local function waiting() return assert(asks:request_attributes()).shared.waiting end

local before, base = waiting(), support.resident()
local outboxes = {}
for i = 1, count do
  local name = ("A1_TEST_TOKEN_%05d"):format(i)
  local device = tb.device { url = url, token = name, timeout = 600, connect_timeout = 2 }
  outboxes[i] = assert(device:outbox { path = path, name = name, confirm = false })
  tb.spawn(function() outboxes[i]:run() end)
  tb.spawn(function() for _ in device:attribute_updates(nil, { period = 600 }) do end end)
  if i % BATCH == 0 or i == count then
    while waiting() - before < i do tb.sleep(0.01) end
  end
end

local put, began = 0, nil
local function put_what_is_due()
  local due = (tb.now() - began) / 60000 * count
  while put < due do
    put = put + 1
    assert(outboxes[put % count + 1]:put { temperature = 21.5, humidity = 10 + put % 90, battery = 3.123 })
  end
end

local function record(for_seconds)
  local until_then = tb.now() + for_seconds * 1000
  while tb.now() < until_then do
    tb.sleep(TICK)
    put_what_is_due()
  end
end

began = tb.now()
record(3) -- the requests that follow the polls have come and gone
local cpu = os.clock()
record(seconds)
cpu = os.clock() - cpu
local memory = (support.resident() - base) / count
local sent = 0
for _, outbox in ipairs(outboxes) do sent = sent + outbox:stats().sent.records end
assert(sent > 0.9 * put, "not sent: " .. put - sent)
print(memory, cpu / seconds)
os.exit(true) -- not through the closing of each device
