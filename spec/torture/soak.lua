-- An hour of many devices squeezed into minutes, with faults at random: what both sides have counted must agree, and
-- the devices' process must take no more memory and no more descriptors at its end than after its first quarter.
-- Arguments: seconds (180), devices (30), seed. The same seed makes the same faults.
--
-- Half of the devices speak plain HTTP, half TLS and HTTP/2. Half of each are calm: their posts, their replies and
-- requests for attributes are broken, their polls are not, so that not one one-way request may be lost, but for a
-- connection that is shared and ends. The polls of the others are broken too, and each such fault may cost a one-way
-- request: the server takes it for delivered. Of the two-way ones no more than a few may expire.
io.stdout:setvbuf "line"
local cjson = require "cjson"
local socket = require "socket"
local emulator = require "spec.support.emulator"

local SECONDS, DEVICES = tonumber(arg[1]) or 180, tonumber(arg[2]) or 30
local SEED = math.tointeger(tonumber(arg[3])) or os.time()
local SETTLE = 25 -- seconds without faults, until all is answered or has expired
local FASTER = 3600 / SECONDS
-- In an hour of its own a device posts every 10 s, gets a request every 30 s, an attribute every minute, a fault every
-- two; its polls stay open for 18 s. Here for 2 s at least: half of it must be more than a busy machine is ever late.
local PERIOD = math.max(2, 18 / FASTER)
local POST_EVERY = 10 / FASTER
local REQUESTS, VALUES, FAULTS = FASTER / 30, FASTER / 60, FASTER / 120 -- a second, each device
local LASTING = 20000 -- milliseconds that a two-way request is kept
-- Of the two-way requests: those that a broken poll swallowed come again, and replies are tried until they are taken.
-- In that time all should be answered (of 732 and of 683 all were): this is for machines that are busy.
local MOST_EXPIRED = 0.02
local TIMEOUT = 3 -- seconds of a call
local MORE_MEMORY = 1.10 -- times that of the first part
-- For each device: how many connections are open goes up and down with the faults, a leak only up.
local MORE_DESCRIPTORS = 2

math.randomseed(SEED)
print(("soak: %d s, %d devices, seed %d: %d times as fast as life"):format(SECONDS, DEVICES, SEED, FASTER))

local e <close> = emulator.start { journal_size = 100 }
local devices, by_token = {}, {}
for n = 1, DEVICES do
  local token = e:create_device { name = "soaked " .. n, token = ("SOAKED%03d"):format(n) }
  devices[n] = {
    token = token, url = n % 2 == 0 and e.url or e.tls_url, calm = n % 4 < 2,
    sent = {}, handed = {}, posted = {}, value = 0, faults = 0,
  }
  by_token[token] = devices[n]
end

local log = os.tmpname()
local function start_devices()
  local asked = {
    devices = {}, timeout = TIMEOUT, post_every = POST_EVERY, period = PERIOD, seconds = SECONDS, settle = SETTLE,
    passing = { url = e.tls_url, token = e:create_device { name = "passing", token = "PASSING" } },
  }
  for n, device in ipairs(devices) do asked.devices[n] = { url = device.url, token = device.token } end
  return io.popen(("exec timeout %d lua5.4 spec/torture/device.lua '%s' >%s 2>&1"):format(SECONDS + SETTLE + 60,
    cjson.encode(asked), log), "w")
end

