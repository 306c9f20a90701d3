-- Runs each story again and again, with the first, the second, the third ... allocation failing, once and from then
-- on: nothing may crash or hang, what is returned or raised must be an error that says so, every block and descriptor
-- must be given back, and the next call must work. Between them the stories call all that the README has, with success
-- and with each kind of failure. lua-cjson ends the process when it gets no memory: it alone is spared.
--
-- A story of more than 300 allocations is tried with every second, third ... of them, so that there are 150 to 300
-- tries of each mode: over TLS, with thousands, every 31st or so. Each line says which. The seed says which of them is
-- the first, so that other runs try others. An argument of 1 tries all.
--
-- Stories run in processes of their own, which may end by SIGFPE, and by nothing else:
-- libcurl 7.88 empties a table that it has no memory to add to, and divides by its size when it looks into it later.
-- What the story has not tried by then stays untried, and a line says so.
--
-- Over TLS a buffer that libssl gets no memory for may leave libcurl waiting for the server: the time-out ends the call
-- then, with an error as it must.
--
-- Over TLS two things are spared whose want crashes the libraries; with SPARE=no they are not:
-- - What libssl needs to read: when a session ticket comes, and OpenSSL 3.0 has no memory for a copy of the session, it
--   frees twice what the copy shares with the session; and when libcurl 7.88 has none for a copy of the options beside
--   that session, it frees the host's name, and once more when the next session takes the same place.
-- - What nghttp2_session_mem_recv itself asks for, the entries of a SETTINGS frame: nghttp2 1.52 says by
--   NGHTTP2_ERR_NOMEM that there is no memory, after which a session is not to be used. libcurl's
--   h2_process_pending_input, in 7.88 as in 8.22, fails one transfer, and keeps the session and the bytes; the next
--   transfer on the connection passes them again, and the first entry is stored through a null pointer. A program of
--   libcurl alone ends so, too, by two transfers over one connection.
--
-- Arguments: how far apart the failing allocations are (0: as above), the name of one story, and which allocation is
-- the first to fail. SEED in the environment is the seed. Each failure tells how to repeat it.
io.stdout:setvbuf "line"
local emulator = require "spec.support.emulator"
local socket = require "socket"
local oom = package.loadlib(os.getenv "OOM", "luaopen_oom")()

-- Everything in an attempt is below lua_pcallk.
local spares = select(2, oom.attempt(1, true, function() return ("x"):rep(1000) end, "lua_pcallk"))
assert(spares, "oom.c does not find its callers, and would spare nothing")

local ONCE = 16 -- blocks that a story may make once and keep, OpenSSL's most of all: who loses any loses one a run
local LATE = 5 -- seconds: no story takes so long, unless something is waited for that has been forgotten
local LATE_TRIES = 3 -- a busy machine is late now and then, a wait that has been forgotten each time
local TIMEOUT = LATE + 1 -- seconds, of a device: over TLS it may be what ends a call (see above)
local TRIES = 150 -- of a story, at least, where it has as many allocations: those that fail are spread over them

-- What belongs to the torture itself is not to fail.
local function spared(call)
  return function(...)
    oom.pause(true)
    local results = table.pack(pcall(call, ...))
    oom.pause(false)
    if not results[1] then error(results[2], 0) end
    return table.unpack(results, 2, results.n)
  end
end

local cjson = require "cjson"
local make = cjson.new
cjson.new = function() -- luacheck: ignore 122
  local made = make()
  made.decode = spared(made.decode)
  return made
end

local e = emulator.start { ota_delay = 0, reply_delay = 0 }
local stranger = emulator.start() -- whose authority is another
local user = setmetatable({}, { -- of the server
  __index = function(_, name)
    return spared(function(_, ...) return e[name](e, ...) end)
  end,
})
local tb = require "thingsboard"
local errors = require "thingsboard.error"
local loop = require "thingsboard.loop"

-- Waits that a story need not wait for.
local sleep = loop.sleep
function loop:sleep(seconds) return sleep(self, math.min(seconds, 0.02)) end

local directory = io.popen("mktemp -d"):read "l"
local PACKAGE = { title = "fw", version = "2", size = 3000, checksum_algorithm = "SHA256" }

