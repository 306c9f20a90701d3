--- Media types: what a Content-Type must look like, and which type an Accept header chooses.
local text = require "spec.emulator.text"

local media = {}

local function bad(header, why)
  return nil, ('Invalid mime type "%s": %s'):format(header, why)
end

local function parameters_of(header)
  local parameters, at = {}, header:find(";", 1, true)
  while at do
    local start, quoted = at + 1, false
    at = nil
    for position = start, #header do
      local char = header:sub(position, position)
      if char == '"' then quoted = not quoted end
      if char == ";" and not quoted then
        at = position
        break
      end
    end
    local name, value = header:sub(start, (at or #header + 1) - 1):match("^%s*([^=]-)%s*=%s*(.-)%s*$")
    if name then parameters[name:lower()] = value:match('^"(.*)"$') or value end
  end
  return parameters
end

local function check_token(token)
  local char = token:match("[%c\x80-\xFF%s()<>@,;:\\\"/%[%]?={}]")
  return char and ('Invalid token character \'%s\' in token "%s"'):format(char, token)
end

--- Reads a media type: `type`, `subtype`, `parameters`; or nil and the server's message.
function media.parse(header)
  local full = header:match("^[^;]*"):match("^%s*(.-)%s*$")
  if full == "" then return bad(header, "'mimeType' must not be empty") end
  if full == "*" then full = "*/*" end
  local slash = full:find("/", 1, true)
  if not slash then return bad(header, "does not contain '/'") end
  if slash == #full then return bad(header, "does not contain subtype after '/'") end
  local kind, subtype = full:sub(1, slash - 1), full:sub(slash + 1)
  if kind == "*" and subtype ~= "*" then
    return bad(header, "wildcard type is legal only in '*/*' (all mime types)")
  end
  if kind == "" then return bad(header, "'type' must not be empty") end
  local wrong = check_token(kind) or check_token(subtype)
  if wrong then return bad(header, wrong) end
  local parameters = parameters_of(header)
  if parameters.charset and not text.knows_charset(parameters.charset) then
    return bad(header, ("unsupported charset '%s'"):format(parameters.charset))
  end
  return { type = kind:lower(), subtype = subtype:lower(), parameters = parameters }
end

local function precision(accepted)
  if accepted.type == "*" then return 0 end
  return accepted.subtype:sub(1, 1) == "*" and 1 or 2
end

-- The types of an Accept header, best first; nil if there is one that cannot be read.
local function accepted(header)
  local list = {}
  for part in (header or "*/*"):gmatch("[^,]+") do
    local entry = media.parse(part:match("^%s*(.-)%s*$"))
    if not entry then return nil end
    entry.quality = tonumber(entry.parameters.q) or 1
    entry.place = #list
    list[#list + 1] = entry
  end
  table.sort(list, function(left, right)
    if left.quality ~= right.quality then return left.quality > right.quality end
    if precision(left) ~= precision(right) then return precision(left) > precision(right) end
    return left.place < right.place
  end)
  return list
end

local function includes(range, kind, subtype)
  if range.type == "*" then return true end
  if range.type ~= kind then return false end
  return range.subtype == "*" or range.subtype == subtype or range.subtype == "*+" .. subtype
end

--- Whether an Accept header lets JSON pass; nil if the header cannot be read.
function media.accepts_json(header)
  local list = accepted(header)
  if not list then return nil end
  for _, range in ipairs(list) do
    if includes(range, "application", "json") then return true end
  end
  return #list == 0
end

--- The Content-Type of a text that is sent to a client with this Accept header; nil if the header cannot be read.
function media.text_type(header)
  local list = accepted(header)
  if not list then return nil end
  local best = list[1]
  if not best or best.type == "*" or includes(best, "text", "plain") then return "text/plain;charset=UTF-8" end
  if includes(best, "application", "json") then return "application/json" end
  if best.subtype:find("*", 1, true) then return "text/plain;charset=UTF-8" end
  local name = best.type .. "/" .. best.subtype
  return best.subtype:find("%+json$") and name or name .. ";charset=UTF-8"
end

return media
