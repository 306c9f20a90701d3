-- Runs the collector all the time, as a helper of busted: what C or Lua holds by a reference that the collector does
-- not know of, or finds again after its end, breaks soon. COLLECT="incremental 101" collects all at every 101st
-- instruction of the library; "generational 13" the young at every 13th, now and then all.
local mode, every = os.getenv("COLLECT"):match "^(%a+) (%d+)$"
package.loadlib(os.getenv "COLLECTOR", "luaopen_collect")()(mode, math.tointeger(every))
