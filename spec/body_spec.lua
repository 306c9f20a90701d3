local cjson = require "cjson"
local core = require "thingsboard.core"
local finalizers = require "spec.support.finalizers"

local null <const> = cjson.null
local array <const> = core.array

local function nested(level)
  local value
  for _ = 1, level do value = { value } end
  return value
end

--- The JSON of a value; or nil, the reason and the path.
local function value(any)
  local body, reason, path = core.body():value(any)
  if not body then return nil, reason, path end
  return body:text()
end

local function values(record)
  local body, reason, path = core.body():values(record)
  if not body then return nil, reason, path end
  return body:text()
end

--- Checks that a writing is refused with a reason and a path, and leaves what was written before.
local function refuses(method, input, reason, path)
  local body <const> = core.body():value("before")
  local ok, why, where = body[method](body, input)
  assert.is_nil(ok)
  assert.equal((path and path .. ": " or "") .. reason, why)
  assert.equal(path, where)
  assert.equal('"before"', body:text())
  assert.equal('"before"[1]', body:value({ 1 }):text())
end

--- Checks that a writing raises, and leaves what was written before.
local function raises(method, input, message)
  local body <const> = core.body():value("before")
  local ok, why = pcall(function() return (body[method](body, input)) end)
  assert.is_false(ok)
  assert.truthy(why:match("^[^:]+:%d+: (.*)$") == message, why)
  assert.equal('"before"', body:text())
  assert.equal('"before"[1]', body:value({ 1 }):text())
end

local NOT_UTF8 <const> = {
  "\x80", "\xBF", "a\x80", "\xC0\x80", "\xC1\xBF", "\xC2", "\xC2a", "\xC2\xC2", "\xE0\x80\x80", "\xE0\x9F\xBF",
  "\xE1\x80", "\xE1\x80a", "\xE1a\x80", "\xED\xA0\x80", "\xED\xBF\xBF", "\xF0\x80\x80\x80", "\xF0\x8F\xBF\xBF",
  "\xF1\x80\x80", "\xF1\x80\x80a", "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xF8\x88\x80\x80\x80", "\xFE", "\xFF",
  "good, then \xE2\x82",
}

