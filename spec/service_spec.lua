-- The service as a process, against the emulator: what scripts are given, what becomes of those that fail, and what
-- comes from outside that must not end it.
local cjson = require "cjson"
local command = require "spec.support.command"
local emulator = require "spec.support.emulator"
local library = require "spec.support.library"
local scratch = require "spec.support.scratch"
local tb = require "thingsboard"

local KILLS = tonumber(os.getenv "THINGSBOARD_KILLS") or 20

describe("thingsboard service", function()
  local e, directory, folder, log_path, token_file, process, pid

  setup(function() e = emulator.start() end)
  teardown(function() e:stop() end)

  before_each(function()
    directory = scratch.new()
    folder, log_path = directory .. "/scripts", directory .. "/log"
    os.execute("mkdir " .. folder)
    token_file = command.write(directory .. "/token", e:create_device {})
    e:clear()
  end)

  after_each(function()
    if process then
      command.signal(pid, "KILL")
      process:close()
    end
    process, pid = nil, nil
    scratch.remove(directory)
    e:clear_faults()
  end)

  local function token() return (io.open(token_file):read "a":gsub("%s", "")) end

  local function write(name, text) command.write(folder .. "/" .. name, text, "644") end

  local function log()
    local file = io.open(log_path)
    local text = file and file:read "a" or ""
    if file then file:close() end
    return text
  end

  local function until_true(condition, seconds)
    local deadline = tb.now() + (seconds or 15) * 1000
    repeat
      local value = condition()
      if value then return value end
      tb.sleep(0.05)
    until tb.now() > deadline
    error("in vain; the log: " .. log(), 2)
  end

  local function until_logged(text, seconds)
    until_true(function() return log():find(text, 1, true) end, seconds)
  end

  local function start(more, environment)
    local config = { url = e.url, token_file = token_file, scripts = folder }
    config.outbox = { path = directory .. "/outbox" }
    for name, value in pairs(more or {}) do config[name] = value end
    for name, value in pairs(config) do if value == cjson.null then config[name] = nil end end
    -- As Lua text.
    local function text_of(value)
      if type(value) ~= "table" then return ("%q"):format(value) end
      local parts = {}
      for key, inner in pairs(value) do parts[#parts + 1] = ("[%q] = %s"):format(key, text_of(inner)) end
      return "{ " .. table.concat(parts, ", ") .. " }"
    end
    local path = command.write(directory .. "/config.lua", "return " .. text_of(config))
    process, pid = command.start({ "service", path }, { errors = log_path, environment = environment })
  end

  local function stop(name)
    command.signal(pid, name or "TERM")
    local ok, how, code = process:close()
    process = nil
    assert.same({ true, "exit", 0 }, { ok, how, code }, log())
  end

  local function values(key)
    local list = {}
    for _, entry in ipairs(e:series(token())[key] or {}) do list[#list + 1] = entry.value end
    return list
  end

  local function ask(method, params)
    local result = e:rpc_result(e:rpc(token(), { method = method, params = params or "{}" }), 15)
    return result.body and result.body ~= "" and cjson.decode(result.body) or result.status
  end

  local function polls(pattern)
    local count = 0
    for _, request in ipairs(e:requests()) do
      if request.target:find(pattern, 1, true) then count = count + 1 end
    end
    return count
  end

  local function until_polled() until_true(function() return polls "/rpc?" >= 2 end) end

  describe("gives a script", function()
    it("a device whose records go through the outbox, with RPC, attributes and a log", function()
      write("all.lua", [[
        local tb, device = ...
        device:on_rpc("double", function(params, request) return { twice = 2 * params.n, method = request.method } end)
        device:on_attribute("interval", function(value) print("interval", value) end)
        assert(device:send_attributes { model = "test" })
        assert(device:put { interval_is = device.attributes.interval or "none" })
        assert(device:put { { ts = 1700000000000, values = { dated = 1 } }, { undated = 2 } })
        assert(device:send_telemetry { direct = true })
        for key in pairs(device.attributes) do assert(device:put { listed = key }) end
        print(pcall(function() device.attributes.x = 1 end))
        print(device.rpc_requests, device.outbox, device.close, pcall(tb.run))
      ]])
      e:set_shared(token(), '{"interval":7}')
      start()
      until_logged "all.lua: interval\t7"
      until_true(function() return values("listed")[1] end)
      assert.same({ { "7" }, { "1" }, { "2" }, { "true" }, { "interval" } },
        { values "interval_is", values "dated", values "undated", values "direct", values "listed" })
      assert.equal("test", e:attributes(token(), "client").model.value)
      assert.same({ twice = 42, method = "double" }, ask("double", '{"n":21}'))
      e:set_shared(token(), '{"interval":8}')
      until_logged "interval\t8"
      e:delete_shared(token(), { "interval" })
      until_logged "interval\tnil"
      assert.truthy(log():find("all.lua: false\t", 1, true))
      assert.truthy(log():find("all.lua: nil\tnil\tnil\tfalse\t", 1, true), log())
      stop()
    end)

    it("globals of its own", function()
      write("a.lua", "shared = 1 string.mine = nil local tb = ... tb.sleep(0.2) print('a', shared)")
      write("b.lua", "local tb = ... tb.sleep(0.1) print('b', shared) shared = 2")
      start()
      until_logged "a.lua: a\t1"
      assert.truthy(log():find("b.lua: b\tnil", 1, true))
    end)

    it("one RPC stream and one attribute poll with all others, and none before one asks", function()
      for n = 1, 5 do
        write(n .. ".lua", ([[
          local tb, device = ...
          device:on_rpc("m%d", function() return %d end)
          device:on_attribute("interval", function() end)
        ]]):format(n, n))
      end
      start()
      until_polled()
      for n = 1, 5 do assert.equal(n, ask("m" .. n)) end
      local open = 0
      for _, request in ipairs(e:requests()) do
        if request.target:find "/updates" then open = open + 1 end
      end
      assert.equal(1, open)
      stop()
      e:clear()
      os.execute("rm " .. folder .. "/*")
      write("quiet.lua", "local tb, device = ... while true do device:put { a = 1 } tb.sleep(0.3) end")
      start()
      until_true(function() return #values "a" > 2 end)
      assert.same({ 0, 0 }, { polls "/rpc", polls "/updates" })
    end)

    it("what to do without an outbox: its records are sent at once", function()
      write("a.lua", "local tb, device = ... print(device:put { a = 1 }, device:send_attributes { b = 2 })")
      start { outbox = cjson.null }
      until_logged "a.lua: true\ttrue"
      assert.same({ "1" }, values "a")
    end)

    it("options, if it is a collector", function()
      start { collectors = { none = {} } }
      until_logged "collectors: there is none called 'none'"
    end)
  end)

  describe("has scripts that", function()
    it("fail: they are told with a traceback and started again, and the others go on", function()
      write("bad.lua", "local tb, device = ...\nlocal function deep() error 'this is wrong' end\n"
        .. "device:put { bad = 1 }\ntb.spawn(function() tb.sleep(0.05) deep() end)\ntb.sleep(60)")
      write("syntax.lua", "this is no Lua")
      write("good.lua", "local tb, device = ... for n = 1, 1e9 do device:put { good = n } tb.sleep(0.05) end")
      start()
      until_true(function() return #values "bad" >= 3 end, 30)
      local text = log()
      assert.truthy(text:find "bad.lua failed, and is started again: [^\n]*bad.lua:2: this is wrong\n +stack")
      assert.truthy(text:find("in upvalue 'deep'", 1, true) or text:find("in function 'deep'", 1, true), text)
      assert.truthy(text:find("syntax.lua failed", 1, true))
      local good = values "good"
      for n, value in ipairs(good) do assert.equal(n, tonumber(value)) end -- it was never started again
      stop()
    end)

    it("claim a method of another's: an error for the second, named", function()
      write("a.lua", "local tb, device = ... device:on_rpc('blink', function() return 'a' end)")
      write("b.lua", "local tb, device = ... tb.sleep(0.1) device:on_rpc('blink', function() return 'b' end)")
      start()
      until_logged "b.lua failed"
      assert.truthy(log():find("the method 'blink' is served by a.lua already", 1, true))
      assert.equal("a", ask "blink")
    end)

    it("block: they are named", function()
      write("slow.lua", "local tb = ... tb.sleep(0.1) os.execute 'sleep 1.3' tb.sleep(60)")
      start()
      until_logged "slow.lua: it blocked everything for "
      assert.falsy(log():find("failed", 1, true))
    end)

    it("loop without end: they are ended, named, and the others go on", function()
      write("loop.lua", "local tb = ... tb.sleep(0.3) while true do end")
      write("good.lua", "local tb, device = ... for n = 1, 1e9 do device:put { good = n } tb.sleep(0.05) end")
      start()
      until_logged("loop.lua failed", 30)
      assert.truthy(log():find("loop.lua:1: it blocked everything for more than 10 s", 1, true), log())
      local before = #values "good"
      until_true(function() return #values "good" > before + 5 end)
    end)

    it("fail in a handler: the caller hears it, the script goes on", function()
      write("a.lua", [[
        local tb, device = ...
        device:on_rpc("fails", function() error("no such pin", 0) end)
        device:on_rpc("strange", function() return print end)
        device:on_rpc("well", function() return "well" end)
        device:on_attribute("x", function() error "bad attribute" end)
      ]])
      e:set_shared(token(), '{"x":1}')
      start()
      until_polled()
      assert.same({ error = "no such pin" }, ask "fails")
      assert.truthy(ask("strange").error)
      assert.equal("well", ask "well")
      until_logged "a.lua: attribute x: "
      assert.falsy(log():find("failed", 1, true))
    end)

    it("others can write to, or to their folder: they are not run", function()
      write("a.lua", "print 'runs'")
      os.execute("chmod 666 " .. folder .. "/a.lua")
      start()
      until_logged "a.lua failed, and is started again: every user can write to it"
      stop()
      os.remove(log_path)
      os.execute(("chmod 644 %s/a.lua; chmod 777 %s"):format(folder, folder))
      start()
      until_logged("scripts: " .. folder .. ": every user can write to it")
      assert.falsy(log():find("a.lua", 1, true))
    end)

    it("would end the process: they fail instead", function()
      write("a.lua", "os.exit(0)")
      start()
      until_logged "a script ends by itself alone"
      stop()
    end)

    it("all fail at once: it neither burns the processor nor ends", function()
      for n = 1, 30 do write(("bad%d.lua"):format(n), "error 'storm'") end
      write("good.lua", "local tb, device = ... device:on_rpc('well', function() return 1 end)")
      start()
      until_polled()
      tb.sleep(6)
      assert.equal(1, ask "well")
      local spent = 0
      for field in io.open(("/proc/%d/stat"):format(pid)):read("a"):match("%) (.*)"):gmatch "%S+" do
        spent = spent + 1
        if spent == 12 then spent = tonumber(field) break end -- utime, in hundredths of a second
      end
      assert.is_true(spent < 150, "CPU: " .. spent)
      local _, count = log():gsub("failed, and is started again", "")
      assert.is_true(count >= 60 and count < 30 * 12, count .. " starts")
      stop()
    end)
  end)

  describe("on SIGHUP", function()
    it("loads what is new and changed, and stops what is gone; the others go on undisturbed", function()
      local text = "local tb, device = ... for n = 1, 1e9 do device:put { %s = n } tb.sleep(0.05) end"
      for _, name in ipairs { "stays", "changes", "goes" } do write(name .. ".lua", text:format(name)) end
      start()
      until_true(function() return #values "stays" > 3 and #values "goes" > 3 and #values "changes" > 3 end)
      write("comes.lua", text:format "comes")
      write("changes.lua", text:format "changed")
      os.remove(folder .. "/goes.lua")
      command.signal(pid, "HUP")
      until_true(function() return #values "comes" > 3 and #values "changed" > 3 end)
      local gone, before = #values "goes", #values "changes"
      tb.sleep(0.5)
      assert.same({ gone, before }, { #values "goes", #values "changes" })
      for n, value in ipairs(values "stays") do assert.equal(n, tonumber(value)) end
      stop()
    end)

    it("ends what a script has in flight: tasks, handlers, watches, signals", function()
      write("a.lua", [[
        local tb, device = ...
        device:on_rpc("mine", function() return "old" end)
        device:on_attribute("x", function(value) print("old x", value) end)
        tb.on_signal("USR2", function() print "old signal" end)
        tb.spawn(function() while true do tb.sleep(0.05) device:put { old = 1 } end end)
      ]])
      start()
      until_polled()
      assert.equal("old", ask "mine")
      e:set_shared(token(), '{"x":1}')
      until_logged "old x\t1"
      command.signal(pid, "USR2")
      until_logged "old signal"
      write("a.lua", "local tb, device = ... tb.on_signal('USR2', function() print 'new signal' end) print 'new'")
      command.signal(pid, "HUP")
      until_logged "a.lua: new"
      tb.sleep(0.3)
      local before, text = #values "old", log()
      e:set_shared(token(), '{"x":2}')
      command.signal(pid, "USR2")
      until_logged "new signal"
      tb.sleep(1.5)
      assert.equal(before, #values "old")
      assert.falsy(log():find("old", #text, true))
      assert.same({ error = "no such method: mine" }, ask "mine")
    end)

    it("looks for the file that says that the clock is known", function()
      write("clock.lua", 'local tb, device = ... while true do device:put { known = tb.clock() } tb.sleep(0.2) end')
      start({ clock_file = directory .. "/clock" })
      until_true(function() return values("known")[1] end)
      assert.is_nil(log():find("the clock is known", 1, true))
      command.write(directory .. "/clock", "")
      command.signal(pid, "HUP")
      until_logged "the clock is known"
    end)

    it("in the midst of a call answers the caller", function()
      write("a.lua", "local tb, device = ... device:on_rpc('slow', function() tb.sleep(30) return 1 end)")
      start()
      until_polled()
      local handle = e:rpc(token(), { method = "slow", params = "{}" })
      tb.sleep(0.5)
      write("a.lua", "local tb, device = ... device:on_rpc('slow', function() return 'quick' end)")
      command.signal(pid, "HUP")
      local result = e:rpc_result(handle, 10)
      assert.same({ error = "the script that serves this method was stopped" }, cjson.decode(result.body))
      assert.equal("quick", ask "slow")
    end)

    it("with a folder that is gone keeps what runs", function()
      write("a.lua", "local tb, device = ... while true do device:put { a = 1 } tb.sleep(0.05) end")
      start()
      until_true(function() return #values "a" > 1 end)
      os.execute(("mv %s %s.away"):format(folder, folder))
      command.signal(pid, "HUP")
      until_logged "scripts: "
      local before = #values "a"
      until_true(function() return #values "a" > before + 2 end)
      stop()
    end)
  end)

  describe("never ends for want of", function()
    local putting = "local tb, device = ... for n = 1, 1e9 do assert(device:put { n = n }) tb.sleep(0.05) end"

    it("a token: it records, and sends once there is one", function()
      local right = token()
      os.remove(token_file)
      write("a.lua", putting)
      start()
      until_logged "identity: "
      local _, count = log():gsub("identity: ", "")
      assert.equal(1, count)
      tb.sleep(1)
      command.write(token_file, right)
      until_true(function() return #values "n" > 20 end, 30)
      until_logged "identity: works again"
      for n, value in ipairs(values "n") do assert.equal(n, tonumber(value)) end
      stop()
    end)

    it("a token that the server knows, which comes later", function()
      local right = token()
      command.write(token_file, "WRONG_TOKEN")
      write("a.lua", putting)
      write("b.lua", "local tb, device = ... device:on_rpc('well', function() return 1 end)"
        .. " device:on_attribute('x', print)")
      start()
      until_logged "status 401"
      command.write(token_file, right)
      until_true(function() return #values "n" > 20 end, 30)
      until_true(function() return polls("/api/v1/" .. right .. "/rpc?") >= 2 end, 30)
      assert.equal(1, ask "well")
      assert.falsy(log():find("WRONG_TOKEN", 1, true) or log():find(right, 1, true))
      stop()
    end)

    it("a server, which takes records later with their times", function()
      e:fault { path = "/", how = "close" }
      write("a.lua", putting)
      start()
      tb.sleep(2)
      local cleared = tb.now()
      e:clear_faults()
      local series = until_true(function()
        local all = e:series(token()).n
        return all and all[1].value == "1" and #all > 20 and all
      end, 30)
      assert.is_true(series[1].ts < cleared - 1000)
      stop()
    end)

    it("a name that resolves, or a port that answers", function()
      write("a.lua", putting)
      for _, url in ipairs { "http://none.invalid", "http://127.0.0.1:1", "https://127.0.0.1:" .. e.port } do
        start { url = url }
        tb.sleep(0.7)
        stop()
      end
      start()
      until_true(function() return #values "n" > 20 end, 30)
    end)

    it("registration: it provisions once it may, and keeps the credentials", function()
      local store, secret = directory .. "/store", command.write(directory .. "/secret", "profile-secret")
      write("a.lua", putting)
      start { token_file = cjson.null, provision = { key = "later", secret_file = secret, store = store,
        device_name = "service" } }
      until_logged "identity: "
      e:provision_profile { key = "later", secret = "profile-secret", strategy = "ALLOW_CREATE" }
      until_true(function() return io.open(store) end, 30)
      token_file = command.write(directory .. "/token", cjson.decode(io.open(store):read "a").token)
      until_true(function() return #values "n" > 20 end, 30)
      local text = log()
      for _, word in ipairs { "profile%-secret", token() } do assert.falsy(text:find(word)) end
      stop()
    end)

    it("a disk: it records in memory until there is one", function()
      write("a.lua", "local tb, device = ... for n = 1, 1e9 do device:put { n = n } tb.sleep(0.05) end")
      start { outbox = { path = directory .. "/missing/outbox" } }
      tb.sleep(1)
      os.execute("mkdir " .. directory .. "/missing")
      until_true(function() return #values "n" > 20 end, 30)
      stop()
    end)

    it("a server for a day: it says so once, and loses nothing", function()
      local haste = command.write(directory .. "/haste", "1", "644")
      write("a.lua", "local tb, device = ... device:on_attribute('x', print) device:on_rpc('y', print)\n"
        .. "for n = 1, 1e9 do assert(device:put { n = n }) tb.sleep(60) end")
      start({ report = { every = 3600 } }, { LD_PRELOAD = library.preload "haste", HASTE = haste })
      until_true(function() return #values "n" == 1 end)
      until_polled()
      e:fault { path = "/", how = "close" }
      command.write(haste, "4320", "644")
      tb.sleep(20)
      e:clear_faults()
      command.write(haste, "10", "644")
      local series = until_true(function() -- the whole day, less what a slow machine has no time for
        local all = e:series(token()).n
        local complete = #all > 200 and all[#all].value == tostring(#all)
        return complete and all[#all].ts - all[1].ts > 80000 * 1000 and all
      end, 40)
      command.write(haste, "1", "644")
      for n, entry in ipairs(series) do assert.equal(n, tonumber(entry.value)) end
      local text = log()
      assert.truthy(text:find("the server has not answered for", 1, true), text)
      assert.truthy(text:find("the server answers again, after 8%d%d%d%d s"), text)
      -- A disk that takes its time takes long, in haste.
      local _, lines = text:gsub("[^\n]*it blocked everything[^\n]*\n", ""):gsub("\n", "")
      assert.is_true(lines < 12, text)
      stop()
    end)
  end)

  it("loses nothing that it has acknowledged, killed at any moment", function()
    local acknowledged = directory .. "/acknowledged"
    write("a.lua", ([[
      local tb, device = ...
      local file = assert(io.open(%q, "a+"))
      file:setvbuf "no"
      local id = 0
      for line in file:lines() do id = math.max(id, tonumber(line)) end
      while true do
        for _ = 1, 5 do
          id = id + 1
          assert(device:put { id = id })
          file:write(id .. "\n")
        end
        tb.sleep(0.002)
      end
    ]]):format(acknowledged))
    local function written()
      local file = io.open(acknowledged)
      local size = file and file:seek "end" or 0
      if file then file:close() end
      return size
    end
    for _ = 1, KILLS do
      local before = written()
      start()
      if math.random() < 0.9 then until_true(function() return written() > before end) end
      tb.sleep(math.random() * 0.05)
      command.signal(pid, "KILL")
      process:close()
      process = nil
    end
    start()
    local wanted = {}
    for line in io.lines(acknowledged) do wanted[#wanted + 1] = tonumber(line) end
    assert.is_true(#wanted > KILLS, "only " .. #wanted .. " were put")
    until_true(function()
      local arrived = {}
      for _, value in ipairs(values "id") do arrived[tonumber(value)] = true end
      for _, id in ipairs(wanted) do if not arrived[id] then return false end end
      return true
    end, 60)
    stop()
    for _, name in ipairs(scratch.files(directory)) do assert.is_nil(name:find "damaged") end
  end)

  it("takes hostile methods and params for what they are", function()
    write("a.lua", "local tb, device = ... device:on_rpc('echo', function(params) return params end)")
    start()
    until_polled()
    for _, method in ipairs { "__index", "__gc", "", "../../etc/passwd", "echo\0", ("x"):rep(5000), "'; os.exit()" } do
      if method ~= "" then assert.truthy(ask(method).error, method) end
    end
    for _, params in ipairs { '"$(id)"', "null", "[]", '{"__index":{"__gc":1}}',
      ("[1,"):rep(200) .. "1" .. ("]"):rep(200), '"' .. ("x"):rep(50000) .. '"' } do
      assert.same(cjson.decode(params), ask("echo", params))
    end
    assert.falsy(log():find("failed", 1, true))
  end)

  it("runs fifty scripts", function()
    for n = 1, 50 do
      write(("s%02d.lua"):format(n), ([[
        local tb, device = ...
        device:on_rpc("m%d", function() return %d end)
        device:on_attribute("x", function(value) device:put { x%d = value } end)
        for i = 1, 20 do device:put { s%d = i } tb.sleep(0.05) end
      ]]):format(n, n, n, n))
    end
    e:set_shared(token(), '{"x":5}')
    start()
    until_polled()
    until_true(function()
      for n = 1, 50 do
        if #values("s" .. n) < 20 or #values("x" .. n) < 1 then return false end
      end
      return true
    end, 60)
    assert.equal(50, ask "m50")
    stop()
  end)

  it("tells its state on request: into the log, a file, and to the server", function()
    local state = directory .. "/state"
    write("a.lua", "local tb, device = ... device:put { a = 1 } tb.sleep(0.2) error 'once'")
    start { state = state, report = { every = 0.3 } }
    until_true(function() return #values "uptime" > 1 and #values "last_error" > 0 end)
    command.signal(pid, "USR1")
    until_logged "state: {"
    local told = cjson.decode(log():match "state: (%b{})")
    assert.is_true(told.restarts >= 1 and told.scripts["a.lua"] ~= nil and told.outbox.records ~= nil)
    assert.truthy(told.last_error:find("a.lua failed", 1, true))
    local code, out = command.run { "--config", directory .. "/config.lua", "outbox", "status" }
    assert.equal(0, code) -- though the service has the outbox
    assert.is_true(cjson.decode(out).uptime ~= nil)
    stop()
    start { report = { every = 0.3, as = "attributes" } }
    until_true(function() return e:attributes(token(), "client").uptime end)
  end)

  it("lets scripts say their last words on SIGTERM and SIGINT, and keeps what they put", function()
    write("a.lua", "local tb, device = ... print 'ready'\n"
      .. "tb.on_signal('TERM', function() tb.sleep(0.3) device:put { last = 'word' } end)")
    e:fault { path = "/telemetry", how = "close" }
    start { outbox = { path = directory .. "/outbox", sync_every = 60 } }
    until_logged "ready"
    stop()
    os.remove(log_path)
    start()
    until_logged "ready"
    stop "INT"
    e:clear_faults()
    start()
    until_true(function() return values("last")[1] == "word" end, 30)
  end)

  describe("installs updates", function()
    before_each(function() e:set { ota_delay = 0 } end)

    local function states()
      local list = {}
      for _, entry in ipairs(e:telemetry(token())) do
        if entry.key == "fw_state" then list[#list + 1] = entry.value end
      end
      return table.concat(list, " ")
    end

    it("by a function of a script", function()
      write("a.lua", [[
        local tb, device = ...
        device:on_update(function(package)
          print("applies", package.title, package.version, io.open(package.path):seek "end")
          return true
        end)
      ]])
      start { updates = { kind = "firmware", directory = directory, current = { title = "gateway", version = "1" } } }
      e:assign(token(), "firmware", { title = "gateway", version = "2", size = 3000 })
      until_true(function() return states():find "UPDATED" end)
      assert.truthy(log():find("applies\tgateway\t2\t3000", 1, true))
    end)

    it("by an executable, and goes on where it ended when the machine restarts", function()
      local handler = command.write(directory .. "/handler", ([[#!/bin/sh
        cd %s
        case $1 in
        version) echo gateway; cat version ;;
        apply) echo 2 >next; while :; do sleep 1; done ;;
        esac]]):format(directory), "755")
      command.write(directory .. "/version", "1\n")
      start { updates = { kind = "firmware", directory = directory, apply = handler } }
      e:assign(token(), "firmware", { title = "gateway", version = "2", size = 3000 })
      until_true(function() return io.open(directory .. "/next") end)
      command.signal(pid, "KILL") -- as a restart does
      process:close()
      os.execute(("pkill -f '%s/handler [a]pply'; mv %s/next %s/version"):format(directory, directory,
        directory))
      assert.falsy(states():find "UPDATED")
      start { updates = { kind = "firmware", directory = directory, apply = handler } }
      until_true(function() return states():find "UPDATED" end)
    end)
  end)

  it("wants a configuration that makes sense", function()
    local function fails(code, said, text)
      local path = command.write(directory .. "/config.lua", text)
      local got, _, err = command.run { "service", path }
      assert.same({ code, true }, { got, err:find(said, 1, true) ~= nil }, err)
    end
    fails(2, "which server?", "return {}")
    fails(2, "which device?", "return { url = 'http://127.0.0.1:1' }")
    fails(1, "report: option 'as' must be 'telemetry' or 'attributes'",
      ("return { url = 'http://127.0.0.1:1', token_file = %q, report = { as = 'mail' } }"):format(token_file))
    fails(1, "outbox: option 'plan' must be 'cloud-free'", ("return { url = 'http://127.0.0.1:1', token_file = %q, "
      .. "outbox = { path = '/tmp/x', plan = 'gold' } }"):format(token_file))
    fails(1, "unknown option 'colour'", ("return { url = 'http://127.0.0.1:1', token_file = %q, outbox = "
      .. "{ path = '/tmp/x', colour = 1 } }"):format(token_file))
  end)
end)
