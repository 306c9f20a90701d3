-- Runs the collector at steps of the library's own code, as a helper of busted: what C or Lua holds by a reference that
-- the collector does not know of, or finds again after its end, breaks soon. COLLECT="incremental 101" collects all at
-- every 101st instruction in lua/, in cycles that never rest between; "generational 13" the young, now and then all.
local busted = require "busted"
local hook = require "spec.support.hook"

local mode, every = os.getenv("COLLECT"):match "^(%a+) (%d+)$"
every = math.tointeger(every)

local FULL = 16 -- of so many collections of the young, one is of all
local left, count = every, 0

if mode == "incremental" then collectgarbage("incremental", 1, 400) else collectgarbage(mode) end

hook(function()
  if not debug.getinfo(2, "S").source:find("@lua/thingsboard", 1, true) then return end
  left = left - 1
  if left > 0 then return end
  left = every
  count = count + 1
  if mode == "generational" and count % FULL ~= 0 then collectgarbage "step" else collectgarbage() end
end, "", 1)

busted.subscribe({ "suite", "end" }, function()
  debug.sethook()
  print(("\n%d collections, %s"):format(count, mode))
  return nil, true
end)
