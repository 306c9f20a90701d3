-- A process that forks: the child must not speak on its parent's connections, nor end them.
local child = require "spec.support.child"
local emulator = require "spec.support.emulator"
local library = require "spec.support.library"
local socket = require "socket"

describe("after a fork", function()
  local e, module

  setup(function()
    e = emulator.start()
    module = library.build "fork"
  end)

  teardown(function() e:stop() end)

  before_each(function() e:clear() end)

  local function run(script)
    return child.run(([[
      local core, tb = require "thingsboard.core", require "thingsboard"
      local loop = require "thingsboard.loop"
      local fork = assert(package.loadlib(%q, "luaopen_fork"))()
      local URL, TOKEN = %q, %q
      local function device() return tb.device { url = URL, token = TOKEN } end
      local dev = device()
      assert(dev:send_telemetry { a = 1 })
      local function say(...)
        print(...)
        io.stdout:flush()
      end
    ]]):format(module, e.url, e.token) .. script)
  end

  local function connections()
    local list = {}
    for _, request in ipairs(e:requests()) do list[#list + 1] = request.connection end
    return list
  end

  it("a device of the parent's is refused in the child", function()
    local said = run [[
      say(fork(function() say(pcall(dev.send_telemetry, dev, { a = 2 })) end))
      say(fork(function() say(pcall(device)) end))
      assert(dev:send_telemetry { a = 3 })
    ]]
    assert.matches("false\t.*the device belongs to the parent process: make a new one after fork\n0\n", said)
    assert.matches("false\t.*the reactor belongs to the parent process: make a new one after fork\n0\n$", said)
    local used = connections()
    assert.equal(2, #used)
    assert.equal(used[1], used[2])
  end)

  it("the child closes its parent's loop without harm, and has one of its own", function()
    local said = run [[
      say(fork(function()
        loop.default():close()
        assert(device():send_telemetry { a = 2 })
      end))
      assert(dev:send_telemetry { a = 3 })
    ]]
    assert.equal("0\n", said)
    local used = connections()
    assert.equal(3, #used)
    assert.equal(used[1], used[3])
    assert.not_equal(used[1], used[2])
  end)

  it("an outbox is the parent's, whatever the child does with it", function()
    local said = run [[
      local path = os.tmpname()
      local outbox = assert(dev:outbox { path = path })
      assert(outbox:put { n = 1 })
      local function sum() return io.popen(("cat %s %s-wal | cksum"):format(path, path)):read "a" end
      local before = sum()
      say(fork(function()
        say(pcall(outbox.put, outbox, { n = 2 }))
        loop.default():close()
        say(tostring(outbox))
      end))
      assert(sum() == before) -- the log, too, is as the parent left it
      collectgarbage()
      assert(outbox:put { n = 3 })
      say((outbox:drain { deadline = 5 }))
      assert(outbox:close())
      os.remove(path)
    ]]
    assert.matches("^false\t.*the outbox belongs to the parent process", said)
    assert.matches("\nthingsboard.outbox %(closed%)\n0\ntrue\n$", said)
    local together = 0
    for _, request in ipairs(e:requests()) do
      local body = request.body or ""
      if body:find('"n":1', 1, true) and body:find('"n":3', 1, true) then together = together + 1 end
      assert.is_nil(body:find('"n":2', 1, true))
    end
    assert.equal(1, together)
  end)

  it("what is in flight is the parent's, whatever the child drops", function()
    local said = run [[
      local reactor = core.reactor()
      local client = core.client(reactor, { prefix = URL .. "/api/v1/" .. TOKEN }, 1000)
      local exchange = client:start("GET", "/rpc?timeout=500", nil, 5000)
      for _ = 1, 5 do reactor:step(0.02) end
      say(fork(function()
        exchange:close()
        client:close()
        reactor:close()
        collectgarbage()
      end))
      while not exchange:done() do reactor:step(1) end
      say((exchange:result()))
    ]]
    assert.equal("0\n408\n", said)
  end)

  it("a program that is executed has none of libcurl's sockets", function()
    local said = child.run(([[
      local function inherited()
        local sockets = {}
        local process <close> = io.popen "ls -l /proc/self/fd"
        for line in process:lines() do sockets[#sockets + 1] = line:match "socket:.*" end
        table.sort(sockets)
        return table.concat(sockets, " ")
      end
      local before = inherited()
      local tb = require "thingsboard"
      local dev = tb.device { url = %q, token = %q }
      local tls = tb.device { url = %q, token = %q, ca_file = %q }
      tb.spawn(function() dev:rpc_requests()() end)
      tb.spawn(function()
        assert(tls:send_telemetry { a = 1 })
        tb.sleep(0.1)
        print(inherited() == before and "none" or before .. "; " .. inherited())
        os.exit(true)
      end)
      tb.run()
    ]]):format(e.url, e.token, e.tls_url, e.token, e.ca_file))
    assert.equal("none\n", said)
  end)

  it("a connection does not outlive the script in a process that it has started", function()
    local listener = assert(socket.bind("127.0.0.1", 0))
    local _, port = listener:getsockname()
    listener:settimeout(20)
    local script <close> = child.start(([[
      local tb = require "thingsboard"
      local dev = tb.device { url = "http://127.0.0.1:%s", token = "T" }
      assert(dev:request_attributes())
      os.execute "sleep 9 </dev/null >/dev/null 2>&1 &"
    ]]):format(port))
    local connection = assert(listener:accept())
    repeat local line = connection:receive "*l" until line == ""
    connection:send "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
    connection:settimeout(5)
    assert.equal("closed", (select(2, connection:receive(1))))
    connection:close()
    listener:close()
    assert.equal("", script:read "a")
  end)
end)
