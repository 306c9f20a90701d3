--- The service and the command: what it takes to wait with ten scripts, how soon a changed script runs, what the
-- sending of one value costs as a whole process.
package.path = "bench/?.lua;" .. package.path
local support = require "support"

local SETTLE, WATCHED = 4, 20 -- seconds until a process is idle, and that it is watched
local SENDS, RELOADS = 40, 20

local directory <close> = support.directory()
local dir = directory.path
support.write(dir .. "/token", "IDLE_TOKEN")
os.execute("chmod 600 " .. dir .. "/token; mkdir " .. dir .. "/scripts")

local SCRIPT = [[
local tb, device = ...
device:on_rpc("ping%d", function() return true end)
device:on_attribute("interval", function() end)
while true do tb.sleep(3600) end
]]
for n = 1, 10 do support.write(("%s/scripts/%d.lua"):format(dir, n), SCRIPT:format(n)) end

local function configure(url)
  support.write(dir .. "/config.lua", ([[return { url = %q, token_file = %q, scripts = %q, outbox = { path = %q } }]])
    :format(url, dir .. "/token", dir .. "/scripts", dir .. "/outbox"))
end

-- Hundredths of a second of CPU, and how often the process has waited.
local function spent(id)
  local fields = {}
  local stat = support.read(("/proc/%d/stat"):format(id)):match "%) (.*)"
  for field in stat:gmatch "%S+" do fields[#fields + 1] = field end
  local waits = support.read(("/proc/%d/status"):format(id)):match "\nvoluntary_ctxt_switches:%s*(%d+)"
  return tonumber(fields[12]) + tonumber(fields[13]), tonumber(waits)
end

local function watch(command)
  local process <close> = support.start(command, directory)
  os.execute("sleep " .. SETTLE)
  local resident = tonumber(support.read(("/proc/%d/status"):format(process.id)):match "VmRSS:%s*(%d+)")
  local cpu, waits = spent(process.id)
  os.execute("sleep " .. WATCHED)
  local cpu_after, waits_after = spent(process.id)
  return resident, (cpu_after - cpu) * 10, waits_after - waits
end

do
  local _ <close> = io.popen("exec " .. support.program "silent" .. " " .. dir .. "/port", "w")
  local port = assert(support.await(function()
    local text = support.read(dir .. "/port")
    return text and text:match "^(%d+)\n"
  end), "the silent server does not start")
  local url = "http://127.0.0.1:" .. port
  configure(url)
  local rows = { { "idle", "resident KiB", "CPU ms in " .. WATCHED .. " s", "wake-ups" } }
  local service = ("exec %s bin/thingsboard service %s/config.lua 2>/dev/null"):format(support.lua, dir)
  local one = { watch(("exec %s bench/one_device.lua %s %s/token %s/other"):format(support.lua, url, dir, dir)) }
  local ten = { watch(service) }
  rows[2] = { "a script with one device", one[1], one[2], one[3] }
  rows[3] = { "the service with ten scripts", ten[1], ten[2], ten[3] }
  rows[4] = { "ratio", ("%.2f"):format(ten[1] / one[1]), "", "" }
  support.print("Two polls of RPC, one of attributes, an outbox. Goal: 1.3 times the memory, no more wake-ups", rows)

  local process <close> = support.start(service, directory)
  os.execute("sleep " .. SETTLE)
  local times = {}
  local core = require "thingsboard.core"
  for n = 1, RELOADS do
    support.write(dir .. "/scripts/1.lua", ("local file = io.open(%q, 'w') file:write(require 'thingsboard.core'"
      .. ".monotonic(), '\\n') file:close() -- %s"):format(dir .. "/ran", ("x"):rep(n)))
    os.remove(dir .. "/ran")
    local from = core.monotonic()
    os.execute("kill -HUP " .. process.id)
    local at = support.await(function() return (support.read(dir .. "/ran") or ""):match "^(.-)\n" end)
    times[n] = (tonumber(at) - from) * 1000
  end
  support.print("From SIGHUP to a changed script that runs (kill(1) included)", {
    { "median", ("%.1f ms"):format(support.median(times)) },
  })
end

local server <close>, url = support.nginx(directory, "location / { return 200; }")
if server and support.has "curl" then
  local cases = {
    { "curl", ("curl -s -H 'Content-Type: application/json' -d '{\"temperature\":21.5}' %s/api/v1/TOKEN/telemetry")
      :format(url) },
    { "thingsboard send", ("%s bin/thingsboard --url %s --token-file %s/token send temperature=21.5"):format(
      support.lua, url, dir) },
  }
  for _ = 1, SENDS do
    for _, case in ipairs(cases) do
      case.walls, case.cpus, case.peaks = case.walls or {}, case.cpus or {}, case.peaks or {}
      local wall, cpu, peak = support.measure("env " .. case[2])
      table.insert(case.walls, wall * 1000)
      table.insert(case.cpus, cpu * 1000)
      table.insert(case.peaks, peak)
    end
  end
  local rows = { { "one value, a whole process", "wall ms", "CPU ms", "peak KiB", "of curl's wall" } }
  for _, case in ipairs(cases) do
    rows[#rows + 1] = {
      case[1], ("%.1f"):format(support.median(case.walls)), ("%.1f"):format(support.median(case.cpus)),
      ("%.0f"):format(support.median(case.peaks)),
      ("%.2f"):format(support.median(case.walls) / support.median(cases[1].walls)),
    }
  end
  support.print("Sending one value. Goal: 1.5 times curl's wall", rows)
end
