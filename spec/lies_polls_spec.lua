-- Polls of servers that lie: they get over each lie, without a loop, and nothing is lost or handed out twice.
-- All lies are told at once, each to a device of its own, so that the slow ones cost their time together.
local core = require "thingsboard.core"
local emulator = require "spec.support.emulator"
local lies = require "spec.support.lies"
local loop = require "thingsboard.loop"
local tb = require "thingsboard"

local LIES_FOR <const> = 3 -- seconds, once each device has polled
local PATIENCE <const> = 60 -- seconds for each step: a poll asks for half a second, and waits for ten more
local MOST_POLLS <const> = 40 / LIES_FOR -- a second, of each kind, while the lies are told

-- What a poll for requests may bring; `handed` are those that are one.
local requests = {
  { "no id", '{"method":"m"}' }, { "an id of null", '{"id":null,"method":"m"}' },
  { "an id as a string", '{"id":"7","method":"m"}' }, { "an id with a fraction", '{"id":7.5,"method":"m"}' },
  { "an id of 2^31", '{"id":2147483648,"method":"m"}' }, { "an id of 2^63", '{"id":9223372036854775808,"method":"m"}' },
  { "an id below 32 bits", '{"id":-2147483649,"method":"m"}' }, { "an infinite id", '{"id":1e999,"method":"m"}' },
  { "no method", '{"id":7}' }, { "a number as method", '{"id":7,"method":5}' },
  { "a list of requests", '[{"id":7,"method":"m"}]' },
  { "no params", '{"id":7,"method":"m"}', handed = { "m", "sane" } },
  { "a negative id", '{"id":-7,"method":"m","params":{}}', handed = { "m", "sane" } },
  { "two ids and methods", '{"id":6,"id":7,"method":"n","method":"m"}', handed = { "m", "sane" } },
}

-- What a poll for attributes may bring.
local updates = {
  { "nothing new", '{"n":1}' }, { "a list", "[1,2]" }, { "an empty object", "{}" }, { "no list", '{"deleted":5}' },
  { "odd keys", '{"deleted":[1,null,{},[]]}' },
}