local function device_named(name, shared)
  e:create_device { name = name, token = name }
  e:set_shared(name, shared or '{"interval":5}')
  for _, kind in ipairs { "firmware", "software" } do e:assign(name, kind, PACKAGE) end
end

e:on_client_rpc '{"time":5}'
e:provision_profile { key = "k", secret = "s", strategy = "CHECK_PRE_PROVISIONED" }
e:provision_profile { key = "new", secret = "s", strategy = "ALLOW_CREATE" }
device_named "TRUE"
for name, fault in pairs {
  STALLS = { how = "stall" }, CLOSES = { how = "close" },
  FAILS = { how = "status", status = 500, body = "Can't parse value: why" },
  TALKS = { how = "status", status = 200, body = "<html>" }, ENDLESS = { how = "endless_body" },
  GARBLED = { how = "garbage" }, CUT = { how = "wrong_length" },
} do
  device_named(name)
  fault.path = "/" .. name .. "/"
  e:fault(fault)
end
local told = e:attributes("TRUE", "shared")
local checksum = told.fw_checksum.value

local function port_of_nobody()
  local listener = assert(socket.bind("127.0.0.1", 0))
  local _, port = listener:getsockname()
  listener:close()
  return port
end
local NOBODY = "http://127.0.0.1:" .. port_of_nobody()

local function with_device(body, more)
  return function()
    local options = { url = e.url, token = "TRUE", timeout = TIMEOUT }
    for name, value in pairs(more or {}) do options[name] = value end
    local dev <close> = tb.device(options)
    return body(dev)
  end
end

-- A story that succeeds when the call fails in this way.
local function fails(kind, body, more)
  return with_device(function(dev)
    local result, err = body(dev)
    if result == nil and err.kind == kind then return true end
    return nil, err or "it came"
  end, more)
end

-- A mistake of the program is told as one, whatever memory does.
local function raises(words, body)
  return with_device(function(dev)
    local ok, message = pcall(body, dev)
    if not ok and message:find(words, 1, true) then return true end
    error(message, 0)
  end)
end

local function send(dev) return dev:send_telemetry { a = 1 } end

local function package(more)
  local given = { title = "fw", version = "2", checksum = checksum, checksum_algorithm = "SHA256" }
  for name, value in pairs(more) do given[name] = value end
  return given
end

-- An iterator that has ended says why; that memory was short need not be said twice.
local function ended(iterator)
  return nil, iterator.error or errors.new("memory", "no memory")
end

local function ask(token)
  return user:rpc(token, { method = "m", params = "[1]", timeout = 5000 })
end

local failing = false -- whether an allocation is to fail

