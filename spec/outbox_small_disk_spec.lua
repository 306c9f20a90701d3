-- An outbox on a small file system, which it fills, or something else does: what was acknowledged is kept until the
-- outbox is full, then `when_full` decides; once there is room it goes on by itself, and nothing comes back that was
-- removed. File and log stay within half the file system.
local emulator = require "spec.support.emulator"
local recording = require "spec.support.recording"

local TMPFS <const> = {
  { size = "128k", text = 50, any_order = true }, { size = "512k", text = 50, any_order = true },
  { size = "1m", text = 100 }, { size = "2m", text = 500 },
  { size = "8m", text = 4000, is_large = true }, { size = "28m", text = 40000, is_large = true },
}

-- A mount namespace of its own: nothing stays mounted.
local function succeeds(command) return (os.execute(command .. " >/dev/null 2>&1")) end
local NAMESPACE = succeeds "unshare --mount true" and "unshare --mount"
  or succeeds "unshare --map-root-user --mount true" and "unshare --map-root-user --mount"

-- What every script begins with: an outbox that is opened again and again.
local PRELUDE <const> = [[
  local TEXT <const>, WHEN_FULL <const>, IS_LARGE <const> = %d, %q, %s
  local function size(name)
    local file <close> = io.open(name)
    return file and file:seek "end" or 0
  end
  local function open() return assert(dev:outbox { path = path, when_full = WHEN_FULL }) end
  local function put(outbox, n) return outbox:put { n = n, text = ("x"):rep(TEXT) } end
  local function within(outbox)
    local both, half = size(path) + size(path .. "-wal"), outbox.spool:half_of_disk()
    assert(both <= half, ("file and log take %%d bytes, half of the file system has %%d"):format(both, half))
  end
  local function fill(outbox, n) -- to the first that is not taken
    while true do
      local ok, err = put(outbox, n + 1)
      if not ok then return n, err end
      n = n + 1
    end
  end
  -- To send what a large disk has takes long, and is no other than on a small one: what has been sent is removed.
  local function drain(outbox)
    if not IS_LARGE then return outbox:drain { deadline = 40 } end
    return outbox.spool:remove(outbox.number, 0, 1 << 40) ~= nil
  end
  local function fill_disk() -- by something else
    os.execute("cat /dev/zero >" .. path .. ".other 2>/dev/null")
    return os.remove, path .. ".other"
  end
]]

