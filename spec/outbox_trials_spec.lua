-- What an outbox finds to be refused is known to the next process, which goes on with its trials.
local command = require "spec.support.command"
local doubts = require "thingsboard.outbox.doubts"
local emulator = require "spec.support.emulator"
local library = require "spec.support.library"
local recording = require "spec.support.recording"
local scratch = require "spec.support.scratch"
local sender = require "thingsboard.outbox.sender"
local spool = require "thingsboard.spool"
local tb = require "thingsboard"

-- What a script does that cron starts: it puts a record, and sends for a while. The trials take longer than that.
local SCRIPT = [[
  local doubts = require "thingsboard.outbox.doubts"
  doubts.waits = { 0.2, 0.2, 0.2, 1.5 }
  local outbox = assert(dev:outbox { path = path, confirm = false })
  if FIRST then
    for n = 1, 20 do assert(outbox:put { n = n, bad = n == 7 and "poison" or nil }) end
    assert(outbox:attributes { good = 1, bad = "poison" })
  end
  assert(outbox:put { n = 20 + RUN })
  outbox:drain { deadline = 0.9 }
  local stats = outbox:stats()
  print(stats.lost.rejected or 0, stats.in_doubt, stats.sent.posts)
  outbox:close()
]]

describe("what is in doubt", function()
  local e, place

  setup(function() e = emulator.start() end)
  teardown(function() e:stop() end)
  before_each(function()
    place = recording.start(e)
    e:clear()
  end)
  after_each(function() place:stop() end)

  it("is set aside though no process lives as long as its trials take, and holds up no other record", function()
    e:fault { request_body = "poison", how = "status", status = 400 }
    local rejected, runs
    for run = 1, 30 do
      local said = place:run(("local FIRST, RUN = %s, %d "):format(run == 1, run) .. SCRIPT)
      rejected = math.tointeger(tonumber(said:match "^%d+")) or error(said)
      runs = run
      if rejected == 2 then break end
    end
    assert.equal(2, rejected)
    assert.is_true(runs >= 2)
    assert.equal(20 + runs - 1, #place:arrived(20 + runs - 1)) -- but for the bad one
    local alone, together = 0, 0
    for _, request in ipairs(e:requests()) do
      if request.body and request.body:find("poison", 1, true) then
        if request.body:find '^{"ts":' then alone = alone + 1 end
        if request.body:find '^%[' then together = together + 1 end
      end
    end
    assert.is_true(alone <= 5 + runs, alone) -- once to find it, four trials, and one that each run's end may cut off
    assert.is_true(together <= 8, together) -- the first process has found it
    local outbox <close> = assert(place.dev:outbox { path = place.path })
    assert.equal(0, outbox:stats().in_doubt)
    assert.equal(1, #assert(outbox:rejected()))
  end)

  it("is noted every minute, for the process may be killed", function()
    e:fault { request_body = "poison", how = "status", status = 400 }
    local haste = command.write(place.directory .. "/haste", "100", "644")
    local said = place:run([[
      local outbox = assert(dev:outbox { path = path, confirm = false })
      local task = tb.spawn(function() outbox:run() end)
      assert(outbox:put { n = 1 })
      while outbox:stats().records > 0 do tb.sleep(1) end
      assert(outbox:put { bad = "poison" })
      while outbox:stats().in_doubt == 0 do tb.sleep(1) end
      local monotonic = require "thingsboard.core".monotonic
      local from, noted = monotonic(), nil
      repeat
        tb.sleep(5)
        noted = outbox.spool:query "SELECT count(*) FROM doubts"[1][1]
      until noted > 0 or monotonic() - from > 600
      print(noted)
      task:cancel()
    ]], { LD_PRELOAD = library.preload "haste", HASTE = haste })
    assert.equal("1\n", said)
  end)

  it("is forgotten where the record is gone: another one may get its number", function()
    local outbox = assert(place.dev:outbox { path = place.path })
    recording.fill(outbox, 1, 3)
    outbox:close()
    local store = spool.spool(place.path)
    assert(store:open())
    for _, id in ipairs { 1, 5 } do -- of the second record, and of one that is gone
      assert(store:query("INSERT INTO doubts SELECT number, ?, 1, 30, 3, 0, 60000, 0 FROM devices", id))
    end
    assert(store:query("INSERT INTO doubts SELECT number, ?, 1, 30, 3, 0, 60000, 0 FROM devices", '"gone"'))
    store:close()
    local dev <close> = tb.device { url = e.url, token = place.token }
    outbox = assert(dev:outbox { path = place.path })
    assert.equal(1, outbox:stats().in_doubt)
    recording.fill(outbox, 4, 8)
    assert.equal(1, outbox:stats().in_doubt)
    outbox:close()
    store = spool.spool(place.path)
    assert(store:open())
    assert.same({ { 1 } }, store:query "SELECT id FROM doubts")
    store:close()
    outbox = assert(dev:outbox { path = place.path })
    assert.is_true(outbox:drain { deadline = 20 }) -- it passes
    assert.equal(8, #place:arrived(8))
    outbox:close()
    store = spool.spool(place.path)
    assert(store:open())
    assert.same({}, store:query "SELECT id FROM doubts")
    store:close()
    assert.same({ "outbox", "outbox-wal" }, scratch.files(place.directory))
  end)

  it("is no record that meets a limit, unless it does so three times in a row", function()
    local outbox <close> = assert(place.dev:outbox { path = place.path })
    local added, add = 0, outbox.doubts.add
    function outbox.doubts.add(...)
      added = added + 1
      return add(...)
    end
    for n = 1, 3 do
      assert(outbox:put { n = n })
      e:fault { path = "/telemetry$", how = "status", status = 429, count = n }
      assert.is_true(outbox:drain { deadline = 20 })
      assert.equal(n // 3, added)
    end
  end)

  it("makes the sender slower where its sample is refused, which tells of a limit", function()
    local outbox <close> = assert(place.dev:outbox { path = place.path })
    e:fault { request_body = "poison", how = "status", status = 400 }
    assert(outbox:put { n = "poison" })
    for n = 1, 3 do assert(outbox:put { n = n }) end
    local deadline = tb.now() + 20000
    repeat outbox:drain { deadline = 0.5 } until outbox:stats().sent.records == 3 or tb.now() > deadline
    assert.same({ 1, 3, math.huge }, { outbox:stats().in_doubt, outbox:stats().sent.records, outbox.pace.rate })
    e:fault { path = "/telemetry$", how = "status", status = 500 }
    repeat outbox:drain { deadline = 0.5 } until outbox.pace.rate < math.huge or tb.now() > deadline
    assert.is_true(outbox.pace.rate < math.huge)
  end)

  it("is proved in an outbox that is full of nothing else, and refuses more", function()
    local waits <const> = doubts.waits
    local first_pause <const>, longest_pause <const> = sender.first_pause, sender.longest_pause
    doubts.waits, sender.first_pause, sender.longest_pause = { 0.02, 0.02, 0.02, 0.1 }, 0.02, 0.04
    local outbox <close> = assert(place.dev:outbox { path = place.path, max_records = 3, when_full = "refuse" })
    e:fault { request_body = "poison", how = "status", status = 400 }
    for n = 1, 3 do assert(outbox:put { n = n, bad = "poison" }) end
    local ok, err = outbox:put { n = 4 }
    assert.same({ nil, "full" }, { ok, err.kind })
    local deadline = tb.now() + 20000
    repeat outbox:drain { deadline = 0.5 } until outbox:stats().lost.rejected == 3 or tb.now() > deadline
    doubts.waits, sender.first_pause, sender.longest_pause = waits, first_pause, longest_pause
    assert.equal(3, outbox:stats().lost.rejected)
    assert(outbox:put { n = 4 })
    assert.is_true(outbox:drain { deadline = 10 })
    assert.same({ 4 }, place:arrived(1))
    local samples = e:series(place.token).outbox_marker_sample
    assert.same({ 1, "0" }, { #samples, samples[1].value })
  end)

  it("is no record that has been dropped since", function()
    local outbox <close> = assert(place.dev:outbox { path = place.path })
    assert(outbox:put { n = 1 })
    e:fault { path = "/telemetry$", how = "status", status = 400 }
    assert.is_nil((outbox:drain { deadline = 0.5 }))
    assert.equal(1, outbox:stats().in_doubt)
    assert.is_true(outbox:drop_oldest())
    e:clear_faults()
    assert(outbox:put { n = 2 })
    assert.is_true(outbox:drain { deadline = 10 })
    assert.same({ 0, 0 }, { outbox:stats().in_doubt, outbox:stats().records })
    assert.same({ 2 }, place:arrived(1))
  end)

  it("is the last value of an attribute, and no later one", function()
    local outbox <close> = assert(place.dev:outbox { path = place.path })
    e:fault { request_body = "poison", how = "status", status = 400 }
    assert(outbox:attributes { a = "poison" })
    assert.is_nil((outbox:drain { deadline = 0.5 }))
    assert.equal(1, outbox:stats().in_doubt)
    assert(outbox:attributes { a = "good" })
    assert.equal(0, outbox:stats().in_doubt)
    assert.is_true(outbox:drain { deadline = 5 })
    assert.equal("good", e:attributes(place.token, "client").a.value)
  end)
end)
