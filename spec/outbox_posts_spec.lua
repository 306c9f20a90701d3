-- What goes into each post of an outbox, and what becomes of that by the post's outcome: without a server.
local answers = require "thingsboard.outbox.answers"
local batches = require "thingsboard.outbox.batches"
local core = require "thingsboard.core"
local outcome = require "thingsboard.outbox.outcome"
local recording = require "spec.support.recording"
local scratch = require "spec.support.scratch"
local tb = require "thingsboard"

local fill = recording.fill

describe("an outbox", function()
  local monotonic <const> = core.monotonic
  local dev, directory, outbox, now

  before_each(function()
    directory = scratch.quick()
    tb.clock(true)
    dev = tb.device { url = "http://127.0.0.1:1", token = "A1_TEST_TOKEN" }
    outbox, now = nil, 1000
    core.monotonic = function() return now end
  end)

  after_each(function()
    core.monotonic = monotonic
    dev:close()
    scratch.remove(directory)
  end)

  local function open(given)
    given = given or {}
    given.path = directory .. "/outbox"
    outbox = assert(dev:outbox(given))
    return outbox
  end

  -- Records from 0 on, by their numbers, that wait since before the sender began.
  local function backlog(count)
    fill(outbox, 0, count - 1)
    outbox.backlog_end = count
  end

  -- The next post, as it is sent.
  local function next_post()
    local post = assert(batches.next(outbox))
    outcome.prepare(outbox, post)
    outbox.doubts:posted(post)
    post.breaks = outbox.confirm.breaks
    return post
  end

  local function pass(post)
    post = post or next_post()
    outcome.passed(outbox, post, now)
    return post
  end

  -- A refusal with words, unless it is said otherwise.
  local function fail(post, status, said, kind)
    post = post or next_post()
    local message = ("outbox: it failed (status %d)%s"):format(status, said or ": no")
    local err = { kind = kind or "http", status = status, message = message }
    outcome.failed(outbox, post, err, answers.action(err), now)
    return post
  end

  local function range(post) return { post.first, post.last, post.records } end

  describe("forms posts", function()
    it("of fresh records, of the backlog and of attributes by turns", function()
      open { batch_records = 2 }
      fill(outbox, 0, 3)
      assert(outbox:put({ n = 4, m = 4 }, true)) -- behind these
      fill(outbox, 5, 5)
      assert(outbox:attributes { a = 1 })
      for _ = 1, 2 do
        local fresh = batches.next(outbox)
        assert.matches('^%[{"ts":%d+,"values":{"n":5}}%]$', fresh.body:take())
        fresh.body = nil
        assert.same({ kind = "records", path = "/telemetry", bytes = fresh.bytes, first = 5, last = 5, records = 1,
          points = 1 }, fresh)
        local old = batches.next(outbox)
        assert.same({ #old.body, { 0, 1, 2 }, 2, true }, { old.bytes, range(old), old.points, old.recurs })
        assert.same({ kind = "attributes", path = "/attributes", body = '{"a":1}', bytes = 7, points = 1,
          versions = { ['"a"'] = 1 }, recurs = true }, batches.next(outbox))
      end
      outbox.held:add(1, 3)
      outbox.held:add(5, 5)
      assert.same({ 0, 0, 1 }, range(batches.next(outbox)))
      outbox.held:add(0, 0)
      outbox.pending['"a"'].sent = true
      local last = batches.next(outbox)
      assert.same({ 4, 4, 1 }, range(last))
      assert.equal(2, last.points)
      outbox.held:add(4, 4)
      assert.is_nil((batches.next(outbox)))
    end)

    it("as large as its options, its limits and what the server was found to take allow", function()
      open { batch_records = 50, batch_points = 60, points = "40:1" }
      fill(outbox, 0, 99, setmetatable({}, { __index = function() return { m = 1 } end }))
      outbox.backlog_end = 100
      local function records() return batches.next(outbox).records end
      assert.equal(20, records())
      outbox.points:spend(39)
      assert.equal(1, records()) -- that is more than there is room for: the sender waits for it
      outbox.points = setmetatable({}, getmetatable(outbox.points))
      assert.equal(30, records())
      outbox.pace.points = 9
      assert.equal(4, records())
      outbox.pace.points = 0.5
      assert.equal(1, records())
      outbox.pace.points, outbox.batch.points = math.huge, math.maxinteger
      assert.equal(50, records())
      outbox.pace.bytes = 100
      assert.equal(2, records())
      outbox.pace.bytes, outbox.batch.bytes = math.huge, 50
      assert.equal(1, records())
      outbox.batch.bytes = math.maxinteger
      outbox.objects_only = 2
      assert.equal(1, records())
      outbox.objects_only = 0
      assert.equal(2, records())
    end)

    it("no longer than a sample may be, while something in doubt lacks one", function()
      open()
      for n = 0, 9 do assert(outbox:put { n = n, text = ("x"):rep(4000) }) end
      assert.equal(10, batches.next(outbox).records)
      outbox.doubts:add("records", 99, 1, 1, "no", now)
      assert.equal(4, batches.next(outbox).records)
    end)

    it("of attributes that wait, as many as fit", function()
      open { batch_bytes = 22 }
      assert(outbox:attributes { aa = 1111, bb = 2222, cc = 3333, dd = 4444 })
      local function points() return batches.next(outbox).points end
      assert.equal(2, points()) -- ten bytes each, in brackets
      outbox.batch.bytes = 21
      assert.equal(1, points())
      outbox.batch.bytes = 1000
      assert.equal(4, points())
      assert.equal(2 + 4 * 9 + 3, batches.next(outbox).bytes)
      outbox.pace.bytes = 10
      assert.equal(1, points())
      outbox.pace.bytes, outbox.pace.points = math.huge, 3
      assert.equal(3, points())
      outbox.pace.points, outbox.most_attributes = math.huge, 2
      assert.equal(2, points())
      for name in pairs { ['"aa"'] = 1, ['"bb"'] = 1, ['"cc"'] = 1 } do outbox.pending[name].sent = true end
      assert.equal('{"dd":4444}', batches.next(outbox).body)
      outbox.pending['"dd"'].in_doubt = {}
      assert.is_nil((batches.next(outbox)))
      assert.equal(math.maxinteger, outbox.most_attributes)
    end)

    it("of what should pass, every other time, after four refusals in a row", function()
      open()
      backlog(100)
      for in_row, is_probe in pairs { [2] = false, [3] = false, [4] = true, [5] = false, [6] = true } do
        outbox.pace.in_row, outbox.turn = in_row, 1
        local post = batches.next(outbox)
        assert.equal(is_probe and 1 or 100, post.records)
        assert.equal(not is_probe or nil, post.recurs)
      end
      outbox.doubts:keep_sample({ text = '{"n":1}', records = 1, points = 3, bytes = 7 }, now)
      outbox.turn = 1
      outbox.pace.in_row = 6
      assert.same({ kind = "sample", path = "/telemetry", body = '{"n":1}', bytes = 7, points = 3 },
        batches.next(outbox))
      outbox.doubts.object, outbox.doubts.records = nil, nil
      outbox.backlog_end = 1
      for _ = 1, 20 do
        outbox.turn = 1
        local post = batches.next(outbox)
        assert.same({ 0, 0, 1 }, range(post))
        assert.is_nil(post.recurs)
      end
      outbox.backlog_end, outbox.turn = 0, 1
      assert.equal(100, batches.next(outbox).records) -- there is nothing that was refused
    end)

    it("of what the search for a bad record asks for, until that is gone", function()
      open()
      backlog(10)
      outbox.bisect:refused(2, 7, 6)
      outbox.turn = 1
      local post = batches.next(outbox)
      assert.same({ 2, 4, 3 }, range(post))
      assert.is_true(post.recurs)
      outbox.held:add(2, 7)
      outbox.turn = 1
      assert.same({ 0, 1, 2 }, range(batches.next(outbox)))
      assert.is_nil((outbox.bisect:next()))
    end)

    it("of what is in doubt, last, with samples around it", function()
      open()
      backlog(2)
      outbox.held:add(1, 1)
      local gone = outbox.doubts:add("records", 9, 1, 30, "no", now - 60)
      local entry = outbox.doubts:add("records", 1, 1, 30, "no", now - 50)
      outbox.doubts:keep_sample({ text = '{"n":1}', records = 1, points = 1, bytes = 7 }, now)
      assert.same({ 0, 0, 1 }, range(batches.next(outbox)))
      outbox.held:add(0, 0)
      local before = batches.next(outbox)
      assert.same({ kind = "sample", path = "/telemetry", body = '{"n":1}' .. (" "):rep(23), bytes = 30, points = 1,
        doubt = gone, step = "before" }, before)
      outbox.doubts:posted(before)
      pass(before)
      local itself = batches.next(outbox) -- what is gone is in doubt no more
      assert.is_true(gone.gone)
      assert.same({ entry, "itself" }, { itself.doubt, itself.step })
      assert.same({ 1, 1, 1 }, range(itself))
      assert.same({ "records", "/telemetry", #itself.body, 1 },
        { itself.kind, itself.path, itself.bytes, itself.points })
    end)

    it("of an attribute in doubt, unless it has another value by now", function()
      open()
      assert(outbox:attributes { a = "bad" })
      fail(nil, 400)
      now = now + 60
      assert.same({ kind = "sample", path = "/attributes", body = '{"outbox_marker_sample":"x"}', bytes = 28,
        points = 1, doubt = outbox.pending['"a"'].in_doubt, step = "before" }, batches.next(outbox))
      pass()
      local post = batches.next(outbox)
      assert.same({ kind = "attributes", path = "/attributes", body = '{"a":"bad"}', bytes = 11, points = 1,
        versions = { ['"a"'] = 1 }, doubt = outbox.pending['"a"'].in_doubt, step = "itself" }, post)
      outbox.pending['"a"'] = nil
      assert.is_nil((batches.next(outbox)))
      assert.equal(0, outbox.doubts.count)
    end)

    it("of a marker, each with a value of its own", function()
      open { confirm_key = "how far" }
      local one, other = batches.marker(outbox), batches.marker(outbox)
      assert.matches('^{"how far":%d+}$', one.body)
      assert.not_equal(one.body, other.body)
      one.body = nil
      assert.same({ kind = "marker", path = "/attributes", bytes = #other.body, points = 1 }, one)
    end)

    it("of nothing where the disk cannot be read, and says so", function()
      open()
      backlog(1)
      assert(outbox.spool:query "ALTER TABLE runs RENAME TO hidden")
      local post, err = batches.next(outbox)
      assert.same({ nil, "file", true }, { post, err.kind, err.retryable })
      assert.matches("^outbox: .*runs", err.message)
    end)
  end)

  describe("that has posted records", function()
    it("removes them once they have passed, where nothing is confirmed", function()
      open { confirm = false, batch_records = 3 }
      fill(outbox, 0, 4)
      assert.same({ 0, 2, 3 }, range(pass()))
      assert.equal(3, outbox.backlog_end)
      assert.same({ 2, 0, 3, 1 },
        { outbox:stats().records, outbox:stats().unconfirmed, outbox.sent.records, outbox.sent.posts })
      outbox.backlog_end = 9
      pass()
      assert.equal(9, outbox.backlog_end) -- that was no fresh one
      assert.equal(0, (outbox.spool:counts(outbox.number)))
    end)

    it("keeps them until they are confirmed, and takes none a second time", function()
      open { batch_records = 3 }
      backlog(4)
      local post = pass()
      assert.same({ 1, 3, 4 },
        { outbox:stats().records, outbox:stats().unconfirmed, (outbox.spool:counts(outbox.number)) })
      assert.is_false(outbox.confirm.at_once)
      assert.same({ 3, 3, 1 }, range(next_post()))
      outcome.send_again(outbox, { { first = 0, last = 2, records = 3 } })
      assert.same({ 0, 2, 3 }, range(next_post()))
      assert.same({ 0, 3 }, { outbox.sent.records, outbox.sent.again })
      post.breaks = outbox.confirm.breaks - 1 -- the chain broke while it was in flight
      pass(post)
      assert.is_true(outbox.confirm.at_once)
      outbox.confirm:take_stale()
      outcome.confirmed(outbox, { { first = 0, last = 2, records = 3 } })
      assert.same({ 3, 1 }, { outbox.sent.confirmed, (outbox.spool:counts(outbox.number)) })
    end)

    it("removes all that is sent, and later what the disk cannot remove", function()
      open()
      backlog(6)
      pass()
      outcome.send_again(outbox, { { first = 1, last = 1, records = 1 }, { first = 4, last = 5, records = 2 } })
      assert.same({ 1, 1, 1 }, range(batches.next(outbox)))
      outbox.held:add(1, 1)
      assert.same({ 4, 5, 2 }, range(batches.next(outbox)))
      assert(outbox.spool:query "PRAGMA query_only = 1")
      outcome.confirmed(outbox, { { versions = {}, attributes = 0 }, { first = 0, last = 0, records = 1 },
        { first = 2, last = 3, records = 2 } })
      assert.same({ 6, 2, 3 },
        { (outbox.spool:counts(outbox.number)), #outbox.sent_undeleted, outbox.sent.confirmed })
      assert.truthy(outbox:stats().trouble)
      assert(outbox.spool:query "PRAGMA query_only = 0")
      outcome.remove_sent(outbox)
      assert.same({ 3, 0 }, { (outbox.spool:counts(outbox.number)), #outbox.sent_undeleted })
    end)

    it("keeps what they make for a sample, where anything is searched for or in doubt", function()
      open()
      backlog(20)
      fail(nil, 400)
      local list = pass()
      local sample = outbox.doubts.records
      assert.same({ "[" .. sample.text .. "]", 10, 10, #list.body - 2 },
        { list.body, sample.records, sample.points, sample.bytes })
      outbox.doubts.records = nil
      outbox.bisect:stop()
      pass()
      assert.is_nil(outbox.doubts.records) -- nothing is searched for
      assert(outbox:put { n = 20, m = 20 })
      outbox.most_attributes, outbox.turn = 1, 0 -- an attribute is
      local post = pass()
      local object = outbox.doubts.object
      assert.same({ post.body, 1, 2, #post.body }, { object.text, object.records, object.points, object.bytes })
      assert.matches('^{"ts":%d+,"values":{.*}}$', post.body)
    end)

    it("searches for the bad one where they are refused, which is in doubt then and holds nothing up", function()
      open()
      backlog(4)
      fail(nil, 400)
      assert.same({ 0, 1, 2 }, range(fail(nil, 403)))
      assert.same({ 0, 0, 1 }, range(fail(nil, 400, ": not this one")))
      local entry = outbox.doubts:list()[1]
      assert.same({ "records", 0, 1, "not this one" },
        { entry.kind, entry.id, entry.points, entry.said:match "(not.*)" })
      assert.is_true(entry.bytes > 30)
      assert.same({ 3, 0 }, { outbox.pace.in_row, outbox.doubts.disturbances })
      assert.same({ 1, 1, 1 }, range(pass()))
      assert.equal(0, outbox.pace.in_row)
      assert.same({ 2, 3, 2 }, range(pass()))
      assert.is_nil(outbox:stats().limits) -- it was none
    end)

    it("takes refusals without words for accidents, one, or four once one has passed as it was", function()
      open()
      fill(outbox, 0, 7)
      assert.same({ 0, 7, 8 }, range(fail(nil, 500, ""))) -- fresh ones
      assert.is_nil((outbox.bisect:next()))
      outbox.backlog_end, outbox.pace.in_row = 8, 0
      assert.same({ 0, 7, 8 }, range(fail(nil, 500, "")))
      assert.is_nil((outbox.bisect:next()))
      assert.same({ 0, 7, 8 }, range(fail(nil, 500, "")))
      assert.same({ 0, 7, 4 }, { outbox.bisect:next() })
      outbox.bisect:stop()
      fail(nil, 500, "")
      outbox.pace.points = math.huge
      pass()
      assert.is_true(outbox.pace.unchanged)
      outcome.send_again(outbox, { { first = 0, last = 7, records = 8 } })
      outbox.pace.points = math.huge
      for _ = 1, 4 do
        fail(nil, 500, "")
        outbox.pace.points, outbox.pace.in_row = math.huge, 0
        assert.is_nil((outbox.bisect:next()))
      end
      fail(nil, 500, "")
      assert.same({ 0, 7, 4 }, { outbox.bisect:next() })
    end)

    it("has proved no accident where less has passed than was refused", function()
      open()
      backlog(8)
      fail(nil, 500, "")
      outbox.batch.records = 7
      pass()
      assert.is_false(outbox.pace.unchanged)
      assert.is_nil(next(outbox.accidents))
    end)

    it("goes slower by a limit, and has the one that meets it three times in a row in doubt", function()
      open { batch_records = 1 }
      backlog(2)
      for n = 1, 3 do
        assert.equal(0, outbox.doubts.count)
        fail(nil, 500, ": Rate limits reached!")
        assert.same({ 10 / 2 ^ (n - 1), true, n },
          { outbox.pace.rate, outbox.pace.proved, outbox.doubts.disturbances })
      end
      assert.equal(1, outbox.doubts.count)
      assert.same({ 1, 1, 1 }, range(fail(nil, 429)))
      outbox.batch.records = 2
      fill(outbox, 2, 3)
      outbox.backlog_end = 4
      outbox.pace.points = math.huge
      for _ = 1, 4 do fail({ kind = "records", first = 1, last = 2, records = 2, points = 2, bytes = 60 }, 429) end
      assert.equal(1, outbox.doubts.count) -- two are not in doubt together
    end)

    it("makes posts smaller that are too large, and has a lone one in doubt, whatever its size", function()
      open()
      backlog(2)
      local post = fail(nil, 413)
      assert.equal(post.bytes // 2, outbox.pace.bytes)
      assert.same({ 0, 0, 1 }, range(fail(nil, 413)))
      local entry = outbox.doubts:list()[1]
      assert.same({ 0, 0, 0 }, { entry.id, entry.points, entry.bytes })
      assert.is_nil(outbox.retry_at)
      assert.same({ 1, 1, 1 }, range(fail(nil, 413, "", "answer"))) -- somebody else's
      assert.equal(1, outbox.doubts.count)
      assert.is_true(outbox.retry_at > now)
    end)

    it("waits for the server, and searches where somebody else answers at one place three times", function()
      open()
      backlog(2)
      for n = 1, 3 do
        assert.is_nil((outbox.bisect:next()))
        outbox.retry_at = 0
        fail(nil, 403, "", "answer")
        assert.is_true(outbox.retry_at > now)
        assert.equal(n, outbox.stuck)
      end
      assert.same({ 0, 1, 1 }, { outbox.bisect:next() })
      outbox.bisect:stop()
      for _ = 1, 4 do fail(nil, 503) end
      assert.is_nil((outbox.bisect:next()))
      assert.is_true(outbox.pace.rate <= 10) -- by the first of them
    end)

    it("takes the server for one that takes no lists where three short ones were refused, and no record of them",
      function()
        open { batch_records = 2, confirm = false }
        backlog(200)
        for n = 1, 3 do
          assert.is_nil(outbox.objects_only)
          assert.equal(2, fail(nil, 400).records)
          for _ = 1, 2 do assert.equal(1, pass().records) end
          assert.equal(n, outbox.lists_refused)
          outbox.bisect.most = math.huge
        end
        assert.same({ 50, false }, { outbox.objects_only, outbox.doubts.lists })
        for _ = 1, 50 do assert.equal(1, pass().records) end
        assert.equal(0, outbox.objects_only)
        assert.equal(2, fail(nil, 400).records)
        assert.equal(50, outbox.objects_only)
        assert.is_nil((outbox.bisect:next()))
        outbox.objects_only = 0
        assert.equal(2, pass().records)
        assert.same({ true, 0 }, { outbox.doubts.lists, outbox.lists_refused })
        assert.is_nil(outbox.objects_only)
        outbox.batch.records = 4
        fail(nil, 400) -- that is no short one
        assert.is_nil(outbox.short_list)
      end)

    it("sets aside what is proved to be refused, with the server's words", function()
      open { confirm = false }
      backlog(2)
      fail(nil, 400)
      fail(nil, 400)
      pass()
      assert.equal(1, outbox.doubts.count)
      local steps = {}
      while outbox.doubts.count > 0 and #steps < 30 do
        now = math.max(now, outbox.doubts:due())
        local post = next_post()
        steps[#steps + 1] = post.step
        if post.step == "itself" then fail(post, 400, ": never") else pass(post) end
      end
      assert.equal(3 + 4 + 3 + 4, #steps)
      assert.same({ 0, { rejected = 1 } }, { outbox:stats().records, outbox:stats().lost })
      local set_aside = assert(outbox:rejected())[1]
      assert.matches('^%[{"ts":%d+,"values":{"n":0}}%]$', set_aside.body)
      assert.matches("never$", set_aside.reason)
    end)

    it("knows of a limit when what was in doubt passes after all", function()
      open()
      backlog(1)
      fail(nil, 400)
      now = now + 60
      pass()
      assert.same({ 0, true }, { outbox.doubts.count, outbox.pace.proved })
    end)
  end)

  describe("that has posted attributes", function()
    it("forgets those that have passed, and not what has another value by now", function()
      open { confirm = false }
      assert(outbox:attributes { a = 1, b = 2 })
      local post = next_post()
      assert(outbox:attributes { b = 3 })
      pass(post)
      assert.same({ 1, 2 }, { outbox:stats().attributes, outbox:stats().sent.attributes })
      assert.equal('{"b":3}', pass().body)
      assert.same({}, outbox.pending)
    end)

    it("posts them again where they are not confirmed, unless they have another value by then", function()
      open()
      assert(outbox:attributes { a = 1, b = 2 })
      local post = pass()
      assert.same({ 0, 2 }, { outbox:stats().attributes, outbox:stats().sent.attributes })
      assert(outbox:attributes { b = 3 })
      pass()
      assert.is_nil((batches.next(outbox)))
      outcome.send_again(outbox, { { versions = post.versions, attributes = 2 } })
      assert.equal('{"a":1}', batches.next(outbox).body)
      assert.same({ 1, 1 }, { outbox:stats().attributes, outbox:stats().sent.attributes })
      outcome.confirmed(outbox, { { versions = post.versions, attributes = 2 } })
      assert.same({ nil, "3" }, { outbox.pending['"a"'], outbox.pending['"b"'].value })
    end)

    it("halves them until one is alone, which is in doubt until it has another value", function()
      open()
      assert(outbox:attributes { a = 1, b = 2, c = 3, d = 4, e = 5 })
      local counts = {}
      for n = 1, 3 do counts[n] = fail(nil, 400).points end
      assert.same({ 5, 2, 1 }, counts)
      assert.same({ 1, math.maxinteger }, { outbox.doubts.count, outbox.most_attributes })
      assert.equal(4, next_post().points)
      local key = outbox.doubts:list()[1].id
      assert(outbox:attributes { [key:sub(2, -2)] = "new" })
      assert.equal(0, outbox.doubts.count)
      assert.equal(5, next_post().points)
    end)

    it("has none in doubt that has another value by now", function()
      open()
      assert(outbox:attributes { a = 1 })
      local post = next_post()
      assert(outbox:attributes { a = 2 })
      fail(post, 400)
      assert.equal(0, outbox.doubts.count)
    end)
  end)

  it("has no error and waits no more once a post has passed, of which markers are not counted", function()
    open()
    backlog(1)
    outbox.err = "any"
    outbox.pause:next()
    local post = next_post()
    post.headers = 7
    pass(post)
    local open_one = outbox.confirm.open
    assert.same({ post.bytes, now, 7 }, { open_one.bytes, outbox.confirm.passed_at, open_one.items[1].headers })
    assert.is_nil(outbox.err)
    assert.is_true(outbox.pause:is_over())
    assert.is_true(outbox.confirm.posts_pass)
    local marker = batches.marker(outbox)
    fail(marker, 429)
    assert.is_true(outbox.confirm.posts_pass)
    marker.breaks, marker.headers = outbox.confirm.breaks, 5
    pass(marker)
    assert.same({ 1, 5, true }, { outbox.sent.posts, outbox.confirm.headers, outbox.confirm.outstanding ~= nil })
    fail(post, 400)
    assert.is_false(outbox.confirm.posts_pass)
  end)

  it("goes on with its search wherever somebody else answers", function()
    open()
    backlog(8)
    for _ = 1, 3 do fail(nil, 403, "", "answer") end
    assert.same({ 0, 3, 4 }, range(pass()))
    assert.same({ 4, 5, 2 }, range(fail(nil, 403, "", "answer")))
    assert.same({ 4, 5, 1 }, { outbox.bisect:next() })
    assert(outbox:attributes { a = 1, b = 2, c = 3, d = 4 })
    outbox.held:add(0, 7)
    for _ = 1, 3 do fail(nil, 403, "", "answer") end
    assert.equal(2, outbox.most_attributes)
    assert.equal(2, pass().points)
    assert.equal(2, fail(nil, 403, "", "answer").points)
    assert.equal(1, outbox.most_attributes)
  end)

  it("has nothing in doubt for limits that it meets now and then, nor for those of a marker or a trial", function()
    open()
    for n = 1, 4 do
      assert(outbox:attributes { a = n })
      fail(nil, 429)
      pass()
    end
    for _ = 1, 4 do
      fail(batches.marker(outbox), 429)
      fail({ kind = "sample", points = 1, bytes = 30 }, 429)
    end
    assert.equal(0, outbox.doubts.count)
    backlog(1)
    fail(nil, 400)
    for _ = 1, 4 do
      now = now + 500
      assert.equal("alone", fail(nil, 429).step)
    end
    assert.equal(1, outbox.doubts.count)
  end)

  it("counts no trial that meets a limit, or in which somebody else answers, and waits longer", function()
    open()
    backlog(1)
    fail(nil, 400)
    local entry = outbox.doubts:list()[1]
    outbox.doubts:keep_sample({ text = '{"n":1}', records = 1, points = 1, bytes = 7 }, now)
    for _, case in ipairs { { 429, "http", true, 2 }, { 403, "answer", true, 2 }, { 503, "http", false, 1 } } do
      entry.disturbed, entry.wait = false, 1
      now = math.max(now, outbox.doubts:due())
      while next_post().step == "before" do pass() end
      fail({ kind = "records", first = 0, last = 0, records = 1, points = 1, bytes = 30, doubt = entry }, case[1], "",
        case[2])
      assert.same({ case[3], case[4] }, { entry.disturbed, entry.wait })
      assert.is_nil(outbox.doubts.trial)
    end
  end)

  it("tries what has no sample at once where the server takes anything else", function()
    open()
    local entry = outbox.doubts:add("records", 9, 1, 30, "no", now)
    assert(outbox:attributes { a = 1 })
    pass()
    assert.equal(now, entry.at)
  end)

  it("sets aside attributes, too, and nothing that the disk cannot keep", function()
    open { confirm = false }
    assert(outbox:attributes { a = "bad" })
    backlog(2)
    outbox.held:add(1, 1)
    outbox.turn = 2
    fail(nil, 400)
    assert.equal("attributes", outbox.doubts:list()[1].kind)
    pass()
    outbox.doubts:add("records", 1, 1, 30, "no", now)
    outbox.doubts:keep_sample({ text = '{"n":1}', records = 1, points = 1, bytes = 7 }, now)
    assert(outbox.spool:query "PRAGMA query_only = 1")
    local before, posts = outbox.doubts.disturbances, 0
    repeat
      now, posts = math.max(now, outbox.doubts:due()), posts + 1
      local post = next_post()
      if post.step == "itself" then fail(post, 400) else pass(post) end
    until outbox.doubts.disturbances > before or posts > 40
    assert.equal(2 * 14, posts) -- of two proofs
    assert.same({ 1, 1 }, { outbox.doubts.count, (outbox.spool:counts(outbox.number)) })
    assert.is_nil(outbox.doubts.trial)
    assert.equal(1, outbox:stats().lost.rejected)
    assert.equal(0, outbox:stats().attributes)
  end)

  it("weighs the refusal of a marker by its cause, and suspects no record", function()
    open()
    for status, refusals in pairs { [400] = 2, [500] = 4, [503] = 0 } do
      for kind in pairs { http = true, answer = true } do
        outbox.confirm.stale, outbox.confirm.in_question = {}, 0
        backlog(1)
        pass({ kind = "records", first = 0, last = 0, records = 1, points = 1, bytes = 30,
          breaks = outbox.confirm.breaks })
        local most, rate = kind == "answer" and 2 or refusals, outbox.pace.rate
        for n = 1, 4 do
          fail({ kind = "marker", points = 1, bytes = 30 }, status, "", kind)
          assert.equal(most > 0 and n >= most, outbox.confirm.stale[1] ~= nil, kind .. status .. n)
        end
        assert.equal(most == 0, outbox.retry_at ~= nil)
        outbox.retry_at, outbox.pace.rate = nil, rate
      end
    end
    assert.same({ math.huge, 0, 0 }, { outbox.pace.points, outbox.doubts.count, outbox.stuck })
  end)
end)