local function one_of(list) return list[math.random(#list)] end

local faults = {
  function() return { how = "status", status = one_of { 408, 429, 500, 502, 503, 504 } } end,
  function() return { how = "status", status = 200, body = one_of { "", "[]", "<html>", '{"id":"x"}' } } end,
  function() return { how = "close" } end,
  function() return { how = "close", handled = true } end,
  function() return { how = "reset" } end,
  function() return { how = "reset", handled = true } end,
  function() return { how = "stall", seconds = 1 + 4 * math.random() } end,
  function() return { how = "delay", seconds = math.random() } end,
  function() return { how = "garbage" } end,
  function() return { how = one_of { "close_after", "reset_after", "wrong_length", "two_lengths" }, bytes = 20 } end,
  function() return { how = "slow", bytes = 30, seconds = 0.1 } end,
}
-- A body that is no JSON object counts as an answer to posts, and an empty list of attributes is one: these stay true.
local everywhere = { "/rpc/", "/telemetry" }
local polls = { "/rpc%?", "/updates%?" }

local function break_something(device)
  local path = one_of(everywhere)
  if not device.calm and math.random() < 0.7 then
    if math.random() < 0.2 then
      device.faults = device.faults + 1
      return e:cut(device.token)
    end
    path = one_of(polls)
  elseif math.random() < 0.3 then
    path = "/attributes%?"
  end
  local fault = one_of(faults)()
  while fault.status == 200 and path ~= polls[1] do fault = one_of(faults)() end
  if path == polls[1] then device.faults = device.faults + 1 end
  fault.path, fault.count = device.token .. path, 1
  e:fault(fault)
end

local function send_request(device)
  local n = #device.sent + 1
  local oneway = math.random() < 0.5
  device.sent[n] = { oneway = oneway, handle = e:rpc(device.token, {
    method = oneway and "one" or "two", params = tostring(n), oneway = oneway, timeout = LASTING,
  }) }
end

local function set_value(device)
  device.value = device.value + 1
  e:set_shared(device.token, ('{"n":%d}'):format(device.value))
end

-- The server's user, and chance: each does what falls due, with a probability for every step.
local function live()
  local last, deadline = socket.gettime(), socket.gettime() + SECONDS
  repeat
    socket.sleep(0.02)
    local now = socket.gettime()
    local passed = now - last
    last = now
    for _, device in ipairs(devices) do
      if math.random() < REQUESTS * passed then send_request(device) end
      if math.random() < VALUES * passed then set_value(device) end
      if math.random() < FAULTS * passed then break_something(device) end
    end
  until now > deadline
  e:clear_faults()
end

local complaints = 0
local function complain(...)
  complaints = complaints + 1
  if complaints <= 50 then print("  " .. string.format(...)) end
end

local sum = setmetatable({}, { __index = function() return 0 end })
local function count(name, more) sum[name] = sum[name] + (more or 1) end

local memory, ended = {}, false

local read = {
  failure = function(entry) complain("the devices failed: %s", entry.message) end,
  memory = function(entry) memory[#memory + 1] = entry end,
  ["end"] = function() ended = true end,
  start = function() count "requests and polls" end,
  post = function(entry, device)
    if not entry.ok then
      count "posts that failed"
      if not entry.retryable and entry.kind ~= "answer" and entry.kind ~= "network" then
        complain("%s, post %d: %s", entry.token, entry.n, entry.message)
      end
    end
    if entry.seconds > TIMEOUT + 1 then complain("%s, post %d: %.1f s", entry.token, entry.n, entry.seconds) end
    device.posted[math.tointeger(entry.n)] = entry.ok and "yes" or "perhaps"
  end,
  request = function(entry, device)
    local n = math.tointeger(entry.n)
    device.handed[n] = (device.handed[n] or 0) + 1
  end,
  update = function(entry, device)
    if entry.n and device.seen and entry.n < device.seen then
      complain("%s: %d came after %d", entry.token, entry.n, device.seen)
    end
    device.seen = entry.n
    count "updates"
  end,
}

local function read_log()
  for line in io.lines(log) do
    local well, entry = pcall(cjson.decode, line)
    if not well then
      complain("the devices said: %s", line)
    elseif read[entry.what] and (by_token[entry.token] or not entry.token) then
      read[entry.what](entry, by_token[entry.token])
    end
  end
  if not ended then complain "the devices did not come to their end" end
end

local function check_posts(device)
  local arrived = {}
  for _, entry in ipairs(e:telemetry(device.token)) do
    local n = math.tointeger(tonumber(entry.value))
    if arrived[n] then count "posts that arrived twice" end
    arrived[n] = true
  end
  for n, said in pairs(device.posted) do
    count "posts"
    if said == "yes" and not arrived[n] then complain("%s: post %d was taken, and is not there", device.token, n) end
  end
  for n in pairs(arrived) do
    if not device.posted[n] then complain("%s: post %d came from nowhere", device.token, n) end
  end
end

local function check_requests(device)
  local lost = 0
  for n, sent in ipairs(device.sent) do
    local handed = device.handed[n] or 0
    if handed > 1 then complain("%s: request %d came %d times", device.token, n, handed) end
    if sent.oneway then
      count "one-way requests"
      if handed == 0 then lost = lost + 1 end
    else
      count "two-way requests"
      local result = e:rpc_result(sent.handle, 0)
      local status = e:rpc_status(sent.handle).status
      local answered = result and result.status == 200 and result.body == tostring(n)
      if status == "EXPIRED" then
        count "two-way requests that expired"
      elseif not answered or handed ~= 1 then
        complain("%s: two-way request %d is %s, handed out %d times, answered with %s", device.token, n, status, handed,
          result and result.status .. " " .. result.body or "nothing")
      end
    end
  end
  count("one-way requests lost on broken polls", lost)
  count("faults of RPC polls", device.faults)
  -- A connection of HTTP/2 is shared: what ends it breaks the polls of calm devices, too. So does libcurl 7.88 by
  -- itself, when many streams of one end together (see STREAMS_PER_CONNECTION): what the server had sent on those is
  -- lost.
  local shared = device.url == e.tls_url and 1 or 0
  if device.calm then count("one-way requests lost on shared connections", lost) end
  if lost > device.faults + shared then
    complain("%s: %d one-way requests were lost, with %d faults of its polls", device.token, lost, device.faults)
  end
end

local function check_value(device)
  count("values set", device.value)
  if (device.seen or 0) ~= device.value then
    complain("%s: the last value is %d, and %s was seen", device.token, device.value, device.seen)
  end
end

local function check_expired()
  local expired, all = sum["two-way requests that expired"], sum["two-way requests"]
  if expired > MOST_EXPIRED * all then complain("%d of %d two-way requests expired", expired, all) end
end

-- The largest of a part of the run.
local function most(name, from, to)
  local largest = 0
  for at = math.max(1, from * #memory // 1 | 0), to * #memory // 1 | 0 do
    largest = math.max(largest, memory[at][name])
  end
  return largest
end

local function check_memory()
  if #memory < 4 then return complain "too short to say anything of memory" end
  for _, name in ipairs { "rss", "heap", "descriptors" } do
    local before, after = most(name, 0, 0.4), most(name, 0.7, 1)
    print(("  %-12s %8.0f in the first part, %8.0f in the last, %8.0f at the end"):format(
      name == "descriptors" and name or name .. " KiB", before, after, memory[#memory][name]))
    local limit = name == "descriptors" and before + MORE_DESCRIPTORS * DEVICES or before * MORE_MEMORY + 256
    if after > limit then complain("%s grew from %.0f to %.0f", name, before, after) end
  end
end

local process = start_devices()
live()
process:close()
read_log()
os.remove(log)
for _, device in ipairs(devices) do
  check_posts(device)
  check_requests(device)
  check_value(device)
end
check_expired()
check_memory()
local names = {}
for name in pairs(sum) do names[#names + 1] = name end
table.sort(names)
for _, name in ipairs(names) do print(("  %-40s %7d"):format(name, sum[name])) end
print(("soak: %d complaints, seed %d"):format(complaints, SEED))
e:stop()
os.exit(complaints == 0, true)
