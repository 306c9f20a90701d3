-- A device that is killed at every step of an update in turn, or at any time, and started again. THINGSBOARD_CYCLES
-- says how many times.
local core = require "thingsboard.core"
local emulator = require "spec.support.emulator"
local scratch = require "spec.support.scratch"

local CYCLES = tonumber(os.getenv "THINGSBOARD_CYCLES") or 500
local AT_ONCE = 5

describe("an update whose process is killed", function()
  local e, elsewhere, checksum

  setup(function()
    e = emulator.start { ota_delay = 0 }
    local data = ("0123456789"):rep(250)
    local other = e:create_device { name = "elsewhere" }
    e:assign(other, "firmware", { title = "fw", version = "two", data = data })
    elsewhere = e.url .. "/api/v1/" .. other .. "/firmware?title=fw&version=two"
    checksum = core.checksum("SHA256"):update(data):hex()
  end)

  teardown(function() e:stop() end)

  -- Starts the device; it kills itself at a line, or is killed after some seconds.
  local function start(device, kill_at, seconds)
    return io.popen(("exec timeout -s KILL %s lua5.4 spec/support/updater.lua %s %s %s %s 2>&1"):format(seconds or 60,
      e.url, device.token, device.directory, kill_at or ""))
  end

  local function finish(process)
    local said = process:read "a"
    local ok = process:close()
    return ok, said
  end

  local function new_device(name, by_url)
    local token = e:create_device { name = name }
    local package = { title = "fw", version = "two", size = 2500 }
    if by_url then package.url, package.checksum = elsewhere, checksum end
    e:assign(token, "firmware", package)
    return { token = token, directory = scratch.new() }
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

  -- How many lines an undisturbed update runs through, and its seconds.
  local function measure(by_url)
    local device = new_device("whole" .. tostring(by_url), by_url)
    local began = core.monotonic()
    local ok, said = finish(start(device, 1e9))
    assert(ok, said)
    assert.equal("UPDATED", last_state(device.token))
    assert.equal("applied\nfirmware.state\nversion\n", io.popen("ls -A " .. device.directory):read "a")
    scratch.remove(device.directory)
    local lines = tonumber(said:match "(%d+)%s*$")
    assert.is_true(lines > 200)
    return lines, core.monotonic() - began
  end

  local function check(device)
    local applied = io.popen("cat " .. device.directory .. "/applied 2>/dev/null"):read "a"
    assert.truthy(applied == "two\n" or applied == "", applied)
    local state = last_state(device.token)
    if state == "UPDATED" then assert.equal("two\n", applied) end
    assert.is_nil(io.popen("ls -A " .. device.directory):read("a"):find "package")
    scratch.remove(device.directory)
    return state
  end

  -- Kills, starts again, and looks: some devices at once. `kill(cycle)` gives the line, or nil and the seconds.
  local function cycles(count, by_url, kill)
    local ends, killed = { UPDATED = 0, FAILED = 0 }, 0
    for first = 1, count, AT_ONCE do
      local devices = {}
      for cycle = first, math.min(count, first + AT_ONCE - 1) do
        local device = new_device(("cycle %d of %d %s"):format(cycle, count, by_url), by_url)
        device.process = start(device, kill(cycle))
        devices[#devices + 1] = device
      end
      for _, device in ipairs(devices) do
        if not finish(device.process) then killed = killed + 1 end
        device.process = start(device)
      end
      for _, device in ipairs(devices) do
        local ok, said = finish(device.process)
        assert(ok, said)
        local state = check(device)
        ends[state] = ends[state] + 1
      end
    end
    assert.equal(count, ends.UPDATED + ends.FAILED)
    assert.is_true(ends.UPDATED > count / 2)
    return killed
  end

  it("at each line is applied once at most, verified, and ends as updated or failed", function()
    local lines = measure(false)
    local killed = cycles(CYCLES, false, function(cycle) return math.max(1, lines * cycle // CYCLES) end)
    assert.is_true(killed > CYCLES * 0.8, "killed " .. killed)
  end)

  it("at each line when the package lies elsewhere, too", function()
    local count = CYCLES // 3
    local lines = measure(true)
    local killed = cycles(count, true, function(cycle) return math.max(1, lines * cycle // count) end)
    assert.is_true(killed > count * 0.8, "killed " .. killed)
  end)

  it("at any time, as well", function()
    local killed, seconds = 0, nil
    local function at_any_time(cycle)
      if cycle % AT_ONCE == 1 then seconds = select(2, measure(false)) end -- as long as it takes on this machine now
      return nil, math.random() * seconds
    end
    for _, by_url in ipairs { false, true } do killed = killed + cycles(CYCLES // 10, by_url, at_any_time) end
    assert.is_true(killed > CYCLES / 10, "killed " .. killed)
  end)
end)
