--- A second reader of JSON, by the letter of RFC 8259, to compare with: slow, and free of tricks. Three things are as
-- lua-cjson has them, and no harm: control characters but NUL, and bytes that are not UTF-8, may stand in a string; a
-- number's size has no limit; 1000 levels are the most.
local core = require "thingsboard.core"
local json = require "thingsboard.json.decode"

local MOST_LEVELS = 1000

local function fail(at, what)
  error({ reason = what .. " at " .. at }, 0)
end

local function blanks(text, at)
  return text:match("^[ \t\r\n]*()", at)
end

local plain = { b = "\b", f = "\f", n = "\n", r = "\r", t = "\t", ['"'] = '"', ["\\"] = "\\", ["/"] = "/" }

local function hex(text, at)
  return tonumber(text:match("^\\u(%x%x%x%x)", at) or fail(at, "an escape"), 16)
end

local function escape(text, at)
  local letter = plain[text:sub(at + 1, at + 1)]
  if letter then return letter, at + 2 end
  local unit = hex(text, at)
  if unit < 0xD800 or unit > 0xDFFF then return utf8.char(unit), at + 6 end
  local low = unit < 0xDC00 and hex(text, at + 6)
  if not low or low < 0xDC00 or low > 0xDFFF then fail(at, "half a pair") end
  return utf8.char(0x10000 + (unit - 0xD800) * 0x400 + low - 0xDC00), at + 12
end

local function read_string(text, at)
  local parts = {}
  at = at + 1
  while true do
    parts[#parts + 1], at = text:match('^([^"\\\0]*)()', at)
    local stop = text:sub(at, at)
    if stop == '"' then return table.concat(parts), at + 1 end
    if stop ~= "\\" then fail(at, "a string's end") end
    parts[#parts + 1], at = escape(text, at)
  end
end

local function read_number(text, at)
  local whole, after = text:match("^(%-?%d+)()", at)
  if not whole or whole:find("^%-?0%d") then fail(at, "a number") end
  local number, stop = whole, after
  local fraction, behind = text:match("^(%.%d+)()", stop)
  if fraction then number, stop = number .. fraction, behind end
  local exponent, last = text:match("^([eE][+-]?%d+)()", stop)
  if exponent then number, stop = number .. exponent, last end
  return tonumber(number), stop
end

local read

local function read_array(text, at, level)
  local list = core.array {}
  at = blanks(text, at + 1)
  if text:sub(at, at) == "]" then return list, at + 1 end
  while true do
    list[#list + 1], at = read(text, at, level)
    local stop = text:sub(at, at)
    if stop == "]" then return list, at + 1 end
    if stop ~= "," then fail(at, "an array's end") end
    at = at + 1
  end
end

local function read_object(text, at, level)
  local object = {}
  at = blanks(text, at + 1)
  if text:sub(at, at) == "}" then return object, at + 1 end
  while true do
    at = blanks(text, at)
    if text:sub(at, at) ~= '"' then fail(at, "a key") end
    local key, after = read_string(text, at)
    at = blanks(text, after)
    if text:sub(at, at) ~= ":" then fail(at, "a colon") end
    object[key], at = read(text, at + 1, level)
    local stop = text:sub(at, at)
    if stop == "}" then return object, at + 1 end
    if stop ~= "," then fail(at, "an object's end") end
    at = at + 1
  end
end

-- The value with the blanks around it.
function read(text, at, level)
  at = blanks(text, at)
  local first = text:sub(at, at)
  local value
  if first == "{" or first == "[" then
    if level == MOST_LEVELS then fail(at, "too many levels") end
    value, at = (first == "{" and read_object or read_array)(text, at, level + 1)
  elseif first == '"' then
    value, at = read_string(text, at)
  elseif first == "t" or first == "f" or first == "n" then
    local word = text:match("^true", at) or text:match("^false", at) or text:match("^null", at) or fail(at, "a word")
    if word == "null" then value = json.null else value = word == "true" end
    at = at + #word
  else
    value, at = read_number(text, at)
  end
  return value, blanks(text, at)
end

local reference = {}

--- As `json.decode`; arrays have the core's mark.
function reference.decode(text)
  local ok, value, at = pcall(read, text, 1, 0)
  if ok and at <= #text then ok, value = false, { reason = "more than a value at " .. at } end
  if ok then return value end
  if type(value) ~= "table" then error(value, 0) end
  return nil, value.reason
end

--- Whether two values are the same, kinds of numbers too. `equal` compares floats, exactly when absent.
function reference.same(one, other, equal)
  if math.type(one) == "float" and math.type(other) and equal then return equal(one, other) end
  if math.type(one) ~= math.type(other) or type(one) ~= type(other) then return false end
  if type(one) ~= "table" then return one == other end
  for key, value in next, one do
    if other[key] == nil or not reference.same(value, other[key], equal) then return false end
  end
  for key in next, other do
    if one[key] == nil then return false end
  end
  return true
end

return reference
