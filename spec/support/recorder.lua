-- A device that records and sends until it is killed. Arguments: URL TOKEN OUTBOX ACKNOWLEDGED FIRST CONFIRM. Its
-- records have ids, which count up from FIRST; what `put` has acknowledged it writes to a file, a line each. CONFIRM is
-- the outbox's option, true or false.
local url, token, path, acknowledged, id, confirm = table.unpack(arg)
local tb = require "thingsboard"

id = math.tointeger(id)
local file = assert(io.open(acknowledged, "a"))
file:setvbuf "no"

local dev = tb.device { url = url, token = token }
-- Posts that are short enough to be answered before the process ends.
local outbox = assert(dev:outbox { path = path, batch_records = 50, confirm = confirm == "true" })
tb.spawn(function() assert(outbox:run()) end)
tb.spawn(function()
  while true do
    for _ = 1, 5 do
      assert(outbox:put { id = id, text = id % 8 == 0 and ("x"):rep(id * 7919 % 3000) or nil })
      file:write(id .. "\n") -- in one call of the system
      id = id + 1
    end
    tb.sleep(0.002)
  end
end)
tb.run()
