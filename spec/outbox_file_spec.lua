-- What an outbox has in its file, when that is written, and what several share of it: without a server.
local core = require "thingsboard.core"
local recording = require "spec.support.recording"
local scratch = require "spec.support.scratch"
local spool = require "thingsboard.spool"
local tb = require "thingsboard"
local until_true = require "spec.support.until_true"

local fill = recording.fill

describe("the file of an outbox", function()
  local dev, directory, path

  before_each(function()
    directory = scratch.quick()
    path = directory .. "/outbox"
    tb.clock(true)
    dev = tb.device { url = "http://127.0.0.1:1", token = "A1_TEST_TOKEN" }
  end)

  after_each(function()
    dev:close()
    scratch.remove(directory)
  end)

  local function open(given)
    given = given or {}
    given.path = path
    return assert(dev:outbox(given))
  end

  -- An outbox with the file as it is now, as where this process is killed.
  local function open_copy()
    assert(os.execute(("cp '%s' '%s-copy' && cp '%s-wal' '%s-copy-wal'"):format(path, path, path, path)))
    return assert(dev:outbox { path = path .. "-copy" })
  end

  -- As where the disk fails, though what was written can be read.
  local function fail(outbox, does_fail)
    assert(outbox.spool:query("PRAGMA query_only = " .. (does_fail and 1 or 0)))
  end

  it("is written by sync_every, but at once for many attributes", function()
    local outbox = open { sync_every = 3600 }
    local function is_written(key) return outbox.pending['"' .. key .. '"'].on_disk end
    assert(outbox:attributes { a = ("x"):rep(4091) }) -- 4,096 bytes, with the quotes
    assert.is_false(is_written "a")
    assert(outbox:attributes { b = 1 })
    assert.is_true(is_written "a" and is_written "b")
    assert(outbox:attributes { c = 1 })
    assert.is_false(is_written "c")
    assert.is_true(outbox:sync())
    assert.is_true(is_written "c")
    assert(outbox:attributes { d = 1, e = 2, f = 3 })
    assert(outbox:close())
    local again <close> = open()
    assert.equal(6, again:stats().attributes)
  end)

  it("is written again after a second where that has failed, though nothing more is put", function()
    local outbox <close> = open { sync_every = 0.05, on_trouble = "memory" }
    fill(outbox, 1, 1)
    fail(outbox, true)
    until_true(function() return outbox:stats().trouble ~= nil end, 10)
    fail(outbox, false)
    until_true(function() return outbox:stats().trouble == nil end, 10)
    outbox:close()
    local again <close> = open()
    assert.equal(1, again:stats().records)
  end)

  it("is written whole or not at all, and goes on after that has failed", function()
    local outbox = open { sync_every = 3600 }
    fill(outbox, 1, 1)
    fail(outbox, true)
    local ok, err = outbox:attributes { a = ("x"):rep(5000) }
    assert.same({ nil, "file", true }, { ok, err.kind, err.retryable })
    ok, err = outbox:sync()
    assert.same({ nil, "file", true }, { ok, err.kind, err.retryable })
    assert.matches("^sync: .*readonly", err.message)
    fail(outbox, false)
    assert(outbox:attributes { b = 2 })
    assert.is_true(outbox:sync())
    assert.is_nil(outbox:stats().trouble)
    assert.is_true(outbox:close())
    local again <close> = open()
    assert.same({ 1, nil, "2" }, { again:stats().records, again.pending['"a"'], again.pending['"b"'].value })
  end)

  it("loses what waits in memory when it is closed and cannot be written, which says so", function()
    local outbox = open { on_trouble = "memory" }
    fail(outbox, true)
    fill(outbox, 1, 1)
    local ok, err = outbox:close()
    assert.same({ nil, "file" }, { ok, err.kind })
    assert.matches("^close: what waited in memory is lost: .*readonly", err.message)
    assert.is_true(outbox:close())
  end)

  it("may take what all that share it may together, as long as they do", function()
    local first <close> = open { name = "first", max_bytes = 100000 }
    local file = first.file
    assert.same({ 100000, true }, { file.max_bytes, file.has_max_bytes })
    local second = open { name = "second" }
    assert.equal(100000 + (64 << 20), file.max_bytes)
    second:close()
    local third = open { name = "third", max_bytes = math.maxinteger }
    assert.equal(100000 + (1 << 50), file.max_bytes)
    third:close()
    first:close()
    local last <close> = open { name = "last" }
    assert.same({ 64 << 20, false }, { last.file.max_bytes, last.file.has_max_bytes })
  end)

  it("that is full has room made by the outbox that has most, unless that refuses more", function()
    local few <close> = open { name = "few", max_bytes = 32768 }
    local many <close> = open { name = "many", max_bytes = 32768 }
    local strict <close> = open { name = "strict", max_bytes = 65536, when_full = "refuse" }
    local text = ("x"):rep(500)
    local function put(outbox, n) return outbox:put { n = n, text = text } end
    assert(put(few, 1))
    for n = 1, 20 do assert(put(many, n)) end
    local n = 0
    repeat
      n = n + 1
      assert(put(strict, n))
    until many:stats().lost.full or n == 300
    assert.is_true(n < 300 and n > 30)
    assert.same({ 1, {} }, { few:stats().records, few:stats().lost })
    assert.same({ n, {} }, { strict:stats().records, strict:stats().lost })
    assert.equal(20, many:stats().records + many:stats().lost.full)
    repeat n = n + 1 until not put(strict, n)
    assert.same({ 0, 0 }, { many:stats().records, few:stats().records }) -- both had to go
    assert.same({ refused = 1 }, strict:stats().lost)
  end)

  it("has the last thousand of what was set aside", function()
    local outbox <close> = open { sync_every = 3600 }
    assert.same({}, outbox:rejected())
    fill(outbox, 0, 1002)
    for n = 0, 1002 do assert.is_true(outbox:reject(n, n, 1, "[" .. n .. "]", "no")) end
    local list = assert(outbox:rejected())
    assert.same({ 1000, "[3]", "no", "[1002]" }, { #list, list[1].body, list[1].reason, list[1000].body })
    assert.near(tb.now(), list[1].at, 60000)
    assert.equal(1003, outbox:stats().lost.rejected)
    fail(outbox, true)
    fill(outbox, 1003, 1003)
    assert.is_false(outbox:reject(1003, 1003, 1, "[1003]", "no"))
    assert.equal(1003, outbox:stats().lost.rejected)
    fail(outbox, false)
    assert(outbox.spool:query "ALTER TABLE rejected RENAME TO hidden")
    local rows, err = outbox:rejected()
    assert.same({ nil, "file" }, { rows, err.kind })
    assert.matches("^rejected: .*rejected", err.message)
  end)

  it("refuses attributes that are too large for its room, and counts each", function()
    local outbox <close> = open { max_bytes = 65536 }
    local ok, err = outbox:attributes { a = ("x"):rep(70000), b = 1 }
    assert.same({ nil, "full", true, { refused = 2 } }, { ok, err.kind, err.retryable, outbox:stats().lost })
    assert.matches("^attributes: .*too large", err.message)
    assert.equal(0, outbox:stats().attributes)
  end)

  it("has what is in doubt, a thousand at most, as far as its trials have come", function()
    local outbox = open { sync_every = 3600 }
    fill(outbox, 0, 1009)
    assert(outbox:attributes { a = "bad" })
    assert(outbox:sync())
    local now = core.monotonic()
    local attribute = outbox.doubts:add("attributes", '"a"', 1, 11, "no", now, true)
    outbox.pending['"a"'].in_doubt = attribute
    for n = 0, 1009 do outbox.doubts:add("records", n, 2, 30, "no", now) end
    attribute.counted, attribute.wait, attribute.at = 3, 65, now + 40
    outbox:close()
    outbox = open()
    assert.equal(1000, outbox:stats().in_doubt)
    assert.is_false(outbox.doubts.changed)
    local taken, held = outbox.pending['"a"'].in_doubt, 0
    for _, entry in ipairs(outbox.doubts:list()) do
      if entry.kind == "records" then
        held = held + 1
        local from, to = outbox.held:gap(entry.id, entry.id)
        assert.is_true(from > to)
        assert.same({ 2, 30, 0, false, 1 }, { entry.points, entry.bytes, entry.counted, entry.disturbed, entry.wait })
      end
    end
    assert.equal(taken and 999 or 1000, held)
    for _, entry in ipairs(outbox.doubts:list()) do
      if entry.kind == "records" then outbox.doubts:remove(entry) end
    end
    if not taken then
      taken = outbox.doubts:add("attributes", '"a"', 1, 11, "no", now, true)
      taken.counted, taken.wait, taken.at = 3, 65, now + 40
      outbox.pending['"a"'].in_doubt = taken
    end
    outbox:close()
    local again <close> = open()
    local entry = again.doubts:list()[1]
    assert.equal(again.pending['"a"'].in_doubt, entry)
    assert.same({ 1, "attributes", '"a"', 1, 11, 3, true, 65 }, { again:stats().in_doubt, entry.kind, entry.id,
      entry.points, entry.bytes, entry.counted, entry.disturbed, entry.wait })
    assert.near(now + 40, entry.at, 0.1)
  end)

  it("has how long it has waited for markers, and the last one that was read", function()
    local outbox = open()
    outbox.confirm.waited, outbox.confirm.seen = 12.5, 777
    outbox:close()
    outbox = open()
    assert.same({ 12.5, 777 }, { outbox.confirm.waited, outbox.confirm.seen })
    assert.same({}, outbox:stats().lost)
    outbox.confirm.waited, outbox.confirm.seen = 0, "no marker"
    outbox:close()
    local again <close> = open()
    assert.same({ 0, 777 }, { again.confirm.waited, again.confirm.seen })
  end)

  it("has the last time that was known, and none while nobody knows it", function()
    local function last()
      local store <close> = spool.spool(path)
      assert(store:open())
      local rows = assert(store:query "SELECT count FROM counters WHERE cause = 'last known time'")
      return rows[1] and rows[1][1]
    end
    tb.clock(false)
    for n = 1, 2 do
      local outbox <close> = open { server_time = false }
      fill(outbox, n, n)
    end
    assert.is_nil(last())
    tb.clock(true)
    open():close()
    assert.near(tb.now(), last(), 60000)
  end)

  it("goes on behind the newest record in it", function()
    local outbox <close> = open()
    outbox.file.clock:follow(tb.now() + 50000)
    fill(outbox, 1, 1)
    assert(outbox.spool:query "DELETE FROM counters")
    local other <close> = open_copy()
    assert.equal(outbox.file.clock:ahead(), other.file.clock:ahead())
  end)

  it("has times reserved that lie ahead of the clock, so that no later process gives them again", function()
    local outbox <close> = open()
    local ahead = tb.now() + 50000
    outbox.file.clock:follow(ahead)
    fill(outbox, 1, 1)
    local last = outbox.file.clock:ahead()
    assert.is_true(last > ahead)
    assert(outbox.spool:remove(outbox.number, 0, 0)) -- it has been sent
    local other <close> = open_copy()
    local reserved = other.file.clock:ahead()
    assert.is_true(reserved > last and reserved < last + 1000)
    assert(outbox:close()) -- in order: what was not given is free again
    local again <close> = open()
    assert.equal(last, again.file.clock:ahead())
  end)

  it("has counts of what is lost, to which each process adds", function()
    for n = 1, 3 do
      local outbox <close> = open()
      assert.equal(n > 1 and n - 1 or nil, outbox:stats().lost.full)
      outbox:lose("full", 1)
      outbox:lose("expired", 0)
      assert.same({ full = n }, outbox:stats().lost)
      outbox:write_losses()
      assert.equal(n, outbox.spool:query "SELECT count FROM counters WHERE cause = 'full'"[1][1])
    end
  end)

  it("counts what is sent as no room that is taken, where it refuses more, and is tight at half of its room", function()
    local outbox <close> = open { max_records = 4, when_full = "refuse", max_bytes = 65536 }
    fill(outbox, 0, 1)
    assert.is_false(outbox:is_tight())
    fill(outbox, 2, 2)
    assert.is_true(outbox:is_tight())
    local ok, err = outbox:put { { n = 3 }, { n = 4 } }
    assert.same({ nil, "full", { refused = 2 } }, { ok, err.kind, outbox:stats().lost })
    outbox.confirm:passed({ first = 0, last = 0, records = 1 }, 30, 0)
    assert(outbox:put { { n = 3 }, { n = 4 } })
    assert.same({ 4, 1 }, { outbox:stats().records, outbox:stats().unconfirmed })
    assert.same({ nil, "full" }, { outbox:put { n = 5 }, select(2, outbox:put { n = 5 }).kind })
    local other <close> = open { name = "other", max_bytes = 65536 }
    assert(other:put { text = ("x"):rep(20000) })
    assert.is_false(other:is_tight())
    assert(other:put { text = ("y"):rep(20000) })
    assert.is_true(other:is_tight())
  end)

  it("that is replaced has none of what was known of the old one's records", function()
    local outbox = open()
    fill(outbox, 0, 9)
    assert(outbox:attributes { a = 1 })
    outbox.confirm:passed({ first = 0, last = 1, records = 2 }, 30, 0)
    outbox.pending['"a"'].sent = true
    outbox.bisect:refused(2, 5, 4)
    outbox.backlog_end = 10
    assert(os.execute(("rm '%s' '%s-wal'"):format(path, path)))
    fill(outbox, 0, 0)
    local stats = outbox:stats()
    assert.same({ 1, 0, 1, { damaged = 1 } }, { stats.records, stats.unconfirmed, stats.attributes, stats.lost })
    assert.same({ nil, 1, nil }, { outbox.bisect.first, outbox.backlog_end, outbox.confirm.stale[1] })
    assert(outbox:close())
    local again <close> = open()
    assert.equal("1", again.pending['"a"'].value)
  end)

  it("drops nothing for its age while nobody knows the time", function()
    local outbox <close> = open { max_age = 3600, server_time = false }
    assert(outbox:put { ts = tb.now() - 7200000, values = { n = 1 } })
    tb.clock(false)
    outbox:expire()
    assert.equal(1, outbox:stats().records)
    tb.clock(true)
    outbox:expire()
    assert.same({ 0, 1 }, { outbox:stats().records, outbox:stats().lost.expired })
  end)
end)
