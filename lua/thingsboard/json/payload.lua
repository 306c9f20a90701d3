--- Builds the bodies of requests, and refuses what the server would refuse, drop, or never answer.
-- @module thingsboard.json.payload
local core = require "thingsboard.core"
local errors = require "thingsboard.error"
local json = require "thingsboard.json.decode"

local payload = {}

-- Where everything is written, one text after another; nil while one is written: a finalizer in the midst of that, or
-- who comes after a mistake, makes another.
local spare = core.body()
local take, write_telemetry, write_values, write_value = spare.take, spare.telemetry, spare.values, spare.value

-- Mistakes of the script are raised in the name of its call, which is three calls away from the one that writes: here,
-- and what has called this module, stand between.
local LEVEL = 3

local function refuse(what, reason)
  return nil, errors.new("value", what .. ": " .. reason)
end

-- What a method of the body writes of a value. To be called as the last of a function of this module, in whose place it
-- comes.
local function text_of(write, what, value)
  local body = spare or core.body()
  spare = nil
  local ok, reason = write(body, value, what, LEVEL)
  local text = ok and take(body)
  spare = body
  if text then return text end
  return refuse(what, reason)
end

-- JSON text that a script has made itself goes as it is; but what the server would leave unanswered stays here.
local function checked_text(what, text, lists)
  local value, reason = json.decode(text)
  if value == nil then return refuse(what, "not JSON: " .. reason) end
  if type(value) ~= "table" then return refuse(what, "the JSON text must be an object") end
  if next(value) == nil then return refuse(what, "nothing to send: the JSON text is empty") end
  if not lists and text:find("^%s*%[") then return refuse(what, "the JSON text must be an object") end
  return text
end

--- The body of a telemetry post.
-- @tparam string what for messages
-- @tparam table|string value a record, a list of them, or JSON text
-- @treturn[1] string JSON
-- @treturn[2] nil
-- @treturn[2] table the error
function payload.telemetry(what, value)
  local kind = type(value)
  if kind == "string" then return checked_text(what, value, true) end
  if kind ~= "table" then error(what .. ": a table or JSON text expected, got " .. kind, LEVEL) end
  return text_of(write_telemetry, what, value)
end

--- The body of an attributes post: one object of values, or JSON text.
function payload.attributes(what, value)
  if type(value) == "string" then return checked_text(what, value, false) end
  if type(value) ~= "table" then error(what .. ": a table or JSON text expected, got " .. type(value), LEVEL) end
  return text_of(write_values, what, value)
end

--- The body that is any JSON value: an RPC's answer, a request of ours.
function payload.value(what, value)
  return text_of(write_value, what, value)
end

return payload
