-- The outbox: what is put is on disk, and gets to the server.
local cjson = require "cjson"
local emulator = require "spec.support.emulator"
local finalizers = require "spec.support.finalizers"
local recording = require "spec.support.recording"
local tb = require "thingsboard"

describe("an outbox", function()
  local e, place, dev, directory, path

  setup(function() e = emulator.start() end)
  teardown(function() e:stop() end)

  before_each(function()
    place = recording.start(e)
    dev, directory, path = place.dev, place.directory, place.path
  end)

  after_each(function() place:stop() end)

  local function token_device()
    local token = e:create_device {}
    return tb.device { url = e.url, token = token }, token
  end

  local function values_of(token, key)
    local values = {}
    for _, entry in ipairs(e:series(token)[key] or {}) do values[#values + 1] = entry.value end
    return values
  end

  it("brings what was put to the server, at the time of the call", function()
    local device, token = token_device()
    local outbox <close> = assert(device:outbox { path = path })
    local from = tb.now()
    local nested = { x = 1, y = { "a,b}", tb.null } }
    assert.is_true(outbox:put { temperature = 21.5, open = true, place = nested, none = tb.array {} })
    assert.is_true(outbox:put { ts = 1700000000000, values = { temperature = 20.5 } })
    assert.is_true(outbox:put { { n = 1 }, { ts = 1700000000001, values = { n = 2 } }, { n = 3 } })
    assert.equal(5, outbox:stats().records)
    assert.is_true(outbox:drain())
    local to = tb.now()
    local series = e:series(token)
    assert.same({ "20.5", "21.5" }, values_of(token, "temperature"))
    assert.equal(1700000000000, series.temperature[1].ts)
    assert.is_true(series.temperature[2].ts >= from and series.temperature[2].ts <= to)
    assert.same({ x = 1, y = { "a,b}", cjson.null } }, cjson.decode(series.place[1].value))
    assert.same({ "[]" }, values_of(token, "none"))
    assert.same({ "2", "1", "3" }, values_of(token, "n"))
    assert.is_true(series.n[2].ts < series.n[3].ts)
    local stats = outbox:stats()
    assert.equal(0, stats.records)
    assert.equal(0, stats.bytes)
    assert.equal(5, stats.sent.records)
    assert.same({}, stats.lost)
  end)

  describe("that a finalizer uses in the midst of another call", function()
    -- Calls something, and another in its midst: how often that was refused.
    local function nest(work, nested)
      local refused, source = 0, debug.getinfo(nested, "S")
      for _, result in ipairs(finalizers.at_every(function() assert(work()) end, function() assert(nested()) end)) do
        if not result[1] then
          local line, words = result[2]:match "^[^:]*outbox_spec%.lua:(%d+): (.*)$"
          assert.equal("the outbox is in use: a finalizer has called it in the midst of another call", words, result[2])
          assert.is_true(tonumber(line) >= source.linedefined and tonumber(line) <= source.lastlinedefined, result[2])
          refused = refused + 1
        end
      end
      return refused
    end

    it("keeps all that it said it would", function()
      local outbox = assert(dev:outbox { path = path })
      local puts, versions, kept = 0, 0, {}
      local function put()
        local ok, err = outbox:put { { n = 1 } }
        if ok then puts = puts + 1 end
        return ok, err
      end
      local function attributes()
        versions = versions + 1
        local key = "a" .. versions
        local ok, err = outbox:attributes { [key] = versions }
        if ok then kept[key] = true end
        return ok, err
      end
      local refused = 0
      for _, work in ipairs { put, attributes } do
        for _, nested in ipairs { put, attributes } do
          for _ = 1, 3 do refused = refused + nest(work, nested) end
        end
      end
      assert.is_true(refused > 0)
      assert.equal(puts, outbox:stats().records)
      assert.is_nil(outbox:stats().trouble)
      assert(outbox:close())
      outbox = assert(dev:outbox { path = path })
      assert.equal(puts, outbox:stats().records)
      for key in pairs(outbox.pending) do kept[key:sub(2, -2)] = nil end
      assert.same({}, kept)
      assert(outbox:close())
    end)

    it("is not closed", function()
      local outbox = assert(dev:outbox { path = path })
      local on = outbox.file
      local refused = nest(function() return outbox:put { n = 1 } and outbox:attributes { a = 1 } end, function()
        return not (on.inside or on.spool:busy()) or outbox:close()
      end)
      assert.is_true(refused > 0)
      assert.equal(1, outbox:stats().records)
      assert(outbox:close())
      outbox = assert(dev:outbox { path = path })
      assert.equal(1, outbox:stats().records)
      assert.equal(1, outbox:stats().attributes)
      assert(outbox:close())
    end)
  end)

  it("is not opened when its file cannot be read, rather than without what that has", function()
    local outbox = assert(dev:outbox { path = path })
    assert(outbox:attributes { a = 1 })
    local sqlite = outbox.spool
    for _, table in ipairs { "attributes", "counters", "doubts" } do
      assert(sqlite:query(("ALTER TABLE %s RENAME TO hidden"):format(table)))
      for _, on_trouble in ipairs { "error", "memory" } do -- nor are records kept for it in memory
        local other, err = dev:outbox { path = path, name = "other", on_trouble = on_trouble } -- it is open already
        assert.is_nil(other)
        assert.same({ "file", true }, { err.kind, err.retryable })
        assert.truthy(err.message:find("^outbox: .*" .. table), err.message)
      end
      assert(sqlite:query(("ALTER TABLE hidden RENAME TO %s"):format(table)))
    end
    assert(sqlite:query "ALTER TABLE attributes RENAME TO hidden")
    outbox:close()
    local err
    outbox, err = dev:outbox { path = path }
    assert.is_nil(outbox)
    assert.equal("file", err.kind)
    assert.truthy(err.message:find("attributes", 1, true), err.message)
  end)

  it("gives each record a time of its own, before the clock is known too", function()
    local device, token = token_device()
    local outbox <close> = assert(device:outbox { path = path })
    tb.clock(false)
    finally(function() tb.clock(true) end)
    for n = 1, 50 do assert(outbox:put { n = n }) end
    tb.clock(true)
    for n = 51, 100 do assert(outbox:put { n = n }) end
    assert.is_true(outbox:drain())
    local values = values_of(token, "n")
    assert.equal(100, #values)
    for n, value in ipairs(values) do assert.equal(n, tonumber(value)) end
  end)

  it("keeps of an attribute the last value, and sends it once", function()
    local device, token = token_device()
    local outbox <close> = assert(device:outbox { path = path })
    assert.is_true(outbox:attributes { model = "x", uptime = 1 })
    assert.is_true(outbox:attributes { uptime = 2 })
    assert.equal(2, outbox:stats().attributes)
    assert.is_true(outbox:drain())
    local stored = e:attributes(token, "client")
    assert.equal("x", stored.model.value)
    assert.equal("2", stored.uptime.value)
    assert.equal(0, outbox:stats().attributes)
    assert.is_true(outbox:attributes { uptime = 3 })
    assert.is_true(outbox:drain())
    assert.equal("3", e:attributes(token, "client").uptime.value)
  end)

  it("keeps attributes of any name and value as they are", function()
    local device, token = token_device()
    local outbox <close> = assert(device:outbox { path = path })
    local odd = { ['a"\\'] = '}"\\,:', ["\n{"] = { x = { "]", 1.5 } }, float = 42.0, none = tb.null, no = false }
    assert.is_true(outbox:attributes(odd))
    assert.equal(5, outbox:stats().attributes)
    assert.is_true(outbox:drain())
    local stored = e:attributes(token, "client")
    assert.equal('}"\\,:', stored['a"\\'].value)
    assert.same({ x = { "]", 1.5 } }, cjson.decode(stored["\n{"].value))
    assert.equal("DOUBLE", stored.float.type)
    assert.equal("false", stored.no.value)
  end)

  it("refuses what the server would refuse or drop, when it is put", function()
    local outbox <close> = assert(dev:outbox { path = path })
    for said, value in pairs {
      ["temperature: NaN cannot be sent"] = { temperature = 0 / 0 },
      ["blank key"] = { [" "] = 1 },
      ["nothing to send"] = {},
      ["can only be seconds"] = { ts = 1700000000, values = { a = 1 } },
      ["record 2"] = { { a = 1 }, { a = 1 / 0 } },
      ["ts and values"] = { ts = 1700000000000, values = { ts = 1, values = 2 } },
    } do
      local ok, err = outbox:put(value)
      assert.is_nil(ok)
      assert.equal("value", err.kind)
      assert.truthy(err.message:find(said, 1, true), err.message)
    end
    local ok, err = outbox:attributes { a = 0 / 0 }
    assert.is_nil(ok)
    assert.equal("value", err.kind)
    assert.equal(0, outbox:stats().records)
    assert.equal(0, outbox:stats().attributes)
  end)

  it("is sent by one call at a time", function()
    local outbox <close> = assert(dev:outbox { path = path })
    local sending = tb.spawn(function() outbox:run() end)
    tb.sleep(0)
    for _, name in ipairs { "run", "drain" } do
      local ok, said = pcall(function() outbox[name](outbox) return end)
      assert.is_false(ok)
      assert.matches("^[^:]*outbox_spec%.lua:%d+: this outbox is being sent already$", said)
    end
    assert.is_false(sending:done())
  end)

  it("that is closed ends a drain with an error", function()
    local outbox <close> = assert(dev:outbox { path = path })
    e:fault { path = "/telemetry", how = "delay", seconds = 0.2, count = 1 }
    assert(outbox:put { n = 1 })
    local err
    local sending = tb.spawn(function() err = select(2, outbox:drain { deadline = 60 }) end)
    tb.sleep(0)
    outbox:close()
    assert.is_true(sending:join())
    assert.same({ "closed", "drain: the outbox is closed", false }, { err.kind, err.message, err.retryable })
  end)

  it("raises for the script's mistakes, at the script's line", function()
    local outbox <close> = assert(dev:outbox { path = path })
    local function said(...)
      local ok, message = pcall(...)
      assert.is_false(ok)
      assert.truthy(message:find("outbox_spec.lua", 1, true), message)
      return message
    end
    assert.truthy(said(function() outbox:put "text" end):find "put: a table expected, got string")
    assert.truthy(said(function() outbox:put { a = print } end):find "a: a function cannot be sent")
    assert.truthy(said(function() outbox:attributes(5) end):find "attributes: a table expected")
    assert.truthy(said(function() dev:outbox { path = path .. "2", max_size = 1 } end):find "unknown option 'max_size'")
    assert.truthy(said(function() dev:outbox {} end):find "option 'path' is missing")
    assert.truthy(said(function() dev:outbox { path = path .. 2, messages = "5" } end):find "option 'messages' must")
    assert.truthy(said(function() dev:outbox { path = path .. 2, when_full = "x" } end):find "option 'when_full' must")
    assert.truthy(said(function() dev:outbox { path = path } end):find "open for this device already")
    assert.matches("outbox_spec%.lua:%d+: drain: option 'deadline' must",
      said(function() outbox:drain { deadline = 0 } end))
    for _, name in ipairs { "put", "attributes", "sync", "drain", "run", "rejected", "stats", "close" } do
      assert.truthy(said(function() outbox[name] { a = 1 } end):find "call its methods with a colon")
      assert.truthy(said(function() outbox[name]() end):find "call its methods with a colon")
    end
    assert.truthy(said(function() tb.clock "yes" end):find "known must be a boolean")
  end)

  it("stays open when another one was refused, and that is collected", function()
    local outbox <close> = assert(dev:outbox { path = path })
    assert.is_false((pcall(dev.outbox, dev, { path = path })))
    collectgarbage()
    collectgarbage()
    assert.is_true(outbox:put { a = 1 })
    assert.equal(1, outbox:stats().records)
  end)

  it("has after a restart what it had before", function()
    do
      local outbox <close> = assert(dev:outbox { path = path })
      for n = 1, 10 do assert(outbox:put { n = n }) end
      assert(outbox:attributes { a = 1 })
    end
    local device, token = token_device()
    local outbox <close> = assert(device:outbox { path = path })
    assert.equal(10, outbox:stats().records)
    assert.equal(1, outbox:stats().attributes)
    assert(outbox:put { n = 11 })
    assert.is_true(outbox:drain())
    assert.equal(11, #values_of(token, "n"))
    assert.equal("1", e:attributes(token, "client").a.value)
  end)

  it("packs what is put one by one, and counts it after a restart as before", function()
    local bytes
    do
      local outbox <close> = assert(dev:outbox { path = path })
      for n = 1, 200 do assert(outbox:put(n % 50 == 0 and { other = n } or { n = n, text = "x" })) end
      bytes = outbox:stats().bytes
    end
    assert.is_true(bytes < 200 * 14)
    local device, token = token_device()
    local outbox <close> = assert(device:outbox { path = path, batch_records = 7 })
    assert.equal(bytes, outbox:stats().bytes)
    assert.is_true(outbox:drain())
    assert.equal(0, outbox:stats().bytes)
    local values = values_of(token, "n")
    assert.equal(196, #values)
    for i = 2, #values do assert.is_true(tonumber(values[i]) > tonumber(values[i - 1])) end
    assert.equal(4, #values_of(token, "other"))
  end)

  it("has what was put when its process is killed, and what sync_every has written", function()
    local script = [[
      local outbox = dev:outbox { path = path, sync_every = %s }
      for n = 1, 5 do assert(outbox:put { n = n }) end
      %s
      io.popen("kill -9 $PPID"):read "a"
    ]]
    place:run(script:format("nil", ""))
    place:run(script:format("3600", ""))
    place:run(script:format("0.05",
      "local at = tb.now() + 100 while tb.now() < at do end assert(outbox:put { n = 6 })"))
    local outbox <close> = assert(dev:outbox { path = path })
    assert.equal(5 + 0 + 6, outbox:stats().records)
  end)

  it("writes what sync_every has held back when it is due, though the script or a task of it only sleeps", function()
    local script = [[
      local outbox = dev:outbox { path = path, sync_every = 0.05 }
      local function record() for n = 1, 5 do assert(outbox:put { n = n }) end tb.sleep(0.5) end
      %s
      io.popen("kill -9 $PPID"):read "a"
    ]]
    place:run(script:format "record()")
    place:run(script:format "record() record()")
    place:run(script:format "tb.spawn(record) tb.run()")
    local outbox <close> = assert(dev:outbox { path = path })
    assert.equal(5 + 10 + 5, outbox:stats().records)
  end)

  it("is collected though sync_every holds something back, and writes that", function()
    assert(dev:outbox { path = path, sync_every = 3600 }):put { n = 1 }
    tb.sleep(0)
    collectgarbage()
    collectgarbage()
    local again <close> = assert(dev:outbox { path = path })
    assert.equal(1, again:stats().records)
    assert.is_nil(again.sync_every)
  end)

  it("writes what sync_every has held back when its time has come, though nothing more is put", function()
    local outbox <close> = assert(dev:outbox { path = path, sync_every = 0.1 })
    local function written() return io.popen("stat -c %.Y " .. path .. "-wal"):read "n" end
    for n = 1, 2 do -- again, once it has been written
      assert(outbox:put { n = n })
      local before, deadline = written(), tb.now() + 5000
      while written() == before and tb.now() < deadline do tb.sleep(0.05) end
      assert.is_true(written() > before)
    end
  end)

  it("writes at its end what sync_every has held back", function()
    local outbox = assert(dev:outbox { path = path, sync_every = 3600 })
    assert(outbox:put { n = 1 })
    assert.is_true(outbox:close())
    local again <close> = assert(dev:outbox { path = path })
    assert.equal(1, again:stats().records)
  end)

  it("sends in a task what comes, and ends with the device", function()
    local device, token = token_device()
    local outbox = assert(device:outbox { path = path })
    local ended
    tb.spawn(function()
      ended = { outbox:run() }
      ended.n = 2
    end)
    tb.spawn(function()
      for n = 1, 3 do
        assert(outbox:put { n = n })
        local deadline = tb.now() + 5000
        while outbox:stats().records > 0 and tb.now() < deadline do tb.sleep(0.01) end
      end
      device:close()
    end)
    tb.run()
    assert.same({ nil, nil, n = 2 }, ended)
    assert.same({ "1", "2", "3" }, values_of(token, "n"))
    local ok, err = outbox:put { n = 4 }
    assert.is_nil(ok)
    assert.equal("closed", err.kind)
  end)

  it("is one process's", function()
    local outbox <close> = assert(dev:outbox { path = path })
    assert(outbox:put { n = 1 })
    local said = place:run "print(dev:outbox { path = path })"
    assert.truthy(said:find "^nil\t")
    assert.truthy(said:find("another process has this outbox open", 1, true), said)
  end)

  it("shares its file with other devices of the process", function()
    local one, one_token = token_device()
    local other, other_token = token_device()
    local first <close> = assert(one:outbox { path = path, name = "one" })
    local second <close> = assert(other:outbox { path = directory .. "/./outbox", name = "other" })
    for n = 1, 20 do
      assert(first:put { n = n })
      assert(second:put { m = n })
    end
    assert.equal(20, first:stats().records)
    assert.is_true(second:drain())
    assert.equal(20, first:stats().records)
    assert.is_true(second:close())
    assert.is_true(first:drain())
    assert.equal(20, #values_of(one_token, "n"))
    assert.equal(20, #values_of(other_token, "m"))
    assert.same({}, values_of(one_token, "m"))
  end)

  it("shares its file with hundreds of devices, before any of them records anything", function()
    local outboxes = {}
    for n = 1, 300 do
      outboxes[n] = assert(dev:outbox { path = path, name = ("a device with quite a long name, number %d"):format(n) })
    end
    for n, outbox in ipairs(outboxes) do assert(outbox:put { n = n }) end
    for _, outbox in ipairs(outboxes) do
      assert.equal(1, outbox:stats().records)
      assert(outbox:close())
    end
  end)

  it("shows no token", function()
    local outbox = assert(dev:outbox { path = path })
    assert(outbox:put { n = 1 })
    assert.equal("thingsboard.outbox (" .. path .. ")", tostring(outbox))
    outbox:close()
    assert.equal("thingsboard.outbox (closed)", tostring(outbox))
  end)
end)
