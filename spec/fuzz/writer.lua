-- The writer of JSON, given any Lua value: it writes what reads back as the same, or refuses what cannot be sent, or
-- raises for what is no value. Which of the three is told here by a model of its own.
local core = require "thingsboard.core"
local bytes = require "spec.fuzz.bytes"
local json = require "thingsboard.json.decode"
local reference = require "spec.fuzz.reference"
local server_numbers = require "spec.support.server_numbers"

local MOST_LEVELS, MOST_UNITS = 250, 255

local function number(from)
  local kind = from:byte() % 4
  if kind == 0 then return from:integer() end
  if kind == 1 then return from:float() end
  if kind == 2 then return from:byte() - 128 end
  return (from:integer() >> 24) / 10.0 ^ (from:byte() % 20) -- as readings are
end

local strange = { print, io.stdout, coroutine.create(print), core }

local value

local function key(from)
  local kind = from:byte() % 16
  if kind == 0 then return from:integer() end
  if kind == 1 then return 1.5 end
  if kind == 2 then return true end
  if kind == 3 then return ("{"):rep(from:byte() % 4) .. from:string() .. ("}"):rep(from:byte() % 4) end
  if kind == 4 then return ("\xC3\xA9"):rep(from:byte() * 2) end
  if kind == 5 then return from:choice { "ts", "values", "", " ", "\xE2\x80\x83", "\x1C", "\xC2\xA0" } end
  return from:string()
end

local function object(from, level)
  local made = {}
  for _ = 1, from:byte() % 9 do made[key(from)] = value(from, level) end
  return made
end

