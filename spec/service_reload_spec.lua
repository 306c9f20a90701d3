-- SIGHUP to the service: scripts that are new, changed and gone, in the midst of what they do.
local cjson = require "cjson"
local command = require "spec.support.command"
local service = require "spec.support.service"
local tb = require "thingsboard"

describe("thingsboard service", function()
  local s = service.specs()

  describe("on SIGHUP", function()
    it("loads what is new and changed, and stops what is gone; the others go on undisturbed", function()
      local text = "local tb, device = ... for n = 1, 1e9 do device:put { %s = n } tb.sleep(0.05) end"
      for _, name in ipairs { "stays", "changes", "goes" } do s:write(name .. ".lua", text:format(name)) end
      s:start()
      s:wait(function() return #s:values "stays" > 3 and #s:values "goes" > 3 and #s:values "changes" > 3 end)
      s:write("comes.lua", text:format "comes")
      s:write("changes.lua", text:format "changed")
      os.remove(s.scripts .. "/goes.lua")
      s:signal("HUP")
      s:wait(function() return #s:values "comes" > 3 and #s:values "changed" > 3 end)
      local gone, before = #s:values "goes", #s:values "changes"
      tb.sleep(0.5)
      assert.same({ gone, before }, { #s:values "goes", #s:values "changes" })
      for n, value in ipairs(s:values "stays") do assert.equal(n, tonumber(value)) end
      s:stop()
      local told = "version " .. tb.version .. " starts\nchanges.lua is started\ngoes.lua is started\n"
        .. "stays.lua is started\n"
        .. "reload\ngoes.lua is gone, and is stopped\nchanges.lua has changed, and is started again\n"
        .. "comes.lua is started\nit is told to end\n"
      assert.equal(told, (s:log():gsub("thingsboard: info: ", "")))
    end)

    it("ends what a script has in flight: tasks, handlers, watches, signals", function()
      s:write("a.lua", [[
        local tb, device = ...
        device:on_rpc("mine", function() return "old" end)
        device:on_attribute("x", function(value) print("old x", value) end)
        tb.on_signal("USR2", function() print "old signal" end)
        tb.on_signal("USR2", function() print "closed" end):close()
        tb.spawn(function() while true do tb.sleep(0.05) device:put { old = 1 } end end)
      ]])
      s:start()
      s:wait_for_polls()
      assert.equal("old", s:ask "mine")
      s.e:set_shared(s:token(), '{"x":1}')
      s:wait_for_log "old x\t1"
      s:signal("USR2")
      s:wait_for_log "old signal"
      assert.falsy(s:log():find("closed", 1, true))
      s:write("a.lua", "local tb, device = ... tb.on_signal('USR2', function() print 'new signal' end) print 'new'")
      s:signal("HUP")
      s:wait_for_log "a.lua: new"
      tb.sleep(0.3)
      local before, text = #s:values "old", s:log()
      s.e:set_shared(s:token(), '{"x":2}')
      s:signal("USR2")
      s:wait_for_log "new signal"
      tb.sleep(1.5)
      assert.equal(before, #s:values "old")
      assert.falsy(s:log():find("old", #text, true))
      assert.same({ error = "no such method: mine" }, s:ask "mine")
    end)

    it("closes the devices that a script has made, with their outboxes", function()
      for run = 1, 2 do
        s:write("a.lua", ([[
          local tb = ...
          local own = tb.device { url = %q, token = "OWN" }
          print(%d, own:outbox { path = %q })
          tb.sleep(1000)
        ]]):format(s.e.url, run, s.directory .. "/own"))
        if run == 1 then s:start() else s:signal "HUP" end
        s:wait_for_log(("a.lua: %d\t"):format(run))
      end
      assert.falsy(s:log():find("a.lua: %d\tnil"), s:log())
      s:stop()
    end)

    it("looks for the file that says that the clock is known", function()
      s:write("clock.lua", 'local tb, device = ... while true do device:put { known = tb.clock() } tb.sleep(0.2) end')
      s:start({ clock_file = s.directory .. "/clock" })
      s:wait(function() return s:values("known")[1] end)
      assert.is_nil(s:log():find("the clock is known", 1, true))
      command.write(s.directory .. "/clock", "")
      s:signal("HUP")
      s:wait_for_log "the clock is known"
      s:signal("HUP")
      s:wait(function() return s:count_in_log "reload" == 2 end)
      s:stop()
      assert.equal(1, s:count_in_log "the clock is known")
    end)

    it("tells once that the time is not known, when that lasts, and that it is", function()
      s:write("a.lua", "local tb, device = ... while true do device:put { a = 1 } tb.sleep(1) end")
      s:start_in_haste(20, { url = "http://127.0.0.1:1", clock_file = s.directory .. "/clock" })
      s:wait_for_log "warning: the time is not known; records wait for it\n"
      command.write(s.directory .. "/clock", "")
      s:signal("HUP")
      s:wait_for_log "info: the time is known\n"
      s:stop()
      assert.equal(1, s:count_in_log "time is not known")
    end)

    it("in the midst of a call answers the caller", function()
      s:write("a.lua", "local tb, device = ... device:on_rpc('slow', function() tb.sleep(30) return 1 end)")
      s:start()
      s:wait_for_polls()
      local handle = s.e:rpc(s:token(), { method = "slow", params = "{}" })
      tb.sleep(0.5)
      s:write("a.lua", "local tb, device = ... device:on_rpc('slow', function() return 'quick' end)")
      s:signal("HUP")
      local result = s.e:rpc_result(handle, 10)
      assert.same({ error = "the script that serves this method was stopped" }, cjson.decode(result.body))
      assert.equal("quick", s:ask "slow")
    end)

    it("tries what has failed at once", function()
      s:write("a.lua", "local tb, device = ... device:on_rpc('blink', function() return 'a' end)")
      s:write("b.lua", "local tb, device = ... device:on_rpc('blink', function() return 'b' end)")
      s:start()
      s:wait(function() return s:count_in_log "b.lua failed" >= 4 end) -- the pauses grow
      os.remove(s.scripts .. "/a.lua")
      s:signal "HUP"
      s:wait_for_log "b.lua is started again"
      s:wait(function() return s:ask "blink" == "b" end, 10)
      s:stop()
    end)

    it("with a folder that is gone keeps what runs", function()
      s:write("a.lua", "local tb, device = ... while true do device:put { a = 1 } tb.sleep(0.05) end")
      s:start()
      s:wait(function() return #s:values "a" > 1 end)
      os.execute(("mv %s %s.away"):format(s.scripts, s.scripts))
      s:signal("HUP")
      s:wait_for_log "scripts: "
      local before = #s:values "a"
      s:wait(function() return #s:values "a" > before + 2 end)
      s:stop()
    end)
  end)
end)
