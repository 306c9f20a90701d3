-- What time the records of an outbox get when processes end and the system is started anew, with clocks that are wrong
-- at first: no record is lost to another one's time, and none is dated wrongly that somebody could date.
local emulator = require "spec.support.emulator"
local library = require "spec.support.library"
local recording = require "spec.support.recording"
local spool = require "thingsboard.spool"
local tb = require "thingsboard"

describe("an outbox dates records across restarts", function()
  local e, place, shim

  setup(function()
    e = emulator.start()
    shim = library.preload "clock"
  end)

  teardown(function() e:stop() end)

  before_each(function()
    place = recording.start(e)
    place.unknown_time = true
  end)

  after_each(function()
    tb.clock(true)
    place:stop()
  end)

  local function write(name, number)
    local path <const> = place.directory .. "/" .. name
    local file <close> = assert(io.open(path, "w"))
    file:write(number)
    return path
  end

  -- The system starts; its clock stands in the eighties.
  local function start_system()
    write("ahead", -40 * 365 * 86400000)
    write("boot", spool.uptime())
  end

  -- A script on that system, with `open(more options)`, `put(n, ...)` and `die()`; what it prints.
  local function run(script)
    return place:run([[
      local outbox
      local function open(more)
        local given = { path = path }
        for name, value in pairs(more or {}) do given[name] = value end
        outbox = assert(dev:outbox(given))
      end
      local function put(from, to)
        local list = {}
        for n = from, to or from do list[#list + 1] = { n = n } end
        assert(outbox:put(list))
      end
      local function die() os.execute "kill -9 $PPID" end
    ]] .. script, {
      LD_PRELOAD = shim, CLOCK_SET = place.directory .. "/ahead", CLOCK_BOOT = place.directory .. "/boot",
    })
  end

  -- Sends what waits; says how many records nobody could date.
  local function send_all()
    return run [[
      open()
      assert(outbox:drain { deadline = 5 })
      print(outbox:stats().lost.undated)
    ]]
  end

  -- The server stores what it has taken a little later. Each record must have a time of its own, in order.
  local function check(count)
    local deadline <const> = tb.now() + 5000
    local entries
    repeat entries = e:series(place.token).n or {} until #entries >= count or tb.now() > deadline
    assert.equal(count, #entries)
    for n, entry in ipairs(entries) do assert.equal(tostring(n), entry.value) end
    return entries
  end

  it("of two starts that nobody could date, the first of which was sent before the second was dated", function()
    start_system()
    assert.equal("", (run [[
      tb.clock(true)
      open()
      put(1)
      assert(outbox:drain { deadline = 5 })
      assert(outbox:close())
    ]]))
    for start = 0, 1 do
      start_system()
      assert.equal("", (run(([[
        open { server_time = false }
        assert(outbox:drain { deadline = 5 })
        put(%d, %d)
        assert(outbox:close())
      ]]):format(2 + start * 50, 51 + start * 50))))
    end
    start_system()
    assert.equal("100\n", (run [[
      open()
      put(102)
      assert(outbox:drain { deadline = 5 })
      print(outbox:stats().lost.undated)
    ]]))
    check(102)
  end)

  it("of a start that nobody could date, behind what a killed process has sent last", function()
    start_system()
    assert.equal("", (run [[
      tb.clock(true)
      open()
      for n = 1, 30 do
        put(n)
        if n % 10 == 0 then assert(outbox:drain { deadline = 5 }) end
      end
      die()
    ]]))
    start_system()
    assert.equal("", (run [[
      open()
      put(31, 80)
      die()
    ]]))
    start_system()
    assert.equal("50\n", (send_all()))
    check(80)
  end)

  -- How a process learns the time; nothing is sent or put afterwards.
  local LEARN <const> = {
    ["from an answer to another call"] = "assert(dev:send_attributes { a = 1 })",
    ["from the script"] = [[
      io.open(path .. "-ahead", "w"):close()
      tb.clock(true)
    ]],
    ["from NTP's hook"] = [[
      tb.clock(path .. "-hook")
      io.open(path .. "-hook", "w"):close()
      assert(tb.clock())
    ]],
  }

  for how, learn in pairs(LEARN) do
    it("of a process that learns the time " .. how .. " and is killed", function()
      local from <const> = tb.now()
      start_system()
      assert.equal("", (run [[
        open()
        put(1)
        die()
      ]]))
      if not how:find "answer" then write("ahead", 0) end
      assert.equal("", (run([[
        open()
        put(2)
      ]] .. learn .. [[
        die()
      ]])))
      local to <const> = tb.now()
      start_system()
      assert.equal("nil\n", (send_all()))
      for _, entry in ipairs(check(2)) do assert.is_true(entry.ts > from - 2000 and entry.ts < to + 2000) end
    end)
  end

  it("by the time that a killed process has learned, while the server is out of reach", function()
    local from <const> = tb.now()
    start_system()
    assert.equal("", (run [[
      open()
      assert(dev:send_attributes { a = 1 })
      die()
    ]]))
    assert.equal("", (run [[
      open()
      assert(tb.clock())
      put(1)
      die()
    ]]))
    start_system()
    assert.equal("nil\n", (send_all()))
    local entry <const> = check(1)[1]
    assert.is_true(entry.ts > from - 2000 and entry.ts < tb.now() + 2000)
  end)

  it("of an earlier process when it is opened, if the time is known by then", function()
    start_system()
    assert.equal("", (run [[
      open()
      put(1)
      die()
    ]]))
    write("ahead", 0)
    assert.equal("", (run [[
      tb.clock(true)
      open()
      put(2)
      die()
    ]]))
    start_system()
    assert.equal("nil\n", (send_all()))
    check(2)
  end)

  for _, list in ipairs { 1, 4 } do
    it(("each differently, and hardly ahead, when it is opened again and again for %d records"):format(list), function()
      local dev <close> = tb.device { url = e.url, token = place.token }
      local n, from = 0, tb.now()
      tb.clock(false)
      for round = 1, 200 do
        if round == 100 then tb.clock(true) end
        local outbox <close> = assert(dev:outbox { path = place.path })
        for _ = 1, list do
          n = n + 1
          assert(outbox:put { n = n })
        end
      end
      local outbox <close> = assert(dev:outbox { path = place.path })
      assert.is_true(outbox:drain { deadline = 20 })
      local entries <const> = check(n)
      assert.is_true(entries[n].ts < math.max(tb.now(), from + 2 * n) + 100) -- they may come faster than milliseconds
    end)
  end

  it("of a start that nobody could date, behind older ones that it has sent itself", function()
    start_system()
    assert.equal("", (run [[
      tb.clock(true)
      open()
      put(1)
      assert(outbox:close())
      tb.sleep(0.05)
      open()
      put(2, 40)
      die()
    ]]))
    start_system()
    assert.equal("", (run [[
      open { server_time = false }
      assert(outbox:drain { deadline = 5 })
      put(41, 80)
      die()
    ]]))
    start_system()
    assert.equal("40\n", (send_all()))
    check(80)
  end)

  it("behind those of a start whose clock was a little ahead", function()
    start_system()
    write("ahead", 1000)
    assert.equal("", (run [[
      tb.clock(true)
      open()
      for n = 1, 20 do put(n) end
      assert(outbox:drain { deadline = 5 })
      die()
    ]]))
    start_system()
    assert.equal("", (run [[ -- nobody will know the time of these
      open()
      put(21, 40)
      die()
    ]]))
    start_system()
    assert.equal("", (run [[
      open()
      for n = 41, 60 do put(n) end
      die()
    ]]))
    write("ahead", 0)
    assert.equal("20\n", (run [[
      open()
      tb.clock(true)
      put(61)
      assert(outbox:drain { deadline = 5 })
      print(outbox:stats().lost.undated)
    ]]))
    local entries <const> = check(61)
    assert.is_true(math.abs(entries[61].ts - tb.now()) < 5000)
  end)

  it("not by the Date of a package, which came before its bytes", function()
    local date <const> = os.date("!%a, %d %b %Y %H:%M:%S GMT", os.time() - 300)
    e:fault { how = "raw", path = "/firmware", raw = "HTTP/1.1 200 OK\r\nDate: " .. date ..
      "\r\nContent-Disposition: attachment; filename=a\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc" }
    write("ahead", 0)
    write("boot", 0)
    assert.equal("abc\tfalse\n", (run [[
      open()
      print(dev:firmware { title = "a", version = "1" }, tb.clock())
      put(1)
      assert(outbox:drain { deadline = 5 })
    ]]))
    assert.is_true(math.abs(check(1)[1].ts - tb.now()) < 20000)
  end)
end)
