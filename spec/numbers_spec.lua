local core = require "thingsboard.core"
local scratch = require "spec.support.scratch"
local server = require "spec.support.server_numbers"

local body = core.body()

local function emptied()
  body:take()
  return body
end

--- The number's text as the value of a telemetry key; or nil and the reason.
local function written(value)
  local ok, reason, key = emptied():values { v = value }
  if ok then return assert(body:text():match('^{"v":(.*)}$')) end
  assert(key == "v" and #body == 0)
  return nil, (assert(reason:match("^v: (.*)$")))
end

local function nested(value)
  return assert(emptied():value(value)):text()
end

local function rounded(value)
  return tonumber((("%.16f"):format(value)))
end

--- Why a float cannot be stored as what it is; nil when it can.
local function fault(value)
  local size <const> = math.abs(value)
  if value ~= value then return "NaN cannot be sent" end
  if size == math.huge then return value > 0 and "infinity cannot be sent" or "-infinity cannot be sent" end
  if size >= 2.0 ^ 63 then return "a float of 2^63 or beyond" end
  if size == 0 or size >= 1e-9 then return nil end
  if math.abs(rounded(size) - size) * 2e6 > size then return "a number this small" end
  if ("%.16f"):format(size):find("^0%.0+[1-9]$") then return "a number with one digit, at the 16th decimal" end
end

--- The shortest digits that read back: those of the C library, which this Lua's text of numbers comes from.
local function significant(value)
  for precision = 15, 17 do
    local text <const> = ("%%.%dg"):format(precision):format(value)
    if tonumber(text) == value then return precision end
  end
end

local function digits_of(text)
  return #text:gsub("[eE].*", ""):gsub("[-.]", ""):gsub("^0+", ""):gsub("0+$", "")
end

--- What is wrong with how a float is written; nil when all is well.
local function wrong(value)
  local text, reason = written(value)
  local expected <const> = fault(value)
  if expected then
    return not (reason and reason:find(expected, 1, true)) and ("refused by " .. tostring(reason or text))
  end
  if not text then return "refused: " .. reason end
  local pattern <const> = math.abs(value) > 2.0 ^ 53 and "^-?%d+$" or "^-?%d+%.%d+$"
  if not text:find(pattern) or #(text:match "%.(%d+)$" or "") > 16 then return "written as " .. text end
  if math.abs(value) < 1 and tonumber(text) ~= value and tonumber(text) ~= rounded(value) then
    return "rounded to " .. text
  end
  if math.abs(value) >= 1 and tonumber(text) ~= value then return "changed to " .. text end
  if digits_of(text) > 17 and value ~= math.floor(value) then return "too many digits: " .. text end
  local kind, stored = server.stored(text)
  if value == math.floor(value) then
    if kind ~= (math.abs(value) < 1e7 and "DOUBLE" or "LONG") then return "stored as " .. kind end
    if kind == "LONG" then return stored ~= math.tointeger(value) and "stored as " .. stored end
    return stored ~= value and "stored as " .. stored
  end
  if kind ~= "DOUBLE" then return "stored as " .. kind end
  return stored ~= tonumber(text) and "stored as " .. stored
end

local function wrong_nested(value)
  local text <const> = nested(value)
  local read <const> = tonumber(text)
  if math.type(read) ~= "float" or read ~= value then return "written as " .. text end
  if 1 / read ~= 1 / value then return "lost its sign: " .. text end
  if value == math.floor(value) and math.abs(value) < 2.0 ^ 63 then return end
  -- A power of two may have a shorter text that is not the nearest one: there one digit more is allowed.
  local power <const> = ("%a"):format(value):find("0x1p", 1, true)
  return digits_of(text) > significant(value) + (power and 1 or 0) and "too many digits: " .. text
end

local function random_bits()
  local value
  repeat value = string.unpack("<d", string.pack("<i8", math.random(0))) until value == value
  return value
end

local function near(value)
  local bits <const> = string.unpack("<i8", string.pack("<d", value))
  return (string.unpack("<d", string.pack("<i8", bits + math.random(-4, 4))))
end

local SHAPES <const> = {
  ["random bit patterns"] = random_bits,
  ["uniform of all magnitudes"] = function() return (math.random() - 0.5) * 10.0 ^ math.random(-18, 21) end,
  ["decimals as sensors give them"] = function()
    return tonumber(("%d.%d"):format(math.random(-1000000, 1000000), math.random(0, 9999)))
  end,
  ["decimals of any length"] = function()
    local digits <const> = math.random(1, 17)
    return tonumber(("%de%d"):format(math.random(1, 10 ^ digits // 1 | 0), math.random(-18, 2) - digits // 2))
  end,
  ["results of arithmetic"] = function() return math.random(1, 1000) * 0.1 / math.random(1, 1000) end,
  ["near powers of ten"] = function() return near(tonumber("1e" .. math.random(-20, 20))) end,
  ["near powers of two"] = function() return near(2.0 ^ math.random(-70, 70)) end,
  ["near the borders"] = function()
    local borders <const> = { 1e7, 1e-3, 1e-10, 1e-16, 0.1, 1.0, 2.0 ^ 53, 2.0 ^ 63, 1e16 }
    return near(borders[math.random(#borders)] * math.random(1, 3))
  end,
  ["few digits at the end"] = function() return math.random(1, 300) / 10.0 ^ math.random(13, 18) end,
  ["whole floats"] = function() return (math.random(0) >> math.random(0, 63)) * (math.random(2) * 2.0 - 3.0) end,
}

describe("numbers", function()
  describe("in the model of the server", function()
    for line in io.lines("spec/data/numbers.txt") do
      local text, first, stored = line:match("^([^#].-) | (.-) | (.*)$")
      if text then
        it("are read as the server does: " .. text, function()
          local quoted <const> = text:match('^"(.*)"$')
          local kind, value = server.read(quoted or text, quoted)
          assert.equal(first, server.show(kind, value))
          assert.equal(stored, server.show(server.stored(quoted or text, quoted)))
        end)
      end
    end
  end)

  describe("as values of keys", function()
    for shape, pick in pairs(SHAPES) do
      it("are stored as what they are, or refused by name: " .. shape, function()
        math.randomseed(20240229)
        for _ = 1, 12000 do
          local value <const> = pick()
          local what <const> = wrong(value)
          if what then error(("%.17g (%a) %s"):format(value, value, what)) end
        end
      end)
    end

    it("of 64 bits go as their digits and are stored as integers", function()
      math.randomseed(20240229)
      local function check(value)
        local text <const> = written(value)
        assert(text == ("%d"):format(value), text)
        local kind, stored = server.stored(text)
        assert(kind == "LONG" and stored == value, text)
      end
      for _ = 1, 10000 do check(math.random(0) >> math.random(0, 63)) end
      for _ = 1, 10000 do check(-(math.random(0) >> math.random(1, 63))) end
      for _, value in ipairs { 0, -1, 9, 10, 99, 100, math.maxinteger, math.mininteger, 9007199254740993 } do
        check(value)
      end
      for exponent = 0, 18 do
        local power <const> = math.tointeger(10 ^ exponent)
        for offset = -1, 1 do check(power + offset) check(-power + offset) end
      end
    end)

    for text, value in pairs {
      ["0.0"] = 0.0, ["42.0"] = 42.0, ["-17.0"] = -17.0, ["21.5"] = 21.5, ["-0.05"] = -0.05, ["0.3"] = 0.1 + 0.2,
      ["0.1"] = 0.1, ["0.3333333333333333"] = 1 / 3, ["0.6666666666666666"] = 2 / 3, ["33.333333333333336"] = 100 / 3,
      ["10000000.0"] = 1e7, ["1000000000000000.0"] = 1e15, ["9007199254740992.0"] = 2.0 ^ 53,
      ["4611686018427387904"] = 2.0 ^ 62, ["9223372036854774784"] = 9223372036854774784.0,
      ["9007199254740994"] = 2.0 ^ 53 + 2, ["-606151253499746432"] = -606151253499746432.0,
      ["123456789.125"] = 123456789.125, ["0.00001"] = 1e-5, ["0.0000000000015"] = 1.5e-12,
      ["0.0000000000000012"] = 1.2e-15, ["0.001"] = 0.001, ["0.0000000001"] = 1e-10, ["3.141592653589793"] = math.pi,
      ["0.9999999999999999"] = 1 - 2.0 ^ -53, ["0.0000000596046448"] = 2.0 ^ -24,
    } do
      it(("go as %s"):format(text), function() assert.equal(text, written(value)) end)
    end

    it("keep the sign of zero", function() assert.equal("-0.0", written(-0.0)) end)
    it("are rounded up to fewer digits", function() assert.equal("0.1", written(0.09999999999999999)) end)

    for name, value in pairs {
      NaN = 0 / 0, infinity = math.huge, ["-infinity"] = -math.huge, ["2^63"] = 2.0 ^ 63, ["-2^63"] = -2.0 ^ 63,
      ["1e300"] = 1e300, ["a third of 1e-10"] = 1e-10 / 3, ["5e-324"] = 5e-324, ["-1e-17"] = -1e-17,
      ["1e-16"] = 1e-16, ["-9e-16"] = -9e-16,
    } do
      it("are refused with a reason: " .. name, function()
        local text, reason = written(value)
        assert.is_nil(text)
        assert.truthy(reason:find(fault(value), 1, true))
      end)
    end
  end)

  describe("in nested values", function()
    for shape, pick in pairs(SHAPES) do
      it("keep all their digits and stay floats: " .. shape, function()
        math.randomseed(20240301)
        for _ = 1, 5000 do
          local value <const> = pick()
          if math.abs(value) < math.huge then
            local what <const> = wrong_nested(value)
            if what then error(("%.17g (%a) %s"):format(value, value, what)) end
          end
        end
      end)
    end

    for text, value in pairs {
      ["42.0"] = 42.0, ["0.30000000000000004"] = 0.1 + 0.2, ["1e300"] = 1e300, ["5e-324"] = 5e-324,
      ["1.7976931348623157e308"] = 1.7976931348623157e308, ["9.223372036854776e18"] = 2.0 ^ 63,
      ["0.00001"] = 1e-5, ["1e-6"] = 1e-6, ["1.25e-7"] = 1.25e-7, ["1000000000000000000.0"] = 1e18,
      ["9.313225746154785e-10"] = 2.0 ^ -30, -- the nearest with as many digits is another
      ["2.2250738585072014e-308"] = 2.2250738585072014e-308, ["-1e22"] = -1e22,
    } do
      it(("go as %s"):format(text), function() assert.equal(text, nested(value)) end)
    end

    it("keep the sign of zero", function() assert.equal("-0.0", nested(-0.0)) end)
    it("of 64 bits go as their digits", function() assert.equal("-9223372036854775808", nested(math.mininteger)) end)
  end)

  describe("in strings", function()
    local function goes(text)
      local ok, reason, key = emptied():values { v = text }
      if not ok then assert(key == "v" and reason:find("a string of these digits", 1, true), reason) end
      return ok ~= nil and ok ~= false
    end

    it("go when the server keeps what they say, and are refused by name otherwise", function()
      for _, text in ipairs { "042", "1.50", ".5", "-0.0", "0.1", "1.", "1.2.3", "1.5e3", "+1.5", " 1.5", "48.123456",
        "3.14159265358979312", "99999999999999999999", "0.10000000000000000000", "192.168.0.1", "9007199254740991.0",
        "-1234567.25", "", ".", "-.", "-", "1.5\u{661}" } do
        assert.is_true(goes(text), text)
      end
      for _, text in ipairs { "12345678901234567890.5", "99999999999999999999.0", "9007199254740993.0",
        "48.1234567890123456", "0.0000000000000001", "-0.0000000000000003", "1000000000000000000000000.0" } do
        assert.is_false(goes(text), text)
      end
      math.randomseed(20240229)
      for _ = 1, 20000 do
        local digits <const> = tostring(math.random(0) >> math.random(0, 63))
        local zeros <const> = ("0"):rep(math.random(0, 9) - 4)
        local point <const> = math.random(0, #digits)
        local text <const> = (math.random(2) == 1 and "-" or "") .. zeros .. digits:sub(1, point) .. "."
          .. digits:sub(point + 1) .. (math.random(4) == 1 and zeros or "")
        assert.equal(server.keeps(text), goes(text), text)
      end
    end)
  end)

  it("do not depend on the locale's decimal point", function()
    local folder <const> = scratch.new()
    local made <const> = os.execute(("localedef -i de_DE -f UTF-8 %s/de_DE.UTF-8 >%s/log 2>&1")
      :format(folder, folder))
    local script <const> = [[
      local core = require "thingsboard.core"
      if not os.setlocale("de_DE.UTF-8") or tostring(1 / 2) ~= "0,5" then return print "no such locale" end
      local small = 5e-20 / 3
      print(core.body():value { 1 / 2, small, 1 / 3 }:values { a = 1 / 3 }:text())
    ]]
    local answer
    if made then
      local child <const> = io.popen(("LOCPATH=%s LC_ALL=C lua5.4 -e '%s'"):format(folder, script))
      answer = child:read("a")
      child:close()
    end
    scratch.remove(folder)
    if not made or answer == "no such locale\n" then return pending("no locale with a decimal comma can be made") end
    assert.equal(('[0.5,%.17g,0.3333333333333333]{"a":0.3333333333333333}\n'):format(5e-20 / 3), answer)
  end)
end)