describe("polls of a server that lies", function()
  local e, failures
  local told = {} -- by name: what became of the lie

  -- One device, to which a lie is told.
  local function tell(name, fault, paths, url)
    local token = e:create_device { name = name }
    local story = { token = token, handed = {}, values = {}, polls = { rpc = 0, attributes = 0 } }
    told[name] = story
    e:set_shared(token, '{"n":1}')
    for _, path in ipairs(paths) do
      local one = { path = token .. path }
      for key, value in pairs(fault) do one[key] = value end
      e:fault(one)
    end
    local dev = tb.device {
      url = url, ca_file = e.ca_file, token = token, timeout = 1, max_response = lies.MOST_RESPONSE,
    }
    story.dev = dev
    tb.spawn(function()
      local iterator = dev:rpc_requests { period = 0.5 }
      for request in iterator, nil, nil, iterator do
        table.insert(story.handed, request.method)
        for _ = 1, 10 do -- on a busy machine a second may be too short
          if request:reply "yes" then break end
        end
        if request.method == "sane" then
          tb.spawn(function()
            tb.sleep(1) -- would it come again?
            iterator:close()
          end)
        end
      end
      story.rpc_ended, story.rpc_error = true, iterator.error
    end)
    tb.spawn(function()
      local iterator = dev:attribute_updates({ "n" }, { period = 0.5 })
      for values in iterator, nil, nil, iterator do
        table.insert(story.values, values.n)
        if values.n == 2 then
          tb.spawn(function()
            tb.sleep(1)
            iterator:close()
          end)
        end
      end
      story.updates_ended, story.updates_error = true, iterator.error
    end)
    return story
  end

  local function count_polls(stories)
    local by_token = {}
    for _, story in ipairs(stories) do
      by_token[story.token] = story
      story.polls = { rpc = 0, attributes = 0 }
    end
    for _, request in ipairs(e:requests()) do
      local token, path = request.target:match "^/api/v1/([^/]+)/(%a+)"
      local polls = by_token[token].polls
      polls[path] = polls[path] + 1
    end
  end

  local function each_has_polled(stories)
    count_polls(stories)
    for _, story in ipairs(stories) do
      if story.polls.rpc == 0 or story.polls.attributes == 0 then return false end
    end
    return true
  end

  -- Lets the stories run, from their first polls until all is well, or patience ends.
  local function run(stories)
    local from, deadline = core.monotonic(), core.monotonic() + PATIENCE
    tb.spawn(function()
      -- For whoever has never polled, the server takes no request.
      while not each_has_polled(stories) and core.monotonic() < deadline do tb.sleep(0.2) end
      for _, story in ipairs(stories) do
        story.handle = e:rpc(story.token, { method = "sane", timeout = 10 * PATIENCE * 1000 })
        e:set_shared(story.token, '{"n":2}')
      end
      tb.sleep(LIES_FOR)
      e:clear_faults()
      count_polls(stories)
      for _, story in ipairs(stories) do story.lied_for = core.monotonic() - from end
      deadline = core.monotonic() + PATIENCE
      for _, story in ipairs(stories) do
        while not (story.rpc_ended and story.updates_ended) and core.monotonic() < deadline do tb.sleep(0.05) end
        story.dev:close()
      end
    end)
    tb.run()
    e:clear()
  end

  setup(function()
    e = emulator.start { http2 = false }
    failures = {}
    tb.on_error(function(_, message) failures[#failures + 1] = message end)
    -- What is a request has a round of its own, which is short: some seconds after the answer, its id may be that of
    -- another request.
    for _, round in ipairs { false, true } do
      local stories = {}
      local function tell_one(name, lie, fault, paths, url)
        if (lie.handed ~= nil) == round then table.insert(stories, tell(name .. " " .. lie[1], fault, paths, url)) end
      end
      for scheme, url in pairs { http = e.url, https = e.tls_url } do
        for _, lie in ipairs(lies) do tell_one(scheme, lie, lie[2], { "/rpc%?", "/attributes" }, url) end
        for _, lie in ipairs(requests) do
          tell_one(scheme, lie, { how = "status", status = 200, body = lie[2] }, { "/rpc%?" }, url)
        end
        for _, lie in ipairs(updates) do
          tell_one(scheme, lie, { how = "status", status = 200, body = lie[2] }, { "/updates" }, url)
        end
      end
      run(stories)
    end
  end)

  teardown(function()
    loop.default():close()
    e:stop()
  end)

  local function gets_over(name, handed)
    it(name, function()
      local story = told[name]
      assert.is_nil(story.rpc_error)
      assert.same(handed or { "sane" }, story.handed)
      assert.equal('"yes"', e:rpc_result(story.handle).body)
      assert.is_nil(story.updates_error)
      assert.equal(2, story.values[#story.values])
      for n = 2, #story.values do assert.is_true(story.values[n] > story.values[n - 1]) end
      for path, count in pairs(story.polls) do
        assert.is_true(count <= MOST_POLLS * story.lied_for, path .. ": " .. count)
      end
    end)
  end

  it("raise nothing", function() assert.same({}, failures) end)

  for _, scheme in ipairs { "http", "https" } do
    describe("by " .. scheme .. " get over it that the server", function()
      for _, lie in ipairs(lies) do gets_over(scheme .. " " .. lie[1]) end
    end)

    describe("by " .. scheme .. ", for requests, get over", function()
      for _, lie in ipairs(requests) do gets_over(scheme .. " " .. lie[1], lie.handed) end
    end)

    describe("by " .. scheme .. ", for attributes, get over", function()
      for _, lie in ipairs(updates) do gets_over(scheme .. " " .. lie[1]) end
    end)
  end

  describe("are sent", function()
    local token, dev

    before_each(function()
      token = e:create_device {}
      dev = tb.device { url = e.url, token = token, max_response = 100000 }
      e:clear()
    end)
    after_each(function()
      dev:close()
      e:clear_faults()
    end)

    -- Lets time pass; how many polls were sent meanwhile.
    local function polls_within(seconds)
      tb.sleep(seconds)
      local count = 0
      for _, request in ipairs(e:requests()) do
        if request.target:find(token .. "/rpc?", 1, true) then count = count + 1 end
      end
      return count
    end

    it("ever less often to a server that fails far away", function()
      e:fault { path = token .. "/rpc%?", how = "status", status = 500, seconds = 0.25 }
      local _ <close> = dev:rpc_requests()
      local count = polls_within(6)
      assert.is_true(count >= 6 and count <= 26, "polls: " .. count)
    end)

    it("no more while much waits to be handed out", function()
      local params = ("x"):rep(20000)
      for id = 100, 119 do
        local body = ('{"id":%d,"method":"m","params":"%s"}'):format(id, params)
        e:fault { path = token .. "/rpc%?", how = "status", status = 200, body = body, count = 1 }
      end
      local iterator <close> = dev:rpc_requests { period = 0.5 }
      local count = polls_within(2)
      assert.is_true(count >= 5 and count <= 8, "polls: " .. count)
      local ids = {}
      for request in iterator do
        ids[#ids + 1] = request.id - 99
        request:reply()
        if #ids == 20 then break end
      end
      table.sort(ids)
      for n = 1, 20 do assert.equal(n, ids[n]) end
    end)
  end)
end)
