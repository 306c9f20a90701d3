--- The outbox: records a second against SQLite's own insert, bytes on the disk, what it costs to send a backlog.
package.path = "bench/?.lua;" .. package.path
local support = require "support"

local ROUNDS, DURABLE, GROUPED, BACKLOG = 5, 1000, 1000000, 1000000

local directory <close> = support.directory()
local path = directory.path .. "/records"

local function remove() os.execute(("rm -f %s %s-wal"):format(path, path)) end

-- What so many records more take in a process that does nothing else.
local function each(command, few, many, before)
  before(few)
  local wall_0, cpu_0 = support.measure(command(few))
  before(many)
  local wall, cpu = support.measure(command(many))
  return (wall - wall_0) / (many - few), (cpu - cpu_0) / (many - few)
end

local function ours(sync_every)
  return function(count)
    return ("%s bench/outbox.lua put %s %d %s"):format(support.lua, path, count, sync_every or "")
  end
end

local function theirs(seconds)
  return function(count) return ("%s %s %d %s"):format(support.program "insert", path, count, seconds or 0) end
end

local rows = { { "puts of 3 values", "a second", "SQLite's insert", "ratio", "ratio of CPU" } }
for _, case in ipairs { { "durable each", nil, DURABLE }, { "a commit a second", 1, GROUPED } } do
  local name, seconds, count = table.unpack(case, 1, 3)
  local we, they, ratios, cpus = {}, {}, {}, {}
  for round = 1, ROUNDS do
    local wall, cpu = each(ours(seconds), 10, 10 + count, remove)
    local wall_0, cpu_0 = each(theirs(seconds), 10, 10 + count, remove)
    we[round], they[round], ratios[round], cpus[round] = 1 / wall, 1 / wall_0, wall_0 / wall, cpu_0 / cpu
  end
  rows[#rows + 1] = { name, ("%.0f"):format(support.median(we)), ("%.0f"):format(support.median(they)),
    ("%.2f"):format(support.median(ratios)), ("%.2f"):format(support.median(cpus)) }
  support.figure("Time of a put into the outbox: SQLite's own insert", name, 1 / support.median(ratios), true)
end
support.print("Recording (a ratio above 1: faster than SQLite's own)", rows)

local location = "location / { client_max_body_size 4m; client_body_buffer_size 1m; return 200; }"
local server <close>, base = support.nginx(directory, location)
if not server then return end

local function drain() return ("%s bench/outbox.lua drain %s %s plain"):format(support.lua, path, base) end
local function post(count) return ("%s bench/outbox.lua post %s %d %d"):format(support.lua, base, count, 3000) end

local function size()
  return #support.read(path) + #(support.read(path .. "-wal") or "")
end

-- A backlog is recorded where a commit takes no time, for there are many.
path = support.line "mktemp -u -p /dev/shm 2>/dev/null" or path
local few = 1000

-- Records so many, and sends them, more than once: bytes on the disk, seconds of CPU, KiB of memory at the peak.
local function send(count, sync_every)
  remove()
  support.measure(ours(sync_every)(count))
  local bytes, cpus, peaks = size(), {}, {}
  for round = 1, ROUNDS do
    os.execute(("cp %s %s.backlog"):format(path, path))
    local _
    _, cpus[round], peaks[round] = support.measure(drain())
    os.execute(("mv %s.backlog %s"):format(path, path))
  end
  remove()
  return bytes, support.median(cpus), support.median(peaks)
end

rows = { { "records of 3 values", "bytes each", "CPU us each", "from memory", "ratio", "peak KiB", "over 1,000's" } }
for _, case in ipairs { { "a million, a commit each", nil }, { "a million, a commit a minute", 60 } } do
  local name, sync_every = table.unpack(case, 1, 2)
  local _, cpu_few, peak_few = send(few, sync_every)
  local bytes, cpu, peak = send(BACKLOG, sync_every)
  local from_memory = {}
  for round = 1, ROUNDS do
    _, from_memory[round] = each(post, 3000, BACKLOG // 3000 * 3000, function() end)
  end
  local one, other = (cpu - cpu_few) / (BACKLOG - few), support.median(from_memory)
  rows[#rows + 1] = { name, ("%.1f"):format(bytes / BACKLOG), ("%.2f"):format(one * 1e6), ("%.2f"):format(other * 1e6),
    ("%.2f"):format(one / other), ("%.0f"):format(peak), ("%+.0f"):format(peak - peak_few) }
end
support.print("Sending a backlog, nginx answering 200", rows)

-- With markers and without, one after the other, against a server that shows them.
if not support.line(support.lua .. " -e 'require \"cqueues\"'; echo $?"):find "^0" then
  print "(cqueues is missing: no server that keeps markers)"
  return
end
local port = math.random(20000, 32000)
local keeper <close> = support.start(("exec %s bench/marker_server.lua %d"):format(support.lua, port), directory)
os.execute "sleep 0.5"
assert(keeper.id)
local DRAINED, TRICKLED = 300000, 400
local url = "http://127.0.0.1:" .. port

local function requests()
  local client = assert(require "cqueues.socket".connect("127.0.0.1", port))
  client:write("GET /requests HTTP/1.1\r\n\r\n")
  client:flush()
  client:shutdown "w"
  local count = tonumber(client:read "*a":match "%d+$")
  client:close()
  return count
end

-- Seconds that a backlog takes; requests of records that trickle.
local function drain_seconds(how)
  remove()
  support.measure(ours(60)(DRAINED))
  return (support.measure(("%s bench/outbox.lua drain %s %s %s"):format(support.lua, path, url, how)))
end

local function trickle_requests(how)
  remove()
  local before = requests()
  support.measure(("%s bench/outbox.lua trickle %s %s %d %s"):format(support.lua, path, url, TRICKLED, how))
  return requests() - before - 1
end

rows = { { "", "with markers", "without", "ratio" } }
for _, case in ipairs {
  { "seconds for 300,000 records", drain_seconds, "%.2f" },
  { "requests for 400 that trickle", trickle_requests, "%.0f" },
} do
  local name, measure, form = table.unpack(case, 1, 3)
  local with, without, ratios = {}, {}, {}
  for round = 1, ROUNDS do
    with[round], without[round] = measure "", measure "plain"
    ratios[round] = with[round] / without[round]
  end
  rows[#rows + 1] = { name, form:format(support.median(with)), form:format(support.median(without)),
    ("%.2f"):format(support.median(ratios)) }
end
remove()
support.print("What markers cost", rows)
