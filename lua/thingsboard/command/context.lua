--- What the subcommands share: the device and the outbox of the configuration, output, exit codes.
-- @module thingsboard.command.context
local check = require "thingsboard.check"
local client = require "thingsboard.http.client"
local config = require "thingsboard.command.config"
local core = require "thingsboard.core"
local errors = require "thingsboard.error"
local json = require "thingsboard.json.decode"
local loop = require "thingsboard.loop"
local options = require "thingsboard.command.options"
local process = require "thingsboard.process"
local secret_file = require "thingsboard.secret_file"
local tb = require "thingsboard"

local context = {}
context.__index = context

--- The exit codes.
context.codes = { done = 0, other = 1, usage = 2, refused = 3, again = 4, nothing = 5, file = 6 }

local STDIN <const>, EPIPE <const> = 0, 32

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

--- As `fail`, where the values come from the command line: one that cannot be sent is wrong usage.
function context.fail_given(err)
  if err.kind == "value" then options.misused("%s", err.message) end
  return context.fail(err)
end

--- What a raised mistake says, without the line of the code that raised it.
-- @param raised anything
-- @treturn string
function context.mistake(raised)
  return (errors.text_of(raised):gsub("^[^:]+%.lua:%d+: ", ""))
end

--- Calls a function of the library's by what the configuration says. The subcommand ends where that fails, and where
-- the function raises, which stands for a mistake in the configuration.
-- @tparam function make returns a value, or nil and an error
-- @param ... its arguments
-- @return the value
function context.configured(make, ...)
  local ok, made, err = pcall(make, ...)
  if ok and made then return made end
  if not ok then err = made end
  error(errors.is(err) and err or errors.new("other", context.mistake(err)), 0)
end

--- Calls a function of the library's with what the command line says: a mistake that it raises is wrong usage.
-- @tparam function call
-- @param ... its arguments
-- @return what it returns
function context.asked(call, ...)
  local result = table.pack(pcall(call, ...))
  if not result[1] then options.misused("%s", context.mistake(result[2])) end
  return table.unpack(result, 2, result.n)
end

--- @tparam table given the options of the command line
function context.new(given)
  return setmetatable({
    given = given,
    endless = false, -- it goes on until a signal ends it, which is no failure
  }, context)
end

--- The configuration; the subcommand ends where that cannot be read.
function context:config()
  self.values = self.values or context.configured(config.load, self.given)
  return self.values
end

--- The connection's options, the url among them.
function context:connection()
  local values = self:config()
  if not values.url then
    options.misused "which server? Give --url, set THINGSBOARD_URL, or write url = \"...\" into the configuration"
  end
  local source = values.url_from -- the command line, or a variable
  if source and client.mistake("", { url = values.url }) then
    options.misused("%s must be like https://host or http://host:port, without user, query or fragment, not '%s'",
      source, (values.url:gsub("//.*@", "//***@"))) -- a password
  end
  return config.connection(values)
end

--- The device of the configuration.
function context:device()
  local values, connection = context.configured(config.identify, self:config()), self:connection()
  if not values.token and not values.token_file then
    options.misused "which device? Give --token-file, set THINGSBOARD_TOKEN, or write token_file into the configuration"
  end
  local mistake = values.token_from and check.mistake_in_token(values.token)
  if mistake then options.misused("%s: %s", values.token_from, mistake) end
  connection.token, connection.token_file = values.token, values.token_file
  return context.configured(tb.device, connection)
end

-- The options of the outbox, its path among them. Nothing waits in memory, which a command does not outlive.
local function outbox_options(self)
  local wanted = {}
  for name, value in next, self:config().outbox or {} do wanted[name] = value end
  wanted.on_trouble, wanted.sync_every = nil, nil
  wanted.path = self.given.outbox or wanted.path
  if not wanted.path then
    options.misused "which outbox? Give --outbox FILE, or write outbox = { path = \"...\" } into the configuration"
  end
  return wanted
end

--- The outbox of the configuration, or of `--outbox`. Its file is made if there is none.
-- @tparam table device
function context:outbox(device)
  return context.configured(device.outbox, device, outbox_options(self))
end

--- As `outbox`; the subcommand ends where there is no file.
function context:existing_outbox(device)
  local wanted = outbox_options(self)
  local about, reason = process.stat(wanted.path)
  if not about then error(errors.new("file", "outbox: " .. reason), 0) end
  return context.configured(device.outbox, device, wanted)
end

--- A value as JSON text.
function context.json(value)
  return core.body():value(value):text()
end

--- Writes to the standard output. Raises when nobody reads it, or it cannot be written.
-- @tparam string text
function context.write(text)
  local ok, reason, code = io.stdout:write(text)
  if ok then ok, reason, code = io.stdout:flush() end
  if ok then return end
  if code == EPIPE then error(errors.new("other", "the standard output is closed"), 0) end
  error(errors.new("file", "the standard output: " .. reason), 0)
end

--- Writes a value to the standard output, as a line of JSON.
function context.print(value)
  context.write(context.json(value) .. "\n")
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
    if values[key] ~= nil then options.misused("the key '%s' stands there twice", key) end
    values[key] = context.value_of(text)
  end
  return values
end

--- The values of arguments `KEY=VALUE` as telemetry: their time is given by `--ts`.
-- @tparam table arguments
-- @tparam ?integer ts
-- @treturn table
function context.telemetry_of(arguments, ts)
  local values = context.values_of(arguments)
  if values.ts ~= nil and not ts then
    options.misused "ts=... would be stored as a value: give the time by --ts MILLISECONDS"
  end
  return values
end

--- The seconds of `-W` as a moment of the monotonic clock; nil if absent.
function context:deadline()
  return self.given.wait and core.monotonic() + self.given.wait
end

--- Reads what is available from the standard input; waits, while other tasks go on, until there is something.
-- @treturn[1] string empty at the end
-- @treturn[2] nil
-- @treturn[2] table the error
function context.read_some()
  while true do
    require("thingsboard.loop.watcher").of(loop.default()):wait(STDIN, "r")
    local text, reason = process.read(STDIN)
    if text then return text end
    if reason then return nil, errors.new("file", "the standard input: " .. reason) end
  end
end

--- All of the standard input, without the last line's end: for arguments `-`. Raises when it cannot be read.
function context.read_input()
  local parts = {}
  repeat
    local text, err = context.read_some()
    if not text then error(err, 0) end
    parts[#parts + 1] = text
  until text == ""
  return (table.concat(parts):gsub("\n$", ""))
end

--- The secret in a file, or in the standard input, which is `-`. Raises when there is none.
-- @tparam string what for messages
-- @tparam string path
function context.read_secret(what, path)
  if path == "-" then
    local secret = context.read_input():match "^%s*(.-)%s*$"
    if secret == "" then error(errors.new("file", what .. ": the standard input is empty"), 0) end
    return secret
  end
  local secret, err = secret_file.read(what, path)
  if not secret then error(err, 0) end
  return secret
end

return context
