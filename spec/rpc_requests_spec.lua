local backoff = require "thingsboard.http.backoff"
local emulator = require "spec.support.emulator"
local tb = require "thingsboard"

describe("RPC", function()
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

  local function ask(method, params, more)
    local fields = { method = method, params = params or "{}" }
    for name, value in pairs(more or {}) do fields[name] = value end
    return e:rpc(e.token, fields)
  end

  local function reply_of(handle) return e:rpc_result(handle, 10).body end

  -- Waits, by doing what lets tasks go on, until something is so.
  local function await(condition, seconds)
    local deadline = tb.now() + (seconds or 10) * 1000
    while not condition() do
      assert(tb.now() < deadline, "it did not come about")
      tb.sleep(0.02)
    end
  end

  -- The next request; fails, where it would wait for ever.
  local function next_of(requests, seconds)
    local task = tb.spawn(function()
      tb.sleep(seconds or 4)
      requests:close()
    end)
    local request = requests()
    task:cancel()
    return assert(request, "none came")
  end

  -- Takes so many requests whose params are 1, 2 ...; on a busy machine the two polls may bring them in another order.
  local function take(requests, count)
    local came, all = {}, {}
    for n = 1, count do came[n], all[n] = next_of(requests).params, n end
    table.sort(came)
    assert.same(all, came)
  end

  local function polls()
    local count, last = 0, nil
    for _, request in ipairs(e:requests()) do
      if request.method == "GET" and request.target:find "/rpc%?" then count, last = count + 1, request end
    end
    return count, last
  end

  -- How many requests are open.
  local function open()
    local count = 0
    for _, request in ipairs(e:requests()) do
      if not request.status and not request.given_up then count = count + 1 end
    end
    return count
  end

  describe("requests of the server", function()
    it("come with id, method and params, the first id being 0", function()
      local requests <close> = dev:rpc_requests()
      local handle = ask("setGpio", '{"pin":4,"big":9007199254740993,"ratio":2.0,"none":null}')
      local request = requests()
      assert.equal(0, request.id)
      assert.equal("setGpio", request.method)
      assert.same({ pin = 4, big = 9007199254740993, ratio = 2.0, none = tb.null }, request.params)
      assert.equal("float", math.type(request.params.ratio))
      assert.is_true(request:reply { ok = true })
      assert.equal('{"ok":true}', reply_of(handle))
    end)

    it("have params of every kind", function()
      local requests <close> = dev:rpc_requests()
      for text, value in pairs { ["5"] = 5, ['"x"'] = "x", ["[1,2]"] = { 1, 2 }, ["true"] = true, ["1.5"] = 1.5 } do
        local handle = ask("m", text)
        local request = requests()
        assert.same(value, request.params)
        assert(request:reply(request.params))
        assert.equal(text, reply_of(handle))
      end
    end)

    it("are answered with values of every kind", function()
      local requests <close> = dev:rpc_requests()
      local answers = {
        { nil, "null" }, { tb.null, "null" }, { false, "false" }, { 42.0, "42.0" }, { "é", '"é"' },
        { tb.array {}, "[]" }, { {}, "{}" },
      }
      for _, pair in ipairs { { 0.1 + 0.2, "0.30000000000000004" } } do answers[#answers + 1] = pair end
      for n = 1, #answers do
        local handle = ask "m"
        assert(requests():reply(answers[n][1]))
        assert.equal(answers[n][2], reply_of(handle))
      end
    end)

    it("can be answered later, by id, and twice without harm", function()
      local requests <close> = dev:rpc_requests()
      local handle = ask "m"
      local id = requests().id
      assert.is_true(dev:reply_rpc(id, "first"))
      assert.is_true(dev:reply_rpc(id, "second"))
      assert.equal('"first"', reply_of(handle))
    end)

    it("come in order, each once", function()
      local requests <close> = dev:rpc_requests()
      for n = 1, 20 do ask("m", tostring(n), { oneway = n % 2 == 0 }) end
      for n = 1, 20 do
        local request = requests()
        assert.equal(n, request.params)
        request:reply(n)
      end
    end)

    it("come however many were taken up before, though few may wait", function()
      local small <close> = tb.device { url = e.url, token = e.token, max_response = 600 }
      local requests <close> = small:rpc_requests()
      for n = 1, 20 do ask("m", tostring(n), { oneway = true }) end
      tb.sleep(0.3) -- as many come as may wait
      local came = 0
      for _, request in ipairs(e:requests()) do
        if request.target:find "/rpc%?" and request.status == 200 then came = came + 1 end
      end
      assert.is_true(came < 10, "came: " .. came)
      take(requests, 20)
    end)

    it("do not spin while one is unanswered, nor block the rest for ever", function()
      local requests <close> = dev:rpc_requests()
      ask("forgotten", "{}", { timeout = 6000 })
      assert.equal("forgotten", requests().method)
      local before = polls()
      local handle = ask("next", "{}", { timeout = 20000 })
      local request = requests() -- comes when the server has given the first one up
      assert.equal("next", request.method)
      assert.is_true(polls() - before < 20, "too many polls: " .. polls() - before)
      request:reply(1)
      assert.equal("1", reply_of(handle))
    end)

    it("come at once after a late reply, whatever the pause was to be till the next poll", function()
      local requests <close> = dev:rpc_requests()
      ask("slow", "{}", { timeout = 60000 })
      local request = requests()
      local before = polls()
      await(function() return polls() - before >= 4 end) -- after pauses of 0.5, 1 and 2 s, the next one is of 4 s
      local from = tb.now()
      request:reply(1)
      ask("next", "{}", { oneway = true })
      assert.equal("next", next_of(requests, 20).method)
      assert.is_true(tb.now() - from < 3000, tb.now() - from)
    end)

    it("that are unanswered do not stop those that are one-way", function()
      local requests <close> = dev:rpc_requests()
      ask("first", "{}", { oneway = true })
      assert.equal("first", requests().method) -- never answered: nothing tells that it wants no reply
      for n = 1, 5 do
        ask("more", tostring(n), { oneway = true })
        assert.equal(n, requests().params)
      end
    end)

    it("come though the server counts from 0 again", function()
      local requests <close> = dev:rpc_requests { period = 0.5 }
      for _ = 1, 3 do
        local handle = ask "before"
        requests():reply(1)
        reply_of(handle)
      end
      e:restart_rpc_ids(e.token)
      local handle = ask("after", "{}", { timeout = 20000 })
      local request = next_of(requests)
      assert.equal("after", request.method)
      request:reply "again"
      assert.equal('"again"', reply_of(handle))
    end)

    it("come though the server counts from 0 again, and nothing tells them from those before", function()
      local requests <close> = dev:rpc_requests { period = 3 }
      local came
      local function both_polls_followed()
        local count = 0
        for _, sent in ipairs(e:requests()) do
          if sent.at * 1000 > came and not sent.ended_at then count = count + 1 end
        end
        return count == 2
      end
      for life = 1, 2 do
        for n = 0, 2 do
          ask("tick", "{}", { oneway = true })
          assert.equal(n, next_of(requests, 10).id, "life " .. life)
          came = tb.now()
        end
        await(both_polls_followed)
        e:restart_rpc_ids(e.token)
      end
    end)

    it("come though each is the server's first, once a poll has found none after five seconds", function()
      local requests <close> = dev:rpc_requests { period = 0.5 }
      local came
      local function a_poll_found_none()
        for _, sent in ipairs(e:requests()) do
          if sent.at * 1000 > came and sent.ended_at and sent.ended_at * 1000 > came + 5100 then return true end
        end
      end
      ask("tick", "{}", { oneway = true })
      assert.equal(0, requests().id)
      came = tb.now()
      await(a_poll_found_none)
      e:restart_rpc_ids(e.token)
      ask("tick", "{}", { oneway = true })
      assert.equal(0, next_of(requests, 10).id)
    end)

    it("come as soon as the reply to the last one is processed, however often polls brought others again", function()
      e:set { reply_delay = 700 }
      local requests <close> = dev:rpc_requests()
      for n = 1, 5 do ask("m", tostring(n), { timeout = 60000 }) end
      local took, from
      for n = 1, 5 do
        local request = next_of(requests, 20)
        took = from and tb.now() - from
        assert.equal(n, request.params)
        request:reply(n)
        from = tb.now()
      end
      assert.is_true(took < 2000, took)
    end)

    it("do not come twice because the server was silent meanwhile", function()
      local requests <close> = dev:rpc_requests { period = 0.5 }
      local handle = ask("once", "{}", { timeout = 60000 })
      local request = requests()
      e:fault { path = "/rpc%?", how = "stall" }
      await(function() -- the client's time-out
        for _, sent in ipairs(e:requests()) do
          if sent.given_up then return true end
        end
      end, 20)
      e:clear_faults()
      local before = polls()
      await(function() return polls() >= before + 3 end, 20)
      request:reply "late"
      assert.equal('"late"', reply_of(handle))
      ask("next", "{}", { timeout = 20000 })
      assert.equal("next", next_of(requests).method)
    end)

    it("do not come twice because an answer was under way for long", function()
      local requests <close> = dev:rpc_requests { period = 2 }
      await(function() return polls() == 2 end)
      e:fault { path = "/rpc%?", how = "slow", bytes = 50, seconds = 1, count = 1 }
      ask("once", "{}", { timeout = 60000 })
      local request = next_of(requests)
      await(function() return polls() >= 3 end) -- it is answered with the same request, which takes about 10 s
      request:reply "yes"
      await(function()
        for _, sent in ipairs(e:requests()) do
          if sent.ended_at and sent.ended_at > sent.at + 6 then return true end
        end
      end, 20)
      ask("next", "{}", { timeout = 20000 })
      assert.equal("next", next_of(requests).method)
    end)

    it("go to one iterator at a time", function()
      local requests <close> = dev:rpc_requests()
      assert.error_matches(function() dev:rpc_requests() end, "being iterated over already")
      requests:close()
      local again <close> = dev:rpc_requests()
      assert.is_function(getmetatable(again).__call)
    end)

    it("leave both polls open, however quickly they came", function()
      local requests <close> = dev:rpc_requests()
      for _ = 1, 5 do
        for n = 1, 6 do ask("m", tostring(n), { oneway = true }) end
        take(requests, 6)
        await(function() return open() == 2 end, 5)
      end
    end)

    it("end with the loop, and both polls with them", function()
      ask("m", "{}", { oneway = true })
      for _ in dev:rpc_requests() do break end -- luacheck: ignore 512
      await(function() return open() == 0 end)
      assert(dev:send_telemetry { a = 1 })
      local count = polls()
      assert(dev:send_telemetry { a = 2 })
      assert.equal(count, (polls()))
    end)

    it("end with an error when the server knows the device no more", function()
      local requests <close> = dev:rpc_requests()
      tb.spawn(function()
        await(function() return polls() > 0 end)
        e:delete_device(e.token)
      end)
      assert.is_nil((requests()))
      assert.equal("http", requests.error.kind)
      assert.is_false(requests.error.retryable)
      assert.is_nil((requests()))
    end)

    it("end when the device is closed, without an error", function()
      local requests = dev:rpc_requests()
      tb.spawn(function()
        tb.sleep(0.1)
        dev:close()
      end)
      assert.is_nil((requests()))
      assert.is_nil(requests.error)
    end)

    it("are awaited through answers that make no sense", function()
      for _, body in ipairs { "<html>no</html>", "[]", "5", "{}", '{"id":"7","method":"m"}', '{"id":1.5,"method":"m"}',
        '{"id":1}', '{"id":1,"method":5}', '{"id":9223372036854775808,"method":"m"}', "null", "" } do
        e:fault { path = "/rpc%?", how = "status", status = 200, body = body, count = 1 }
      end
      local requests <close> = dev:rpc_requests()
      ask("sane", '"x"', { timeout = 30000 })
      assert.equal("sane", requests().method)
    end)

    it("are awaited through failures, ever less often", function()
      e:fault { path = "/rpc%?", how = "status", status = 500 }
      local requests <close> = dev:rpc_requests()
      local deadline = tb.now() + 3000
      while tb.now() < deadline do tb.sleep(0.1) end
      local count = polls()
      assert.is_true(count >= 4 and count <= 60, "polls: " .. count)
      e:clear_faults()
      ask("back", "{}", { timeout = 60000 })
      assert.equal("back", requests().method)
    end)

    it("may lack params", function()
      e:fault { path = "/rpc%?", how = "status", status = 200, body = '{"id":5,"method":"bare"}', count = 1 }
      local requests <close> = dev:rpc_requests()
      local request = requests()
      assert.equal("bare", request.method)
      assert.is_nil(request.params)
    end)

    it("may have any id of 32 bits, and no other", function()
      local requests <close> = dev:rpc_requests()
      for _, id in ipairs { -2147483649, -2147483648, 2147483648, 2147483647 } do
        local body = ('{"id":%d,"method":"m"}'):format(id)
        e:fault { path = "/rpc%?", how = "status", status = 200, body = body, count = 1 }
      end
      local seen = { [requests().id] = true, [requests().id] = true }
      assert.same({ [-2147483648] = true, [2147483647] = true }, seen)
    end)

    it("check what they are given", function()
      assert.error_matches(function() dev:rpc_requests { period = 0 } end, "option 'period'")
      assert.error_matches(function() dev:rpc_requests { perod = 1 } end, "unknown option 'perod'")
      assert.error_matches(function() dev:reply_rpc("1", 2) end, "id must be .*integer")
      assert.error_matches(function() dev:reply_rpc(1, print) end, "a function cannot be sent")
      local ok, err = dev:reply_rpc(1, { level = 0 / 0 })
      assert.is_nil(ok)
      assert.equal("value", err.kind)
      assert.truthy(err.message:find("level", 1, true))
    end)
  end)

  describe("served by handlers", function()
    it("is answered with what they return", function()
      local task = tb.spawn(function()
        dev:serve_rpc {
          add = function(params) return { sum = params.a + params.b } end,
          nothing = function() end,
          id = function(_, request) return request.id end,
          fails = function() error("no such pin", 0) end,
          fails_oddly = function() error {} end,
          nan = function() return { level = 0 / 0 } end,
          code = function() return { print } end,
          large = function() return ("x"):rep(70000) end,
          slow = function()
            tb.sleep(0.3)
            return "slow"
          end,
        }
      end)
      local function answer(method, params)
        local handle = ask(method, params)
        local result
        await(function()
          result = e:rpc_result(handle)
          return result
        end, 15)
        return result.body or result.status
      end
      assert.equal('{"sum":3}', answer("add", '{"a":1,"b":2}'))
      assert.equal("null", answer "nothing")
      assert.equal("2", answer "id")
      assert.equal('{"error":"no such pin"}', answer "fails")
      assert.truthy(answer("fails_oddly"):find '^{"error":"table: ')
      assert.equal('{"error":"no such method: missing"}', answer "missing")
      assert.truthy(answer("nan"):find '^{"error":".*level.*NaN')
      assert.truthy(answer("code"):find '^{"error":"reply_rpc: .*a function cannot be sent"}')
      assert.equal('"slow"', answer "slow")
      assert.truthy(answer("large"):find '^{"error":".*too large')
      assert.equal('{"sum":5}', answer("add", '{"a":2,"b":3}'))
      dev:close()
      task:join()
    end)

    it("ends with the error that ended it", function()
      e:delete_device(e.token)
      local ok, err = dev:serve_rpc {}
      assert.is_nil(ok)
      assert.equal(401, err.status)
      local _, said = pcall(function() dev:serve_rpc(5) end)
      assert.matches("rpc_requests_spec.lua:%d+: serve_rpc: a table of handlers expected", said)
      assert.error_matches(function() dev:serve_rpc { blink = 5 } end, "handler 'blink' must be a function")
    end)

    it("tries again when an answer does not get through", function()
      e:fault { path = "/rpc/0", how = "close", count = 2 }
      local task = tb.spawn(function() dev:serve_rpc { m = function() return "through" end } end)
      local handle = ask("m", "{}", { timeout = 20000 })
      await(function() return e:rpc_result(handle) end, 15)
      assert.equal('"through"', reply_of(handle))
      dev:close()
      task:join()
    end)

    it("gives up an answer that does not get through four times, and serves the next request", function()
      stub(backoff, "new", { next = function() return 0.01 end, reset = function() end, ceiling = 0.01 })
      finally(function() backoff.new:revert() end)
      e:fault { path = "/rpc/0", how = "status", status = 503 }
      local heard = 0
      tb.spawn(function()
        dev:serve_rpc({ m = function() heard = heard + 1 end }, { period = 1 })
      end)
      ask("m", "{}", { timeout = 1000 })
      ask("m", "{}", { timeout = 20000 })
      await(function() return heard == 2 end, 15)
      dev:close()
      tb.run()
      local tries = 0
      for _, request in ipairs(e:requests()) do tries = tries + (request.target:find "/rpc/0$" and 1 or 0) end
      assert.equal(4, tries)
    end)

    it("does not try again what would be in vain", function()
      e:fault { path = "/rpc/7", how = "status", status = 404 }
      local asked <const> = { reply = function(_, value) return dev:reply_rpc(7, value) end }
      local ok, err = require("thingsboard.api.rpc_answer").send(nil, asked, "answer")
      assert.same({ nil, 404, 1 }, { ok, err.status, #e:requests() })
    end)
  end)

  describe("to the server", function()
    it("returns what the rule chain replies", function()
      for text, value in pairs { ["5"] = 5, ['"x"'] = "x", ["[1,2.0]"] = { 1, 2.0 }, ["false"] = false,
        ["null"] = tb.null, ['{"error":"other"}'] = { error = "other" },
        ['{"error":"timeout","n":1}'] = { error = "timeout", n = 1 },
        ['{"big":9223372036854775807}'] = { big = math.maxinteger } } do
        e:on_client_rpc(text)
        local answer, err = dev:send_rpc "m"
        assert.is_nil(err)
        assert.same(value, answer)
      end
    end)

    it("sends method and params", function()
      e:on_client_rpc "echo"
      assert.same({ method = "getTerm", params = { n = 1 } }, (function()
        assert(dev:send_rpc("getTerm", { n = 1 }))
        local sent = e:client_requests(e.token)[1]
        assert.equal('{"n":1}', sent.params)
        return { method = sent.method, params = { n = 1 } }
      end)())
      assert(dev:send_rpc "bare")
      assert.equal("null", e:client_requests(e.token)[2].params)
    end)

    it("says when nobody replies", function()
      e:fault { path = "/rpc$", how = "status", status = 200, body = '{"error":"timeout"}', count = 1 }
      local answer, err = dev:send_rpc "m"
      assert.is_nil(answer)
      assert.same({ "timeout", "send_rpc: the server's rule chain gave no answer in time", true },
        { err.kind, err.message, err.retryable })
      local asks <const> = "; does the server's rule chain reply to requests of devices?"
      for _, status in ipairs { 408, 500 } do
        e:fault { path = "/rpc$", how = "status", status = status, seconds = 0.1, count = 1 }
        err = select(2, dev:send_rpc "m")
        assert.equal(status, err.status)
        assert.equal(status == 408 and asks, err.message:match "%(status %d+%)(.+)$" or false)
      end
      e:set { async_timeout = 300, async_check = 100 }
      answer, err = dev:send_rpc "m"
      assert.is_nil(answer)
      assert.equal(503, err.status)
      assert.equal(asks, err.message:sub(-#asks))
    end)

    it("checks what it is given", function()
      assert.error_matches(function() dev:send_rpc() end, "method must be")
      assert.error_matches(function() dev:send_rpc "" end, "method must be")
      assert.is_nil((dev:send_rpc("m", 1 / 0)))
      e:fault { path = "/rpc$", how = "status", status = 200, body = "surely no JSON", count = 1 }
      local answer, err = dev:send_rpc "m"
      assert.is_nil(answer)
      assert.equal("answer", err.kind)
    end)
  end)
end)
