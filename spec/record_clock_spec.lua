-- The times that the outbox's store gives to records, as the clock becomes known, is corrected, or lies behind times
-- that were given before; and when it becomes known. The whole outbox is in spec/outbox_clock_spec.lua.
local clock = require "thingsboard.outbox.record_clock"
local core = require "thingsboard.core"
local scratch = require "spec.support.scratch"
local socket = require "socket"
local spool = require "thingsboard.spool"

local OFFSET <const> = 1700000000000 -- from uptimes to times since 1970, in these specs
local MINUTE <const>, DAY <const> = 60000, 86400000

describe("the times of records", function()
  local directory, store, device

  before_each(function()
    directory = scratch.quick()
    store = spool.spool(directory .. "/outbox")
    device = store:device "x"
  end)

  after_each(function()
    store:close()
    scratch.remove(directory)
  end)

  -- Puts a record: its time, whether that is an uptime, and the uptimes before and after.
  local function put()
    local before <const> = spool.uptime()
    local first = assert(store:put(device, { a = 1 }))
    local after <const> = spool.uptime()
    store:discard_pending(device, 0, first - 1)
    local oldest, _, ts, undated = store:oldest(device, true)
    assert.equal(first, oldest)
    return ts, undated, before, after
  end

  local function assert_between(least, ts, most)
    assert.is_true(least <= ts and ts <= most, ("%d is not between %d and %d"):format(ts, least, most))
  end

  it("are uptimes while nobody knows the time, each later than the one before", function()
    local last = 0
    for _ = 1, 5 do
      local ts, undated, before, after = put()
      assert.is_true(undated)
      assert_between(math.max(before, last + 1), ts, math.max(after, last + 1))
      last = ts
    end
    assert.is_nil(store:offset())
    assert.is_nil(store:ahead())
    store:set_clock_policy("wall")
    assert.near(os.time() * 1000 - spool.uptime(), store:offset(), 2000)
  end)

  it("are those of the clock, by each policy", function()
    store:set_clock_policy "wall"
    local wall <const> = store:offset()
    for error, believed in pairs {
      [0] = true, [MINUTE - 2000] = true, [2000 - MINUTE] = true, [MINUTE + 2000] = false, [-MINUTE - 2000] = false,
    } do
      store:set_clock_policy("confirmed", wall + error)
      assert.near(believed and wall or wall + error, store:offset(), 1000)
    end
    store:set_clock_policy("fixed", wall + 1000)
    assert.equal(wall + 1000, store:offset())
    store:set_clock_policy("fixed", OFFSET)
    local ts, undated, before, after = put()
    assert.is_false(undated)
    assert_between(before + OFFSET, ts, after + OFFSET)
    store:set_clock_policy "fixed"
    assert.equal(0, store:offset())
    store:set_clock_policy()
    assert.is_nil(store:offset())
    assert.error_matches(function() store:set_clock_policy "perhaps" end, "invalid option 'perhaps'")
  end)

  it("go on at half speed when the clock is stepped back, and go back where that is by more than a week", function()
    store:set_clock_policy("fixed", OFFSET)
    local first, _, from_least, from_most = put() -- luacheck: ignore
    for _, back in ipairs { 1000, 7 * DAY - MINUTE } do
      store:set_clock_policy("fixed", OFFSET - back)
      local ts, _, before, after = put()
      assert_between(first + 1, ts, first + math.max(1, (after - from_least) // 2))
      assert.equal(ts, store:ahead())
      socket.sleep(0.05)
      first, _, from_least, from_most = put()
      assert_between(ts + (from_least - after) // 2, first, ts + (from_most - before) // 2)
    end
    store:set_clock_policy("fixed", OFFSET - 7 * DAY - MINUTE)
    local ts, _, before, after = put()
    assert_between(before + OFFSET - 7 * DAY - MINUTE, ts, after + OFFSET - 7 * DAY - MINUTE)
    assert.is_nil(store:ahead())
  end)

  it("follow a time that was given before, unless it lies too far ahead", function()
    local given <const> = OFFSET + spool.uptime() + 5000
    store:follow(given, 1 << 50) -- while nobody knows the time it tells nothing
    assert.is_true(select(2, put()))
    store:set_clock_policy("fixed", OFFSET)
    store:date(OFFSET)
    local before <const> = put()
    store:follow(given, 4000)
    assert.is_true((put()) < given)
    socket.sleep(0.05)
    local followed <const> = spool.uptime()
    store:follow(given, 6000)
    assert.equal(given, store:ahead())
    store:follow(before, 6000) -- later ones have been given already
    assert.equal(given, store:ahead())
    local ts, _, _, after = put()
    assert_between(given + 1, ts, given + math.max(1, (after - followed) // 2))
  end)

  it("follow a time though none has been given before", function()
    store:set_clock_policy("fixed", OFFSET)
    local given <const> = OFFSET + spool.uptime() + 5000
    store:follow(given, 6000)
    assert.is_true((put()) > given)
  end)

  it("are uptimes again when nobody knows the time any more", function()
    store:set_clock_policy("fixed", 100000)
    put()
    store:set_clock_policy()
    local ts, undated, before, after = put()
    assert.is_true(undated)
    assert_between(before, ts, after)
  end)

  it("follow uptimes that were given before", function()
    put()
    socket.sleep(0.05)
    local up <const> = spool.uptime()
    store:follow_uptimes(up - 5, up + 100000)
    local ts, undated, _, after = put()
    assert.is_true(undated)
    assert_between(up + 100001, ts, up + 100000 + math.max(1, (after - up) // 2))
    store:follow_uptimes(up - 5, up + 50000)
    assert_between(ts + 1, (put()), ts + 1000)
    store:follow_uptimes(up - 5, up + 200000)
    assert_between(up + 200001, (put()), up + 201000)
    store:set_clock_policy("fixed", OFFSET)
    ts = put()
    assert_between(up + OFFSET + 200002, ts, up + OFFSET + 202000)
    store:date(OFFSET)
    store:follow_uptimes(up - 5, up + 300000) -- of a start whose times are known by now
    assert.equal(up + OFFSET + 300000, store:ahead())
    store:set_clock_policy()
    assert.is_true(select(2, put())) -- an uptime again
  end)

  it("follow uptimes though none has been given before", function()
    local up <const> = spool.uptime()
    store:follow_uptimes(up - 10, up + 100000)
    store:set_clock_policy("fixed", 0)
    assert.is_nil(store:ahead()) -- nobody knows the time of the last record
    store:set_clock_policy("fixed", OFFSET)
    store:follow(up + OFFSET - 1000, 1 << 50) -- which was given before all of them
    assert.equal(up + OFFSET + 100000, store:ahead())
    store:close()
    store = spool.spool(directory .. "/outbox")
    device = store:device "x"
    store:follow_uptimes(up - 10, up + 100000)
    assert_between(up + 100001, (put()), up + 101000)
  end)

  describe("that are dated later", function()
    local first, second, up

    before_each(function()
      first = put()
      up = first
      second = put()
      assert(store:put(device, { a = 1 }))
    end)

    -- The time and kind of the oldest record in memory, which was the second to be put.
    local function oldest() return select(3, store:oldest(device, true)) end

    it("are uptimes and the offset", function()
      assert.is_true(store:date(OFFSET))
      local ts, undated = oldest()
      assert.is_false(undated)
      assert_between(second + OFFSET + 1, ts, second + OFFSET + 1000) -- of the last one of the run
      store:set_clock_policy("fixed", OFFSET)
      local before <const> = spool.uptime()
      assert(store:put(device, { a = 1 }))
      assert_between(before + OFFSET, (oldest()), before + OFFSET + 1000) -- in the same run
      store:set_clock_policy("fixed", OFFSET - 1000)
      assert.is_true((put()) > ts) -- what is put next follows them
      assert.is_true(store:date(OFFSET)) -- there are none any more
      assert.is_true((put()) > ts)
    end)

    it("have the offset with which the time became known", function()
      store:set_clock_policy("fixed", OFFSET)
      local known <const> = assert(store:put(device, { b = 1 }))
      store:date(OFFSET + 777777)
      local ts, undated = oldest()
      assert.is_false(undated)
      assert_between(second + OFFSET + 1, ts, second + OFFSET + 1000)
      store:discard_pending(device, 0, known - 1)
      assert_between(ts + 1, (oldest()), ts + 1000) -- it had its date
      store:set_clock_policy()
      put() -- undated ones that come later have another one
      store:date(OFFSET + 777777)
      assert_between(up + OFFSET + 777777, (oldest()), up + OFFSET + 780000)
    end)

    it("come behind a time that was given before", function()
      local given <const> = first + OFFSET + 50000
      store:set_clock_policy("fixed", OFFSET)
      store:follow(given, 1 << 50)
      store:date(OFFSET)
      local ts, undated = oldest()
      assert.is_false(undated)
      assert_between(given + second - first + 2, ts, given + second - first + 1000)
      assert.is_true((put()) > ts)
    end)

    it("are where they would be without a time that was given before them", function()
      store:set_clock_policy("fixed", OFFSET)
      store:follow(first + OFFSET - 1000, 1 << 50)
      store:date(OFFSET)
      assert_between(second + OFFSET + 1, (oldest()), second + OFFSET + 1000)
    end)

    it("come behind it by as much as those that another process has put", function()
      store:follow_uptimes(first - 30000, first)
      store:follow_uptimes(first - 1000, first) -- of which none is earlier
      store:set_clock_policy("fixed", OFFSET)
      store:follow(first + OFFSET - 20000, 1 << 50)
      store:date(OFFSET)
      assert_between(second + OFFSET + 10002, (oldest()), second + OFFSET + 11000)
    end)
  end)
end)

describe("the clock of records", function()
  local monotonic <const> = core.monotonic
  local directory, hook, store, self, now

  before_each(function()
    directory = scratch.quick()
    hook = directory .. "/hook"
    store = spool.spool(directory .. "/outbox")
    clock.known(hook) -- which is not there: nobody has said anything
    self = clock.new(store)
    now = 0
    core.monotonic = function() return now end
  end)

  after_each(function()
    core.monotonic = monotonic
    clock.known(true)
    store:close()
    scratch.remove(directory)
  end)

  local function date(seconds) return os.date("!%a, %d %b %Y %H:%M:%S GMT", seconds) end

  local PAST <const> = 1600000000 -- in seconds, no wall clock's time
  local function offset_of(seconds) return seconds * 1000 + 500 end -- a `Date` leaves out half a second on average

  it("reads a Date by the calendar", function()
    local function check(text, seconds)
      local one <const> = clock.new(store)
      one:hear(text, 1000, 0, true)
      assert.equal(seconds and offset_of(seconds) - 1000, one.offset, text)
    end
    for day = 0, 24000, 97 do check(date(day * 86400 + day % 86400), day * 86400 + day % 86400) end
    check("Thu, 29 Feb 2024 23:59:59 GMT", 1709251199)
    check("Sun, 28 Feb 2100 23:59:59 GMT", 4107542399)
    check("Mon, 01 Mar 2100 00:00:00 GMT", 4107542400) -- that is no leap year
    for _, none in ipairs {
      "", "Thu, 29 Foo 2024 23:59:59 GMT", "Thu, 29 anF 2024 23:59:59 GMT", "Thu, 29 Feb 2024 23:59:59 CET",
      "29 Feb 2024 23:59:59 GMT", "Thu, 29 Feb 2024 23:59:59 GMT+1",
    } do check(none, nil) end
  end)

  it("takes no Date that came late, unless three before it did, nor a poll's", function()
    for _ = 1, 3 do
      for _ = 1, 9 do self:hear(date(PAST), 0, nil, true) end
      self:hear(date(PAST), 0, 2001, true)
      assert.is_nil(self:offset_now())
    end
    self:hear(date(PAST), 0, nil, true)
    assert.is_nil(self:offset_now())
    self:hear(date(PAST), 0, 2001, true)
    assert.equal(offset_of(PAST), self:offset_now())
    for n = 1, 4 do -- they are counted anew
      self:hear(date(PAST + 100), 0, 2001, true)
      assert.equal(offset_of(n < 4 and PAST or PAST + 100), self:offset_now())
    end
    self:hear(date(PAST + 200), 0, 2000, true)
    assert.equal(offset_of(PAST + 200), self:offset_now())
  end)

  it("takes the server's time anew only where that differs by more than the error of a Date", function()
    self:hear(date(PAST), 0, 0, true)
    for uptime, offset in pairs { [1500] = 0, [-1500] = 0, [1501] = -1501 } do
      self.offset = offset_of(PAST)
      self:hear(date(PAST), uptime, 0, true)
      assert.equal(offset_of(PAST) + offset, self:offset_now())
    end
  end)

  it("is the system's where a Date, however late, differs by less than a minute", function()
    for _, took in ipairs { 0, 9999, false } do
      local one <const> = clock.new(store)
      one:hear(date(os.time() - 50), spool.uptime(), took or nil, false)
      assert.near(os.time() * 1000 - spool.uptime(), one:offset_now(), 2000)
      assert.is_false(one.by_server)
    end
    clock.known(false) -- it is the script that knows
    self:hear(date(os.time() - 50), spool.uptime(), 0, false)
    assert.is_nil(self:offset_now())
    assert.is_true(self:wants_date())
    self:hear(date(PAST), 0, 0, true)
    assert.equal(offset_of(PAST), self:offset_now()) -- the server's, not the system's
    clock.known(true)
    assert.near(os.time() * 1000 - spool.uptime(), self:offset_now(), 2000)
    assert.is_false(self:wants_date())
  end)

  it("asks a server that it does not believe once, until the clock is set", function()
    local up <const> = spool.uptime()
    assert.is_true(self:may_ask(up))
    self:hear(date(PAST), up, 0, false)
    assert.is_nil(self:offset_now())
    assert.is_false(self:may_ask(up))
    for _, set in ipairs { 50000, -50000 } do assert.is_false(self:may_ask(up + set)) end
    for _, set in ipairs { 70000, -70000 } do assert.is_true(self:may_ask(up + set)) end
    self:hear(date(PAST), up, 0, true)
    assert.is_true(self:may_ask(up))
  end)

  it("wants a Date until it is known, and then once a minute", function()
    assert.is_true(self:wants_date())
    self:hear(date(PAST), 0, 0, false)
    assert.is_true(self:wants_date())
    now = 100
    self:hear(date(PAST), 0, 0, true)
    now = 159
    assert.is_false(self:wants_date())
    now = 160
    assert.is_true(self:wants_date())
  end)

  it("is known from another process, unless it is known already", function()
    self:recall(offset_of(PAST))
    assert.equal(offset_of(PAST), self:offset_now())
    self:recall(7)
    assert.equal(offset_of(PAST), self:offset_now())
  end)

  it("follows times that it has found before it was known, and says that it is", function()
    local up <const>, known = spool.uptime(), 0
    self.on_known = function() known = known + 1 end
    self:follow(PAST * 1000 + up + 50000)
    self:follow(PAST * 1000 + up + 70000) -- too far ahead
    clock.known(hook)
    assert.same({ 0, nil }, { known, store:ahead() })
    self:recall(PAST * 1000)
    assert.equal(1, known)
    assert.equal(PAST * 1000 + up + 50000, self:ahead())
    assert.is_nil(next(self.to_follow))
    self:follow(PAST * 1000 + up + 70000)
    assert.equal(PAST * 1000 + up + 50000, self:ahead())
    self:follow(PAST * 1000 + up + 70000, 90000)
    assert.equal(PAST * 1000 + up + 70000, self:ahead())
    store:set_clock_policy()
    self = clock.new(store)
    self:follow(PAST * 1000 + up + 80000, 90000) -- as far ahead as it may be
    self:recall(PAST * 1000)
    assert.equal(PAST * 1000 + up + 80000, self:ahead())
  end)

  it("is known when the script says so, or its hook's file is there, or a server has said it", function()
    collectgarbage() -- those of other specs
    collectgarbage()
    assert.is_false(clock.known())
    assert.is_false(self:look())
    local all <const> = { self }
    for n = 1, 9 do all[n + 1] = clock.new(spool.spool(directory .. "/" .. n)) end
    self:recall(PAST * 1000)
    assert.is_true(clock.known()) -- one of them knows it
    assert.is_nil(all[2]:offset_now())
    assert.is_true(self:look())
    assert.is_false(clock.known(false))
    assert.is_nil(self:offset_now())
    assert.is_false(self:look())
    self.offset = nil
    assert.is_false(clock.known(hook))
    assert(io.open(hook, "w")):close()
    assert.is_true(self:look())
    assert.near(os.time() * 1000 - spool.uptime(), self:offset_now(), 2000)
    assert.is_false(clock.known(false))
    assert.is_false(self:look()) -- though that is there: the script has the last word
    assert.is_true(clock.known(hook))
  end)
end)
