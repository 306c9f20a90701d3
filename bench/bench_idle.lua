--- Idle polls: memory of a device, CPU while idle, cost of an answer among them.
package.path = "bench/?.lua;" .. package.path
local support = require "support"

local directory <close> = support.directory()
local LIMIT = "ulimit -n $(ulimit -Hn) 2>/dev/null; "

-- Runs idle.lua, with the words before it, against a server of its own, which ends with its input when that is closed.
-- Returns what idle.lua printed.
local function run(before, kind, count, deliveries)
  local port_file = directory.path .. "/port"
  os.remove(port_file)
  local _ <close> = io.popen(LIMIT .. "exec " .. support.program "silent" .. " " .. port_file, "w")
  local port = assert(support.await(function()
    local text = support.read(port_file)
    return text and text:match "^(%d+)\n"
  end), "the silent server does not start")
  return support.line(("{ %s %s %s bench/idle.lua http://127.0.0.1:%s %s %d %d; }"):format(LIMIT, before,
    support.lua, port, kind, count, deliveries))
end

local most = tonumber(support.line "ulimit -Hn" or "") or math.huge
local rows = { { "devices", "what each has open", "KiB a device", "CPU in 3 s idle, ms", "CPU of a delivery, us" } }
for _, kind in ipairs { "call", "attribute_updates", "rpc_requests" } do
  for _, count in ipairs { 100, 1000, 10000 } do
    if kind == "rpc_requests" and count * 2 > most - 500 then count = 9000 end
    local line = run("", kind, count, 2000)
    local memory, idle, delivery = (line or ""):match "(%S+)%s+(%S+)%s+(%S+)"
    if memory then
      rows[#rows + 1] = { count, kind, ("%.1f"):format(memory / 1024), ("%.1f"):format(idle * 1000),
        ("%.0f"):format(tonumber(delivery)) }
    else
      print(("(%d devices, %s: it failed; descriptors allowed: %s)"):format(count, kind, most))
    end
  end
end
support.print("Idle polls (call: one request open; attribute_updates: one poll; rpc_requests: two polls)", rows)

if support.has "valgrind" then
  -- Callgrind writes what it has counted whenever the script calls os.setlocale: the second file holds the deliveries.
  local DELIVERIES = 300
  local out = directory.path .. "/callgrind"
  local each = {}
  for _, count in ipairs { 100, 10000 } do
    os.execute("rm -f " .. out .. "*")
    local line = run("valgrind -q --tool=callgrind --dump-before=setlocale --callgrind-out-file=" .. out,
      "attribute_updates", count, DELIVERIES)
    local part = line and support.read(out .. ".2")
    each[#each + 1] = part and tonumber(part:match "totals: (%d+)") / DELIVERIES
  end
  support.print("Instructions of a delivery", {
    { "among 100 idle polls", each[1] and ("%.0f"):format(each[1]) or "?" },
    { "among 10000", each[2] and ("%.0f"):format(each[2]) or "?" },
    { "ratio", each[1] and each[2] and ("%.2f"):format(each[2] / each[1]) or "?" },
  })
end
