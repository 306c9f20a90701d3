-- Connections: HTTP/2 shares them, HTTP/1.1 keeps them, and their ends cost a new one but never an error.
local child = require "spec.support.child"
local emulator = require "spec.support.emulator"
local loop = require "thingsboard.loop"
local tb = require "thingsboard"

local STREAMS = 8 -- at most so many on one connection

describe("connections", function()
  local e, failures

  local function start(settings)
    e = emulator.start(settings)
  end

  local function new_device(token)
    return tb.device { url = e.url, token = token or e.token }
  end

  local function new_tls_device(token)
    return tb.device { url = e.tls_url, ca_file = e.ca_file, token = token or e.token }
  end

  before_each(function()
    failures = {}
    tb.on_error(function(_, message) failures[#failures + 1] = message end)
  end)

  after_each(function()
    loop.default():close() -- and all connections with it
    e:stop()
    assert.same({}, failures)
  end)

  -- How many requests each connection carried, and how many at once at most.
  local function connections()
    local count, carried, changes = 0, {}, {}
    for _, request in ipairs(e:requests()) do
      local number = request.connection
      if not carried[number] then count = count + 1 end
      carried[number] = (carried[number] or 0) + 1
      changes[#changes + 1] = { at = request.at, number = number, by = 1 }
      changes[#changes + 1] = { at = request.ended_at or math.huge, number = number, by = -1 }
    end
    table.sort(changes, function(a, b) return a.at < b.at or a.at == b.at and a.by < b.by end)
    local open, most = {}, 0
    for _, change in ipairs(changes) do
      open[change.number] = (open[change.number] or 0) + change.by
      most = math.max(most, open[change.number])
    end
    return count, carried, most
  end

  -- Posts, with pauses around a connection's lifetime: some meet it alive, some dead, some dying.
  local function post_around(dev, lifetime)
    for n = 1, 16 do
      assert(dev:send_telemetry { n = n })
      tb.sleep(lifetime * (0.9 + n / 80))
    end
    local series = e:series(e.token)
    assert.equal(16, #series.n)
    assert.equal(16, #e:telemetry(e.token)) -- none came twice
  end

  describe("of HTTP/2", function()
    it("carry all polls and posts of a device together", function()
      start()
      e:fault { path = "/telemetry$", how = "delay", seconds = 0.3, count = 3 }
      local dev = new_tls_device()
      local answered
      local posts = {}
      tb.spawn(function()
        do
          local requests <close> = dev:rpc_requests { period = 0.5 }
          answered = requests():reply "yes"
        end
        for n = 1, 5 do assert(dev:send_telemetry { n = n }) end
        for _, post in ipairs(posts) do post:join() end
        dev:close()
      end)
      tb.spawn(function()
        for _ in dev:attribute_updates() do end
      end)
      for n = 1, 3 do
        posts[n] = tb.spawn(function() assert(dev:send_telemetry { m = n }) end)
      end
      tb.spawn(function()
        tb.sleep(0.7)
        e:rpc(e.token, { method = "ask", timeout = 5000 })
      end)
      tb.run()
      assert.is_true(answered)
      local count, _, most = connections()
      assert.equal(1, count)
      assert.is_true(most >= 3, "at once: " .. most)
    end)

    it("bring answers of any length, many at once", function()
      start()
      for _, size in ipairs { 1000, 5000, 20000, 300000 } do
        e:set_shared(e.token, ('{"text":"%s"}'):format(("x"):rep(size)))
        for _, count in ipairs { 1, 3, 20 } do
          local dev = tb.device { url = e.tls_url, ca_file = e.ca_file, token = e.token, timeout = 10 }
          local lengths = {}
          for n = 1, count do
            tb.spawn(function() lengths[n] = #assert(dev:request_attributes()).shared.text end)
          end
          tb.run()
          assert.equal(count, #lengths)
          for _, length in ipairs(lengths) do assert.equal(size, length) end
          dev:close()
        end
      end
    end)

    it("outlive a poll that is left", function()
      start()
      local dev = new_tls_device()
      local polls = 0
      for n = 1, 3 do
        do
          local updates <close> = dev:attribute_updates()
          assert.is_table(updates())
          tb.sleep(0.05) -- the poll is out now
        end
        assert(dev:send_telemetry { n = n })
      end
      dev:close()
      assert.equal(1, (connections()))
      for _, request in ipairs(e:requests()) do
        if request.target:find("/updates", 1, true) then polls = polls + 1 end
      end
      assert.equal(3, polls)
    end)

    it("that have gone dead are replaced by a new one", function()
      start()
      local dev <close> = tb.device { url = e.tls_url, ca_file = e.ca_file, token = e.token, timeout = 1 }
      assert(dev:send_telemetry { n = 1 })
      tb.sleep(1) -- libcurl counts the age of connections in whole seconds
      e:fault { connection = e:requests()[1].connection, how = "stall" }
      assert.equal("timeout", select(2, dev:send_telemetry { n = 2 }).kind)
      for n = 3, 5 do assert(dev:send_telemetry { n = n }) end
      assert.equal(2, (connections()))
    end)

    it("that have gone dead are replaced, though another call still waits there", function()
      start()
      local dev <close> = tb.device { url = e.tls_url, ca_file = e.ca_file, token = e.token, timeout = 1 }
      assert(dev:send_telemetry { n = 1 })
      e:fault { connection = e:requests()[1].connection, how = "stall" }
      local waits = tb.spawn(function() return dev:send_rpc "wait" end) -- on the same connection, a moment longer
      tb.sleep(0.3)
      assert.equal("timeout", select(2, dev:send_telemetry { n = 2 }).kind)
      assert(dev:send_telemetry { n = 3 })
      waits:cancel()
      local lost = 0
      for n = 4, 8 do
        if not dev:send_telemetry { n = n } then lost = lost + 1 end
      end
      assert.is_true(lost <= 1, lost .. " lost")
    end)

    it("are ended by the server when idle, which no call notices", function()
      start { http2_idle_timeout = 150 }
      local dev = new_tls_device()
      post_around(dev, 0.15)
      dev:close()
      local count = connections()
      assert.is_true(count > 1, "the server ended none")
    end)

    it("carry few polls each, so that many can end together", function()
      start()
      local devices, answers = {}, 0
      for n = 1, 60 do devices[n] = new_tls_device(e:create_device { name = "d" .. n }) end
      for _, dev in ipairs(devices) do
        tb.spawn(function()
          local polls = 0
          local requests = dev:rpc_requests { period = 0.3 }
          tb.spawn(function()
            tb.sleep(1.2)
            dev:close()
          end)
          for _ in requests, nil, nil, requests do polls = polls + 1 end
          assert(requests.error == nil, requests.error)
          answers = answers + 1
        end)
      end
      tb.run()
      assert.equal(60, answers)
      local _, _, most = connections()
      assert.is_true(most > 1 and most <= STREAMS, "at once: " .. most)
      for _, request in ipairs(e:requests()) do assert.is_true(request.status == 408 or request.status == nil) end
    end)
  end)

  describe("of HTTP/1.1", function()
    it("are kept for the next call", function()
      start()
      local dev = new_device()
      for n = 1, 10 do assert(dev:send_telemetry { n = n }) end
      dev:close()
      assert.equal(1, (connections()))
    end)

    it("are ended by the server after so many answers, which no call notices", function()
      start { keep_alive_requests = 5 }
      local dev = new_device()
      for n = 1, 23 do assert(dev:send_telemetry { n = n }) end
      dev:close()
      assert.equal(5, (connections()))
      assert.equal(23, #e:telemetry(e.token))
    end)

    it("are ended by the server when idle, which no call notices", function()
      start { idle_timeout = 150 }
      local dev = new_device()
      post_around(dev, 0.15)
      dev:close()
      local count = connections()
      assert.is_true(count > 1, "the server ended none")
    end)

    it("that the server closes while idle, with a 408 of its proxy, cost a new one", function()
      start()
      local server <close> = child.start [[
        local socket = require "socket"
        local listener = assert(socket.bind("127.0.0.1", 0))
        print((select(2, listener:getsockname())))
        io.stdout:flush()
        listener:settimeout(20)
        local unasked = {
          "HTTP/1.0 408 Request Time-out\r\nConnection: close\r\n\r\n<html><h1>408 Request Time-out</h1></html>\n",
          "HTTP/1.0 408 Request Time-out\r\n\r\n",
          "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
          "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n",
          'HTTP/1.1 408 Request Timeout\r\nContent-Length: 16\r\nConnection: close\r\n\r\n{"error":"late"}',
        }
        for number = 1, #unasked + 1 do
          local connection = assert(listener:accept())
          repeat local line = connection:receive "*l" until line == ""
          connection:send "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
          if unasked[number] then
            socket.sleep(0.1)
            connection:send(unasked[number])
          end
          connection:close()
        end
        print "six connections"
      ]]
      local dev <close> = tb.device { url = "http://127.0.0.1:" .. server:read "l", token = "T" }
      for _ = 1, 6 do
        assert(dev:request_attributes())
        tb.sleep(0.2)
      end
      assert.equal("six connections", server:read "l")
    end)

    it("that die under a request are replaced, when nothing of the answer came", function()
      start()
      local dev = new_device()
      assert(dev:send_telemetry { n = 1 })
      e:fault { path = "/telemetry$", how = "close", count = 1 }
      assert(dev:send_telemetry { n = 2 })
      assert.equal(2, #e:telemetry(e.token))
      assert.equal(3, #e:requests())
      dev:close()
    end)

    it("that die within an answer are an error", function()
      start()
      local dev = new_device()
      assert(dev:send_telemetry { n = 1 })
      e:fault { path = "/attributes%?", how = "wrong_length", count = 1 }
      local got, err = dev:request_attributes()
      assert.is_nil(got)
      assert.equal("network", err.kind)
      assert.is_true(err.retryable)
      assert.equal(2, #e:requests())
      dev:close()
    end)

    it("that are new and die are an error", function()
      start()
      local dev = new_device()
      e:fault { path = "/telemetry$", how = "close", count = 1 }
      local sent, err = dev:send_telemetry { n = 1 }
      assert.is_nil(sent)
      assert.equal("network", err.kind)
      assert.equal(1, #e:requests())
      dev:close()
    end)

    local function sockets()
      local count = 0
      local list = assert(io.popen("readlink /proc/$PPID/fd/*")) -- of this process: the shell's parent
      for name in list:lines() do
        if name:find("^socket:") then count = count + 1 end
      end
      list:close()
      return count
    end

    it("do not pile up: those that the server has closed are closed here, too", function()
      start { idle_timeout = 1500 }
      local dev = new_device()
      e:fault { path = "/telemetry$", how = "delay", seconds = 0.7, count = 12 } -- so that none is used twice
      local before = sockets()
      for n = 1, 12 do
        tb.spawn(function() assert(dev:send_telemetry { n = n }) end)
      end
      tb.run()
      local now = sockets()
      assert.is_true(now >= before + 8, ("sockets: %d, then %d"):format(before, now))
      local posts = 0
      repeat
        tb.sleep(0.3)
        assert(dev:send_telemetry { again = true })
        posts = posts + 1
      until sockets() <= before + 2 or posts == 20
      assert.is_true(sockets() <= before + 2)
      dev:close()
    end)
  end)

  describe("with a limit", function()
    -- How many were open at once: a connection lives from its first request to its last.
    local function most_at_once()
      local first, last = {}, {}
      for _, request in ipairs(e:requests()) do
        first[request.connection] = first[request.connection] or request.at
        last[request.connection] = request.ended_at or math.huge
      end
      local most = 0
      for _, at in pairs(first) do
        local open = 0
        for number, from in pairs(first) do
          if from <= at and last[number] > at then open = open + 1 end
        end
        most = math.max(most, open)
      end
      return most
    end

    it("are no more than that, and the calls take turns", function()
      start()
      tb.max_connections(2)
      e:fault { path = "/telemetry$", how = "delay", seconds = 0.05 }
      local dev, sent = new_device(), 0
      for n = 1, 10 do
        tb.spawn(function()
          assert(dev:send_telemetry { n = n })
          sent = sent + 1
        end)
      end
      tb.run()
      dev:close()
      assert.equal(10, sent)
      assert.equal(2, (connections()))
    end)

    it("are no more than that for many devices, also those that were made before the limit", function()
      start { keep_alive_requests = 1000 } -- a server that ends a connection would have them make another
      local devices, sent = {}, 0
      for n = 1, 400 do -- more than one pool holds
        devices[n] = new_device()
        if n == 300 then tb.max_connections(2) end
      end
      for _, dev in ipairs(devices) do
        tb.spawn(function()
          assert(dev:send_telemetry { n = 1 })
          sent = sent + 1
        end)
      end
      tb.run()
      assert.equal(400, sent)
      assert.equal(2, (connections()))
    end)

    it("let a post through between two polls that hold them all", function()
      start()
      tb.max_connections(2)
      local dev, waited = new_device(), {}
      tb.spawn(function()
        for _ in dev:rpc_requests { period = 0.6 } do end
      end)
      tb.spawn(function()
        tb.sleep(0.2)
        for n = 1, 4 do
          local from = tb.now()
          assert(dev:send_telemetry { n = n })
          waited[n] = tb.now() - from
        end
        dev:close()
      end)
      tb.run()
      assert.equal(4, #waited)
      assert.is_true(math.max(table.unpack(waited)) < 1500, "waited: " .. table.concat(waited, ", "))
      assert.is_true(most_at_once() <= 2)
    end)

    it("are enough over HTTP/2 when there is one", function()
      start()
      tb.max_connections(1)
      local dev, sent = new_tls_device(), 0
      tb.spawn(function()
        for _ in dev:rpc_requests() do end
      end)
      for n = 1, 5 do
        tb.spawn(function()
          tb.sleep(0.1)
          assert(dev:send_telemetry { n = n })
          sent = sent + 1
          if sent == 5 then dev:close() end
        end)
      end
      tb.run()
      assert.equal(5, sent)
      assert.equal(1, (connections()))
    end)

    it("make a call wait no longer than its time-out", function()
      start()
      tb.max_connections(1)
      e:fault { path = "/attributes%?", how = "stall" }
      local dev = new_device()
      local other <close> = tb.device { url = e.url, token = e.token, timeout = 0.5 }
      local first_ended = false
      tb.spawn(function()
        dev:request_attributes()
        first_ended = true
      end)
      tb.spawn(function()
        while #e:requests() < 1 do tb.sleep(0.02) end
        local sent, err = other:send_telemetry { a = 1 }
        assert.is_nil(sent)
        assert.equal("timeout", err.kind)
        assert.is_true(err.retryable)
        -- Newer releases of libcurl (8.23) end what waits themselves, in the words of any time-out.
        assert.truthy(err.message:find "waited for a connection" or err.message:find "Operation timed out", err.message)
        assert.is_false(first_ended)
        dev:close()
      end)
      tb.run()
    end)

    it("of a wrong kind raises", function()
      start()
      for _, wrong in ipairs { 0, -1, 1.5, "2" } do
        assert.error_matches(function() tb.max_connections(wrong) end, "count must be a positive integer")
      end
      assert.error_matches(function() tb.max_connections(2 ^ 40 // 1 | 0) end, "count must be below 2^31", 1, true)
    end)
  end)
end)
