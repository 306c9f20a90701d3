--- Decodes JSON exactly: integers keep all 64 bits, 42.0 is a float, and an empty array is marked as one. lua-cjson
-- parses. Where a build of it is not exact, numbers and empty arrays are first turned into strings that begin with
-- U+0001, and are converted after parsing.
-- @module thingsboard.json.decode
local core = require "thingsboard.core"
local cjson = require("cjson").new()
cjson.decode_invalid_numbers(false)

local json = {}

--- JSON's null as lua-cjson has it.
json.null = cjson.null

-- Finds where the string that begins at `from` ends.
local function string_end(text, from)
  local at = from + 1
  while true do
    at = text:find('["\\]', at)
    if not at then return #text end
    if text:byte(at) == 34 then return at end
    at = at + 2
  end
end

local EMPTY_ARRAY = "%[[ \t\r\n]*%]"

-- Makes a string of each number and of each empty array. A string that begins with the mark already is given a second
-- one. Nil and the reason for what is no number of JSON's, which lua-cjson might let pass.
local function mark(text)
  local out, copied, at = {}, 1, 1
  while true do
    at = text:find('["%d%[-]', at)
    if not at then break end
    if text:byte(at) == 34 then
      local last = string_end(text, at)
      if text:find("^\1", at + 1) or text:find("^\\u0001", at + 1) then
        out[#out + 1] = text:sub(copied, at) .. "\\u0001"
        copied = at + 1
      end
      at = last + 1
    elseif text:byte(at) == 91 then
      local _, last = text:find("^" .. EMPTY_ARRAY, at)
      if last then
        if text:find("^[ \t\r\n]*:", last + 1) then return nil, "an array for a key at character " .. at end
        out[#out + 1] = text:sub(copied, at - 1) .. '"\\u0001["'
        copied = last + 1
      end
      at = (last or at) + 1
    else
      local number = text:match("^-?%d[%d.eE+-]*", at)
      if not number or number:find("^-?0%d") or not tonumber(number) or number:find("%.[eE]") or number:find("%.$") then
        return nil, "invalid number at character " .. at
      end
      out[#out + 1] = text:sub(copied, at - 1) .. '"\\u0001' .. number .. '"'
      at = at + #number
      if text:find("^[ \t\r\n]*:", at) then return nil, "a number for a key at character " .. at - #number end
      copied = at
    end
  end
  out[#out + 1] = text:sub(copied)
  return table.concat(out)
end

local function unmark(value)
  if type(value) == "string" and value:byte(1) == 1 then
    if value:byte(2) == 1 then return value:sub(2) end
    if value:byte(2) == 91 then return core.array {} end
    return tonumber(value:sub(2))
  elseif type(value) == "table" then
    local renamed = {}
    for key, inner in next, value do
      value[key] = unmark(inner)
      if type(key) == "string" and key:byte(1) == 1 then renamed[key:sub(2)] = value[key] end
    end
    -- Remove all before adding any: a key without its mark may equal another key with it.
    for key in next, renamed do value["\1" .. key] = nil end
    for key, inner in next, renamed do value[key] = inner end
  end
  return value
end

local function is_exact()
  local probe = cjson.decode "[1,42.0,9223372036854775807,9007199254740993]"
  return math.type(probe[1]) == "integer" and math.type(probe[2]) == "float" and probe[3] == math.maxinteger
    and probe[4] == 9007199254740993
end

local exact = is_exact()

-- Even exact builds saturate integers beyond 64 bits, so texts with this many digits are marked, too.
local NINETEEN_DIGITS = ("%d"):rep(19)

--- Reads a JSON text.
-- @tparam string text
-- @return[1] the value; `json.null` for null
-- @treturn[2] nil
-- @treturn[2] string what is wrong with it
function json.decode(text)
  if text:find("\0", 1, true) then return nil, "a NUL character" end -- lua-cjson would stop there
  local marked, reason = text, nil
  if not exact or text:find(NINETEEN_DIGITS) or text:find(EMPTY_ARRAY) then marked, reason = mark(text) end
  if not marked then return nil, reason end
  local ok, value = pcall(cjson.decode, marked)
  if not ok then return nil, value end
  if marked == text then return value end
  return unmark(value)
end

local ARRAY = getmetatable(core.array {})

--- Whether a value that was read is an object.
function json.is_object(value)
  if type(value) ~= "table" or getmetatable(value) == ARRAY then return false end
  for key in next, value do
    if type(key) ~= "string" then return false end
  end
  return true
end

return json