local stories = {
  { "telemetry", with_device(function(dev) return dev:send_telemetry { a = 1, b = { 1.5, "x" }, c = true } end) },
  { "a list", with_device(function(dev)
    return dev:send_telemetry { { ts = tb.now(), values = { a = 1 } }, { b = ("x"):rep(5000) } }
  end) },
  { "JSON text", with_device(function(dev) return dev:send_telemetry '{"a":[1,9223372036854775807]}' end) },
  { "arrays and null", with_device(function(dev)
    return dev:send_telemetry { a = tb.array {}, b = { c = tb.null }, d = tb.array { 1, tb.array {} } }
  end) },
  { "attributes", with_device(function(dev)
    local ok, err = dev:send_attributes { model = "x" }
    if not ok then return nil, err end
    return dev:request_attributes { client = { "model" }, shared = { "interval" } }
  end) },
  { "updates of attributes", with_device(function(dev)
    local updates <close> = dev:attribute_updates({ "interval", "n" }, { period = 0.1 })
    local n = 0
    for values in updates do
      if values.n and n > 0 and values.n == n then return true end
      n = math.random(1 << 30)
      user:set_shared("TRUE", ('{"n":%d}'):format(n))
    end
    return ended(updates)
  end) },
  { "a deleted attribute", with_device(function(dev)
    user:set_shared("TRUE", '{"doomed":1}')
    local updates <close> = dev:attribute_updates({ "doomed" }, { period = 0.1 })
    for values, deleted in updates do
      if values.doomed then user:delete_shared("TRUE", { "doomed" }) end
      if deleted[1] == "doomed" then return true end
    end
    return ended(updates)
  end) },
  { "a request", with_device(function(dev)
    local handle = ask "TRUE"
    local requests <close> = dev:rpc_requests()
    local request = requests()
    if not request then return ended(requests) end
    local ok, err = request:reply { 1, 2 }
    if ok then user:rpc_result(handle) end
    return ok, err
  end) },
  { "requests that are served", with_device(function(dev)
    local handle = ask "TRUE"
    local task = tb.spawn(function()
      return dev:serve_rpc { m = function() error "broken" end }
    end)
    local result
    repeat
      tb.sleep(0.002)
      result = user:rpc_result(handle)
    until result or task:done()
    dev:close()
    local _, _, err = task:join()
    return result and true, err or errors.new("memory", "no memory")
  end) },
  { "a request to the server", with_device(function(dev) return dev:send_rpc("getTime", { 1 }) end) },
  { "a claim", with_device(function(dev) return dev:claim { secret_key = "x", duration_ms = 1000 } end) },
  { "a bare claim", with_device(function(dev) return dev:claim() end) },
  { "a package", with_device(function(dev) return dev:firmware(package { chunk_size = 1000, size = 3000 }) end) },
  { "a package to a file", with_device(function(dev)
    local sum = 0
    return dev:software(package { path = directory .. "/sw", progress = function(n) sum = sum + n end })
  end) },
  { "updates", with_device(function(dev)
    os.execute("rm -f " .. directory .. "/firmware.*")
    local applied
    local task = tb.spawn(function()
      return dev:updates {
        kind = "firmware", current = { title = "fw", version = "1" }, directory = directory, chunk_size = 2000,
        apply = function(given)
          applied = given.version
          return true
        end,
      }
    end)
    -- An update that has failed for want of memory waits for the next package.
    local deadline = socket.gettime() + (failing and 0.5 or 20)
    while not applied and not task:done() and socket.gettime() < deadline do tb.sleep(0.002) end
    dev:close()
    local ok, _, err = task:join()
    return applied == "2" or nil, ok and err or errors.new("memory", "no memory")
  end) },
  { "an outbox", with_device(function(dev)
    local outbox <close>, err = dev:outbox { path = directory .. "/outbox" }
    if not outbox then return nil, err end
    local ok = true
    for n = 1, 3 do
      if ok then ok, err = outbox:put { n = n, text = "x" } end
    end
    if ok then ok, err = outbox:attributes { a = 1 } end
    if ok then ok, err = outbox:drain { deadline = 5 } end
    return ok, err
  end) },
  { "provisioning", function()
    os.remove(directory .. "/c")
    local got, err = tb.provision { url = e.url, key = "new", secret = "s", store = directory .. "/c" }
    if got then return tb.provision { url = e.url, key = "new", secret = "s", store = directory .. "/c" } end
    return nil, err
  end },
  { "TLS", with_device(send, { url = e.tls_url, ca_file = e.ca_file }) },
  { "many at once over TLS", with_device(function(dev)
    local tasks, all = {}, true
    for n = 1, 3 do
      tasks[n] = tb.spawn(function() return dev:request_attributes() end)
    end
    local why
    for _, task in ipairs(tasks) do
      local ok, result, err = task:join()
      if not (ok and result) then all, why = nil, ok and err or errors.new("memory", result) end
    end
    return all, why
  end, { url = e.tls_url, ca_file = e.ca_file })},

  { "value", fails("value", function(dev) return dev:send_telemetry { a = 0 / 0 } end) },
  { "value in text", fails("value", function(dev) return dev:send_attributes "[1]" end) },
  { "http", fails("http", send, { token = "NOBODY" }) },
  { "http that quotes", fails("http", send, { token = "FAILS" }) },
  { "timeout", fails("timeout", send, { token = "STALLS", timeout = 0.01 }) },
  { "network, refused", fails("network", send, { url = NOBODY }) },
  { "network, closed", fails("network", send, { token = "CLOSES" }) },
  { "network, cut", fails("network", function(dev) return dev:request_attributes() end, { token = "CUT" }) },
  { "network, no such name", fails("network", send, { url = ("http://%s.invalid"):format(("x"):rep(64)) }) },
  { "tls", fails("tls", send, { url = e.tls_url, ca_file = stranger.ca_file }) },
  { "tls, no such file", fails("tls", send, { url = e.tls_url, ca_file = "/nonexistent" }) },
  { "answer, a page", fails("answer", send, { token = "TALKS" }) },
  { "answer, no JSON", fails("answer", function(dev) return dev:send_rpc "m" end, { token = "TALKS" }) },
  { "answer, no HTTP", fails("answer", send, { token = "GARBLED" }) },
  { "answer, too large", fails("answer", send, { token = "ENDLESS", max_response = 3000 }) },
  { "package, too short", fails("package", function(dev) return dev:firmware(package { size = 3001 }) end) },
  { "package, another", fails("package", function(dev) return dev:firmware(package { checksum = "00" }) end) },
  { "file", fails("file", function(dev) return dev:firmware(package { path = directory .. "/none/x" }) end) },
  { "closed", fails("closed", function(dev)
    dev:close()
    return send(dev)
  end) },
  { "closed meanwhile", fails("closed", function(dev)
    tb.spawn(function() dev:close() end)
    return send(dev)
  end, { token = "STALLS" }) },
  { "iterators of nobody", with_device(function(dev)
    local requests <close>, updates = dev:rpc_requests(), dev:attribute_updates()
    if requests() or updates() then return nil, "it came" end
    if requests.error and requests.error.status == 401 then return true end
    return ended(requests)
  end, { token = "NOBODY" })},
  { "not_found", function()
    local got, err = tb.provision { url = e.url, key = "k", secret = "wrong", store = directory .. "/d" }
    return not got and err.kind == "not_found" or nil, err
  end },
  { "refused", function()
    local got, err = tb.provision { url = e.url, key = "k", secret = "s", device_name = "unknown" }
    return not got and err.kind == "refused" or nil, err
  end },
  { "mistakes", raises("unknown option", function(dev) dev:rpc_requests { perod = 1 } end) },
  { "a device that cannot be", raises("unknown option", function() tb.device { uri = "x" } end) },

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
  { "a task that fails", function()
    local said
    tb.on_error(function(_, message) said = message end)
    tb.spawn(error, "broken")
    tb.run()
    return said ~= nil or nil, errors.new("memory", "nothing was told")
  end },
  { "a task that is cancelled", with_device(function(dev)
    local task = tb.spawn(send, dev)
    tb.sleep(0)
    task:cancel()
    return task:done()
  end) },
  { "a foreign loop", with_device(function(dev)
    local on = loop.default()
    local fd, mode = on:pollfd(), on:events()
    local task = tb.spawn(send, dev)
    tb.max_connections(4)
    while on:working() do on:step(math.min(on:timeout() or 1, 1)) end
    local ok, sent, err = task:join()
    return fd >= 0 and mode == "r" and ok and sent, ok and err or errors.new("memory", sent)
  end) },
}

