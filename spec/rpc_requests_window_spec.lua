-- No one-way RPC is lost between two polls, none comes twice, all come in order: counted.
-- The requests come about as often as the polls end, so that many polls end empty: after those a request can be lost.
local emulator = require "spec.support.emulator"
local tb = require "thingsboard"

local PERIOD = 1.5 -- seconds of a poll
local DEVICES = 30 -- side by side, so that it takes no longer; every other one over TLS and HTTP/2

describe("requests at random times", function()
  local e

  before_each(function()
    e = emulator.start { reply_delay = 20, subscribe_delay = PERIOD * 100 } -- milliseconds: a tenth of a period
    tb.on_error(function(_, message) error(message, 0) end)
  end)

  after_each(function()
    e:stop()
  end)

  -- The server's user: sends `count` requests to a device, `pause` seconds apart on average.
  local function send(token, count, pause, two_way)
    local sent = {}
    local task = tb.spawn(function()
      tb.sleep(0.3)
      for n = 1, count do
        tb.sleep(math.random() * 2 * pause)
        local oneway = not (two_way and math.random() < 0.5)
        sent[n] = { oneway = oneway, handle = e:rpc(token, {
          method = "count", params = tostring(n), oneway = oneway, timeout = 60000,
        }) }
      end
    end)
    return sent, task
  end

  -- The device: notes what comes until a while after the sender is done.
  local function receive(token, sender, handle, secure)
    local came = {}
    local dev = tb.device { url = secure and e.tls_url or e.url, ca_file = e.ca_file, token = token }
    local task = tb.spawn(function()
      for request in dev:rpc_requests { period = PERIOD } do
        came[#came + 1] = request.params
        if handle then handle(request) end
      end
    end)
    local receiver = tb.spawn(function()
      sender:join()
      repeat -- what is lost would not come however long this waits; what comes late would
        local before = #came
        tb.sleep(2 * PERIOD)
      until #came == before
      dev:close()
      task:join()
    end)
    return came, receiver
  end

  local function faults_of(came, count)
    local lost, twice, disordered, seen = 0, 0, 0, {}
    for at, n in ipairs(came) do
      if seen[n] then twice = twice + 1 end
      seen[n] = true
      if at > 1 and n < came[at - 1] then disordered = disordered + 1 end
    end
    for n = 1, count do
      if not seen[n] then lost = lost + 1 end
    end
    return lost, twice, disordered
  end

  local function run(count, pause, two_way, handle, at_end)
    local all = {}
    for n = 1, DEVICES do
      local token = e:create_device { name = "device " .. n, token = "token" .. n }
      local sent, sender = send(token, count, pause, two_way)
      local came, receiver = receive(token, sender, handle, n % 2 == 0)
      all[n] = { sent = sent, came = came, receiver = receiver }
    end
    tb.spawn(function()
      for _, one in ipairs(all) do one.receiver:join() end
      if at_end then at_end() end
    end)
    tb.run()
    local total = { lost = 0, twice = 0, disordered = 0 }
    for _, one in ipairs(all) do
      local lost, twice, disordered = faults_of(one.came, count)
      total.lost = total.lost + lost
      total.twice = total.twice + twice
      total.disordered = total.disordered + disordered
    end
    assert.same({ lost = 0, twice = 0, disordered = 0 }, total)
    return all
  end

  it("loses none of 300 one-way requests, with a delay of a tenth of the period before every poll", function()
    run(10, PERIOD)
  end)

  it("mixes them with two-way requests and handlers that take a while", function()
    local all = run(10, PERIOD, true, function(request)
      tb.sleep(math.random() * PERIOD)
      assert(request:reply { n = request.params })
    end)
    for _, one in ipairs(all) do
      for n, sent in ipairs(one.sent) do
        local result = assert(e:rpc_result(sent.handle, 2))
        assert.equal(200, result.status)
        if not sent.oneway then assert.equal(('{"n":%d}'):format(n), result.body) end
      end
    end
  end)

  it("loses none when one of the two polls is cut now and then", function()
    e:set { subscribe_delay = 0 }
    local cutter = tb.spawn(function()
      for n = 1, math.huge do
        tb.sleep(0.1)
        e:cut("token" .. n % DEVICES + 1)
      end
    end)
    run(10, PERIOD, false, nil, function() cutter:cancel() end)
  end)
end)
