-- The outbox's search for a bad record, its trials of one, and its sets of records, each without a server.
local bisect = require "thingsboard.outbox.bisect"
local doubts = require "thingsboard.outbox.doubts"
local pace = require "thingsboard.outbox.pace"
local ranges = require "thingsboard.outbox.ranges"

describe("the search for a bad record", function()
  -- Sends records from 1 to a count, some of them bad; returns those found, and how many posts that took.
  local function search(count, bad, batch)
    local self, found, posts, from, done = bisect.new(), {}, 0, 1, {}
    local function post(first, most)
      local last = first
      while last < count and last - first + 1 < most do last = last + 1 end
      while done[last] do last = last - 1 end
      posts = posts + 1
      local refused = false
      for n = first, last do refused = refused or bad[n] end
      if not refused then
        for n = first, last do done[n] = true end
        self:passed(first, last, last - first + 1)
      elseif self:refused(first, last, last - first + 1) then
        found[#found + 1] = first
        done[first] = true
      end
    end
    while from <= count do
      local first, last, records = self:next()
      if first then
        post(first, math.min(records, last - first + 1))
      else
        post(from, math.min(batch, self:room()))
      end
      while done[from] do from = from + 1 end
    end
    return found, posts
  end

  it("finds one wherever it is, in few posts", function()
    for _, n in ipairs { 1, 2, 5, 499, 500, 501, 999, 1000 } do
      local found, posts = search(1000, { [n] = true }, 1000)
      assert.same({ n }, found)
      assert.is_true(posts <= 40, posts)
    end
  end)

  it("finds all of several", function()
    math.randomseed(7)
    for _ = 1, 200 do
      local bad, sorted = {}, {}
      for _ = 1, math.random(12) do bad[math.random(300)] = true end
      for n = 1, 300 do if bad[n] then sorted[#sorted + 1] = n end end
      local found = search(300, bad, math.random(300))
      table.sort(found)
      assert.same(sorted, found)
    end
  end)

  it("takes four posts for each where every third is bad, and few more for some that lie far apart", function()
    local third, far = {}, {}
    for n = 3, 3000, 3 do third[n] = true end
    local found, posts = search(3000, third, 3000)
    assert.equal(1000, #found)
    assert.is_true(posts <= 4 * 1000 + 40, posts)
    for n = 1000, 4000, 1000 do far[n] = true end
    found, posts = search(4000, far, 4000)
    assert.equal(4, #found)
    assert.is_true(posts <= 4 * 40, posts)
  end)

  it("goes from state to state as its table says", function()
    local self = bisect.new()
    assert.is_nil((self:next()))
    assert.is_false(self:passed(1, 8, 8)) -- idle
    assert.is_false(self:refused(1, 8, 8)) -- searching: the first half
    assert.same({ 1, 8, 4 }, { self:next() })
    assert.is_false(self:passed(1, 4, 4)) -- half of the rest
    assert.same({ 5, 8, 2 }, { self:next() })
    assert.is_false(self:passed(20, 30, 11)) -- from elsewhere
    assert.same({ 5, 8, 2 }, { self:next() })
    assert.is_false(self:refused(5, 6, 2))
    assert.same({ 5, 6, 1 }, { self:next() })
    assert.is_true(self:refused(5, 5, 1)) -- found
    assert.is_nil((self:next()))
    self:refused(1, 2, 2)
    assert.is_false(self:passed(1, 1, 1))
    assert.is_true(self:passed(2, 2, 1)) -- all that was refused has passed
    self:refused(1, 64, 64)
    self:refused(1, 32, 32)
    assert.same({ 1, 32, 1 }, { self:next() }) -- after two refusals one alone
  end)
end)

describe("what is in doubt", function()
  local self, entry, now

  before_each(function()
    self, now = doubts.new(1, 300, '"sample"'), 0
    entry = self:add("records", 7, 2, 30, "refused", now)
    self:keep_sample({ text = '{"n":1}', records = 1, points = 1, bytes = 7 }, now)
  end)

  -- Whatever is due next is posted, and passes or is refused. Returns the step and the verdict.
  local function post(passes, wanted)
    local due, step = self:next(now)
    if wanted and step ~= wanted then return step end
    local body, points = ("x"):rep(due.bytes), due.points
    if step == "before" or step == "after" then body, points = self:sample_for(due) end
    local sent = { doubt = due, step = step, points = points, bytes = #body }
    self:posted(sent)
    local verdict
    if passes then verdict = self:passed(sent, now) else self:refused(sent, now, "refused", true) end
    return step, verdict
  end

  -- One trial; whether its samples and the record itself pass. Returns the verdict and how long it took to come up.
  local function trial(before, itself, after)
    local from = now
    while not self:next(now) do now = self:due() end
    local verdict
    for _, step in ipairs { { "before", before }, { "itself", itself }, { "after", after } } do
      local due, said = post(step[2], step[1])
      if due ~= step[1] then return verdict, now - from end
      verdict = said
    end
    return verdict, now - from
  end

  it("is proved by four trials, a minute before the last, in less than two minutes", function()
    for _ = 1, 3 do assert.is_nil((trial(true, false, true))) end
    local verdict, waited = trial(true, false, true)
    assert.equal("proved", verdict)
    assert.is_true(waited >= 60)
    assert.is_true(now < 100)
  end)

  it("is not in doubt any more when it passes", function()
    trial(true, false, true)
    assert.equal("passed", (trial(true, true, true)))
    assert.is_nil(self:due())
  end)

  it("begins anew when a sample is refused, or anything else, and takes six trials then", function()
    for _ = 1, 3 do trial(true, false, true) end
    trial(true, false, false)
    for _ = 1, 5 do assert.is_nil((trial(true, false, true))) end
    self:disturb(now)
    for _ = 1, 5 do assert.is_nil((trial(true, false, true))) end
    local verdict, waited = trial(true, false, true)
    assert.equal("proved", verdict)
    assert.is_true(waited >= 60)
    assert.is_true(entry.disturbed)
  end)

  it("takes six trials from the first on where something that was refused has passed", function()
    self:remove(entry)
    self:add("records", 8, 2, 30, "refused", now, true)
    for _ = 1, 5 do assert.is_nil((trial(true, false, true))) end
    assert.equal("proved", (trial(true, false, true)))
  end)

  it("is tried though things go on being refused", function()
    trial(true, false, true)
    for _ = 1, 100 do
      now = now + 1
      self:disturb(now)
      if self:next(now) then break end
    end
    assert.equal("before", (select(2, self:next(now))))
  end)

  it("is posted though the sample before it is refused, but that is no proof", function()
    for _ = 1, 20 do
      while not self:next(now) do now = self:due() end
      assert.equal("before", post(false))
      self:disturb(now)
      assert.equal("alone", post(false))
      self:posted { kind = "records" }
    end
    while not self:next(now) do now = self:due() end
    post(false)
    self:disturb(now)
    assert.same({ "alone", "passed" }, { post(true) })
    assert.equal(0, self.count)
  end)

  it("waits at most a quarter of an hour between trials", function()
    for _ = 1, 20 do
      local _, waited = trial(false, false, true)
      assert.is_true(waited <= 900)
    end
  end)

  it("gets a sample of its size, by copies of what has passed", function()
    while not self:next(now) do now = self:due() end
    local body, points = self:sample_for(entry)
    assert.equal('[{"n":1},{"n":1},{"n":1},{"n":1},{"n":1}]', body)
    assert.equal(5, points)
  end)

  it("gets a record with as many points, spaces to its size, and no list where the server takes none", function()
    self:keep_sample({ text = '{"n":1,"m":2}', records = 1, points = 2, bytes = 13 }, now)
    local body, points = self:sample_for(entry)
    assert.equal('{"n":1,"m":2}' .. (" "):rep(17), body)
    assert.equal(2, points)
    self.lists = false
    assert.equal(body, (self:sample_for(entry)))
    now = now + 1
    assert.equal("before", (select(2, self:next(now))))
    self:add("records", 8, 3, 30, "refused", now - 9)
    self:remove(entry)
    assert.equal("alone", (select(2, self:next(now))))
  end)

  it("that is an attribute gets a sample of its size, which is no other attribute's value", function()
    local attribute = self:add("attributes", '"a"', 1, 30, "refused", now)
    local body, points = self:sample_for(attribute)
    assert.equal('{"sample":"xxxxxxxxxxxxxxxxx"}', body)
    assert.equal(30, #body)
    assert.equal(1, points)
    attribute = self:add("attributes", '"b"', 1, 0, "too large", now)
    assert.equal('{"sample":"x"}', (self:sample_for(attribute)))
  end)

  it("shares the sample between two trials where nothing else is posted between them", function()
    self:add("records", 9, 1, 20, "refused", now)
    now = self:due() + 1
    local steps = {}
    for _, passes in ipairs { true, false, true, false, true } do steps[#steps + 1] = post(passes) end
    assert.same({ "before", "itself", "after", "itself", "after" }, steps)
    now = self:due() + 1
    assert.equal("before", post(true)) -- that sample passed long before
    post(false)
    post(true)
    self:posted { kind = "records" } -- anything else
    assert.equal("before", post(true))
    post(false)
    post(true)
    self:add("records", 11, 9, 200, "refused", now - 1) -- larger than the sample
    assert.equal("before", (select(2, self:next(now))))
  end)

  it("shares no sample that was refused", function()
    self:add("records", 9, 1, 20, "refused", now)
    now = self:due() + 1
    for _, passes in ipairs { true, false, false } do post(passes) end
    assert.equal("before", (select(2, self:next(now))))
  end)

  it("comes up in the order in which it is due, and not when it is gone", function()
    math.randomseed(5)
    local due = {}
    self:remove(entry)
    for n = 1, 200 do
      now = now + math.random()
      due[n] = self:add("records", n, 1, 7, "refused", now)
    end
    for n = 1, 200, 3 do self:remove(due[n]) end
    assert.equal(133, self.count)
    local last = 0
    while self:due() do
      now = self:due()
      assert.is_true(now >= last)
      last = now
      local next_one = self:next(now)
      assert.not_equal(1, next_one.id % 3)
      post(true)
      if self.trial then post(true) end -- it passes
    end
    assert.equal(0, self.count)
  end)

  it("is tried without a sample until there is one, one at a time when the server is there again", function()
    self.records, self.object = nil, nil -- as in another process
    self:add("records", 9, 1, 20, "refused", now)
    now = now + 1
    assert.equal("alone", post(false))
    assert.equal("alone", post(false))
    assert.is_nil((self:next(now)))
    self:hurry(now)
    assert.equal("alone", post(false))
    assert.is_nil((self:next(now)))
    self:keep_sample({ text = '{"n":1}', records = 1, points = 1, bytes = 7 }, now)
    assert.equal("before", (select(2, self:next(now))))
  end)
end)

describe("the pace", function()
  it("falls by half and grows step by step, until nothing limits it", function()
    local self, most = pace.new(300), { points = 1000, bytes = 100000 }
    self:refused(0, 600)
    assert.equal(300, self.points)
    assert.equal(10, self.rate)
    assert.is_true(self.next_at >= 0.05 and self.next_at <= 0.1)
    assert.is_nil(self:found()) -- it may be a record's fault
    self:passed(1, most)
    self:prove()
    assert.same({ points = 304, posts = 11 }, self:found())
    for _ = 1, 100 do self:refused(0, 1) end
    assert.equal(1, self.points)
    assert.is_true(self.next_at <= 300)
    for _ = 1, 300 do self:passed(0, most) end
    assert.is_nil(self:found())
    assert.equal(0, self.next_at)
  end)

  it("does not fall for refusals without words that come now and then", function()
    local self, most = pace.new(300), { points = 1000, bytes = 100000 }
    self:refused(0, 600)
    self:passed(0, most)
    for _ = 1, 20 do
      local rate, points = self.rate, self.points
      assert.is_true(self:refused(0, 1, "unclear")) -- it may be a limit: nothing is proved by then
      assert.same({ rate, points }, { self.rate, self.points })
      self:prove(true)
      self:refused(0, 1, "unclear")
      assert.same({ rate, points }, { self.rate, self.points })
      self:passed(0, most)
    end
    local rate = self.rate
    for _ = 1, 3 do self:refused(0, 600, "unclear") end
    assert.is_true(self.rate < rate)
  end)

  it("falls slowly for refusals without words in a row, until there are many", function()
    local self = pace.new(300)
    for _ = 1, 16 do
      self:refused(0, 600, "unclear")
      assert.is_true(self.rate >= 2)
    end
    for _ = 1, 16 do self:refused(0, 600, "unclear") end
    assert.equal(0.1, self.rate)
    self:refused(0, 600, "unclear")
    assert.equal(0.1, self.rate)
  end)

  it("makes posts smaller that are too large, and lets them grow again, to what is allowed", function()
    local self, most = pace.new(300), { points = 1000, bytes = 100000 }
    self:too_large(64000)
    assert.equal(32000, self.bytes)
    for _ = 1, 63 do self:passed(0, most) end
    assert.is_true(self.bytes > 60000 and self.bytes < 64000)
    self:too_large(self.bytes)
    self:too_large(1)
    assert.equal(1, self.bytes)
    for _ = 1, 100000 do self:passed(0, most) end
    assert.equal(math.huge, self.bytes)
    assert.is_nil(self:found())
  end)
end)

describe("a set of records", function()
  it("is that of a model", function()
    math.randomseed(3)
    for _ = 1, 100 do
      local set, model = ranges.new(), {}
      for _ = 1, 40 do
        local first = math.random(0, 60)
        local last = first + math.random(0, 12)
        local add = math.random() < 0.6
        if add then set:add(first, last) else set:remove(first, last) end
        for n = first, last do model[n] = add or nil end
        local from, to = set:gap(0, 100)
        for n = 0, from - 1 do assert.is_true(model[n]) end
        if from <= to then
          for n = from, to do assert.is_nil(model[n]) end
          assert.is_true(to == 100 or model[to + 1])
        end
        for n = 0, 80 do
          local free, behind = set:gap(n, n)
          assert.equal(model[n] ~= nil, free > behind)
        end
        for i = 2, #set do assert.is_true(set[i].first > set[i - 1].last + 1) end
      end
    end
  end)
end)
