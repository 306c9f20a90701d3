--- From a body to what is stored: the server reads every value twice.
-- The transport turns the body into typed values and prints them as a message for the rule engine; the rule engine
-- reads that message again by the same rules.
local gson = require "spec.emulator.gson"
local numbers = require "spec.emulator.numbers"

local conversion = {}

-- What stops a conversion: with a message where the server's answer has one, else with the reason it does not give.
local function fail(message, why) error({ message = message or "", why = why }, 0) end

local function cannot_parse(value) fail("Can't parse value: " .. gson.write(value)) end

local function number_value(string)
  local digits = numbers.ascii_digits(string)
  local decimal = numbers.decimal(digits) or fail("", "a number that Java cannot read: " .. string)
  local simple_double = digits:find(".", 1, true) and not digits:find("[eE]")
  if numbers.is_integral(decimal) and not simple_double then
    local long = numbers.long(decimal)
    if long then return "LONG", long end
  elseif decimal.scale <= 16 then
    -- A decimal has no negative zero.
    return "DOUBLE", numbers.java_double(decimal.digits == "0" and 0.0 or tonumber(digits) + 0.0)
  end
  return "STRING", numbers.plain(decimal)
end

local function typed(key, value, limit)
  if value.kind == "boolean" then return "BOOL", tostring(value.value) end
  if value.kind == "number" then return number_value(value.text) end
  if value.kind ~= "string" then return "JSON", gson.write(value) end
  if limit > 0 and #value.text > limit then
    fail(("String value length [%d] for key [%s] is greater than maximum allowed [%d]"):format(
      #value.text, key, limit))
  end
  if numbers.is_parsable(value.text) then return number_value(value.text) end
  return "STRING", value.text
end

--- Types the members of an object; null members are left out.
-- @return a list of `{ key=, type=, value= }`, `value` being text
function conversion.values(object, limit)
  local list = {}
  for _, key in ipairs(object.keys) do
    local value = object.values[key]
    if value ~= gson.null then
      local kind, content = typed(key, value, limit or 0)
      list[#list + 1] = { key = key, type = kind, value = content }
    end
  end
  return list
end

--- A typed value as JSON tree.
function conversion.tree(entry)
  if entry.type == "STRING" then return gson.string(entry.value) end
  if entry.type == "BOOL" then return gson.boolean(entry.value == "true") end
  if entry.type == "JSON" then return gson.parse(entry.value) end
  return gson.number(entry.value)
end

--- Typed values as a JSON object.
function conversion.object(list)
  local object = gson.object()
  for _, entry in ipairs(list) do gson.set(object, entry.key, conversion.tree(entry)) end
  return object
end

local function as_long(value)
  if value.kind == "array" and #value == 1 then return as_long(value[1]) end
  if value.kind == "string" then return numbers.parse_long(value.text) or fail("", "ts is not a whole number") end
  if value.kind ~= "number" then fail("", "ts is not a number") end
  local long = numbers.parse_long(value.text)
  if long then return long end
  local decimal = numbers.decimal(value.text)
  if not decimal or #value.text > 10000 or math.abs(decimal.scale) >= 10000 then
    fail("", "ts is not a number that Java can read")
  end
  return numbers.long_value(decimal)
end

local function record(object, now, limit)
  if not object.values.ts or not object.values.values then
    return { ts = now, server_ts = true, values = conversion.values(object, limit) }
  end
  local ts = as_long(object.values.ts)
  if object.values.values.kind ~= "object" then fail("", "values is not an object") end
  return { ts = ts, server_ts = false, values = conversion.values(object.values.values, limit) }
end

local function records(value, now, limit)
  if value.kind == "object" then return { record(value, now, limit) } end
  if value.kind ~= "array" then cannot_parse(value) end
  local list = {}
  for index, element in ipairs(value) do
    if element.kind ~= "object" then cannot_parse(element) end
    list[index] = record(element, now, limit)
  end
  return list
end

local function guarded(...)
  local done, result = pcall(...)
  if done then return result end
  if type(result) ~= "table" then error(result, 0) end
  return nil, result.message, result.why
end

local function parsed(body, convert)
  local value, message = gson.parse(body)
  if not value then return nil, message end
  return guarded(convert, value)
end

--- First reading of a telemetry body.
-- @return a list of `{ ts=, server_ts=, values= }`; or nil, the message of the answer ("" for none), and the reason
-- where there is no message
function conversion.telemetry(body, now, limit)
  return parsed(body, function(value) return records(value, now, limit) end)
end

--- First reading of an attributes body: a list of values; or nil, the message and the reason.
function conversion.attributes(body, limit)
  return parsed(body, function(value)
    if value.kind ~= "object" then cannot_parse(value) end
    return conversion.values(value, limit)
  end)
end

--- The message that the rule engine gets of values.
function conversion.rule_message(values)
  return gson.write(conversion.object(values), { drop_nulls = true })
end

--- Second reading of telemetry, of the rule engine's message: nil where it fails.
-- An inner pair of `ts` and `values` is an envelope by now.
function conversion.stored_telemetry(message, ts, server_ts)
  local list = conversion.telemetry(message, ts)
  if not list then return nil end
  local result = list[1]
  if result.server_ts then result.server_ts = server_ts end
  return result
end

--- Second reading of attributes.
function conversion.stored_attributes(message)
  return conversion.attributes(message) or {}
end

-- Gson's getAsString and its like, with the names of Java's exceptions for messages.
local java_names = { null = "JsonNull", object = "JsonObject" }

--- The text of a scalar, or of an array of one; nil and a message where Java throws.
function conversion.as_string(value)
  if value.kind == "array" then
    if #value == 1 then return conversion.as_string(value[1]) end
    return nil, "Array must have size 1, but has size " .. #value
  end
  if java_names[value.kind] then return nil, java_names[value.kind] end
  if value.kind == "boolean" then return tostring(value.value) end
  return value.text
end

--- A whole number of a value, or nil where Java throws.
function conversion.as_long(value)
  return (guarded(as_long, value))
end

return conversion
