--- Firmware of 256 MiB to a file, its SHA256 checked, against curl and sha256sum.
package.path = "bench/?.lua;" .. package.path
local support = require "support"

local MIB, ROUNDS = 256, 5
local SIZE = MIB * 1024 * 1024

if not (support.has "curl" and support.has "sha256sum") then return end
local directory <close> = support.directory()
local d = directory.path
local free = tonumber(support.line(("df -Pk %s | awk 'END { print $4 }'"):format(d)) or "")
if not free or free < 3 * MIB * 1024 then print "(too little room for temporary files: nothing measured)" return end
local server <close>, base = support.nginx(directory,
  "location / { add_header Content-Disposition attachment; }") -- by which ThingsBoard marks a package
if not server then return end
os.execute(("mkdir -p %s/api/v1/A1_TEST_TOKEN && head -c %d /dev/urandom >%s/api/v1/A1_TEST_TOKEN/firmware"):format(
  d, SIZE, d))
local sum = support.line(("sha256sum <%s/api/v1/A1_TEST_TOKEN/firmware"):format(d)):match "%x+"

local curl = ("curl -s -f -o %s/got %s/api/v1/A1_TEST_TOKEN/firmware"):format(d, base)
local ours = ("%s bench/firmware.lua %s"):format(support.lua, base)
local cases = {
  { "curl -o", curl },
  { "curl -o, sync", ("sh -c '%s && sync %s/got'"):format(curl, d) },
  { "curl -o, sync, sha256sum", ("sh -c '%s && sync %s/got && sha256sum %s/got'"):format(curl, d, d) },
  { "this module", ("%s %s/got %d %s"):format(ours, d, SIZE, sum) },
  { "this module, idle", ours },
}
for _, case in ipairs(cases) do case.walls, case.cpus, case.peaks = {}, {}, {} end
for round = 1, ROUNDS do
  for _, case in ipairs(cases) do
    os.remove(d .. "/got")
    os.execute "sync" -- or one pays for what another has written
    case.walls[round], case.cpus[round], case.peaks[round] = support.measure(case[2])
  end
end
local rows = { { "256 MiB to a file", "wall s", "of curl's, sync", "CPU s", "of curl's, sha256sum", "peak KiB" } }
for _, case in ipairs(cases) do
  local walls, cpus = {}, {}
  for round = 1, ROUNDS do
    walls[round] = case.walls[round] / cases[2].walls[round]
    cpus[round] = case.cpus[round] / cases[3].cpus[round]
  end
  rows[#rows + 1] = { case[1], ("%.2f"):format(support.median(case.walls)), ("%.2f"):format(support.median(walls)),
    ("%.2f"):format(support.median(case.cpus)), ("%.2f"):format(support.median(cpus)),
    ("%.0f"):format(support.median(case.peaks)) }
  if case ~= cases[2] and case[2] ~= ours then
    local ours_it_is = case[1] == "this module"
    support.figure("Time of 256 MiB to the disk: curl with sync", case[1], support.median(walls), ours_it_is)
  end
end
support.print("Firmware (this module's file is synced before it gets its name, its checksum verified)", rows)
