--- Builds the bodies of requests, and rejects what the server would refuse, drop, or never answer.
-- @module thingsboard.json.payload
local core = require "thingsboard.core"
local errors = require "thingsboard.error"
local json = require "thingsboard.json.decode"

local payload = {}

-- The buffer that all texts are written to. No finalizer can run while it is written, and an error leaves it empty.
local body = core.body()
local write_telemetry, write_values, write_value = body.telemetry, body.values, body.value
local type = type

-- The level at which mistakes of the script are raised: between its call and the writer stand the method and a function
-- of this module.
local LEVEL = 3

local function refuse(what, reason)
  return nil, errors.new("value", what .. ": " .. reason)
end

-- Writes a value by a method of the body and returns the text. Functions of this module must tail-call it, or LEVEL is
-- wrong.
local function text_of(write, what, value)
  local text, reason = write(body, value, what, LEVEL, true)
  if text then return text end
  return refuse(what, reason)
end

-- JSON text of the script is sent as it is, unless the server would leave it unanswered.
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

--- A body that is any JSON value, as for the answer to an RPC.
function payload.value(what, value)
  return text_of(write_value, what, value)
end

return payload
