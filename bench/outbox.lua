--- What an outbox does, as a process to be measured:
-- `lua outbox.lua put PATH COUNT [SYNC_EVERY]`: records so many records of three values.
-- `lua outbox.lua drain PATH URL [plain]`: sends all that is there, and has it confirmed unless it is to be plain.
-- `lua outbox.lua trickle PATH URL COUNT [plain]`: so many records, each when the one before it has been sent.
-- `lua outbox.lua post URL COUNT BATCH`: so many records from memory, in batches of so many each.
local tb = require "thingsboard"

local function device(url) return tb.device { url = url, token = "A1_TEST_TOKEN" } end

local function values(i) return { temperature = 21.5, humidity = 10 + i % 90, battery = 3.123 } end

tb.clock(true) -- no server tells the time here

local actions = {}

function actions.put(path, count, sync_every)
  local dev = device "http://127.0.0.1:9"
  local outbox <close> = dev:outbox { path = path, sync_every = sync_every and tonumber(sync_every) }
  for i = 1, tonumber(count) do assert(outbox:put(values(i))) end
end

function actions.drain(path, url, plain)
  local outbox <close> = device(url):outbox { path = path, confirm = not plain }
  assert(outbox:drain { deadline = 600 })
end

function actions.trickle(path, url, count, plain)
  local dev = device(url)
  local outbox = dev:outbox { path = path, sync_every = 60, confirm = not plain }
  tb.spawn(function() outbox:run() end)
  tb.spawn(function()
    for i = 1, tonumber(count) do
      assert(outbox:put(values(i)))
      while outbox:stats().records > 0 do tb.sleep(0.001) end
    end
    outbox:close()
  end)
  tb.run()
end

function actions.post(url, count, batch)
  local dev, records = device(url), {}
  for i = 1, tonumber(batch) do records[i] = { ts = 1790000000000 + i, values = values(i) } end
  for _ = 1, tonumber(count) // tonumber(batch) do assert(dev:send_telemetry(records)) end
end

actions[arg[1]](table.unpack(arg, 2))
