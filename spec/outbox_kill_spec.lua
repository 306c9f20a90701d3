-- A device that is killed at any moment while it records and sends, and started again: all that was recorded arrives.
-- A thousand times; any number by THINGSBOARD_CYCLES.
local child = require "spec.support.child"
local emulator = require "spec.support.emulator"
local scratch = require "spec.support.scratch"
local tb = require "thingsboard"

local CYCLES = tonumber(os.getenv "THINGSBOARD_CYCLES") or 1000

describe("an outbox whose process is killed", function()
  local e, directory

  setup(function()
    e = emulator.start()
    -- What was written outlives its process on any file system: the quickest will do.
    directory = scratch.quick()
  end)

  teardown(function()
    scratch.remove(directory)
    e:stop()
  end)

  it("loses nothing that it has acknowledged", function()
    local path, acknowledged = directory .. "/outbox", directory .. "/acknowledged"
    local command = "exec timeout --signal=KILL %.4f lua5.4 spec/support/recorder.lua %s %s %s %s %d %s 2>&1"
    local function recorded()
      local file <close> = io.open(acknowledged)
      return file and file:seek "end" or 0
    end
    -- Seconds within which it is killed: more where little is recorded, on a slow or busy machine.
    local span, size = 0.03, 0
    for cycle = 1, CYCLES do
      -- No process lives long enough to confirm what it sends. So every other one takes a 200 for enough: it removes
      -- what it has sent, and the rest does not pile up.
      local process = io.popen(command:format(0.01 + math.random() * span, e.url, e.token, path, acknowledged,
        cycle * 1000, cycle % 2 == 0))
      local said = process:read "a"
      local _, how, status = process:close()
      assert(said == "" and (how == "signal" and status == 9 or status == 137), said)
      local now = recorded()
      span = now > size and math.max(0.03, span * 0.9) or span * 1.1
      size = now
    end

    local dev <close> = tb.device { url = e.url, token = e.token }
    -- What is posted behind the 500th record the emulator stores behind its answer.
    local outbox <close> = assert(dev:outbox { path = path, batch_records = 500 })
    assert(outbox:drain { deadline = 600 })
    local arrived, count = {}, 0
    for _, entry in ipairs(e:series(e.token).id) do arrived[tonumber(entry.value)] = true end
    for line in io.lines(acknowledged) do
      count = count + 1
      assert(arrived[tonumber(line)], "lost: " .. line)
    end
    assert.is_true(count > CYCLES / 2, "only " .. count .. " were recorded")
    for _, name in ipairs(scratch.files(directory)) do assert.is_nil(name:find "damaged") end
  end)

  it("gives no time again that it has given before", function()
    local path, token = directory .. "/burst", e:create_device {}
    local burst = {}
    for n = 1, 500 do burst[n] = { n = n } end
    assert.equal("", child.run(([[
      local tb = require "thingsboard"
      local outbox = tb.device { url = %q, token = %q }:outbox { path = %q }
      local burst = {}
      for n = 1, 500 do burst[n] = { n = n } end
      assert(outbox:put(burst))
      assert(outbox:drain())
      io.popen("kill -9 $PPID"):read "a"
    ]]):format(e.url, token, path)))
    assert.equal(500, #e:series(token).n)
    local dev <close> = tb.device { url = e.url, token = token }
    local outbox <close> = assert(dev:outbox { path = path })
    assert(outbox:put(burst))
    assert(outbox:drain())
    assert.equal(1000, #e:series(token).n)
  end)
end)