local function array(from, level)
  local made = {}
  for at = 1, from:byte() % 9 do made[at] = value(from, level) end
  local more = from:byte() % 16
  if more == 0 then made[#made + 2] = 1 end
  if more == 1 then made[from:integer()] = 1 end
  if more == 2 then made.n = 1 end
  return made
end

local function deep(from, level)
  local made = value(from, level)
  for _ = 1, from:byte() do made = from.text:byte(-1) == 0 and { made } or { a = made } end
  return made
end

function value(from, level)
  if from:ended() or level > 20 then return 0 end
  local kind = from:byte() % 12
  if kind < 3 then return number(from) end
  if kind < 5 then return from:string() end
  if kind == 5 then return from:byte() % 2 == 0 end
  if kind == 6 then return json.null end
  if kind == 7 then return array(from, level + 1) end
  if kind == 8 then return core.array(array(from, level + 1)) end
  if kind == 9 then return deep(from, level + 1) end
  if kind == 10 and from:byte() % 4 == 0 then return from:choice(strange) end
  return object(from, level + 1)
end

-- Notes in `faults` what is wrong with a nested value: `refused`, `mistake`.
local function judge(faults, it, level)
  local kind = type(it)
  if kind == "string" then
    if not utf8.len(it) then faults.refused = true end
  elseif kind == "number" then
    if it ~= it or it == 1 / 0 or it == -1 / 0 then faults.refused = true end
  elseif kind == "table" then
    if level == MOST_LEVELS then
      faults.refused = true
      return
    end
    local names, places, highest, odd = 0, 0, 0, false
    for name, inner in next, it do
      if type(name) == "string" then
        names = names + 1
        if not utf8.len(name) then faults.refused = true end
      elseif math.type(name) == "integer" and name > 0 then
        places, highest = places + 1, math.max(highest, name)
      else
        odd = true
      end
      judge(faults, inner, level + 1)
    end
    local is_array = getmetatable(it) == getmetatable(core.array {})
    if odd or places ~= highest or names > 0 and (places > 0 or is_array) then faults.mistake = true end
  elseif kind ~= "boolean" and it ~= json.null then
    faults.mistake = true
  end
end

local function units(text)
  local count = 0
  for _, code in utf8.codes(text) do count = count + (code > 0xFFFF and 2 or 1) end
  return count
end

local function is_blank(text)
  for _, code in utf8.codes(text) do
    if not (code == 32 or code >= 9 and code <= 13 or code >= 0x1C and code <= 0x1F or code == 0x1680
      or code >= 0x2000 and code <= 0x200A and code ~= 0x2007 or code == 0x2028 or code == 0x2029 or code == 0x205F
      or code == 0x3000) then return false end
  end
  return true
end

local function is_bad_key(name)
  return not utf8.len(name) or name:find("\0", 1, true) or is_blank(name) or units(name) > MOST_UNITS
    or name:find("{{.-}}")
end

-- Numbers at the edge may go or not: which of both is not told here, but that what goes is stored as it is.
local function judge_record(faults, record)
  local sent = 0
  for name, it in next, record do
    if type(name) ~= "string" then faults.mistake = true
    elseif is_bad_key(name) then faults.refused = true end
    if it ~= json.null then sent = sent + 1 end
    if type(it) == "string" and (it:find("\0", 1, true) or not server_numbers.keeps(it)) then faults.refused = true end
    if math.type(it) == "float" and it ~= 0 then
      local size = math.abs(it)
      if size >= 2.0 ^ 63 then faults.refused = true end
      if size < 1.01e-10 then faults.doubtful = true end
    end
    judge(faults, it, 1)
  end
  if sent == 0 or record.ts ~= nil and record.values ~= nil then faults.refused = true end
end

local function near(one, other)
  return one == other or math.abs(one - other) <= 0.5001e-16 + math.abs(one) * 2.3e-16
end

-- What is stored of the one value of a record. A large whole float becomes an integer that is the same as a double.
local function check_stored(it)
  local body <close> = core.body()
  if not body:values { a = it } then return end
  local text = body:text():match '^{"a":(.*)}$'
  local kind, stored = server_numbers.stored(text)
  local well = math.type(it) == "integer" and kind == "LONG" and stored == it
    or math.type(it) == "float" and (kind == "DOUBLE" and near(it, stored) or kind == "LONG" and it == stored + 0.0)
  if not well then error(("%s goes as %s, and is stored as %s %s"):format(it, text, kind, stored)) end
end

local function check(method, judged, it, limit, equal)
  local faults = {}
  judged(faults, it, 0)
  local body <close> = core.body(limit)
  assert(body:value(0))
  local ran, ok, reason = pcall(body[method], body, it)
  local text = body:text()
  if not ran then
    if not faults.mistake then error(method .. " raised for no mistake: " .. tostring(ok)) end
    assert(type(ok) == "string" and text == "0")
  elseif not ok then
    local large = limit and reason:gsub("^record %d+: ", "") == ("larger than the limit of %d bytes"):format(limit)
    if not (faults.refused or faults.doubtful or large) then error(method .. " refused a good value: " .. reason) end
    assert(text == "0")
    if large then return check(method, judged, it, nil, equal) end
  else
    if faults.refused or faults.mistake then error(method .. " wrote what it must not: " .. text) end
    local read, why = json.decode(text:sub(2))
    if read == nil then error(method .. " wrote no JSON: " .. why) end
    if not reference.same(it, read, equal) then error(method .. " wrote something else: " .. text) end
    if not reference.same(it, reference.decode(text:sub(2)), equal) then error "the reference reads something else" end
  end
end

-- As a record, in an envelope, and in a list of both.
local function check_telemetry(record, limit, equal)
  if record.ts ~= nil and record.values ~= nil then return end -- an envelope, of whatever is in it
  for name in next, record do
    if type(name) ~= "string" then return end -- a list, or neither
  end
  local function judged(faults) judge_record(faults, record) end
  local function judged_flat(faults)
    judge_record(faults, record)
    if type(record.ts) == "number" and (next(record) ~= "ts" or next(record, "ts")) then faults.refused = true end
  end
  local envelope = { ts = 1700000000000, values = record }
  check("telemetry", judged_flat, record, limit, equal)
  check("telemetry", judged, envelope, limit, equal)
  check("telemetry", judged_flat, { record, envelope, record }, limit, equal)
end

return function(text)
  local from = bytes.new(text)
  local limit = from:byte() + 1
  local it = value(from, 0)
  check("value", judge, it, limit)
  if type(it) ~= "table" or getmetatable(it) then it = { [from:string()] = it } end
  local function equal(one, other)
    return near(one, other) and (math.type(other) == "float" or math.abs(one) > 2.0 ^ 53)
  end
  check("values", judge_record, it, limit, equal)
  check_telemetry(it, limit, equal)
  for _, inner in next, it do
    if type(inner) == "number" then check_stored(inner) end
  end
end
