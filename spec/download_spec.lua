-- Downloads of firmware and software.
local child = require "spec.support.child"
local core = require "thingsboard.core"
local emulator = require "spec.support.emulator"
local scratch = require "spec.support.scratch"
local socket = require "socket"
local tb = require "thingsboard"

local function bytes_of(size)
  local bytes = {}
  for i = 1, size do bytes[i] = string.char(i * i * 31 + i // 7 & 255) end
  return table.concat(bytes)
end

local function read(path)
  local file <close> = assert(io.open(path, "rb"))
  return file:read "a"
end

local function write(path, text)
  local file <close> = assert(io.open(path, "wb"))
  file:write(text)
end

-- Without showing them when they differ.
local function assert_bytes(expected, got)
  assert(expected == got, ("%d bytes expected, got others, %d"):format(#expected, #got))
end

-- Waits until a condition holds.
local function eventually(condition)
  local deadline = socket.gettime() + 5
  while not condition() do
    assert(socket.gettime() < deadline, "it did not come to pass in time")
    socket.sleep(0.01)
  end
end

describe("a package", function()
  local e, dev, directory, path

  setup(function() e = emulator.start { ota_delay = 0 } end)
  teardown(function() e:stop() end)

  before_each(function()
    directory = scratch.new()
    path = directory .. "/package"
    e:create_device { name = "d", token = "T" }
    dev = tb.device { url = e.url, token = "T" }
    e:clear()
  end)

  after_each(function()
    dev:close()
    e:clear_faults()
    e:delete_device "T"
    os.execute("chmod -R u+w " .. directory)
    scratch.remove(directory)
  end)

  local function assign(data, more)
    local package = { title = "t", version = "1", data = data }
    for name, value in pairs(more or {}) do package[name] = value end
    e:assign("T", "firmware", package)
  end

  local function download(more, by)
    local given = { title = "t", version = "1" }
    for name, value in pairs(more or {}) do given[name] = value end
    return (by or dev):firmware(given)
  end

  local function names()
    local list = {}
    for name in io.popen("ls -A " .. directory):lines() do list[#list + 1] = name end
    return list
  end

  -- The download fails, with these words, which may be the whole message; a file that stands at the path stands there
  -- still, alone.
  local function fails(kind, words, more, by)
    local given = { path = path }
    for name, value in pairs(more or {}) do given[name] = value or nil end
    write(path, "old")
    local ok, err = download(given, by)
    assert(ok == nil, "it came")
    assert.equal(kind, err.kind)
    assert.truthy(tostring(err):find(words, 1, true), tostring(err))
    assert.equal("firmware: ", tostring(err):sub(1, 10))
    if words:sub(1, 10) == "firmware: " then assert.equal(words, err.message) end
    assert.same({ "package" }, names())
    assert.equal("old", read(path))
    return err
  end

  for _, kind in ipairs { "firmware", "software" } do
    it("of " .. kind .. " comes as a string, to a file and in chunks", function()
      local data <const> = bytes_of(1000)
      e:assign("T", kind, { title = "t", version = "1", data = data })
      local given = { title = "t", version = "1" }
      assert_bytes(data, (assert(dev[kind](dev, given))))
      given.size = #data
      assert_bytes(data, (assert(dev[kind](dev, given))))
      given.path = path
      assert.equal(path, (assert(dev[kind](dev, given))))
      assert_bytes(data, read(path))
      given.chunk_size = 300
      assert.equal(path, (assert(dev[kind](dev, given))))
      assert_bytes(data, read(path))
      given.path = nil
      assert_bytes(data, (assert(dev[kind](dev, given))))
      assert.equal("/api/v1/T/" .. kind .. "?title=t&version=1&size=300&chunk=3", e:requests()[11].target)
      assert.same({ "package" }, names())
    end)
  end

  it("comes in chunks of any size, each asked for once", function()
    local data <const> = bytes_of(100)
    assign(data)
    for _, chunk_size in ipairs { 1, 3, 7, 10, 50, 99, 100, 101, 4194304 } do
      e:clear()
      assert_bytes(data, (assert(download { size = 100, chunk_size = chunk_size })))
      assert.equal(math.ceil(100 / chunk_size), #e:requests())
      assert(download { size = 100, chunk_size = chunk_size, path = path })
      assert_bytes(data, read(path))
    end
  end)

  it("may be a single byte, or none", function()
    for _, data in ipairs { "\0", "" } do
      assign(data)
      for _, chunk_size in ipairs { false, 1, 7 } do
        local more = { size = #data, chunk_size = chunk_size or nil }
        e:clear()
        assert_bytes(data, (assert(download(more))))
        more.path = path
        assert(download(more))
        assert_bytes(data, read(path))
        assert.equal(2, #e:requests())
      end
    end
  end)

  it("goes to a file of mode 0600, in place of what was there", function()
    write(path, "old")
    os.execute("chmod 644 " .. path)
    assign "new"
    assert(download { path = path })
    assert.equal("new", read(path))
    assert.equal("600\n", io.popen("stat -c %a " .. path):read "a")
    assert.same({ "package" }, names())
  end)

  it("of another size than expected is refused", function()
    assign(bytes_of(100))
    local err = fails("package", "firmware: the package has 100 bytes where 101 were expected", { size = 101 })
    assert.is_false(err.retryable)
    fails("package", "firmware: the package has more bytes than the 99 expected", { size = 99 })
    fails("package", "firmware: the package has more bytes than the 0 expected", { size = 0 })
    fails("package", "firmware: the package has more bytes than the 99 expected", { size = 99, path = false })
    fails("package", "firmware: the package has 100 bytes where 101 were expected", { size = 101, path = false })
    err = fails("package", "firmware: chunk 3 has 10 bytes where 11 were expected; ask again, and check the size",
      { size = 101, chunk_size = 30 })
    assert.is_true(err.retryable)
    fails("package", "chunk 3 has 10 bytes where 9 were expected", { size = 99, chunk_size = 30 })
    fails("package", "chunk 3 has 10 bytes where 30 were expected", { size = 150, chunk_size = 30 })
    fails("package", "chunk 0 has 30 bytes where 0 were expected", { size = 0, chunk_size = 30 })
  end)

  describe("with a checksum", function()
    local INPUTS <const> = setmetatable({ ["1 MiB of zero bytes"] = ("\0"):rep(1 << 20) }, {
      __index = function(_, name) return (assert(name:match('^"(.*)"$'), name)) end,
    })

    it("is verified by each algorithm, as the server writes it", function()
      local count = 0
      for line in io.lines "spec/data/checksums.txt" do
        local input, algorithm, hex = line:match("^([^#].-) | (%S+) | (%x+)$")
        if input then
          local data = INPUTS[input]
          count = count + 1
          assign(data)
          local given = { checksum = hex, checksum_algorithm = algorithm }
          assert_bytes(data, (assert(download(given))))
          given.checksum = hex:upper()
          given.path = path
          assert(download(given))
          given.size, given.chunk_size = #data, 300000
          assert(download(given))
          given.path = nil
          assert_bytes(data, (assert(download(given))))
          given.checksum = hex:gsub("^.", function(digit) return digit == "0" and "1" or "0" end)
          for _, more in ipairs { { chunk_size = false }, { path = false }, {} } do
            given.chunk_size, given.path = 300000, path
            for name, value in pairs(more) do given[name] = value end
            fails("package", algorithm .. " is " .. hex .. " where " .. given.checksum .. " was expected", given)
          end
        end
      end
      assert.equal(20, count)
    end)

    it("is verified by what the shared attributes tell", function()
      for _, algorithm in ipairs { "MD5", "SHA256", "SHA384", "SHA512", "CRC32", "MURMUR3_32", "MURMUR3_128" } do
        local data = bytes_of(777) .. algorithm
        assign(data, { checksum_algorithm = algorithm })
        local told
        eventually(function()
          told = assert(dev:request_attributes {}).shared
          return told.fw_checksum_algorithm == algorithm
        end)
        assert_bytes(data, (assert(download {
          title = told.fw_title, version = told.fw_version, size = told.fw_size, checksum = told.fw_checksum,
          checksum_algorithm = told.fw_checksum_algorithm, chunk_size = 100,
        })))
      end
    end)

    it("that is wrong is refused, and will be the next time", function()
      assign "hello"
      local err = fails("package", "MD5 is 5d41402abc4b2a76b9719d911017c592 where 00 was expected",
        { checksum = "00", checksum_algorithm = "MD5" })
      assert.is_false(err.retryable)
    end)
  end)

  describe("tells its progress", function()
    local calls
    local function note(...) calls[#calls + 1] = { n = select("#", ...), ... } end

    before_each(function() calls = {} end)

    it("at each chunk", function()
      assign(bytes_of(100))
      assert(download { size = 100, chunk_size = 30, progress = note })
      assert.same({ { 30, 100, n = 2 }, { 60, 100, n = 2 }, { 90, 100, n = 2 }, { 100, 100, n = 2 } }, calls)
    end)

    it("at the end, when it comes at once", function()
      assign(bytes_of(100))
      assert(download { progress = note })
      assert(download { size = 100, path = path, progress = note })
      assert.same({ { 100, 100, n = 2 }, { 100, 100, n = 2 } }, calls)
    end)

    it("now and then, when it takes its time", function()
      assign(bytes_of(50000))
      for _, more in ipairs { {}, { size = 50000 }, { size = 50000, path = path } } do
        calls = {}
        e:fault { how = "slow", bytes = 6000, seconds = 0.1, count = 1, path = "/firmware" }
        more.progress = note
        assert(download(more))
        assert.is_true(#calls >= 3 and #calls <= 10, #calls)
        local before = 0
        for _, call in ipairs(calls) do
          assert.equal("integer", math.type(call[1]))
          assert.is_true(call[1] >= before)
          assert.is_true(call[2] == 50000 or not more.size and call[1] == 0 and call[2] == nil)
          before = call[1]
        end
        assert.is_true(calls[2][1] > 0 and calls[2][1] < 50000)
        assert.same({ 50000, 50000, n = 2 }, calls[#calls])
      end
    end)

    it("to a function that raises, and then nothing is left", function()
      assign(bytes_of(50000))
      local function burst() error("enough", 0) end
      write(path, "old")
      e:fault { how = "stall_after", bytes = 20000, count = 1 }
      assert.has_error(function() download { path = path, progress = burst } end, "enough")
      assert.same({ "package" }, names())
      eventually(function() return e:requests()[1].given_up end)
      for _, chunk_size in ipairs { 10, false } do -- without chunks it has come whole, and has no name yet
        local given = { path = path, size = 50000, chunk_size = chunk_size or nil, progress = burst }
        assert.has_error(function() download(given) end, "enough")
      end
      assert.equal(3, #e:requests())
      assert.same({ "package" }, names())
      assert.equal("old", read(path))
      assert(download { path = path })
    end)
  end)

  describe("that changes on the server", function()
    local function changing(change)
      local changed = false
      return function()
        if not changed then change() end
        changed = true
      end
    end

    it("by being lost between two chunks, is refused and may come again", function()
      assign(bytes_of(100))
      local given = { size = 100, chunk_size = 30 }
      given.progress = changing(function() e:evict_package("T", "firmware") end)
      local err = fails("package", "chunk 1 has 0 bytes where 30 were expected; ask again", given)
      assert.is_true(err.retryable)
    end)

    it("by being lost before it is asked for whole, is refused and may come again", function()
      assign(bytes_of(100))
      e:evict_package("T", "firmware")
      local err = fails("http", "the server has lost the firmware, or is over a rate limit; try again in a while")
      assert.equal(500, err.status)
      assert.is_true(err.retryable)
    end)

    it("by another version, is refused", function()
      assign(bytes_of(100))
      local given = { size = 100, chunk_size = 30 }
      given.progress = changing(function() assign(bytes_of(100), { version = "2" }) end)
      local words = "another firmware than this title and version is assigned; read the shared attributes again"
      local err = fails("http", words, given)
      assert.equal(400, err.status)
      assert.is_false(err.retryable)
    end)

    it("by a shorter one of the same name, is refused", function()
      assign(bytes_of(100))
      local given = { size = 100, chunk_size = 30 }
      given.progress = changing(function() assign(bytes_of(70)) end)
      fails("package", "chunk 2 has 10 bytes where 30 were expected", given)
    end)

    it("by other bytes of the same name and size, is refused for its checksum", function()
      assign(bytes_of(100))
      local sum = core.checksum("SHA256"):update(bytes_of(100)):hex()
      local given = { size = 100, chunk_size = 30, checksum = sum, checksum_algorithm = "SHA256" }
      given.progress = changing(function() assign(bytes_of(101):sub(2)) end)
      fails("package", "SHA256", given)
    end)
  end)

  describe("is not there,", function()
    it("for none is assigned", function()
      local words = "%s: the server has no %s for this device; if the shared attribute %s_url is set, it lies there "
        .. "(status 404)"
      local err = fails("http", words:format("firmware", "firmware", "fw"))
      assert.equal(404, err.status)
      assert.is_false(err.retryable)
      local _, other = dev:software { title = "t", version = "1" }
      assert.equal(words:format("software", "software", "sw"), other.message)
    end)

    it("for it lies elsewhere", function()
      e:assign("T", "firmware", { title = "t", version = "1", url = "http://example.com/x" })
      assert.equal(404, fails("http", "fw_url is set, it lies there").status)
    end)

    it("for another title or version is assigned", function()
      assign "x"
      for _, more in ipairs { { title = "u" }, { version = "2" }, { version = "1", title = "T" } } do
        assert.equal(400, fails("http", "another firmware", more).status)
      end
    end)
  end)

  it("whose size is given bounds no other answer", function()
    for _, status in ipairs { 500, 404, 400 } do
      local body = '{"message":"words of the server","errorCode":2,"status":%d,"timestamp":1}'
      e:fault { how = "status", status = status, body = body:format(status), count = 2 }
      assert.equal(status, fails("http", "words of the server", { size = 1 }).status)
      assert.equal(status, fails("http", "words of the server", { size = 1, path = false }).status)
    end
  end)

  it("is not what somebody else says in its place, whatever its size and form", function()
    assign(bytes_of(50))
    local page = "\xEF\xBB\xBF <!doctype html><title>Log in</title>"
    for _, body in ipairs { "", '{"login":"required"}', ("x"):rep(50), ("x"):rep(2000), page } do
      for _, more in ipairs { {}, { path = path }, { size = 50 }, { size = 50, path = path },
        { size = 50, chunk_size = 50 } } do
        local careful <close> = tb.device { url = e.url, token = "T", max_response = 1000 }
        e:fault { how = "status", status = 200, body = body, count = 1,
          headers = { ["Content-Type"] = "application/octet-stream", ["Content-Disposition"] = "inline" } }
        local result, err = download(more, careful)
        assert.is_nil(result)
        assert.same({ "answer", true }, { err.kind, err.retryable })
        assert.truthy(err.message:find("check the url, and any proxy, firewall or portal", 1, true), err.message)
        assert.same({}, names())
      end
    end
    assert(download { size = 50 })
  end)

  it("that does not come whole leaves what was there, and the next call works", function()
    local data <const> = bytes_of(50000)
    assign(data)
    for _, case in ipairs {
      { "network", "", how = "close_after", bytes = 20000 },
      { "network", "", how = "reset_after", bytes = 20000 },
      { "network", "", how = "wrong_length", bytes = 10 },
      { "network", "", how = "close" },
      { "answer", "", how = "garbage" },
      { "answer", "headers", how = "huge_headers" },
      { "http", "503", how = "status", status = 503 },
      { "answer", "302", how = "redirect" },
    } do
      local kind, words = table.remove(case, 1), table.remove(case, 1)
      e:fault(case)
      fails(kind, words)
      fails(kind, words, { size = 50000, path = false })
      e:clear_faults()
      assert_bytes(data, (assert(download())))
    end
    e:fault { how = "no_length", count = 1 }
    assert(download { size = 50000, path = path })
    e:fault { how = "wrong_length", bytes = -10, count = 1 }
    fails("package", "has 49990 bytes where 50000 were expected", { size = 50000 })
    local _, err = download() -- may find the ten bytes that were left over
    assert.is_true(err == nil or err.retryable)
    assert_bytes(data, (assert(download())))
  end)

  it("that stalls ends in a time-out", function()
    assign(bytes_of(50000))
    local hasty <close> = tb.device { url = e.url, token = "T", timeout = 0.5 }
    for _, case in ipairs {
      { { how = "stall" }, {} },
      { { how = "stall_after", bytes = 700 }, {} }, -- noticed late: the speed is a mean of seconds
      { { how = "stall_after", bytes = 700 }, { path = false } },
      { { how = "stall" }, { chunk_size = 40000, size = 50000 } },
    } do
      e:clear_faults()
      e:fault(case[1])
      local started = socket.gettime()
      assert.is_true(fails("timeout", "OPERATION_TIMEDOUT", case[2], hasty).retryable)
      assert.is_true(socket.gettime() - started < 10)
    end
  end)

  it("that takes longer than the device's time-out still comes to a file", function()
    assign(bytes_of(50000))
    local hasty <close> = tb.device { url = e.url, token = "T", timeout = 0.6 }
    e:fault { how = "slow", bytes = 5000, seconds = 0.15, count = 1 }
    assert(download({ path = path }, hasty))
    assert.equal(50000, #read(path))
  end)

  describe("larger than max_response", function()
    local small

    before_each(function()
      small = tb.device { url = e.url, token = "T", max_response = 1000 }
      assign(bytes_of(1001))
    end)
    after_each(function() small:close() end)

    it("comes to a file, its size known or not", function()
      for _, more in ipairs { {}, { size = 1001 }, { size = 1001, chunk_size = 1000 } } do
        more.path = path
        assert(download(more, small))
        assert_bytes(bytes_of(1001), read(path))
      end
    end)

    it("in chunks of HTTP comes to a file when its size is given", function()
      local data = bytes_of(5000)
      local raw = ("HTTP/1.1 200 \r\nContent-Disposition: attachment\r\nTransfer-Encoding: chunked\r\n\r\n"
        .. "%x\r\n%s\r\n0\r\n\r\n"):format(#data, data)
      e:fault { how = "raw", raw = raw, count = 1 }
      assert(download({ path = path, size = 5000 }, small))
      assert_bytes(data, read(path))
    end)

    it("comes not as a string; the error says what to do", function()
      local words = "firmware: the package has more than the 1000 bytes of max_response; give a path, and it goes to a "
        .. "file"
      assert.is_false(fails("answer", words, { path = false }, small).retryable)
      e:clear()
      fails("answer", words, { path = false, size = 1001 }, small)
      fails("answer", words, { path = false, size = 1001, chunk_size = 500 }, small)
      assert.equal(0, #e:requests())
      assign(bytes_of(1000))
      assert(download({}, small))
      assert(download({ size = 1000 }, small))
    end)

    it("without an end fills no disk", function()
      e:fault { how = "endless_body", count = 1 }
      local words = "firmware: the answer has more than 1000 bytes and does not say its length; give the package's size"
      local err = fails("answer", words, nil, small)
      assert.same({ false, "BODY_TOO_LARGE" }, { err.retryable, err.code })
      e:fault { how = "endless_chunked", count = 1 }
      fails("answer", words, nil, small)
      e:fault { how = "endless_chunked", count = 1 }
      fails("package", "firmware: the package has more bytes than the 5000 expected", { size = 5000 }, small)
      e:fault { how = "endless_body", count = 1 }
      fails("answer", "more than 1000 bytes", { chunk_size = 500, size = 5000 }, small)
    end)

    it("cannot be asked for in chunks of more than that", function()
      assert.error_matches(function() download({ path = path, size = 1001, chunk_size = 1001 }, small) end,
        "option 'chunk_size' is above the 1000 bytes of max_response")
    end)
  end)

  it("that comes compressed is refused in words that say so, unless it is what was expected", function()
    local data = bytes_of(200)
    local function answer(encoding)
      local head = "HTTP/1.1 200 \r\nContent-Disposition: attachment\r\nContent-Encoding: %s\r\n"
        .. "Content-Length: %d\r\n\r\n"
      e:fault { how = "raw", raw = head:format(encoding, #data) .. data, count = 1 }
    end
    for _, target in ipairs { path, false } do
      answer "gzip"
      fails("package", "firmware: the package has 200 bytes where 300 were expected; it came compressed, which was not "
        .. "asked for: serve it as it is", { path = target, size = 300 })
      answer "gzip"
      fails("package", " where 00000000 was expected; it came compressed, ", { path = target, checksum = "00000000",
        checksum_algorithm = "CRC32" })
      answer "identity"
      local err = fails("package", "", { path = target, size = 300 })
      assert.is_nil(err.message:find("compressed", 1, true))
      answer "gzip" -- a .gz file, whose server calls it so
      assert(download { path = target or nil, size = 200 })
    end
  end)

  it("never names its file", function()
    for _, name in ipairs { "../evil", directory .. "/evil", "package", "x;filename=evil" } do
      assign("data", { file_name = name })
      assert(download { path = path })
      assert.equal("data", (assert(download())))
      assert.same({ "package" }, names())
      os.remove(path)
    end
    assert.is_nil(io.open(directory .. "/../evil"))
    assert.is_nil(io.open "evil")
  end)

  it("may have any title and version", function()
    local texts = {
      "two words", "a/b", "../..", "a&b=c", "50%", "%41", "a+b", "a#b", "a?b", "Gerät 温度", ";", "\"'<>",
    }
    for _, text in ipairs(texts) do
      assign("x" .. text, { title = text, version = text })
      e:clear()
      assert.equal("x" .. text, (assert(download { title = text, version = text })))
      assert.truthy(e:requests()[1].target:find("^/api/v1/T/firmware%?title=[%w%%.~_-]+&version=[%w%%.~_-]+$"))
    end
  end)

  describe("leaves nothing behind when", function()
    local function stalled()
      assign(bytes_of(50000))
      write(path, "old")
      e:fault { how = "stall_after", bytes = 20000, count = 1 }
    end

    local function wait_for_bytes()
      local deadline = core.monotonic() + 5
      repeat
        tb.sleep(0.01)
        local process <close> = io.popen("cat " .. path .. ".* 2>/dev/null | wc -c")
      until process:read "n" > 10000 or core.monotonic() > deadline
      assert.equal(2, #names())
    end

    local function nothing_left()
      assert.same({ "package" }, names())
      assert.equal("old", read(path))
      eventually(function() return e:requests()[1].given_up end)
    end

    it("the device is closed", function()
      stalled()
      local err
      local task = tb.spawn(function() err = select(2, download { path = path }) end)
      wait_for_bytes()
      dev:close()
      task:join()
      assert.equal("closed", err.kind)
      nothing_left()
    end)

    it("the device is closed between two chunks", function()
      assign(bytes_of(100))
      write(path, "old")
      local ok, err = download { path = path, size = 100, chunk_size = 30, progress = function() dev:close() end }
      assert.is_nil(ok)
      assert.equal("closed", err.kind)
      assert.equal(1, #e:requests())
      assert.same({ "package" }, names())
    end)

    it("its task is cancelled", function()
      stalled()
      local task = tb.spawn(download, { path = path })
      wait_for_bytes()
      task:cancel()
      nothing_left()
    end)
  end)

  describe("that cannot be written", function()
    it("for there is no such folder, is not asked for", function()
      local ok, err = download { path = directory .. "/none/package" }
      assert.is_nil(ok)
      assert.equal("file", err.kind)
      assert.is_false(err.retryable)
      assert.truthy(err.message:find("^firmware: cannot write beside .*/none/package: No such file or directory$"))
      assert.equal(0, #e:requests())
    end)

    it("for a folder has its name, leaves no file", function()
      assign "data"
      assert(os.execute("mkdir " .. path))
      local ok, err = download { path = path }
      assert.is_nil(ok)
      assert.equal("file", err.kind)
      assert.truthy(err.message:find("Is a directory", 1, true))
      assert.same({ "package" }, names())
    end)

    it("for the disk is full, leaves no file", function()
      assign(bytes_of(50000))
      write(path, "old")
      local said = child.run(([[
        local tb = require "thingsboard"
        local dev = tb.device { url = "%s", token = "T" }
        for _, chunk_size in ipairs { 20000, false } do
          local ok, err = dev:firmware {
            title = "t", version = "1", path = "%s", size = 50000, chunk_size = chunk_size or nil
          }
          print(ok, err.kind, err)
        end
      ]]):format(e.url, path), nil, "ulimit -f 8;")
      local line = "nil\tfile\tfirmware: cannot write [^\n]*File too large[^\n]*\n"
      assert.truthy(said:find("^" .. line .. line .. "$"), said)
      assert.same({ "package" }, names())
      assert.equal("old", read(path))
    end)
  end)

  it("comes to several tasks at once", function()
    local data <const> = bytes_of(50000)
    assign(data)
    e:assign("T", "software", { title = "t", version = "1", data = "soft" })
    local got = {}
    tb.spawn(function() got[1] = download { size = 50000, chunk_size = 1000 } end)
    tb.spawn(function() got[2] = download { path = path } end)
    tb.spawn(function() got[3] = download() end)
    tb.spawn(function() got[4] = dev:software { title = "t", version = "1" } end)
    tb.run()
    assert.same({ data, path, data, "soft" }, got)
    assert_bytes(data, read(path))
  end)

  it("cannot be had of a closed device", function()
    dev:close()
    local ok, err = download { path = path }
    assert.is_nil(ok)
    assert.equal("closed", err.kind)
    assert.same({}, names())
  end)

  describe("wants options that make sense:", function()
    local function raises(message, given)
      local ok, raised = pcall(function() dev:firmware(given) end)
      assert.is_false(ok)
      assert.truthy(raised:find("spec/download_spec.lua:%d+: firmware: "), raised)
      assert.truthy(raised:find(message, 1, true), raised)
      assert.equal(0, #e:requests())
      assert.same({}, names())
    end

    local function raises_with(message, more)
      local given = { title = "t", version = "1", path = path }
      for name, value in pairs(more) do given[name] = value end
      raises(message, given)
    end

    it("a table, title and version", function()
      raises("a table of options expected, got nil")
      raises("a table of options expected, got string", "t")
      raises("option 'title' is missing", { version = "1" })
      raises("option 'version' is missing", { title = "t" })
    end)

    it("of their types", function()
      raises_with("unknown option 'checksumAlgorithm'", { checksumAlgorithm = "MD5" })
      local text = "a non-empty string without control characters"
      for _, name in ipairs { "title", "version", "checksum", "checksum_algorithm", "path" } do
        for _, value in ipairs { 1, true, {}, "", "a\nb", "a\0b" } do
          raises_with(("option '%s' must be %s"):format(name, text), { [name] = value })
        end
      end
      for _, value in ipairs { -1, 1.5, 10.0, "10", 0 / 0 } do
        raises_with("option 'size' must be a non-negative integer", { size = value })
        raises_with("option 'chunk_size' must be a positive integer", { size = 1, chunk_size = value })
      end
      raises_with("option 'chunk_size' must be a positive integer", { size = 1, chunk_size = 0 })
      raises_with("option 'progress' must be a function", { progress = "yes" })
    end)

    it("that go together", function()
      raises_with("option 'checksum_algorithm' is missing beside 'checksum'", { checksum = "00" })
      raises_with("option 'checksum' is missing beside 'checksum_algorithm'", { checksum_algorithm = "MD5" })
      raises_with("option 'size' is missing beside 'chunk_size'", { chunk_size = 10 })
      raises_with("the server cuts no package of 2 GiB or more", { size = 1 << 31, chunk_size = 10 })
    end)

    it("an algorithm that the server has", function()
      for _, name in ipairs { "sha256", "SHA1", "MD5 " } do
        raises_with("option 'checksum_algorithm': one of MD5, SHA256, SHA384, SHA512, CRC32, MURMUR3_32, MURMUR3_128 "
          .. "expected", { checksum = "00", checksum_algorithm = name })
      end
    end)
  end)
end)
