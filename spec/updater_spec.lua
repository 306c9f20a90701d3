local backoff = require "thingsboard.http.backoff"
local cjson = require "cjson"
local core = require "thingsboard.core"
local emulator = require "spec.support.emulator"
local resume = require "thingsboard.ota.resume"
local scratch = require "spec.support.scratch"
local tb = require "thingsboard"

describe("updates", function()
  local e, dev, directory

  before_each(function()
    e = emulator.start { ota_delay = 0 }
    dev = tb.device { url = e.url, token = e.token }
    directory = scratch.new()
    tb.on_error(function(_, message) error(message, 0) end)
  end)

  after_each(function()
    dev:close()
    e:stop()
    scratch.remove(directory)
  end)

  local states

  local function await(condition, seconds)
    local deadline = tb.now() + (seconds or 15) * 1000
    while not condition() do
      assert(tb.now() < deadline, "it did not come about: " .. states())
      tb.sleep(0.02)
    end
  end

  -- The states that the server was told, in order of arrival.
  function states()
    local list = {}
    for _, entry in ipairs(e:telemetry(e.token)) do
      if entry.key == "fw_state" and entry.value ~= "QUEUED" and entry.value ~= "INITIATED" then
        list[#list + 1] = entry.value
      end
    end
    return table.concat(list, " ")
  end

  local function reason()
    local series = e:series(e.token).fw_error
    return series and series[#series].value
  end

  local applied

  local function run(more)
    applied = {}
    local given = {
      kind = "firmware", current = { title = "fw", version = "1" }, directory = directory, chunk_size = 1000,
      apply = function(package)
        applied[#applied + 1] = package
        return true
      end,
    }
    for name, value in pairs(more or {}) do given[name] = value end
    return tb.spawn(function() return dev:updates(given) end)
  end

  local function assign(more)
    local package = { title = "fw", version = "2", size = 3500 }
    for name, value in pairs(more or {}) do package[name] = value end
    e:assign(e.token, "firmware", package)
  end

  local DONE = "DOWNLOADING DOWNLOADED VERIFIED UPDATING UPDATED"

  local function ended()
    local last = states():match "%a+$"
    return last == "UPDATED" or last == "FAILED"
  end

  it("take no package that is cut off while it is verified", function()
    local path <const> = directory .. "/package"
    local function write(size)
      local file <close> = assert(io.open(path, "wb"))
      file:write(("x"):rep(size))
    end
    write(1 << 20)
    local verifying = tb.spawn(resume.verify, { part_path = path, loop = require "thingsboard.loop".default() },
      { checksum = "00000000", checksum_algorithm = "CRC32" })
    tb.spawn(write, 1)
    assert.same({ true, nil, path .. ": it was cut off" }, { verifying:join() })
  end)

  it("download, verify and apply a package, and tell each state", function()
    local size, content
    local progress, synced = {}, nil
    local sync <const> = core.sync
    finally(function() core.sync = sync end) -- luacheck: ignore 122
    core.sync = function(path) -- luacheck: ignore 122
      synced = resume.size(path)
      return sync(path)
    end
    run {
      apply = function(package)
        content = io.open(package.path, "rb"):read "a"
        size = package.size
        assert.equal("DOWNLOADING DOWNLOADED VERIFIED UPDATING", states())
        return true
      end,
      progress = function(received, total)
        progress[#progress + 1] = received .. "/" .. total
        assert.equal(received, synced) -- what counts is on the disk
      end,
    }
    assign()
    await(ended)
    assert.equal(DONE, states())
    assert.equal(3500, size)
    assert.equal(3500, #content)
    assert.same({ "1000/3500", "2000/3500", "3000/3500", "3500/3500" }, progress)
    local series = e:series(e.token)
    assert.equal("2", series.current_fw_version[#series.current_fw_version].value)
    assert.equal("firmware.state\n", io.popen("ls " .. directory):read "a")
  end)

  it("have each state on the disk, though it cannot be told yet", function()
    e:fault { path = "/telemetry", how = "close" }
    run()
    assign()
    await(function()
      local file <close> = io.open(directory .. "/firmware.state")
      return file and file:read "a":find('"VERIFIED"', 1, true)
    end)
    e:clear_faults()
    await(ended)
    assert.equal(DONE, states())
  end)

  it("give each state a time of its own, later than the one before, though the clock is set back", function()
    local now, ahead = core.now, core.now() + 3600000
    finally(function()
      core.now = now
      tb.clock "/nonexistent" -- as nobody had said anything
    end)
    tb.clock(true)
    core.now = function() -- luacheck: ignore 122
      ahead = ahead - 1000
      return ahead
    end
    run()
    assign()
    await(ended)
    local list = {}
    for _, entry in ipairs(e:series(e.token).fw_state) do
      if not entry.value:find "QUEUED" and not entry.value:find "INITIATED" then list[#list + 1] = entry.value end
    end
    assert.equal(DONE, table.concat(list, " "))
  end)

  it("let other tasks go on while a package is verified", function()
    local steps, last = 0, nil
    local watch = tb.spawn(function()
      while true do
        tb.sleep(0)
        steps = steps + 1
      end
    end)
    local verifying
    run { chunk_size = 1 << 22, progress = function(received, total)
      if received == total then verifying = steps end
    end, apply = function()
      last = steps
      return true
    end }
    assign { size = 1 << 22 }
    await(ended)
    watch:cancel()
    assert.is_true(last - verifying >= 16, last - verifying .. " steps") -- as many pieces as are read
  end)

  it("leave no file of theirs to a program that another task starts, and none that others may read", function()
    local function open_files()
      local process <close> = io.popen "ls -l /proc/self/fd"
      return process:read "a"
    end
    local began, verifying, seen = false, false, {}
    local watch = tb.spawn(function()
      while true do
        tb.sleep(0)
        if began then seen[verifying and "verified" or "downloaded"] = open_files() end
        assert.is_nil((seen.verified or seen.downloaded or ""):find(directory, 1, true))
      end
    end)
    local mode
    e:fault { path = "chunk=1", how = "delay", seconds = 0.3, count = 1 }
    run { chunk_size = 1 << 20, progress = function(received, total)
      began, verifying = true, received == total
    end, apply = function(package)
      local process <close> = io.popen("stat -c %a " .. package.path)
      mode = process:read "l"
      return true
    end }
    assign { size = 2 << 20 }
    await(ended)
    watch:cancel()
    assert.equal(DONE, states())
    assert.truthy(seen.downloaded and seen.verified)
    assert.equal("600", mode)
  end)

  it("find the package that was assigned before they ran", function()
    assign { size = 2000 }
    run()
    await(ended)
    assert.equal(DONE, states())
  end)

  it("leave alone the package that runs already", function()
    assign { version = "1" }
    local task = run()
    tb.sleep(0.5)
    assert.equal("", states())
    assert.same({}, applied)
    task:cancel()
  end)

  it("refuse a package whose attributes make no sense, and take the next", function()
    run()
    local odd = { fw_checksum = "12", fw_size = "2.5", fw_url = "{}", fw_tag = "true" }
    local n = 0
    for name, value in pairs(odd) do
      n = n + 1
      local told = { fw_version = '"odd' .. n .. '"', fw_title = '"fw"', fw_checksum = '"ab"', fw_size = "9",
        fw_url = '""', fw_tag = '"t"' }
      told[name] = value
      local members = {}
      for key, text in pairs(told) do members[#members + 1] = ('"%s":%s'):format(key, text) end
      e:set_shared(e.token, "{" .. table.concat(members, ",") .. "}")
      await(function() return select(2, states():gsub("FAILED", "")) == n end)
      assert.equal("the shared attribute " .. name .. " makes no sense", reason())
    end
    assign()
    await(function() return states():find "UPDATED" end)
  end)

  it("take a version that the server's type cast made a number", function()
    assign { version = "1.5" }
    e:set_shared(e.token, '{"fw_version":1.5}')
    run()
    await(ended)
    assert.equal(DONE, states())
    assert.equal("1.5", applied[1].version)
  end)

  it("fail for a version that is none, and for an attribute that stays away, by its name", function()
    run()
    e:set_shared(e.token, '{"fw_title":"fw","fw_version":true}')
    await(ended)
    assert.equal("the shared attribute fw_version makes no sense", reason())
    e:set_shared(e.token, '{"fw_version":"2"}')
    await(function() return states() == "FAILED FAILED" end)
    assert.equal("the shared attribute fw_size is missing", reason())
    e:delete_shared(e.token, { "fw_version" })
    await(function() return states() == "FAILED FAILED FAILED" end)
    assert.equal("the shared attribute fw_version is missing", reason())
    e:set_shared(e.token, '{"fw_version":""}') -- empty is no other than missing
    e:set_shared(e.token, '{"fw_version":"3","fw_size":9,"fw_checksum":"","fw_checksum_algorithm":"CRC32"}')
    await(function() return states() == "FAILED FAILED FAILED FAILED" end)
    assert.truthy(reason():find("the package has no checksum", 1, true))
  end)

  it("fail for a URL without a title, and for an algorithm that is none, until that is put right", function()
    run()
    e:set_shared(e.token, '{"fw_url":"https://127.0.0.1:9/file.bin"}')
    await(ended)
    assert.equal("the shared attribute fw_title is missing", reason())
    e:set_shared(e.token, '{"fw_title":"fw","fw_version":"v","fw_checksum":"ab","fw_checksum_algorithm":"SHA-256"}')
    await(function() return states() == "FAILED FAILED" end)
    assert.equal("the package's checksum algorithm 'SHA-256' is unknown (one of MD5, SHA256, SHA384, SHA512, CRC32, "
      .. "MURMUR3_32, MURMUR3_128 expected)", reason())
    e:delete_shared(e.token, { "fw_checksum_algorithm" })
    await(function() return states() == "FAILED FAILED FAILED" end)
    assert.equal("the package has a checksum, and no checksum algorithm", reason())
    e:delete_shared(e.token, { "fw_url" })
    await(function() return states() == "FAILED FAILED FAILED FAILED" end)
    assert.equal("the shared attribute fw_size is missing", reason())
    assign { version = "v", checksum_algorithm = "MD5" }
    await(function() return states():find "UPDATED" end)
  end)

  it("try again once the algorithm or the size has been put right by hand", function()
    assign { tag = "t" }
    await(function() return e:attributes(e.token, "shared").fw_size end)
    e:set_shared(e.token, '{"fw_checksum_algorithm":"SHA-256"}')
    run()
    await(ended)
    e:set_shared(e.token, '{"fw_checksum_algorithm":"SHA256","fw_size":3400}')
    await(function() return states() == "FAILED DOWNLOADING" end)
    e:set_shared(e.token, '{"fw_size":3500}')
    await(function() return states():find "UPDATED" end)
  end)

  it("tell the states of a version that cannot be sent, without it", function()
    assign { version = "20240101123000.0001" } -- the server would make another number of it
    run()
    await(ended)
    assert.equal(DONE, states())
    assert.truthy(reason():find("current_fw_version: a string of these digits cannot be sent", 1, true), reason())
  end)

  it("tell why applying failed, whatever bytes it says it in", function()
    run { apply = function() return nil, "geht nicht: \xFC\0\n" .. ("x"):rep(5000) end }
    assign()
    await(ended)
    assert.matches("^geht nicht: %?%? x+ %.%.%.$", reason())
  end)

  it("take every algorithm of the server's, weak ones unless strong ones are demanded", function()
    for n, algorithm in ipairs { "MD5", "SHA256", "SHA384", "SHA512", "CRC32", "MURMUR3_32", "MURMUR3_128" } do
      local task = run { current = { title = "fw", version = "0" } }
      assign { version = "v" .. n, checksum_algorithm = algorithm }
      await(function() return #applied == 1 and select(2, states():gsub("UPDATED", "")) >= n end)
      task:cancel() -- perhaps before it knows that the last state arrived: then the next run reports it again
    end
    run { strong = true }
    assign { version = "weak", checksum_algorithm = "MD5" }
    await(function() return states():find "FAILED" end)
    assert.equal("the package's MD5 protects from accidents only, and strong ones are demanded", reason())
    assert.same({}, applied)
  end)

  it("fail on a wrong checksum, and do not try again until the package changes", function()
    run()
    assign { checksum = ("0"):rep(64) }
    await(ended)
    assert.equal("DOWNLOADING FAILED", states())
    assert.matches("^the package's SHA256 is %x+ where 0+ was expected$", reason())
    local requests = #e:requests()
    e:set_shared(e.token, '{"unrelated":1}')
    tb.sleep(1)
    for n = requests + 1, #e:requests() do assert.is_nil(e:requests()[n].target:find "firmware") end
    assign { version = "3" }
    await(function() return states():find "UPDATED" end)
    assert.equal("DOWNLOADING FAILED " .. DONE, states())
    assert.equal("3", applied[1].version)
  end)

  it("fail when the package is not applied, with the reason", function()
    local why = "no such flash"
    run { apply = function() return nil, why end }
    assign()
    await(ended)
    assert.equal("DOWNLOADING DOWNLOADED VERIFIED UPDATING FAILED", states())
    assert.equal("no such flash", reason())
    why = nil
    assign { version = "3" }
    await(function() return select(2, states():gsub("FAILED", "")) == 2 end)
    assert.equal("applying the package failed", reason())
  end)

  it("fail when applying raises", function()
    run { apply = function() error("boom", 0) end }
    assign()
    await(ended)
    assert.equal("boom", reason())
  end)

  it("end where their state can be written no more, though nothing else is assigned", function()
    local closed = false
    local task = run { apply = function()
      assert(os.rename(directory, directory .. ".gone"))
      return true
    end }
    assign()
    local closer = tb.spawn(function()
      tb.sleep(10)
      closed = true
      dev:close()
    end)
    local _, ok, err = task:join()
    closer:cancel()
    assert(os.rename(directory .. ".gone", directory))
    assert.same({ false, nil, "file" }, { closed, ok, err.kind })
  end)

  it("apply again when asked to", function()
    local times = 0
    run { apply = function()
      times = times + 1
      return times == 2 or "again"
    end }
    assign()
    await(ended)
    assert.equal(2, times)
    assert.equal("DOWNLOADING DOWNLOADED VERIFIED UPDATING UPDATING UPDATED", states())
  end)

  -- The numbers of the chunks that were asked for.
  local function chunks()
    local list = {}
    for _, request in ipairs(e:requests()) do list[#list + 1] = request.target:match "chunk=(%d+)$" end
    return table.concat(list, " ")
  end

  it("go on after an interruption from the last chunk, or from the first, where that is lost", function()
    local free_space = core.free_space
    finally(function() core.free_space = free_space end) -- luacheck: ignore 122
    for version, case in ipairs { { "2 3" }, { "0 1 2 3", "" } } do
      e:clear()
      e:fault { path = "chunk=2", how = "stall", count = 1 }
      local task = run { current = { title = "fw", version = "0" } }
      assign { version = "v" .. version }
      await(function() return chunks() == "0 1 2" end)
      task:cancel()
      if case[2] then io.open(directory .. "/firmware.package", "w"):write(case[2]):close() end
      e:clear()
      core.free_space = function() return 1500 end -- luacheck: ignore 122
      run { current = { title = "fw", version = "0" } } -- which needs room for the rest alone
      await(function() return select(2, states():gsub("UPDATED", "")) == version end)
      assert.equal(case[1], chunks())
      core.free_space = free_space -- luacheck: ignore 122
      dev:close()
      dev = tb.device { url = e.url, token = e.token }
    end
  end)

  it("begin anew, once, where what came before an interruption was wrong", function()
    e:fault { path = "chunk=0", how = "status", status = 200, body = ("x"):rep(1000), count = 1,
      headers = { ["Content-Disposition"] = "attachment" } }
    e:fault { path = "chunk=1", how = "status", status = 500, body = "", count = 1 }
    run()
    assign()
    await(ended)
    assert.equal(DONE, states())
    assert.equal("0 1 1 2 3 0 1 2 3", chunks())
    e:clear()
    e:fault { path = "chunk=1", how = "status", status = 500, body = "", count = 1 }
    assign { version = "3", checksum = ("0"):rep(64) }
    await(function() return states() == DONE .. " DOWNLOADING FAILED" end)
    assert.equal("0 1 1 2 3 0 1 2 3", chunks())
  end)

  it("take a package that is assigned by two messages", function()
    run()
    e:set_shared(e.token, '{"fw_title":"fw","fw_version":"2"}')
    tb.sleep(0.5)
    assign()
    await(ended)
    assert.equal(DONE, states())
  end)

  it("ask a few times for what the server says it does not have, and as often behind each that came", function()
    local random = math.random
    finally(function() math.random = random end) -- luacheck: ignore 122
    math.random = function(...) return select("#", ...) == 0 and 0.01 or random(...) end -- luacheck: ignore 122
    e:fault { path = "chunk=0", how = "status", status = 404, count = 5 }
    e:fault { path = "chunk=1", how = "status", status = 400, count = 5 }
    e:fault { path = "chunk=2", how = "status", status = 404 }
    e:fault { path = "/telemetry", how = "status", status = 401, count = 1 }
    run()
    assign()
    await(ended)
    assert.equal("DOWNLOADING FAILED", states())
    assert.equal("0 0 0 0 0 0 1 1 1 1 1 1 2 2 2 2 2 2 2", chunks())
  end)

  it("survive a server that answers nothing in the middle, and errors", function()
    e:fault { path = "chunk=1", how = "status", status = 200, body = "", count = 1,
      headers = { ["Content-Disposition"] = "attachment;filename=fw.bin" } }
    e:fault { path = "chunk=2", how = "status", status = 500, body = "", count = 1 }
    e:fault { path = "chunk=3", how = "close", count = 1 }
    run()
    assign()
    await(ended, 30)
    assert.equal(DONE, states())
  end)

  it("go on when another call shows that the server is there again, however long they would wait", function()
    local new, random = backoff.new, math.random
    finally(function() backoff.new, math.random = new, random end) -- luacheck: ignore 122
    backoff.new = function() return new(200, 200) end -- luacheck: ignore 122
    math.random = function(...) return select("#", ...) == 0 and 0.9 or random(...) end -- luacheck: ignore 122
    e:fault { path = "chunk=1", how = "close" }
    e:fault { path = "/telemetry", how = "status", status = 502, body = "somebody else's" }
    run()
    assign()
    await(function()
      for _, request in ipairs(e:requests()) do
        if request.target:find "chunk=1" and request.ended_at then return true end
      end
    end)
    tb.sleep(0.3)
    e:clear_faults()
    assert(dev:send_telemetry { a = 1 })
    await(ended)
    assert.equal(DONE, states())
  end)

  it("wait for the end of somebody else's answers, however many there are", function()
    local random = math.random
    finally(function() math.random = random end) -- luacheck: ignore 122
    math.random = function(...) return select("#", ...) == 0 and 0.0001 or random(...) end -- luacheck: ignore 122
    for _, body in ipairs { '{"login":"required"}', "", "Please log in.", ("x"):rep(1000), ("x"):rep(1 << 21) } do
      e:fault { path = "chunk=[02]", how = "status", status = 200, body = body, count = 5 }
    end
    run()
    assign()
    await(ended, 60)
    assert.equal(DONE, states())
  end)

  it("drop a package for its successor", function()
    e:fault { path = "version=2&size=1000&chunk=1", how = "stall" }
    run()
    assign()
    await(function()
      for _, request in ipairs(e:requests()) do
        if request.target:find "version=2.*chunk=1" then return true end
      end
    end)
    assign { version = "3" }
    await(ended)
    assert.equal("DOWNLOADING " .. DONE, states())
    assert.equal("3", applied[1].version)
    assert.equal(1, #applied)
  end)

  it("know after a restart whether what was applied runs", function()
    local function reboot(version)
      local task = run { apply = function() tb.sleep(3600) end, current = { title = "fw", version = "1" } }
      await(function() return states():find "UPDATING$" end)
      task:cancel() -- the system restarts before apply returns
      run { current = { title = "fw", version = version } }
    end
    assign()
    reboot "2"
    await(ended)
    assert.equal(DONE, states())
    assert.same({}, applied)
    dev:close()
    dev = tb.device { url = e.url, token = e.token }
    assign { version = "3" }
    reboot "1"
    await(function() return states():find "FAILED" end)
    assert.equal(DONE .. " DOWNLOADING DOWNLOADED VERIFIED UPDATING FAILED", states())
    assert.equal("version 1 runs after the update, not 3", reason())
    assert.same({}, applied)
  end)

  it("take packages of sizes at the boundary of a chunk, and of none", function()
    local version = 0
    for _, size in ipairs { 0, 1, 999, 1000, 1001, 1999, 2000, 2001 } do
      for _, chunk_size in ipairs { 1000, 333, 1 << 20 } do
        version = version + 1
        local content
        local task = run { chunk_size = chunk_size, apply = function(package)
          content = io.open(package.path, "rb"):read "a"
          return true
        end }
        assign { version = "v" .. version, size = size }
        await(function()
          local told = e:series(e.token).current_fw_version -- a state may be told twice
          return content and told and told[#told].value == "v" .. version
        end)
        assert.equal(size, #content)
        task:cancel()
      end
    end
    assert.is_nil(states():find "FAILED")
  end)

  it("try again where the server has lost the package", function()
    assign()
    e:evict_package(e.token, "firmware")
    run()
    await(function()
      local asked = 0
      for _, request in ipairs(e:requests()) do
        if request.target:find "chunk=0" then asked = asked + 1 end
      end
      return asked == 2
    end)
    assert.equal("DOWNLOADING", states())
    assign { tag = "anew" } -- the server has it again: the device hears so before its next try, or after
    await(ended)
    assert.truthy(states():find(DONE .. "$"), states())
    assert.equal(1, #applied)
  end)

  it("begin anew when the package changes on the server in mid-download", function()
    e:fault { path = "chunk=2", how = "stall", count = 1 }
    run()
    assign { data = ("a"):rep(3500), tag = "one" }
    await(function()
      for _, request in ipairs(e:requests()) do
        if request.target:find "chunk=2" then return true end
      end
    end)
    assign { data = ("b"):rep(3500), tag = "two" } -- of the same title and version
    await(ended)
    assert.equal("DOWNLOADING " .. DONE, states())
    assert.same({ 1, "two" }, { #applied, applied[1].tag })
  end)

  it("fail on a package that is longer or shorter than announced", function()
    run()
    assign { size = 2500 }
    e:set_shared(e.token, '{"fw_size":2000,"fw_tag":"short"}')
    await(function() return states():find "FAILED" end)
    assert.truthy(reason():find "SHA256 is .* where .* was expected")
    assert.same({}, applied)
  end)

  it("keep software apart from firmware", function()
    run()
    tb.spawn(function()
      dev:updates {
        kind = "software", current = { title = "sw", version = "1" }, directory = directory, chunk_size = 1000,
        apply = function(package) return package.version == "2" end,
      }
    end)
    e:assign(e.token, "software", { title = "sw", version = "2", size = 1500 })
    assign()
    await(function()
      local series = e:series(e.token)
      return ended() and series.sw_state and series.sw_state[#series.sw_state].value == "UPDATED"
        and series.current_sw_version[#series.current_sw_version].value == "2"
    end)
    assert.equal(DONE, states())
  end)

  it("check the space on disk first", function()
    run()
    e:set_shared(e.token, cjson.encode { fw_title = "fw", fw_version = "v9", fw_checksum = "abc",
      fw_checksum_algorithm = "SHA256" }:gsub("}$", ',"fw_size":9000000000000000}'))
    await(ended)
    assert.equal("DOWNLOADING FAILED", states())
    assert.matches("^updates: 9000000000000000 bytes are needed in " .. directory .. ", and %d+ are free$", reason())
  end)

  describe("of packages by URL", function()
    local function assign_url(url, more)
      local package = { title = "fw", version = "2", url = url }
      for name, value in pairs(more or {}) do package[name] = value end
      e:assign(e.token, "firmware", package)
    end

    -- Something that the emulator serves without a token in the path.
    local function serve(path)
      e:fault { path = path, how = "status", status = 200, body = ("x"):rep(70000) } -- more than a piece may have
    end

    it("fail without TLS, or without a checksum", function()
      io.open(directory .. "/firmware.package.new", "w"):close() -- as a power cut leaves it
      run()
      assign_url(e.url .. "/file.bin")
      await(ended)
      assert.equal("FAILED", states())
      assert.equal("the package's URL is not https", reason())
      assign_url(e.tls_url .. "/file.bin", { version = "3" })
      await(function() return select(2, states():gsub("FAILED", "")) == 2 end)
      assert.equal("the package has no checksum; give it one, or allow unverified packages by https", reason())
      assert.equal("firmware.state\n", io.popen("ls " .. directory):read "a")
    end)

    it("fetch them without the token, when they may be unverified", function()
      serve "/file.bin"
      run { unverified = "https", url_options = { ca_file = e.ca_file } }
      assign_url(e.tls_url .. "/file.bin?a=b")
      await(ended)
      assert.equal(DONE, states())
      for _, request in ipairs(e:requests()) do
        if request.target:find "file.bin" then
          assert.equal("/file.bin?a=b", request.target)
          for _, value in pairs(request.headers) do assert.is_nil(value:find(e.token, 1, true)) end
        end
      end
    end)

    -- Another device's package: there the emulator heeds a Range.
    local function elsewhere(data)
      local other = e:create_device()
      e:assign(other, "firmware", { title = "t", version = "1", data = data })
      return e.tls_url .. "/api/v1/" .. other .. "/firmware?title=t&version=1", other
    end

    local function sha256(data)
      local sum = core.checksum "SHA256"
      sum:update(data)
      return sum:hex()
    end

    local data = ("0123456789"):rep(350)

    it("bring them in pieces, and go on from the last one", function()
      local url, other = elsewhere(data)
      local function pieces()
        local list = {}
        for _, request in ipairs(e:requests()) do
          if request.target:find(other, 1, true) then list[#list + 1] = request.headers.range or "none" end
        end
        return table.concat(list, " ")
      end
      local progress = {}
      local more = { url_options = { ca_file = e.ca_file }, progress = function(received, total)
        progress[#progress + 1] = received .. "/" .. total
        if #progress == 2 then e:fault { path = other, how = "stall", count = 1 } end
      end }
      local task = run(more)
      assign_url(url, { checksum = sha256(data), checksum_algorithm = "SHA256", size = #data })
      await(function() return pieces():find "2000%-2999" end)
      task:cancel()
      run(more)
      await(ended)
      assert.equal(DONE, states())
      assert.equal(3500, applied[1].size)
      assert.truthy(pieces():find "^bytes=0%-999 bytes=1000%-1999 ")
      assert.equal(1, select(2, pieces():gsub("bytes=0%-999", "")))
      assert.equal("3500/3500", progress[#progress])
    end)

    describe("from a server that heeds a range in its own way", function()
      local url, other

      before_each(function() url, other = elsewhere(data) end)

      -- The next answer to a request for a range.
      local function answers(status, range, body, headers)
        headers = headers or {}
        headers["Content-Range"] = range
        e:fault { path = other, how = "status", status = status, body = body, headers = headers, count = 1 }
      end

      -- What is asked for until the package is here.
      local function asked(size, version)
        if not version then run { url_options = { ca_file = e.ca_file } } end
        assign_url(url, { checksum = sha256(data), checksum_algorithm = "SHA256", size = size, version = version })
        await(function() return ended() and states():sub(-#DONE) == DONE and applied[version and 2 or 1] end)
        local list = {}
        for _, request in ipairs(e:requests()) do
          if request.target:find(other, 1, true) then
            list[#list + 1] = request.headers.range and request.headers.range:match "(%d+)%-" or "all"
          end
        end
        return table.concat(list, " ")
      end

      local first <const> = data:sub(1, 1000)

      it("take no other bytes than those they asked for", function()
        answers(206, "bytes 0-999/3500", first)
        answers(206, "bytes 0-999/3500", first)
        assert.equal("0 1000 all", asked(#data))
      end)

      it("take none that do not say which they are", function()
        answers(206, nil, first)
        assert.equal("0 all", asked(#data))
      end)

      it("take none that are encoded", function()
        answers(206, "bytes 0-999/3500", first, { ["Content-Encoding"] = "gzip" })
        assert.equal("0 all", asked(#data))
      end)

      it("fetch them whole where it denies the bytes that it has", function()
        answers(206, "bytes 0-999/3500", first)
        answers(416, "bytes */3500", "")
        assert.equal("0 1000 all", asked(nil))
      end)

      it("fetch them whole where it denies the bytes that were announced, or any", function()
        answers(206, "bytes 0-999/3500", first)
        answers(416, nil, "")
        assert.equal("0 1000 all", asked(#data))
        e:clear()
        answers(416, nil, "")
        assert.equal("0 all", asked(nil, "again"))
      end)

      it("find the end where it does not tell the size", function()
        for from = 0, 3000, 1000 do
          local piece = data:sub(from + 1, from + 1000)
          answers(206, ("bytes %d-%d/*"):format(from, from + #piece - 1), piece)
        end
        assert.equal("0 1000 2000 3000", asked(nil))
      end)

      it("go on behind what it gives, where that is less than they asked for", function()
        answers(206, "bytes 0-499/3500", data:sub(1, 500))
        assert.equal("0 500 1500 2500", asked(nil))
      end)
    end)

    it("say so when its server wants a password", function()
      e:fault { path = "/file.bin", how = "status", status = 401, headers = { ["WWW-Authenticate"] = "Basic" } }
      run { unverified = "https", url_options = { ca_file = e.ca_file } }
      assign_url(e.tls_url .. "/file.bin")
      await(ended)
      assert.equal("DOWNLOADING FAILED", states())
      assert.truthy(reason():find("asks for credentials, and none are sent there", 1, true))
    end)

    it("fetch them whole when no checksum could tell pieces of two packages apart", function()
      local url, other = elsewhere(data)
      run { unverified = "https", url_options = { ca_file = e.ca_file } }
      assign_url(url)
      await(ended)
      assert.equal(DONE, states())
      local last
      for _, request in ipairs(e:requests()) do
        if request.target:find(other, 1, true) then last = request end
      end
      assert.is_nil(last.headers.range)
    end)

    it("are fetched with what the device's connection has, unless told otherwise", function()
      dev:close()
      dev = tb.device { url = e.url, token = e.token, ca_file = e.ca_file, user_agent = "of the device" }
      serve "/file.bin"
      run { unverified = "https" }
      assign_url(e.tls_url .. "/file.bin")
      await(ended)
      assert.equal(DONE, states())
      local agents = {}
      for _, request in ipairs(e:requests()) do
        if request.target:find "file%.bin" then agents[request.headers["user-agent"]] = true end
      end
      assert.same({ ["of the device"] = true }, agents)
    end)

    -- Not on an emulated processor: in qemu for mips, getifaddrs, which libcurl calls for `interface`, never returns.
    it("are fetched without what the device's connection has, when told so #host", function()
      dev:close()
      dev = tb.device { url = e.url, token = e.token, ca_file = e.ca_file, interface = "127.0.0.1" }
      serve "/file.bin"
      run { unverified = "https", url_options = { ca_file = false, ca_path = false, proxy = false, interface = false } }
      assign_url(e.tls_url .. "/file.bin")
      await(ended)
      assert.equal("DOWNLOADING FAILED", states())
      assert.truthy(reason():find "certificate", reason())
    end)

    it("cannot be fetched from what is no address, and the reason names no file of this library", function()
      run { unverified = "https" }
      assign_url "https://127.0.0.1:99999/file.bin"
      await(ended)
      assert.equal("DOWNLOADING FAILED", states())
      local words = "updates: the package's URL must be like https://host/path, with a port from 1 to 65535 if with "
        .. "any, without user and password, and with %20 for a blank"
      assert.equal(words, reason())
      for n, url in ipairs { "https://user:S3CRET@127.0.0.1:9/f", "https:///f", "https://127.0.0.1:9/a b" } do
        assign_url(url, { version = "v" .. n })
        await(function() return select(2, states():gsub("FAILED", "")) == 1 + n end)
        assert.equal(words, reason())
      end
      assert.error_matches(function()
        dev:updates { kind = "firmware", current = { title = "t", version = "1" }, directory = directory,
          apply = print, url_options = { colour = 1 } }
      end, "url_options: unknown option 'colour'")
    end)

    it("cannot be fetched with options that make no sense, which the reason names", function()
      for option, words in pairs {
        client_key = "option 'client_cert' is missing beside 'client_key'",
        ca_file = "this libcurl does not support option 'ca_file'",
      } do
        local task = run { unverified = "https", url_options = { [option] = ("x"):rep(8000001) } }
        assign_url("https://127.0.0.1:9/f", { version = option })
        await(function() return reason() == "updates: " .. words end)
        task:cancel()
      end
    end)

    it("wait a while for the end of what a portal says without TLS", function()
      local random = math.random
      finally(function() math.random = random end) -- luacheck: ignore 122
      math.random = function(...) return select("#", ...) == 0 and 0.01 or random(...) end -- luacheck: ignore 122
      for _, status in ipairs { 302, 403, 407, 451 } do
        e:fault { path = "/file.bin", how = "status", status = status, body = "<html>log in", count = 1 }
      end
      e:fault { path = "/file.bin", how = "status", status = 200, body = data }
      run { allow_http = true }
      assign_url(e.url .. "/file.bin", { checksum = sha256(data), checksum_algorithm = "SHA256" })
      await(ended)
      assert.equal(DONE, states())
    end)

    it("follow no redirect, and say so", function()
      e:fault { path = "/file.bin", how = "status", status = 302, headers = { Location = e.url .. "/other" } }
      run { unverified = "https", url_options = { ca_file = e.ca_file } }
      assign_url(e.tls_url .. "/file.bin")
      await(ended)
      assert.equal("DOWNLOADING FAILED", states())
      assert.truthy(reason():find("give the url that it redirects to (status 302)", 1, true))
      for _, request in ipairs(e:requests()) do assert.is_nil(request.target:find "^/other") end
    end)

    it("find the end of those whose size nobody told", function()
      run { url_options = { ca_file = e.ca_file } }
      for n, size in ipairs { 3500, 3000, 1000, 10 } do -- the last piece is short, or full
        local content = data:sub(1, size)
        local checksum = sha256(content)
        assign_url(elsewhere(content), { version = "v" .. n, checksum = checksum, checksum_algorithm = "SHA256" })
        await(function() return #applied == n end)
        assert.equal(size, applied[n].size)
      end
      assert.is_nil(states():find "FAILED")
    end)

    it("fail when the server has fewer bytes than announced, or others", function()
      run { url_options = { ca_file = e.ca_file } }
      assign_url(elsewhere(data), { checksum = sha256(data), checksum_algorithm = "SHA256", size = 4000 })
      await(ended)
      assert.equal("DOWNLOADING FAILED", states())
      assert.equal("the package has 3500 bytes where 4000 were expected", reason())
      assign_url(elsewhere(data), { checksum = sha256(data), checksum_algorithm = "SHA256", size = 3000 })
      await(function() return select(2, states():gsub("FAILED", "")) == 2 end)
      assert.truthy(reason():find "SHA256 is .* where .* was expected")
      assert.same({}, applied)
    end)

    it("verify them", function()
      serve "/file.bin"
      local progress
      run { allow_http = true, progress = function(received, total) progress = received .. "/" .. total end }
      local sum = sha256(("x"):rep(70000))
      assign_url(e.url .. "/file.bin", { checksum = sum, checksum_algorithm = "SHA256", size = 70000 })
      await(ended)
      assert.equal(DONE, states())
      assert.equal("70000/70000", progress)
      assign_url(e.url .. "/file.bin", { version = "3", checksum = ("0"):rep(64), checksum_algorithm = "SHA256" })
      await(function() return states():find "FAILED" end)
      assert.equal(1, #applied)
    end)
  end)

  it("tell the states by an outbox when there is one", function()
    local put = {}
    local outbox = { put = function(_, record)
      put[#put + 1] = (record.values or record).fw_state
      return true
    end }
    run { outbox = outbox }
    assign()
    await(function() return #put == 5 end)
    assert.equal(DONE, table.concat(put, " "))
    assert.equal("", states())
  end)

  it("tell the states in their order by an outbox that was cut off meanwhile", function()
    local outbox = assert(dev:outbox { path = directory .. "/outbox.db", batch_records = 1 })
    e:fault { path = "/telemetry$", how = "close" }
    tb.spawn(function() outbox:run() end)
    run { outbox = outbox }
    assign()
    await(function() return outbox:stats().records >= 3 end)
    for n = 1, 20 do assert(outbox:put { n = n }) end
    e:clear_faults()
    await(function() return outbox:stats().records == 0 and states():find "UPDATED" end)
    -- What was under way when the link was cut is sent again: the same state at the same time.
    local list, stamps = {}, {}
    for _, entry in ipairs(e:telemetry(e.token)) do
      if DONE:find(entry.value, 1, true) and entry.key == "fw_state" and not stamps[entry.ts] then
        stamps[entry.ts] = true
        list[#list + 1] = entry.value
      end
    end
    assert.equal(DONE, table.concat(list, " "))
    assert.equal(20, #e:series(e.token).n)
  end)

  it("tell the states by way of the outbox's disk, after an outage too", function()
    local outbox = assert(dev:outbox { path = directory .. "/outbox" })
    e:fault { path = "/telemetry", how = "close" }
    local task = run { outbox = outbox }
    assign()
    await(function() return outbox:stats().records == 5 end)
    assert.equal("", states())
    task:cancel()
    outbox:close()
    e:clear_faults()
    outbox = assert(dev:outbox { path = directory .. "/outbox" })
    assert(outbox:drain { deadline = 10 })
    outbox:close()
    local list = {}
    for _, entry in ipairs(e:series(e.token).fw_state) do list[#list + 1] = entry.value end
    assert.equal(DONE, table.concat(list, " "):match "DOWNLOADING.*$")
  end)

  it("end with the error that ended them", function()
    e:delete_device(e.token)
    local ok, err = dev:updates { kind = "firmware", current = { title = "fw", version = "1" }, directory = directory,
      apply = print }
    assert.is_nil(ok)
    assert.equal(401, err.status)
    local asked = false
    ok, err = dev:updates { kind = "firmware", current = { title = "fw", version = "1" },
      directory = directory .. "/none", apply = print, attribute_updates = function() asked = true end }
    assert.is_nil(ok)
    assert.equal("file", err.kind)
    assert.is_false(asked) -- the service takes that for a sign that the state can be kept
  end)

  it("leave no task behind, whatever they are at when their device is closed", function()
    local loop = require "thingsboard.loop".default()
    stub(backoff, "new", { next = function() return 60 end, reset = function() end })
    finally(function() backoff.new:revert() end)
    for _, at in ipairs { "nothing", "an attribute that is missing", "a download" } do
      local task = run()
      if at == "a download" then
        e:fault { path = "/firmware", how = "status", status = 503 }
        assign()
        await(function() return states():find "DOWNLOADING" end)
        tb.sleep(0.3) -- it waits for the next try
      else
        if at ~= "nothing" then e:set_shared(e.token, '{"fw_title":"fw"}') end
        tb.sleep(0.5)
      end
      dev:close()
      assert.is_true((task:join()))
      assert.is_false(loop:working(), at)
      dev = tb.device { url = e.url, token = e.token }
    end
  end)

  it("check their options", function()
    local function with(more)
      return function()
        local given = { kind = "firmware", current = { title = "t", version = "v" }, directory = "/tmp", apply = print }
        for name, value in pairs(more) do given[name] = value end
        dev:updates(given)
      end
    end
    assert.error_matches(with { kind = "fw" }, "option 'kind' must be")
    assert.error_matches(with { current = { title = "t" } }, "must have a string 'version'")
    assert.error_matches(with { unverified = "http" }, "must be 'https'")
    assert.error_matches(with { appply = print }, "unknown option 'appply'")
    assert.error_matches(function() dev:updates {} end, "is missing")
  end)
end)
