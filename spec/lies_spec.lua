-- Servers that lie: each lie is an error that says which it was, in time, in little memory, without the token; no file
-- is left; and polls get over it, without a loop, a loss, or anything that is handed out twice.
local core = require "thingsboard.core"
local emulator = require "spec.support.emulator"
local lies = require "spec.support.lies"
local errors = require "thingsboard.error"
local loop = require "thingsboard.loop"
local scratch = require "spec.support.scratch"
local socket = require "socket"
local tb = require "thingsboard"

local TOKEN <const> = lies.TOKEN
local MOST_MEMORY <const> = 32 << 20 -- with room for what a tool keeps that runs the specs; the lies are far larger
-- Resets the high-water mark of this process's memory; the function it returns tells how far it has risen.
local function watch_memory()
  collectgarbage()
  local function kilobytes(name)
    for line in io.lines "/proc/self/status" do
      local value = line:match("^" .. name .. ":%s*(%d+)")
      if value then return tonumber(value) end
    end
  end
  local file = assert(io.open("/proc/self/clear_refs", "w"))
  file:write "5"
  file:close()
  local before = kilobytes "VmRSS"
  return function() return (kilobytes "VmHWM" - before) * 1024 end
end

describe("a server that lies:", function()
  local e, directory, url

  setup(function()
    e = emulator.start { http2 = false, ota_delay = 0 }
    e:create_device { name = "d", token = TOKEN }
    e:assign(TOKEN, "firmware", lies.PACKAGE)
    directory = scratch.new()
  end)

  teardown(function()
    e:stop()
    scratch.remove(directory)
  end)

  before_each(function() url = e.url end)

  after_each(function()
    loop.default():close()
    e:clear_faults()
    e:clear()
  end)

  local function files()
    return io.popen("ls -A " .. directory):read "a"
  end

  local calls = {
    post = { "send_telemetry", function(dev) return dev:send_telemetry { a = 1 } end },
    get = { "request_attributes", function(dev) return dev:request_attributes() end },
    file = { "firmware", function(dev)
      return dev:firmware { title = "t", version = "1", size = 50, path = directory .. "/package" }
    end },
  }

  local function judge(what, expected, result, err)
    if expected == true then
      assert(result, err)
      return
    end
    if expected.either then
      if not pcall(judge, what, expected.either[1], result, err) then judge(what, expected.either[2], result, err) end
      return
    end
    assert.is_nil(result)
    assert.is_true(errors.is(err))
    local got = err.code or err.status
    if expected[2] == lies.ANY_CODE then assert.matches("^%u[%u%d_]+$", got)
    elseif type(expected[2]) == "table" then assert.is_true(expected[2][got], err.message)
    else assert.equal(expected[2], got) end
    assert.is_nil(err.message:find("CURLE_", 1, true), err.message) -- each code has its name
    assert.same({ expected[1], expected[3] }, { err.kind, err.retryable })
    assert.equal(what .. ": ", err.message:sub(1, #what + 2))
    assert.truthy(err.message:find(expected[4], 1, true), err.message)
    assert.is_nil(err.message:find(TOKEN, 1, true), err.message)
    assert.is_nil(err.message:find "%c")
  end

  -- All calls at once, each of which must end as expected, within these seconds.
  local function call_all(expected, options, least, most)
    options.token, options.max_response = TOKEN, lies.MOST_RESPONSE
    local dev <close> = tb.device(options)
    local from, outcomes = core.monotonic(), {}
    for name, call in pairs(calls) do
      tb.spawn(function()
        local result, err = call[2](dev)
        outcomes[name] = { took = core.monotonic() - from, result = result, err = err }
      end)
    end
    tb.run()
    for name, call in pairs(calls) do
      local outcome = outcomes[name]
      local of_this = options.url:find "^http:" and expected.http or expected.all or expected[name]
      judge(call[1], of_this, outcome.result, outcome.err)
      assert.is_true(outcome.took >= least and outcome.took < most, "seconds: " .. outcome.took)
    end
    assert.equal("", files())
  end

  -- The same, in little memory.
  local function try(...)
    local risen = watch_memory()
    call_all(...)
    assert.is_true(risen() < MOST_MEMORY, "bytes: " .. risen())
  end

  local function tell_truth(at)
    local dev <close> = tb.device { url = at, ca_file = e.ca_file, token = TOKEN }
    for _, call in pairs(calls) do assert(call[2](dev)) end
    os.remove(directory .. "/package")
  end

  for _, scheme in ipairs { "http", "https" } do
    describe("by " .. scheme .. ", one that", function()
      before_each(function() url = scheme == "http" and e.url or e.tls_url end)

      for _, lie in ipairs(lies) do
        it(lie[1], function()
          e:fault(lie[2])
          if lie.late then
            -- libcurl 8.22 notices ten seconds later that a download stands still.
            try(lie, { url = url, ca_file = e.ca_file, timeout = 1 }, 0.95, 15)
          else
            try(lie, { url = url, ca_file = e.ca_file, timeout = 30 }, 0, 10)
          end
          e:clear_faults()
          tell_truth(url)
        end)
      end

      it("redirects to another host is not followed there", function()
        local other = assert(socket.bind("127.0.0.1", 0))
        local _, port = other:getsockname()
        for _, code in ipairs { 301, 302, 303, 307, 308 } do
          local location = ("http://127.0.0.1:%d/%s"):format(port, TOKEN)
          e:fault { how = "redirect", status = code, headers = { Location = location } }
          try({ all = { "answer", code, true, "the server redirects" } }, { url = url, ca_file = e.ca_file }, 0, 5)
          e:clear_faults()
        end
        assert.equal(15, #e:requests())
        other:settimeout(0)
        assert.is_nil((other:accept()))
        other:close()
      end)

      describe("sends", function()
        local function values_of(text)
          local dev <close> = tb.device { url = url, ca_file = e.ca_file, token = TOKEN }
          e:fault { how = "status", status = 200, body = '{"shared":' .. text .. "}", count = 1 }
          return assert(dev:request_attributes()).shared
        end

        it("keys twice has their last values read", function()
          assert.same({ a = 3, b = 4 }, values_of '{"a":1,"b":4,"a":"x","a":3}')
        end)

        it("numbers beyond 64 bits has floats read, infinite beyond those", function()
          local ones = ("1"):rep(1e6)
          local values = values_of('{"a":9223372036854775808,"b":1e999,"c":-1e999,"d":1e-999,"e":' .. ones .. "}")
          assert.same({ a = 2.0 ^ 63, b = math.huge, c = -math.huge, d = 0.0, e = math.huge }, values)
          assert.equal("float", math.type(values.a))
        end)

        it("what is no UTF-8 has its bytes read; no error shows them", function()
          assert.same({ ["\xFF"] = "\xC3\xFE" }, values_of '{"\xFF":"\xC3\xFE"}')
          e:fault { how = "status", status = 500, body = '{"message":"\xC3\xFE"}', count = 1 }
          local dev <close> = tb.device { url = url, ca_file = e.ca_file, token = TOKEN }
          assert.truthy(utf8.len(select(2, dev:request_attributes()).message))
        end)

        it("null has null read", function()
          assert.same({ a = tb.null }, values_of '{"a":null}')
        end)
      end)
    end)
  end

  describe("by HTTP/2, one that", function()
    local two, one

    setup(function()
      one, two = e, emulator.start { ota_delay = 0 }
      two:create_device { name = "d", token = TOKEN }
      two:assign(TOKEN, "firmware", lies.PACKAGE)
    end)
    before_each(function() e = two end)
    after_each(function()
      two:clear_faults()
      e = one
    end)
    teardown(function() two:stop() end)

    local broken, last = { all = { "network", { HTTP2_STREAM = true, PARTIAL_FILE = true }, true, "" } }, nil

    for _, lie in ipairs(lies) do
      local how = lie[2].how
      local expected = (how == "status" or how == "redirect") and lie or broken
      if expected ~= last then -- one lie stands for all that break a stream
        it(expected == lie and lie[1] or "ends the stream", function()
          e:fault(lie[2])
          try(expected, { url = e.tls_url, ca_file = e.ca_file, timeout = 30 }, 0, 10)
          e:clear_faults()
          tell_truth(e.tls_url)
        end)
      end
      last = expected
    end
  end)

  describe("before any request,", function()
    local late = { all = { "timeout", "OPERATION_TIMEDOUT", true, "" } }

    for fault, words in pairs {
      expired = "certificate has expired", self_signed = "self-signed certificate",
      other_name = "no alternative certificate subject name matches",
    } do
      it("its certificate is " .. fault, function()
        local liar <close> = emulator.start { certificate = fault }
        local expected = { all = { "tls", "PEER_FAILED_VERIFICATION", false, words } }
        local ca_file = fault == "self_signed" and e.ca_file or liar.ca_file
        try(expected, { url = liar.tls_url, ca_file = ca_file, timeout = 60, connect_timeout = 60 }, 0, 60)
        if fault == "self_signed" then -- reading the system's authorities takes memory that is not the lie's
          call_all(expected, { url = liar.tls_url, timeout = 60, connect_timeout = 60 }, 0, 60)
        end
        assert.equal(0, #liar:requests())
      end)
    end

    it("its port refuses", function()
      local listener = assert(socket.bind("127.0.0.1", 0))
      local _, port = listener:getsockname()
      listener:close()
      try({ all = { "network", "COULDNT_CONNECT", true, "check the url's host and port" } },
        { url = "http://127.0.0.1:" .. port }, 0, 15)
    end)

    -- Takes no connection; its queue of them has room for two, and all but the first two are dropped.
    local function busy_listener()
      local listener = assert(socket.tcp())
      assert(listener:bind("127.0.0.1", 0))
      assert(listener:listen(1))
      local _, port = listener:getsockname()
      return listener, port
    end

    it("its port drops what comes", function()
      local listener, port = busy_listener()
      local queued = {}
      for n = 1, 4 do
        queued[n] = socket.tcp()
        queued[n]:settimeout(0.05)
        queued[n]:connect("127.0.0.1", port)
      end
      try(late, { url = "http://127.0.0.1:" .. port, timeout = 20, connect_timeout = 0.5 }, 0.45, 15)
      try(late, { url = "http://127.0.0.1:" .. port, timeout = 0.5, connect_timeout = 1 }, 0.45, 15)
      for _, one in ipairs(queued) do one:close() end
      listener:close()
    end)

    it("its handshake stalls", function()
      local listener, port = busy_listener()
      try(late, { url = "https://127.0.0.1:" .. port, timeout = 20, connect_timeout = 0.5 }, 0.45, 15)
      listener:close()
    end)

    it("its name does not resolve", function() -- its first part is too long: no name server is asked
      try({ all = { "network", "COULDNT_RESOLVE_HOST", true, "check the url's host name" } },
        { url = ("http://%s.invalid"):format(("x"):rep(64)) }, 0, 15)
    end)
  end)
end)
