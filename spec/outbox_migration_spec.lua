-- An outbox that an earlier release wrote: it opens, and what it holds arrives. `spec/data/outbox-0.1.0.db` was written
-- by release 0.1.0 for two devices, "one" and "two".
local cjson = require "cjson"
local emulator = require "spec.support.emulator"
local recording = require "spec.support.recording"
local scratch = require "spec.support.scratch"
local spool = require "thingsboard.spool"
local tb = require "thingsboard"

local FIRST <const> = 1700000000000

describe("an outbox of release 0.1.0", function()
  local e, place, path

  setup(function() e = emulator.start() end)
  teardown(function() e:stop() end)

  before_each(function()
    place = recording.start(e)
    path = place.path
    assert(os.execute(("cp spec/data/outbox-0.1.0.db %s"):format(path)))
  end)

  after_each(function() place:stop() end)

  it("opens, and all that it holds arrives", function()
    local one <close> = assert(place.dev:outbox { path = path, name = "one" })
    assert.equal(305, one:stats().records)
    assert.equal(2, one:stats().attributes)
    assert.same({ full = 7, rejected = 1, undated = 2 }, one:stats().lost)
    assert.same({ { body = '[{"ts":1700000000400,"values":{"n":400}}]', reason = "refused by the server",
      at = 1795763951376 } }, one:rejected())
    assert(one:put { ts = FIRST + 306, values = { n = 306 } }) -- behind them
    assert.is_true(one:drain { deadline = 10 })
    local arrived = place:arrived(306)
    assert.equal(306, #arrived)
    for n = 1, 306 do assert.equal(n, arrived[n]) end
    local series = e:series(place.token)
    assert.equal('a, "b"\n', series.text[1].value)
    assert.equal(("y"):rep(5000), series.text[2].value)
    assert.same({ a = { 1, 2.5 }, b = "x" }, cjson.decode(series.nested[1].value))
    for _, entry in ipairs(series.n) do
      local n = tonumber(entry.value)
      if n ~= 304 and n ~= 305 then assert.equal(FIRST + n, entry.ts) end
    end
    local attributes = e:attributes(place.token, "client")
    assert.equal("GL", attributes.model.value)
    assert.truthy(attributes.firmware.value:find '"major"')
    -- The other device of the file.
    local token = e:create_device {}
    local dev <close> = tb.device { url = e.url, token = token }
    local two <close> = assert(dev:outbox { path = path, name = "two" })
    assert.same({ undated = 1 }, two:stats().lost)
    assert.is_true(two:drain { deadline = 10 })
    local deadline <const> = tb.now() + 5000
    local m
    repeat m = e:series(token).m until m and #m == 2 or tb.now() > deadline
    assert.equal(2, #m)
    assert.equal("roof", e:attributes(token, "client").place.value)
    assert.same({ "outbox", "outbox-wal" }, scratch.files(place.directory)) -- none was set aside
  end)

  it("is of this release's version once it was opened, and like a new one", function()
    local function tables(name)
      local store <close> = spool.spool(name)
      assert(store:open())
      return store:query "SELECT name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' ORDER BY name",
        store:query "SELECT name, type FROM pragma_table_info('runs')", store:query "PRAGMA user_version"
    end
    assert.same({ tables(path .. "2") }, { tables(path) })
  end)
end)
