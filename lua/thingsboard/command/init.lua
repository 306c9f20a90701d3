--- The command `thingsboard`: finds the subcommand, runs it, and turns its outcome into an exit code.
-- @module thingsboard.command
local process = require "thingsboard.process"
local core_library = package.searchpath("thingsboard.core", package.cpath)
if core_library then process.load_lazily(core_library) end -- first: a short command starts sooner

local context = require "thingsboard.command.context"
local errors = require "thingsboard.error"
local options = require "thingsboard.command.options"
local tb = require "thingsboard"

local command = {}

local SECONDS_TO_END <const> = 30 -- after SIGINT or SIGTERM, whatever a script does
local CUT_OFF <const> = ("thingsboard: error: it has not ended %d s after the signal, for a script or a program of its "
  .. "holds it up; it is ended by force\n"):format(SECONDS_TO_END)

--- The subcommands, and what they do.
command.subcommands = {
  { "send", "send telemetry" },
  { "attributes", "get, set or watch attributes" },
  { "rpc", "call the server, or serve its calls" },
  { "claim", "let a user claim the device" },
  { "provision", "get credentials" },
  { "firmware", "download the firmware that is assigned" },
  { "software", "download the software that is assigned" },
  { "update", "install firmware or software, and tell the server" },
  { "put", "record telemetry in an outbox" },
  { "outbox", "show or send what an outbox holds" },
  { "service", "run device scripts" },
  { "emulator", "be a server to try scripts against" },
}

--- The options of all of them.
command.options = {
  { name = "config", value = "FILE", help = "else ~/.config/thingsboard/config.lua, /etc/thingsboard/config.lua" },
  { name = "url", value = "URL", help = "of the server; or THINGSBOARD_URL" },
  { name = "token-file", value = "FILE", help = "holds the access token; or THINGSBOARD_TOKEN, the token itself" },
  { name = "help", short = "h", help = "show this" },
  { name = "version", help = "show the version" },
}

--- What the exit codes mean.
command.exit_codes = [[
Exit codes: 0 done; 1 another failure, or a signal before it was done; 2 used wrongly; 3 the server refused for good;
4 failed, but may be tried again; 5 nothing came in time; 6 a file cannot be used.]]

local VERSION <const> = "thingsboard " .. tb.version .. "\n"

local function overview()
  local lines = {
    "usage: thingsboard [options] SUBCOMMAND ...", "",
    "The device side of ThingsBoard's HTTP API, for shell scripts.", "",
  }
  for _, entry in ipairs(command.subcommands) do lines[#lines + 1] = ("  %-12s %s"):format(entry[1], entry[2]) end
  lines[#lines + 1] = "\nOptions:\n" .. options.describe(command.options)
  lines[#lines + 1] = "\nthingsboard SUBCOMMAND --help shows more.\n" .. command.exit_codes .. "\n"
  return table.concat(lines, "\n")
end

local function help_of(subcommand)
  local own = subcommand.options and options.describe(subcommand.options) .. "\n" or ""
  return ("usage: thingsboard %s\n\n%s\n\nOptions:\n%s%s\n\n%s\n"):format(subcommand.usage, subcommand.help, own,
    options.describe(command.options), command.exit_codes)
end

local function find(name)
  for _, entry in ipairs(command.subcommands) do
    if entry[1] == name then return require("thingsboard.command." .. name) end
  end
  options.misused("there is no subcommand '%s'; thingsboard --help lists them", name)
end

-- Errors that are told as they are; to all others the place is added.
local function with_traceback(raised)
  return type(raised) == "string" and debug.traceback(raised, 2) or raised
end

-- Runs the subcommand in a task, which signals end. Returns its exit code.
local function run(subcommand, given, arguments)
  local self, result = context.new(given), nil
  local task = tb.spawn(function()
    result = table.pack(xpcall(subcommand.run, with_traceback, self, arguments))
  end)
  local function stop()
    if subcommand.stop then subcommand.stop() else task:cancel() end
  end
  process.end_within(SECONDS_TO_END, CUT_OFF)
  local _ <close> = tb.on_signal("INT", stop)
  local _ <close> = tb.on_signal("TERM", stop)
  local _ <close> = tb.on_signal("PIPE", function() end) -- what writes hears of it
  task:join()
  if not result then return self.endless and context.codes.done or context.codes.other end
  if not result[1] then error(result[2], 0) end
  return result[2] or context.codes.done
end

local function interpret(words)
  local given, rest = options.parse(words, command.options, true)
  local name = table.remove(rest, 1)
  if given.version then
    context.write(VERSION)
  elseif not name and given.help then
    context.write(overview())
  elseif not name then
    io.stderr:write(overview())
    return context.codes.usage
  elseif name == "emulator" then
    return require "thingsboard.command.emulator"(rest)
  else
    local subcommand = find(name)
    local known = table.move(command.options, 1, #command.options, 1, {})
    table.move(subcommand.options or {}, 1, #(subcommand.options or {}), #known + 1, known)
    local more, arguments = options.parse(rest, known)
    for option, value in next, more do given[option] = value end
    if not given.help and not given.version then return run(subcommand, given, arguments) end
    context.write(given.help and help_of(subcommand) or VERSION)
  end
  return context.codes.done
end

--- Runs a command line.
-- @tparam table words
-- @treturn integer the exit code
function command.main(words)
  process.open_standard()
  local ok, code = pcall(interpret, words)
  if ok then return code end
  if options.is_mistake(code) then
    context.complain(code)
    return context.codes.usage
  end
  if errors.is(code) then return context.fail(code) end
  context.complain(code)
  return context.codes.other
end

return command
