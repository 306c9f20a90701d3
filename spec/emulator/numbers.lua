--- Numbers as the server's Java reads and prints them.
local numbers = {}

-- First digits of the decimal digit blocks that Java's Character.isDigit knows, ten in a row each.
local digit_blocks = {
  0x0660, 0x06F0, 0x07C0, 0x0966, 0x09E6, 0x0A66, 0x0AE6, 0x0B66, 0x0BE6, 0x0C66, 0x0CE6, 0x0D66, 0x0DE6,
  0x0E50, 0x0ED0, 0x0F20, 0x1040, 0x1090, 0x17E0, 0x1810, 0x1946, 0x19D0, 0x1A80, 0x1A90, 0x1B50, 0x1BB0,
  0x1C40, 0x1C50, 0xA620, 0xA8D0, 0xA900, 0xA9D0, 0xA9F0, 0xAA50, 0xABF0, 0xFF10,
}

local function ascii_digit(char)
  local code = utf8.codepoint(char)
  for _, first in ipairs(digit_blocks) do
    if code >= first and code <= first + 9 then return tostring(code - first) end
  end
end

--- Writes digits of other scripts as ASCII digits.
function numbers.ascii_digits(string)
  if not string:find("[\x80-\xFF]") then return string end
  return (string:gsub("[\xC2-\xF4][\x80-\xBF]*", ascii_digit))
end

-- Longer plain texts do not fit the server's memory; so it answers as if the number were broken.
local LONGEST_PLAIN = 50000000

--- Reads a decimal: its sign, its digits and how many of them stand behind the point.
-- @return nil where the server's reading fails
function numbers.decimal(string)
  local sign, whole, fraction, exponent = string:match("^([+-]?)(%d*)%.?(%d*)[eE]?([+-]?%d*)$")
  if not sign or #whole + #fraction == 0 then return nil end
  local power = 0
  if exponent ~= "" then
    local significant = exponent:gsub("^[+-]?0*", "")
    if #significant > 10 then return nil end
    power = math.tointeger(tonumber((exponent:gsub("^%+", ""))))
    if math.abs(power) > 0x7FFFFFFF then return nil end
  end
  local digits = (whole .. fraction):gsub("^0+", "")
  if digits == "" then digits = "0" end
  local scale = #fraction - power
  if scale ~= math.min(math.max(scale, -0x80000000), 0x7FFFFFFF) then return nil end
  if digits ~= "0" and math.abs(scale) > LONGEST_PLAIN then return nil end
  return { negative = sign == "-" and digits ~= "0", digits = digits, scale = scale }
end

--- Whether nothing but zeros stands behind the point.
function numbers.is_integral(decimal)
  if decimal.scale <= 0 or decimal.digits == "0" then return true end
  return #decimal.digits:match("0*$") >= decimal.scale
end

--- All digits, without an exponent.
function numbers.plain(decimal)
  local digits, scale = decimal.digits, decimal.scale
  if scale < 0 then
    digits = digits == "0" and "0" or digits .. ("0"):rep(-scale)
  elseif scale > 0 then
    if #digits <= scale then digits = ("0"):rep(scale - #digits + 1) .. digits end
    digits = digits:sub(1, -scale - 1) .. "." .. digits:sub(-scale)
  end
  return (decimal.negative and "-" or "") .. digits
end

-- The integer of these digits, if 64 bits hold it: math.tointeger would round "-9223372036854775809" to -2^63.
local function integer_of(digits)
  local value = tonumber(digits)
  return math.type(value) == "integer" and value or nil
end

--- The digits of a whole decimal if 64 bits hold it.
function numbers.long(decimal)
  if decimal.digits == "0" then return "0" end
  if #decimal.digits - decimal.scale > 19 then return nil end
  local value = integer_of(numbers.plain(decimal):match("^[^.]*"))
  return value and tostring(value)
end

--- The lowest 64 bits of a decimal's whole part, as Java's longValue gives them.
function numbers.long_value(decimal)
  local sum = 0
  for digit in numbers.plain(decimal):match("^%-?(%d*)"):gmatch("%d") do
    sum = sum * 10 + math.tointeger(digit)
  end
  return decimal.negative and -sum or sum
end

--- Prints a double as Java does: at least one digit behind the point, an exponent from 1e7 on and below 1e-3.
function numbers.java_double(double)
  if double ~= double then return "NaN" end
  if double == math.huge then return "Infinity" end
  if double == -math.huge then return "-Infinity" end
  if double == 0 then return 1 / double < 0 and "-0.0" or "0.0" end
  local magnitude, shortest = math.abs(double), nil
  -- Fifteen digits survive the way to a double and back, so fewer need no trying but where doubles are coarse.
  for precision = magnitude < 2.3e-308 and 1 or 14, 16 do
    shortest = ("%." .. precision .. "e"):format(magnitude)
    if tonumber(shortest) == magnitude then break end
  end
  local first, rest, exponent = shortest:match("^(%d)%.?(%d*)e([+-]%d+)$")
  exponent = math.tointeger(tonumber((exponent:gsub("^%+", ""))))
  local digits = first .. rest:gsub("0+$", "")
  local sign = double < 0 and "-" or ""
  if exponent < -3 or exponent >= 7 then
    local behind = digits:sub(2)
    return ("%s%s.%sE%d"):format(sign, digits:sub(1, 1), behind == "" and "0" or behind, exponent)
  end
  if exponent < 0 then return sign .. "0." .. ("0"):rep(-exponent - 1) .. digits end
  digits = digits .. ("0"):rep(exponent + 1 - #digits)
  local behind = digits:sub(exponent + 2)
  return sign .. digits:sub(1, exponent + 1) .. "." .. (behind == "" and "0" or behind)
end

--- Whether a text counts as a number for the server's type cast.
function numbers.is_parsable(string)
  local digits = numbers.ascii_digits(string)
  return digits:find("^%-?%d*%.?%d+$") ~= nil
end

--- Reads a whole number as Java's Long.parseLong does; nil where that fails.
function numbers.parse_long(string)
  local sign, digits = numbers.ascii_digits(string):match("^([+-]?)(%d+)$")
  if not digits then return nil end
  digits = digits:gsub("^0+(%d)", "%1")
  return integer_of((sign == "-" and "-" or "") .. digits)
end

--- A number of a JSON tree as Jackson prints it: doubles in Java's way.
function numbers.jackson(string)
  if string:find("[.eE]") then return numbers.java_double(tonumber(string) + 0.0) end
  return string == "-0" and "0" or string
end

return numbers
