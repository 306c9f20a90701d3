-- Networks that fail, each in namespaces of its own, all at the same time: after each the polls are back by themselves,
-- nothing has been handed out twice, nothing that the server could keep is lost, and no post has taken longer than its
-- time-out. Over plain HTTP and over TLS with HTTP/2. Arguments: names of stories; none for all.
io.stdout:setvbuf "line"
local cjson = require "cjson"
local socket = require "socket"
local core = require "thingsboard.core"
local emulator = require "spec.support.emulator"
local network = require "spec.support.network"

local SCRIPT = arg[0]
local TIMEOUT = 15 -- seconds of a post
local CALM, AFTER = 5, 12 -- seconds before the network fails, and after the polls are back
local LASTING = 60000 -- milliseconds that a two-way request is kept
local TOKEN = "TORTURED"

-- How a network fails: `fail` and `mend` it, `seconds` between, `back` seconds until the polls are there again.
-- With `lossy` no more is asked than that all goes on.
local stories = {
  ["the device's end unplugged"] = {
    seconds = 45, back = 60, -- first the connections hang, then there is no way to make others
    fail = function(net) net:plug("device", false) end,
    mend = function(net) net:plug("device", true) end,
  },
  ["the server's end unplugged"] = {
    seconds = 15, back = 40,
    fail = function(net) net:plug("server", false) end,
    mend = function(net) net:plug("server", true) end,
  },
  ["silence"] = {
    seconds = 70, back = 40,
    fail = function(net) net:lose(100) end,
    mend = function(net) net:lose(0) end,
  },
  ["a short silence"] = {
    seconds = 8, back = 40,
    fail = function(net) net:lose(100) end,
    mend = function(net) net:lose(0) end,
  },
  ["another address of the device's"] = {
    seconds = 0, back = 45,
    fail = function(net) net:move("device", network.DEVICE, network.OTHER_DEVICE) end,
    mend = function() end,
  },
  ["another address of the server's"] = {
    seconds = 5, back = 100, -- libcurl knows an address for a minute
    fail = function(net) net:move("server", network.SERVER, network.OTHER_SERVER) end,
    mend = function(net) net:name(network.OTHER_SERVER) end,
    by_name = true,
  },
  ["a tenth of the packets lost"] = {
    seconds = 40, back = 40, lossy = true,
    fail = function(net) net:lose(10) end,
    mend = function(net) net:lose(0) end,
  },
  ["a third of the packets lost"] = {
    seconds = 40, back = 40, lossy = true,
    fail = function(net) net:lose(30) end,
    mend = function(net) net:lose(0) end,
  },
  ["the server restarted"] = {
    seconds = 10, back = 40, forgets = true,
    fail = function(_, world) world.emulator:stop() end,
    mend = function(_, world) world:start() end,
  },
  ["no names"] = {
    seconds = 75, back = 40, by_name = true, -- so that libcurl knows the address no more
    fail = function(net)
      net:serve_names(false)
      net:move("server", network.SERVER, network.OTHER_SERVER)
    end,
    mend = function(net)
      net:move("server", network.OTHER_SERVER, network.SERVER)
      net:serve_names(true)
    end,
  },
}

local World = {}
World.__index = World

function World:start()
  self.emulator = emulator.start {
    address = "0.0.0.0", port = self.port, ["tls-port"] = self.tls_port, async_timeout = 30000,
  }
  self.port, self.tls_port = self.emulator.port, self.emulator.tls_port
  self.emulator:create_device { token = TOKEN, name = "the tortured" }
  self.sent = {}
  self.value = 0
end