local step, only, first = tonumber(arg[1]) or 0, arg[2], tonumber(arg[3])
local SEED = math.tointeger(tonumber(os.getenv "SEED")) or os.time()
math.randomseed(SEED)

local failures, runs, found = 0, 0, false

local function complain(name, n, mode, what)
  failures = failures + 1
  local again = ("SEED=%d make torture-memory TORTURE=\"%%d '%s' %%s\""):format(SEED, name)
  print(("%s: allocation %d fails %s: %s"):format(name, n, mode, what))
  print("  again: " .. again:format(1000000, n))
  print("  with those before it: " .. again:format(step, first or ""))
end

-- Closes all; how many blocks and descriptors there are then.
local function settle()
  tb.on_error(function() end) -- of a task that failed when nobody could note it
  loop.default():close()
  for _ = 1, 6 do collectgarbage() end -- each gives half of an unused stack back
  return oom.live(), oom.descriptors()
end

local function run(body)
  tb.on_error(function(_, message) error(message, 0) end)
  return body()
end

-- One run with a failing allocation. How many allocations there were.
local function fail_one(name, body, n, sticky, mode)
  failing = n > 0
  local is_tls = name:upper():find "TLS" ~= nil
  local spare = is_tls and os.getenv "SPARE" ~= "no"
  local late = is_tls and TIMEOUT + LATE or LATE
  local tries, is_late = 0, false
  local count, returned, result, err
  repeat
    if is_late then settle() end
    loop.default()
    local from = socket.gettime()
    count, returned, result, err = oom.attempt(n, sticky, function() return run(body) end,
      spare and "SSL_read" or nil, spare and "nghttp2_session_mem_recv" or nil)
    tries, is_late = tries + 1, socket.gettime() - from > late
  until not is_late or tries == LATE_TRIES
  failing = false
  runs = runs + 1
  if is_late then complain(name, n, mode, "it took too long: " .. tostring(err or result)) end
  if not returned then
    local said = tostring(result)
    if not (said:find "memory" or said:find "the crypto library") then
      complain(name, n, mode, "raised " .. said)
    end
  elseif not result then
    if not errors.is(err) then complain(name, n, mode, "returned nil and " .. tostring(err)) end
  end
  return count
