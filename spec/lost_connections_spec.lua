-- Connections that the server ends without having said so are a sign that it was restarted. An outbox sends again what
-- is not confirmed then, and nothing when other connections end.
local core = require "thingsboard.core"
local emulator = require "spec.support.emulator"
local recording = require "spec.support.recording"
local tb = require "thingsboard"

local IDLE = 15 -- seconds

local e

setup(function() e = emulator.start() end)
teardown(function() e:stop() end)

describe("lost connections", function()
  local reactor, client

  local function new_client(url)
    return core.client(reactor, { prefix = (url or e.url) .. "/api/v1/" .. e.token, connect_timeout = 5000,
      ca_file = e.ca_file, e.token }, 100000)
  end

  before_each(function()
    reactor = core.reactor()
    client = new_client()
  end)

  after_each(function()
    reactor:close()
    e:clear_faults()
    e:set { idle_timeout = 60000, keep_alive_requests = 100, http2_idle_timeout = 20000 }
  end)

  local function finish(exchange)
    local deadline = core.monotonic() + 20
    while not exchange:done() do
      assert(core.monotonic() < deadline, "it did not end")
      reactor:step(1)
    end
    return exchange
  end

  local function start(on) return (on or client):start("POST", "/telemetry", '{"a":1}', 10000) end

  -- How many there are after another exchange.
  local function count(on)
    local exchange = finish(start(on))
    assert.equal(200, (exchange:result()))
    return exchange:lost_connections()
  end

  -- Calls at the same time, each on a connection of its own.
  local function at_once(number)
    local all = {}
    for n = 1, number do all[n] = start() end
    for _, exchange in ipairs(all) do finish(exchange) end
  end

  local function pass(seconds)
    local deadline = core.monotonic() + seconds
    while core.monotonic() < deadline do reactor:step(deadline - core.monotonic()) end
  end

  for name, url in pairs { ["HTTP/1.1"] = "url", ["HTTP/2"] = "tls_url" } do
    it("over " .. name .. " are those that a crash of the server ends", function()
      local one, other = new_client(e[url]), new_client(e[url])
      local before = count(one)
      assert.equal(before, count(one))
      e:crash()
      assert.equal(before + 1, count(one))
      assert.equal(before + 1, count(other))
      e:crash()
      assert.equal(before + 2, count(other))
      assert.equal(before + 2, count(one)) -- which uses the other's connection
    end)

    it("over " .. name .. " are those that a crash ends while an exchange is in flight", function()
      local one = new_client(e[url])
      local before = count(one)
      local poll = one:start("GET", "/rpc?timeout=20000", nil, 30000)
      local deadline = core.monotonic() + 10
      while #e:requests { path = "/rpc" } == 0 do
        assert(core.monotonic() < deadline)
        reactor:step(0.01)
      end
      e:crash()
      assert.is_true(count(one) > before)
      poll:close()
      e:clear()
    end)

    it("over " .. name .. " are none where exchanges are cancelled, or end by their time-outs", function()
      local one = new_client(e[url])
      local before = count(one)
      local polls = {}
      for n = 1, 6 do polls[n] = one:start("GET", "/rpc?timeout=20000", nil, n % 2 == 0 and 100 or 30000) end
      pass(0.3)
      for _, poll in ipairs(polls) do poll:close() end
      assert.equal(before, count(one))
    end)
  end

  it("are none of those of which the server has said that it closes them", function()
    e:set { keep_alive_requests = 5 }
    local before = count()
    for _ = 1, 20 do at_once(3) end
    assert.equal(before, count())
    e:set { keep_alive_requests = 100 }
    for _, raw in ipairs {
      "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
      "HTTP/1.1 200 OK\r\nconnection: Close\r\nContent-Length: 1\r\n\r\nx",
      "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil its end",
      "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    } do
      e:fault { path = "/telemetry", how = "raw", count = 1, raw = raw }
      assert.equal(before, count(), raw)
      assert.equal(before, count(), raw)
    end
    e:fault { path = "/telemetry", how = "raw", count = 1, raw = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" }
    assert.is_true(count() + count() > 2 * before)
  end)

  it("are none that could not be made, though a name has addresses that refuse them", function()
    local localhost = new_client((e.url:gsub("127%.0%.0%.1", "localhost")))
    local before = count(localhost)
    local nobody = new_client "http://127.0.0.1:1"
    for _ = 1, 3 do
      assert.is_nil((finish(start(nobody)):result()))
      assert.equal(before, count(new_client((e.url:gsub("127%.0%.0%.1", "localhost")))))
    end
  end)

  it("are those that end after a short while, and not those that have been idle for longer", function()
    e:set { idle_timeout = 200 }
    local before = count()
    pass(0.4)
    assert.equal(before + 1, count())
    e:set { idle_timeout = IDLE * 1000 + 500 }
    before = count()
    pass(IDLE + 1)
    e:set { idle_timeout = 60000 }
    assert.equal(before, count())
  end)
end)

describe("an outbox beside other exchanges of the process", function()
  local place, dev, outbox, other

  before_each(function()
    e:clear()
    place = recording.start(e)
    dev = place.dev
    outbox = assert(dev:outbox { path = place.path, batch_records = 1 })
    other = tb.device { url = e.url, token = e:create_device {} }
  end)

  after_each(function()
    outbox:close()
    e:set { keep_alive_requests = 100, queue_delay = 0 }
    place:stop()
  end)

  -- Others use the connections, and end them, while a backlog drains.
  local function drain_beside(...)
    e:set { keep_alive_requests = 5 }
    recording.fill(outbox, 1, 200)
    local others = {}
    for n, act in ipairs { ... } do
      others[n] = tb.spawn(function()
        while true do
          act()
          tb.sleep(0.001)
        end
      end)
    end
    assert.is_true(outbox:drain { deadline = 60 })
    for _, task in ipairs(others) do task:cancel() end
    local sent = outbox:stats().sent
    assert.same({ 200, 0 }, { sent.confirmed, sent.again })
  end

  it("sends nothing again on a healthy server though another device calls", function()
    drain_beside(function() assert(other:send_telemetry { a = 1 }) end)
  end)

  it("sends nothing again on a healthy server though its device calls and polls, and cancels that", function()
    drain_beside(function() assert(dev:send_telemetry { a = 1 }) end, function()
      local polling = tb.spawn(function() for _ in dev:rpc_requests() do end end)
      tb.sleep(0.02)
      polling:cancel()
    end, function() dev:request_attributes { client = { "a" } } end)
  end)

  it("sends nothing again on a healthy server though another outbox drains", function()
    local second = assert(other:outbox { path = place.path .. 2, batch_records = 1 })
    recording.fill(second, 1, 200)
    local draining = tb.spawn(function() return assert(second:drain { deadline = 60 }) end)
    drain_beside(function() assert(other:send_telemetry { a = 1 }) end)
    tb.run()
    assert.is_true(draining:done())
    local sent = second:stats().sent
    assert.same({ 200, 0 }, { sent.confirmed, sent.again })
    second:close()
  end)

  it("notices a restart though another device has made the new connection", function()
    e:set { queue_delay = 1e9 }
    recording.fill(outbox, 1, 5)
    local draining = tb.spawn(function() return outbox:drain { deadline = 60 } end)
    local deadline = tb.now() + 10000
    while outbox:stats().unconfirmed < 5 or outbox.posting do
      assert(tb.now() < deadline)
      tb.sleep(0.005)
    end
    e:crash()
    assert(other:send_telemetry { a = 1 })
    e:set { queue_delay = 0 }
    tb.run()
    assert.is_true(draining:done())
    assert.equal(5, #place:arrived(5))
    assert.is_true(outbox:stats().sent.again >= 5)
  end)
end)
