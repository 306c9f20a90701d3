--- What the subcommands share: the device and the outbox of the configuration, output, exit codes.
-- @module thingsboard.command.context
local config = require "thingsboard.command.config"
local core = require "thingsboard.core"
local errors = require "thingsboard.error"
local json = require "thingsboard.json.decode"
local options = require "thingsboard.command.options"
local tb = require "thingsboard"

local context = {}
context.__index = context

--- The exit codes.
context.codes = { done = 0, other = 1, usage = 2, refused = 3, again = 4, nothing = 5, file = 6 }

local by_kind = { file = "file", http = "refused", not_found = "refused", refused = "refused" }

--- What a failure means for the exit code.
-- @tparam table err
-- @treturn integer
function context.code_of(err)
  if err.kind == "file" then return context.codes.file end
  if err.retryable then return context.codes.again end
  return context.codes[by_kind[err.kind] or "other"]
end

--- Says on the standard error what is wrong.
-- @param err an error, or a text
function context.complain(err)
  io.stderr:write("thingsboard: ", errors.text_of(err), "\n")
end

--- Complains, and returns the exit code.
function context.fail(err)
  context.complain(err)
  return context.code_of(err)
end

-- Ends the subcommand. What the library raises stands for a mistake in the configuration.
local function give_up(err)
  error(errors.is(err) and err or errors.new("other", (errors.text_of(err):gsub("^[^:]+%.lua:%d+: ", ""))), 0)
end

--- @tparam table given the options of the command line
function context.new(given)
  return setmetatable({ given = given }, context)
end

--- The configuration; the subcommand ends where that cannot be read.
function context:config()
  if not self.values then
    local values, err = config.load(self.given)
    if not values then give_up(err) end
    self.values = values
  end
  return self.values
end

--- The connection's options, the url among them.
function context:connection()
  local values = self:config()
  if not values.url then
    options.misused "which server? Give --url, set THINGSBOARD_URL, or write url = \"...\" into the configuration"
  end
  return config.connection(values)
end

--- The device of the configuration.
function context:device()
  local values, connection = self:config(), self:connection()
  if not values.token and not values.token_file then
    options.misused "which device? Give --token-file, set THINGSBOARD_TOKEN, or write token_file into the configuration"
  end
  connection.token, connection.token_file = values.token, values.token_file
  local ok, device, err = pcall(tb.device, connection)
  if not ok or not device then give_up(ok and err or device) end
  return device
end

--- The outbox of the configuration, or of `--outbox`.
-- @tparam table device
function context:outbox(device)
  local wanted = {}
  for name, value in next, self:config().outbox or {} do wanted[name] = value end
  wanted.path = self.given.outbox or wanted.path
  if not wanted.path then
    options.misused "which outbox? Give --outbox FILE, or write outbox = { path = \"...\" } into the configuration"
  end
  local ok, outbox, err = pcall(device.outbox, device, wanted)
  if not ok or not outbox then give_up(ok and err or outbox) end
  return outbox
end

--- A value as JSON text.
function context.json(value)
  return core.body():value(value):text()
end

--- Writes a value to the standard output, as a line of JSON. Raises when nobody reads it.
function context.print(value)
  local ok = io.stdout:write(context.json(value), "\n") and io.stdout:flush()
  if not ok then error(errors.new("other", "the standard output is closed"), 0) end
end

--- A value as it is written on a command line: JSON where it is JSON, else text.
function context.value_of(text)
  local value = json.decode(text)
  if value == nil then return text end
  return value
end

--- The values of arguments `KEY=VALUE`.
-- @tparam table arguments
-- @treturn table
function context.values_of(arguments)
  local values = {}
  for _, argument in ipairs(arguments) do
    local key, text = argument:match "^([^=]+)=(.*)$"
    if not key then options.misused("'%s' is not KEY=VALUE", argument) end
    values[key] = context.value_of(text)
  end
  return values
end

--- The seconds of `-W` as a moment of the monotonic clock.
function context:deadline()
  return self.given.wait and core.monotonic() + self.given.wait or math.huge
end

--- All of the standard input: for arguments `-`.
function context.read_input()
  return ((io.read "a" or ""):gsub("\n$", ""))
end

return context
