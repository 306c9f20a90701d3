-- The outbox's store when memory runs out, at each allocation in turn, Lua's, its own and SQLite's: what is called
-- happens as a whole or not at all, says so, and happens when it is called again.
local child = require "spec.support.child"
local library = require "spec.support.library"
local scratch = require "spec.support.scratch"

describe("the outbox's store, when memory runs out,", function()
  local directory

  before_each(function() directory = scratch.quick() end)
  after_each(function() scratch.remove(directory) end)

  -- A script has `PATH`, `content(store, device)` and `try(prepare, act, check)`: `prepare` makes a store, `act` is
  -- called on it while memory runs out, `check` is told whether it did what it should, with memory there again.
  local function run(script, expected)
    local oom <const> = library.build "oom"
    local said = child.run(([[
      local core = require "thingsboard.core"
      local spool = require "thingsboard.spool"
      local oom = package.loadlib(%q, "luaopen_oom")()
      local PATH = %q

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
        assert(store:open())
        store:device "x"
        return store
      end

      local function try(prepare, act, check)
        local failures = 0
        for _, sticky in ipairs { false, true } do
          local n = 0
          repeat
            n = n + 1
            os.remove(PATH)
            local store <close> = spool.spool(PATH)
            prepare(store)
            local count, returned, result, why = oom.attempt(n, sticky, function() return act(store) end)
            local well = returned and result ~= nil
            if not well then
              failures = failures + 1
              local said = returned and why or result
              assert(said:find "memory" or said:find "disk I/O error" or said:find "unable to open", said)
            end
            check(store, well)
          until n > count
        end
        print(failures > 0 and "well" or "it never failed")
      end

      local function put(store, device, from, to)
        for n = from, to do assert(store:put(device, { n = n })) end
      end
    ]]):format(oom, directory .. "/outbox") .. script, { LD_PRELOAD = oom })
    assert.equal(expected or "well\n", said)
  end

  it("puts all of a list or nothing", function()
    run [[
      try(function(store) put(store, store:device "x", 1, 3) end, function(store)
        return store:put(1, { { n = 4 }, { n = 5, text = ("x"):rep(1000) }, { ["a longer key than those"] = 6 } })
      end, function(store, well)
        assert((store:counts(1)) == (well and 6 or 3))
        assert(store:put(1, { n = 7 }))
        local all = content(store, 1)
        assert(select(2, all:gsub("values", "")) == (well and 7 or 4))
        assert(all:find '"n":3}' and all:find '"n":7}')
      end)
    ]]
  end)

  local never <const> = "it never failed\n"

  for range, expected in pairs { ["3, 5"] = "well\n", ["0, 4"] = never, ["5, 9"] = never } do
    it(("takes records %s out of a run, or leaves it; off an end it needs no memory"):format(range), function()
      run(([[
        local first, last = %s
        local all
        try(function(store)
          put(store, store:device "x", 0, 9)
          all = content(store, 1)
        end, function(store) return store:unput(1, first, last) end, function(store, well)
          if not well then
            assert(content(store, 1) == all)
            store:unput(1, first, last)
          end
          assert((store:counts(1)) == 10 - (last - first + 1))
          put(store, 1, 10, 11)
          local left = content(store, 1)
          for n = 0, 11 do
            assert((left:find('"n":' .. n .. "}", 1, true) == nil) == (n >= first and n <= last))
          end
        end)
      ]]):format(range), expected)
    end)
  end

  it("opens its file, or does at the next try", function()
    run [[
      try(function(store)
        put(store, store:device "x", 1, 3)
        assert(store:open() and store:sync())
        store:shut()
        put(store, 1, 4, 5)
      end, function(store) return store:open() end, function(store, well)
        if not well then assert(store:open()) end
        local all = content(store, 1)
        assert(select(2, all:gsub("values", "")) == 5, all)
      end)
    ]]
  end)

  it("makes its file, or does at the next try", function()
    run [[
      try(function(store) put(store, store:device "x", 1, 3) end, function(store) return store:open() end,
        function(store, well)
          if not well then assert(store:open()) end
          assert(store:sync())
          store = reopened(store)
          assert((store:counts(1)) == 3)
          store:close()
        end)
    ]]
  end)

  it("meets a device, or does at the next try", function()
    run [[
      try(function(store) assert(store:open()) end, function(store) return store:device "x" end, function(store)
        assert(store:device "x" == 1)
        put(store, 1, 1, 1)
        assert(store:sync())
        store = reopened(store)
        assert((store:counts(1)) == 1)
        store:close()
      end)
    ]]
  end)

  it("writes all that waits, or keeps it", function()
    run [[
      local all
      try(function(store)
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
      end)
    ]]
  end)

  it("puts a batch together, or changes nothing", function()
    run [[
      local all
      local body = core.body()
      try(function(store)
        assert(store:open())
        for n = 1, 3 do assert(store:put(store:device "x", { n = n, text = ("x"):rep(1000), ["key" .. n] = 1 })) end
        assert(store:sync())
        put(store, 1, 4, 5)
        all = content(store, 1)
        assert(store:query "DELETE FROM counters") -- SQLite forgets nothing that it has read
      end, function(store) return store:batch(1, 0, 100, 1 << 40, 100, 100, body) end, function(store, well)
        assert(not well or (body:text():gsub('"ts":%d+', "")) == all)
        assert(content(store, 1) == all)
      end)
    ]]
  end)

  it("removes records, or leaves them", function()
    run [[
      try(function(store)
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
      end)
    ]]
  end)

  it("removes what waits in memory, or leaves it", function()
    run [[
      try(function(store) put(store, store:device "x", 0, 9) end, function(store) return store:remove(1, 3, 5) end,
        function(store, well)
          assert((store:counts(1)) == (well and 7 or 10))
          assert(store:remove(1, 3, 5) == (well and 0 or 3))
        end)
    ]]
  end)

  it("dates records, or leaves them without a date", function()
    run [[
      try(function(store)
        store:believe(false, 0)
        assert(store:open())
        put(store, store:device "x", 1, 2)
        assert(store:sync())
        put(store, 1, 3, 4)
      end, function(store) return store:date(1700000000000) end, function(store, well)
        if not well then
          assert(content(store, 1) == "")
          assert(store:date(1700000000000))
        end
        local all = content(store, 1)
        for n = 1, 4 do assert(all:find('"n":' .. n .. "}", 1, true), all) end
      end)
    ]]
  end)

  it("tells of its records, or fails", function()
    run [[
      try(function(store)
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
      end)
    ]]
  end)
end)
