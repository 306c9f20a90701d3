--- Parses the words of a command line.
-- @module thingsboard.command.options
local options = {}

-- A mistake in the command line.
local mistake = { __name = "thingsboard.command.mistake" }
function mistake:__tostring() return self.message end

--- Ends the command with a message about wrong usage.
-- @tparam string text a format, followed by its values
function options.misused(text, ...)
  error(setmetatable({ message = text:format(...) }, mistake), 0)
end

--- Whether that is what ended it.
function options.is_mistake(raised)
  return getmetatable(raised) == mistake
end

local WHY_NO_TOKEN <const> = "a token is not taken from the command line, where every user of the machine can read it "
  .. "(ps): put it into a file of your own (chmod 600) and give --token-file, or set THINGSBOARD_TOKEN"

local converted = {
  SECONDS = function(text)
    local seconds = tonumber(text)
    return seconds and seconds > 0 and seconds < 1e6 and seconds or nil, "a number of seconds above 0"
  end,
  COUNT = function(text)
    local count = math.tointeger(tonumber(text))
    return count and count > 0 and count or nil, "an integer above 0"
  end,
  MILLISECONDS = function(text)
    local time = math.tointeger(tonumber(text))
    return time and time > 0 and time or nil, "milliseconds since 1970"
  end,
}

local function convert(word, option, text)
  local as = converted[option.value]
  if not as then return text end
  local value, wanted = as(text)
  if value == nil then options.misused("%s must be %s, not '%s'", word, wanted, text) end
  return value
end

local function find(known, word)
  for _, option in ipairs(known) do
    if word == "--" .. option.name or option.short and word == "-" .. option.short then return option end
  end
  if word == "--token" or word == "--access-token" then options.misused(WHY_NO_TOKEN) end
  options.misused("unknown option '%s'", word)
end

--- Sorts the words into options and arguments.
-- @tparam table words
-- @tparam table known a list of options: `name`, `short` (a letter), `value` (the name of what it takes, if anything),
-- `help`
-- @tparam ?boolean only_first whether to stop at the first argument
-- @treturn table the options' values by name, true for those without one
-- @treturn table the arguments
function options.parse(words, known, only_first)
  local given, arguments, at = {}, {}, 1
  while at <= #words do
    local word = words[at]
    at = at + 1
    if word == "--" or only_first and not word:find "^%-." then
      table.move(words, word == "--" and at or at - 1, #words, #arguments + 1, arguments)
      break
    elseif word:find "^%-." then
      local name, text = word:match "^(%-%-[^=]+)=(.*)$"
      name = name or word
      local option = find(known, name)
      if option.value and not text then
        text = words[at]
        at = at + 1
        if not text then options.misused("%s wants a value: %s", name, option.value) end
      elseif text and not option.value then
        options.misused("%s takes no value", name)
      end
      given[option.name] = option.value and convert(name, option, text) or true
    else
      arguments[#arguments + 1] = word
    end
  end
  return given, arguments
end

--- The lines of a help text for options.
function options.describe(known)
  local lines = {}
  for _, option in ipairs(known) do
    local words = (option.short and "-" .. option.short .. ", " or "    ") .. "--" .. option.name
      .. (option.value and " " .. option.value or "")
    lines[#lines + 1] = ("  %-26s %s"):format(words, option.help)
  end
  return table.concat(lines, "\n")
end

return options
