-- Runs each story again and again, with the first, the second, the third ... allocation failing, once and from then
-- on: nothing may crash or hang, what is returned or raised must be an error that says so, and the next call must work.
-- lua-cjson ends the process when it gets no memory: it alone is spared. Blocks that stay behind are told; libcurl's
-- own are not told apart, so more than two a failed run count as a leak of ours.
io.stdout:setvbuf "line"
local emulator = require "spec.support.emulator"
local oom = package.loadlib(os.getenv "OOM", "luaopen_oom")()

local cjson = require "cjson"
local function spare(of, name)
  local spared = of[name]
  of[name] = function(value)
    oom.pause(true)
    local ok, result = pcall(spared, value)
    oom.pause(false)
    if not ok then error(result, 0) end
    return result
  end
end
local make = cjson.new
cjson.new = function() -- luacheck: ignore 122
  local made = make()
  spare(made, "decode")
  return made
end
spare(cjson, "decode")
spare(cjson, "encode")

local e = emulator.start { ota_delay = 0, reply_delay = 0 }
local tb = require "thingsboard"
local errors = require "thingsboard.error"

e:on_client_rpc '{"time":5}'
e:assign(e.token, "firmware", { title = "fw", version = "2", size = 3000 })
e:set_shared(e.token, '{"interval":5}')
e:provision_profile { key = "k", secret = "s", strategy = "CHECK_PRE_PROVISIONED" }
tb.on_error(function(_, message) error(message, 0) end)

local directory = io.popen("mktemp -d"):read "l"

local function with_device(body)
  return function()
    local dev <close> = tb.device { url = e.url, token = e.token }
    return body(dev)
  end
end

local stories = {
  { "telemetry", with_device(function(dev) return dev:send_telemetry { a = 1, b = { 1.5, "x" }, c = true } end) },
  { "a list", with_device(function(dev)
    return dev:send_telemetry { { ts = tb.now(), values = { a = 1 } }, { b = ("x"):rep(5000) } }
  end) },
  { "a value that is refused", with_device(function(dev)
    local ok, err = dev:send_telemetry { a = 0 / 0 }
    return not ok and err.kind == "value" or nil, err
  end) },
  { "attributes", with_device(function(dev)
    local ok, err = dev:send_attributes { model = "x" }
    if not ok then return nil, err end
    return dev:request_attributes { client = { "model" }, shared = { "interval" } }
  end) },
  { "an update", with_device(function(dev)
    local updates <close> = dev:attribute_updates { "interval" }
    local values = updates()
    return values, updates.error or values == nil and errors.new("memory", "no memory") or nil
  end) },
  { "a request", with_device(function(dev)
    local handle = e:rpc(e.token, { method = "m", params = "[1]", timeout = 5000 })
    local requests <close> = dev:rpc_requests()
    local request = requests()
    if not request then return nil, requests.error or errors.new("memory", "no memory") end
    local ok, err = request:reply { 1, 2 }
    oom.pause(true)
    e:rpc_result(handle)
    oom.pause(false)
    return ok, err
  end) },
  { "a request to the server", with_device(function(dev) return dev:send_rpc("getTime", { 1 }) end) },
  { "a claim", with_device(function(dev) return dev:claim { secret_key = "x", duration_ms = 1000 } end) },
  { "provisioning", function()
    local got, err = tb.provision { url = e.url, key = "k", secret = "wrong", store = directory .. "/c" }
    return not got and err.kind == "not_found" or nil, err
  end },
  { "a package", with_device(function(dev)
    return dev:firmware { title = "fw", version = "2", chunk_size = 1000, size = 3000 }
  end) },
  { "a package to a file", with_device(function(dev)
    return dev:firmware { title = "fw", version = "2", path = directory .. "/fw" }
  end) },
  { "a refusal", function()
    local dev <close> = tb.device { url = e.url, token = "NOBODY" }
    local ok, err = dev:send_telemetry { a = 1 }
    return not ok and err.status == 401 or nil, err
  end },
  { "tasks", function()
    local sum = 0
    for n = 1, 5 do
      tb.spawn(function()
        tb.sleep(0)
        sum = sum + n
      end)
    end
    tb.run()
    return sum == 15 or nil, errors.new("memory", "not all tasks ran")
  end },
  { "a task that is cancelled", with_device(function(dev)
    local task = tb.spawn(function() dev:send_telemetry { a = 1 } end)
    tb.sleep(0)
    task:cancel()
    return true
  end) },
}

local function live()
  collectgarbage()
  collectgarbage()
  return oom.live()
end

local function descriptors()
  local count = 0
  for _ in io.popen("ls /proc/$PPID/fd"):lines() do count = count + 1 end
  return count
end

local failures, runs = 0, 0

local function complain(name, n, mode, what)
  failures = failures + 1
  print(("%s: allocation %d fails %s: %s"):format(name, n, mode, what))
end

-- One run with a failing allocation. Whether the allocation was reached.
local function try(name, body, n, sticky)
  local mode = sticky and "from then on" or "once"
  if os.getenv "VERBOSE" then io.stderr:write(("%s %d %s\n"):format(name, n, mode)) end
  oom.arm(n, sticky)
  local raised, result, err = pcall(body)
  local reached = oom.disarm() >= n
  runs = runs + 1
  if not raised then
    if not tostring(result):find "memory" then complain(name, n, mode, "raised " .. tostring(result)) end
  elseif not result then
    if not errors.is(err) then complain(name, n, mode, "returned nil and " .. tostring(err)) end
  end
  local ok, well, again = pcall(body)
  if not ok or not well then complain(name, n, mode, "the next call: " .. tostring(again or well)) end
  return reached
end

local first, step = tonumber(arg[1]) or 1, tonumber(arg[2]) or 1
for _, story in ipairs(stories) do
  local name, body = story[1], story[2]
  if arg[3] and arg[3] ~= name then goto continue end
  for _ = 1, 3 do assert(body(), name) end
  local blocks <const>, fds <const> = live(), descriptors()
  local n = first
  while try(name, body, n, false) do
    try(name, body, n, true)
    n = n + step
  end
  for _ = 1, 3 do assert(body(), name) end
  local left <const> = live() - blocks
  print(("%-28s %5d allocations, %d blocks and %d descriptors more than before"):format(name, n - 1, left,
    descriptors() - fds))
  if left > 40 + 2 * n // step or descriptors() > fds + 1 then complain(name, 0, "", "a leak") end
  ::continue::
end

e:stop()
os.execute("rm -r " .. directory)
print(("%d runs, %d failures"):format(runs, failures))
os.exit(failures == 0, true)
