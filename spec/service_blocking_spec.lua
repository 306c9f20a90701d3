-- Scripts of the service that let nobody else go on, in every way that Lua has: they are ended and named; and SIGTERM
-- ends the service whatever they do.
local service = require "spec.support.service"

-- Each loops without end; `pcall` alone would catch an error that is raised once.
local loops = {
  pcall = "while true do pcall(function() while true do end end) end",
  nested = "while true do pcall(pcall, pcall, function() while true do end end) end",
  coroutine = "coroutine.wrap(function() while true do end end)()",
  coroutines = "while true do coroutine.resume(coroutine.create(function() while true do end end)) end",
  inner = "coroutine.wrap(function() while true do pcall(coroutine.wrap(function() while true do end end)) end end)()",
  handler = "xpcall(function() while true do end end, function() while true do end end)",
  failing_handler = "xpcall(error, function() while true do end end)",
  close = "local x <close> = setmetatable({}, { __close = function() while true do end end }) error 'x'",
  close_twice = "local x <close> = setmetatable({}, { __close = function() while true do end end }) while true do end",
  finalizer = "setmetatable({}, { __gc = function() while true do end end }) collectgarbage() collectgarbage()",
  comparison = "table.sort({ 1, 2, 3 }, function() while true do end end)",
  chunk = "load 'while true do pcall(load [[while true do end]]) end' ()",
  text = "error(setmetatable({}, { __tostring = function() while true do end end }))",
  hook = "pcall(debug.sethook) while true do end",
}

describe("thingsboard service", function()
  local s = service.specs()

  it("ends scripts that loop, whatever they catch, and names them; the others go on", function()
    s:write("good.lua", "local tb, device = ... for n = 1, 1e9 do device:put { good = n } tb.sleep(1) end")
    s:start_in_haste(20)
    s:wait_for_values("good", 1)
    for name, text in pairs(loops) do
      s:write("bad.lua", "local tb = ...\ntb.sleep(0.1)\n" .. text)
      local from = #s:log() + 1
      s:signal "HUP"
      s:wait_for_log("bad.lua failed", 60, from)
      assert.truthy(s:log():find("it blocked everything for more than 10 s", from, true), name .. s:log():sub(from))
      s:wait_for_values("good", #s:values "good" + 3)
      os.remove(s.scripts .. "/bad.lua")
      s:signal "HUP"
    end
    s:stop()
  end)

  it("runs finalizers of scripts that have ended, and ends those that loop", function()
    s:write("a.lua", "warn '@on'\n"
      .. "kept = setmetatable({}, { __gc = function() print 'finalized' error 'too late' end }) error 'once'")
    s:write("b.lua", "kept = setmetatable({}, { __gc = function() print 'loops' while true do end end }) print 'b'")
    s:start_in_haste(20)
    s:wait_for_log "b.lua: b"
    s:wait_for_log "a.lua failed"
    s:stop()
    assert.truthy(s:log():find("a.lua: finalized", 1, true), s:log())
    assert.truthy(s:log():find("b.lua: loops", 1, true), s:log())
    assert.truthy(s:log():find("a.lua:2: too late", 1, true), s:log())
  end)

  it("ends handlers that loop, and answers", function()
    s:write("a.lua", [[
      local tb, device = ...
      local endless = setmetatable({}, { __tostring = function() while true do end end })
      device:on_rpc("text", function() error(endless) end)
      device:on_rpc("loop", function() while true do pcall(function() while true do end end) end end)
      device:on_rpc("well", function() return 1 end)
    ]])
    s:start_in_haste(20)
    for _, method in ipairs { "text", "loop" } do
      s:wait_for_polls()
      s:ask(method)
      s:wait(function() return s:ask "well" == 1 end)
    end
    s:stop()
  end)

  it("ends by SIGTERM while a script loops", function()
    s:write("bad.lua", "local tb = ... print 'loops' while true do pcall(function() while true do end end) end")
    s:start_in_haste(10)
    s:wait_for_log "loops"
    s:stop()
  end)

  it("ends by SIGTERM though a script's handler of it does not end, after five seconds", function()
    s:write("a.lua", "local tb = ... tb.on_signal('TERM', function() while true do tb.sleep(1) end end) print 'ready'")
    s:start_in_haste(20)
    s:wait_for_log "ready"
    s:stop()
  end)

  it("ends by SIGTERM while a script waits within a coroutine of its own", function()
    s:write("bad.lua", "local tb = ... coroutine.wrap(function() print 'waits'\n"
      .. "while true do pcall(tb.sleep, 0.1) end end)()")
    s:start()
    s:wait_for_log "waits"
    s:stop()
  end)

  it("stops a script whose variables sleep as they are closed", function()
    s:write("bad.lua", [[
      local tb = ...
      local last <close> = setmetatable({}, { __close = function()
        print "closes"
        while true do pcall(tb.sleep, 1000) end
      end })
      print "waits"
      tb.sleep(1000)
    ]])
    s:write("nap.lua", [[
      local tb = ...
      local last <close> = setmetatable({}, { __close = function() print(pcall(tb.sleep, 1000)) end })
      print "naps"
      tb.sleep(1000)
    ]])
    s:start_in_haste(20)
    s:wait_for_log "waits"
    s:wait_for_log "naps"
    os.remove(s.scripts .. "/nap.lua")
    s:signal "HUP"
    s:wait_for_log "nap.lua: false"
    s:stop()
  end)

  it("takes no wait within a coroutine for blocking", function()
    s:write("a.lua", "local tb = ... for n = 1, 3 do coroutine.wrap(tb.sleep)(15) print('slept', n) end")
    s:start_in_haste(10)
    s:wait_for_log "slept\t3"
    assert.falsy(s:log():find("blocked", 1, true), s:log())
    s:stop()
  end)

  it("names what blocks in C once it returns", function()
    s:write("slow.lua", "local tb = ... os.execute 'sleep 1.5'")
    s:start()
    s:wait_for_log "slow.lua: it blocked everything for "
    assert.matches("warning: slow%.lua: it blocked everything for %d+%.%d s; use tb%.sleep, and start programs in the "
      .. "background\n", s:log())
    s:stop()
  end)
end)
