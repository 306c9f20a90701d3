-- Updates in processes of their own, for what a process may have: memory, and room on the disk.
local child = require "spec.support.child"
local emulator = require "spec.support.emulator"
local scratch = require "spec.support.scratch"

describe("an update", function()
  local e, directory

  before_each(function()
    e = emulator.start { ota_delay = 0 }
    directory = scratch.new()
  end)

  after_each(function()
    e:stop()
    scratch.remove(directory)
  end)

  -- Runs until the server has heard the last state; returns what the process printed.
  local function update(prelude, chunk_size)
    local script = [[
      local json, tb = require "thingsboard.json.decode", require "thingsboard"
      local directory = os.getenv "DIRECTORY"
      tb.clock(true) -- states have a time of their own then
      local dev = tb.device { url = os.getenv "URL", token = os.getenv "TOKEN" }
      local function read_state()
        local file <close> = io.open(directory .. "/firmware.state", "rb")
        return file and json.decode(file:read "a") or { told_at = 0 }
      end
      local before = read_state().told_at
      tb.spawn(function()
        print(dev:updates {
          kind = "firmware", current = { title = "fw", version = "1" }, directory = directory,
          chunk_size = tonumber(os.getenv "CHUNK"), apply = function() return true end,
        })
      end)
      while true do
        tb.sleep(0.02)
        local state = read_state()
        local ended = state.phase == "updated" or state.phase == "failed"
        if ended and state.told_at > before and #state.untold == 0 then break end
      end
      print(io.open("/proc/self/status"):read("a"):match "VmHWM:%s*(%d+)")
      os.exit(true)
    ]]
    local environment = { DIRECTORY = directory, URL = e.url, TOKEN = e.token, CHUNK = tostring(chunk_size) }
    return child.run(script, environment, prelude)
  end

  local function last(key)
    local series = e:series(e.token)[key]
    return series and series[#series].value
  end

  it("of 256 MiB takes the memory of one of 1 MiB", function()
    local peaks = {}
    for n, size in ipairs { 1 << 20, 256 << 20 } do
      e:assign(e.token, "firmware", { title = "fw", version = "of " .. size, size = size })
      local said = update(nil, 1 << 18)
      assert.equal("UPDATED", last "fw_state")
      peaks[n] = tonumber(said)
      os.execute("rm " .. directory .. "/*")
    end
    assert.is_true(peaks[2] - peaks[1] < 2048, ("%d KiB above %d KiB"):format(peaks[2] - peaks[1], peaks[1]))
  end)

  it("that finds no room on the disk has failed, with the reason", function()
    e:assign(e.token, "firmware", { title = "fw", version = "2", size = 5000 })
    update("trap '' XFSZ; ulimit -f 4;", 1000) -- files end at 2048 bytes
    assert.equal("FAILED", last "fw_state")
    assert.truthy(last("fw_error"):find("File too large", 1, true), last "fw_error")
    assert.equal("firmware.state\n", io.popen("ls -A " .. directory):read "a")
    e:assign(e.token, "firmware", { title = "fw", version = "2", tag = "once more", size = 5000 })
    update(nil, 1000) -- somebody made room
    assert.equal("UPDATED", last "fw_state")
  end)
end)
