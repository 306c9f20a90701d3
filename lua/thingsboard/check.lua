--- Checks what a script hands over. A mistake of the programmer raises, at the script's line, and names what is wrong.
-- @module thingsboard.check
local check = {}

local function is_integer(value)
  return math.type(value) == "integer"
end

local tests = {
  string = function(value) return type(value) == "string" end,
  ["non-empty string"] = function(value) return type(value) == "string" and value ~= "" end,
  text = function(value) return type(value) == "string" and value ~= "" and not value:find("%c") end,
  boolean = function(value) return type(value) == "boolean" end,
  table = function(value) return type(value) == "table" end,
  ["function"] = function(value) return type(value) == "function" end,
  integer = is_integer,
  ["positive integer"] = function(value) return is_integer(value) and value > 0 end,
  ["non-negative integer"] = function(value) return is_integer(value) and value >= 0 end,
  ["positive number"] = function(value) return type(value) == "number" and value > 0 and value < 2e6 end,
  age = function(value) return type(value) == "number" and value > 0 and value < 1e12 end,
}

local names = {
  text = "a non-empty string without control characters",
  integer = "an integer",
  ["positive number"] = "a number above 0 and below 2e6",
  age = "a number of seconds above 0 and below 1e12",
}

local function named(wanted)
  return names[wanted] or "a " .. wanted
end

--- Checks a table of options against their types.
-- @tparam string what whose options they are, for the message
-- @tparam table options
-- @tparam table types by name; a type with a trailing `!` is required
function check.options(what, options, types)
  if type(options) ~= "table" then error(what .. ": a table of options expected, got " .. type(options), 3) end
  for name in next, options do
    if not types[name] then error(("%s: unknown option '%s'"):format(what, tostring(name)), 3) end
  end
  for name, wanted in next, types do -- not `options`: what a metatable of theirs provides is to be checked as well
    local kind, required = wanted:match("^([^!]*)(!?)$")
    local value = options[name]
    if value == nil then
      if required ~= "" then error(("%s: option '%s' is missing"):format(what, name), 3) end
    elseif not tests[kind](value) then
      error(("%s: option '%s' must be %s"):format(what, name, named(kind)), 3)
    end
  end
end

--- Checks one argument.
function check.argument(what, name, value, wanted)
  if not tests[wanted](value) then
    error(("%s: %s must be %s, got %s"):format(what, name, named(wanted), type(value)), 3)
  end
end

--- Checks an access token. The server's firewall answers 400 to a path with one of these, percent-encoded or not.
function check.token(what, token)
  local bad = token:match("[/\\%%;%c]")
  if bad then
    local shown = bad:find("%c") and "a control character (a line's end?)" or "'" .. bad .. "'"
    error(("%s: the token contains %s, which no URL of the server can carry"):format(what, shown), 3)
  end
  if token == "." or token == ".." then error(what .. ": the token cannot be a path", 3) end
end

return check
