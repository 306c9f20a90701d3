-- The service as a process, against the emulator: its state, its end, its updates, its configuration.
local cjson = require "cjson"
local command = require "spec.support.command"
local service = require "spec.support.service"
local tb = require "thingsboard"

describe("thingsboard service", function()
  local s = service.specs()

  it("tells its state on request: into the log, a file, and to the server", function()
    local state, from = s.directory .. "/state", tb.now()
    s:write("a.lua", "local tb, device = ... device:put { a = 1 } tb.sleep(0.2) error 'once'")
    s:start { state = state, report = { every = 0.3 } }
    s:wait(function() return #s:values "uptime" > 1 and #s:values "last_error" > 0 end)
    assert.truthy(tonumber(s:values("records_waiting")[1]))
    s:signal("USR1")
    s:wait_for_log "state: {"
    local told = cjson.decode(s:log():match "state: (%b{})")
    assert.is_true(told.restarts >= 1 and told.scripts["a.lua"] ~= nil)
    assert.same({ "number", "number", "number", "table", "nil" }, { type(told.outbox.records), type(told.outbox.bytes),
      type(told.outbox.attributes), type(told.outbox.lost), type(told.outbox.sent) })
    assert.truthy(told.last_error:find("a.lua failed", 1, true))
    local code, out = command.run { "--config", s.directory .. "/config.lua", "outbox", "status" }
    assert.equal(0, code) -- though the service has the outbox
    assert.is_true(cjson.decode(out).uptime ~= nil)
    s:stop()
    told = cjson.decode(io.open(state):read "a")
    assert.equal("stopped", told.scripts["a.lua"].state)
    assert.is_true(told.uptime <= (tb.now() - from) // 1000 + 1)
    s:start { report = { every = 0.3, as = "attributes" } }
    s:wait(function() return s.e:attributes(s:token(), "client").uptime end)
    s:stop()
    os.remove(s.log_path)
    local reports = #s:values "uptime"
    s:start { outbox = cjson.null, report = { every = 0.3 } }
    s:wait_for_log "a.lua failed"
    s:wait_for_values("uptime", reports + 1)
    s:signal "USR1"
    s:wait_for_log "state: {"
    assert.is_nil(cjson.decode(s:log():match "state: (%b{})").outbox)
  end)

  it("tells its state though a script's name and error are no UTF-8", function()
    local state = s.directory .. "/state"
    s:write("\xFF.lua", [[error "\xE9 is broken"]])
    s:start { state = state, report = { every = 0.3 } }
    s:wait(function() return #s:values "last_error" > 0 end)
    s:signal "USR1"
    s:wait_for_log "state: {"
    local told = cjson.decode(s:log():match "state: (%b{})")
    assert.truthy(told.scripts["?.lua"])
    assert.truthy(told.last_error:find("? is broken", 1, true))
    s:stop()
    local code, out = command.run { "--config", s.directory .. "/config.lua", "outbox", "status" }
    assert.same({ 0, "number" }, { code, type(cjson.decode(out).records) })
  end)

  it("lets scripts say their last words on SIGTERM and SIGINT, and keeps what they put", function()
    s:write("a.lua", "local tb, device = ... print 'ready' for _ = 1, 9 do tb.on_signal('TERM', print) end\n"
      .. "tb.on_signal('TERM', function() tb.sleep(0.3) device:put { last = 'word' } end)")
    s.e:fault { path = "/telemetry", how = "close" }
    s:start { outbox = { path = s.directory .. "/outbox", sync_every = 60 } }
    s:wait_for_log "ready"
    s:stop()
    os.remove(s.log_path)
    s:start()
    s:wait_for_log "ready"
    s:stop "INT"
    s.e:clear_faults()
    s:start()
    s:wait(function() return s:values("last")[1] == "word" end, 30)
    s:wait_for_log "ready"
    local from = tb.now()
    s:stop()
    assert.is_true(tb.now() - from < 3000) -- no longer than the words take
  end)

  describe("installs updates", function()
    before_each(function() s.e:set { ota_delay = 0 } end)

    local function states()
      local list = {}
      for _, entry in ipairs(s.e:telemetry(s:token())) do
        if entry.key == "fw_state" then list[#list + 1] = entry.value end
      end
      return table.concat(list, " ")
    end

    it("by a function of a script, which may also refuse one, or fail", function()
      s:write("a.lua", [[
        local tb, device = ...
        local outcomes = {
          function() error "no room" end, function() return nil, "not on Sundays" end, function() return true, 5 end,
        }
        device:on_update(function(package)
          print("applies", package.title, package.version, io.open(package.path):seek "end")
          return outcomes[tonumber(package.version)]()
        end)
      ]])
      s:write("b.lua", "error 'this one alone'")
      s:start { updates = { kind = "firmware", directory = s.directory, current = { title = "x", version = "0" } } }
      s:wait_for_log "b.lua failed"
      for version, said in ipairs { "a.lua:3: no room", "not on Sundays" } do
        s.e:assign(s:token(), "firmware", { title = "gateway", version = tostring(version), size = 3000 })
        s:wait(function()
          local errors = s:values "fw_error"
          return errors[version] and errors[version]:sub(-#said) == said
        end)
      end
      assert.matches("error: a.lua: on_update: [^\n]*a.lua:3: no room\n", s:log())
      s.e:assign(s:token(), "firmware", { title = "gateway", version = "3", size = 3000 })
      s:wait(function() return states():find "UPDATED" end)
      assert.truthy(s:log():find("applies\tgateway\t3\t3000", 1, true))
    end)

    it("with the attribute poll that serves the scripts", function()
      s:write("a.lua", [[
        local tb, device = ...
        device:on_attribute("interval", function(value) print("interval", value) end)
        device:on_update(function() return true end)
      ]])
      local current = { title = "gateway", version = "1" }
      s:start { updates = { kind = "firmware", directory = s.directory, current = current } }
      s.e:set_shared(s:token(), '{"interval":7}')
      s:wait_for_log "interval\t7"
      s:wait(function() return s:requests "/attributes/updates" >= 1 end)
      s.e:assign(s:token(), "firmware", { title = "gateway", version = "2", size = 3000 })
      s:wait(function() return states():find "UPDATED" end)
      assert.equal(0, s:requests "sharedKeys=fw_") -- with which a poll of the updater's own begins
      s:stop()
    end)

    it("of both kinds, by a script that comes later", function()
      local current = { title = "gateway", version = "1" }
      s:start { updates = { { kind = "firmware", directory = s.directory, current = current },
        { kind = "software", directory = s.directory, current = current } } }
      for _, kind in ipairs { "firmware", "software" } do
        s.e:assign(s:token(), kind, { title = "gateway", version = "2", size = 3000 })
        s:wait_for_log("updates of " .. kind .. ": installing")
      end
      s:write("a.lua", "local tb, device = ... device:on_update(function(package) return true end)")
      s:signal "HUP"
      s:wait(function() return #s:values "fw_state" > 0 and #s:values "sw_state" > 0 and states():find "UPDATED" end)
      s:wait(function()
        local states_of_software = s:values "sw_state"
        return states_of_software[#states_of_software] == "UPDATED"
      end)
      s:stop()
    end)

    it("by a script that is stopped meanwhile: its handler ends with it, and is called again", function()
      local text = [[
        local tb, device = ...
        device:on_update(function()
          print "old begins"
          tb.sleep(3)
          print "old ends"
          return true
        end)
      ]]
      s:write("a.lua", text)
      local current = { title = "gateway", version = "1" }
      s:start { updates = { kind = "firmware", directory = s.directory, current = current } }
      s.e:assign(s:token(), "firmware", { title = "gateway", version = "2", size = 3000 })
      s:wait_for_log "old begins"
      s:write("a.lua", "local tb, device = ... device:on_update(function() print 'new' return true end)")
      s:signal "HUP"
      s:wait_for_log "a.lua: new"
      s:wait(function() return states():find "UPDATED" end)
      assert.falsy(s:log():find("old ends", 1, true))
      assert.falsy(states():find "FAILED")
      s:stop()
    end)

    it("by an executable, and goes on where it ended when the machine restarts", function()
      local handler = command.write(s.directory .. "/handler", ([[#!/bin/sh
        cd %s
        case $1 in
        version) echo gateway; cat version ;;
        apply) echo 2 >next; while :; do sleep 1; done ;;
        esac]]):format(s.directory), "755")
      command.write(s.directory .. "/version", "1\n")
      s:start { updates = { kind = "firmware", directory = s.directory, apply = handler } }
      s.e:assign(s:token(), "firmware", { title = "gateway", version = "2", size = 3000 })
      s:wait(function() return io.open(s.directory .. "/next") end)
      s:kill() -- as a restart does
      os.execute(("pkill -f '%s/handler [a]pply'; mv %s/next %s/version"):format(s.directory, s.directory,
        s.directory))
      assert.falsy(states():find "UPDATED")
      s:start { updates = { kind = "firmware", directory = s.directory, apply = handler } }
      s:wait(function() return states():find "UPDATED" end)
    end)
  end)

  it("wants a configuration that makes sense", function()
    local function fails(code, said, text)
      local path = command.write(s.directory .. "/config.lua", text)
      local got, _, err = command.run { "service", path }
      assert.same({ code, true }, { got, err:find(said, 1, true) ~= nil }, err)
    end
    fails(2, "which server?", "return {}")
    fails(2, "which device?", "return { url = 'http://127.0.0.1:1' }")
    fails(1, "report: option 'as' must be 'telemetry' or 'attributes'",
      ("return { url = 'http://127.0.0.1:1', token_file = %q, report = { as = 'mail' } }"):format(s.token_file))
    fails(1, "outbox: option 'plan' must be 'cloud-free'", ("return { url = 'http://127.0.0.1:1', token_file = %q, "
      .. "outbox = { path = '/tmp/x', plan = 'gold' } }"):format(s.token_file))
    fails(1, "thingsboard: device: option 'url' must be like",
      ("return { url = 'ftp://127.0.0.1:1', token_file = %q, outbox = { path = '/tmp/x' } }"):format(s.token_file))
    fails(1, "thingsboard: report: unknown option 'colour'",
      ("return { url = 'http://127.0.0.1:1', token_file = %q, report = { colour = 1 } }"):format(s.token_file))
    fails(1, "thingsboard: updates: option 'kind' must be 'firmware' or 'software'",
      ("return { url = 'http://127.0.0.1:1', token_file = %q, updates = { kind = 'x', directory = '/tmp', "
      .. "apply = '/bin/true' } }"):format(s.token_file))
    fails(1, "thingsboard: clock: known must be",
      ("return { url = 'http://127.0.0.1:1', token_file = %q, clock_file = 'x' }"):format(s.token_file))
    fails(1, "thingsboard: outbox: unknown option 'colour'",
      ("return { url = 'http://127.0.0.1:1', token_file = %q, outbox = "
      .. "{ path = '/tmp/x', colour = 1 } }"):format(s.token_file))
  end)
end)
