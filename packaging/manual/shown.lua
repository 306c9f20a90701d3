--- How the manual shows an option: its type and its default.
local shown = {}

--- Bytes are told as a person does, other integers with commas.
function shown.integer(value)
  if value >= 1024 and value % 1024 == 0 then
    return value % 1048576 == 0 and value // 1048576 .. " MiB" or value // 1024 .. " KiB"
  end
  return (tostring(value):reverse():gsub("%d%d%d", "%0,"):reverse():gsub("^,", ""))
end

local function default(option)
  local value = option.default
  if option.type:find "!$" then return "required" end
  if value == nil then return "none" end
  if type(value) == "string" then return ('`"%s"`'):format(value) end
  return math.type(value) == "integer" and shown.integer(value) or ("`%s`"):format(value)
end

-- The types of thingsboard.check; what is none of them is a choice of words.
local types = {
  string = "string", ["non-empty string"] = "string", text = "string", boolean = "boolean", table = "table",
  ["function"] = "function", ["positive integer"] = "integer, 1 or more",
  ["non-negative integer"] = "integer, 0 or more",
  ["positive number"] = "number above 0", age = "number above 0",
}

local function kind(option)
  local wanted = option.type:gsub("!$", "")
  return types[wanted] or '`"' .. wanted:gsub("|", '"` or `"') .. '"`'
end

--- An option's row of a table: name, type, default, meaning.
function shown.row(option)
  return ("| `%s` | %s | %s | %s |"):format(option.name, kind(option), default(option), option.doc)
end

return shown