describe("an outbox on a small file system", function()
  local e, place

  setup(function() e = emulator.start() end)
  teardown(function() e:stop() end)
  before_each(function() place = recording.start(e) end)
  after_each(function() place:stop() end)

  local function run(disk, when_full, script)
    local inside = ("%s sh -c '%s && \"$@\"' %s"):format(NAMESPACE, disk.mount, place.directory)
    return place:run(PRELUDE:format(disk.text, when_full, disk.is_large) .. script, {}, inside)
  end

  -- That all have arrived, each once.
  local function check_arrived(disk, from, to)
    if disk.is_large then return end
    local arrived = place:arrived(to - from + 1) -- every message
    assert.equal(to - from + 1, #arrived)
    for i, n in ipairs(arrived) do assert.equal(from + i - 1, n) end
  end

  local function stories(disk)
    it("keeps all until it is full, then refuses, and goes on when what it has is sent", function()
      local said = run(disk, "refuse", [[
        local outbox = open()
        local n, err = fill(outbox, 0)
        assert(err.kind == "full" and err.retryable, err)
        within(outbox)
        assert(outbox:stats().records == n and outbox:stats().lost.refused == 1)
        assert(drain(outbox))
        for i = n + 1, n + 10 do assert(put(outbox, i)) end
        assert(outbox:stats().records == 10 and outbox:stats().trouble == nil)
        assert(outbox:close())
        outbox = open()
        assert(outbox:stats().records == 10, outbox:stats().records)
        local again = fill(outbox, n + 10)
        within(outbox)
        assert(again - n > n // 2, again - n) -- all of its room is there again
        assert(drain(outbox))
        assert(outbox:stats().records == 0 and outbox:stats().lost.refused == 2)
        assert(outbox:close())
        print(again, outbox:stats().lost.full)
      ]])
      local count = tonumber(said:match "^(%d+)\tnil\n$")
      assert.truthy(count, said)
      check_arrived(disk, 1, count)
    end)

    it("has nothing again that was removed, when it is killed while the disk is full", function()
      local said = run(disk, "drop_oldest", [[
        local outbox, n = open(), 0
        repeat
          n = n + 1
          assert(put(outbox, n))
        until (outbox:stats().lost.full or 0) > 0
        fill_disk()
        for _ = 1, 50 do
          n = n + 1
          assert(put(outbox, n))
        end
        local first = select(1, outbox.spool:oldest(outbox.number))
        local left = outbox:stats().records
        assert(outbox.spool:remove(outbox.number, first, first + left // 2) == left // 2 + 1)
        -- What a process that comes after this one would find, had this one been killed now.
        local copy = "/tmp/copy-" .. n .. os.time()
        os.execute(("cp %s %s; cp %s-wal %s-wal"):format(path, copy, path, copy))
        local other <close> = assert(dev:outbox { path = copy })
        print(other:stats().records == outbox:stats().records, left - left // 2 - 1 == outbox:stats().records,
          other:stats().lost.full == outbox:stats().lost.full)
        other:close()
        os.execute(("rm %s %s-wal"):format(copy, copy))
      ]])
      assert.equal("true\ttrue\ttrue\n", said)
    end)

    it("drops the oldest when it is full, and counts them", function()
      local said = run(disk, "drop_oldest", [[
        local outbox, n = open(), 0
        repeat
          n = n + 1
          assert(put(outbox, n))
        until (outbox:stats().lost.full or 0) > 0
        local most = n
        for i = n + 1, 2 * most do assert(put(outbox, i)) end
        n = 2 * most
        within(outbox)
        local stats = outbox:stats()
        assert(stats.records + stats.lost.full == n and stats.records > most // 4)
        assert(outbox:close())
        outbox = open()
        assert(outbox:stats().records == stats.records and outbox:stats().lost.full == stats.lost.full)
        assert(drain(outbox))
        assert(outbox:close())
        print(n, stats.records)
      ]])
      local last, count = said:match "^(%d+)\t(%d+)\n$"
      assert.truthy(last, said)
      check_arrived(disk, last - count + 1, tonumber(last))
    end)

    it("refuses what is too large for its room, and drops nothing for it", function()
      local said = run(disk, "drop_oldest", [[
        local function check(outbox, what, big)
          local before = outbox:stats()
          local ok, err = outbox[what](outbox, big)
          local words <const> = "^%s: /.*: this is too large for the room that the file and its log have$"
          assert(not ok and err.kind == "full" and err.retryable and err.message:find(words:format(what)), err)
          local stats = outbox:stats()
          assert(stats.records == before.records and stats.attributes == before.attributes)
          assert(stats.lost.full == before.lost.full and stats.lost.refused > (before.lost.refused or 0))
          assert(put(outbox, 0) and outbox:stats().trouble == nil)
        end
        local outbox, n = open(), 0
        repeat
          n = n + 1
          assert(put(outbox, n))
        until (outbox:stats().lost.full or 0) > 0
        local half = outbox.spool:half_of_disk()
        check(outbox, "put", { text = ("x"):rep(half // 2) })
        check(outbox, "put", { text = ("x"):rep(2 * half) })
        check(outbox, "attributes", { text = ("x"):rep(half // 2) })
        local many = {}
        for i = 1, half // 100 do many["key" .. i] = ("x"):rep(40) end
        check(outbox, "attributes", many)
        assert(outbox:close())
        -- Something else fills the disk, and the file has little.
        os.remove(path)
        os.remove(path .. "-wal")
        outbox = assert(dev:outbox { path = path, sync_every = 3600 })
        for i = 1, 20 do assert(put(outbox, i)) end
        assert(outbox:sync())
        fill_disk()
        check(outbox, "put", { text = ("x"):rep(half // 2) })
        check(outbox, "attributes", { text = ("x"):rep(half // 2) })
        assert(outbox:close())
        local stats = open():stats()
        print(stats.records + (stats.lost.full or 0))
      ]])
      assert.equal("22\n", said)
    end)

    it("sends and removes what it has where something else fills the disk, and records on in that room", function()
      local said = run(disk, "refuse", [[
        local outbox = open()
        for n = 1, 20 do assert(put(outbox, n)) end
        local empty, other = fill_disk()
        local n, err = fill(outbox, 20)
        assert(err.kind == "full", err)
        assert(drain(outbox))
        for _ = 1, 3 do -- in what it has, again and again
          for i = n + 1, n + 10 do assert(put(outbox, i)) end
          n = n + 10
          assert(drain(outbox))
        end
        for i = n + 1, n + 5 do assert(put(outbox, i)) end
        n = n + 5
        assert(outbox:close())
        outbox = open() -- with a disk that is full still
        assert(outbox:stats().records == 5, outbox:stats().records)
        assert(drain(outbox))
        assert(outbox:close())
        outbox = open()
        assert(outbox:stats().records == 0)
        empty(other)
        local more = fill(outbox, n)
        within(outbox)
        assert(drain(outbox))
        assert(outbox:close())
        print(more, more - n > 20)
      ]])
      local count = tonumber(said:match "^(%d+)\ttrue\n$")
      assert.truthy(count, said)
      check_arrived(disk, 1, count)
    end)

    if not disk.any_order then return end

    it("goes on for ever with records whose keys are always new", function()
      local said = run(disk, "refuse", [[
        local outbox, n = open(), 0
        local least
        for round = 1, 8 do
          local from = n
          while outbox:put { n = n + 1, ["a key that no other record has, " .. n] = true } do n = n + 1 end
          least = least or n - from
          assert(n - from > least * 3 // 4, n - from)
          within(outbox)
          assert(outbox.spool:remove(outbox.number, 0, 1 << 40))
          if round == 4 then
            assert(outbox:close())
            outbox = open()
          end
        end
        print(outbox:stats().records)
      ]])
      assert.equal("0\n", said)
    end)

    it("sets aside what is refused though it is full, and makes room of that first", function()
      local said = run(disk, "refuse", [[
        local outbox = open()
        local count = fill(outbox, 0)
        for i = 0, count - 2 do assert(outbox:reject(i, i, 1, outbox:record(i):take(), ("no "):rep(1000))) end
        assert(#outbox:rejected() > 0 and outbox:stats().records == 1 and outbox:stats().lost.rejected == count - 1)
        local again = fill(outbox, 0)
        within(outbox)
        print(again > count * 3 // 4, #outbox:rejected(), outbox:stats().records == again + 1)
      ]])
      assert.equal("true\t0\ttrue\n", said)
    end)

    it("has what it ought to have, whatever is put, removed, set aside, closed or killed, and in any order", function()
      local said = run(disk, "refuse", [[
        local spool = require "thingsboard.spool"
        local store, devices
        local counts = { 0, 0 }
        local function open_store()
          store = spool.spool(path)
          store:set_clock_policy "wall"
          store:set_limit(store:half_of_disk())
          assert(store:open())
          devices = { store:device "one", store:device "two" }
        end
        local function removed(n, count, reason, code) -- which must always work
          counts[n] = counts[n] - assert(count, ("%s (%s)"):format(reason, code))
        end
        local function add(n)
          local list = {}
          for i = 1, math.random(8) == 1 and math.random(40) or 1 do
            list[i] = { n = i, text = ("x"):rep(math.random(math.random(20) == 1 and 6000 or 60)),
              ["key" .. math.random(30)] = true }
          end
          local first, last = store:put(devices[n], list)
          local ok, _, code = store:sync()
          counts[n] = counts[n] + #list
          if ok then return true end
          assert(code == "FULL" or code == "TOOBIG", code)
          removed(n, store:remove(devices[n], first, last))
          return false
        end
        local is_filled, empty, other = false, nil, nil
        local steps = {
          add = add,
          remove = function(n)
            local first = store:oldest(devices[n])
            if first then removed(n, store:remove(devices[n], first, first + math.random(100))) end
          end,
          remove_oldest = function(n) removed(n, store:remove_oldest(devices[n])) end,
          reject = function(n) -- which may find no room
            local body = ("x"):rep(math.random(3000))
            store:query("INSERT INTO rejected (device, body, reason) VALUES (?, ?, 'x')", n, body)
            if math.random(2) == 1 then assert(store:query "DELETE FROM rejected WHERE id % 3 = 0") end
          end,
          fill = function()
            if is_filled then empty(other) else empty, other = fill_disk() end
            is_filled = not is_filled
          end,
          reopen = function()
            store:close()
            open_store()
          end,
          kill = function() -- what another process would find
            local copy = os.tmpname()
            os.execute(("cp %s %s; cp %s-wal %s-wal"):format(path, copy, path, copy))
            local found = spool.spool(copy)
            assert(found:open())
            for n, name in ipairs { "one", "two" } do assert(found:counts(found:device(name)) == counts[n]) end
            found:close()
            os.execute(("rm %s %s-wal"):format(copy, copy))
          end,
          all_gone = function(n)
            for i = 1, 2 do removed(i, store:remove(devices[i], 0, 1 << 40)) end
            assert(counts[1] == 0 and counts[2] == 0)
            assert(store:query "DELETE FROM rejected")
          end,
        }
        local turns = { "remove", "remove_oldest", "reject", "reject", "fill", "fill", "reopen", "kill", "all_gone" }
        math.randomseed(20261127)
        open_store()
        local refused = 0
        for step = 1, 1000 do
          local what = math.random(4) == 1 and turns[math.random(#turns)] or "add"
          local well, result = xpcall(steps[what], debug.traceback, math.random(2))
          if not well then error(("step %d, %s: %s"):format(step, what, result)) end
          if result == false then refused = refused + 1 end
          for n = 1, 2 do assert(store:counts(devices[n]) == counts[n], step) end
          within { spool = store }
        end
        print(store:query "PRAGMA integrity_check"[1][1], refused > 0)
      ]])
      assert.equal("ok\ttrue\n", said)
    end)
  end

  if not NAMESPACE then
    return it("of any size", function() pending "nothing can be mounted here" end)
  end

  it("takes what it was told to, though that is more than half of the file system", function()
    local disk = { text = 100, mount = "mount -t tmpfs -o size=1m none $0" }
    local said = run(disk, "refuse", [[
      local outbox = assert(dev:outbox { path = path, when_full = WHEN_FULL, max_bytes = 900 * 1024 })
      fill(outbox, 0)
      print(size(path) + size(path .. "-wal") > outbox.spool:half_of_disk())
    ]])
    assert.equal("true\n", said)
  end)

  it("says that it is read-only", function()
    local disk = { text = 10, mount = "mount -t tmpfs -o size=1m none $0" }
    local said = run(disk, "refuse", [[
      assert(open():close())
      assert(os.execute("mount -o remount,ro " .. path:match "(.*)/"))
      print(select(2, dev:outbox { path = path }))
      local outbox = assert(dev:outbox { path = path, on_trouble = "memory" })
      assert(os.execute("mount -o remount,rw " .. path:match "(.*)/"))
      assert(put(outbox, 1))
      print(outbox:stats().trouble)
    ]])
    assert.equal(("outbox: %s: Read-only file system\nnil\n"):format(place.path), said)
  end)

  for _, disk in ipairs(TMPFS) do
    describe("of " .. disk.size .. " in memory", function()
      disk.mount = "mount -t tmpfs -o size=" .. disk.size .. " none $0"
      stories(disk)
    end)
  end

  it("drops what is sent and not confirmed as well, and counts that neither as lost nor as waiting", function()
    e:set { queue_delay = 60000 }
    local said = run({ mount = "mount -t tmpfs -o size=256k none $0", text = 50 }, "drop_oldest", [[
      local outbox, n = open(), 500
      for i = 1, n do assert(put(outbox, i)) end
      assert(not outbox:drain { deadline = 1 })
      assert(outbox:stats().unconfirmed == n)
      repeat
        n = n + 1
        assert(put(outbox, n))
      until outbox:stats().unconfirmed == 0 or n > 20000
      local stats = outbox:stats()
      print(stats.records == (outbox.spool:counts(outbox.number)), 500 + stats.records + (stats.lost.full or 0) - n)
    ]])
    e:set { queue_delay = 0 }
    assert.equal("true\t0\n", said)
  end)

  describe("of 6 MiB, ext4", function()
    local image <const> = os.tmpname()
    local mount <const> = ("mount -o loop %s $0 && rm -f $0/outbox*"):format(image)
    teardown(function() os.remove(image) end)
    local made <const> = succeeds(
      ("truncate -s 6M %s && PATH=$PATH:/sbin:/usr/sbin mkfs.ext4 -q -F %s"):format(image, image))
    if made and succeeds(("%s sh -c '%s' /mnt"):format(NAMESPACE, mount)) then
      stories { mount = mount, text = 4000, is_large = true }
    else
      it("fills it", function() pending "no image of ext4 can be made or mounted here" end)
    end
  end)
end)
