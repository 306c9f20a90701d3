-- The outbox's store by itself: what waits in memory and on disk, against a model of it; damage; a disk that is full.
local cjson = require "cjson"
local child = require "spec.support.child"
local core = require "thingsboard.core"
local finalizers = require "spec.support.finalizers"
local lfs = require "lfs"
local scratch = require "spec.support.scratch"
local spool = require "thingsboard.spool"

describe("the outbox's store", function()
  local directory, path, store

  local function new_store()
    local new = spool.spool(path)
    new:set_clock_policy "wall"
    return new
  end

  before_each(function()
    directory = scratch.quick()
    path = directory .. "/outbox"
    store = new_store()
  end)

  after_each(function()
    store:close()
    scratch.remove(directory)
  end)

  -- The records from one number to another, as they would be sent.
  local function records(device, first, last, most_records, most_points)
    local body <close> = core.body()
    local made, from, to = store:batch(device, first or 0, last or 1 << 40, 1 << 40, most_records or 1 << 40,
      most_points or 1 << 40, body)
    if made == false then return {} end
    assert(made, from)
    return cjson.decode(body:text()), from, to
  end

  local function reopen()
    store:close()
    store = new_store()
    assert(store:open())
  end

  it("hands out every record as it was put, whatever the one before it was like", function()
    local put = {
      { temperature = 1 }, { temperature = 2 }, { t = 3 }, -- a shorter one than the key that is looked for
      { ['a"\\,:}'] = '}"\\' }, { ['a"\\,:}'] = "]\n" }, { ['a"\\'] = true },
      { a = { b = { "}", { c = "\\" } }, d = 1.5 } }, { a = { b = "]" } }, { a = 1, b = 2 }, { a = 1 }, { b = 1 },
      { ts = 1 }, { values = 1, a = 1 }, { values = 1 },
    }
    local device <const> = store:device "x"
    local function check()
      for n, record in ipairs(records(device)) do assert.same(put[n], record.values) end
      assert.equal(#put, (store:counts(device)))
    end
    for _, values in ipairs(put) do assert(store:put(device, values)) end
    check()
    assert(store:open())
    check()
    assert(store:sync())
    check()
    reopen()
    assert.equal(device, store:device "x")
    check()
  end)

  it("refuses what a finalizer does in the midst of another call", function()
    assert(store:open())
    local device <const> = store:device "x"
    local list, n = {}, 0
    for i = 1, 20 do list[i] = { ts = 1700000000000, values = { ["k" .. i] = i, text = ("x"):rep(50) } } end
    local function put()
      n = n + 20
      local first, last = store:put(device, list)
      assert.equal(20, last - first + 1)
      assert.is_nil((store:put(device, { { a = 1 }, { b = 0 / 0 } }))) -- makes strings, to say where that is
    end
    local function query()
      assert.same({ { 1, "x" }, { 2, "y" }, { 3, "z" } }, store:query "VALUES (1, 'x'), (2, 'y'), (3, 'z')")
    end
    for _, nested in ipairs {
      function() store:put(device, { text = ("y"):rep(5000) }) end, function() store:close() end,
      function() store:query "SELECT 1" end, function() store:sync() end, function() store:shut() end,
      function() store:device "y" end,
    } do
      local refused = 0
      for _, result in ipairs(finalizers.at_every(query, function() return store:busy() and nested() end)) do
        if not result[1] then
          assert.matches("^[^:]*spool_spec%.lua:%d+: the outbox is in use: a finalizer has called it in the midst of "
            .. "another call$", result[2])
          refused = refused + 1
        end
      end
      assert.is_true(refused > 0)
    end
    -- No finalizer runs while records are put: those of one come before them, or behind.
    local function put_one() return store:put(device, { text = ("y"):rep(5000) }) end
    for _, result in ipairs(finalizers.at_every(put, put_one)) do
      assert.is_true(result[1], result[2])
      n = n + 1
    end
    assert.is_true(n > 20)
    assert.equal(n, (store:counts(device)))
    assert(store:sync())
    assert.equal(n, #records(device))
  end)

  it("can be used after a call that raised", function()
    assert(store:open())
    local device <const> = store:device "x"
    assert.has_error(function() store:put(device, { [{}] = 1 }) end)
    assert.has_error(function() store:put(device, { { a = print } }) end)
    assert.is_false(store:busy())
    assert(store:put(device, { a = 1 }))
    assert.is_nil((store:query "SELECT nothing"))
    assert.is_false(store:busy())
    assert.equal(1, (store:counts(device)))
  end)

  describe("in a file that is damaged", function()
    local device

    before_each(function()
      assert(store:open())
      device = store:device "x"
      for n = 1, 20 do assert(store:put(device, { n = n, text = ("x"):rep(n) })) end
      assert(store:sync())
      for n = 21, 40 do assert(store:put(device, { n = n })) end
      assert(store:sync())
    end)

    local function damage(sql, ...)
      assert(store:query(sql, ...))
      reopen()
      assert.equal(device, store:device "x")
    end

    local function assert_corrupt(ok, reason, code)
      assert.is_nil(ok)
      assert.equal("CORRUPT", code)
      assert.truthy(reason:find(path, 1, true), reason)
    end

    local function batch(body) return store:batch(device, 0, 100, 1 << 40, 100, 100, body) end

    it("says so where keys are missing", function()
      local body <close> = core.body()
      damage "DELETE FROM shapes"
      assert_corrupt(batch(body))
    end)

    it("says so where records break off, or make no sense, and changes nothing", function()
      local body <close> = core.body()
      for _, data in ipairs {
        "", "\0", "\0\5", "\0\255", "\0\255\255", ("\255"):rep(20), "\0" .. ("\255"):rep(20), "\0\2" .. "1\n\0",
      } do
        damage("UPDATE runs SET data = ?", data)
        local count <const> = store:counts(device)
        assert_corrupt(batch(body))
        assert_corrupt(store:remove(device, 10, 10)) -- what lies around it cannot be kept
        assert_corrupt(store:remove(device, 10, 100))
        assert.equal(count, (store:counts(device)))
      end
      assert.equal(40, store:remove(device, 0, 100)) -- nothing of it needs to be read
      assert.is_false(batch(body))
    end)

    it("never does more than send what is wrong", function()
      local body <close> = core.body()
      math.randomseed(20241125)
      local rows <const> = store:query "SELECT id, data FROM runs"
      local shapes <const> = store:query "SELECT number, keys FROM shapes"
      local function spoilt(text)
        local at <const> = math.random(#text)
        return text:sub(1, at - 1) .. string.char(math.random(0, 255)) .. text:sub(at + math.random(0, 2))
      end
      local outcomes = {}
      for _ = 1, 100 do
        for _, row in ipairs(rows) do store:query("UPDATE runs SET data = ? WHERE id = ?", spoilt(row[2]), row[1]) end
        for _, row in ipairs(shapes) do
          local keys <const> = math.random(5) == 1 and spoilt(row[2]) or row[2]
          store:query("UPDATE shapes SET keys = ? WHERE number = ?", keys, row[1])
        end
        store:shut()
        assert(store:open())
        local made, first, last, count = batch(body)
        if made then
          assert.equal(count, last - first + 1)
          outcomes.sent = true
        else
          assert.equal("CORRUPT", last)
          outcomes.corrupt = true
        end
        assert.truthy(store:oldest(device, false) ~= nil)
        assert.truthy(store:newest(device) ~= nil)
      end
      assert.same({ sent = true, corrupt = true }, outcomes)
    end)
  end)

  it("names core where that is of another version", function()
    assert.equal("thingsboard.core and thingsboard.spool are of different versions\n", child.run [[
      package.preload["thingsboard.core"] = function() return {} end
      print(select(2, pcall(require, "thingsboard.spool")))
    ]])
  end)

  describe("whose disk is full", function()
    -- What a script prints that may write no file larger than `limit` bytes once it has called `limit()`.
    local function run(script)
      return child.run(([[
        local spool = require "thingsboard.spool"
        local store = spool.spool %q
        assert(store:open())
        store:set_clock_policy "wall"
        local device = store:device "x"
        local function limit(bytes) os.execute("prlimit --pid $PPID --fsize=" .. bytes .. ":") end
        for n = 1, 100 do -- a log that is longer than the file
          assert(store:put(device, { n = n }))
          assert(store:sync())
          if n > 10 then assert(store:remove(device, n - 10, n - 10)) end
        end
        %s
      ]]):format(path, script), {}, "trap '' XFSZ;")
    end

    it("makes room in its log for what is removed", function()
      assert.equal("1\n1\n", run [[
        limit(200 * 1024)
        print(store:remove(device, 95, 95))
        print(store:remove(device, 96, 96))
      ]])
    end)

    it("makes room in its log for what is put", function()
      assert.equal("true\n11\n", run [[
        limit(200 * 1024)
        assert(store:put(device, { n = 101 }))
        print(store:sync())
        print((store:counts(device)))
      ]])
    end)

    it("says so when there is none, and goes on when there is", function()
      assert.matches("^nil\t[^\t]+\t%u+\n11\ntrue\n11\n$", run [[
        limit(4096)
        assert(store:put(device, { n = 101 }))
        print(store:sync())
        print((store:counts(device)))
        limit "unlimited"
        print(store:sync())
        print((store:counts(device)))
      ]])
    end)
  end)

  describe("where a transaction fails in its midst,", function()
    local device

    before_each(function()
      assert(store:open())
      device = store:device "x"
    end)

    local function fail(before, condition)
      assert(store:query(("CREATE TRIGGER fail BEFORE %s ON runs WHEN %s BEGIN SELECT RAISE(FAIL, 'no'); END"):format(
        before, condition)))
    end

    local function go_on() assert(store:query "DROP TRIGGER fail") end

    -- The values in the file, when it is opened anew.
    local function in_file()
      assert(store:sync())
      reopen()
      device = store:device "x"
      local values = {}
      for n, record in ipairs((records(device))) do values[n] = record.values end
      assert.equal(#values, (store:counts(device)))
      return values
    end

    for _, known in ipairs { true, false } do
      it("what was put is written once it goes on, " .. (known and "dated" or "undated"), function()
        store:set_clock_policy(known and "wall" or nil)
        for _, key in ipairs { "a", "b", "c" } do assert(store:put(device, { [key] = 1 })) end
        fail("INSERT", "new.id % 3 = (SELECT number * 1099511627776 + 1 FROM devices) % 3")
        assert.equal("ERROR", select(3, store:sync())) -- at b
        assert.equal(3, (store:counts(device)))
        go_on()
        assert.equal(1, store:discard_pending(device, 0, 0))
        assert(store:sync())
        assert(store:date(1700000000000))
        assert.same({ { b = 1 }, { c = 1 } }, in_file())
      end)
    end

    it("a row that it was to write takes no more records", function()
      fail("INSERT", "1")
      assert(store:put(device, { a = 1 }))
      assert.equal("ERROR", select(3, store:sync()))
      go_on()
      assert.equal(1, store:discard_pending(device, 0, 0))
      assert(store:put(device, { a = 2 }))
      assert.same({ { a = 2 } }, in_file())
    end)

    it("nothing is removed", function()
      for n = 1, 3 do assert(store:put(device, { n = n })) end -- one row
      assert(store:sync())
      local before <const> = { store:counts(device) }
      for _, statement in ipairs { "DELETE", "INSERT" } do -- of the row, of what stays of it
        fail(statement, "1")
        assert.equal("ERROR", select(3, store:remove(device, 1, 1)))
        assert.same(before, { store:counts(device) })
        go_on()
      end
      assert(store:put(device, { n = 4 }))
      assert.same({ { n = 1 }, { n = 2 }, { n = 3 }, { n = 4 } }, in_file())
      assert.equal(1, store:remove(device, 1, 1))
      assert.same({ { n = 1 }, { n = 3 }, { n = 4 } }, in_file())
    end)
  end)

  describe("takes its room before it needs it,", function()
    local LOG_HEADER <const>, FRAME_HEADER <const> = 32, 24

    local function size(name) return lfs.attributes(name or path, "size") end
    local function number(pragma) return store:query("PRAGMA " .. pragma)[1][1] end

    -- What csrc/spool/room.h promises: pages of the log, and how many of them there are until a checkpoint.
    local function frames_of(limit, page)
      local frames = math.max(24, math.min(limit // 4, 2 << 20) // (page + FRAME_HEADER))
      return frames, frames < 96 and frames // 4 or frames // 2
    end

    local function assert_within(limit, page)
      local length <const> = size()
      assert.is_true(number "page_count" * page <= length)
      assert.equal(length // page, number "max_page_count")
      assert.is_true(length + size(path .. "-wal") <= limit)
    end

    for limit, page in pairs {
      [0] = 1024, [300000] = 1024, [402431] = 1024, [402432] = 1024, [512 << 10] = 1024, [(1 << 20) - 1] = 1024,
      [1 << 20] = 4096, [3 << 20] = 4096, [8 << 20] = 4096, [64 << 20] = 4096,
    } do
      it(("with %d bytes at most"):format(limit), function()
        store:set_limit(limit)
        limit = math.max(limit, 64 << 10)
        assert(store:open())
        assert.equal(page, number "page_size")
        local frames <const>, interval <const> = frames_of(limit, page)
        local log <const> = LOG_HEADER + frames * (page + FRAME_HEADER)
        assert.equal(log, size(path .. "-wal"))
        local device <const> = store:device "x"
        local code
        for n = 1, limit < 300000 and 1000 or 150 do -- most join the row before them, some take pages
          assert(store:put(device, { n = n, text = ("x"):rep(n % 10 == 0 and 2 * page or n % 10) }))
          code = select(3, store:sync())
          assert_within(limit, page)
          if code then break end
        end
        assert.equal(limit < 300000 and "FULL" or nil, code)
        if code then
          assert.is_true(limit - size() - log < 16 * page) -- all that there is was taken
          local before <const> = store:counts(device)
          local removed <const> = store:remove_oldest(device)
          assert.is_true(removed > 0 and removed < before // 2)
          assert.is_true(store:sync())
          assert.equal(before - removed, (store:counts(device)))
          return
        end
        local list = {}
        for n = 1, frames do list[n] = { n = n, other = ("x"):rep(page - 100) } end
        local from <const>, to <const> = assert(store:put(device, list))
        assert(store:sync()) -- in several transactions
        assert_within(limit, page)
        assert.equal(frames, assert(store:remove(device, from, to)))
        assert.equal(log, size(path .. "-wal")) -- which began anew again and again
        for _, part in ipairs { 10, 2, 1 } do
          local length <const> = (frames - interval) // part * (page - 4) -- each page has the number of the next
          local pages <const>, had <const> = length // (page - 4) + 1, size() // page
          local missing <const> = number "page_count" - number "freelist_count" + pages + 3 + 3 - had
          assert(store:reserve(length))
          local needed <const> = LOG_HEADER + (interval + pages + 3 + 8) * (page + FRAME_HEADER)
          assert.equal(math.max(log, needed), size(path .. "-wal"))
          assert.equal(missing > 0 and had + missing + 16 or had, size() // page)
          assert_within(limit, page)
        end
        assert(store:put(device, { text = ("x"):rep((frames - interval) * page) })) -- more than one checkpoint's
        assert(store:sync())
        assert_within(limit, page)
        store:shut()
        assert.is_true(size(path .. "-wal") >= log)
        assert(store:open())
        assert.equal(151, (store:counts(device)))
      end)
    end
  end)

  it("tells SQLite's name of what is wrong", function()
    local function code_of(sql, ...) return select(3, store:query(sql, ...)) end
    assert.equal("CANTOPEN", code_of "SELECT 1")
    assert.is_false(store:newest(store:device "x"))
    assert(store:open())
    assert.equal("ERROR", code_of "SELECT")
    assert.equal("ERROR", code_of("SELECT 1", 2)) -- no such question mark
    assert.same({ { "" } }, store:query "SELECT ''")
    assert.same({ { nil, "x" } }, store:query "SELECT NULL, 'x'")
    assert(store:query "PRAGMA query_only = 1")
    assert.equal("READONLY", code_of "DELETE FROM runs")
    assert.equal("READONLY", select(3, store:device "y"))
    assert(store:query "PRAGMA query_only = 0")
    assert.equal(2, store:device "y")
    store:set_limit(0)
    local first = assert(store:put(1, { text = ("x"):rep(100000) }))
    assert.equal("TOOBIG", select(3, store:sync()))
    assert.equal("TOOBIG", select(3, store:reserve(100000)))
    assert.equal("TOOBIG", code_of("INSERT INTO counters VALUES (1, ?, 1)", ("x"):rep(100000)))
    assert.same({}, store:query("SELECT 1 WHERE ? = 0", ("x"):rep(100000))) -- which takes no room
    assert.equal(1, (store:counts(1)))
    assert.equal(1, store:discard_pending(1, first, first))
    local ok, code
    repeat
      assert(store:put(1, { text = ("x"):rep(1000) }))
      ok, code = store:sync(), select(3, store:sync())
    until not ok or store:counts(1) > 1000
    assert.equal("FULL", code)
    assert(store:query "INSERT INTO counters VALUES (1, 'x', 1)") -- that little goes all the same
    assert.equal("FULL", select(3, store:reserve(4097)))
    assert(store:reserve(4096)) -- a page
  end)

  it("says what is wrong with its file", function()
    local function assert_fails(words, name, ok, reason, code)
      assert.is_nil(ok)
      assert.equal(name, code)
      assert.equal(path .. ": " .. words, (reason:gsub(" %(%d+%)$", "")))
    end
    local function write(text)
      local file <close> = assert(io.open(path, "w"))
      file:write(text)
    end
    assert(store:open())
    local other <close> = new_store()
    assert_fails("another process has this outbox open", "BUSY", other:open())
    assert(store:put(store:device "x", { a = 1 }))
    assert(os.rename(path, path .. "-away"))
    assert_fails("the file was removed, or has another name", "MOVED", store:sync())
    assert_fails("the file was removed, or has another name", "MOVED", store:sync())
    assert(os.rename(path .. "-away", path))
    assert.is_true(store:sync())
    assert(store:query "PRAGMA user_version = 99")
    store:shut()
    assert_fails("this is an outbox of a newer release of this library", "CANTOPEN", store:open())
    assert(os.remove(path))
    local db <close> = new_store()
    for pragma, what in pairs {
      ["application_id = 5"] = "a database, but no outbox", ["application_id = 0"] = "a database, but no outbox",
      ["user_version = -1"] = "an outbox of a newer release of this library",
    } do
      assert(db:open())
      assert(db:query("PRAGMA " .. pragma))
      db:shut()
      assert_fails("this is " .. what, "CANTOPEN", store:open())
      assert(os.remove(path))
    end
    write(("no database "):rep(1000))
    assert_fails("file is not a database", "NOTADB", store:open())
    assert(os.remove(path))
    assert(store:open()) -- and it has forgotten what was wrong
    store:shut()
    assert(os.remove(path) and lfs.mkdir(path))
    assert_fails("unable to open database file", "CANTOPEN", store:open())
  end)

  it("tells half the size of the file system, also of a file that is not there", function()
    local stat <close> = io.popen("stat -f -c '%b %S' " .. directory)
    local blocks <const>, size <const> = stat:read("n", "n")
    assert.equal(blocks // 2 * size, store:half_of_disk())
    assert(store:open())
    assert.equal(blocks // 2 * size, store:half_of_disk())
    for _, name in ipairs { "no-such-outbox", "/nowhere/x" } do
      local none <close> = spool.spool(name)
      assert.is_nil(none:half_of_disk())
    end
  end)

  it("has one name for a file, there or not", function()
    local function real(...) return spool.real_path(...) end
    assert.equal(path, real(path))
    assert.equal(path, real(directory .. "/../" .. directory:match "[^/]*$" .. "/./outbox"))
    local here <const> = io.popen "pwd -P":read "l"
    assert.equal(here .. "/no-such-file", real "no-such-file")
    assert.equal(here .. "/Makefile", real "./Makefile")
    assert.matches("^/+no%-such%-file$", real "/no-such-file")
    os.remove "no-such-file" -- it was made
    os.remove "/no-such-file"
    assert.same({ nil, "Makefile/x: Not a directory" }, { real "Makefile/x" })
    assert.matches("No such file", select(2, real "/nowhere/x"))
  end)

  it("keeps what comes behind records that were taken out of the middle", function()
    local device <const> = store:device "x"
    for n = 0, 9 do assert(store:put(device, { n = n })) end
    assert.equal(2, store:discard_pending(device, 4, 5))
    assert(store:put(device, { other = 10 }))
    assert.equal(2, store:discard_pending(device, 8, 9)) -- those that were put next would be taken for them
    assert(store:put(device, { n = 11 }))
    local left <const>, first <const>, last <const> = records(device)
    assert.same({ 0, 11 }, { first, last })
    local values = {}
    for i, record in ipairs(left) do values[i] = math.tointeger(record.values.n or record.values.other) end
    assert.same({ 0, 1, 2, 3, 6, 7, 10, 11 }, values)
    assert.equal(11, records(device, 11, 11)[1].values.n)
  end)

  it("believes nothing of its file that another process may have changed", function()
    local device <const> = store:device "x"
    local function put() assert(store:open() and store:put(device, { n = 1 }) and store:sync()) end
    local function meanwhile(change)
      store:shut()
      local other <close> = new_store()
      assert(other:open())
      change(other, other:device "x")
    end
    put()
    put()
    meanwhile(function(other, x) assert.equal(1, other:remove(x, 0, 0)) end)
    put() -- in a row of its own: the one before it is not what it was
    meanwhile(function(other, x)
      assert.equal(2, other:remove(x, 0, 9))
      assert.equal(1, other:remove_leftovers())
    end)
    put() -- with its keys
    store:set_clock_policy()
    put()
    meanwhile(function(other) assert(other:date(1700000000000)) end)
    put()
    assert.is_true((select(4, store:newest(device)))) -- without a date
    reopen()
    assert.equal(2, #records(store:device "x"))
  end)

  it("tells of a device's oldest and newest, on disk and in memory", function()
    local first <const>, at <const> = 1700000000000, 1710000000000
    local one, other = store:device "one", store:device "other"
    local function assert_tells(expected, ...) assert.same(expected, { ... }) end
    assert.is_false(store:oldest(one, false))
    assert.equal("CANTOPEN", select(3, store:span(0)))
    assert(store:open())
    assert_tells({ false }, store:span(0))
    for n = 0, 2 do assert(store:put(one, { ts = first + n, values = { n = n } })) end
    assert(store:sync())
    assert.is_false(store:oldest(one, true))
    assert(store:put(one, { ts = at, values = { other = 1 } }))
    store:set_clock_policy()
    assert(store:put(other, { n = 1 }))
    assert_tells({ 0, 2, first + 2, false }, store:oldest(one, false))
    assert_tells({ 3, 3, at, false }, store:oldest(one, true))
    assert_tells({ 0, 2, first + 2, false }, store:newest(one))
    assert_tells({ 0, 1, first + 1, false }, store:oldest(one, false, first + 2)) -- of those that are older than that
    assert.is_false(store:oldest(one, false, first))
    assert.is_false(store:newest(other))
    assert.is_true(select(4, store:oldest(other, true))) -- undated
    assert.is_false(store:oldest(other, true, 1 << 50)) -- and so nobody knows how old
    assert(store:sync())
    assert_tells({ 3, 3, at, false }, store:newest(one))
    assert.is_true(select(4, store:newest(other)))
    assert.is_false(store:oldest(other, false, 1 << 50))
    assert(store:put(other, { ts = first + 1, values = { n = 2 } }))
    assert(store:sync())
    assert_tells({ first, at }, store:span(0)) -- of all devices
    assert_tells({ false }, store:span(2)) -- there is one period, 1
  end)

  it("dates what waits for a date, and nothing that is put later", function()
    assert(store:open())
    local device <const> = store:device "x"
    store:set_clock_policy()
    for n = 1, 2 do
      assert(store:put(device, { n = n }) and store:sync())
      assert.is_true((select(4, store:newest(device))))
      assert(store:date(1700000000000))
      assert.is_false((select(4, store:newest(device))))
    end
    assert.same({ { 2 } }, store:query "SELECT count(*) FROM periods")
  end)

  it("puts no more into a batch than was asked for, and one record whatever that is", function()
    local device <const> = store:device "x"
    for n = 1, 5 do assert(store:put(device, { n = n, m = n })) end
    local function batch(most_bytes, most_records, most_points, last)
      local body <close> = core.body()
      local made, _, _, count, points = assert(store:batch(device, 0, last or 1 << 62, most_bytes, most_records,
        most_points, body))
      assert.equal(body, made)
      assert.equal(2 * count, points)
      return count, #body
    end
    for _ = 1, 2 do
      local all <const>, length <const> = batch(1 << 62, 1 << 62, math.maxinteger)
      assert.equal(5, all)
      assert.equal(5, (batch(length, 5, 10)))
      assert.equal(4, (batch(length - 1, 5, 10)))
      assert.equal(4, (batch(length, 4, 10)))
      assert.equal(4, (batch(length, 5, 9)))
      assert.equal(4, (batch(length, 5, 8)))
      assert.equal(3, (batch(length, 5, 10, 2)))
      for _, little in ipairs { 1, 0, -1, math.mininteger } do
        assert.equal(1, (batch(little, 5, 10)))
        assert.equal(1, (batch(length, little, 10)))
        assert.equal(1, (batch(length, 5, little)))
      end
      assert(store:open() and store:put(store:device "y", { n = 1 })) -- which is never meant
      assert(store:sync())
    end
    assert.equal(5, store:remove(device, 0, math.maxinteger))
    assert.equal(2, #records(store:device "y"))
    assert.error_matches(function() store:remove(device, -1, 0) end, "negative")
  end)

  it("tells of what is put whether it may wait, and whether it has a time", function()
    local device <const> = store:device "x"
    local function put(...) return select(3, store:put(device, ...)) end
    local waits, count, bytes, undated = put { a = 1 }
    assert.same({ false, 1, false }, { waits, count, undated })
    assert.same({ count, bytes }, { (store:counts(device)), (select(2, store:counts(device))) })
    store:wait(60000)
    assert.is_true((put { a = 1 }))
    assert(store:open() and store:sync())
    assert.is_false((put { a = 1 })) -- that ended it
    store:wait(0)
    assert.is_false((put { a = 1 }))
    store:wait(60000)
    store:set_clock_policy()
    assert.is_true((select(4, put { a = 1 })))
    assert.is_false((select(4, put { ts = 1700000000000, values = { a = 1 } })))
    assert.is_true((select(4, put { { ts = 1700000000000, values = { a = 1 } }, { a = 2 } })))
    store:close()
    assert(os.remove(path))
    store = new_store()
    store:set_limit(0)
    assert(store:open())
    store:device "x"
    store:wait(60000)
    assert.is_true((put { a = ("x"):rep(5000) }))
    assert.is_nil((put { a = ("x"):rep(10000) })) -- the log lacks room for it
  end)

  it("writes more than its log has room for, if it came record by record", function()
    store:set_limit(0)
    assert(store:open())
    local device <const> = store:device "x"
    local function put(count)
      for n = 1, count do assert(store:put(device, { n = n, text = ("x"):rep(1000) })) end
    end
    put(15)
    assert(store:sync())
    assert.equal(15, #records(device))
    put(30)
    assert.equal("FULL", select(3, store:sync())) -- with some of them written
    assert(store:put(device, { other = 1 }))
    store:set_limit(1 << 20)
    assert(store:sync())
    assert.equal(46, #records(device))
  end)

  it("packs what is written one by one as closely as what comes together", function()
    assert(store:open())
    local device <const> = store:device "x"
    for _ = 1, 400 do
      assert(store:put(device, { a = true }))
      assert(store:sync())
    end
    local lengths = {}
    for n, row in ipairs(assert(store:query "SELECT length(data) FROM runs ORDER BY id")) do lengths[n] = row[1] end
    for n = 1, #lengths - 1 do assert.is_true(lengths[n] <= 900 and lengths[n] > 900 - 9, lengths[n]) end
    assert.is_true(#lengths >= 3)
    assert.equal(400, #records(device))
    for n = 1, 10 do assert(store:put(device, { b = n })) end -- of other keys, and of these again
    assert(store:put(device, { a = true }))
    assert(store:sync())
    assert.equal(#lengths + 2, store:query("SELECT count(*) FROM runs")[1][1])
    for n = 1, 600 do assert(store:put(device, { n = n })) end
    assert(store:sync())
    assert.equal(256, store:query("SELECT max(count) FROM runs")[1][1])
  end)

  it("removes names of keys that no record has any more, many at a time", function()
    assert(store:open())
    local device <const> = store:device "x"
    local list = {}
    for n = 1, 1100 do list[n] = { ["key" .. n] = 1 } end
    assert(store:put(device, list))
    assert(store:put(device, { kept = 1 }))
    assert(store:sync())
    assert.equal(0, store:remove_leftovers())
    assert.equal(0, store:remove_leftovers()) -- nothing has been removed since
    assert.equal(1100, store:remove(device, 0, 1099))
    reopen() -- another process may have removed records
    assert.equal(device, store:device "x")
    assert.equal(1024, store:remove_leftovers())
    assert.equal(76, store:remove_leftovers())
    assert.equal(0, store:remove_leftovers())
    assert.same({ { 1 } }, store:query "SELECT count(*) FROM shapes")
    assert(store:put(device, { key5 = 2 }))
    assert(store:put(device, { kept = 2 }))
    assert(store:sync())
    reopen()
    assert.same({ kept = 1 }, records(store:device "x")[1].values)
    assert.same({ key5 = 2 }, records(1, 1101)[1].values)
    local last <const> = assert(store:put(1, { gone = 1 }))
    assert(store:sync())
    assert.equal(1, store:remove(1, last, last))
    assert.equal(1, store:remove_leftovers())
    assert(store:put(1, { gone = 2 }) and store:sync()) -- the same keys again
    reopen()
    assert.same({ gone = 2 }, records(store:device "x", last)[1].values)
  end)

  it("has SQLite's settings that it relies on", function()
    assert(store:open())
    for pragma, value in pairs {
      locking_mode = "exclusive", journal_mode = "wal", synchronous = 2, secure_delete = 0, cache_size = -256,
      temp_store = 2, application_id = 0x74626f78, user_version = 3,
    } do
      assert.same({ { value } }, store:query("PRAGMA " .. pragma), pragma)
    end
  end)

  it("is opened once", function()
    local boot <const> = assert(store:open())
    local id <close> = io.open "/proc/sys/kernel/random/boot_id"
    assert.equal(id and id:read "l" or "", boot)
    assert(store:put(store:device "x", { n = 1 }))
    assert.equal(boot, store:open())
    assert.equal(1, (store:counts(1)))
    reopen()
    assert.equal(boot, store:open())
  end)

  it("keeps the numbers of what is in memory where the file cannot be opened, or says that they are new", function()
    assert(store:open())
    local a <const> = store:device "a"
    assert(store:query [[CREATE TRIGGER full BEFORE INSERT ON devices BEGIN SELECT RAISE(FAIL, 'full'); END]])
    store:shut()
    assert(os.rename(path, path .. "-away") and os.execute("mkdir " .. path))
    for n = 1, 3 do assert(store:put(a, { n = n })) end
    assert.equal(1, store:remove(a, 0, 0))
    assert.is_false((select(4, store:open())))
    local _, first, last = records(a)
    assert.same({ 1, 2 }, { first, last })
    assert(os.execute("rmdir " .. path) and os.rename(path .. "-away", path))
    store:device "b"
    assert.is_true((select(4, store:open())))
    _, first, last = records(a)
    assert.same({ 0, 1 }, { first, last })
  end)

  it("takes no body that is closed, no device that it does not have, and no name that is none", function()
    local body = core.body()
    body:close()
    assert.error_matches(function() store:batch(store:device "x", 0, 1, 1, 1, 1, body) end, "the body was closed")
    for _, device in ipairs { 0, 2, -1, math.mininteger } do
      assert.error_matches(function() store:counts(device) end, "#1 .*no such device")
    end
    for _, name in ipairs { "", "a\0b" } do
      assert.error_matches(function() spool.spool(name) end, "#1 .*not a file name")
    end
  end)

  describe("does what a plain list would do", function()
    local devices, model, state, id, known, is_open
    local times -- by id, as they were given or first handed out

    local function pick(most)
      state = state * 6364136223846793005 + 1442695040888963407
      return (state >> 33) % most + 1
    end

    -- What the store has of a device: its file's records only while that is open.
    local function visible(n)
      local list = {}
      for _, entry in ipairs(model[n]) do
        if is_open or not entry.on_disk then list[#list + 1] = entry end
      end
      return list
    end

    -- What waits in memory is numbered anew when the file is shut or opened, and comes behind what is there.
    local function renumber()
      for n = 1, 2 do
        local following = 0
        for _, entry in ipairs(visible(n)) do
          if not entry.on_disk then entry.number = following end
          following = entry.number + 1
        end
      end
    end

    local function take(n, first, last, in_memory_only)
      local kept, taken = {}, 0
      for _, entry in ipairs(model[n]) do
        local here <const> = not entry.on_disk or is_open and not in_memory_only
        if here and entry.number >= first and entry.number <= last then
          taken = taken + 1
        else
          kept[#kept + 1] = entry
        end
      end
      model[n] = kept
      return taken
    end

    local function some_range(n)
      local following = select(3, store:counts(devices[n]))
      local first = math.max(0, following - pick(pick(2) == 1 and following + 2 or 40))
      return first, first + pick(40) - 1
    end

    local function some_record()
      id = id + 1
      local values, kind = { id = id }, pick(20)
      if kind <= 5 then values.text = ("x"):rep(pick(50)) end
      if kind >= 5 and kind <= 8 then values.other = -id end
      if kind == 9 then values.text = ("y"):rep(20000) end
      local entry = { id = id, keys = 0, undated = not known }
      for _ in pairs(values) do entry.keys = entry.keys + 1 end
      if pick(10) > 1 then return values, entry end
      entry.undated = false
      times[id] = 1700000000000 + pick(1000000)
      return { ts = times[id], values = values }, entry
    end

    local function bytes_of(n) return (select(2, store:counts(devices[n]))) end

    -- As it is counted: what runs are packed in, and 24 bytes for each.
    local function bytes_in_file(n)
      local number <const> = select(4, store:counts(devices[n]))
      return store:query("SELECT coalesce(sum(length(data)), 0) + 24 * count(*) FROM runs WHERE id / ? = ?",
        spool.NUMBERS, number)[1][1]
    end

    local steps = {
      put = function(n)
        local list, entries = {}, {}
        for i = 1, pick(5) == 1 and pick(300) or 1 do list[i], entries[i] = some_record() end
        local first, last = store:put(devices[n], list[2] and list or list[1])
        assert.equal(#list, last - first + 1)
        for i, entry in ipairs(entries) do
          entry.number = first + i - 1
          table.insert(model[n], entry)
        end
      end,
      discard_pending = function(n)
        local first, last = some_range(n)
        assert.equal(take(n, first, last, true), store:discard_pending(devices[n], first, last))
      end,
      remove = function(n)
        local first, last = some_range(n)
        assert.equal(take(n, first, last), assert(store:remove(devices[n], first, last)))
      end,
      sync = function()
        local done = store:sync()
        if not is_open then return assert.equal(not visible(1)[1] and not visible(2)[1] or nil, done) end
        assert.is_true(done)
        for n = 1, 2 do
          assert.equal(bytes_in_file(n), bytes_of(n))
          for _, entry in ipairs(model[n]) do entry.on_disk = true end
        end
      end,
      open_or_shut = function()
        local before = { bytes_of(1), bytes_of(2) }
        local in_file = is_open and { bytes_in_file(1), bytes_in_file(2) }
        if is_open then store:shut() else assert(store:open()) end
        is_open = not is_open
        renumber()
        in_file = in_file or { bytes_in_file(1), bytes_in_file(2) }
        for n = 1, 2 do assert.equal(in_file[n], math.abs(before[n] - bytes_of(n))) end
      end,
      set_clock = function()
        known = not known
        store:set_clock_policy(known and "wall" or nil)
        if not known then return end
        assert(store:date(1700000000000))
        for n = 1, 2 do
          for _, entry in ipairs(visible(n)) do entry.undated = false end
        end
      end,
    }
    local turns = {
      "put", "put", "put", "put", "put", "put", "discard_pending", "discard_pending", "remove", "remove", "sync",
      "sync", "sync", "open_or_shut", "set_clock",
    }

    -- What `batch` must give: past undated records, up to the next of them.
    local function expected(n, first, last, most_records, most_points)
      local ids, points = {}, 0
      for _, entry in ipairs(visible(n)) do
        if entry.number >= first and entry.number <= last and not (entry.undated and not ids[1]) then
          if entry.undated or ids[1] and (#ids >= most_records or points + entry.keys > most_points) then break end
          ids[#ids + 1] = entry.id
          points = points + entry.keys
        end
      end
      return ids
    end

    local function check(n)
      local count, bytes = store:counts(devices[n])
      assert.equal(#visible(n), count)
      assert.equal(count > 0, bytes > 0)
      local first, last = some_range(n)
      if pick(2) == 1 then first, last = 0, 1 << 40 end
      local most_records, most_points = pick(3) == 1 and pick(50) or 1 << 40, pick(3) == 1 and pick(50) or 1 << 40
      local ids = {}
      for i, record in ipairs((records(devices[n], first, last, most_records, most_points))) do
        ids[i] = math.tointeger(record.values.id)
        assert.equal(times[ids[i]] or record.ts, record.ts)
        times[ids[i]] = record.ts
      end
      local wanted = expected(n, first, last, most_records, most_points)
      assert.equal(table.concat(wanted, " "), table.concat(ids, " "))
    end

    for seed = 1, 12 do
      it("by seed " .. seed, function()
        state, id, known, is_open = seed, 0, true, false
        times = {}
        devices, model = { store:device "one", store:device "other" }, { {}, {} }
        store:set_clock_policy "wall"
        for step = 1, 80 do
          local n, what = pick(2), turns[pick(#turns)]
          local well, said = pcall(steps[what], n)
          if well then well, said = pcall(check, n) end
          if not well then error(("step %d, %s of %d: %s"):format(step, what, n, tostring(said))) end
        end
      end)
    end
  end)
end)
