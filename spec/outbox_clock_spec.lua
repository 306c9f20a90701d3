-- When the records of an outbox are dated: by a clock that is not known yet, is set, is stepped.
local emulator = require "spec.support.emulator"
local library = require "spec.support.library"
local recording = require "spec.support.recording"
local spool = require "thingsboard.spool"
local tb = require "thingsboard"

describe("an outbox dates records", function()
  local e, place, token, path, shim

  setup(function()
    e = emulator.start()
    shim = library.preload "clock"
  end)

  teardown(function() e:stop() end)

  before_each(function()
    place = recording.start(e)
    place.unknown_time = true
    token, path = place.token, place.path
  end)

  after_each(function()
    tb.clock(true)
    place:stop()
  end)

  -- A script with `dev`, `set(milliseconds ahead)` and `drain()`; what it prints.
  local function run(script, options)
    local ahead = place.directory .. "/ahead"
    return place:run(([[
      local function set(ahead)
        local file = assert(io.open(%q, "w"))
        file:write(ahead)
        file:close()
      end
      local spool <const> = require "thingsboard.spool"
      local BACK <const> = -40 * 365 * 86400000 -- in the eighties
      set(0)
      local opened = { path = path, server_time = %s }
      %s
    ]]):format(ahead, options or "false", script), { LD_PRELOAD = shim, CLOCK_SET = ahead })
  end

  local function series(key)
    return e:series(token)[key or "n"] or {}
  end

  -- The server stores what it has taken a little later.
  local function assert_spaced(entries, count)
    local deadline = tb.now() + 5000
    while #entries < count and tb.now() < deadline do entries = series() end
    assert.equal(count, #entries)
    for n, entry in ipairs(entries) do
      assert.equal(tostring(n), entry.value)
      if n > 1 then assert.is_true(entry.ts > entries[n - 1].ts) end
    end
  end

  it("by the time since the start of the system, until the clock is set", function()
    local from = tb.now()
    local said = run [[
      set(BACK)
      assert(not tb.clock())
      local outbox = assert(dev:outbox(opened))
      for n = 1, 3 do
        assert(outbox:put { n = n })
        tb.sleep(0.05)
      end
      local ok, err = outbox:drain { deadline = 5 }
      print(ok, err, err.kind)
      assert(not tb.clock())
      set(0)
      assert(outbox:put { n = 4 })
      print(outbox:drain { deadline = 5 })
      assert(outbox:close())
    ]]
    assert.equal("nil\tdrain: 3 records wait until the clock is known\tclock\ntrue\tnil\n", said)
    local entries = series()
    assert_spaced(entries, 4)
    assert.is_true(entries[1].ts >= from and entries[4].ts <= tb.now())
    assert.is_true(entries[2].ts - entries[1].ts >= 49)
  end)

  it("so too when the process was started anew meanwhile", function()
    local from = tb.now()
    assert.equal("", (run [[
      set(BACK)
      local outbox = assert(dev:outbox(opened))
      for n = 1, 3 do assert(outbox:put { n = n }) end
      assert(outbox:close())
    ]]))
    local dev <close> = tb.device { url = e.url, token = token }
    local outbox <close> = assert(dev:outbox { path = path })
    assert.is_true(outbox:drain { deadline = 5 })
    assert_spaced(series(), 3)
    assert.is_true(series()[1].ts >= from and series()[3].ts <= tb.now())
    assert.same({}, outbox:stats().lost)
  end)

  it("while the script says that the clock is not known", function()
    local dev <close> = tb.device { url = e.url, token = token }
    local outbox <close> = assert(dev:outbox { path = path, server_time = false })
    assert.is_true(tb.clock())
    assert.is_false(tb.clock(false))
    assert.is_false(tb.clock())
    assert(outbox:put { n = 1 })
    assert(outbox:put { ts = 1700000000000, values = { m = 1 } }) -- this one the script has dated
    assert.equal("clock", select(2, outbox:drain { deadline = 5 }).kind)
    assert.equal(1700000000000, series("m")[1].ts)
    assert.equal(0, #series())
    tb.clock(true)
    assert.is_true(outbox:drain { deadline = 5 })
    assert.is_true(math.abs(series()[1].ts - tb.now()) < 2000)
  end)

  it("by the server's clock, when told to, once another call has brought it", function()
    local from = tb.now()
    local said = run([[
      set(BACK)
      local outbox = assert(dev:outbox(opened))
      assert(outbox:put { n = 1 })
      assert(dev:send_attributes { a = 1 })
      assert(outbox:put { n = 2 })
      print(outbox:drain { deadline = 5 })
      set(0)
      assert(outbox:put { n = 3 })
      print(outbox:drain { deadline = 5 })
    ]], "true")
    assert.equal("true\tnil\ntrue\tnil\n", said)
    assert_spaced(series(), 3)
    assert.is_true(series()[1].ts > from - 2000 and series()[3].ts < tb.now() + 2000)
  end)

  it("by the server's clock, when told to, which it asks for when nothing else brings it", function()
    local from = tb.now()
    assert.equal("true\tnil\n", run([[
      set(BACK)
      local outbox = assert(dev:outbox(opened))
      for n = 1, 3 do assert(outbox:put { n = n }) end
      print(outbox:drain { deadline = 5 })
    ]], "true"))
    assert_spaced(series(), 3)
    assert.is_true(series()[1].ts > from - 2000 and series()[3].ts < tb.now() + 2000)
    e:delete_device(token)
    local said = run([[
      set(BACK)
      local outbox = assert(dev:outbox(opened))
      assert(outbox:put { n = 4 })
      local ok, err = outbox:drain { deadline = 5 }
      print(ok, err.status)
    ]], "true")
    assert.equal("nil\t401\n", said)
  end)

  it("in the order of recording, each once, when the clock is stepped", function()
    for _, step in ipairs { -3600000, 3600000, -86400000 } do
      place.token = e:create_device {}
      token = place.token
      local said = run(([[
        tb.clock(true)
        local outbox = assert(dev:outbox(opened))
        assert(outbox:put { n = 1 })
        assert(outbox:put { n = 2 })
        set(%d)
        for n = 3, 10 do
          assert(outbox:put { n = n })
          tb.sleep(0.01)
        end
        print(outbox:drain { deadline = 5 })
        assert(outbox:close())
      ]]):format(step))
      assert.equal("true\tnil\n", said)
      assert_spaced(series(), 10)
    end
  end)

  it("with the last time that is known, where no clock ever told, and counts them", function()
    local dev <close> = tb.device { url = e.url, token = token }
    do
      local outbox <close> = assert(dev:outbox { path = path })
      assert(outbox:put { n = 1 })
      local other <close> = assert(dev:outbox { path = path, name = "other" })
      tb.clock(false)
      for n = 2, 3 do
        assert(outbox:put { n = n })
        tb.sleep(0.03)
      end
      assert(other:put { m = 1 })
    end
    do -- another start of the system
      local store <close> = spool.spool(path)
      assert(store:open())
      assert(store:query("UPDATE periods SET boot = 'another'"))
    end
    tb.clock(true)
    local outbox <close> = assert(dev:outbox { path = path })
    assert.is_true(outbox:drain { deadline = 5 })
    assert_spaced(series(), 3)
    assert.is_true(series()[3].ts - series()[2].ts >= 29)
    assert.is_true(series()[2].ts - series()[1].ts < 1000)
    assert.equal(2, outbox:stats().lost.undated)
    local other <close> = assert(dev:outbox { path = path, name = "other" }) -- the file was open already
    assert.equal(1, other:stats().lost.undated)
  end)

  it("each differently, however fast they come", function()
    local dev <close> = tb.device { url = e.url, token = token }
    local outbox <close> = assert(dev:outbox { path = path, sync_every = 60 })
    for n = 1, 2000 do assert(outbox:put { n = n }) end
    assert.is_true(outbox:drain { deadline = 20 })
    assert_spaced(series(), 2000)
  end)

  -- What a device's clock says at boot, when NTP sets it, and when the server is reached, in any combination: each
  -- record must have the time at which it was put.
  describe("to two seconds", function()
    local HOUR <const> = 3600 * 1000
    local CLOCKS <const> = { ["years behind"] = -40 * 365 * 24 * HOUR, ["25 hours behind"] = -25 * HOUR,
      ["8 hours ahead"] = 8 * HOUR, right = 0 }

    local PUT <const> = [[
      local uptimes, n = {}, 0
      local function put(outbox)
        for _ = 1, 3 do
          n = n + 1
          uptimes[#uptimes + 1] = spool.uptime()
          assert(outbox:put { n = n })
          tb.sleep(0.01)
        end
      end
      local function told() print(table.concat(uptimes, " ")) end
    ]]

    local function check(said)
      local boot <const> = tb.now() - spool.uptime()
      local uptimes = {}
      for uptime in assert(said:match "([%d ]+)\n$", said):gmatch "%d+" do
        uptimes[#uptimes + 1] = tonumber(uptime)
      end
      local deadline <const> = tb.now() + 5000
      local entries
      repeat entries = series() until #entries >= #uptimes or tb.now() > deadline
      assert.equal(#uptimes, #entries)
      for _, entry in ipairs(entries) do
        local wrong = entry.ts - boot - uptimes[tonumber(entry.value)]
        assert.is_true(math.abs(wrong) <= 2000, ("record %s is off by %d ms"):format(entry.value, wrong))
      end
    end

    for name, ahead in pairs(CLOCKS) do
      it("when the clock is " .. name .. " and NTP never comes", function()
        check(run(PUT .. ([[
          set(%d)
          local outbox = assert(dev:outbox { path = path })
          put(outbox)
          assert(outbox:drain { deadline = 5 })
          put(outbox)
          assert(outbox:drain { deadline = 5 })
          told()
        ]]):format(ahead)))
      end)

      it("when the clock is " .. name .. " and NTP comes before the server is reached", function()
        check(run(PUT .. ([[
          set(%d)
          local outbox = assert(dev:outbox { path = path })
          put(outbox)
          set(0)
          put(outbox)
          assert(outbox:drain { deadline = 5 })
          put(outbox)
          assert(outbox:drain { deadline = 5 })
          told()
        ]]):format(ahead)))
      end)

      it("when the clock is " .. name .. " and NTP comes after the server was reached", function()
        check(run(PUT .. ([[
          set(%d)
          local outbox = assert(dev:outbox { path = path })
          put(outbox)
          assert(outbox:drain { deadline = 5 })
          put(outbox)
          set(0)
          put(outbox)
          assert(outbox:drain { deadline = 5 })
          told()
        ]]):format(ahead)))
      end)

      it("when the clock is " .. name .. ", NTP's hook tells, and the server is not believed", function()
        local hook <const> = place.directory .. "/ntp"
        check(run(PUT .. ([[
          set(%d)
          assert(tb.clock(%q) == false)
          local outbox = assert(dev:outbox { path = path, server_time = false })
          put(outbox)
          set(0)
          io.open(%q, "w"):close()
          put(outbox)
          assert(tb.clock())
          assert(outbox:close()) -- another process sends
          outbox = assert(dev:outbox { path = path, server_time = false })
          assert(outbox:drain { deadline = 5 })
          told()
        ]]):format(ahead, hook, hook)))
      end)

      it("when the clock is " .. name .. ", and another process learns the time of the server", function()
        local said = run(PUT .. ([[
          set(%d)
          local outbox = assert(dev:outbox { path = path })
          put(outbox)
          assert(outbox:close())
          told()
        ]]):format(ahead))
        assert.equal("", (run([[
          assert(assert(dev:outbox { path = path }):drain { deadline = 5 })
        ]])))
        check(said)
        -- A third one knows it from the second.
        local before <const> = #e:requests()
        assert.equal("", (run(([[
          set(%d)
          local outbox = assert(dev:outbox { path = path, confirm = false })
          assert(outbox:put { m = 1 })
          assert(tb.clock())
          assert(outbox:drain { deadline = 5 })
        ]]):format(ahead))))
        assert.equal(before + 1, #e:requests())
        assert.is_true(math.abs(series("m")[1].ts - tb.now()) < 10000)
      end)
    end

    for _, known in ipairs { false, true } do
      local first <const> = known and "assert(dev:send_attributes { a = 1 })" or ""
      it("when a busy script reads an answer late, which is the " .. (known and "second" or "first"), function()
        e:fault { path = "/telemetry", how = "delay", seconds = 1 }
        check(run(PUT .. [[
          set(BACK)
          local outbox = assert(dev:outbox { path = path })
        ]] .. first .. [[
          outbox.file.clock.check_at = 0 -- as after a minute
          tb.spawn(function() assert(dev:send_telemetry { a = 1 }) end)
          tb.sleep(0.2)
          os.execute "sleep 5"
          tb.run()
          put(outbox)
          assert(outbox:drain { deadline = 5 })
          told()
        ]]))
      end)
    end

    it("when a busy script reads a poll's answer late", function()
      check(run(PUT .. [[
        set(BACK)
        local outbox = assert(dev:outbox { path = path })
        local updates = dev:attribute_updates({ "a" }, { period = 1 })
        tb.spawn(function() for _ in updates do end end)
        tb.sleep(0.2)
        local clock = outbox.file.clock
        clock.check_at, clock.late = 0, 3 -- as after a minute, and as many slow answers
        os.execute "sleep 5" -- the poll's answer comes meanwhile
        tb.sleep(0.2)
        put(outbox)
        updates:close()
        assert(outbox:drain { deadline = 5 })
        told()
      ]]))
    end)

    it("when the clock was right, is set wrong, and is put right again", function()
      check(run(PUT .. [[
        local outbox = assert(dev:outbox { path = path })
        put(outbox)
        assert(outbox:drain { deadline = 5 })
        put(outbox)
        set(8 * 3600 * 1000)
        put(outbox)
        set(-25 * 3600 * 1000)
        put(outbox)
        assert(outbox:drain { deadline = 5 })
        set(0)
        put(outbox)
        assert(outbox:drain { deadline = 5 })
        told()
      ]]))
    end)
  end)

  it("by no Date of an answer that is not ThingsBoard's", function()
    e:fault { how = "raw", raw = "HTTP/1.1 200 OK\r\nDate: Sat, 01 Jan 2011 00:00:00 GMT\r\nContent-Length: 6\r\n" ..
      "Connection: close\r\n\r\n<html>", count = 2 }
    local said = run [[
      local outbox = assert(dev:outbox { path = path })
      assert(outbox:put { n = 1 })
      print(dev:send_telemetry { a = 1 })
      assert(not tb.clock())
      print(outbox:drain { deadline = 10 })
    ]]
    assert.truthy(said:find "true\tnil\n$", said)
    assert.is_true(math.abs(series()[1].ts - tb.now()) < 20000)
  end)

  it("by no Date of an answer that a cache had", function()
    local old <const> = "Date: Sat, 01 Jan 2011 00:00:00 GMT\r\n"
    local now <const> = os.date "!Date: %a, %d %b %Y %H:%M:%S GMT\r\n"
    for _, headers in ipairs { "Age: 7\r\n" .. old, old .. "age: 123456\r\n", now .. "Age: 0\r\n" } do
      e:fault { path = "clientKeys=time", how = "raw", count = 1, raw = "HTTP/1.1 200 OK\r\n" .. headers ..
        "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}" }
    end
    local before <const> = #e:requests()
    assert.equal("true\tnil\n", (run([[
      set(BACK)
      local outbox = assert(dev:outbox { path = path, confirm = false })
      assert(outbox:put { n = 1 })
      print(outbox:drain { deadline = 10 })
    ]], "true")))
    assert.is_true(math.abs(series()[1].ts - tb.now()) < 20000)
    assert.equal(before + 4, #e:requests())
  end)

  describe("each differently, where they come faster than milliseconds", function()
    local BURST <const> = 400 -- in one call; more than a run has

    local function put_burst(from)
      assert.equal("", (run(([[
        set(BACK)
        local outbox = assert(dev:outbox(opened))
        local list = {}
        for n = %d, %d do list[#list + 1] = { n = n } end
        assert(outbox:put(list))
        assert(outbox:close())
      ]]):format(from, from + BURST - 1))))
    end

    local function put_now(outbox, from)
      local list = {}
      for n = from, from + BURST - 1 do list[#list + 1] = { n = n } end
      assert(outbox:put(list))
    end

    local function another_start(id)
      local store <close> = spool.spool(path)
      assert(store:open())
      assert(store:query(("UPDATE periods SET boot = '%s' WHERE offset IS NULL AND length(boot) > 20"):format(id)))
    end

    it("and another process goes on before anybody knows the time", function()
      put_burst(1)
      put_burst(BURST + 1)
      local dev <close> = tb.device { url = e.url, token = token }
      local outbox <close> = assert(dev:outbox { path = path })
      put_now(outbox, 2 * BURST + 1)
      assert.is_true(outbox:drain { deadline = 10 })
      assert_spaced(series(), 3 * BURST)
    end)

    it("and nobody knew the time in two starts", function()
      put_burst(1)
      another_start "first"
      put_burst(BURST + 1)
      another_start "second"
      local dev <close> = tb.device { url = e.url, token = token }
      local outbox <close> = assert(dev:outbox { path = path })
      put_now(outbox, 2 * BURST + 1)
      assert.is_true(outbox:drain { deadline = 10 })
      assert.equal(2 * BURST, outbox:stats().lost.undated)
      assert_spaced(series(), 3 * BURST)
    end)

    it("and nobody knew the time in a start behind one that is dated", function()
      do
        local dev <close> = tb.device { url = e.url, token = token }
        local outbox <close> = assert(dev:outbox { path = path })
        put_now(outbox, 1)
      end
      tb.clock(false)
      put_burst(BURST + 1)
      another_start "second"
      local dev <close> = tb.device { url = e.url, token = token }
      local outbox <close> = assert(dev:outbox { path = path })
      assert.is_true(outbox:drain { deadline = 10 })
      assert_spaced(series(), 2 * BURST)
    end)
  end)

  it("of a start in which nobody ever knew the time behind the last one that is known, and counts them", function()
    assert.equal("", (run [[
      set(BACK)
      local outbox = assert(dev:outbox(opened))
      for n = 1, 3 do assert(outbox:put { n = n }) end
      assert(outbox:close())
    ]]))
    do -- another start of the system
      local store <close> = spool.spool(path)
      assert(store:open())
      assert(store:query "UPDATE periods SET boot = 'another'")
    end
    assert.equal("3\n", (run [[
      local outbox = assert(dev:outbox { path = path })
      assert(outbox:put { n = 4 })
      assert(outbox:drain { deadline = 5 })
      print(outbox:stats().lost.undated)
    ]]))
    assert_spaced(series(), 4)
  end)
end)