-- What the server's user does, for a while.
function World:live(seconds, fine)
  local deadline = core.monotonic() + seconds
  while core.monotonic() < deadline do
    local oneway = math.random() < 0.5
    self.n = self.n + 1
    local handle = self.emulator:rpc(TOKEN, {
      method = oneway and "one" or "two", params = tostring(self.n), oneway = oneway, timeout = LASTING,
    })
    self.sent[#self.sent + 1] = { n = self.n, oneway = oneway, fine = fine, handle = handle }
    if math.random() < 0.4 then
      self.value = self.value + 1
      self.emulator:set_shared(TOKEN, ('{"n":%d}'):format(self.value))
    end
    socket.sleep(0.2 + math.random())
  end
end

-- What the device has noted.
function World:notes()
  local notes = {}
  for line in io.lines(self.log) do
    local well, entry = pcall(cjson.decode, line)
    notes[#notes + 1] = well and entry or { what = "failure", at = 0, message = line }
  end
  return notes
end

local function polls_since(self, at)
  local paths = { rpc = 0, updates = 0 }
  for _, request in ipairs(self.emulator:requests()) do
    if request.at >= at and request.target then
      if request.target:find "/rpc%?" then paths.rpc = paths.rpc + 1 end
      if request.target:find "/updates%?" then paths.updates = paths.updates + 1 end
    end
  end
  return paths.rpc >= 2 and paths.updates >= 1
end

local complaints

local function complain(...)
  complaints[#complaints + 1] = string.format(...)
end

local function check(self, story, broke, mended, back)
  local tally = { ones = 0, twos = 0, posts = 0, failed = 0, starts = 0 }
  local handed, seen, longest, cpu_before, cpu_after = {}, nil, 0, 0, 0
  for _, entry in ipairs(self:notes()) do
    if entry.what == "failure" then
      complain("the device failed: %s", entry.message)
    elseif entry.what == "request" then
      if handed[entry.n] then complain("request %d came twice", entry.n) end
      handed[entry.n] = entry.at
    elseif entry.what == "update" then
      if seen and entry.n and entry.n < seen and not story.forgets then
        complain("%d came after %d", entry.n, seen)
      end
      seen = entry.n
    elseif entry.what == "post" then
      tally.posts = tally.posts + 1
      longest = math.max(longest, entry.seconds)
      if not entry.ok then
        tally.failed = tally.failed + 1
        if not entry.retryable or entry.kind ~= "network" and entry.kind ~= "timeout" then
          complain("post %d: %s", entry.n, entry.message)
        end
        if entry.at > back + TIMEOUT + 2 then complain("post %d, later: %s", entry.n, entry.message) end
      end
    elseif entry.what == "start" then
      if entry.at < broke then cpu_before = entry.cpu end
      if entry.at >= broke and entry.at < mended then
        cpu_after = entry.cpu
        tally.starts = tally.starts + 1
      end
    end
  end
  for _, sent in ipairs(self.sent) do
    if sent.oneway then
      tally.ones = tally.ones + 1
      if sent.fine and not handed[sent.n] then complain("one-way request %d was lost", sent.n) end
    else
      tally.twos = tally.twos + 1
      local result = self.emulator:rpc_result(sent.handle, 10)
      local status = self.emulator:rpc_status(sent.handle).status
      if not (result and result.status == 200 and result.body == tostring(sent.n)) and sent.fine then
        complain("two-way request %d: %s", sent.n, result and result.status .. " " .. result.body or "no answer")
      end
      if not handed[sent.n] and status ~= "EXPIRED" then complain("two-way request %d was lost", sent.n) end
    end
  end
  if seen ~= self.value then complain("the last value is %d, and %s was seen", self.value, seen) end
  if longest > TIMEOUT + 1 then complain("a post took %.1f s", longest) end
  local down = mended - broke
  local cpu = math.max(0, cpu_after - cpu_before) / math.max(1, down)
  -- Two polls, one for updates and the requests for attributes: each is tried again ever less often, eight times in the
  -- first quarter of a minute. What goes on takes a few polls for every request of the user's.
  local most = 45 + (story.lossy and 8 or 0.5) * down
  if tally.starts > most then complain("%d requests in %.0f s", tally.starts, down) end
  if cpu > 0.2 then complain("%.0f %% CPU while the network was down", 100 * cpu) end
  local sent = ("%3d one-way, %3d two-way, %3d posts, %2d failed, longest %4.1f s"):format(tally.ones, tally.twos,
    tally.posts, tally.failed, longest)
  return ("%s; down %2.0f s with %3d tries and %.1f %% CPU, back after %4.1f s"):format(sent, down, tally.starts,
    100 * cpu, back - mended)
end

local function run(name, transport)
  local story = stories[name]
  complaints = {}
  local net = network.new()
  local world = setmetatable({ n = 0 }, World)
  world:start()
  local host = story.by_name and network.NAME or network.SERVER
  local tls = transport == "TLS"
  local url = (tls and "https://" or "http://") .. host .. ":" .. (tls and world.tls_port or world.port)
  world.log = net:start("lua5.4 spec/torture/device.lua '" .. cjson.encode {
    devices = { { url = url, token = TOKEN } }, timeout = TIMEOUT, post_every = 1,
  } .. "'")
  local deadline = core.monotonic() + 60
  while not polls_since(world, 0) do
    if core.monotonic() > deadline then error("the device does not poll: " .. io.open(world.log):read "a") end
    socket.sleep(0.1)
  end
  world:live(CALM, true)
  socket.sleep(1) -- what was sent is there, and answered
  local broke = core.monotonic()
  story.fail(net, world)
  if story.forgets then socket.sleep(story.seconds) else world:live(story.seconds, false) end
  local wall, mended = socket.gettime(), core.monotonic()
  story.mend(net, world)
  while not polls_since(world, wall) and core.monotonic() < mended + story.back do
    if not story.forgets then world:live(0.5, false) else socket.sleep(0.1) end
  end
  if not polls_since(world, wall) then complain("the polls are not back after %d s", story.back) end
  local back = core.monotonic()
  world:live(story.lossy and 10 or 2, false) -- TCP's own patience
  world:live(AFTER, true)
  socket.sleep(5)
  local figures = check(world, story, broke, mended, back)
  print(("%-38s %-5s %s"):format(name, transport, figures))
  for _, complaint in ipairs(complaints) do print("  " .. complaint) end
  if #complaints > 0 and os.getenv "VERBOSE" then print(io.open(world.log):read "a") end
  world.emulator:stop()
  os.exit(#complaints == 0, true)
end

if arg[1] == "--inside" then return run(arg[2], arg[3]) end

local why = network.missing()
if why then
  print("networks that fail: skipped, for " .. why)
  os.exit(true)
end

local names = { table.unpack(arg) }
if #names == 0 then
  for name in pairs(stories) do names[#names + 1] = name end
  table.sort(names)
end
local running, failed = {}, 0
for _, name in ipairs(names) do
  for _, transport in ipairs { "plain", "TLS" } do
    running[#running + 1] = network.run(SCRIPT, ("--inside %q %s"):format(name, transport))
  end
end
for _, process in ipairs(running) do
  io.write(process:read "a")
  if not process:close() then failed = failed + 1 end
end
print(("%d networks, %d failures"):format(#running, failed))
os.exit(failed == 0, true)
