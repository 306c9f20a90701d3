local emulator = require "spec.support.emulator"
local socket = require "socket"
local tb = require "thingsboard"

describe("send_telemetry", function()
  local e, dev

  setup(function()
    e = emulator.start()
    dev = tb.device { url = e.url, token = e.token }
  end)

  teardown(function()
    dev:close()
    e:stop()
  end)

  before_each(function() e:create_device { name = "t", token = "T" } end)
  after_each(function() e:delete_device "T" end)

  local function stored(body)
    local to = tb.device { url = e.url, token = "T" }
    assert.is_true(select(1, assert(to:send_telemetry(body))))
    to:close()
    local found = {}
    for _, record in ipairs(e:telemetry "T") do
      found[record.key] = record.type .. " " .. record.value
      found.ts = not record.server_ts and record.ts or nil
    end
    return found
  end

  it("stores each type as it is", function()
    assert.same({
      text = "STRING warm", on = "BOOL true", count = "LONG 73", big = "LONG 9223372036854775807",
      temperature = "DOUBLE 21.5", whole = "DOUBLE 42.0", list = "JSON [1,2.5]", empty = "JSON []",
      object = 'JSON {"a":1}',
    }, stored {
      text = "warm", on = true, count = 73, big = math.maxinteger, temperature = 21.5, whole = 42.0,
      list = { 1, 2.5 }, empty = tb.array {}, object = { a = 1 },
    })
  end)

  it("takes an envelope with a time of its own", function()
    assert.same({ ts = 1700000000000, a = "LONG 1" }, stored { ts = 1700000000000, values = { a = 1 } })
    assert.same({ ts = 1700000000000, a = "LONG 1" }, stored { ts = 1700000000000.0, values = { a = 1 } })
    for _, ts in ipairs { 100000000000, 99999999999999 } do -- the first and the last that can be milliseconds
      assert.same({ ts = ts, a = "LONG 1" }, stored { ts = ts, values = { a = 1 } })
    end
  end)

  it("takes a list that mixes records and envelopes", function()
    local to = tb.device { url = e.url, token = "T" }
    assert(to:send_telemetry {
      { ts = 1700000000000, values = { a = 1 } }, { b = 2 }, { ts = tb.now(), values = { c = 3 } },
    })
    local seen = {}
    for _, record in ipairs(e:telemetry "T") do seen[record.key] = record.server_ts end
    assert.same({ a = false, b = true, c = false }, { a = seen.a, b = seen.b, c = seen.c })
  end)

  it("takes JSON text", function()
    assert.same({ a = "LONG 1" }, stored '{"a":1}')
    assert.same({ ts = 1700000000001, a = "DOUBLE 1.0" }, stored '[{"ts":1700000000001,"values":{"a":1.0}}]')
  end)

  it("takes a key named ts or values alone for a value", function()
    local to = tb.device { url = e.url, token = "T" }
    assert(to:send_telemetry { values = 2 })
    assert(to:send_telemetry { ts = 5 })
    local keys = {}
    for _, record in ipairs(e:telemetry "T") do keys[record.key] = record.value end
    assert.same({ values = "2", ts = "5" }, keys)
  end)

  describe("refuses, and sends nothing:", function()
    local function refused(value, words)
      e:clear()
      local ok, err = dev:send_telemetry(value)
      assert.is_nil(ok)
      assert.equal("value", err.kind)
      assert.is_false(err.retryable)
      assert.truthy(tostring(err):find(words, 1, true), tostring(err))
      assert.equal(0, #e:requests())
    end

    it("NaN and infinities, by key", function()
      refused({ a = 1, temperature = 0 / 0 }, "temperature: NaN")
      refused({ pressure = math.huge }, "pressure")
      refused({ { b = 1 }, { ts = tb.now(), values = { humidity = -math.huge } } }, "record 2: humidity")
    end)

    it("a time that can only be seconds", function()
      refused({ ts = os.time(), values = { a = 1 } }, "milliseconds")
      refused({ { a = 1 }, { ts = 99999999999, values = { a = 1 } } }, "record 2: ts = 99999999999 can only be seconds")
    end)

    it("a time that can only be microseconds or nanoseconds", function()
      refused({ ts = tb.now() * 1000, values = { a = 1 } }, "can only be microseconds; it must be milliseconds")
      refused({ { a = 1 }, { ts = tb.now() * 1000000, values = { a = 1 } } }, "record 2: ts = ")
      refused({ ts = math.maxinteger, values = { a = 1 } }, "can only be nanoseconds")
      refused({ ts = 100000000000000, values = { a = 1 } }, "can only be microseconds")
      refused({ ts = 99999999999999999, values = { a = 1 } }, "can only be microseconds")
      refused({ ts = 100000000000000000, values = { a = 1 } }, "can only be nanoseconds")
    end)

    it("a time beside values that are in no table of theirs", function()
      refused({ ts = tb.now(), temperature = 21.5 }, "write {ts = ..., values = {...}}")
      refused({ ts = tostring(tb.now()), temperature = 21.5 }, "write {ts = ..., values = {...}}")
      refused({ { a = 1 }, { ts = tb.now(), temperature = 21.5 } }, "record 2: ts stands beside values")
    end)

    it("strings of digits that the server would store as another number", function()
      for _, text in ipairs { "12345678901234567890.5", "99999999999999999999.0", "9007199254740993.0" } do
        refused({ a = 1, serial = text }, "serial: a string of these digits cannot be sent: the server would store "
          .. "another number (fewer digits, or a character that is none, help)")
      end
    end)

    it("nothing", function()
      refused({}, "nothing to send")
      refused({ a = tb.null }, "nothing to send")
      refused({ {} }, "nothing to send")
      refused({ a = 1, [""] = 2 }, "key")
      refused(tb.array {}, "nothing to send")
      refused("[]", "nothing to send")
      refused("{}", "nothing to send")
    end)

    it("what the server would drop without a word", function()
      refused({ [("k"):rep(256)] = 1 }, "255")
      refused({ [" "] = 1 }, "blank")
      refused({ a = "\xFF" }, "a: ")
      refused({ ts = tb.now(), values = { ts = 5, values = { a = 1 } } }, "a time and its values")
    end)

    it("text that is no JSON, or no object", function()
      refused('{"a":', "not JSON")
      refused("5", "object")
      refused('{"a":NaN}', "not JSON")
    end)
  end)

  it("raises for what can only be a mistake", function()
    assert.has_error(function() dev:send_telemetry(5) end, "send_telemetry: a table or JSON text expected, got number")
    assert.has_error(function() dev:send_telemetry() end, "send_telemetry: a table or JSON text expected, got nil")
    assert.error_matches(function() dev:send_telemetry { a = print } end, "a: .*function")
    assert.error_matches(function() dev:send_telemetry { { a = 1 }, 5 } end, "record 2: must be a table, got number")
    for _, ts in ipairs { "now", "1700000000000", 1700000000000.5 } do
      assert.error_matches(function() dev:send_telemetry { ts = ts, values = { a = 1 } } end, "ts must be an integer")
    end
    assert.error_matches(function() dev:send_telemetry { ts = tb.now(), values = 5 } end, "values must be a table")
    assert.error_matches(function() dev:send_telemetry { ts = tb.now(), values = { a = 1 }, x = 1 } end,
      "key 'x' beside")
  end)

  it("raises in the name of the call, at its line, whatever is wrong in it", function()
    for value, words in next, {
      [{ a = print }] = "a: a function cannot be sent",
      [{ 5 }] = "record 1: must be a table, got number",
      [{ { a = 1 }, { b = { c = print } } }] = "record 2: b.c: a function cannot be sent",
      [{ { ts = tb.now(), values = { a = 1 }, [5] = 1 } }] = "record 1: key '5' beside ts and values: the server would "
        .. "drop it",
    } do
      local line = debug.getinfo(1, "l").currentline + 1
      local ok, message = pcall(function() return (dev:send_telemetry(value)) end)
      assert.is_false(ok)
      assert.equal(("spec/telemetry_spec.lua:%d: send_telemetry: %s"):format(line, words), message)
    end
    local line = debug.getinfo(1, "l").currentline + 1
    local _, message = pcall(function() return (dev:send_attributes { [1] = 2 }) end)
    assert.equal(("spec/telemetry_spec.lua:%d: send_attributes: the keys of values must be strings; here is a number")
      :format(line), message)
    assert(dev:send_telemetry { a = 1 }) -- nothing is left of what was refused
  end)

  it("sends a large list in one request", function()
    local list = {}
    for n = 1, 5000 do list[n] = { ts = 1700000000000 + n, values = { n = n } } end
    local to = tb.device { url = e.url, token = "T" }
    e:clear()
    assert(to:send_telemetry(list))
    assert.equal(1, #e:requests())
    local deadline = os.time() + 20
    local count
    repeat count = #e:telemetry "T" until count == 5000 or os.time() > deadline -- the server stores behind its answer
    assert.equal(5000, count)
  end)

  it("tells tb.now() in milliseconds", function()
    assert.equal("integer", math.type(tb.now()))
    local before <const>, now <const>, after <const> = socket.gettime(), tb.now(), socket.gettime()
    assert.is_true(before * 1000 - 1 <= now and now < after * 1000 + 1, now)
  end)
end)
