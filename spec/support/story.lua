-- A device that puts records with the ids from 1 to COUNT, of which the server refuses each third, and sends them.
-- Arguments: URL TOKEN OUTBOX ACKNOWLEDGED COUNT KILL_AFTER. It goes on behind the last id in the file ACKNOWLEDGED,
-- and kills itself after so many seconds, but never between a put and its line there; with 0, it ends when nothing is
-- left, and prints what is counted.
local url, token, path, acknowledged, count, kill_after = table.unpack(arg)
local cjson = require "cjson"
local doubts = require "thingsboard.outbox.doubts"
local tb = require "thingsboard"

-- What is refused is tried again after minutes; here, after a part of a second.
doubts.waits, doubts.longest_wait = { 0.1, 0.1, 0.1, 0.2 }, 1

count, kill_after = math.tointeger(count), tonumber(kill_after)

local last = 0
for line in assert(io.open(acknowledged, "a+")):lines() do last = math.tointeger(line) end
local file = assert(io.open(acknowledged, "a"))
file:setvbuf "no"

local dev = tb.device { url = url, token = token }
local outbox = assert(dev:outbox { path = path, messages = "400:1" })
local sending = tb.spawn(function() assert(outbox:run()) end)

if kill_after > 0 then
  tb.spawn(function()
    tb.sleep(kill_after)
    os.execute "kill -9 $PPID"
  end)
end

tb.spawn(function()
  for id = last + 1, count do
    local poison = nil
    if id % 3 == 0 then poison = 1 + id % 2 end
    assert(outbox:put { id = id, poison = poison })
    file:write(id .. "\n")
    if id % 20 == 0 then tb.sleep(0.001) end
  end
  if kill_after > 0 then return end -- it sends until it is killed
  -- What is bad is proved by good records that pass before and after it, and the others are gone by now.
  for id = count + 1, count + 3 do assert(outbox:put { id = id }) end
  sending:cancel()
  assert(outbox:drain()) -- which confirms what is sent at its end
  local rejected = {}
  for _, entry in ipairs(assert(outbox:rejected())) do
    for _, record in ipairs(cjson.decode(entry.body)) do rejected[#rejected + 1] = record.values end
  end
  print(cjson.encode { lost = outbox:stats().lost, rejected = rejected })
end)
tb.run()
