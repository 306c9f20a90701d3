-- What is answered 200 waits in the server's queue: an outbox keeps it until markers show that it is stored. The seeds
-- of random crashes go from THINGSBOARD_SEED to THINGSBOARD_CRASHES; ten thousand of them by `make torture-outbox`.
local confirm = require "thingsboard.outbox.confirm"
local emulator = require "spec.support.emulator"
local library = require "spec.support.library"
local recording = require "spec.support.recording"
local sender = require "thingsboard.outbox.sender"
local tb = require "thingsboard"

local CRASHES = tonumber(os.getenv "THINGSBOARD_CRASHES") or 60

-- A spec of half a minute takes a tenth of that; THINGSBOARD_LAG=1 for all of it.
local SHORTER = tonumber(os.getenv "THINGSBOARD_LAG") or 10

local fill = recording.fill

describe("an outbox confirms", function()
  local e, place, dev, token
  local first_pause <const>, longest_pause <const> = sender.first_pause, sender.longest_pause
  local marker_timeout <const> = confirm.marker_timeout

  setup(function() e = emulator.start() end)
  teardown(function() e:stop() end)

  before_each(function()
    place = recording.start(e)
    dev, token = place.dev, place.token
    sender.first_pause, sender.longest_pause = 0.02, 0.1
    e:clear()
  end)

  after_each(function()
    sender.first_pause, sender.longest_pause = first_pause, longest_pause
    confirm.marker_timeout = marker_timeout
    place:stop()
    e:set { queue_delay = 0, keeps_attributes = true, rate_limits = {} }
  end)

  local function open(given)
    given = given or {}
    given.path = given.path or place.path
    return assert(dev:outbox(given))
  end

  local function await(condition, seconds)
    local deadline = tb.now() + (seconds or 10) * 1000
    while not condition() do
      assert(tb.now() < deadline, "it does not come about")
      tb.sleep(0.005)
    end
  end

  -- The device's requests, a letter each: a telemetry post, an empty one, a marker or another attribute, a read.
  local function letters()
    local list = {}
    for _, request in ipairs(e:requests()) do
      if request.target:find(token, 1, true) then
        list[#list + 1] = request.method == "GET" and "r" or request.target:find "/attributes$" and "m"
          or request.body == "" and "p" or "t"
      end
    end
    return table.concat(list)
  end

  -- Runs an outbox in a task while something else goes on, which closes it.
  local function while_running(outbox, act)
    local failed
    tb.spawn(function() outbox:run() end)
    tb.spawn(function()
      local ok, said = pcall(act)
      if not ok then failed = said end
      dev:close()
      outbox:close()
    end)
    tb.run()
    if failed then error(failed, 0) end
  end

  it("by two markers, the second posted when the first could be read", function()
    e:set { queue_delay = 150 }
    local outbox <close> = open()
    fill(outbox, 1, 5)
    local watching = tb.spawn(function()
      await(function() return outbox:stats().unconfirmed == 5 end)
      local stats = outbox:stats()
      assert.equal(0, stats.records)
      assert.equal(5, stats.sent.records)
      assert.equal(0, stats.sent.confirmed)
      assert.is_true(stats.bytes > 0)
    end)
    assert.is_true(outbox:drain { deadline = 10 })
    assert.is_true(watching:done())
    assert.truthy(letters():find "^tmr+mr+$", letters())
    local stats = outbox:stats()
    assert.equal(0, stats.unconfirmed)
    assert.equal(0, stats.bytes)
    assert.equal(5, stats.sent.confirmed)
    assert.equal(0, stats.sent.again)
    assert.is_true(stats.confirm)
    assert.is_true(outbox:drain { deadline = 10 })
    assert.truthy(letters():find "^tmr+mr+$") -- nothing more to confirm
  end)

  it("nothing where that is turned off", function()
    local outbox <close> = open { confirm = false }
    fill(outbox, 1, 5)
    assert.is_true(outbox:drain { deadline = 10 })
    assert.equal("t", letters())
    assert.equal(0, outbox:stats().bytes)
    assert.is_false(outbox:stats().confirm)
  end)

  it("by the attribute that it is told to use", function()
    local outbox <close> = open { confirm_key = "how far" }
    fill(outbox, 1, 1)
    assert.is_true(outbox:drain { deadline = 10 })
    assert.truthy(e:attributes(token, "client")["how far"])
    local ok, said = pcall(dev.outbox, dev, { path = place.path .. 2, confirm_key = "a,b" })
    assert.is_false(ok)
    assert.truthy(said:find("option 'confirm_key' holds a comma", 1, true))
  end)

  it("by no copy of a marker that went without an answer", function()
    e:fault { path = "/attributes$", count = 1, how = "status", status = 503, handled = true }
    local outbox <close> = open {}
    fill(outbox, 1, 3)
    assert.is_true(outbox:drain { deadline = 20 })
    local seen, count = {}, 0
    for _, request in ipairs(e:requests()) do
      if request.target:find(token .. "/attributes$") then
        assert.is_nil(seen[request.body])
        seen[request.body], count = true, count + 1
      end
    end
    assert.is_true(count >= 3)
  end)

  it("attributes alike, and has them sent again when they are lost", function()
    local outbox = open()
    while_running(outbox, function()
      e:set { queue_delay = 1e9 }
      assert(outbox:attributes { model = "x" })
      await(function() return outbox:stats().attributes == 0 end)
      e:crash()
      e:set { queue_delay = 0 }
      assert.is_nil(e:attributes(token, "client").model)
    end)
    dev = tb.device { url = e.url, token = token }
    local again <close> = open()
    assert.equal(1, again:stats().attributes)
    assert.is_true(again:drain { deadline = 10 })
    assert.equal("x", e:attributes(token, "client").model.value)
    assert.equal(0, again:stats().attributes)
    assert.is_true(again:drain { deadline = 10 })
  end)

  it("not what a restart of the server has lost: it is sent again", function()
    local outbox <close> = open()
    e:set { queue_delay = 1e9 }
    fill(outbox, 1, 50)
    local ok, err = outbox:drain { deadline = 1 }
    assert.is_nil(ok)
    assert.equal(50, outbox:stats().unconfirmed)
    assert.same({ "timeout", true, "drain: the deadline came first; 50 records are sent and not confirmed yet" },
      { err.kind, err.retryable, err.message })
    e:crash()
    e:set { queue_delay = 0 }
    assert.same({}, e:series(token))
    assert.is_true(outbox:drain { deadline = 20 })
    assert.equal(50, #place:arrived(50))
    assert.is_true(outbox:stats().sent.again >= 50)
    assert.equal(50, outbox:stats().sent.records)
    assert.equal(50, outbox:stats().sent.confirmed)
  end)

  it("not what a crash has lost, though another call of the device was the first to reach the new server", function()
    local outbox <close> = open()
    e:set { queue_delay = 1e9 }
    fill(outbox, 1, 5)
    local sending = tb.spawn(function() return outbox:drain { deadline = 20 } end)
    await(function() return letters():find "tmr" and not outbox.posting end)
    e:crash()
    assert(dev:send_telemetry { m = 1 })
    e:set { queue_delay = 0 }
    tb.run()
    assert.is_true(sending:done())
    assert.equal(5, #place:arrived(5))
  end)

  it("by no marker of the time before a restart", function()
    local outbox <close> = open { batch_records = 5 }
    e:set { queue_delay = 1e9 }
    fill(outbox, 1, 5)
    local sending = tb.spawn(function() return outbox:drain { deadline = 20 } end)
    await(function() return letters():find "tmr" end)
    e:crash() -- the records and the first marker are gone
    e:set { queue_delay = 0 }
    tb.run()
    assert.is_true(sending:done())
    assert.equal(5, #place:arrived(5))
    assert.equal(0, outbox:stats().unconfirmed)
  end)

  it("and sends again at once when an open poll breaks", function()
    local outbox = open()
    tb.spawn(function() for _ in dev:rpc_requests() do end end)
    while_running(outbox, function()
      e:set { queue_delay = 1e9 }
      fill(outbox, 1, 3)
      await(function() return outbox:stats().unconfirmed == 3 end)
      await(function() return letters():find "r" end) -- the poll
      e:crash()
      e:set { queue_delay = 0 }
      await(function() return outbox:stats().sent.again >= 3 and outbox:stats().records == 0 end)
    end)
    assert.equal(3, #place:arrived(3))
  end)

  it("a trickle by no more than a tenth of its posts", function()
    local outbox = open()
    while_running(outbox, function()
      for n = 1, 200 do
        assert(outbox:put { n = n })
        while outbox:stats().records > 0 do tb.sleep(0) end
      end
    end)
    local all = letters()
    assert.equal(200, select(2, all:gsub("t", "")))
    assert.is_true(#all <= 220, #all)
    assert.truthy(all:find "mrt?mr")
    dev = tb.device { url = e.url, token = token }
    local again <close> = open()
    assert.is_true(again:stats().records <= 80) -- the rest is confirmed
  end)

  it("nothing that is too old by then, which is not lost for all it knows", function()
    e:set { queue_delay = 60000 }
    local outbox <close> = open { max_age = 0.5 }
    fill(outbox, 1, 3)
    assert.is_nil(outbox:drain { deadline = 0.3 })
    assert.equal(3, outbox:stats().unconfirmed)
    tb.sleep(0.5)
    outbox:expire()
    local stats = outbox:stats()
    assert.same({ 0, 0, nil }, { stats.unconfirmed, stats.records, stats.lost.expired })
  end)

  for status, said in pairs { [403] = "<html>blocked</html>", [500] = "Rate limits reached! again" } do
    it("what goes beside an attribute that never passes, for a " .. status, function()
      e:fault { method = "POST", request_body = "never", how = "status", status = status, body = said }
      local outbox <close> = open()
      fill(outbox, 1, 20)
      assert(outbox:attributes { a = 1, b = 2, c = "never", d = 4 })
      while_running(outbox, function()
        await(function()
          local stats = outbox:stats()
          return stats.attributes == 1 and stats.in_doubt == 1
        end)
        assert.is_nil(outbox:stats().lost.rejected)
        for n = 21, 60 do -- what a trickle has to bring for its markers
          fill(outbox, n, n)
          await(function() return outbox:stats().records == 0 end)
        end
        await(function() return outbox:stats().sent.confirmed >= 20 end)
      end)
      local kept = e:attributes(token, "client")
      assert.same({ "1", "2", "4" }, { kept.a.value, kept.b.value, kept.d.value })
    end)
  end

  it("a few records that nothing follows, while it waits for others", function()
    local idle_after <const> = confirm.idle_after
    confirm.idle_after = 0.2
    local outbox = open()
    while_running(outbox, function()
      fill(outbox, 1, 3)
      await(function() return outbox:stats().sent.confirmed == 3 end)
    end)
    confirm.idle_after = idle_after
    assert.truthy(letters():find "^t+mr+mr+$", letters())
  end)

  it("without sending again and again what passes while polls end early in 502", function()
    local outbox = open()
    local sent, count = nil, 0
    tb.spawn(function() for _ in dev:rpc_requests() do end end)
    e:fault { method = "GET", path = "/rpc", how = "status", status = 502 }
    while_running(outbox, function()
      await(function()
        count = count + 1
        fill(outbox, count, count)
        await(function() return outbox:stats().records == 0 end)
        return select(2, letters():gsub("r", "")) >= 15
      end)
      sent = outbox:stats().sent
    end)
    assert.is_true(sent.again <= 1, sent.again)
    assert.equal(count, #place:arrived(count))
  end)

  it("at once what takes the room that others need", function()
    local outbox = open { max_records = 3, when_full = "refuse" }
    while_running(outbox, function()
      for n = 1, 30 do
        await(function() return outbox:put { n = n } end)
        await(function() return outbox:stats().records == 0 end)
      end
      await(function() return outbox:stats().unconfirmed < 2 end)
      assert.equal(30, outbox:stats().sent.confirmed + outbox:stats().unconfirmed)
    end)
    assert.equal(30, #place:arrived(30))
  end)

  it("a backlog while it drains, and bounds what is in flight", function()
    e:set { queue_delay = 100 }
    local outbox <close> = open { batch_records = 1 }
    fill(outbox, 1, 100)
    assert.is_true(outbox:drain { deadline = 30 })
    local all = letters()
    assert.equal(100, select(2, all:gsub("t", "")))
    assert.is_true(select(2, all:gsub("m", "")) <= 12)
    local since = 0 -- posts since the last marker but one
    for stretch in all:gmatch "t+" do
      assert.is_true(#stretch <= 20, all)
      since = math.max(since, #stretch)
    end
    assert.is_true(since >= 5)
    assert.equal(100, #place:arrived(100))
  end)

  it("by markers that come back half a minute late, from the first one on, and sends nothing again", function()
    confirm.marker_timeout = marker_timeout / SHORTER
    e:set { queue_delay = 30000 // SHORTER }
    local outbox <close> = open()
    fill(outbox, 1, 5)
    assert.is_true(outbox:drain { deadline = 90 })
    local stats = outbox:stats()
    assert.is_true(stats.confirm)
    assert.same({ 5, 0 }, { stats.sent.confirmed, stats.sent.again })
    assert.truthy(letters():find "^tmr+mr+$")
    assert.equal(5, #place:arrived(5))
  end)

  it("nothing that a crash loses, for any device of a file", function()
    local all = {}
    for n = 1, 2 do
      local its_token = n == 1 and token or e:create_device {}
      local device = n == 1 and dev or tb.device { url = e.url, token = its_token }
      all[n] = { token = its_token, device = device,
        outbox = assert(device:outbox { path = place.path, name = "device " .. n, batch_records = 2 }) }
      tb.spawn(function() all[n].outbox:run() end)
    end
    local failed
    tb.spawn(function()
      local ok, said = pcall(function()
        for n = 1, 60 do
          e:set { queue_delay = n % 20 >= 10 and n % 20 <= 15 and 1e9 or 0 }
          fill(all[1].outbox, n, n)
          fill(all[2].outbox, n, n)
          if n % 20 == 15 then
            for _, one in ipairs(all) do await(function() return one.outbox:stats().unconfirmed > 0 end) end
            e:crash()
          end
        end
        await(function() return all[1].outbox:stats().records + all[2].outbox:stats().records == 0 end)
      end)
      failed = not ok and said
      for _, one in ipairs(all) do
        one.outbox:close()
        one.device:close()
      end
    end)
    tb.run()
    assert.is_false(failed)
    for n, one in ipairs(all) do
      local device <close> = tb.device { url = e.url, token = one.token }
      local outbox <close> = assert(device:outbox { path = place.path, name = "device " .. n })
      assert.is_true(outbox:drain { deadline = 20 })
      local seen, arrived = {}, place:arrived(60, one.token)
      for _, value in ipairs(arrived) do seen[value] = true end
      for value = 1, 60 do assert.is_true(seen[value], value .. " is lost") end
    end
  end)

  it("for each device of a file by a marker of its own", function()
    local other_token = e:create_device {}
    local other <close> = tb.device { url = e.url, token = other_token }
    local first <close> = open { name = "one" }
    local second <close> = assert(other:outbox { path = place.path, name = "other" })
    fill(first, 1, 3)
    fill(second, 4, 6)
    assert.is_true(first:drain { deadline = 10 })
    assert.equal(3, second:stats().records)
    assert.is_true(second:drain { deadline = 10 })
    assert.not_equal(e:attributes(token, "client").outbox_marker.value,
      e:attributes(other_token, "client").outbox_marker.value)
  end)

  it("within budgets, which markers and reads count towards", function()
    e:set { rate_limits = { messages = "5:1", telemetry_messages = "5:1" } }
    local outbox <close> = open { messages = "5:1", batch_records = 1 }
    fill(outbox, 1, 12)
    assert.is_true(outbox:drain { deadline = 30 })
    local list = e:requests()
    assert.is_true(#list >= 12 + 4)
    for i, request in ipairs(list) do
      assert.equal(200, request.status)
      if i > 5 then assert.is_true(request.at - list[i - 5].at > 0.9) end
    end
  end)

  -- A limit of requests a second for posts, markers and reads alike.
  for what, limit in pairs {
    ["that a proxy limits by 429"] = { status = 429, body = "<html>Too Many Requests</html>", again = 0 },
    ["that a proxy limits by 503"] = { status = 503, body = "<html>Service Unavailable</html>", again = 100 },
    ["for which the server has no words"] = { status = 500, body = "", again = 100 },
  } do
    it("at a rate " .. what .. ", and takes that for no restart", function()
      sender.first_pause = 0.2
      e:set { queue_delay = 20 }
      local outbox <close> = open { batch_records = 10 }
      fill(outbox, 1, 400)
      e:fault { how = "status", status = limit.status, body = limit.body, rate = 20, burst = 5 }
      assert.is_true(outbox:drain { deadline = 150 }) -- a record that comes in doubt may wait for a minute
      local stats = outbox:stats()
      assert.is_true(stats.confirm)
      assert.equal(400, stats.sent.confirmed)
      assert.is_true(stats.sent.again <= limit.again, stats.sent.again)
      assert.equal(400, #place:arrived(400))
    end)
  end

  it("through a 500 without words that comes and goes, for posts and markers alike", function()
    local outbox = open { batch_records = 1 }
    fill(outbox, 1, 300)
    local refused = 0
    while_running(outbox, function()
      math.randomseed(7)
      while refused < 8 and outbox:stats().confirm == true do
        e:fault { how = "status", status = 500, body = "" }
        tb.sleep(0.1 * math.random())
        e:clear_faults()
        tb.sleep(0.1 * math.random())
        refused = 0
        for _, request in ipairs(e:requests()) do
          local is_marker = request.target:find "/attributes"
          if is_marker and request.status == 500 then refused = refused + 1 end
        end
      end
      assert.is_true(outbox:stats().confirm)
    end)
    math.randomseed(tb.now())
  end)

  it("nothing of the time before a restart that is hidden behind a limit's pages", function()
    local page = { how = "status", status = 429, body = "<html>Too Many Requests</html>", close = true }
    page.path = "/attributes"
    e:fault(page)
    e:set { queue_delay = 1e9 }
    local outbox <close> = open()
    fill(outbox, 1, 5)
    local sending = tb.spawn(function() return outbox:drain { deadline = 40 } end)
    await(function() return outbox:stats().unconfirmed == 5 and letters():find "m" end)
    page.path = nil
    e:fault(page)
    e:crash()
    e:set { queue_delay = 0 }
    local back_at = tb.now() + 10500
    await(function() return tb.now() > back_at end, 20)
    assert.equal(5, outbox:stats().unconfirmed) -- so far nothing was a sign
    e:clear_faults()
    tb.run()
    assert.is_true(sending:done())
    assert.equal(5, #place:arrived(5))
    assert.equal(5, outbox:stats().sent.again)
  end)

  it("as it did without, where the server keeps no client attributes, and says so", function()
    confirm.marker_timeout = 0.3
    e:set { keeps_attributes = false }
    local outbox <close> = open()
    fill(outbox, 1, 5)
    assert.is_true(outbox:drain { deadline = 20 })
    assert.truthy(outbox:stats().confirm:find "does not keep client attributes")
    assert.equal(0, outbox:stats().bytes)
    e:clear()
    fill(outbox, 6, 6)
    assert.is_true(outbox:drain { deadline = 20 })
    assert.equal("t", letters())
    assert.equal(6, #place:arrived(6))
    assert.equal("Lua warning: thingsboard: outbox: the server does not keep client attributes, by which it would show "
      .. "what it has stored; what is sent is not confirmed any more\ntrue\tnil\n", place:run [[
        warn "@on"
        require "thingsboard.outbox.confirm".marker_timeout = 0.05
        local outbox <close> = assert(dev:outbox { path = path .. 2 })
        assert(outbox:put { m = 1 })
        print(outbox:drain { deadline = 20 })
      ]])
  end)

  it("by one attribute for two files of a device, drained by two processes at once, and says so", function()
    local script = [[
      warn "@on"
      local outbox = assert(dev:outbox { path = path .. N, batch_records = 10 })
      for n = 1, 400 do assert(outbox:put { [N] = n }) end
      local ok, err = outbox:drain { deadline = 40 }
      local stats = outbox:stats()
      print(ok, err, stats.confirm, stats.sent.confirmed, stats.sent.again)
    ]]
    e:set { queue_delay = 300 }
    local said, began = {}, tb.now()
    for n = 1, 2 do
      local name = place.directory .. "/script" .. n
      local file <close> = assert(io.open(name, "w"))
      file:write(("local tb = require 'thingsboard'; tb.clock(true); local path, N = %q, '%d'\n"):format(place.path, n),
        ("local dev = tb.device { url = %q, token = %q }\n"):format(e.url, token), script)
      said[n] = io.popen("lua5.4 " .. name .. " 2>&1")
    end
    for n = 1, 2 do
      local pipe <close> = said[n]
      said[n] = pipe:read "a"
      assert.truthy(said[n]:find "true\tnil\ttrue\t400\t0\n", said[n])
    end
    assert.is_true(tb.now() - began < 30000)
    local told = said[1] .. said[2]
    assert.truthy(told:find("Lua warning: thingsboard: outbox: somebody else writes the client attribute outbox_marker "
      .. "of this device, which slows both down; give each outbox a 'confirm_key' of its own\n", 1, true), told)
  end)

  it("again once the server shows markers that were given up, at the next try or in the next process", function()
    local try_after <const> = confirm.try_after
    confirm.marker_timeout, confirm.try_after = 0.3, 0.1
    e:set { keeps_attributes = false }
    local outbox = open()
    fill(outbox, 1, 5)
    assert.is_true(outbox:drain { deadline = 20 })
    tb.sleep(0.2)
    e:clear()
    fill(outbox, 6, 6)
    assert.is_true(outbox:drain { deadline = 20 }) -- tried, and given up at once
    assert.equal("tmrp", letters())
    assert.truthy(outbox:stats().confirm:find "does not keep")
    outbox:close()
    outbox = open()
    e:clear()
    fill(outbox, 7, 7)
    assert.is_true(outbox:drain { deadline = 20 }) -- likewise
    assert.equal("tmrp", letters())
    e:set { keeps_attributes = true }
    tb.sleep(0.2)
    fill(outbox, 8, 8)
    assert.is_true(outbox:drain { deadline = 20 })
    assert.is_true(outbox:stats().confirm)
    assert.equal(1, outbox:stats().sent.confirmed)
    confirm.try_after = try_after
  end)

  it("again, where the server kept none for long and shows markers late, in the process after the next", function()
    confirm.marker_timeout = 0.1
    local outbox = open { batch_records = 1 }
    fill(outbox, 1, 1)
    assert.is_true(outbox:drain { deadline = 20 })
    e:set { keeps_attributes = false }
    fill(outbox, 2, 3)
    assert.is_true(outbox:drain { deadline = 30 })
    assert.truthy(outbox:stats().confirm:find "does not keep")
    outbox:close()
    local before = e:attributes(token, "client").outbox_marker.value
    e:set { keeps_attributes = true, queue_delay = 1500 }
    outbox = open()
    e:clear()
    fill(outbox, 4, 4)
    assert.is_true(outbox:drain { deadline = 20 })
    assert.equal("tmrp", letters())
    assert.truthy(outbox:stats().confirm:find "does not keep")
    outbox:close()
    await(function() return e:attributes(token, "client").outbox_marker.value ~= before end)
    e:set { queue_delay = 20 }
    outbox = open()
    fill(outbox, 5, 5)
    assert.is_true(outbox:drain { deadline = 20 })
    assert.is_true(outbox:stats().confirm)
    assert.equal(1, outbox:stats().sent.confirmed)
  end)

  it("as it did without, where no process lives long enough to know that the server keeps none", function()
    confirm.marker_timeout = 0.5
    e:set { keeps_attributes = false }
    fill(open(), 1, 5)
    for run = 1, 10 do
      dev:close()
      dev = tb.device { url = e.url, token = token }
      local outbox <close> = open()
      if outbox:drain { deadline = 0.3 } then break end
      assert.is_true(run < 10)
    end
    local outbox <close> = open()
    assert.equal(0, outbox:stats().bytes)
  end)

  for how, fault in pairs {
    ["posted"] = { method = "POST", path = "/attributes$" }, ["read"] = { method = "GET", path = "clientKeys=outbox" },
  } do
    it("as it did without, where markers cannot be " .. how, function()
      fault.how, fault.status, fault.body = "status", 403, "<html>no</html>"
      e:fault(fault)
      local outbox <close> = open()
      fill(outbox, 1, 5)
      assert.is_true(outbox:drain { deadline = 30 })
      assert.truthy(outbox:stats().confirm:find "somebody on the way answers")
      assert.equal(5, #place:arrived(5))
    end)
  end

  it("as it did without only once the server has said that it takes the posts, however often it is asked", function()
    confirm.marker_timeout = 0.3
    e:set { keeps_attributes = false }
    local outbox <close> = open()
    fill(outbox, 1, 5)
    local miss <const> = outbox.confirm.miss
    function outbox.confirm.miss(self)
      miss(self)
      if self.suspicion then e:fault { path = token .. "/telemetry$", how = "close", count = 2 } end
    end
    assert.is_true(outbox:drain { deadline = 20 })
    assert.truthy(outbox:stats().confirm:find "does not keep client attributes")
    assert.equal(3, select(2, letters():gsub("p", "")), letters())
  end)

  it("nothing where somebody else answers all posts with an empty 200", function()
    confirm.marker_timeout = 0.1
    local outbox <close> = open()
    fill(outbox, 1, 5)
    local found
    dev:listen(function(_, err)
      found = found or err and err.message:find("the answer of an empty post is a 200", 1, true)
    end)
    e:fault { method = "POST", path = token, how = "status", status = 200, body = "" }
    e:fault { method = "GET", path = token, how = "status", status = 200, body = "{}" }
    local deadline = tb.now() + 20000
    repeat assert.is_nil((outbox:drain { deadline = 0.5 })) until found or tb.now() > deadline
    assert.truthy(found)
    e:clear_faults()
    confirm.marker_timeout = 1
    assert.is_true(outbox:drain { deadline = 20 })
    assert.is_true(outbox:stats().confirm)
    assert.equal(5, #place:arrived(5))
  end)

  for what, fault in pairs {
    ["with a type"] = { how = "status", status = 200, headers = { ["Content-Type"] = "text/plain" } },
    ["of a proxy's"] = { how = "raw", raw = "HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: " ..
      "Thu, 01 Jan 2026 00:00:00 GMT\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" },
  } do
    it("nothing that somebody else has answered by an empty 200 " .. what .. ", though the markers pass", function()
      fault.method, fault.path, fault.count = "POST", token .. "/telemetry$", 2
      e:fault(fault)
      local outbox <close> = open { batch_records = 1 }
      fill(outbox, 1, 5)
      assert.is_true(outbox:drain { deadline = 20 })
      assert.same({ 1, 2, 3, 4, 5 }, place:arrived(5))
      assert.equal(5, outbox:stats().sent.confirmed)
    end)
  end

  it("nothing that somebody else has answered so, again and again", function()
    e:fault { method = "POST", path = token .. "/telemetry$", how = "status", status = 200, share = 0.4,
      headers = { ["Content-Type"] = "text/plain" } }
    local outbox <close> = open { batch_records = 1 }
    fill(outbox, 1, 40)
    assert.is_true(outbox:drain { deadline = 30 })
    assert.equal(40, #place:arrived(40))
    assert.equal(40, outbox:stats().sent.confirmed)
    assert.is_true(outbox:stats().confirm)
  end)

  it("what a proxy changes the 200s of, if it does so to all", function()
    e:fault { method = "POST", path = token .. "/telemetry$", how = "status", status = 200, handled = true,
      headers = { ["Content-Type"] = "text/plain" } }
    local outbox <close> = open()
    fill(outbox, 1, 5)
    assert.is_true(outbox:drain { deadline = 20 })
    assert.equal(25, outbox:stats().sent.again)
    fill(outbox, 6, 10)
    assert.is_true(outbox:drain { deadline = 20 })
    assert.equal(10, outbox:stats().sent.confirmed)
    assert.equal(25, outbox:stats().sent.again)
    assert.is_true(outbox:stats().confirm)
  end)

  it("as it did without, where the server keeps no more client attributes and shows the last it has kept", function()
    confirm.marker_timeout = 0.1
    local outbox <close> = open { batch_records = 1 }
    fill(outbox, 1, 1)
    assert.is_true(outbox:drain { deadline = 20 })
    e:set { keeps_attributes = false }
    fill(outbox, 2, 40)
    assert.is_true(outbox:drain { deadline = 30 })
    assert.truthy(outbox:stats().confirm:find "does not keep")
    assert.equal(40, #place:arrived(40))
  end)

  it("by a marker that comes late, when one came before", function()
    local outbox <close> = open()
    fill(outbox, 1, 1)
    assert.is_true(outbox:drain { deadline = 20 })
    e:set { queue_delay = 600 }
    fill(outbox, 2, 5)
    assert.is_true(outbox:drain { deadline = 20 })
    assert.is_true(outbox:stats().confirm)
    assert.equal(0, outbox:stats().sent.again)
  end)

  it("nothing more where the server does not know the device any more, and says so", function()
    local outbox <close> = open()
    fill(outbox, 1, 1)
    for _, path in ipairs { "/attributes$", "clientKeys=outbox", "/telemetry$" } do
      e:fault { path = path, how = "status", status = 401 }
      if path == "/telemetry$" then outbox.confirm.suspicion = "as where markers do not come back" end
      local ok, err = outbox:drain { deadline = 10 }
      assert.same({ nil, 401 }, { ok, err.status })
      assert.equal(err, outbox:stats().err)
      e:clear_faults()
    end
    local refused = 0
    for _, request in ipairs(e:requests()) do refused = refused + (request.status == 401 and 1 or 0) end
    assert.equal(3, refused) -- each of them once
    outbox.confirm.suspicion = nil
    assert.is_true(outbox:drain { deadline = 10 })
    assert.is_nil(outbox:stats().err)
    assert.equal(1, outbox:stats().sent.confirmed)
  end)

  -- Records, attributes and restarts in an order that the seed decides. The server stores with a delay that changes.
  local function crash(seed)
    local polls = seed % 4 == 0
    math.randomseed(seed)
    token = e:create_device {}
    local path = place.path .. seed
    local device = tb.device { url = e.url, token = token }
    local outbox = assert(device:outbox { path = path, batch_records = math.random(3), sync_every = 60 })
    local n, last = 0, nil
    e:set { queue_delay = math.random() < 0.5 and 0 or math.random(30) }
    if polls then tb.spawn(function() for _ in device:rpc_requests() do end end) end
    while_running(outbox, function()
      for _ = 1, math.random(25) do
        local what = math.random(10)
        if what <= 5 then
          n = n + 1
          assert(outbox:put { n = n })
        elseif what == 6 then
          last = (last or 0) + 1
          assert(outbox:attributes { last = last })
        elseif what == 7 then
          e:crash()
        elseif what == 8 then
          e:set { queue_delay = math.random() < 0.5 and 0 or math.random(30) }
        else
          tb.sleep(math.random() * 0.01)
        end
      end
      if polls then
        outbox:close()
        device:close()
      end
    end)
    if polls then device = tb.device { url = e.url, token = token } end
    -- What is confirmed by now must be stored, and what is not must be in the file.
    outbox = assert(device:outbox { path = path })
    local stored = {}
    if math.random() < 0.5 then e:crash() end
    e:set { queue_delay = 0 }
    assert(outbox:drain { deadline = 20 })
    assert(outbox:close())
    device:close()
    for _, entry in ipairs(e:series(token).n or {}) do stored[tonumber(entry.value)] = true end
    for i = 1, n do assert(stored[i], ("record %d of %d is lost"):format(i, n)) end
    local kept = e:attributes(token, "client").last
    if last then assert(kept and tonumber(kept.value) == last, "an attribute is lost") end
    os.remove(path)
  end

  it("nothing that a crash loses, whatever comes between", function()
    for seed = tonumber(os.getenv "THINGSBOARD_SEED") or 1, CRASHES do
      local ok, said = pcall(crash, seed)
      if not ok then error(("seed %d: %s"):format(seed, tostring(said))) end
    end
  end)

  it("nothing across a sleep of the machine, in which the server may have been restarted", function()
    local boot <const> = place.directory .. "/boot"
    local said = place:run(([[
      local function set(boot) io.open(%q, "w"):write(boot):close() end
      set(0)
      local outbox = assert(dev:outbox { path = path })
      tb.spawn(function() outbox:run() end)
      assert(outbox:put { n = 1 })
      while outbox:stats().sent.records < 1 do tb.sleep(0.01) end
      local before <const> = outbox.confirm.breaks
      set(-60000) -- the clock of the time since the system's start goes on in sleep, the other one does not
      assert(outbox:put { n = 2 })
      while outbox:stats().sent.records < 2 do tb.sleep(0.01) end
      print(outbox.confirm.breaks > before)
      os.exit(true, true)
    ]]):format(boot), { LD_PRELOAD = library.preload "clock", CLOCK_BOOT = boot })
    assert.equal("true\n", said)
  end)
end)

describe("the chain of exchanges", function()
  local self

  before_each(function()
    self = confirm.new(true)
    self:heard(200, true, 0)
  end)

  local function send(n, now) self:passed({ first = n, last = n, records = 1 }, 30, now or 0) end

  -- Posts a marker and reads it.
  local function mark(now)
    self:next_value()
    self:marked(now, self.breaks)
    return self:read(now, self.outstanding)
  end

  it("confirms what two markers in a row stand behind", function()
    send(1)
    assert.same({}, mark(1))
    send(2)
    assert.same({ { first = 1, last = 1, records = 1 } }, mark(2))
    assert.equal(1, self:count())
    assert.same({ { first = 2, last = 2, records = 1 } }, mark(3))
    assert.equal(0, self:count())
  end)

  it("posts the second marker after as long again as the first one took, if that was over 2 seconds", function()
    for _, took in ipairs { 2, 3, 100 } do
      self = confirm.new(true)
      send(1)
      self:next_value()
      self:marked(0, self.breaks)
      self:read(took, self.outstanding)
      local pause = took > 2 and math.min(took, 60) or 0
      if pause > 0 then assert.same({ "wait", took + pause }, { self:next(took, "final") }) end
      assert.equal("mark", self:next(took + pause, "final"))
    end
  end)

  it("has markers that no other process has had, though the script seeds the random numbers", function()
    math.randomseed(1)
    local other = confirm.new(true)
    tb.sleep(0.005)
    math.randomseed(1)
    assert.not_equal(other:next_value(), confirm.new(true):next_value())
    math.randomseed(tb.now())
  end)

  it("breaks when more than ten seconds pass between two that succeed", function()
    send(1)
    self:heard(200, true, 10)
    assert.equal(0, self.breaks)
    self:heard(408, true, 20.5)
    assert.equal(1, self.breaks)
    assert.same({ { first = 1, last = 1, records = 1 } }, self:take_stale())
    send(2)
    mark(21)
    assert.same({ { first = 2, last = 2, records = 1 } }, mark(21))
  end)

  it("breaks when an exchange fails, and that is urgent", function()
    local now = 1
    for _, status in ipairs { 502, 503, 504, "foreign", "none" } do
      send(1)
      self:heard(math.type(status) and status, status ~= "none", now)
      assert.equal("again", (self:next(now, "more")))
      assert.equal(1, #self:take_stale())
      now = now + 11
    end
    self:heard(200, true, now)
    self:take_stale()
    send(1)
    for _, status in ipairs { 200, 400, 404, 408, 429, 500, 501 } do self:heard(status, status, now) end
    self:heard(nil, 429, now) -- somebody's limit
    assert.is_nil((self:next(now, "more")))
  end)

  it("breaks once for what a gateway answers again and again, and by each gap and connection that breaks", function()
    self:heard(502, true, 1)
    local breaks = self.breaks
    for now = 2, 60, 2 do
      self:heard(({ 502, 503, 504 })[now % 3 + 1], true, now)
      self:heard(nil, true, now) -- somebody else
      self:heard(200, true, now + 1)
    end
    assert.equal(breaks, self.breaks)
    self:heard(nil, false, 62)
    self:heard(nil, false, 62)
    assert.equal(breaks + 2, self.breaks)
    self:heard(502, true, 65)
    self:heard(200, true, 72) -- it was away for longer than it may
    assert.equal(breaks + 3, self.breaks)
    self:heard(502, true, 76)
    assert.equal(breaks + 4, self.breaks)
    self:heard(502, true, 86) -- after ten seconds, and no more
    assert.equal(breaks + 4, self.breaks)
  end)

  it("breaks when connections were lost", function()
    self:lost_connections(7) -- before the first exchange
    send(1)
    self:lost_connections(7)
    assert.equal(0, self.breaks)
    self:lost_connections(9)
    assert.equal(1, self.breaks)
    assert.is_false(self.at_once)
    assert.equal(1, #self:take_stale())
    self:lost_connections(9)
    assert.equal(1, self.breaks)
  end)

  it("is not broken by a server or proxy that always closes without notice", function()
    local lost = 0
    local function lose()
      lost = lost + 1
      self:lost_connections(lost)
    end
    for _ = 1, 6 do lose() end
    assert.equal(5, self.breaks)
    send(1)
    mark(1)
    assert.equal(1, #mark(1)) -- from here on they are counted anew
    for _ = 1, 50 do lose() end
    local breaks = self.breaks
    assert.equal(15, breaks)
    send(1)
    lose()
    mark(1)
    lose()
    assert.equal(1, #mark(1))
    for _ = 1, 50 do lose() end
    assert.equal(breaks + 1, self.breaks)
    self = confirm.new(true)
    for _ = 1, 30 do self:lost_connections(lost) end -- no more were lost
    for _ = 1, 50 do lose() end
    assert.equal(10, self.breaks)
  end)

  it("does not hold what was in flight when it broke for unbroken", function()
    send(1)
    local breaks = self.breaks
    self:heard(nil, false, 1)
    self:take_stale()
    self:marked(1, breaks)
    assert.is_nil(self.outstanding)
  end)

  it("is not given up for a portal's page that comes in place of some markers", function()
    send(1)
    mark(1)
    local now, waits = 1, {}
    for n = 2, 10 do
      for _ = 1, 30 do send(n) end
      self:refuse(now)
      assert.same({}, self:take_stale())
      waits[#waits + 1] = self.mark_at - now
      now = self.mark_at
    end
    assert.same({ 1, 2, 4, 8, 16, 32, 60, 60, 60 }, waits)
    for _ = 1, 30 do send(11) end -- no more is in flight than with markers
    assert.equal("wait", (self:next(now - 1, "more")))
    assert.is_true(self.on)
    assert.same({ { first = 1, last = 1, records = 1 } }, mark(now))
    local confirmed = 0 -- all of them, for no refusal is a sign of a restart
    for _, item in ipairs(mark(now)) do confirmed = confirmed + item.records end
    assert.equal(9 * 30 + 30, confirmed)
    send(12)
    self:refuse(now)
    assert.equal(1, self.mark_at - now)
  end)

  it("is given up when markers are refused between posts that pass, and not when posts are refused as well", function()
    local function refused_between(before, after, cause)
      if before then send(1) else self:failed() end
      self:refuse(0, cause)
      if after then send(1) else self:failed() end
      return (self:next(0, "more")) == "prove"
    end
    for _ = 1, 100 do
      assert.is_false(refused_between(true, true))
      assert.is_false(refused_between(true, false))
      assert.is_false(refused_between(false, true))
    end
    for _ = 1, 3 do assert.is_false(refused_between(true, true)) end
    assert.is_false(refused_between(true, false)) -- one less
    for _ = 1, 2 do assert.is_false(refused_between(true, true)) end
    assert.is_true(refused_between(true, true))
    self:go_on()
    assert.equal("again", (self:next(0, "more")))
    self:take_stale()
    for n = 1, 2 do
      for _ = 1, 4 do assert.is_false(refused_between(true, true, "foreign")) end
      assert.is_true(refused_between(true, true, "foreign"))
      if n == 1 then self:go_on() end -- it was somebody else who took the posts
    end
    self:take_stale()
    send(1)
    assert.is_true(self.on)
    local sent, is_new = self:give_up(0)
    assert.same({ true, true, false }, { sent[1] ~= nil, is_new, self.on })
    assert.truthy(self.problem:find "somebody on the way answers")
    assert.is_nil((self:next(299, "more")))
    assert.is_false(self.on)
    self:next(300, "more") -- somebody else may be gone by then
    assert.is_true(self.on)
    assert.is_true(refused_between(true, true))
    assert.is_false(select(2, self:give_up(300)))
    self:next(3899, "more")
    assert.is_false(self.on)
    self:next(4000, "more")
    assert.is_true(self.on)
  end)

  it("has what is sent go again only after three refusals that may be accidents", function()
    self:passed({ first = 1, last = 1, records = 1 }, 10, 0)
    for n = 1, 3 do
      self:refuse(n, "unclear")
      assert.is_nil(self.stale[1])
      assert.is_true(self.mark_at > n)
    end
    self:refuse(4, "unclear")
    assert.equal(1, self.stale[1].records)
  end)

  it("has what is sent go again where nothing else would show whether posts pass", function()
    send(1)
    self:refuse(0)
    assert.is_nil((self:next(0.5, "more")))
    assert.same({ "wait", 1 }, { self:next(0.5, "final") })
    self:refuse(1)
    assert.equal("again", (self:next(1, "more")))
    assert.equal(1, #self:take_stale())
    send(1)
    assert.equal("mark", (self:next(1, "final")))
  end)

  it("has a marker posted once more when somebody else has written the attribute, and takes either for it", function()
    send(1)
    assert.same({}, mark(1))
    self:next_value()
    self:marked(2, self.breaks)
    local first = self.outstanding
    assert.same({}, self:read(2, 77)) -- what was there before
    assert.equal("wait", (self:next(2, "final")))
    assert.same({}, self:read(3, 78))
    assert.equal("mark", (self:next(3, "final")))
    send(2)
    self:next_value()
    self:marked(3, self.breaks)
    assert.same({}, self:read(3, 79))
    assert.same({ { first = 1, last = 1, records = 1 } }, self:read(4, first + 1))
    assert.same({}, mark(5)) -- the first marker behind the second record
    assert.same({ { first = 2, last = 2, records = 1 } }, mark(6))
  end)

  it("says once that somebody else writes the attribute, and never that the server keeps none", function()
    send(1)
    self:next_value()
    self:marked(0, self.breaks)
    local told = 0
    for now = 1, 5000 do
      if select(2, self:read(now, now)) then told = told + 1 end
      if (self:next(now, "final")) == "missed" then
        self:miss()
        assert.is_nil(self.suspicion)
        self:take_stale()
        send(1)
        self:next_value()
        self:marked(now, self.breaks)
      end
    end
    assert.equal(1, told)
    assert.is_true(self.on)
    for now = 5001, 8000 do
      self:read(now, 5000)
      if (self:next(now, "final")) == "missed" then self:miss() end
      if self.suspicion then break end
      if not self.outstanding then self:marked(now, self.breaks) end
    end
    assert.truthy(self.suspicion)
  end)

  it("posts a marker again ever later while somebody else writes the attribute, never for a table there", function()
    local function marks_in_a_minute(shown)
      send(1)
      self:next_value()
      self:marked(0, self.breaks)
      local now, marks = 0, 0
      while now < 60 do
        local what, at = self:next(now, "final")
        if what == "mark" then
          self:next_value()
          self:marked(now, self.breaks)
          marks = marks + 1
        elseif what == "read" then
          self:read(now, shown())
        end
        now = what == "wait" and at or now + 0.001
      end
      return marks
    end
    assert.equal(0, marks_in_a_minute(function() return { 77 } end))
    local value = 0
    local marks = marks_in_a_minute(function()
      value = value + 1
      return value
    end)
    assert.is_true(marks > 30 and marks < 300, marks)
  end)

  it("asks for a marker after ten posts in a row or 2 MiB, and waits for it after as many more", function()
    for n = 1, 9 do
      send(n)
      assert.is_nil((self:next(0, "more")))
    end
    assert.equal("wait", (self:next(0, "idle"))) -- the row has ended
    send(10)
    assert.is_nil((self:next(0, "more")))
    for n = 11, 18 do send(n) end
    assert.is_nil((self:next(0, "more")))
    send(19)
    assert.equal("mark", (self:next(0, "more")))
    mark(0)
    self:next_value()
    send(20)
    self:marked(0, self.breaks)
    self:read(0) -- in vain
    for n = 21, 29 do send(n) end
    assert.is_nil((self:next(0.01, "more"))) -- 20 posts are few enough, one more is not
    for n = 30, 39 do send(n) end
    assert.same({ "wait", 0.05 }, { self:next(0.01, "more") })
    self:read(0.05, self.outstanding)
    assert.equal("mark", (self:next(0.05, "more"))) -- the second one
    mark(0.05)
    for n = 40, 48 do send(n) end
    assert.is_nil((self:next(0.05, "more")))
    send(49)
    assert.equal("mark", (self:next(0.05, "more")))

    self = confirm.new(true)
    self:passed({ first = 1, last = 1, records = 1 }, (2 << 20) - 1, 0)
    assert.is_nil((self:next(0, "more")))
    assert.equal("wait", (self:next(0, "idle")))
    self:passed({ first = 2, last = 2, records = 1 }, 1, 0)
    assert.equal("mark", (self:next(0, "more")))
    assert.equal("mark", (self:next(0, "idle")))
    self:next_value()
    self:marked(0, self.breaks)
    self:read(0)
    self:passed({ first = 3, last = 3, records = 1 }, (2 << 20) - 1, 0)
    assert.is_nil((self:next(0.01, "more")))
    self:passed({ first = 4, last = 4, records = 1 }, 1, 0)
    assert.equal("wait", (self:next(0.01, "more")))
  end)

  it("takes four requests from a trickle's credit, of which each post adds a tenth, up to eight", function()
    local n = 0
    local function posts_until(wanted)
      local from = n
      repeat
        n = n + 1
        send(n, 0)
        local what = self:next(0, "idle")
      until what ~= "wait"
      assert.equal(wanted, (self:next(0, "idle")))
      return (n - from) // 10 -- for a sum of tenths may be a bit more or less
    end
    self.marked_at = 0 -- or the first would be due without any
    assert.equal(4, posts_until "mark")
    mark(0)
    assert.equal("mark", (self:next(0, "idle"))) -- the second one
    mark(0)
    assert.is_nil((self:next(0, "idle")))
    assert.equal(4, posts_until "mark")
    mark(0)
    mark(0)
    for _ = 1, 200 do
      n = n + 1
      send(n, 0)
    end
    for _ = 1, 4 do mark(0) end
    assert.equal(4, posts_until "mark")
    self:broke(false) -- and one more to send it again
    assert.equal(1, posts_until "again")
  end)

  it("reads a marker after 50 ms, and then ever later, up to a second", function()
    send(1)
    self:next_value()
    self:marked(0, self.breaks)
    local reads, now = {}, 0
    for n = 1, 8 do
      assert.equal("read", (self:next(now, "final")))
      reads[n] = math.floor(now * 1000 + 0.5)
      self:read(now)
      local what, at = self:next(now, "final")
      assert.equal("wait", what)
      now = at
    end
    assert.same({ 0, 50, 150, 350, 750, 1550, 2550, 3550 }, reads)
    assert.equal("read", (self:next(60, "final")))
    assert.equal("missed", (self:next(60.1, "final")))
  end)

  it("waits for a marker twice as long after each that is lost, until one comes back", function()
    local function lost_after(from)
      send(1)
      self:next_value()
      self:marked(from, self.breaks)
      local now = from
      repeat
        now = now + 10
        local what = self:next(now, "final")
        if what == "read" then self:read(now, now) end -- somebody else's: the server does keep attributes
      until what == "missed"
      self:miss()
      assert.equal("again", (self:next(now, "more")))
      self:take_stale()
      return now - from
    end
    local waits = {}
    for n = 1, 3 do waits[n] = lost_after(n * 1000) end
    send(1)
    mark(5000)
    waits[4] = lost_after(6000)
    assert.same({ 70, 130, 250, 70 }, waits)
  end)

  it("waits before it reads a marker again where that was refused", function()
    send(1)
    self:next_value()
    self:marked(0, self.breaks)
    self:refuse(0)
    assert.same({ "wait", 1 }, { self:next(0, "final") })
    self:broke(false)
    assert.same({ "wait", 1 }, { self:next(0.5, "final") }) -- what is to be sent again alike
    self:take_stale()
    assert.is_nil((self:next(0.5, "final")))
  end)

  it("takes an older marker of its own for nobody else's, and a later one for none that it has posted", function()
    send(1)
    self:next_value()
    self:marked(0, self.breaks)
    self:read(0)
    self:miss()
    self:take_stale()
    send(1)
    self:next_value()
    self:marked(1, self.breaks)
    self:read(1, 77)
    self:read(2, self.outstanding - 1)
    assert.equal("read", (self:next(9, "final")))
    self:read(9, self.value + 1)
    assert.truthy(self.outstanding)
    assert.equal("mark", (self:next(9, "final")))
  end)

  it("confirms what was answered like its markers, and anything only after five stretches without such", function()
    local n = 0
    local function stretch(...)
      for _, headers in ipairs { ... } do
        n = n + 1
        self:passed({ first = 2 * n, last = 2 * n, records = 1, headers = headers }, 30, 0)
      end
      self:passed({ versions = {}, attributes = 1, headers = 9 }, 30, 0)
      local confirmed
      for _ = 1, 2 do
        self:next_value()
        self:marked(0, self.breaks, 5)
        confirmed = self:read(0, self.outstanding)
      end
      assert.equal("again", (self:next(0, "more"))) -- the attributes at least
      return #confirmed, #self:take_stale() - 1
    end
    for _ = 1, 2 do
      for _ = 1, 3 do assert.same({ 0, 2 }, { stretch(6, 6) }) end
      assert.same({ 0, 0 }, { stretch() }) -- no records in it
      for _ = 1, 2 do assert.same({ 0, 1 }, { stretch(7) }) end
      for _ = 1, 2 do assert.same({ 1, 0 }, { stretch(6) }) end
      assert.same({ 2, 1 }, { stretch(5, 7, 5) })
    end
  end)

  it("posts no third marker for what trickles between two, but where nothing will come", function()
    for mode, markers in pairs { idle = 2, final = 3 } do
      self = confirm.new(true)
      send(1, 100)
      local count = 0
      while (self:next(105, mode)) == "mark" do
        count = count + 1
        mark(105)
        if count == 1 then send(2, 105) end
      end
      assert.equal(markers, count)
      assert.equal(mode == "idle" and 1 or 0, self:count())
    end
  end)

  -- Posts markers and reads them every second, until they are to be given up; returns when that is.
  local function given_up(shown)
    for now = 0, 10000 do
      if not self.outstanding then
        send(1)
        self:next_value()
        self:marked(now, self.breaks)
      end
      self:read(now, shown)
      if (self:next(now, "final")) == "missed" then
        self:miss()
        self:take_stale()
        if self.suspicion then return now end
      end
    end
  end

  it("is given up after two minutes where the server shows no marker, and after half an hour where it did", function()
    assert.equal(121, given_up())
    assert.equal("prove", (self:next(121, "final")))
    self:go_on()
    assert.equal(121, given_up()) -- as before
    self = confirm.new(true)
    send(1)
    mark(0)
    local at = given_up(self.seen)
    assert.is_true(at > 1860 and at < 1900, at)
    self:give_up(at)
    assert.same({ false, "the server does not keep client attributes, by which it would show what it has stored" },
      { self.on, self.problem })
    assert.is_nil((self:next(at + 3599, "final")))
    assert.is_false(self.on)
    self:next(at + 3600, "final")
    assert.is_true(self.on)
  end)

  it("is given up for what the last refusal was, and tried again sooner where somebody else answers", function()
    for cause, problem in pairs {
      foreign = "somebody on the way answers where the server would show what it has stored, by a client attribute",
      [""] = "the server refuses the client attribute by which it would show what it has stored",
    } do
      self = confirm.new(true)
      while not self.suspicion do
        send(1)
        self:refuse(0, cause)
      end
      self:give_up(100)
      assert.equal(problem, self.problem)
      local after = cause == "foreign" and 300 or 3600
      self:next(99 + after, "final")
      assert.is_false(self.on)
      self:next(100 + after, "final")
      assert.is_true(self.on)
    end
  end)

  it("is said to have somebody else in it at the third value that is not its own", function()
    send(1)
    self:next_value()
    self:marked(0, self.breaks)
    local told
    for now = 1, 9 do
      if select(2, self:read(now, now)) then told = told or now end
    end
    assert.equal(4, told) -- the first may have been there before
  end)

  it("has what follows as one range, all else by itself, and counts what is behind each marker", function()
    for _, n in ipairs { 1, 2, 4 } do send(n) end
    self:passed({ versions = {}, attributes = 1 }, 30, 0)
    send(5)
    send(3)
    assert.equal(5, self:count())
    self:broke(false)
    assert.equal(5, self:count())
    assert.equal(1, self:forget(4, 4))
    assert.equal(4, self:count())
    assert.equal("again", (self:next(0, "final")))
    assert.same({ { first = 1, last = 2, records = 2 }, { first = 4, last = 4, records = 0 },
      { versions = {}, attributes = 1 }, { first = 5, last = 5, records = 1 }, { first = 3, last = 3, records = 1 } },
      self:take_stale())
    send(1)
    mark(0)
    send(2)
    self:next_value()
    self:marked(0, self.breaks)
    send(3)
    send(5)
    send(7)
    assert.equal(5, self:count())
    self:broke(false)
    assert.same({ { first = 1, last = 3, records = 3 }, { first = 5, last = 5, records = 1 },
      { first = 7, last = 7, records = 1 } }, self:take_stale())
  end)

  it("forgets what is dropped", function()
    for n = 1, 5 do send(n) end
    local function none() return 0 end
    assert.equal(3, self:forget(2, 4, none))
    assert.equal(2, self:count())
    assert.equal(2, self:forget(0, 9, none))
    assert.equal(0, self:count())
    self:passed({ first = 10, last = 19, records = 4 }, 30, 0) -- the others were dropped before
    assert.equal(1, self:forget(0, 14, function(first, last)
      assert.same({ 10, 19 }, { first, last })
      return 3
    end))
    assert.equal(3, self:count())
    assert.equal(0, self:forget(20, 30, none))
    self:passed({ first = 21, last = 24, records = 3 }, 30, 0)
    assert.equal(1, self:forget(21, 22, function() return 2 end))
    for _, n in ipairs { 30, 32, 34 } do send(n) end
    assert.equal(1, self:forget(25, 30, none))
    assert.equal(2, self:forget(32, 34, none))
  end)

  it("has what was sent before a pause confirmed, once in a quarter of an hour", function()
    local function next_at(now)
      local what, at = self:next(now, "idle")
      return what == "wait" and at or what
    end
    send(1, 100)
    assert.equal(105, next_at(100))
    assert.equal("mark", next_at(105))
    mark(105)
    assert.equal("mark", next_at(105)) -- the second one
    assert.equal(1, #mark(105))
    assert.is_nil((self:next(106, "idle")))
    send(2, 110)
    assert.equal(1005, next_at(110))
    assert.equal("mark", next_at(1005))
  end)
end)
