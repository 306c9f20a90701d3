-- The service as a process, against the emulator: what scripts are given, and what becomes of those that fail.
local cjson = require "cjson"
local command = require "spec.support.command"
local service = require "spec.support.service"
local tb = require "thingsboard"

describe("thingsboard service", function()
  local s = service.specs()

  it("opens no pipe, which would hold up all scripts", function()
    os.execute("mkfifo " .. s.scripts .. "/a.lua")
    s:write("b.lua", "local tb, device = ... device:put { b = 1 }")
    os.execute("ln -s none " .. s.scripts .. "/c.lua")
    s:start()
    s:wait(function() return s:values("b")[1] end)
    s:wait_for_log "a.lua failed, and is started again: "
    assert.truthy(s:log():find("a.lua: not a regular file", 1, true))
    s:wait_for_log("c.lua failed, and is started again: " .. s.scripts .. "/c.lua: No such file or directory")
    s:stop()
  end)

  describe("gives a script", function()
    it("a device whose records go through the outbox, with RPC, attributes and a log", function()
      s:write("all.lua", [[
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
      s.e:set_shared(s:token(), '{"interval":7}')
      s:start()
      s:wait_for_log "all.lua: interval\t7"
      s:wait(function() return s:values("listed")[1] end)
      assert.same({ { "7" }, { "1" }, { "2" }, { "true" }, { "interval" } },
        { s:values "interval_is", s:values "dated", s:values "undated", s:values "direct", s:values "listed" })
      assert.equal("test", s.e:attributes(s:token(), "client").model.value)
      assert.same({ twice = 42, method = "double" }, s:ask("double", '{"n":21}'))
      s.e:set_shared(s:token(), '{"interval":8}')
      s:wait_for_log "interval\t8"
      s.e:delete_shared(s:token(), { "interval" })
      s:wait_for_log "interval\tnil"
      assert.truthy(s:log():find("all.lua: false\t", 1, true))
      assert.truthy(s:log():find("all.lua: nil\tnil\tnil\tfalse\t", 1, true), s:log())
      s:stop()
    end)

    it("all shared attributes when one has changed, and none that was deleted while the token was refused", function()
      s:write("a.lua", [[
        local tb, device = ...
        device:on_attribute("a", function(value) print(value, device.attributes.b) end)
      ]])
      s.e:set_shared(s:token(), '{"a":1,"b":2}')
      s:start()
      s:wait_for_log "a.lua: 1\t2"
      s.e:set_shared(s:token(), '{"a":3}')
      s:wait_for_log "a.lua: 3\t2"
      s.e:fault { path = "/attributes", how = "status", status = 401 }
      s.e:set_shared(s:token(), '{"a":4}') -- ends the poll that is open
      s:wait_for_log "status 401"
      s.e:delete_shared(s:token(), { "b" })
      s.e:set_shared(s:token(), '{"a":5}')
      s.e:clear_faults()
      s:wait_for_log "a.lua: 5\tnil"
    end)

    it("globals of its own", function()
      s:write("a.lua", "shared = 1 string.mine = nil local tb = ... tb.sleep(0.2) print('a', shared)")
      s:write("b.lua", "local tb = ... tb.sleep(0.1) print('b', shared) shared = 2")
      s:start()
      s:wait_for_log "a.lua: a\t1"
      assert.truthy(s:log():find("b.lua: b\tnil", 1, true))
    end)

    it("standard tables and modules of its own", function()
      local module = [[
        count = (count or 0) + 1 -- a global of the script
        return { count = count }]]
      s:write("a.lua", ([[
        string.evil, math.pi, _G.leak, package.path = 1, 3, 1, %q .. "/?.lua;" .. package.path
        load "loaded = 1" ()
        getmetatable "".__index.method = function() return "mine" end
        assert(debug.getmetatable "".__index == string and debug.getmetatable(io.stdout).__name == "FILE*")
        assert(not pcall(debug.setmetatable, "", nil) and getmetatable(debug.setmetatable({}, { 1 }))[1] == 1)
        getmetatable "".__index = nil
        package.loaded.cjson = "mine"
        local tb = ...
        assert(require "mine" == require "mine" and count == 1)
        assert(require "mine".count == 1 and package.loaded.mine.count == 1 and loaded == 1)
        assert(require "thingsboard" == tb and require "thingsboard.json.decode")
        assert(package.loaded["thingsboard.json.decode"] == require "thingsboard.json.decode")
        print "a is ready"
      ]]):format(s.directory))
      command.write(s.directory .. "/mine.lua", module, "644")
      s:write("b.lua", ([[
        local tb = ...
        tb.sleep(0.3)
        package.path = %q .. "/?.lua;" .. package.path
        print(string.evil, math.pi > 3.1, leak, loaded, pcall(function() return ("x"):method() end))
        print(count, type(require "cjson"), require "mine".count, require "cjson.safe" and "safe")
        print(pcall(require, "none.such"))
        print(("x"):upper(), #string.rep("x", 3), select("#", load("return ...")(1, 2)))
        print("empty", load("return print", "x", "t", {})())
      ]]):format(s.directory))
      s:start()
      s:wait_for_log "a is ready"
      s:wait_for_log "b.lua: nil\ttrue\tnil\tnil\tfalse\t"
      s:wait_for_log "b.lua: nil\ttable\t1\tsafe"
      s:wait_for_log "module 'none.such' not found"
      s:wait_for_log "b.lua: X\t3\t2"
      s:wait_for_log "b.lua: empty\tnil"
      assert.falsy(s:log():find("failed", 1, true), s:log())
    end)

    it("code from files and functions, in its own globals, and errors at its own line", function()
      command.write(s.directory .. "/code.lua", "chunk = (chunk or 0) + 1 return 'code', chunk, ...", "644")
      command.write(s.directory .. "/wrong.lua", "this is no Lua", "644")
      s:write("a.lua", ([[
        local directory = %q
        package.path = directory .. "/?.lua"
        package.preload.made = function(...) return { select("#", ...), ... } end
        print("dofile", dofile(directory .. "/code.lua"))
        print("loadfile", loadfile(directory .. "/code.lua")(5))
        print("elsewhere", loadfile(directory .. "/code.lua", "t", {})())
        print("no text", loadfile(directory .. "/code.lua", "b"))
        print("made", require "made"[2], require "code", chunk)
        print(pcall(function() dofile(directory .. "/none.lua") return 1 end))
        print(pcall(function() require "wrong" return 1 end))
        print(pcall(function() require "none.such" return 1 end))
      ]]):format(s.directory))
      s:start()
      local none = s.directory .. "/none.lua"
      for _, line in ipairs {
        "dofile\tcode\t1\n", "loadfile\tcode\t2\t5\n", "elsewhere\tcode\t1\n",
        "no text\tnil\tattempt to load a text chunk (mode is 'b')\n",
        "made\tmade\tcode\t3\n", "a.lua:9: cannot open " .. none,
        "a.lua:10: error loading module 'wrong' from file '" .. s.directory .. "/wrong.lua':\n",
        "a.lua:11: module 'none.such' not found:\n",
      } do s:wait_for_log(line) end
    end)

    it("an error, at its own line, for what would reach beyond it, and for its mistakes", function()
      s:write("a.lua", [[
        local tb, device = ...
        local function tell(...) print((select(2, pcall(...)):gsub("^[^:]*a.lua:%d+: ", "at its line: "))) end
        tell(function() os.exit() end)
        tell(function() debug.sethook() end)
        tell(function() debug.setmetatable(5, {}) end)
        tell(function() coroutine.wrap(5) end)
        tell(function() require(5) end)
        tell(function() tb.run() end)
        tell(function() tb.on_error(print) end)
        tell(function() tb.spawn(5) end)
        tell(function() device.attributes.x = 1 end)
        tell(function() device:on_rpc("", print) end)
        tell(function() device:on_rpc("m") end)
        tell(function() device:on_attribute("", print) end)
        tell(function() device:on_attribute("key", 5) end)
        tell(function() device:on_update() end)
        device:on_rpc("m", print)
        device:on_update(print)
        print "done"
      ]])
      s:write("b.lua", [[
        local tb, device = ...
        tb.sleep(0.5)
        print(pcall(device.on_rpc, device, "m", print))
        print(pcall(device.on_update, device, print))
        print "done, too"
      ]])
      s:start()
      s:wait_for_log "b.lua: done, too"
      local told = {}
      for line in s:log():gmatch "info: a%.lua: ([^\n]*)" do told[#told + 1] = line end
      local AT <const> = "at its line: "
      assert.same({
        AT .. "os.exit: a script ends by itself alone", AT .. "debug.sethook: the service has the hook",
        AT .. "debug.setmetatable: the metatable of a number is for all scripts",
        AT .. "wrap: body must be a function, got number", AT .. "require: a module's name expected, got number",
        AT .. "run: the service runs the script's tasks by itself", AT .. "on_error: the service reports errors itself",
        AT .. "spawn: body must be a function, got number",
        AT .. "device.attributes are the server's; set your own by device:send_attributes",
        AT .. "on_rpc: method must be a non-empty string, got string",
        AT .. "on_rpc: handler must be a function, got nil",
        AT .. "on_attribute: key must be a non-empty string, got string",
        AT .. "on_attribute: handler must be a function, got number",
        AT .. "on_update: handler must be a function, got nil",
        "done",
      }, told)
      assert.truthy(s:log():find("b.lua: false\ton_rpc: the method 'm' is served by a.lua already\n", 1, true))
      assert.truthy(s:log():find("on_update: a.lua installs updates already\n", 1, true), s:log())
    end)

    it("one RPC stream and one attribute poll with all others, and none before one asks", function()
      for n = 1, 5 do
        s:write(n .. ".lua", ([[
          local tb, device = ...
          device:on_rpc("m%d", function() return %d end)
          device:on_attribute("interval", function() end)
        ]]):format(n, n))
      end
      s:start()
      s:wait_for_polls()
      for n = 1, 5 do assert.equal(n, s:ask("m" .. n)) end
      local open = 0
      for _, request in ipairs(s.e:requests()) do
        if request.target:find "/updates" then open = open + 1 end
      end
      assert.equal(1, open)
      s:stop()
      s.e:clear()
      os.execute("rm " .. s.scripts .. "/*")
      s:write("quiet.lua", "local tb, device = ... while true do device:put { a = 1 } tb.sleep(0.3) end")
      s:start()
      s:wait(function() return #s:values "a" > 2 end)
      assert.same({ 0, 0 }, { s:requests "/rpc", s:requests "/updates" })
    end)

    it("what to do without an outbox: its records are sent at once", function()
      s:write("a.lua", "local tb, device = ... print(device:put { a = 1 }, device:send_attributes { b = 2 })")
      s:start { outbox = cjson.null }
      s:wait_for_log "a.lua: true\ttrue"
      assert.same({ "1" }, s:values "a")
    end)

    it("options, if it is a collector", function()
      s:start { collectors = { none = {} } }
      s:wait_for_log "collectors: there is none called 'none'"
    end)
  end)

  describe("has scripts that", function()
    it("fail: they are told with a traceback and started again, and the others go on", function()
      s:write("bad.lua", "local tb, device = ...\nlocal function deep() error 'this is wrong' end\n"
        .. "device:put { bad = 1 }\ntb.spawn(function() tb.sleep(0.05) deep() end)\ntb.sleep(60)")
      s:write("syntax.lua", "this is no Lua")
      s:write("good.lua", "local tb, device = ... for n = 1, 1e9 do device:put { good = n } tb.sleep(0.05) end")
      s:write("counts.lua", ([[
        local file <close> = io.open(%q, "a+")
        file:write "x"
        file:seek "set"
        error("failure " .. #file:read "a")
      ]]):format(s.directory .. "/count"))
      s:start()
      s:wait(function() return #s:values "bad" >= 3 end, 30)
      s:wait_for_log "counts.lua:4: failure 2"
      local text = s:log()
      assert.truthy(text:find "bad.lua failed, and is started again: [^\n]*bad.lua:2: this is wrong\n +stack")
      assert.truthy(text:find("in upvalue 'deep'", 1, true) or text:find("in function 'deep'", 1, true), text)
      assert.truthy(text:find("syntax.lua failed", 1, true))
      local good = s:values "good"
      for n, value in ipairs(good) do assert.equal(n, tonumber(value)) end -- it was never started again
      s:stop()
    end)

    it("claim a method of another's: an error for the second, named", function()
      s:write("a.lua", "local tb, device = ... device:on_rpc('blink', function() return 'a' end)")
      s:write("b.lua", "local tb, device = ... tb.sleep(0.1) device:on_rpc('blink', function() return 'b' end)")
      s:start()
      s:wait_for_log "b.lua failed"
      assert.truthy(s:log():find("the method 'blink' is served by a.lua already", 1, true))
      assert.equal("a", s:ask "blink")
    end)

    it("fail give up what they have claimed, also what they claim as they end", function()
      s:write("a.lua", [[
        local tb, device = ...
        local last <close> = setmetatable({}, { __close = function()
          print("claims", pcall(device.on_rpc, device, "late", print))
          print("watches", pcall(device.on_attribute, device, "key", print))
          print("updates", pcall(device.on_update, device, print))
          print("starts", pcall(tb.spawn, print))
        end })
        device:on_rpc("blink", function() return "a" end)
        tb.sleep(60)
      ]])
      s:write("b.lua", [[
        local tb, device = ...
        device:on_rpc("late", function() return "b" end)
        device:on_rpc("blink", function() return "b" end)
      ]])
      s:start()
      s:wait_for_log "b.lua failed"
      s:write("a.lua", "local tb, device = ... error 'fails'")
      s:signal "HUP"
      for _, what in ipairs { "claims", "watches", "updates", "starts" } do
        s:wait_for_log(what .. "\tfalse\tthe script has been stopped\n")
      end
      s:wait_for_polls()
      s:wait(function() return s:ask "blink" == "b" and s:ask "late" == "b" end)
      s:stop()
    end)

    it("block: they are named", function()
      s:write("slow.lua", "local tb = ... tb.sleep(0.1) os.execute 'sleep 1.3' tb.sleep(60)")
      s:start()
      s:wait_for_log "slow.lua: it blocked everything for "
      assert.falsy(s:log():find("failed", 1, true))
    end)

    it("loop without end: they are ended, named, and the others go on", function()
      s:write("loop.lua", "local tb = ... tb.sleep(0.3) while true do end")
      s:write("good.lua", "local tb, device = ... for n = 1, 1e9 do device:put { good = n } tb.sleep(0.05) end")
      s:start()
      s:wait_for_log("loop.lua failed", 30)
      assert.truthy(s:log():find("loop.lua:1: it blocked everything for more than 10 s", 1, true), s:log())
      local before = #s:values "good"
      s:wait(function() return #s:values "good" > before + 5 end)
    end)

    it("fail in a handler: the caller hears it, the script goes on", function()
      s:write("a.lua", [[
        local tb, device = ...
        device:on_rpc("fails", function() error("no such pin", 0) end)
        device:on_rpc("strange", function() return print end)
        device:on_rpc("well", function() return "well" end)
        device:on_attribute("x", function() error "bad attribute" end)
      ]])
      s.e:set_shared(s:token(), '{"x":1}')
      s:start()
      s:wait_for_polls()
      assert.same({ error = "no such pin" }, s:ask "fails")
      assert.truthy(s:ask("strange").error)
      assert.equal("well", s:ask "well")
      s:wait_for_log "a.lua: attribute x: "
      assert.falsy(s:log():find("failed", 1, true))
    end)

    it("do not return from their handlers: they hold up no other script", function()
      s:write("a.lua", [[
        local tb, device = ...
        local held = 0
        device:on_rpc("ping", function() return 2 end)
        device:on_rpc("never", function() held = held + 1 device:put { held = held } tb.sleep(1e6) end)
      ]])
      s:write("b.lua", [[
        local tb, device = ...
        local naps = 0
        device:on_rpc("nap", function()
          while not device.attributes.wake do tb.sleep(0.05) end
          naps = naps + 1
          device:put { naps = naps }
        end)
        device:on_rpc("well", function() return 1 end)
      ]])
      s:start()
      s:wait_for_polls()
      for _ = 1, 64 + 6 do s.e:rpc(s:token(), { method = "nap", params = "{}", oneway = true, timeout = 120000 }) end
      assert.equal(2, s:ask "ping") -- behind them
      s.e:set_shared(s:token(), '{"wake":true}')
      s:wait_for_values("naps", 64 + 6)
      for _ = 1, 64 + 1000 do
        s.e:rpc(s:token(), { method = "never", params = "{}", oneway = true, timeout = 120000 })
      end
      s:wait_for_values("held", 64)
      assert.same({ error = "too many requests wait for this script" }, s:ask "never")
      assert.equal(1, s:ask "well")
      os.remove(s.scripts .. "/a.lua")
      s:signal "HUP"
      s:wait_for_log "a.lua is gone"
      assert.equal(1, s:ask "well")
      assert.equal(64, #s:values "held")
      s:stop()
    end)

    it("others can write to, or to their folder: they are not run", function()
      s:write("a.lua", "print 'runs'")
      os.execute("chmod 666 " .. s.scripts .. "/a.lua")
      s:start()
      s:wait_for_log "a.lua failed, and is started again: every user can write to it"
      s:stop()
      os.remove(s.log_path)
      os.execute(("chmod 644 %s/a.lua; chmod 777 %s"):format(s.scripts, s.scripts))
      s:start()
      s:wait_for_log("scripts: " .. s.scripts .. ": every user can write to it")
      assert.falsy(s:log():find("a.lua", 1, true))
    end)

    it("would end the process: they fail instead", function()
      s:write("a.lua", "os.exit(0)")
      s:start()
      s:wait_for_log "a script ends by itself alone"
      s:stop()
    end)

    it("all fail at once: it neither burns the processor nor ends", function()
      for n = 1, 30 do s:write(("bad%d.lua"):format(n), "error 'storm'") end
      s:write("good.lua", "local tb, device = ... device:on_rpc('well', function() return 1 end)")
      s:start()
      s:wait_for_polls()
      tb.sleep(6)
      assert.equal(1, s:ask "well")
      local spent = 0
      for field in io.open(("/proc/%d/stat"):format(s.pid)):read("a"):match("%) (.*)"):gmatch "%S+" do
        spent = spent + 1
        if spent == 12 then spent = tonumber(field) break end -- utime, in hundredths of a second
      end
      assert.is_true(spent < 150, "CPU: " .. spent)
      local _, count = s:log():gsub("failed, and is started again", "")
      assert.is_true(count >= 60 and count < 30 * 12, count .. " starts")
      s:stop()
    end)
  end)

  it("takes hostile methods and params for what they are", function()
    s:write("a.lua", "local tb, device = ... device:on_rpc('echo', function(params) return params end)")
    s:start()
    s:wait_for_polls()
    for _, method in ipairs { "__index", "__gc", "", "../../etc/passwd", "echo\0", ("x"):rep(5000), "'; os.exit()" } do
      if method ~= "" then assert.truthy(s:ask(method).error, method) end
    end
    for _, params in ipairs { '"$(id)"', "null", "[]", '{"__index":{"__gc":1}}',
      ("[1,"):rep(200) .. "1" .. ("]"):rep(200), '"' .. ("x"):rep(50000) .. '"' } do
      assert.same(cjson.decode(params), s:ask("echo", params))
    end
    assert.falsy(s:log():find("failed", 1, true))
  end)

  it("runs fifty scripts", function()
    for n = 1, 50 do
      s:write(("s%02d.lua"):format(n), ([[
        local tb, device = ...
        device:on_rpc("m%d", function() return %d end)
        device:on_attribute("x", function(value) device:put { x%d = value } end)
        for i = 1, 20 do device:put { s%d = i } tb.sleep(0.05) end
      ]]):format(n, n, n, n))
    end
    s.e:set_shared(s:token(), '{"x":5}')
    s:start()
    s:wait_for_polls()
    s:wait(function()
      for n = 1, 50 do
        if #s:values("s" .. n) < 20 or #s:values("x" .. n) < 1 then return false end
      end
      return true
    end, 60)
    assert.equal(50, s:ask "m50")
    s:stop()
  end)
end)
