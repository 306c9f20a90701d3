-- A device that is killed at every step of an update in turn, and started again; THINGSBOARD_CYCLES=500 for each line.
local emulator = require "spec.support.emulator"

local CYCLES = tonumber(os.getenv "THINGSBOARD_CYCLES") or 100

describe("an update whose process is killed", function()
  local e

  setup(function() e = emulator.start { ota_delay = 0 } end)
  teardown(function() e:stop() end)

  local function run(token, directory, kill_at)
    local process = io.popen(("exec timeout 60 lua5.4 spec/support/updater.lua %s %s %s %s 2>&1"):format(e.url, token,
      directory, kill_at or ""))
    local said = process:read "a"
    local ok = process:close()
    return ok, said
  end

  local function new_device(name)
    local token = e:create_device { name = name }
    e:assign(token, "firmware", { title = "fw", version = "two", size = 2500 })
    return token, io.popen("mktemp -d"):read "l"
  end

  local ranks = { DOWNLOADING = 1, DOWNLOADED = 2, VERIFIED = 3, UPDATING = 4, UPDATED = 5, FAILED = 5 }

  -- What the server was told: never an earlier state after a later one.
  local function last_state(token)
    local last
    for _, entry in ipairs(e:telemetry(token)) do
      if entry.key == "fw_state" and ranks[entry.value] then
        assert.is_true(ranks[entry.value] >= ranks[last or "DOWNLOADING"], entry.value .. " after " .. tostring(last))
        last = entry.value
      end
    end
    return last
  end

  it("is applied once at most, verified, and ends as updated or failed", function()
    local token, directory = new_device "whole"
    local ok, said = run(token, directory, 1e9)
    assert(ok, said)
    assert.equal("UPDATED", last_state(token))
    os.execute("rm -r " .. directory)
    local lines = tonumber(said:match "(%d+)%s*$")
    assert.is_true(lines > 200)

    local ends, killed = {}, 0
    for cycle = 1, CYCLES do
      token, directory = new_device("cycle" .. cycle)
      ok = run(token, directory, math.max(1, lines * cycle // CYCLES))
      if not ok then killed = killed + 1 end
      ok, said = run(token, directory)
      assert(ok, said)
      local applied = io.popen("cat " .. directory .. "/applied 2>/dev/null"):read "a"
      assert.truthy(applied == "two\n" or applied == "", applied)
      local state = last_state(token)
      ends[state] = (ends[state] or 0) + 1
      if state == "UPDATED" then assert.equal("two\n", applied) end
      os.execute("rm -r " .. directory)
    end
    assert.is_true(killed > CYCLES * 0.8, "killed " .. killed)
    assert.equal(CYCLES, (ends.UPDATED or 0) + (ends.FAILED or 0))
    assert.is_true(ends.UPDATED > CYCLES / 2)
  end)
end)
