-- Descriptors: no program that is executed inherits one, sockets notice a dead peer, and the reactor's is readable when
-- there is something to do.
local core = require "thingsboard.core"
local cqueues = require "cqueues"
local emulator = require "spec.support.emulator"
local lfs = require "lfs"
local library = require "spec.support.library"
local process = require "thingsboard.process"
local scratch = require "spec.support.scratch"
local socket = require "socket"
local spool = require "thingsboard.spool"

local CLOSE_ON_EXEC <const> = tonumber("2000000", 8) -- as the kernel shows flags

describe("each descriptor", function()
  local e, directory, reactor, client, before

  -- What is open: by number, its flags.
  local function open()
    local numbers, found = {}, {}
    for name in lfs.dir "/proc/self/fdinfo" do numbers[#numbers + 1] = tonumber(name) end
    for _, fd in ipairs(numbers) do
      if lfs.symlinkattributes("/proc/self/fd/" .. fd) then -- the folder's own is closed by now
        local info <close> = assert(io.open("/proc/self/fdinfo/" .. fd))
        found[fd] = tonumber(info:read("a"):match "flags:%s*(%d+)", 8)
      end
    end
    return found
  end

  -- Those that are new: a list.
  local function new_ones()
    local list = {}
    for fd, flags in pairs(open()) do
      if before[fd] == nil then
        list[#list + 1] = fd
        assert.not_equal(0, flags & CLOSE_ON_EXEC, ("descriptor %d would be inherited"):format(fd))
      end
    end
    return list
  end

  setup(function()
    e = emulator.start()
    directory = scratch.new()
  end)

  teardown(function()
    e:stop()
    scratch.remove(directory)
  end)

  local function new_client()
    return core.client(reactor, { prefix = e.url .. "/api/v1/" .. e.token, connect_timeout = 5000 }, 100000)
  end

  before_each(function()
    collectgarbage()
    collectgarbage()
    before = open()
    reactor = core.reactor()
    client = new_client()
  end)

  after_each(function() reactor:close() end)

  local function post()
    local exchange <close> = client:start("POST", "/telemetry", '{"a":1}', 10000)
    while not exchange:done() do reactor:step(1) end
    assert.equal(200, (exchange:result()))
  end

  it("is closed in programs that are executed", function()
    reactor:pollfd()
    post()
    local poller <close> = process.poller()
    poller:catch("USR1", true)
    local spawned <close> = assert(process.spawn { "cat" })
    local made <close> = assert(core.file(directory .. "/made"))
    local named <close> = assert(core.file(directory .. "/named", directory .. "/temporary"))
    local store <close> = spool.spool(directory .. "/outbox")
    assert(store:open())
    -- The reactor's two, the connection, the poller's two, the child's two pipes, the files, the outbox and its log.
    assert.is_true(#new_ones() >= 11)
    assert.truthy(made and named and spawned)
  end)

  it("of a connection notices in time that its peer is gone", function()
    local option = library.load "sockets"
    post()
    local sockets = 0
    for _, fd in ipairs(new_ones()) do
      if option(fd, "keepalive") then
        sockets = sockets + 1
        local found = {}
        for _, name in ipairs { "keepalive", "keepidle", "keepintvl", "user_timeout", "nodelay" } do
          found[name] = option(fd, name)
        end
        assert.same({ keepalive = 1, keepidle = 10, keepintvl = 2, user_timeout = 20000, nodelay = 1 }, found)
      end
    end
    assert.equal(1, sockets)
  end)

  it("of a reactor is readable for as long as there is something to do, and no longer", function()
    local fd = { pollfd = reactor:pollfd(), events = "r" }
    local function readable() return cqueues.poll(fd, 0) == fd end
    local function soon_readable() return cqueues.poll(fd, 20) == fd end -- the kernel's timer may be a moment late
    assert.is_false(readable())
    reactor:wake_at(core.monotonic() - 1)
    assert.is_true(soon_readable())
    assert.is_nil(reactor:step())
    assert.is_true(soon_readable()) -- the time is still due
    reactor:wake_at(nil)
    assert.is_false(readable())
    for _, count in ipairs { 1, 2 } do
      local other = new_client()
      for _ = 1, count do other:start("GET", "/attributes", nil, 10000) end
      other:close()
      for n = 1, count do
        assert.is_true(soon_readable())
        assert.equal(0, reactor:timeout())
        local exchange, more = reactor:step()
        assert.is_true(exchange:done())
        assert.equal(n < count, more)
      end
      assert.is_false(readable())
    end
    assert.is_true(reactor:timeout() == nil or reactor:timeout() > 1) -- for idle connections
  end)

  it("of a reactor is readable at a time that was set before it was asked for", function()
    reactor:wake_at(core.monotonic() + 0.05)
    local fd = { pollfd = reactor:pollfd(), events = "r" }
    assert.equal(fd, cqueues.poll(fd, 10))
    assert.equal(0, reactor:timeout())
  end)

  it("that a reactor watches ends its step when it is readable", function()
    local listener <const> = assert(socket.bind("127.0.0.1", 0))
    local _, port = listener:getsockname()
    local here, there = assert(socket.connect("127.0.0.1", port)), assert(listener:accept())
    assert.is_true(reactor:watch(here:getfd()))
    local from = core.monotonic()
    assert.is_nil(reactor:step(0.05))
    assert.is_true(core.monotonic() - from >= 0.05)
    there:send "x"
    assert.is_nil(reactor:step(20)) -- though nothing of curl's has happened
    reactor:pollfd() -- and its own timer is none of those
    assert.is_nil(reactor:step(20))
    assert.is_true(core.monotonic() - from < 15)
    here:close()
    there:close()
    listener:close()
    from = core.monotonic()
    assert.is_nil(reactor:step(0.05)) -- closing it ended that
    assert.is_true(core.monotonic() - from >= 0.05)
    for _, wrong in ipairs { -1, 1 << 31 } do
      assert.error_matches(function() reactor:watch(wrong) end, "not a descriptor")
      assert.error_matches(function() reactor:max_connections(wrong) end, "not a number of connections")
    end
    assert.is_false(reactor:watch(9999))
  end)
end)
