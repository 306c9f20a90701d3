-- Records, a third of which the server refuses, over limits and kills: the counts agree to the record. As many as
-- THINGSBOARD_RECORDS says: a thousand take a quarter of a minute, ten thousand two minutes.
local cjson = require "cjson"
local emulator = require "spec.support.emulator"
local scratch = require "spec.support.scratch"

local RECORDS = tonumber(os.getenv "THINGSBOARD_RECORDS") or 1000
local KILLS = 10

describe("an outbox with much that is refused", function()
  local e, directory

  setup(function()
    e = emulator.start { journal_size = 0 }
    directory = scratch.quick()
  end)

  teardown(function()
    scratch.remove(directory)
    e:stop()
  end)

  local function run(kill_after)
    local command = "exec timeout 1800 lua5.4 spec/support/story.lua %s %s %s/outbox %s/acknowledged %d %.3f 2>&1"
    local process = io.popen(command:format(e.url, e.token, directory, directory, RECORDS, kill_after))
    local said = process:read "a"
    local _, how, status = process:close()
    return said, how, status
  end

  it("sends all that is good, sets all that is bad aside, and counts both", function()
    e:set { rate_limits = { telemetry_messages = "500:1", telemetry_points = "30000:1" } }
    e:fault { path = "/telemetry$", request_body = '"poison":1', how = "status", status = 400 }
    e:fault { path = "/telemetry$", request_body = '"poison":2', how = "status", status = 500,
      body = "Can't parse value: poison" }
    for _ = 1, KILLS do
      local said, how, status = run(0.05 + math.random() * 0.5)
      assert(said == "" and (how == "signal" and status == 9 or status == 137), said)
    end
    local said, how, status = run(0)
    assert(how == "exit" and status == 0, said)
    local told = cjson.decode(said)

    local bad = RECORDS // 3
    local seen = {}
    for _, entry in ipairs(e:series(e.token).id) do
      local id = math.tointeger(tonumber(entry.value))
      assert.is_nil(seen[id], "twice: " .. id)
      seen[id] = true
    end
    for id = 1, RECORDS + 3 do assert.equal(id > RECORDS or id % 3 ~= 0 or nil, seen[id], "record " .. id) end
    assert.is_nil(e:series(e.token).poison)

    for cause, count in pairs(told.lost) do assert.equal(cause == "rejected" and bad or 0, count, cause) end
    local set_aside = {}
    for _, record in ipairs(told.rejected) do
      assert.equal(0, record.id % 3)
      assert.is_nil(set_aside[record.id], "twice: " .. record.id)
      set_aside[record.id] = true
    end
    assert.equal(math.min(bad, 1000), #told.rejected)
  end)
end)
