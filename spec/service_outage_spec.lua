-- What is missing outside, and must not end the service: a token, a server, a name, a disk.
local cjson = require "cjson"
local command = require "spec.support.command"
local loop = require "thingsboard.loop"
local patience = require "thingsboard.service.patience"
local server = require "thingsboard.http.server"
local service = require "spec.support.service"
local tb = require "thingsboard"

describe("thingsboard service", function()
  local s = service.specs()

  describe("never ends for want of", function()
    local putting = "local tb, device = ... for n = 1, 1e9 do assert(device:put { n = n }) tb.sleep(0.05) end"

    it("a token: it records, and sends once there is one", function()
      local right = s:token()
      os.remove(s.token_file)
      s:write("a.lua", putting)
      s:start()
      s:wait_for_log "identity: "
      local _, count = s:log():gsub("identity: ", "")
      assert.equal(1, count)
      tb.sleep(1)
      command.write(s.token_file, right)
      s:wait(function() return #s:values "n" > 20 end, 30)
      s:wait_for_log "identity: works again"
      for n, value in ipairs(s:values "n") do assert.equal(n, tonumber(value)) end
      s:stop()
    end)

    it("a token, though it has no outbox: what scripts send waits for it", function()
      local right = s:token()
      os.remove(s.token_file)
      s:write("a.lua", [[
        local tb, device = ...
        tb.spawn(function() print("sent", device:send_attributes { b = 2 }) end)
        tb.spawn(function() print("asked", device:request_attributes { client = { "none" } } ~= nil) end)
        print("put", device:put { a = 1 })
      ]])
      s:start { outbox = cjson.null }
      s:wait_for_log "identity: "
      command.write(s.token_file, right)
      for _, what in ipairs { "sent", "asked", "put" } do s:wait_for_log(what .. "\ttrue\n") end
      assert.same({ "1" }, s:values "a")
      s:stop()
    end)

    it("a token that the server knows, which comes later", function()
      local right = s:token()
      command.write(s.token_file, "WRONG_TOKEN")
      s:write("a.lua", putting)
      s:write("b.lua", "local tb, device = ... device:on_rpc('well', function() return 1 end)"
        .. " device:on_attribute('x', print)")
      s:start()
      s:wait_for_log "the server does not know the token (status 401)"
      command.write(s.token_file, right)
      s:wait(function() return #s:values "n" > 20 end, 30)
      s:wait(function() return s:requests("/api/v1/" .. right .. "/rpc?") >= 2 end, 30)
      assert.equal(1, s:ask "well")
      assert.falsy(s:log():find("WRONG_TOKEN", 1, true) or s:log():find(right, 1, true))
      s:wait_for_log "the server knows the token"
      assert.same({ 1, 1 }, { s:count_in_log "401", s:count_in_log "knows the token" }, s:log())
      s:stop()
    end)

    it("a token that the server forgets for a while: it says so once, and when it is known", function()
      s:write("a.lua", putting)
      s:write("b.lua", "local tb, device = ... device:on_rpc('well', function() return 1 end)"
        .. " device:on_attribute('x', print)")
      s:start()
      s:wait_for_polls()
      for round = 1, 2 do
        s.e:fault { path = "/", how = "status", status = 401 }
        s:wait(function() return s:count_in_log "status 401" == round end)
        tb.sleep(2)
        s.e:clear_faults()
        s:wait(function() return s:count_in_log "the server knows the token" == round end)
      end
      assert.equal(2, s:count_in_log "status 401", s:log())
      s:stop()
    end)

    it("a server that knows the token again: whatever waited goes on at the first answer", function()
      local device <close> = tb.device { url = s.e.url, token = s:token() }
      local first_pause <const>, tried, value = patience.first_pause, 0, nil
      patience.first_pause = 1e9 -- or it would be tried again by itself
      local waiting = tb.spawn(function()
        value = patience.keep(server.of(loop.default(), s.e.url), { warning = function() end, info = function() end },
          "it", function()
            tried = tried + 1
            return tried == 2 and "works" or nil, "it fails"
          end)
      end)
      tb.spawn(function()
        while tried == 0 do tb.sleep(0.01) end
        assert(device:request_attributes())
        local deadline = tb.now() + 20000
        while not value and tb.now() < deadline do tb.sleep(0.05) end
        waiting:cancel()
      end)
      tb.run()
      patience.first_pause = first_pause
      assert.equal("works", value)
    end)

    it("a server, which takes records later with their times", function()
      s.e:fault { path = "/", how = "close" }
      s:write("a.lua", putting)
      s:start()
      tb.sleep(2)
      local cleared = tb.now()
      s.e:clear_faults()
      local series = s:wait(function()
        local all = s.e:series(s:token()).n
        return all and all[1].value == "1" and #all > 20 and all
      end, 30)
      assert.is_true(series[1].ts < cleared - 1000)
      s:stop()
    end)

    it("a name that resolves, or a port that answers", function()
      s:write("a.lua", putting)
      for _, url in ipairs { "http://none.invalid", "http://127.0.0.1:1", "https://127.0.0.1:" .. s.e.port } do
        s:start { url = url }
        tb.sleep(0.7)
        s:stop()
      end
      s:start()
      s:wait(function() return #s:values "n" > 20 end, 30)
    end)

    it("trust in the server, which it says at once, with the reason", function()
      s:write("a.lua", putting)
      s:start { url = s.e.tls_url }
      s:wait_for_log("warning: the server cannot be used: ", 10)
      assert.matches("give the server's authority as ca_file, and check the clock\n", s:log())
      s:stop()
      assert.equal(1, s:count_in_log "cannot be used", s:log())
    end)

    it("room for records: it says so, once", function()
      s:write("a.lua", putting)
      s:start { url = "http://127.0.0.1:1", outbox = { path = s.directory .. "/outbox", max_records = 5 } }
      s:wait_for_log("warning: outbox: it is full; the oldest records are dropped\n", 10)
      tb.sleep(0.5)
      s:stop()
      assert.equal(1, s:count_in_log "it is full", s:log())
    end)

    it("room for a while: it says when there is some again, and what is lost", function()
      s:write("a.lua", [[
        local tb, device = ...
        for n = 1, 12 do device:put { n = n } end
        device:send_attributes { a = 1 }
        print "there is none yet"
        tb.sleep(61)
        device:put { n = 13 }
      ]])
      local state = s.directory .. "/state"
      s:start_in_haste(100, { state = state, outbox = { path = s.directory .. "/outbox", max_records = 5 } })
      s:wait_for_log "info: outbox: it has room again; 7 records were dropped since its file was made\n"
      assert.equal(1, s:count_in_log "outbox: it is full", s:log())
      assert.matches("there is none yet\n.*has room again", s:log())
      s:wait(function() return cjson.decode(io.open(state):read "a").uptime >= 60 end) -- written each minute
      s:stop()
    end)

    it("registration: it provisions once it may, and keeps the credentials", function()
      local store, secret = s.directory .. "/store", command.write(s.directory .. "/secret", "profile-secret")
      s:write("a.lua", putting)
      s:write("b.lua", [[
        local _, device = ...
        device:on_rpc("m", function() return 5 end)
        device:on_attribute("x", print)
      ]])
      s:start { token_file = cjson.null, provision = { key = "later", secret_file = secret, store = store,
        device_name = "service" } }
      s:wait_for_log "identity: "
      s.e:provision_profile { key = "later", secret = "profile-secret", strategy = "ALLOW_CREATE" }
      s:wait(function() return io.open(store) end, 30)
      s.token_file = command.write(s.directory .. "/token", cjson.decode(io.open(store):read "a").token)
      s:wait(function() return #s:values "n" > 20 end, 30)
      assert.equal(5, s:ask "m")
      local text = s:log()
      for _, words in ipairs { "profile%-secret", s:token(), "RPC requests: ", "shared attributes: " } do
        assert.falsy(text:find(words))
      end
      s:stop()
    end)

    it("a token that the server forgets for good: it provisions anew, where it may", function()
      local store, secret = s.directory .. "/store", command.write(s.directory .. "/secret", "profile-secret")
      local function token() return cjson.decode(io.open(store):read "a").token end
      s.e:provision_profile { key = "anew", secret = "profile-secret", strategy = "ALLOW_CREATE" }
      s:write("a.lua", putting)
      for _, anew in ipairs { true, false } do
        os.remove(s.log_path)
        s:start { token_file = cjson.null,
          provision = { key = "anew", secret_file = secret, store = store, anew = anew } }
        s:wait_for_log "a.lua"
        s:wait(function() return io.open(store) end)
        local old = token()
        s.e:fault { path = old:gsub("%W", "%%%0"), how = "status", status = 401 }
        s:wait_for_log "status 401"
        if anew then
          s:wait_for_log "provisioned anew"
          assert.not_equal(old, token())
          s.token_file = command.write(s.directory .. "/token", token())
          s:wait(function() return #s:values "n" > 5 end)
        else
          tb.sleep(2)
          assert.equal(old, token())
        end
        s.e:clear_faults()
        s:stop()
      end
    end)

    it("a file that can be written: it records in memory until it can", function()
      local path = s.directory .. "/outbox"
      local holder <close> = tb.device { url = s.e.url, token = "OTHER" }
      local held = assert(holder:outbox { path = path, name = "other" })
      assert(held:put { other = 1 })
      s:write("a.lua", putting)
      s:start()
      s:wait_for_log "records wait in memory\n"
      assert.matches("warning: outbox: [^\n]*/outbox: [^\n]+; records wait in memory\n", s:log())
      s:signal "USR1"
      s:wait_for_log "state: {"
      assert.truthy(cjson.decode(s:log():match "state: (%b{})").outbox.trouble)
      tb.sleep(1)
      held:close()
      s:wait_for_log "outbox: the disk works again"
      for n, value in ipairs(s:wait_for_values("n", 20)) do assert.equal(n, tonumber(value)) end
      assert.same({ 1, 1 }, { s:count_in_log "in memory", s:count_in_log "the disk works again" }, s:log())
      s:stop()
    end)

    it("records that the server takes: an outbox that ended begins again", function()
      local said = '{"status":404,"message":"no way","errorCode":32,"timestamp":1700000000000}'
      s.e:fault { path = "/telemetry$", how = "status", status = 404, body = said, count = 1 }
      s:write("a.lua", putting)
      s:start()
      s:wait_for_log("warning: outbox: outbox: the server has no such path; check the url (status 404): no way; "
        .. "it is tried again\n")
      s:wait_for_log "info: outbox: works again\n"
      s:wait(function() return #s:values "n" > 20 end, 30)
      for n, value in ipairs(s:values "n") do assert.equal(n, tonumber(value)) end
      s:stop()
    end)

    it("a disk, though it has none in the end: it says what is lost", function()
      s:write("a.lua", "local tb, device = ... tb.sleep(0.1) device:put { n = 1 } os.execute 'rm -f "
        .. s.directory .. "/outbox*; mkdir " .. s.directory .. "/outbox' device:put { n = 2 } print 'put'")
      s:start { url = "http://127.0.0.1:1" }
      s:wait_for_log "a.lua: put"
      s:stop()
      assert.matches("error: close: what waited in memory is lost: [^\n]*/outbox: Is a directory", s:log())
    end)

    it("a disk: it records once there is one", function()
      s:write("a.lua", "local tb, device = ... print(device:put { n = 0 }) print(device:send_attributes { a = 1 })\n"
        .. "for n = 1, 1e9 do device:put { n = n } tb.sleep(0.05) end")
      s:start { outbox = { path = s.directory .. "/missing/outbox" } }
      tb.sleep(1)
      local why = "outbox: " .. s.directory .. "/missing/outbox: No such file or directory"
      s:wait_for_log("warning: outbox: " .. why .. "; it is tried again\n")
      assert.equal(2, s:count_in_log("a.lua: nil\t" .. why .. "\n"), s:log())
      os.execute("mkdir " .. s.directory .. "/missing")
      s:wait(function() return #s:values "n" > 20 end, 30)
      s:wait_for_log "outbox: works again"
      assert.same({ 1, 1 }, { s:count_in_log "it is tried again", s:count_in_log "works again" }, s:log())
      s:stop()
    end)

    it("a folder for its state and for updates: it says so once, and when there is one", function()
      s:start { state = s.directory .. "/missing/state", updates = { kind = "firmware",
        directory = s.directory .. "/missing", current = { title = "t", version = "1" } } }
      s:wait_for_log "state: "
      s:wait_for_log "updates of firmware: "
      os.execute("mkdir " .. s.directory .. "/missing")
      s:wait_for_log "updates of firmware: works again"
      s:signal "USR1"
      s:wait_for_log "state: works again"
      assert.same({ 1, 1 }, { s:count_in_log "warning: state", s:count_in_log "warning: updates" }, s:log())
      s:stop()
    end)
  end)
end)
