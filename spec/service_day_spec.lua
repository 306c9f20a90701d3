-- Outages of the service that last, in a process whose clocks run fast: a day without a server, and a start without the
-- time.
local command = require "spec.support.command"
local library = require "spec.support.library"
local service = require "spec.support.service"
local tb = require "thingsboard"

describe("thingsboard service never ends for want of", function()
  local s = service.specs()

  it("the time: it says so once, and when it is known", function()
    s:write("a.lua", "local tb, device = ... while true do device:put { n = 1 } tb.sleep(1) end")
    s.e:fault { path = "/", how = "close" }
    s:start_in_haste(20)
    s:wait_for_log "the time is not known; records wait for it"
    s.e:clear_faults()
    s:wait_for_log "the time is known"
    assert.same({ 1, 1 }, { s:count_in_log "the time is not known", s:count_in_log "the time is known" }, s:log())
    s:stop()
  end)

  it("a server for a day: it says so once, and loses nothing", function()
    local haste = command.write(s.directory .. "/haste", "1", "644")
    s:write("a.lua", "local tb, device = ... device:on_attribute('x', print) device:on_rpc('y', print)\n"
      .. "for n = 1, 1e9 do assert(device:put { n = n }) tb.sleep(60) end")
    s:start({ report = { every = 3600 } }, { LD_PRELOAD = library.preload "haste", HASTE = haste })
    s:wait(function() return #s:values "n" == 1 end)
    s:wait_for_polls()
    s.e:fault { path = "/", how = "close" }
    command.write(haste, "4320", "644")
    tb.sleep(20)
    s.e:clear_faults()
    command.write(haste, "10", "644")
    local series = s:wait(function() -- the whole day, less what a slow machine has no time for
      local all = s.e:series(s:token()).n
      local complete = #all > 200 and all[#all].value == tostring(#all)
      return complete and all[#all].ts - all[1].ts > 80000 * 1000 and all
    end, 40)
    command.write(haste, "1", "644")
    for n, entry in ipairs(series) do assert.equal(n, tonumber(entry.value)) end
    local text = s:log()
    assert.truthy(text:find "the server has not answered for %d+ s: %g+: [^\n]+%(GOT_NOTHING%)\n", text)
    assert.truthy(text:find("the server answers again, after 8%d%d%d%d s"), text)
    -- A disk that takes its time takes long, in haste.
    local _, lines = text:gsub("[^\n]*it blocked everything[^\n]*\n", ""):gsub("\n", "")
    assert.is_true(lines < 12, text)
    s:stop()
  end)
end)
