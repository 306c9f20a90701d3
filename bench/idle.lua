--- `lua idle.lua URL KIND COUNT DELIVERIES`: so many devices, each with its polls open, in one process. Prints the
-- bytes of resident memory of a device, seconds of CPU in IDLE seconds, and microseconds of CPU of a delivery.
package.path = "bench/?.lua;" .. package.path
local support = require "support"
local tb = require "thingsboard"

local IDLE, BATCH = 3, 200

local url, kind, count, deliveries = arg[1], arg[2], tonumber(arg[3]), tonumber(arg[4])

local begin = {
  call = function(device) device:send_rpc "wait" end,
  attribute_updates = function(device) for _ in device:attribute_updates(nil, { period = 600 }) do end end,
  rpc_requests = function(device) for _ in device:rpc_requests { period = 600 } do end end,
}
local polls = kind == "rpc_requests" and 2 or 1

local asks = tb.device { url = url, token = "ASKS" }
local function waiting() return assert(asks:request_attributes()).shared.waiting end

local before = waiting() -- 0; and the process has done all that it does once
local base = support.resident()
local devices = {}
for i = 1, count do
  -- A connection's time-out stays set when it is made, and costs a wake-up then: it is to be over before the count.
  devices[i] = tb.device { url = url, token = ("A1_TEST_TOKEN_%05d"):format(i), timeout = 600, connect_timeout = 2 }
  tb.spawn(begin[kind], devices[i])
  if i % BATCH == 0 or i == count then
    while waiting() - before < i * polls do tb.sleep(0.01) end
  end
end
tb.sleep(3) -- the request that follows a poll has come and gone
local memory = (support.resident() - base) / count

local cpu = os.clock()
tb.sleep(IDLE)
local idle = os.clock() - cpu

-- One more device gets one answer after another. os.setlocale does nothing: callgrind looks for it.
local busy = tb.device { url = url, token = "BUSY" }
local got = 0
local start
for _ in busy:attribute_updates({ "n" }, { period = 600 }) do
  got = got + 1
  if got == 100 then
    os.setlocale(nil)
    start = os.clock()
  elseif got == 100 + deliveries then
    os.setlocale(nil)
    break
  end
end
print(memory, idle, (os.clock() - start) / deliveries * 1e6)
os.exit(true) -- not through the closing of each device
