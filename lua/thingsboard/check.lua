--- Checks arguments and options. A mistake raises an error at the line of the script, and names what is wrong.
-- @module thingsboard.check
local check = {}

local function is_integer(value)
  return math.type(value) == "integer"
end

local function fits_text(value)
  return type(value) == "string" and value ~= "" and not value:find("%c")
end

local tests = {
  string = function(value) return type(value) == "string" end,
  ["non-empty string"] = function(value) return type(value) == "string" and value ~= "" end,
  text = fits_text,
  ["text or false"] = function(value) return value == false or fits_text(value) end,
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
  ["text or false"] = "false or a non-empty string without control characters",
  integer = "an integer",
  ["positive number"] = "a number above 0 and below 2e6",
  age = "a number of seconds above 0 and below 1e12",
}

local function named(wanted)
  if not tests[wanted] then return "'" .. wanted:gsub("|", "' or '") .. "'" end
  return names[wanted] or "a " .. wanted
end

-- A type is the name of a test, or a choice of texts, `one|other`, or the only text that there is.
local function fits(value, wanted)
  if tests[wanted] then return tests[wanted](value) end
  return type(value) == "string" and not value:find("|", 1, true)
    and ("|" .. wanted .. "|"):find("|" .. value .. "|", 1, true) ~= nil
end

local function check_types(what, options, types, level)
  if type(options) ~= "table" then error(what .. ": a table of options expected, got " .. type(options), level) end
  for name in next, options do
    if not types[name] then error(("%s: unknown option '%s'"):format(what, tostring(name)), level) end
  end
  for name, wanted in next, types do -- by `types`, not by `options`: values from a metatable are checked as well
    local value = options[name]
    if value == nil then
      if wanted:byte(-1) == 33 then error(("%s: option '%s' is missing"):format(what, name), level) end -- a "!"
    else
      local kind = wanted:match("^[^!]*")
      if not fits(value, kind) then
        error(("%s: option '%s' must be %s"):format(what, name, named(kind)), level)
      end
    end
  end
end

--- Checks a table of options against their types. Raises at the caller's caller.
-- @tparam string what whose options they are, for the message
-- @tparam table options
-- @tparam table types by name; a type with a trailing `!` is required
function check.options(what, options, types)
  check_types(what, options, types, 4)
end

local types_of_lists = setmetatable({}, { __mode = "k" })

-- The types by name, made once for each list.
local function types_of(list)
  local types = types_of_lists[list]
  if not types then
    types = {}
    for _, option in ipairs(list) do types[option.name] = option.type end
    types_of_lists[list] = types
  end
  return types
end

--- Reads a table of options that are described by a list. Raises at the caller's caller.
-- @tparam string what whose options they are, for the message
-- @tparam table options
-- @tparam table list of `name`, `type`, `default` and `doc`
-- @treturn table the options by name, with the defaults for those that are absent
function check.read(what, options, list)
  check_types(what, options, types_of(list), 4)
  local values = {}
  for _, option in ipairs(list) do
    values[option.name] = options[option.name]
    if values[option.name] == nil then values[option.name] = option.default end
  end
  return values
end

--- Checks one argument.
function check.argument(what, name, value, wanted)
  if not tests[wanted](value) then
    error(("%s: %s must be %s, got %s"):format(what, name, named(wanted), type(value)), 3)
  end
end

--- What is wrong with an access token. The server's firewall answers 400 to a path with one of these characters,
-- percent-encoded or not.
-- @tparam string token
-- @treturn ?string nil when nothing is
function check.mistake_in_token(token)
  local bad = token:match("[/\\%%;%c]")
  if bad then
    local shown = bad:find("%c") and "a control character (a line's end?)" or "'" .. bad .. "'"
    return ("the token contains %s, which no URL of the server can carry"):format(shown)
  end
  if token == "." or token == ".." then return "the token cannot be a path" end
end

--- Checks an access token.
function check.token(what, token)
  local mistake = check.mistake_in_token(token)
  if mistake then error(what .. ": " .. mistake, 3) end
end

return check
