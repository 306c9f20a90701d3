-- An outbox that is full, whose disk fails, whose file is damaged or not its own.
local child = require "spec.support.child"
local count_descriptors = require "spec.support.descriptors"
local emulator = require "spec.support.emulator"
local recording = require "spec.support.recording"
local scratch = require "spec.support.scratch"
local tb = require "thingsboard"

local fill = recording.fill

describe("an outbox", function()
  local e, place, dev, directory, path

  setup(function() e = emulator.start() end)
  teardown(function() e:stop() end)

  local function start()
    place = recording.start(e)
    dev, directory, path = place.dev, place.directory, place.path
  end

  local function start_anew(outbox)
    assert(outbox:close())
    place:stop()
    start()
  end

  before_each(start)

  after_each(function() place:stop() end)

  local function open(given)
    given = given or {}
    given.path = path
    return dev:outbox(given)
  end

  local function numbers(from, to)
    local list = {}
    for n = from, to do list[#list + 1] = n end
    return list
  end

  it("is its owner's alone to read, its log too", function()
    local outbox = assert(open())
    assert(outbox:put { n = 1 })
    assert.equal("600\n600\n", io.popen(("stat -c %%a '%s' '%s-wal'"):format(path, path)):read "a")
    assert.is_true(outbox:close())
    assert.is_true(outbox:close()) -- idempotent
  end)

  it("is its owner's alone where a link leads to it that came first, and one file by both names", function()
    local real <const> = directory .. "/real"
    assert(os.execute(("ln -s real '%s'"):format(path)))
    local outbox <close> = assert(open())
    assert(outbox:put { n = 1 })
    local other <close> = assert(dev:outbox { path = real, name = "other" })
    assert(other:put { n = 2 })
    assert.equal(outbox.file, other.file)
    assert.equal("600\n600\n", io.popen(("stat -c %%a '%s' '%s-wal'"):format(real, real)):read "a")
  end)

  it("has room for all that is set aside, though nothing is put meanwhile", function()
    local outbox <close> = assert(open())
    fill(outbox, 1, 1000)
    for n = 0, 999 do assert.is_true(outbox:reject(n, n, 1, ("x"):rep(300), "refused")) end
    assert.equal(1000, #outbox:rejected())
    assert.equal(0, outbox:stats().records)
  end)

  describe("that is full", function()
    it("drops the oldest, and counts them, across restarts", function()
      for _, sync_every in ipairs { false, 3600 } do
        local outbox = assert(open { max_records = 100, sync_every = sync_every or nil })
        fill(outbox, 1, 150)
        assert.equal(100, outbox:stats().records)
        assert.equal(50, outbox:stats().lost.full)
        assert(outbox:close())
        outbox = assert(open { max_records = 90 })
        assert.equal(50, outbox:stats().lost.full)
        fill(outbox, 151, 151)
        assert.equal(61, outbox:stats().lost.full)
        assert.is_true(outbox:drain { deadline = 10 })
        assert.same(numbers(62, 151), place:arrived(90))
        start_anew(outbox)
      end
    end)

    it("refuses the new, when told to", function()
      local outbox <close> = assert(open { max_records = 3, when_full = "refuse" })
      fill(outbox, 1, 3)
      local ok, err = outbox:put { n = 4 }
      assert.is_nil(ok)
      assert.same({ "full", "put: the outbox is full", true }, { err.kind, err.message, err.retryable })
      assert.equal(1, outbox:stats().lost.refused)
      assert.is_true(outbox:drain { deadline = 5 })
      assert(outbox:put { n = 5 })
      assert.is_true(outbox:drain { deadline = 5 })
      assert.same({ 1, 2, 3, 5 }, place:arrived(4))
    end)

    it("refuses what would go beyond its bytes, and drops nothing for it", function()
      for _, sync_every in ipairs { false, 3600 } do
        local outbox <close> = assert(open { max_bytes = 20000, when_full = "refuse", sync_every = sync_every or nil })
        local n = 0
        repeat
          n = n + 1
          local ok, err = outbox:put { n = n, text = ("x"):rep(n % 2 == 0 and 100 or 3000) }
          assert.is_true(ok or err.kind == "full")
        until not ok or n == 100
        local stats = outbox:stats()
        assert.same({ refused = 1 }, stats.lost)
        assert.equal(n - 1, stats.records)
        assert.is_true(stats.bytes <= 20000)
        assert.is_true(outbox:drain { deadline = 10 })
        assert.equal(n - 1, #place:arrived(n - 1))
        start_anew(outbox)
      end
    end)

    it("counts apart what was sent and is dropped before it is confirmed", function()
      local outbox <close> = assert(open { max_records = 10 })
      fill(outbox, 1, 10)
      e:set { queue_delay = 60000 }
      assert.is_nil((outbox:drain { deadline = 2 }))
      e:set { queue_delay = 0 }
      assert.equal(10, outbox:stats().unconfirmed)
      fill(outbox, 11, 24)
      local stats = outbox:stats()
      assert.same({ unconfirmed = 10, full = 4 }, stats.lost)
      assert.same({ 0, 10 }, { stats.unconfirmed, stats.records })
    end)

    it("counts apart what was sent, too, where all of it is dropped", function()
      local outbox <close> = assert(open())
      fill(outbox, 1, 3)
      e:set { queue_delay = 60000 }
      assert.is_nil((outbox:drain { deadline = 2 }))
      e:set { queue_delay = 0 }
      assert.is_true(outbox:drop_oldest())
      local stats = outbox:stats()
      assert.same({ { unconfirmed = 3 }, 0, 0 }, { stats.lost, stats.unconfirmed, stats.records })
    end)

    it("keeps within its bytes", function()
      local outbox <close> = assert(open { max_bytes = 20000, sync_every = 3600 })
      for n = 1, 1000 do assert(outbox:put { n = n, text = ("x"):rep(100) }) end
      local stats = outbox:stats()
      assert.is_true(stats.bytes <= 20000)
      assert.is_true(stats.bytes > 18000)
      assert.equal(1000, stats.records + stats.lost.full)
    end)

    it("counts on disk what it drops for its age, though nothing is put any more", function()
      local outbox = assert(open { max_age = 30 * 24 * 3600 })
      assert(outbox:put { ts = tb.now() - 40 * 24 * 3600 * 1000, values = { n = 1 } })
      assert(outbox:close())
      place:run [[
        local outbox = assert(dev:outbox { path = path, max_age = 30 * 24 * 3600 })
        assert(outbox:drain { deadline = 5 })
        io.popen("kill -9 $PPID"):read "a"
      ]]
      outbox = assert(open())
      assert.equal(1, outbox:stats().lost.expired)
      assert(outbox:close())
    end)

    it("drops what is too old", function()
      local outbox <close> = assert(open { max_age = 3600 })
      local ts = tb.now() - 7200000
      assert(outbox:put { { ts = ts, values = { n = 1 } }, { ts = ts, values = { n = 2 } } })
      assert(outbox:put { n = 3 })
      assert.is_true(outbox:drain { deadline = 5 })
      assert.same({ 3 }, place:arrived(1))
      assert.equal(2, outbox:stats().lost.expired)
    end)
  end)

  it("whose process may make no file longer says that it is full, and records on when there is room", function()
    local said = place:run([[
      local outbox = assert(dev:outbox { path = path, when_full = "refuse" })
      local kept, refused = 0
      for n = 1, 5000 do
        local ok, err = outbox:put { n = n, text = ("x"):rep(200) }
        if ok then kept = n else refused = err break end
      end
      print(kept, refused.kind, refused.retryable)
      assert(outbox:stats().records == kept)
      local sent, err = outbox:drain { deadline = 10 }
      print(sent or err, outbox:stats().records)
      os.execute "prlimit --pid $PPID --fsize=unlimited:"
      for n = kept + 1, 2 * kept do assert(outbox:put { n = n, text = ("x"):rep(200) }) end
      print(outbox:drain { deadline = 10 })
    ]], {}, "ulimit -S -f 240;") -- blocks of 512 bytes
    local kept, rest = said:match("(%d+)\tfull\ttrue\n(.*)$")
    assert.truthy(kept, said)
    assert.is_true(tonumber(kept) > 50, said)
    assert.equal("true\t0\ntrue\tnil\n", rest)
    assert.equal(2 * tonumber(kept), #place:arrived(2 * tonumber(kept)))
  end)

  it("whose disk fails records in memory, when told to, and brings it to the disk when that works again", function()
    local outbox = assert(open { on_trouble = "memory" })
    fill(outbox, 1, 3)
    assert(outbox.spool:query "PRAGMA query_only = 1")
    fill(outbox, 4, 500)
    assert.truthy(outbox:stats().trouble:find "readonly")
    assert.equal(500, outbox:stats().records)
    assert.is_true(outbox:drain { deadline = 20 })
    assert.equal(0, outbox:stats().records)
    assert(outbox.spool:query "PRAGMA query_only = 0")
    fill(outbox, 501, 501)
    assert.is_nil(outbox:stats().trouble)
    assert.is_true(outbox:drain { deadline = 20 })
    assert.equal(501, #place:arrived(501))
    assert(outbox:close())
  end)

  it("sends nothing again that it could not remove, and removes that when it can", function()
    local outbox = assert(open())
    fill(outbox, 1, 3)
    assert(outbox:attributes { version = 7, place = "here" })
    assert(outbox.spool:query "PRAGMA query_only = 1")
    outbox:drain { deadline = 5 }
    local stats = outbox:stats()
    assert.same({ 0, 0, 3, 2 }, { stats.records, stats.attributes, stats.sent.records, stats.sent.attributes })
    assert.truthy(stats.trouble:find "readonly", stats.trouble)
    assert(outbox.spool:query "PRAGMA query_only = 0")
    assert.is_true(outbox:drain { deadline = 5 })
    assert.is_nil(outbox:stats().trouble)
    assert.same({ 3, 2 }, { outbox:stats().sent.records, outbox:stats().sent.attributes })
    assert(outbox:close())
    outbox = assert(open())
    assert.same({ 0, 0 }, { outbox:stats().records, outbox:stats().attributes })
    assert(outbox:close())
  end)

  it("says so where its library cannot be read", function()
    local said = place:run([[
      local open = {}
      for file in function() return (io.open "/dev/null") end do open[#open + 1] = file end
      print(pcall(dev.outbox, dev, { path = path }))
    ]], {}, "ulimit -n 64;")
    assert.truthy(said:find "^false\toutbox: [^\n]*spool%.so: Too many open files\n", said)
    assert(os.execute(("mkdir %s/thingsboard && ln -s spool.so %s/thingsboard/spool.so"):format(directory, directory)))
    said = place:run(([[
      package.cpath = %q
      print(pcall(dev.outbox, dev, { path = path }))
    ]]):format(directory .. "/?.so"))
    assert.truthy(said:find "^false\toutbox: [^\n]*/thingsboard/spool%.so: Too many levels of symbolic links\n", said)
    said = place:run [[
      package.cpath = "/nonexistent/?.so;/dev/null/?.so"
      print(select(2, pcall(function() dev:outbox { path = path } end)))
    ]]
    assert.matches("^[^\n]*:%d+: outbox: this build has none, for SQLite's header was missing: install SQLite's "
      .. "development package %(libsqlite3%-dev%), and build and install again\n$", said)
  end)

  describe("whose file", function()
    it("is damaged, gives it another name and begins anew", function()
      local outbox = assert(open())
      fill(outbox, 1, 100)
      assert(outbox:close())
      local file = assert(io.open(path, "r+b"))
      file:write(("not a database "):rep(10))
      file:close()
      outbox = assert(open())
      assert.equal(0, outbox:stats().records)
      assert.equal(1, outbox:stats().lost.damaged)
      fill(outbox, 101, 102)
      assert.is_true(outbox:drain { deadline = 5 })
      assert.same({ 101, 102 }, place:arrived(2))
      assert(outbox:close())
      local names = scratch.files(directory)
      assert.same({ "outbox", "outbox-wal" }, { names[1], names[2] })
      assert.truthy(names[3]:find "^outbox%.damaged%-%d+$")
      outbox = assert(open())
      assert.equal(1, outbox:stats().lost.damaged)
      assert(outbox:close())
    end)

    it("is damaged, takes no name for it that another has, and leaves that one's file closed", function()
      assert(open()):close()
      local file = assert(io.open(path, "r+b"))
      file:write(("not a database "):rep(10))
      file:close()
      local now = os.time()
      for second = now, now + 30 do
        assert(io.open(("%s.damaged-%d"):format(path, second), "w")):close()
        assert(io.open(("%s.damaged-%d-1"):format(path, second), "w")):close()
      end
      collectgarbage()
      local before = count_descriptors()
      collectgarbage "stop"
      assert(open()):close()
      local after = count_descriptors()
      collectgarbage "restart"
      assert.equal(before, after)
      local names = table.concat(scratch.files(directory), "\n")
      assert.matches("outbox%.damaged%-%d+%-2", names)
      assert.equal(1 + 62, select(2, names:gsub("damaged", "")))
    end)

    it("is found damaged in the middle of sending, goes on with what is in memory", function()
      local outbox = assert(open { sync_every = 3600 })
      fill(outbox, 1, 5000)
      assert(outbox:close())
      local file = assert(io.open(path, "r+b"))
      local size = file:seek "end"
      for at = 4096 * 3, size - 1, 4096 do
        file:seek("set", at)
        file:write(("\255"):rep(4096))
      end
      file:close()
      outbox = assert(open { sync_every = 3600 })
      fill(outbox, 5001, 5003)
      outbox:drain { deadline = 10 }
      assert.equal(1, outbox:stats().lost.damaged)
      local last = place:arrived(3)
      assert.equal(5003, last[#last])
      assert(outbox:close())
      local names = scratch.files(directory)
      assert.equal(names[3] .. "-wal", names[4])
    end)

    it("cannot be written, though it is not full, keeps in memory what it would refuse if it were", function()
      local outbox <close> = assert(open { on_trouble = "memory", when_full = "refuse" })
      assert(outbox.spool:query "PRAGMA query_only = 1")
      fill(outbox, 1, 2)
      assert.same({ 2, {} }, { outbox:stats().records, outbox:stats().lost })
      assert(outbox.spool:query "PRAGMA query_only = 0")
      assert.is_true(outbox:drain { deadline = 5 })
      assert.same({ 1, 2 }, place:arrived(2))
    end)

    it("is removed or renamed while it is open, begins anew, and counts that", function()
      for _, take_away in ipairs { "rm ", "mv -t " .. directory .. "/elsewhere " } do
        assert(os.execute("mkdir -p " .. directory .. "/elsewhere"))
        local outbox = assert(open())
        fill(outbox, 1, 3)
        assert(os.execute(take_away .. path .. " " .. path .. "-wal"))
        fill(outbox, 4, 5)
        assert.equal(1, outbox:stats().lost.damaged)
        assert(outbox:close())
        outbox = assert(open())
        assert.equal(2, outbox:stats().records)
        assert(outbox:close())
        assert(os.execute("rm " .. path))
      end
    end)

    it("is removed while it is open, keeps in the new one what is set as attributes, too", function()
      local outbox = assert(open())
      assert(outbox:attributes { a = 1 })
      assert(os.execute("rm " .. path .. " " .. path .. "-wal"))
      assert(outbox:attributes { b = 2 })
      assert.equal(1, outbox:stats().lost.damaged)
      assert(outbox:close())
      outbox = assert(open())
      assert.is_true(outbox:drain { deadline = 5 })
      local arrived = e:attributes(place.token, "client")
      assert.same({ "1", "2" }, { arrived.a.value, arrived.b.value })
      assert(outbox:close())
    end)

    it("is removed while it has records that are sent, sends those of the new file all the same", function()
      local outbox <close> = assert(open())
      fill(outbox, 1, 3)
      local forbid = "CREATE TRIGGER keep BEFORE DELETE ON runs BEGIN SELECT RAISE(FAIL, 'the disk is full'); END"
      assert(outbox.spool:query(forbid)) -- as where no log has room
      assert.is_true(outbox:drain { deadline = 5 })
      assert.same({ 1, 2, 3 }, place:arrived(3))
      assert.equal(0, outbox:stats().records)
      assert(os.execute("rm " .. path .. " " .. path .. "-wal"))
      fill(outbox, 4, 7) -- with the numbers of the first
      assert.equal(4, outbox:stats().records)
      assert.is_true(outbox:drain { deadline = 5 })
      assert.same({ 1, 2, 3, 4, 5, 6, 7 }, place:arrived(7))
    end)

    it("is removed while one of its records is in doubt, has none of the new file's in doubt", function()
      local outbox <close> = assert(open())
      fill(outbox, 1, 4)
      e:fault { path = "/telemetry$", how = "status", status = 500 }
      assert.is_nil((outbox:drain { deadline = 1 }))
      assert.is_true(outbox:stats().in_doubt > 0)
      assert(os.execute("rm " .. path .. " " .. path .. "-wal"))
      fill(outbox, 5, 8)
      assert.equal(0, outbox:stats().in_doubt)
    end)

    it("is taken away and comes back, counts each loss once, and sends no attribute's older value", function()
      local outbox <close> = assert(open { on_trouble = "memory", max_records = 3 })
      fill(outbox, 1, 5)
      assert(outbox:attributes { a = 1, b = 1 })
      assert(os.execute(("mv %s %s-away"):format(directory, directory)))
      fill(outbox, 6, 6)
      assert(outbox:attributes { a = 2 })
      assert.truthy(outbox:stats().trouble)
      assert.is_true(outbox:drain { deadline = 5 })
      assert.same({ 6 }, place:arrived(1))
      local stats = outbox:stats()
      assert.same({ 0, 1, 1 }, { stats.attributes, stats.sent.records, stats.sent.confirmed })
      assert(os.execute(("mv %s-away %s"):format(directory, directory)))
      assert.is_true(outbox:sync())
      stats = outbox:stats()
      assert.same({ false, 2, 3 }, { stats.trouble or false, stats.lost.full, stats.records })
      assert.is_true(outbox:drain { deadline = 5 })
      assert.same({ 3, 4, 5, 6 }, place:arrived(4))
      local arrived = e:attributes(place.token, "client")
      assert.same({ "2", "1" }, { arrived.a.value, arrived.b.value })
    end)

    it("is replaced by what is none, keeps nothing of what it refuses", function()
      local outbox <close> = assert(open())
      fill(outbox, 1, 50)
      assert(os.execute("rm " .. path .. " " .. path .. "-wal && mkdir " .. path))
      for n = 51, 56 do
        local ok, err = outbox:put { n = n }
        assert.is_nil(ok)
        assert.equal("file", err.kind)
        assert.equal(0, outbox:stats().records)
      end
      assert(os.execute("rmdir " .. path))
      fill(outbox, 57, 58)
      assert.is_true(outbox:drain { deadline = 5 })
      assert.same({ 57, 58 }, place:arrived(2))
    end)

    it("cannot be kept, leaves attributes as they were before the call that it fails", function()
      local outbox <close> = assert(open())
      assert(outbox:attributes { a = 1 })
      assert(os.execute("rm " .. path .. " " .. path .. "-wal && mkdir " .. path))
      local ok, err = outbox:attributes { a = 2, b = 2 }
      assert.is_nil(ok)
      assert.same({ "file", true }, { err.kind, err.retryable })
      assert.matches("^attributes: this cannot be kept: ", err.message)
      assert(os.execute("rmdir " .. path))
      assert(outbox:attributes { c = 3 })
      assert.is_true(outbox:drain { deadline = 5 })
      local arrived = e:attributes(place.token, "client")
      assert.same({ "1", nil, "3" }, { arrived.a.value, arrived.b, arrived.c.value })
    end)

    it("cannot be kept, has at most ten thousand records in memory, the newest, and counts the rest", function()
      local outbox <close> = assert(open { on_trouble = "memory", max_records = 20000 })
      assert(os.execute("rm " .. path .. " " .. path .. "-wal && mkdir " .. path))
      local list = {}
      for n = 1, 10000 do list[n] = { ts = 1700000000000 + n, values = { n = n } } end
      assert(outbox:put(list))
      assert.same({ 10000, nil }, { outbox:stats().records, outbox:stats().lost.memory })
      for n = 10001, 10002 do assert(outbox:put { ts = 1700000000000 + n, values = { n = n } }) end
      assert.same({ 10000, 2 }, { outbox:stats().records, outbox:stats().lost.memory })
      assert(os.execute("rmdir " .. path))
      assert.is_true(outbox:drain { deadline = 20 })
      local arrived = place:arrived(10000)
      assert.same({ 3, 10002 }, { arrived[1], arrived[#arrived] })
    end)

    it("is found damaged, and cannot be replaced, says so while a post is in flight, too", function()
      local outbox = assert(open { sync_every = 3600 })
      fill(outbox, 1, 1)
      assert(outbox:sync())
      assert(outbox.spool:query "UPDATE runs SET data = X'FF'")
      fill(outbox, 2, 2)
      assert(os.execute(("rm -r %s"):format(directory)))
      e:fault { path = "/telemetry$", how = "delay", seconds = 1 }
      local sending = tb.spawn(outbox.run, outbox)
      local deadline = tb.now() + 10000
      repeat tb.sleep(0.01) until outbox.posting or tb.now() > deadline
      assert.is_true(outbox.posting)
      local ok, err = outbox:sync()
      assert.is_nil(ok)
      assert.equal("file", err.kind)
      assert(os.execute(("mkdir %s"):format(directory)))
      repeat tb.sleep(0.01) until not outbox.posting or tb.now() > deadline
      assert(outbox:put { n = 3 })
      assert.is_true(outbox:sync())
      assert(outbox:close())
      sending:join()
      assert.same({ 2 }, place:arrived(1))
    end)

    it("is a directory, or in none, says so", function()
      assert(os.execute("mkdir " .. path))
      local outbox, err = open()
      assert.is_nil(outbox)
      assert.equal("file", err.kind)
      assert.truthy(err.message:find(path .. ": Is a directory", 1, true), err.message)
      path = directory .. "/none/outbox"
      outbox, err = open()
      assert.is_nil(outbox)
      assert.truthy(err.message:find "No such file", err.message)
    end)

    it("is another database, or a newer release's, is left alone", function()
      local spool = require "thingsboard.spool"
      local s = spool.spool(path)
      assert(s:open())
      assert(s:query "PRAGMA user_version = 99")
      s:close()
      local outbox, err = open()
      assert.is_nil(outbox)
      assert.truthy(err.message:find "newer release", err.message)
      s = spool.spool(path .. "2")
      assert(s:open())
      assert(s:query "PRAGMA application_id = 7")
      s:close()
      path = path .. "2"
      outbox, err = open()
      assert.is_nil(outbox)
      assert.truthy(err.message:find "no outbox", err.message)
      assert.same({ "outbox", "outbox2" }, scratch.files(directory))
    end)

    it("is held by another process: records wait in memory, when told to, until that ends", function()
      local other <close> = child.start(([[
        local spool = require "thingsboard.spool".spool(%q)
        assert(spool:open())
        print "open"
        io.stdout:flush()
        while not io.open(%q) do os.execute "sleep 0.05" end
      ]]):format(path, directory .. "/end"))
      assert.equal("open", other:read "l")
      local outbox, err = open()
      assert.is_nil(outbox)
      assert.truthy(err.message:find "another process")
      outbox = assert(open { on_trouble = "memory" })
      fill(outbox, 1, 3)
      assert(outbox:attributes { a = 1 })
      assert.truthy(outbox:stats().trouble:find "another process")
      assert.equal(3, outbox:stats().records)
      io.open(directory .. "/end", "w"):close()
      assert.equal("", other:read "a")
      fill(outbox, 4, 4)
      assert.is_nil(outbox:stats().trouble)
      assert(outbox:close())
      outbox = assert(open())
      assert.equal(4, outbox:stats().records)
      assert.equal(1, outbox:stats().attributes)
      assert.is_true(outbox:drain { deadline = 5 })
      assert.same({ 1, 2, 3, 4 }, place:arrived(4))
      assert(outbox:close())
    end)
  end)
end)
