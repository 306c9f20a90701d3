--- Posts in flight together: 1, 8, 64.
package.path = "bench/?.lua;" .. package.path
local support = require "support"

local ROUNDS, COUNT = 5, 6000

local directory <close> = support.directory()
local server <close>, base = support.nginx(directory, "location / { return 200; }")
if not server then return end
local url = base .. "/api/v1/A1_TEST_TOKEN/telemetry"
local script = directory.path .. "/post.lua"
support.write(script, [[
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{"temperature":21.5,"humidity":60,"battery":3.123}'
]])
local wrk = support.has "wrk"

local function rate(command, flying)
  local few = support.measure(command:format(100, flying))
  local many = support.measure(command:format(100 + COUNT, flying))
  return COUNT / (many - few)
end

local rows = { { "in flight", "this module", "reactor in C", "ratio", "wrk (the server's ceiling)" } }
for _, flying in ipairs { 1, 8, 64 } do
  local ours, limits, ratios, ceilings = {}, {}, {}, {}
  for round = 1, ROUNDS do
    ours[round] = rate(("%s bench/post.lua %s %%d %%d"):format(support.lua, base), flying)
    limits[round] = rate(("%s %s %%d %%d"):format(support.program "post_reactor", url), flying)
    ratios[round] = ours[round] / limits[round]
    local load = support.away(("wrk -t1 -c%d -d1s -s %s %s"):format(flying, script, url))
    local line = wrk and support.line(load .. " | grep Requests/sec")
    ceilings[round] = line and tonumber(line:match "([%d.]+)") or nil
  end
  rows[#rows + 1] = { flying, ("%.0f"):format(support.median(ours)), ("%.0f"):format(support.median(limits)),
    ("%.2f"):format(support.median(ratios)), ceilings[1] and ("%.0f"):format(support.median(ceilings)) or "?" }
  local group = "Time of posts in flight together: a reactor in C"
  support.figure(group, flying .. " in flight", 1 / support.median(ratios), true)
end
support.print("Telemetry posts a second", rows)
