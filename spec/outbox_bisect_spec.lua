-- The outbox's search for a bad record, its trials of one, its sets of records and its limits, each without a server.
local bisect = require "thingsboard.outbox.bisect"
local budget = require "thingsboard.outbox.rate_limit"
local core = require "thingsboard.core"
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
    self = bisect.new()
    self:refused(1, 64, 64)
    assert.same({ 1, 64, 32 }, { self:next() })
    self:refused(1, 32, 32)
    assert.same({ 1, 32, 1 }, { self:next() })
    assert.is_false(self:refused(60, 70, 11)) -- from elsewhere
    assert.is_false(self:refused(0, 8, 9))
    assert.is_true(self:refused(60, 60, 1))
    assert.same({ 1, 32, 1 }, { self:next() })
    assert.is_false(self:refused(31, 32, 2)) -- a part of it
    assert.same({ 31, 32, 1 }, { self:next() })
    self = bisect.new()
    self:refused(1, 70, 70)
    self:passed(1, 35, 35)
    assert.same({ 36, 70, 17 }, { self:next() })
    self:refused(36, 52, 17)
    assert.same({ 36, 52, 8 }, { self:next() }) -- no two in a row
    self:passed(36, 51, 16)
    assert.same({ 52, 52, 1 }, { self:next() })
  end)

  it("has no bound after a batch of 4,096 has passed, where each is twice as large as the one before", function()
    local self, rooms = bisect.new(), {}
    self:refused(1, 1, 1)
    for n = 1, 14 do
      rooms[n] = self:room()
      self:passed(1, rooms[n], rooms[n])
    end
    assert.same({ 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, math.huge }, rooms)
    self:refused(1, 1, 1)
    self:passed(1, 4095, 4095)
    assert.equal(8190, self:room())
    self:passed(1, 1, 1) -- no more were left
    assert.equal(8190, self:room())
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

  -- One trial; whether its samples and the record itself pass. The sample before may have to pass twice. Returns the
  -- verdict and how long it took to come up.
  local function trial(before, itself, after)
    local from = now
    while not self:next(now) do now = self:due() end
    local waited, verdict = now - from, nil
    if before and select(2, self:next(now)) == "before" then post(true) end
    for _, step in ipairs { { "before", before }, { "itself", itself }, { "after", after } } do
      local due, said = post(step[2], step[1])
      if due == step[1] then verdict = said elseif step[1] ~= "before" then break end
    end
    return verdict, waited
  end

  -- Trials that count, until they are a proof; how long each has waited.
  local function proof()
    local waits = {}
    repeat
      local verdict, waited = trial(true, false, true)
      waits[#waits + 1] = waited
    until verdict or #waits > 9
    return waits
  end

  it("is proved by four trials, a minute before the last, in less than two minutes", function()
    assert.same({ 0, 4, 8, 65 }, proof())
  end)

  it("is not proved by a server that refuses every so many posts, whichever these are", function()
    for every = 2, 9 do
      for phase = 1, every do
        for entries = 1, 3 do
          self, now = doubts.new(1, 300, '"sample"'), 0
          self:keep_sample({ text = '{"n":1}', records = 1, points = 1, bytes = 7 }, now)
          for n = 1, entries do self:add("records", n, 1, 7, "refused", now) end
          local posts = phase
          while self.count > 0 do
            while not self:next(now) do now = self:due() end
            posts = posts + 1
            local passes = posts % every > 0
            local step, verdict = post(passes)
            assert.not_equal("proved", verdict)
            if not passes and (step == "before" or step == "after") then self:disturb(now) end
            assert.is_true(posts < 1000)
          end
        end
      end
    end
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
    assert.same({ 65, 2, 2, 4, 8, 65 }, proof())
    assert.is_true(entry.disturbed)
  end)

  it("begins anew for what is refused beside it only once a trial of it has counted", function()
    self:disturb(now)
    assert.is_nil((trial(true, false, true)))
    assert.is_falsy(entry.disturbed)
    self:disturb(now)
    assert.same({ 4, 2, 2, 4, 8, 65 }, proof())
  end)

  it("has what passes between its trials as a sample, too, once", function()
    assert.same({ '{"n":1}', 1 }, { self:sample() })
    self.object = nil
    assert.same({ '{"n":1}', 1 }, { self:sample() })
    self.lists = false
    assert.is_nil(self:sample())
    self.lists, self.records = true, nil
    assert.is_nil(self:sample())
  end)

  it("takes six trials from the first on where something that was refused has passed", function()
    self:remove(entry)
    self:add("records", 8, 2, 30, "refused", now, true)
    assert.same({ 1, 2, 2, 4, 8, 65 }, proof())
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
    local longest = 0
    for _ = 1, 30 do longest = math.max(longest, (select(2, trial(true, false, false)))) end
    assert.equal(900, longest)
  end)

  it("gets a sample of its size, by copies of what has passed", function()
    while not self:next(now) do now = self:due() end
    local body, points = self:sample_for(entry)
    assert.equal('[{"n":1},{"n":1},{"n":1},{"n":1},{"n":1}]', body)
    assert.equal(5, points)
    entry.points, entry.bytes = 3, 10
    assert.equal('[{"n":1},{"n":1},{"n":1}]', (self:sample_for(entry)))
    entry.points, entry.bytes = 0, 0 -- its size does not matter
    self.object = nil
    assert.equal('{"n":1}', (self:sample_for(entry)))
  end)

  it("gets a thousand copies at most: a larger one is tried without a sample, until there is one for it", function()
    self:remove(entry)
    for _, sizes in ipairs { { { 2, 7000 }, { 2, 7001 } }, { { 1000, 7 }, { 1001, 7 } } } do
      local most, more = table.unpack(sizes)
      self.records, self.object = nil, nil
      self:keep_sample({ text = '{"n":1}', records = 1, points = 1, bytes = 7 }, now)
      local large = self:add("records", 8, most[1], most[2], "refused", now)
      now = self:due()
      assert.same({ large, "before" }, { self:next(now) })
      self:remove(large)
      large = self:add("records", 9, more[1], more[2], "refused", now)
      assert.is_true(self:wants_sample())
      self:keep_sample({ text = '{"":1}', records = 1, points = 1, bytes = 6 }, now) -- which is too small as well
      assert.is_nil((self:next(now)))
      now = self:due()
      assert.same({ large, "alone" }, { self:next(now) })
      self:remove(large)
      assert.is_nil(self:due())
    end
  end)

  it("gets the smallest sample there is, and of single records that with most points", function()
    local function sample(records, points, bytes)
      local made = { text = "x", records = records, points = points, bytes = bytes }
      self:keep_sample(made, now)
      return made
    end
    self.records, self.object = nil, nil
    local first = sample(3, 3, 40)
    assert.same({ first }, { self.records, self.object })
    local smaller = sample(2, 9, 20)
    sample(2, 2, 30)
    sample(2, 2, 20)
    assert.equal(smaller, self.records)
    assert.is_nil(self.object)
    sample(1, 1, 50)
    local most = sample(1, 3, 60)
    sample(1, 2, 20)
    sample(1, 3, 20)
    assert.equal(most, self.object)
    assert.equal(smaller, self.records)
  end)

  it("waits no longer than from now on when another process takes it up, and what had counted counts", function()
    self:remove(entry)
    self:disturb(now) -- before that
    local taken = self:take_up({ kind = "records", id = 8, points = 1, bytes = 7, counted = 3, disturbed = false,
      wait = 60, at = 1e9 }, 10)
    assert.equal(70, taken.at)
    now = 70
    assert.equal("proved", (trial(true, false, true)))
    self:remove(taken)
    assert.equal(20, self:take_up({ kind = "records", id = 9, points = 1, bytes = 7, counted = 0, disturbed = false,
      wait = 60, at = 20 }, 10).at)
  end)

  it("is to be noted after each change", function()
    local function changes()
      local changed = self.changed
      self.changed = false
      return changed
    end
    assert.is_false(doubts.new(1, 300, '"sample"').changed)
    assert.is_true(changes())
    assert.is_false(changes())
    trial(true, false, true)
    assert.is_true(changes())
    self:disturb(now)
    assert.is_true(changes())
    self:remove(entry)
    assert.is_true(changes())
    self:remove(entry) -- once
    assert.is_false(changes())
    assert.equal(0, self.count)
  end)

  it("gets a record with as many points, spaces to its size, and no list where the server takes none", function()
    self:keep_sample({ text = '{"n":1,"m":2}', records = 1, points = 2, bytes = 13 }, now)
    local body, points = self:sample_for(entry)
    assert.equal('{"n":1,"m":2}' .. (" "):rep(17), body)
    assert.equal(2, points)
    entry.points = 1
    assert.equal(body, (self:sample_for(entry)))
    entry.points = 2
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
    local other = doubts.new(1, 300, '"sample"') -- without a sample for records
    other:add("attributes", '"a"', 1, 30, "refused", now)
    assert.equal("before", (select(2, other:next(1))))
    assert.is_false(other:wants_sample())
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

  it("shares no sample where anything else is posted behind it", function()
    self:add("records", 9, 1, 20, "refused", now)
    now = self:due() + 1
    for _, passes in ipairs { true, false, true } do post(passes) end
    assert.equal("itself", (select(2, self:next(now))))
    self:posted { kind = "records" }
    assert.equal("before", (select(2, self:next(now))))
  end)

  it("shares no sample that was refused", function()
    self:add("records", 9, 1, 20, "refused", now)
    now = self:due() + 1
    for _, passes in ipairs { true, false, false } do post(passes) end
    assert.equal("before", (select(2, self:next(now))))
  end)

  it("gets a sample of the outbox's own where none has passed for long, until one has", function()
    self.records, self.object = nil, nil
    local tries = 0
    repeat
      while not self:next(now) do now = self:due() end
      tries = tries + 1
    until post(false, "alone") ~= "alone" or self.own
    assert.truthy(self.own)
    assert.is_true(tries > 5 and now > 500 and now < 900, now)
    for _ = 1, 3 do assert.is_nil((trial(true, false, true))) end
    local body, points = self:sample_for(entry)
    assert.matches('^%[{"ts":%d+,"values":{"sample":0}},', body)
    assert.equal(2, points)
    assert.equal("proved", (trial(true, false, true)))
    self:keep_sample({ text = '{"n":1,"m":2}', records = 1, points = 2, bytes = 13 }, now)
    assert.matches("^" .. '{"n":1,"m":2} +$', (self:sample_for(entry)))
    assert.is_nil(self.own)
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
    for _, what in ipairs { { counted = 1 }, { counted = 0, disturbed = true } } do -- not what was on trial
      self:remove(self:next(self:due()))
      if not self:due() then entry = self:add("records", 10, 1, 20, "refused", now) end
      for _, left in ipairs(self:list()) do
        for name, value in pairs(what) do left[name] = value end
      end
      self:hurry(now)
      assert.is_nil((self:next(now)))
    end
    self:keep_sample({ text = '{"n":1}', records = 1, points = 1, bytes = 7 }, now)
    assert.equal("before", (select(2, self:next(now))))
    for _, left in ipairs(self:list()) do self:remove(left) end
    self:hurry(now) -- there is none
    assert.equal(0, self.count)
  end)

  it("begins its trial anew when the sender does", function()
    now = self:due()
    self:begin(now)
    assert.same({ entry, "before" }, { self:next(now) }) -- none was on
    post(true)
    assert.same({ entry, "itself" }, { self:next(now) })
    self:begin(now)
    assert.is_nil((self:next(now)))
    assert.equal(now + 1, self:due())
    now = self:due()
    assert.same({ entry, "before" }, { self:next(now) })
  end)

  it("is listed, and forgotten by its kind", function()
    local other = self:add("records", 8, 1, 20, "refused", now)
    local attribute = self:add("attributes", '"a"', 1, 20, "refused", now)
    self:remove(entry)
    local kinds = {}
    for n, one in ipairs(self:list()) do kinds[n] = one.kind end
    table.sort(kinds)
    assert.same({ "attributes", "records" }, kinds)
    self:forget "records"
    assert.same({ attribute }, self:list())
    assert.same({ true, false, 1 }, { other.gone, attribute.gone, self.count })
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

  it("knows of a limit until nothing limits it any more", function()
    local self, most = pace.new(300), { points = 1000, bytes = 100000 }
    assert.same({ 0, math.huge }, { self.next_at, self.rate })
    self:refused(0, 0) -- not for its points
    self:prove(true)
    assert.same({ posts = 10 }, self:found())
    for _ = 1, 89 do self:passed(0, most) end
    assert.same({ posts = 99 }, self:found())
    self:passed(0, most)
    assert.is_nil(self:found())
    self:refused(0, 1)
    self:prove(true)
    for _ = 1, 90 do self:passed(0, most) end
    assert.same({ points = 361 }, self:found())
    for _ = 1, 160 do self:passed(0, most) end
    assert.is_nil(self:found())
    self:refused(0, 2 * 996)
    self:prove()
    self:passed(0, most) -- as many points as there may be
    assert.same({ posts = 11 }, self:found())
    for _ = 1, 90 do self:passed(0, most) end
    for _ = 1, 2 do self:refused(0, 1, "unclear") end
    assert.equal(10, self.rate) -- that accidents were proved is forgotten as well
  end)

  it("is no faster than the longest wait allows, and spreads the posts", function()
    local self = pace.new(5)
    for _ = 1, 20 do self:refused(0, 1) end
    assert.equal(0.2, self.rate)
    local least, longest = math.huge, 0
    for _ = 1, 300 do
      self:refused(100, 1)
      least, longest = math.min(least, self.next_at), math.max(longest, self.next_at)
    end
    assert.is_true(least >= 102.5 and least < 102.9 and longest > 104.6 and longest <= 105, least .. " " .. longest)
  end)

  it("falls where all is refused for what it is, after sixteen times in a row", function()
    local self = pace.new(300)
    for _ = 1, 16 do assert.is_false(self:refused(5, 600, "itself")) end
    assert.same({ math.huge, math.huge, 0 }, { self.rate, self.points, self.next_at })
    for _ = 1, 2 do
      assert.is_false(self:refused(5, 600, "itself"))
      assert.same({ 10, math.huge }, { self.rate, self.points })
      assert.is_true(self.next_at >= 5.05 and self.next_at <= 5.1)
    end
    self:refused(5, 0)
    self:refused(5, 600, "itself")
    assert.equal(5, self.rate)
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
    local self, rates, wanted = pace.new(300), {}, { math.huge, 10, 5, 2.5 }
    for n = 1, 22 do
      self:refused(0, 600, "unclear")
      rates[n] = self.rate
    end
    for n = 5, 22 do wanted[n] = ({ [17] = 1, [18] = 0.5, [19] = 0.25, [20] = 0.125 })[n] or n > 20 and 0.1 or 2 end
    assert.same(wanted, rates)
  end)

  it("makes posts smaller that are too large, and lets them grow again, to what is allowed", function()
    local self, most = pace.new(300), { points = 1000, bytes = 100000 }
    self:too_large(64000)
    assert.equal(32000, self.bytes)
    self:passed(0, most)
    assert.equal(32500, self.bytes)
    for _ = 1, 62 do self:passed(0, most) end
    assert.is_true(self.bytes > 60000 and self.bytes < 64000)
    self:too_large(self.bytes)
    self:too_large(1)
    assert.equal(1, self.bytes)
    self:passed(0, most)
    assert.equal(2, self.bytes)
    for _ = 1, 2 do -- as many as there may be, and more
      self:too_large(64000)
      most.bytes = most.bytes == 32500 and 32400 or 32500
      self:passed(0, most)
      assert.equal(math.huge, self.bytes)
    end
    assert.is_nil(self:found())
  end)
end)

describe("a set of records", function()
  it("is that of a model", function()
    math.randomseed(3)
    local wrong = 0
    local function hold(condition) if not condition then wrong = wrong + 1 end end
    for _ = 1, 100 do
      local set, model = ranges.new(), {}
      for _ = 1, 40 do
        local first = math.random(0, 60)
        local last = first + math.random(0, 12)
        local add = math.random() < 0.6
        if add then set:add(first, last) else set:remove(first, last) end
        for n = first, last do model[n] = add or nil end
        local from, to = set:gap(0, 100)
        for n = 0, from - 1 do hold(model[n]) end
        for n = from, to do hold(not model[n]) end
        hold(from <= to and (to == 100 or model[to + 1]))
        for n = 0, 80 do
          local free, behind = set:gap(n, n)
          hold((model[n] ~= nil) == (free > behind))
        end
        for i = 2, #set do hold(set[i].first > set[i - 1].last + 1) end
      end
    end
    assert.equal(0, wrong)
  end)
end)

describe("a rate limit", function()
  local monotonic <const> = core.monotonic
  local now

  before_each(function()
    now = 100
    core.monotonic = function() return now end
  end)
  after_each(function() core.monotonic = monotonic end)

  it("counts what is sent from the answer on, until its time is over, for each of its bands", function()
    local limit = budget.new "3:1, 4:10"
    assert.equal(3, limit:room())
    local done = limit:spend(2)
    now = 200 -- it is in flight still
    assert.equal(1, limit:room())
    done()
    now = 200.5
    assert.equal(1, limit:room())
    now = 201
    assert.equal(2, limit:room())
    limit:spend(2)()
    assert.equal(0, limit:room())
    local free_at = {}
    for amount = 0, 5 do free_at[amount] = limit:free_at(amount) end
    assert.same({ [0] = 0, 210, 210, 211, 211, 211 }, free_at) -- more than the limit goes when nothing is spent
    now = 210
    assert.equal(2, limit:room())
    now = 211
    assert.equal(3, limit:room())
    for _, band in ipairs(limit) do assert.is_nil(next(band.spent)) end
    assert.equal(0, limit:free_at(3))
    for _ = 1, 3 do limit:spend(1)() end
    now = 212 -- all at once
    assert.equal(1, limit:room())
    now = 221
    assert.equal(3, limit:room())
  end)

  it("is none without a notation, and has to make sense", function()
    local limit = budget.new(nil)
    limit:spend(1000)
    assert.equal(math.maxinteger, limit:room())
    assert.equal(0, limit:free_at(1000))
    for _, bad in ipairs { "", ",", "5", "5:", ":5", "0:1", "5:0", "-5:1", "5:1:2", "5:1,x", "5:1;6:2", "1e3:1" } do
      assert.is_nil(budget.new(bad), bad)
    end
    assert.equal(1, budget.new("1:1"):room())
  end)
end)
