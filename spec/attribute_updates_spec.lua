local backoff = require "thingsboard.http.backoff"
local core = require "thingsboard.core"
local emulator = require "spec.support.emulator"
local tb = require "thingsboard"
local until_true = require "spec.support.until_true"

describe("attributes", function()
  local e, dev

  before_each(function()
    e = emulator.start()
    dev = tb.device { url = e.url, token = e.token }
    tb.on_error(function(_, message) error(message, 0) end)
  end)

  after_each(function()
    dev:close()
    e:stop()
  end)

  -- How many requests for attributes there were, polls left out.
  local function attribute_requests()
    local count = 0
    for _, request in ipairs(e:requests()) do
      if request.target:find("/attributes?", 1, true) then count = count + 1 end
    end
    return count
  end

  it("are published", function()
    assert(dev:send_attributes { model = "GL", uptime = 73, ratio = 2.0 })
    assert(dev:send_attributes '{"text":true}')
    local stored = e:attributes(e.token, "client")
    assert.same({ type = "STRING", value = "GL" }, stored.model)
    assert.same({ type = "LONG", value = "73" }, stored.uptime)
    assert.same({ type = "DOUBLE", value = "2.0" }, stored.ratio)
    assert.same({ type = "BOOL", value = "true" }, stored.text)
  end)

  it("are refused when the server would refuse or drop them", function()
    for _, bad in ipairs { {}, { a = 0 / 0 }, "[]", '[{"a":1}]', "{", { a = tb.null } } do
      local ok, err = dev:send_attributes(bad)
      assert.is_nil(ok)
      assert.equal("value", err.kind)
    end
    assert.equal(0, #e:requests())
    assert.error_matches(function() dev:send_attributes { 1, 2 } end, "send_attributes: .*must be strings")
    assert.error_matches(function() dev:send_attributes(7) end, "got number")
  end)

  it("are requested by key, or all of them", function()
    assert(dev:send_attributes { model = "GL", uptime = 73 })
    e:set_shared(e.token, '{"interval":5,"limit":42.0,"big":9007199254740993,"deep":{"n":[1,2.0,9223372036854775807]}}')
    assert.same({ client = { model = "GL" }, shared = { interval = 5 } },
      dev:request_attributes { client = { "model" }, shared = { "interval", "none" } })
    assert.same({ client = {}, shared = { interval = 5 } }, dev:request_attributes { shared = { "interval" } })
    local all = assert(dev:request_attributes())
    assert.equal("float", math.type(all.shared.limit))
    assert.equal(9007199254740993, all.shared.big)
    assert.equal("integer", math.type(all.shared.deep.n[1]))
    assert.equal("float", math.type(all.shared.deep.n[2]))
    assert.equal(math.maxinteger, all.shared.deep.n[3])
    assert.equal(73, all.client.uptime)
    assert.same(all, dev:request_attributes { client = {}, shared = {} })
  end)

  it("are found under every key that a URL must encode", function()
    local key = "a b&c=d/é?#%+"
    assert(dev:send_attributes { [key] = 1 })
    assert.same({ [key] = 1 }, assert(dev:request_attributes { client = { key } }).client)
  end)

  it("are not requested under keys that the server would not answer", function()
    for _, key in ipairs { "a,b", ",a", "a," } do
      assert.error_matches(function() dev:request_attributes { client = { key } } end, "comma")
    end
    assert.error_matches(function() dev:request_attributes { client = { "" } } end, "non%-empty")
    assert.error_matches(function() dev:request_attributes { shared = { 5 } } end, "key 1")
    assert.error_matches(function() dev:request_attributes { clients = {} } end, "unknown option 'clients'")
    assert.error_matches(function() dev:request_attributes { client = "model" } end, "must be a table")
    local many = {}
    for n = 1, 2000 do many[n] = "key" .. n end
    assert.error_matches(function() dev:request_attributes { client = many } end, "too many keys")
  end)

  describe("updates", function()
    it("begin with the values as they are, then tell changes and deletions", function()
      e:set_shared(e.token, '{"interval":5,"other":1}')
      local told = {}
      tb.spawn(function()
        for values, deleted in dev:attribute_updates { "interval", "limit" } do
          told[#told + 1] = { values, deleted }
          if #told == 1 then e:set_shared(e.token, '{"interval":6,"other":2,"limit":1.0}')
          elseif #told == 2 then e:delete_shared(e.token, { "interval", "nope" })
          else break end
        end
      end)
      tb.run()
      assert.same({
        { { interval = 5 }, {} },
        { { interval = 6, limit = 1.0 }, {} },
        { {}, { "interval" } },
      }, told)
    end)

    it("run in a plain script", function()
      e:set_shared(e.token, '{"n":1}')
      local seen = 0
      for values in dev:attribute_updates {} do -- which names none, and means all
        seen = seen + 1
        assert.equal(seen, values.n)
        if seen == 3 then break end
        e:set_shared(e.token, ('{"n":%d}'):format(seen + 1))
      end
      assert.equal(3, seen)
    end)

    it("tell nothing of somebody else's answers to a poll", function()
      e:set_shared(e.token, '{"n":1}')
      e:fault { path = "/updates", how = "status", status = 200, count = 3,
        body = '{"login":"required","url":"https://portal.example/"}' }
      local told = {}
      tb.spawn(function()
        tb.sleep(2.5) -- as long as the portal answers, and a request behind it
        e:set_shared(e.token, '{"n":2,"new":3}')
      end)
      tb.spawn(function()
        for values, deleted in dev:attribute_updates() do
          told[#told + 1] = { values, deleted }
          if values.new then break end
        end
      end)
      tb.run()
      assert.same({ n = 1 }, table.remove(told, 1)[1])
      local values = {}
      for _, change in ipairs(told) do
        assert.same({}, change[2])
        for key, value in pairs(change[1]) do values[key] = value end
      end
      assert.same({ n = 2, new = 3 }, values)
    end)

    it("are not undone by an answer to a request that was under way when they came", function()
      e:set_shared(e.token, '{"n":1}')
      local told = {}
      tb.spawn(function()
        for values in dev:attribute_updates { "n" } do
          told[#told + 1] = values.n
          if values.n == 3 then break end
        end
      end)
      tb.spawn(function()
        until_true(function() return told[1] end)
        e:fault { path = "/attributes%?", how = "status", status = 200, body = '{"shared":{"n":1}}', seconds = 1,
          count = 1 }
        until_true(function()
          for _, request in ipairs(e:requests()) do
            if request.fault then return true end -- the request is under way
          end
        end)
        e:set_shared(e.token, '{"n":2}')
        tb.sleep(1.5) -- until it is answered
        e:set_shared(e.token, '{"n":3}')
      end)
      tb.run()
      assert.same({ 1, 2, 3 }, told)
    end)

    it("do not tell again what is the same", function()
      e:set_shared(e.token, '{"n":1,"deep":{"a":[1,2]}}')
      local count = 0
      for values in dev:attribute_updates() do
        count = count + 1
        if count == 2 then
          assert.same({ m = 2 }, values)
          break
        end
        e:set_shared(e.token, '{"n":1}')
        e:set_shared(e.token, '{"deep":{"a":[1,2]}}')
        e:set_shared(e.token, '{"m":2}')
      end
    end)

    it("tell what differs deep within a value, and what is no longer there", function()
      local texts = { '{"a":{"b":1}}', '{"a":{}}', '{"a":[]}', '{"a":[1,2]}', '{"a":[1]}', '{"a":[1.0]}' }
      local told = 0
      e:set_shared(e.token, '{"deep":' .. texts[1] .. "}")
      for values in dev:attribute_updates() do
        told = told + 1
        assert.equal(texts[told], core.body():value(values.deep):text())
        if told == #texts then break end
        e:set_shared(e.token, '{"deep":' .. texts[told + 1] .. "}")
      end
      assert.equal(#texts, told)
    end)

    it("tell the first values to a script that closes at once, and close its poll", function()
      for _ in dev:attribute_updates() do break end -- luacheck: ignore 512
      for n = 1, 2 do assert(dev:send_attributes { n = n }) end -- a poll that were left would be sent meanwhile
      for _, request in ipairs(e:requests()) do assert.is_nil(request.target:find "/updates") end
    end)

    it("find what changed while no poll was open", function()
      e:set_shared(e.token, '{"n":1}')
      e:fault { path = "/updates", how = "stall", count = 1 } -- the first poll never reaches the server's actor
      local seen, set_at = {}, nil
      for values in dev:attribute_updates { "n" } do
        seen[#seen + 1] = values.n
        if #seen == 2 then break end
        e:set_shared(e.token, '{"n":2}')
        set_at = core.monotonic()
      end
      assert.same({ 1, 2 }, seen)
      assert.is_true(core.monotonic() - set_at < 8) -- by a request a second behind the poll, which is open for longer
    end)

    it("do not go back when one was under way for long", function()
      e:set_shared(e.token, '{"n":1}')
      e:fault { path = "/updates", how = "slow", bytes = 50, seconds = 0.5, count = 1 }
      local updates <close> = dev:attribute_updates { "n" }
      assert.same({ n = 1 }, updates())
      local function arrived(path)
        for _, request in ipairs(e:requests()) do
          if request.target:find(path) then return request end
        end
      end
      while not arrived "/updates" do tb.sleep(0.02) end
      e:set_shared(e.token, '{"n":2}') -- takes seconds to come
      e:set_shared(e.token, '{"n":3}') -- is found by the request behind the poll
      assert.same({ n = 3 }, updates())
      while not arrived("/updates").ended_at do tb.sleep(0.02) end
      tb.sleep(0.1)
      e:set_shared(e.token, '{"n":4}')
      assert.same({ n = 4 }, updates())
    end)

    it("go on after answers that make no sense", function()
      e:set_shared(e.token, '{"n":1}')
      local updates <close> = dev:attribute_updates({ "n" }, { period = 0.5 })
      assert.same({ n = 1 }, updates())
      for _, body in ipairs { "<html>", "", '{"shared":5}' } do
        e:fault { path = "/attributes%?", how = "status", status = 200, body = body, count = 1 }
      end
      local count = #e:requests()
      while #e:requests() < count + 20 do tb.sleep(0.1) end
      e:set_shared(e.token, '{"n":2}')
      assert.same({ n = 2 }, updates())
    end)

    it("ask ever less often while the server fails, for the first values and for those behind a poll", function()
      local told = {}
      e:set_shared(e.token, '{"n":1}')
      tb.spawn(function()
        for values in dev:attribute_updates { "n" } do told[#told + 1] = values.n end
      end)
      local function asked_in_two_seconds()
        local before = e:arrived(0)
        e:fault { path = "/attributes%?", how = "status", status = 503 }
        tb.sleep(2)
        e:clear_faults()
        return e:arrived(0) - before
      end
      local asked = asked_in_two_seconds() -- after waits of up to 1, 2 and 4 s: a hot loop makes hundreds
      assert.is_true(asked >= 1 and asked <= 20, asked)
      assert(dev:send_attributes { here = 1 }) -- which ends the waiting
      until_true(function() return told[1] == 1 end)
      tb.sleep(0.5) -- for the next poll
      asked = asked_in_two_seconds()
      assert.is_true(asked >= 1 and asked <= 20, asked)
      assert(dev:send_attributes { here = 2 })
      e:set_shared(e.token, '{"n":2}')
      until_true(function() return told[2] == 2 end)
      dev:close()
      tb.run()
    end)

    it("are not taken for deleted because the server says so for a moment", function()
      e:set_shared(e.token, '{"n":1}')
      local updates <close> = dev:attribute_updates()
      assert.same({ n = 1 }, updates())
      e:fault { path = "/attributes%?", how = "status", status = 200, body = "{}" }
      local before = attribute_requests()
      until_true(function() return attribute_requests() > before end) -- behind the poll, once more
      tb.sleep(0.3)
      e:clear_faults()
      until_true(function() return attribute_requests() > before + 1 end)
      e:set_shared(e.token, '{"n":3}')
      local values, deleted = updates()
      assert.same({ { n = 3 }, {} }, { values, deleted })
    end)

    it("are asked for no more while nothing changes", function()
      e:set_shared(e.token, '{"n":1}')
      local updates <close> = dev:attribute_updates()
      assert.same({ n = 1 }, updates())
      tb.sleep(1.5) -- for the request behind the poll
      e:clear()
      tb.sleep(2.5)
      assert.equal(0, #e:requests())
    end)

    it("are asked for about once a second while they keep changing", function()
      local updates <close> = dev:attribute_updates { "n" }
      assert(updates())
      e:clear()
      for n = 1, 12 do
        e:set_shared(e.token, ('{"n":%d}'):format(n))
        tb.sleep(0.25)
      end
      local asked = attribute_requests()
      assert.is_true(asked <= 8, asked) -- a hot loop makes hundreds
    end)

    it("end their poll when the loop is left", function()
      for _ in dev:attribute_updates() do break end -- luacheck: ignore 512
      local requests <close> = dev:attribute_updates()
      requests()
      requests:close()
      assert.is_nil((requests()))
      assert.is_nil(requests.error)
    end)

    it("end with their device while they wait to ask again", function()
      e:fault { path = "/attributes", how = "status", status = 503 }
      stub(backoff, "new", { next = function() return 60 end })
      finally(function() backoff.new:revert() end)
      local began, values, err = core.monotonic(), nil, nil
      tb.spawn(function()
        local updates <close> = dev:attribute_updates()
        values, err = updates()
      end)
      tb.spawn(function()
        while e:arrived(1, 0) < 1 do tb.sleep(0.01) end
        dev:close()
      end)
      tb.run()
      assert.is_nil(values)
      assert.is_nil(err)
      assert.is_true(core.monotonic() - began < 30)
    end)

    it("end with an error when the server knows the device no more", function()
      e:create_device { name = "gone", token = "GONE" }
      local gone = tb.device { url = e.url, token = "GONE" }
      local updates = gone:attribute_updates()
      assert(updates())
      e:delete_device "GONE"
      assert.is_nil((updates()))
      assert.equal("http", updates.error.kind)
      assert.truthy(updates.error.status == 401 or updates.error.status == 403)
    end)
  end)

  it("lose no change that stands, over 300 changes and deletions in bursts", function()
    local STANDS = 2 -- seconds after which a value must have been handed out
    local keys = { "a", "b", "c", "d", "e", "f" }
    local current, version = {}, 0 -- as the server has them
    local seen, newest, backwards = {}, {}, 0 -- as handed out
    e:set { subscribe_delay = 150 }
    local updates = dev:attribute_updates(keys, { period = 1.5 })
    tb.spawn(function()
      for values, deleted in updates, nil, nil, updates do
        for key, value in pairs(values) do
          if newest[key] and value < newest[key] then backwards = backwards + 1 end
          newest[key], seen[key] = value, value
        end
        for _, key in ipairs(deleted) do seen[key] = nil end
      end
    end)
    tb.spawn(function()
      for burst = 1, 20 do
        for _ = 1, 15 do
          version = version + 1
          local key = keys[math.random(#keys)]
          if math.random() < 0.25 then
            e:delete_shared(e.token, { key })
            current[key] = nil
          else
            e:set_shared(e.token, ('{"%s":%d}'):format(key, version))
            current[key] = version
          end
          if math.random() < 0.3 then tb.sleep(math.random() * 0.2) end
        end
        if burst % 4 == 0 then
          tb.sleep(STANDS)
          assert.same(current, seen)
        end
      end
      updates:close()
    end)
    tb.run()
    assert.equal(0, backwards)
    assert.equal(300, version)
  end)
end)