describe("a body", function()
  it("is empty at first, and says what it is", function()
    local body <const> = core.body()
    assert.equal(0, #body)
    assert.equal("", body:text())
    assert.equal("thingsboard.body (0 bytes)", tostring(body))
    assert.equal("thingsboard.body (5 bytes)", tostring(body:value(12345)))
  end)

  it("is returned by what writes, so that calls follow each other", function()
    local body <const> = core.body()
    assert.equal(body, body:value(1700000000000))
    assert.equal(body, body:values({ a = 1 }))
    assert.equal(body, body:telemetry({ b = 2 }))
    assert.equal('1700000000000{"a":1}{"b":2}', body:text())
    assert.equal(#body:text(), #body)
  end)

  it("can be emptied and used again", function()
    local body <const> = core.body():value("something")
    assert.equal('"something"', body:take())
    assert.equal("[]", body:value(array {}):text())
  end)

  it("grows to its limit and not beyond", function()
    local body <const> = core.body(10)
    local why <const> = "larger than the limit of 10 bytes"
    local function full(...)
      assert.same({ nil, why, nil, n = 3 }, table.pack(...))
    end
    full(body:value(12345678901))
    assert.equal("1234567890", body:value(1234567890):text())
    full(body:value(1))
    full(body:values { a = 1 })
    assert.equal("1234567890", body:text())
    local every <const> = { "ab\n\1é\"", array {}, {}, true, false, null, 1, -2.5, { a = 1e300 } }
    local text <const> = core.body():value(every):text()
    for limit = 1, #text - 1 do
      local small <const> = core.body(limit)
      local ok, reason, path = small:value(every)
      assert.is_nil(ok)
      assert.equal(("larger than the limit of %d bytes"):format(limit), reason)
      assert.is_nil(path)
      assert.equal(0, #small)
      for _ = 1, limit do assert(small:value(1)) end
    end
    assert.equal(text, core.body(#text):value(every):text())
    assert.equal('{"a":1}', core.body(7):values({ a = 1 }):text())
    local large <const> = core.body(1 << 21)
    assert.equal((1 << 20) + 2, #assert(large:value(("x"):rep(1 << 20))))
    assert.is_nil((large:value(("\1"):rep(1 << 18))))
    assert.equal((1 << 20) + 2, #large)
  end)

  it("has room for 64 MiB unless told otherwise", function()
    local piece <const> = ("x"):rep((1 << 25) - 2) -- and two quotes
    local body <const> = core.body():value(piece):value(piece)
    local ok, why = body:value(1)
    assert.is_nil(ok)
    assert.equal("larger than the limit of 67108864 bytes", why)
    body:close()
  end)

  it("says at every limit that it is reached, and appends nothing, whatever the form", function()
    local record <const> = { a = 1, b = { 1.5, "x", c = nil }, ["\1"] = "\1\2", d = {} }
    for method, it in pairs { value = record, values = record,
      telemetry = { record, { ts = 1700000000000, values = record }, record } } do
      local text <const> = core.body()[method](core.body(), it):text()
      for limit = 1, #text + 1 do
        local small <const> = core.body(limit + 1):value(7)
        local ok, reason = small[method](small, it)
        if limit < #text then
          assert.is_nil(ok)
          assert.truthy(reason:find(("larger than the limit of %d bytes"):format(limit + 1), 1, true), reason)
          assert.equal("7", small:text())
        else
          assert.equal("7" .. text, small:text())
        end
      end
    end
  end)

  it("orders what was set in another order, and knows null from other addresses", function()
    local list <const> = {}
    for at = 9, 1, -1 do list[at] = at end
    assert.equal("[1,2,3,4,5,6,7,8,9]", value(list))
    local address <const> = debug.upvalueid(function() return list end, 1)
    assert.error_matches(function() value(address) end, "userdata cannot be sent")
    assert.equal("", core.body():text())
  end)

  it("is refused without a sensible limit", function()
    for _, limit in ipairs { 0, -1, math.mininteger, 1.5, "x", {} } do
      assert.is_false((pcall(core.body, limit)))
    end
  end)

  it("raises once it is closed", function()
    local body <const> = core.body():value("x")
    assert.is_nil(body:close())
    body:close()
    assert.equal("thingsboard.body (closed)", tostring(body))
    for _, method in ipairs { "value", "values", "text", "take" } do
      local ok, why = pcall(body[method], body, "x")
      assert.is_false(ok)
      assert.truthy(why:find("(the body was closed)", 1, true))
    end
    assert.has_error(function() return #body end)
  end)

  it("closes at the end of its scope", function()
    local kept
    do
      local body <close> = core.body():value("x")
      kept = body
    end
    assert.equal("thingsboard.body (closed)", tostring(kept))
  end)

  it("takes no other object for itself", function()
    local write <const> = core.body().value
    for _, other in ipairs { io.stdout, {}, "x", 1, null, core.checksum "MD5" } do
      assert.is_false((pcall(write, other, "x")))
    end
    assert.is_false((pcall(write)))
  end)
end)

describe("any value", function()
  for text, any in pairs {
    ["null"] = null, ["true"] = true, ["false"] = false, ["0"] = 0, ["-1"] = -1,
    ["9223372036854775807"] = math.maxinteger, ["1.5"] = 1.5, ['""'] = "", ['"text"'] = "text", ["{}"] = {},
    ["[]"] = array {}, ["[1,2,3]"] = { 1, 2, 3 },
    ['["a",null,[[]],{"b":{}}]'] = { "a", null, { array {} }, { b = {} } }, ['{"a":1}'] = { a = 1 },
    ['{"":""}'] = { [""] = "" }, ['{"1":2}'] = { ["1"] = 2 }, ["[1]"] = array { 1 },
    [ [["\"\\/\b\t\n\f\r\u0000\u0001\u001f]] .. '\x7F"'] = '"\\/\b\t\n\f\r\0\1\31\127',
    ['{"\\n":1}'] = { ["\n"] = 1 }, ['{"\\u0000":1}'] = { ["\0"] = 1 },
    ['"é€😀\u{7FF}\u{800}\u{D7FF}\u{E000}\u{FFFF}\u{10000}\u{10FFFF}"'] =
      "é€😀\u{7FF}\u{800}\u{D7FF}\u{E000}\u{FFFF}\u{10000}\u{10FFFF}",
  } do
    it("goes as " .. text, function() assert.equal(text, value(any)) end)
  end

  it("goes with every byte of its strings, wherever an escape or a long character stands", function()
    for _, special in ipairs { '"', "\\", "\0", "\31", "é", "€", "😀" } do
      for before = 0, 70 do
        local text <const> = ("x"):rep(before) .. special .. ("y"):rep(70 - before)
        assert.equal(text, cjson.decode(value { text })[1])
      end
    end
    for code = 0, 0x2FFF do
      local text <const> = utf8.char(code)
      assert(cjson.decode(value { text })[1] == text, code)
    end
  end)

  it("of many members goes whole", function()
    local list, record = {}, {}
    for i = 1, 5000 do
      list[i] = i
      record["key " .. i] = "value " .. i
    end
    assert.equal("[" .. table.concat(list, ",") .. "]", value(list))
    assert.same(record, cjson.decode(value(record)))
    list[5001] = nil
    for i = 5000, 101, -1 do list[i] = nil end
    assert.same(100, #cjson.decode(value(list)))
  end)

  it("is read without metamethods", function()
    local function never() error("called") end
    local guarded <const> = setmetatable({ a = 1 }, { __index = never, __pairs = never, __len = never, __name = "x" })
    assert.equal('{"a":1}', value(guarded))
    assert.equal('{"a":1}', values(guarded))
    assert.equal("[1,2]", value(setmetatable({ 1, 2 }, { __index = never, __len = never })))
  end)

  it("of 250 levels goes, of one more does not", function()
    local reason <const> = "more than 250 levels of tables (or one that contains itself) cannot be sent"
    assert.equal(("["):rep(249) .. "{}" .. ("]"):rep(249), value(nested(250)))
    refuses("value", nested(251), reason, ("[1]"):rep(250))
    assert.truthy(values { a = nested(249) })
    refuses("values", { a = nested(250) }, reason, "a" .. ("[1]"):rep(249))
    local cycle <const> = {}
    cycle.me = { cycle }
    refuses("value", cycle, reason, "me" .. ("[1].me"):rep(124) .. "[1]")
    assert.is_nil((value(nested(100000))))
  end)

  it("is refused for what cannot be a number, with its place", function()
    refuses("value", 0 / 0, "NaN cannot be sent")
    refuses("value", { 1, { a = { b = 1 / 0 } } }, "infinity cannot be sent", "[2].a.b")
    refuses("value", { a = { [1] = -1 / 0 } }, "-infinity cannot be sent", "a[1]")
  end)

  it("is refused for strings that are not UTF-8", function()
    local reason <const> = "a string that is not valid UTF-8 cannot be sent"
    for _, text in ipairs(NOT_UTF8) do
      refuses("value", text, reason)
      refuses("value", { x = { "good", text } }, reason, "x[2]")
      refuses("value", { x = { [text] = 1 } }, reason, "x." .. text)
      refuses("values", { x = text }, reason, "x")
      refuses("values", { [text] = 1 }, reason, text)
      assert.is_nil((value { text .. "\0 and more \xC2\x80" }))
    end
  end)

  it("raises for what is no JSON, with its place", function()
    raises("value", nil, "nil cannot be sent (null can)")
    raises("value", print, "a function cannot be sent")
    raises("value", { a = { print } }, "a[1]: a function cannot be sent")
    raises("value", { a = { b = coroutine.create(print) } }, "a.b: a thread cannot be sent")
    raises("value", { io.stdout }, "[1]: a userdata cannot be sent")
    raises("values", { a = core.body() }, "a: a userdata cannot be sent")
    assert.has_error(function() core.body():value() end)
  end)

  it("raises for tables that are neither list nor object", function()
    local function keys(input, found)
      local message <const> = "a table's keys must be strings, or 1..n without holes; this one has " .. found
      raises("value", input, message)
      raises("value", { a = { input } }, "a[1]: " .. message)
      raises("values", { a = input }, "a: " .. message)
    end
    keys({ 1, 2, nil, 4 }, "holes (null would fill them)")
    keys({ [2] = 1 }, "holes (null would fill them)")
    keys({ [1 << 60] = 1 }, "holes (null would fill them)")
    keys({ 1, a = 2 }, "both kinds")
    keys({ a = 1, b = 2, [1] = 3 }, "both kinds")
    keys({ [0] = 1 }, "the key 0")
    keys({ [-1] = 1 }, "the key -1")
    keys({ [1.5] = 1 }, "the key 1.5")
    keys({ [true] = 1 }, "a boolean as a key")
    keys({ [{}] = 1 }, "a table as a key")
    keys({ [null] = 1 }, "a userdata as a key")
    keys({ 1, [print] = 1 }, "a function as a key")
    keys(array { a = 1 }, "the key a")
    keys(array { 1, nil, 3 }, "holes (null would fill them)")
  end)
end)

describe("an array", function()
  it("is a marked table, the same one", function()
    local list <const> = {}
    assert.equal(list, array(list))
    assert.equal("thingsboard.array", getmetatable(list).__name)
    assert.equal(list, array(list))
    assert.equal("[]", value(setmetatable({}, getmetatable(list))))
  end)

  it("cannot be made of anything else", function()
    assert.has_error(function() array() end)
    assert.has_error(function() array "x" end)
    local other <const> = setmetatable({}, {})
    assert.has_error(function() array(other) end, "bad argument #1 to 'array' (the table has a metatable already)")
  end)
end)

describe("a record", function()
  it("goes as an object", function()
    assert.equal('{"temperature":21.5}', values { temperature = 21.5 })
    local record <const> = { a = 1, b = 2.0, c = "x", d = true, e = { 1, 2.0 }, f = { g = array {} }, h = null }
    local text <const> = values(record)
    for _, member in ipairs { '"a":1', '"b":2.0', '"c":"x"', '"d":true', '"e":[1,2.0]', '"f":{"g":[]}', '"h":null' } do
      assert.truthy(text:find(member, 1, true))
    end
    assert.equal(#'{"a":1,"b":2.0,"c":"x","d":true,"e":[1,2.0],"f":{"g":[]},"h":null}', #text)
  end)

  it("has numbers as they must be for the server, and nested ones whole", function()
    assert.equal('{"a":0.3}', values { a = 0.1 + 0.2 })
    assert.equal('{"a":[0.30000000000000004,1e-20]}', values { a = { 0.1 + 0.2, 1e-20 } })
    refuses("values", { sensor = 0 / 0 }, "NaN cannot be sent", "sensor")
    refuses("values", { sensor = { { 0 / 0 } } }, "NaN cannot be sent", "sensor[1][1]")
    refuses("values", { sensor = 1e19 },
      "a float of 2^63 or beyond cannot be sent: the server would store it as a string", "sensor")
    refuses("values", { sensor = 1e-13 / 3 }, "a number this small cannot be sent: the server keeps 16 decimals, "
      .. "which would change it by more than one part in two million (a smaller unit helps)", "sensor")
    refuses("values", { sensor = 3e-16 }, "a number with one digit, at the 16th decimal, cannot be sent: the server "
      .. "would store it as a string (a smaller unit helps)", "sensor")
  end)

  it("has strings without NUL, but for nested ones", function()
    local reason <const> = "a string with a NUL character cannot be sent: the server would drop or replace it"
    refuses("values", { a = "x\0" }, reason, "a")
    refuses("values", { a = "\0" }, reason, "a")
    refuses("values", { ["a\0b"] = 1 }, reason, "a\0b")
    assert.equal([[{"a":["x\u0000"]}]], values { a = { "x\0" } })
  end)

  it("is refused when it has nothing to say", function()
    local reason <const> = "nothing to send: the server drops a record without a value that is not null"
    refuses("values", {}, reason)
    refuses("values", array {}, reason)
    refuses("values", { a = null }, reason)
    refuses("values", { a = null, b = null }, reason)
    assert.equal('{"a":{}}', values { a = {} })
  end)

  it("is refused for a blank key", function()
    local reason <const> = "a blank key cannot be sent: the server would drop the message"
    local blanks <const> = { "", " ", "  \t\n\v\f\r", "\28\29\30\31", "\u{1680}", "\u{2000}", "\u{2001}",
      "\u{2002}", "\u{2003}", "\u{2004}", "\u{2005}", "\u{2006}", "\u{2008}", "\u{2009}", "\u{200A}", "\u{2028}",
      "\u{2029}", "\u{205F}", "\u{3000} \u{3000}" }
    for _, key in ipairs(blanks) do refuses("values", { [key] = 1 }, reason, key) end
    for _, key in ipairs { "a", " a", "\u{3000}a", "a ", "\u{A0}", "\u{2007}", "\u{202F}", "\u{200B}", "é", "\1",
      "\8", "\14", "\27", " \u{2000}é" } do
      assert.truthy(values { [key] = 1 })
    end
  end)

  it("is refused for a key of more than 255 UTF-16 units", function()
    local reason <const> = "a key of more than 255 characters cannot be sent: the server would drop the message"
    for _, key in ipairs { ("a"):rep(255), ("é"):rep(255), ("€"):rep(255), ("😀"):rep(127) .. "a" } do
      assert.equal('{"' .. key .. '":1}', values { [key] = 1 })
    end
    for _, key in ipairs { ("a"):rep(256), ("é"):rep(256), ("😀"):rep(128), ("a"):rep(100000) } do
      refuses("values", { [key] = 1 }, reason, key)
    end
    assert.truthy(values { a = { [("a"):rep(300)] = 1 } })
  end)

  it("is refused for a key with a template", function()
    local reason <const> = "a key with {{...}} cannot be sent: the server would drop the message"
    for _, key in ipairs { "{{a}}", "{{}}", "x{{a}}y", "{{{a}}}", "a{b{{c}d}}", "{{a}{{b}}", "{ {{ }}" } do
      refuses("values", { [key] = 1 }, reason, key)
    end
    for _, key in ipairs { "{a}", "{{a}", "{a}}", "}}{{", "{{", "}}", "{", "a{", "{{}", "{}{}" } do
      assert.truthy(values { [key] = 1 })
    end
    assert.truthy(values { a = { ["{{a}}"] = 1 } })
  end)

  it("is refused when the server would take it for a time and values", function()
    refuses("values", { ts = 1, values = { a = 1 } },
      "the keys ts and values cannot be sent together: the server would take them for a time and its values", "ts")
    assert.equal('{"ts":1}', values { ts = 1 })
    assert.equal('{"values":{"ts":1,"values":2}}', (values({ values = { ts = 1, values = 2 } })
      :gsub('"values":2,"ts":1', '"ts":1,"values":2')))
  end)

  it("raises when it is no table of named values", function()
    raises("values", { 1, 2 }, "the keys of values must be strings; here is a number")
    raises("values", { [true] = 2 }, "the keys of values must be strings; here is a boolean")
    assert.has_error(function() core.body():values() end)
    assert.has_error(function() core.body():values("x") end)
  end)
end)

describe("a body that a finalizer uses in the midst of writing", function()
  local records = {}
  for n = 1, 300 do records[n] = { ts = 1700000000000 + n, values = { text = ("x"):rep(50) } } end
  local function text(list)
    local body = core.body()
    assert(body:telemetry(list))
    return body:take()
  end
  local expected = text(records)

  local uses = {
    ["writes there, and takes it"] = function(body) body:telemetry { a = ("y"):rep(2000) } return body:take() end,
    ["empties it"] = function(body) body:take() end,
    ["closes it"] = function(body) body:close() end,
  }
  for what, use in pairs(uses) do
    it("is whole all the same when that " .. what, function()
      for at = 1, 20 do
        local body, within = core.body(), nil
        local _, ok, written = finalizers.at(at, function() within = use(body) end, function()
          return body:telemetry(records) and body:take()
        end)
        if ok then assert.equal(expected, written) else assert.truthy(written:find("closed", 1, true), written) end
        assert.is_true(within == nil or within == '{"a":"' .. ("y"):rep(2000) .. '"}', within)
      end
    end)
  end
end)
