--- Builds the bodies of requests, and refuses what the server would refuse, drop, or never answer.
-- @module thingsboard.payload
local core = require "thingsboard.core"
local errors = require "thingsboard.error"
local json = require "thingsboard.json"

local payload = {}

-- A timestamp below this, taken for milliseconds, lies in the first days of March 1973: it can only be seconds.
local SECONDS = 100000000000

local function refuse(what, reason)
  return nil, errors.new("value", what .. ": " .. reason)
end

-- Writes by a method of the body. What it raises is the script's mistake, and is told in the name of the script's call,
-- which is `level` calls away. `where` names the record in a list.
local function write(what, where, level, body, method, value)
  local well, ok, reason = pcall(body[method], body, value)
  if not well then error(("%s: %s%s"):format(what, where, ok), level + 1) end
  if not ok then return nil, where .. reason end
  return true
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

local function is_list(value)
  return value[1] ~= nil or getmetatable(value) == core.array_mt
end

-- A record is an object of values, or an envelope {ts=, values=} around one.
local function write_record(what, body, record, where)
  if type(record) ~= "table" then error(("%s: %smust be a table, got %s"):format(what, where, type(record)), 4) end
  local ts = record.ts
  local values = record.values
  if ts == nil or values == nil then
    local ok, reason = write(what, where, 4, body, "values", record)
    return ok, reason -- no tail call: the level counts this function
  end
  if math.type(ts) ~= "integer" then
    if math.type(ts) ~= "float" or not math.tointeger(ts) then
      error(("%s: %sts must be an integer, milliseconds since 1970"):format(what, where), 4)
    end
    ts = math.tointeger(ts)
  end
  if type(values) ~= "table" then error(("%s: %svalues must be a table"):format(what, where), 4) end
  for key in next, record do
    if key ~= "ts" and key ~= "values" then
      error(("%s: %skey '%s' beside ts and values: the server would drop it"):format(what, where, tostring(key)), 4)
    end
  end
  if ts < SECONDS then
    return nil, ("%sts = %d can only be seconds; it must be milliseconds, as of tb.now()"):format(where, ts)
  end
  if values.ts ~= nil and values.values ~= nil then
    return nil, where .. "the keys ts and values together in one record: the server would take it for an envelope"
  end
  local ok, reason = body:raw(('{"ts":%d,"values":'):format(ts))
  if ok then ok, reason = write(what, where, 4, body, "values", values) end
  if ok then ok, reason = body:raw "}" end
  return ok, reason
end

--- The body of a telemetry post.
-- @tparam string what for messages
-- @tparam table|string value a record, a list of them, or JSON text
-- @treturn[1] userdata|string
-- @treturn[2] nil
-- @treturn[2] table the error
function payload.telemetry(what, value)
  if type(value) == "string" then return checked_text(what, value, true) end
  if type(value) ~= "table" then error(what .. ": a table or JSON text expected, got " .. type(value), 3) end
  local body <const> = core.body()
  local ok, reason
  if is_list(value) then
    if #value == 0 then return refuse(what, "nothing to send: the list is empty") end
    for i = 1, #value do
      ok, reason = body:raw(i == 1 and "[" or ",")
      if ok then ok, reason = write_record(what, body, value[i], "record " .. i .. ": ") end
      if not ok then break end
    end
    if ok then ok, reason = body:raw "]" end
  else
    ok, reason = write_record(what, body, value, "")
  end
  if not ok then return refuse(what, reason) end
  return body
end

--- The body of an attributes post: one object of values, or JSON text.
function payload.attributes(what, value)
  if type(value) == "string" then return checked_text(what, value, false) end
  if type(value) ~= "table" then error(what .. ": a table or JSON text expected, got " .. type(value), 3) end
  local body = core.body()
  local ok, reason = write(what, "", 3, body, "values", value)
  if not ok then return refuse(what, reason) end
  return body
end

--- The body that is any JSON value: an RPC's answer, a request of ours.
function payload.value(what, value)
  local body = core.body()
  local ok, reason = write(what, "", 3, body, "value", value)
  if not ok then return refuse(what, reason) end
  return body
end

return payload
