-- A logger that loses nothing: puts the system's load on disk every ten seconds, and sends it when the link allows.
-- Usage: lua5.4 outbox.lua URL TOKEN FILE [TIMES]
local tb = require "thingsboard"
local url, token, file, times = table.unpack(arg)
assert(file, "usage: outbox.lua URL TOKEN FILE [TIMES]")

local dev = tb.device { url = url, token = token }
local outbox = assert(dev:outbox { path = file, max_bytes = 64 * 1024 * 1024, on_trouble = "memory" })

tb.spawn(function()
  local _, err = outbox:run()
  if err then print(err) end -- records are kept on disk nevertheless
end)

for n = 1, tonumber(times) or math.huge do
  if n > 1 then tb.sleep(10) end
  local load = io.open("/proc/loadavg"):read "n"
  local ok, err = outbox:put { load = load + 0.0 }
  if not ok then print(err) end
end

tb.sleep(1)
dev:close() -- the next start sends the rest