end

local function call_next(name, body, n, mode)
  local well, again, why = pcall(run, body)
  if not well or not again then complain(name, n, mode, "the next call: " .. tostring(why or again)) end
end

-- Both. How many allocations there were; how many blocks and descriptors there are after the first; how many blocks
-- after the next call, at last: what is made once and kept is none that is lost.
local function try(name, body, n, sticky, fds)
  local mode = sticky and "from then on" or "once"
  local at <close> = assert(io.open(os.getenv "TRIED_LAST", "w"))
  at:write(n)
  at:close()
  local count = fail_one(name, body, n, sticky, mode)
  local left, open = settle()
  local deadline = socket.gettime() + 1 -- a resolver's thread may have one for a moment still
  while fds and open > fds and socket.gettime() < deadline do left, open = settle() end
  if fds and open > fds then complain(name, n, mode, ("%d descriptors more than before"):format(open - fds)) end
  call_next(name, body, n, mode)
  return count, left, open, settle()
end

local DIVIDED = 8 -- SIGFPE
local function run_apart(name)
  local at = directory .. "/tried-last"
  local command = "exec env TRIED_LAST=%s SEED=%d %s %s %d '%s' %s 2>&1"
  local process = io.popen(command:format(at, SEED, arg[-1], arg[0], step, name, first or ""))
  local summed = false
  for line in process:lines() do
    local here, failed = line:match "^(%d+) runs, (%d+) failures, seed"
    if here then summed, runs, failures = true, runs + here, failures + failed else print(line) end
  end
  local _, how, code = process:close()
  if summed and how == "exit" and code <= 1 then return end
  if code == DIVIDED or code == 128 + DIVIDED then
    return print(name .. ": libcurl divided by zero (SIGFPE), and the rest of the story has not been tried")
  end
  local file <close> = io.open(at)
  complain(name, file and file:read "n" or 0, "once or from then on", ("ended by %s %d"):format(how, code))
end

for _, story in ipairs(stories) do
  local name, body = story[1], story[2]
  if not os.getenv "TRIED_LAST" then
    if not only or only == name then
      found = true
      run_apart(name)
    end
  elseif only == name then
    local from = socket.gettime()
    for _ = 1, 5 do
      local ok, err = run(body)
      if not ok then error(name .. ": " .. tostring(err)) end
      settle()
    end
    try(name, body, 0, false)
    local count <const>, blocks <const>, fds <const> = try(name, body, 0, false)
    local stride = step > 0 and step or math.max(1, count // TRIES)
    local n = first or 1 + SEED % stride
    local most, tries = blocks, 0 -- a handshake that fails may leave a block with OpenSSL
    repeat
      for _, sticky in ipairs { false, true } do
        local _, left, _, later = try(name, body, n, sticky, fds)
        most = math.max(most, math.min(left, later))
        tries = tries + 1
        if most > blocks + ONCE + (name:upper():find "TLS" and tries // 2 or 0) then
          complain(name, n, sticky and "from then on" or "once", ("%d blocks more than before"):format(most - blocks))
          most = blocks
        end
      end
      n = n + stride
    until n > count
    print(("%-28s %6d allocations, each %d., %.1f s"):format(name, count, stride, socket.gettime() - from))
  end
end

e:stop()
stranger:stop()
os.execute("rm -r " .. directory)
if not (found or os.getenv "TRIED_LAST") then error("no such story: " .. only) end
print(("%d runs, %d failures, seed %d"):format(runs, failures, SEED))
os.exit(failures == 0, true)
