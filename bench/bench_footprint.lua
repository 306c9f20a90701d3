--- Footprint: what is on the disk, and what `require` takes.
package.path = "bench/?.lua;" .. package.path
local support = require "support"

local ROUNDS = 15

local directory <close> = support.directory()
local core = assert(package.searchpath("thingsboard.core", package.cpath))
local stripped = directory.path .. "/core.so"
os.execute(("cp %s %s && strip %s 2>/dev/null"):format(core, stripped, stripped))
local files = assert(package.searchpath("thingsboard", package.path)):match "^(.*)/[^/]*$"
support.print("Size in bytes", {
  { "core.so, stripped", #support.read(stripped) },
  { "Lua files", support.line(("find %s -name '*.lua' -exec cat {} + | wc -c"):format(files)) },
})

local cases = { { "nothing", "" }, { "cjson", "require [[cjson]]" }, { "thingsboard", "require [[thingsboard]]" } }
for _ = 1, ROUNDS do
  for _, case in ipairs(cases) do
    case.walls, case.cpus, case.peaks = case.walls or {}, case.cpus or {}, case.peaks or {}
    local wall, cpu, peak = support.measure(("%s -e '%s'"):format(support.lua, case[2]))
    table.insert(case.walls, wall * 1000)
    table.insert(case.cpus, cpu * 1000)
    table.insert(case.peaks, peak)
  end
end
local rows = { { "require", "wall ms", "CPU ms", "peak KiB", "over cjson: ms", "KiB" } }
local cjson = cases[2]
for _, case in ipairs(cases) do
  rows[#rows + 1] = {
    case[1], ("%.1f"):format(support.median(case.walls)), ("%.1f"):format(support.median(case.cpus)),
    ("%.0f"):format(support.median(case.peaks)),
    ("%.1f"):format(support.median(case.walls) - support.median(cjson.walls)),
    ("%.0f"):format(support.median(case.peaks) - support.median(cjson.peaks)),
  }
end
support.print("A whole process that requires and ends", rows)
