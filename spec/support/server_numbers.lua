--- How the server reads numbers: a model of its two passes, for the specs of what is written.
-- A number's text becomes a LONG, a DOUBLE or a STRING; then that is written again, as Java does, and read once more:
-- what is stored is the outcome of the second reading.

local server_numbers = {}

--- A decimal as Java's BigDecimal holds it: the sign, digits without leading zeros ("" is zero), and how many of them
-- are decimals (negative: so many zeros follow).
local function decimal(text)
  local sign, whole, fraction, exponent = text:match("^(-?)(%d*)%.?(%d*)[eE]?([+-]?%d*)$")
  local digits <const> = (whole .. fraction):gsub("^0+", "")
  return sign, digits, #fraction - (math.tointeger(tonumber(exponent)) or 0)
end

--- All digits, no exponent.
local function plain(sign, digits, scale)
  if digits == "" and scale <= 0 then return "0" end
  if scale <= 0 then return sign .. digits .. ("0"):rep(-scale) end
  digits = ("0"):rep(scale + 1 - #digits) .. digits
  return sign .. digits:sub(1, -scale - 1) .. "." .. digits:sub(-scale)
end

--- A double as Java writes it: the shortest digits, one at least behind the point, an exponent below 1e-3 and from 1e7.
local function java_double(value)
  if value == 0 then return "0.0" end
  local text
  for precision = 14, 16 do
    text = ("%%.%de"):format(precision):format(math.abs(value))
    if tonumber(text) == math.abs(value) then break end
  end
  local first, rest, exponent = text:match("^(%d)%.(%d-)0*e([+-]%d+)$")
  exponent = math.tointeger(tonumber(exponent))
  local sign <const> = value < 0 and "-" or ""
  if exponent < -3 or exponent >= 7 then
    return ("%s%s.%sE%d"):format(sign, first, rest == "" and "0" or rest, exponent)
  end
  local digits <const> = first .. rest .. ("0"):rep(exponent + 1 - #rest)
  return plain(sign, digits, #digits - 1 - exponent)
end

--- One pass over the text of a number, or, `quoted`, of a string, which may look like one.
-- Returns the type (LONG, DOUBLE, STRING), the value (an integer, a float, a string), and the text of the next pass.
function server_numbers.read(text, quoted)
  local exponent <const> = not quoted and text:find("^-?%d+%.?%d*[eE][+-]?%d+$")
  if not exponent and not text:find("^-?%d*%.?%d+$") then return "STRING", text, text end
  local sign, digits, scale = decimal(text)
  local trailing <const> = digits == "" and math.huge or #digits:match("0*$")
  local integral <const> = scale <= trailing
  if integral and (exponent or not text:find(".", 1, true)) then
    local whole <const> = plain(sign, digits:sub(1, scale > 0 and -scale - 1 or -1), math.min(scale, 0))
    local value <const> = tonumber(whole)
    if math.type(value) == "integer" then return "LONG", value, whole end
    return "STRING", whole, whole
  end
  if scale > 16 then
    local all <const> = plain(sign, digits, scale)
    return "STRING", all, all
  end
  local value <const> = tonumber(text) + 0.0
  return "DOUBLE", value, java_double(value)
end

--- What the server stores for the text: the type and the value.
function server_numbers.stored(text, quoted)
  local first <const>, _, again = server_numbers.read(text, quoted)
  local kind, value = server_numbers.read(again, first == "STRING")
  return kind, value
end

-- Digits and scale without the zeros at the end.
local function normal(text)
  local _, digits, scale = decimal(text)
  local zeros <const> = #digits:match "0*$"
  return digits:sub(1, #digits - zeros) .. "e" .. scale - zeros
end

--- Whether the server surely keeps what a text says which has a point and may look like a number. Of whole ones from
-- 2^53 on it is not known: Java's digits of a double are not always the shortest.
function server_numbers.keeps(text)
  if not text:find("^-?%d*%.%d+$") then return true end
  local _, digits, scale = decimal(text)
  if scale > 16 or digits == "" then return true end
  if math.abs(tonumber(text)) >= 2.0 ^ 53 then return false end
  local kind, stored = server_numbers.stored(text, true)
  if kind == "STRING" then return false end
  return normal(text) == normal(kind == "DOUBLE" and java_double(stored) or tostring(stored))
end

--- A value as the tables of measured ones write it.
function server_numbers.show(kind, value)
  return kind .. " " .. (kind == "DOUBLE" and java_double(value) or tostring(value))
end

return server_numbers
