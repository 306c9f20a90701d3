--- Payloads: the writer, its checks included, against lua-cjson on the same tables.
package.path = "bench/?.lua;" .. package.path
local cjson = require "cjson"
local payload = require "thingsboard.json.payload"
local support = require "support"

local ROUNDS, POINTS = 9, 300000 -- points of a round

-- Sensors' values: floats of up to three decimals, every third an integer.
local function record(keys, integers)
  local values = {}
  for i = 1, keys do
    values["sensor" .. i] = (integers or i % 3 == 0) and i * 7919 % 10000 or i * 7919 % 100000 / 1000
  end
  return values
end

local batch = {}
for i = 1, 1000 do batch[i] = { ts = 1700000000000 + i, values = record(3) } end

local cases = {
  { "3 keys", record(3), 3 }, { "3 keys, integers", record(3, true), 3 },
  { "30 keys", record(30), 30 }, { "300 keys", record(300), 300 },
  { "1,000 records of 3 keys", batch, 3000 },
}

local function ours(value) return assert(payload.telemetry("bench", value)) end

local function rate(write, value, points)
  collectgarbage()
  local times = POINTS // points
  local start = os.clock()
  for _ = 1, times do write(value) end
  return times * points / (os.clock() - start)
end

local rows = { { "telemetry", "ours, Mpoints/s", "lua-cjson", "ratio" } }
for _, case in ipairs(cases) do
  local name, value, points = table.unpack(case)
  local we, they, ratios = {}, {}, {}
  for round = 1, ROUNDS do
    we[round] = rate(ours, value, points)
    they[round] = rate(cjson.encode, value, points)
    ratios[round] = we[round] / they[round]
  end
  rows[#rows + 1] = { name, ("%.2f"):format(support.median(we) / 1e6), ("%.2f"):format(support.median(they) / 1e6),
    ("%.2f"):format(support.median(ratios)) }
end
support.print("Writing telemetry", rows)
