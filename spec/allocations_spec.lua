-- When memory runs out, at each allocation in turn, Lua's, the library's own, curl's and SQLite's: what is called
-- happens as a whole or not at all, says so, and happens when it is called again. Small things; whole stories are in
-- spec/torture/memory.lua.
local child = require "spec.support.child"
local library = require "spec.support.library"
local scratch = require "spec.support.scratch"

-- Runs a script that has `try`, see spec/support/shortage.lua, and what a prelude gives it.
local function run(script)
  local oom <const> = library.build "oom"
  local said = child.run("local try = require 'spec.support.shortage'\n" .. script, { LD_PRELOAD = oom, OOM = oom })
  assert.equal("well\n", said)
end

describe("when memory runs out, the core", function()
  local prelude <const> = [[
    local core = require "thingsboard.core"
    local function new_client(reactor)
      return core.client(reactor, { prefix = "http://127.0.0.1:9/x", connect_timeout = 1000 }, 1000)
    end
    local function call(client, reactor)
      local exchange <close> = client:start("GET", "/", nil, 1000)
      while not exchange:done() do reactor:step(0.1) end
      local _, code = exchange:result()
      return code
    end
  ]]

  it("makes a reactor and a client, if not now then at the next try, and loses no memory", function()
    run(prelude .. [[
      local failures, lost = try(function() end, function() return new_client(core.reactor()) end, function()
        local reactor <close> = core.reactor()
        local client <close> = new_client(reactor)
        assert(call(client, reactor) == "COULDNT_CONNECT")
      end)
      assert(failures > 0 and lost < 4, lost) -- what each failure lost would be more
      print "well"
    ]])
  end)

  it("starts a call, if not now then at the next try, and loses no memory", function()
    run(prelude .. [[
      local function prepare()
        local reactor = core.reactor()
        local client = new_client(reactor)
        return setmetatable({ client = client, reactor = reactor }, { __close = function()
          client:close()
          reactor:close()
        end })
      end
      local failures, lost = try(prepare, function(made)
        local exchange <close> = made.client:start("GET", "/" .. ("x"):rep(100), nil, 1000)
        return exchange ~= nil
      end, function(made) assert(call(made.client, made.reactor) == "COULDNT_CONNECT") end)
      assert(failures > 0 and lost < 4, lost)
      print "well"
    ]])
  end)

  it("makes the client that needs another pool, if not now then at the next try", function()
    run(prelude .. [[
      assert(try(function()
        local reactor = core.reactor()
        for _ = 1, 256 do new_client(reactor) end -- CLIENTS_PER_POOL of csrc/http/pool.c
        return reactor
      end, new_client, function(reactor)
        local client <close> = new_client(reactor)
        assert(call(client, reactor) == "COULDNT_CONNECT")
      end) > 0)
      print "well"
    ]])
  end)

  it("starts a task that begins later, or says that it does not", function()
    run [[
      local loop = require "thingsboard.loop"
      local on, signal, begun
      assert(try(function()
        on, begun = loop.new(), false
        signal = on:signal()
        return setmetatable({}, { __close = function() on:close() end })
      end, function()
        return on:spawn_later(signal, nil, { signal = on:signal(), run = function() begun = true end })
      end, function(_, well)
        signal:raise()
        for _ = 1, 3 do on:step(0) end
        assert(begun == well)
      end) > 0)
      print "well"
    ]]
  end)

  it("appends to a body, or leaves it", function()
    run(prelude .. [[
      assert(try(function()
        local body = core.body()
        body:value(12)
        return body
      end, function(body) return body:value(("x"):rep(1000)) end, function(body, well)
        assert(#body == (well and 1004 or 2))
        assert(body:value(3):text():find '^12"?x*"?3$')
      end) > 0)
      print "well"
    ]])
  end)
end)

describe("when memory runs out, the outbox's store", function()
  local directory

  before_each(function() directory = scratch.quick() end)
  after_each(function() scratch.remove(directory) end)

  -- A script has a new store to prepare, `content(store, device)`, `put(store, device, from, to)`, `reopened(store)`.
  local function run_store(script)
    run(([[
      local core = require "thingsboard.core"
      local spool = require "thingsboard.spool"
      local PATH <const> = %q

      local function content(store, device)
        local body <close> = core.body()
        local made, reason = store:batch(device, 0, 1 << 40, 1 << 40, 1 << 40, 1 << 40, body)
        if made == false then return "" end
        assert(made, reason)
        return (body:text():gsub('"ts":%%d+', ""))
      end

      local function reopened(store)
        store:close()
        store = spool.spool(PATH)
        store:set_clock_policy "wall"
        assert(store:open())
        store:device "x"
        return store
      end

      local function put(store, device, from, to)
        for n = from, to do assert(store:put(device, { n = n })) end
      end

      local function try_store(prepare, ...)
        local function make()
          os.remove(PATH)
          local store = spool.spool(PATH)
          store:set_clock_policy "wall"
          prepare(store)
          return store
        end
        return try(make, ...)
      end
    ]]):format(directory .. "/outbox") .. script .. "print 'well'\n")
  end

  it("puts all of a list or nothing", function()
    run_store [[
      assert(try_store(function(store) put(store, store:device "x", 1, 3) end, function(store)
        return store:put(1, { { n = 4 }, { n = 5, text = ("x"):rep(1000) }, { ["a longer key than those"] = 6 } })
      end, function(store, well)
        assert((store:counts(1)) == (well and 6 or 3))
        assert(store:put(1, { n = 7 }))
        local all = content(store, 1)
        assert(select(2, all:gsub("values", "")) == (well and 7 or 4))
        assert(all:find '"n":3}' and all:find '"n":7}')
      end) > 0)
    ]]
  end)

  for range, failing in pairs { ["3, 5"] = true, ["0, 4"] = false, ["5, 9"] = false } do
    it(("takes records %s out of a run, or leaves it; off an end it needs no memory"):format(range), function()
      run_store(([[
        local first, last = %s
        local all
        assert(try_store(function(store)
          put(store, store:device "x", 0, 9)
          all = content(store, 1)
        end, function(store) return store:discard_pending(1, first, last) end, function(store, well)
          if not well then
            assert(content(store, 1) == all)
            store:discard_pending(1, first, last)
          end
          assert((store:counts(1)) == 10 - (last - first + 1))
          put(store, 1, 10, 11)
          local left = content(store, 1)
          for n = 0, 11 do
            assert((left:find('"n":' .. n .. "}", 1, true) == nil) == (n >= first and n <= last))
          end
        end) > 0 == %s)
      ]]):format(range, failing))
    end)
  end

  it("opens its file, or does at the next try", function()
    run_store [[
      assert(try_store(function(store)
        put(store, store:device "x", 1, 3)
        assert(store:open() and store:sync())
        store:shut()
        put(store, 1, 4, 5)
      end, function(store) return store:open() end, function(store, well)
        if not well then assert(store:open()) end
        local all = content(store, 1)
        assert(select(2, all:gsub("values", "")) == 5, all)
      end) > 0)
    ]]
  end)

  it("makes its file, or does at the next try", function()
    run_store [[
      assert(try_store(function(store) put(store, store:device "x", 1, 3) end, function(store) return store:open() end,
        function(store, well)
          if not well then assert(store:open()) end
          assert(store:sync())
          store = reopened(store)
          assert((store:counts(1)) == 3)
          store:close()
        end) > 0)
    ]]
  end)

  it("meets a device, or does at the next try", function()
    run_store [[
      assert(try_store(function(store)
        assert(store:open())
      end, function(store) return store:device "x" end, function(store)
        assert(store:device "x" == 1)
        put(store, 1, 1, 1)
        assert(store:sync())
        store = reopened(store)
        assert((store:counts(1)) == 1)
        store:close()
      end) > 0)
    ]]
  end)

  it("writes all that waits, or keeps it", function()
    run_store [[
      local all
      assert(try_store(function(store)
        assert(store:open())
        put(store, store:device "x", 1, 3)
        assert(store:sync())
        put(store, 1, 4, 5) -- which join the row
        assert(store:put(1, { other = 1, text = ("x"):rep(10000) }))
        put(store, store:device "y", 1, 2)
        all = content(store, 1)
      end, function(store) return store:sync() end, function(store, well)
        assert(content(store, 1) == all)
        assert(store:sync())
        store = reopened(store)
        assert(content(store, 1) == all)
        assert((store:counts(store:device "y")) == 2)
        store:close()
      end) > 0)
    ]]
  end)

  it("puts a batch together, or changes nothing", function()
    run_store [[
      local all
      local body = core.body()
      assert(try_store(function(store)
        assert(store:open())
        for n = 1, 3 do assert(store:put(store:device "x", { n = n, text = ("x"):rep(1000), ["key" .. n] = 1 })) end
        assert(store:sync())
        put(store, 1, 4, 5)
        all = content(store, 1)
        assert(store:query "DELETE FROM counters") -- SQLite forgets nothing that it has read
      end, function(store) return store:batch(1, 0, 100, 1 << 40, 100, 100, body) end, function(store, well)
        assert(not well or (body:text():gsub('"ts":%d+', "")) == all)
        assert(content(store, 1) == all)
      end) > 0)
    ]]
  end)

  it("removes records, or leaves them", function()
    run_store [[
      assert(try_store(function(store)
        assert(store:open())
        local list = {}
        for n = 0, 9 do list[n + 1] = { n = n } end
        assert(store:put(store:device "x", list))
        assert(store:sync())
      end, function(store) return store:remove(1, 3, 5) end, function(store, well)
        assert((store:counts(1)) == (well and 7 or 10))
        store = reopened(store)
        assert((store:counts(1)) == (well and 7 or 10))
        assert(store:remove(1, 3, 5) == (well and 0 or 3))
        local left = content(store, 1)
        for n = 0, 9 do assert((left:find('"n":' .. n .. "}", 1, true) == nil) == (n >= 3 and n <= 5)) end
        store:close()
      end) > 0)
    ]]
  end)

  it("removes what waits in memory, or leaves it", function()
    run_store [[
      assert(try_store(function(store)
        put(store, store:device "x", 0, 9)
      end, function(store) return store:remove(1, 3, 5) end,
        function(store, well)
          assert((store:counts(1)) == (well and 7 or 10))
          assert(store:remove(1, 3, 5) == (well and 0 or 3))
        end) > 0)
    ]]
  end)

  it("dates records, or leaves them without a date", function()
    run_store [[
      try_store(function(store)
        store:set_clock_policy()
        assert(store:open())
        put(store, store:device "x", 1, 300)
        assert(store:sync())
        put(store, 1, 301, 600)
      end, function(store) return store:date(1700000000000) end, function(store, well)
        if not well then
          assert(content(store, 1) == "")
          assert(store:date(1700000000000))
        end
        local all = content(store, 1)
        for n = 1, 600 do assert(all:find('"n":' .. n .. "}", 1, true), all) end
      end) -- newer releases of SQLite need no memory for it
    ]]
  end)

  it("tells of its records, or fails", function()
    run_store [[
      assert(try_store(function(store)
        assert(store:open())
        put(store, store:device "x", 1, 2)
        assert(store:sync())
        store:shut()
        assert(store:open())
      end, function(store)
        local rows, reason = store:query "SELECT count FROM runs"
        if not rows then return nil, reason end
        local first, why = store:oldest(1, false)
        if first == nil then return nil, why end
        first, why = store:newest(1)
        if first == nil then return nil, why end
        return rows[1][1] == 2 and first == 0 or error "wrong"
      end, function(store)
        assert(store:oldest(1, false) == 0 and store:newest(1) == 0)
        assert(store:query("SELECT count FROM runs")[1][1] == 2)
      end) > 0)
    ]]
  end)
end)
