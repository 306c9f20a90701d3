-- What is read is exact, on every build of lua-cjson.
local cjson = require "cjson"
local core = require "thingsboard.core"
local json = require "thingsboard.json.decode"

describe("json.decode", function()
  local function read(text)
    local value, reason = json.decode(text)
    assert(value ~= nil, reason)
    return value
  end

  local function is(kind, value, text)
    local found = read(text)
    assert.equal(value, found, text)
    assert.equal(kind, math.type(found), text)
  end

  it("keeps integers to the last of 64 bits", function()
    for _, pair in ipairs {
      { "0", 0 }, { "-0", 0 }, { "73", 73 }, { "9007199254740993", 9007199254740993 },
      { "9223372036854775807", math.maxinteger }, { "-9223372036854775808", math.mininteger },
    } do is("integer", pair[2], pair[1]) end
  end)

  it("takes what has a point or an exponent, or is beyond 64 bits, for floats", function()
    for _, pair in ipairs {
      { "42.0", 42.0 }, { "1e3", 1000.0 }, { "-1.5E-3", -0.0015 }, { "9223372036854775808", 2.0 ^ 63 },
      { "1e400", math.huge }, { "0.1", 0.1 },
    } do is("float", pair[2], pair[1]) end
  end)

  it("does so inside of objects and arrays", function()
    local value = read '{"a":[1,2.0,{"b":9007199254740993}],"7":8}'
    assert.equal("integer", math.type(value.a[1]))
    assert.equal("float", math.type(value.a[2]))
    assert.equal(9007199254740993, value.a[3].b)
    assert.equal(8, value["7"])
  end)

  it("leaves keys as they are: none at all, and those that begin with what is not printed", function()
    local value = read '{"":1,"\\u0000a":2,"\\u0001a":3,"\\u0002a":{"":4}}'
    assert.same({ [""] = 1, ["\0a"] = 2, ["\1a"] = 3, ["\2a"] = { [""] = 4 } }, value)
  end)

  it("leaves strings alone, digits and escapes in them", function()
    for _, text in ipairs { "12", "1.0", "\\\"12\\\"", "\\\\", "x\\\\\\\" 5, 6",
      "\\u0001" .. "12", "[1]", "\\u00e9 9" } do
      local value = read('{"k":"' .. text .. '","n":7}')
      assert.equal(cjson.decode('"' .. text .. '"'), value.k)
      assert.equal(7, value.n)
    end
    assert.equal("23", read '{"23":"23"}'["23"])
  end)

  it("tells keys and strings with a control character in front from numbers", function()
    local text, wanted = { '{"a":"\\u00015","b":"\\u0001\\u00016"' }, { a = "\1" .. "5", b = "\1\1" .. "6" }
    for n = 1, 9 do
      text[n + 1] = ('"%s":%d'):format(("\\u0001"):rep(n), n)
      wanted[("\1"):rep(n)] = n
    end
    assert.same(wanted, read(table.concat(text, ",") .. "}"))
    assert.same({ "\1" .. "5", "\1[", core.array {} }, read '["\0015","\1[",[]]') -- raw, as lua-cjson takes it
  end)

  it("keeps empty arrays apart from empty objects, so that both go back as they came", function()
    for _, text in ipairs { "[]", "{}", '{"a":[]}', '{"a":{}}', "[[],{},[[]]]", '{"a":[1,[],{"b":[]}],"c":"[]"}' } do
      local body = core.body()
      assert(body:value(read(text)))
      assert.equal(#text, #body:text())
      assert.same(read(text), read(body:text()))
      assert.equal(select(2, text:gsub("%[%]", "")), select(2, body:text():gsub("%[%]", "")))
    end
    assert.is_false(json.is_object(read "[ \n]"))
    assert.is_true(json.is_object(read "{}"))
    assert.equal("\1[", read '{"a":"\\u0001[","b":[]}'.a)
    for _, bad in ipairs { "{[]:1}", "[][]", "[[]", "[] ]", "[,]" } do assert.is_nil((json.decode(bad)), bad) end
  end)

  it("gives null for null", function()
    assert.equal(json.null, read "null")
    assert.equal(json.null, read('{"a":null}').a)
  end)

  it("says what is wrong with a text that is no JSON", function()
    for _, text in ipairs {
      "", " ", "{", "[1,", "nul", '{"a":}', "1 2", '"\1', ("["):rep(10000), "[1.]", "[.5]", "[+1]", "[01]",
      "{1:2}", '{"a":1,2 :3}', "[1-2]", "[1.e5]", "[1e5.3]", "[0x10]", "[-]",
      "[NaN]", "[-Infinity]", "{}\0", "[1,2]\0]", "2\0",
      '{"a":1.,"b":"\\u0001x"}',
    } do
      local value, reason = json.decode(text)
      assert.is_nil(value, text)
      assert.is_string(reason)
    end
  end)

  it("says where a text is no JSON that lua-cjson might let pass", function()
    for text, said in pairs {
      ['{"a":[],[ ]:1}'] = "an array for a key at character 9", ['[[],"a",01]'] = "invalid number at character 9",
      ['{"a":[],"b":{ 2 :3}}'] = "a number for a key at character 15", ["[1,2]\0"] = "a NUL character",
    } do
      assert.same({ nil, said }, { json.decode(text) })
    end
  end)

  it("reads back what the writer writes, whatever it is", function()
    math.randomseed(20)
    local function any(depth)
      local kind = math.random(depth > 4 and 5 or 7)
      if kind == 1 then return math.random(math.mininteger, math.maxinteger) end
      if kind == 2 then return (math.random() - 0.5) * 10.0 ^ math.random(-30, 30) end
      if kind == 3 then return math.random() < 0.5 end
      if kind == 4 then return json.null end
      local text = {}
      for n = 1, math.random(0, 12) do text[n] = utf8.char(math.random(1, 0x2FF)) end
      if kind == 5 then return table.concat(text) end
      local made = {}
      for n = 1, math.random(1, 5) do made[kind == 6 and n or table.concat(text) .. n] = any(depth + 1) end
      return made
    end
    for _ = 1, 2000 do
      local value = any(0)
      local body = core.body()
      assert(body:value(value))
      assert.same(value, read(body:text()))
    end
  end)

  it("does as well on a build that is exact already, but for what is beyond 64 bits", function()
    local seen = {}
    local exact = { null = cjson.null, new = function()
      return { null = cjson.null, decode_invalid_numbers = function() end, decode = function(text)
        seen[#seen + 1] = text
        if text:find "u0001" then return cjson.decode(text) end
        return { 1, 42.0, math.maxinteger, 9007199254740993 }
      end }
    end }
    package.loaded["cjson"], package.loaded["thingsboard.json.decode"] = exact, nil
    local again = require "thingsboard.json.decode"
    package.loaded["cjson"], package.loaded["thingsboard.json.decode"] = cjson, json
    assert.equal(42.0, again.decode("[1,42.0]")[2])
    assert.equal("[1,42.0]", seen[#seen]) -- handed on as it is
    assert.equal(2.0 ^ 63, again.decode("[9223372036854775808]")[1])
  end)
end)
