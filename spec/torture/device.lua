-- Devices that do all that devices do, and note it, a line of JSON each: what came, how every post went, how often a
-- request was started, how much CPU and memory that takes. The argument is JSON:
-- `devices`: a list of `url` and `token`; `timeout` of a call; `post_every`; `period` of the polls, when not theirs;
-- `seconds` of posts and `settle` more until the end, when there is to be one; `passing`: one that comes and goes.
io.stdout:setvbuf "line"
local cjson = require "cjson"
local client = require "thingsboard.http.client"
local core = require "thingsboard.core"
local loop = require "thingsboard.loop"
local descriptors = require "spec.support.descriptors"
local tb = require "thingsboard"

local asked = cjson.decode(arg[1])
local polls = { period = asked.period }

local function note(what, more)
  more = more or {}
  more.what, more.at = what, core.monotonic()
  print(cjson.encode(more))
end

tb.on_error(function(_, message) note("failure", { message = message }) end)

local start = client.start
function client:start(method, path, ...) -- luacheck: ignore 122
  if method == "GET" then note("start", { path = path, cpu = os.clock() }) end
  return start(self, method, path, ...)
end

local function new_device(about)
  return tb.device { url = about.url, token = about.token, verify = false, timeout = asked.timeout }
end

local function reply(token, request)
  repeat
    local ok, err = request:reply(request.params)
    if not ok then
      note("reply failed", { token = token, message = err.message })
      if err.kind == "closed" then return end
      tb.sleep(0.5)
    end
  until ok
end

local function listen(dev, token)
  local requests = dev:rpc_requests(polls)
  for request in requests, nil, nil, requests do
    note("request", { token = token, method = request.method, n = request.params })
    if request.method == "two" then tb.spawn(reply, token, request) end
  end
  if requests.error then note("failure", { message = "the requests ended: " .. requests.error.message }) end
end

local function follow(dev, token)
  local updates = dev:attribute_updates({ "n" }, polls)
  for values in updates, nil, nil, updates do note("update", { token = token, n = values.n }) end
  if updates.error then note("failure", { message = "the updates ended: " .. updates.error.message }) end
end

local function post(dev, token, n)
  local from = core.monotonic()
  local ok, err = dev:send_telemetry { n = n }
  note("post", {
    token = token, n = n, ok = ok, seconds = core.monotonic() - from,
    kind = err and err.kind, retryable = err and err.retryable, message = err and err.message,
  })
end

local function post_all(dev, token)
  local deadline = core.monotonic() + (asked.seconds or math.huge)
  tb.sleep(math.random() * asked.post_every)
  for n = 1, math.huge do
    if core.monotonic() > deadline then return end
    tb.spawn(post, dev, token, n)
    tb.sleep(asked.post_every)
  end
end

local all = {}
for n, about in ipairs(asked.devices) do
  local dev = new_device(about)
  all[n] = dev
  tb.spawn(listen, dev, about.token)
  tb.spawn(follow, dev, about.token)
  tb.spawn(post_all, dev, about.token)
end

local function come_and_go(about)
  local deadline = core.monotonic() + asked.seconds
  while core.monotonic() < deadline do
    local dev <close> = new_device(about)
    tb.spawn(listen, dev, about.token)
    tb.spawn(follow, dev, about.token)
    tb.spawn(function() dev:send_telemetry { n = 0 } end)
    tb.sleep(math.random() * 0.5)
  end
end

if asked.passing then tb.spawn(come_and_go, asked.passing) end

local function measure()
  collectgarbage()
  collectgarbage()
  local statm <close> = io.open "/proc/self/statm"
  local _, pages = statm:read("n", "n")
  note("memory", { rss = pages * 4, heap = collectgarbage "count", descriptors = descriptors() })
end

if asked.seconds then
  tb.spawn(function()
    local deadline = core.monotonic() + asked.seconds + asked.settle
    while core.monotonic() < deadline do
      tb.sleep(2)
      measure()
    end
    for _, dev in ipairs(all) do dev:close() end
  end)
end

tb.run()
loop.default():close()
note "end"
