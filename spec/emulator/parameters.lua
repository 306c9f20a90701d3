--- Parameters of queries and forms, and how their texts become numbers.
local numbers = require "spec.emulator.numbers"
local text = require "spec.emulator.text"

local parameters = {}

local function decode(part)
  local decoded = text.percent_decode((part:gsub("+", " ")))
  return decoded and text.decode(decoded)
end

--- Reads `a=1&b=2`; what cannot be decoded is left out.
-- @return a list of `{ name=, values= }` in order of first appearance, with each list also under its name
function parameters.parse(string)
  local list = {}
  local by_name = {}
  for part in (string or ""):gmatch("[^&]+") do
    local raw_name, raw_value = part:match("^([^=]*)=?(.*)$")
    local name, value = decode(raw_name), decode(raw_value)
    if name and value and name ~= "" then
      local entry = by_name[name]
      if not entry then
        entry = { name = name, values = {} }
        by_name[name] = entry
        list[#list + 1] = entry
      end
      entry.values[#entry.values + 1] = value
    end
  end
  return list, by_name
end

--- A text parameter: several of one name are joined. Nil if there is none.
function parameters.text(by_name, name)
  return by_name[name] and table.concat(by_name[name].values, ",")
end

local ranges = {
  long = { math.mininteger, math.maxinteger },
  int = { -0x80000000, 0x7FFFFFFF },
}
ranges["java.lang.Integer"] = ranges.int

-- Digits as they are, or hexadecimal behind 0x or #.
local function to_number(trimmed, kind)
  local sign, hex = trimmed:match("^(%-?)0[xX](.*)$")
  if not sign then sign, hex = trimmed:match("^(%-?)#(.*)$") end
  local value
  if hex then
    local digits = hex:gsub("^0+(.)", "%1")
    if digits:find("^%x+$") and #digits <= 16 then
      value = tonumber(digits, 16)
      if value < 0 and not (sign == "-" and value == math.mininteger) then value = nil end
      if value and sign == "-" then value = -value end
    end
  else
    value = numbers.parse_long(trimmed)
  end
  local range = ranges[kind]
  if value and value >= range[1] and value <= range[2] then return value end
  return nil, ('For input string: "%s"%s'):format(hex and sign .. hex or trimmed, hex and " under radix 16" or "")
end

--- A whole number of a text.
-- @param kind "long", "int" or "java.lang.Integer"
-- @return the number; or nil and the server's message
function parameters.integer(string, name, kind)
  local value, why = to_number(string:gsub("%s", ""), kind)
  if value then return value end
  local message = "Method parameter '%s': Failed to convert value of type 'java.lang.String' to required type '%s'; %s"
  return nil, message:format(name, kind, why)
end

--- A whole number of a query: the first of several; the default for none or an empty one.
function parameters.number(by_name, name, kind, default)
  local string = by_name[name] and by_name[name].values[1]
  if not string or string == "" then return default end
  return parameters.integer(string, name, kind)
end

return parameters
