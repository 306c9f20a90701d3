--- Writes the command's man page from what its subcommands say of themselves: lua5.4 packaging/manual/man.lua FILE
local command = require "thingsboard.command"

local lines = {}

local function out(format, ...) lines[#lines + 1] = select("#", ...) > 0 and format:format(...) or format end

-- Text that troff leaves alone.
local function plain(text)
  return (text:gsub("\\", "\\e"):gsub("%-", "\\-"):gsub("\n([.'])", "\n\\&%1"):gsub("^([.'])", "\\&%1"))
end

-- Lines that begin with spaces, or stand in columns, are left as they are.
local function verbatim(text)
  out ".nf"
  out(plain(text))
  out ".fi"
end

local function write_options(list)
  for _, option in ipairs(list) do
    out ".TP"
    local value = option.value and (" \\fI%s\\fR"):format(plain(option.value)) or ""
    local short = option.short and ("\\fB\\-%s\\fR%s, "):format(option.short, value) or ""
    out("%s\\fB\\-\\-%s\\fR%s", short, plain(option.name), value)
    out(plain(option.help))
  end
end

out '.\\" Written by packaging/manual/man.lua: `make man` writes it anew.'
out '.TH THINGSBOARD 1 "" "thingsboard" "User Commands"'
out ".SH NAME"
out "thingsboard \\- the device side of ThingsBoard's HTTP API, for shell scripts"
out ".SH SYNOPSIS"
out ".B thingsboard"
out "[\\fIoptions\\fR] \\fISUBCOMMAND\\fR ..."
out ".SH DESCRIPTION"
out "Sends telemetry, gets and sets attributes, answers RPC, claims, provisions, downloads and applies updates, keeps"
out "records in an outbox, and runs device scripts as a service. Results go to the standard output, complaints to the"
out "standard error. No secret is given on the command line: other users could read it there."
out ".SH OPTIONS"
write_options(command.options)
out ".SH SUBCOMMANDS"
for _, entry in ipairs(command.subcommands) do
  local name, about = entry[1], entry[2]
  out(".SS " .. name)
  local subcommand = require("thingsboard.command." .. name)
  if type(subcommand) == "table" then
    out("\\fBthingsboard\\fR " .. plain(subcommand.usage))
    out ".PP"
    verbatim(subcommand.help)
    write_options(subcommand.options or {})
  else
    out("%s; thingsboard %s \\-\\-help shows more.", plain(about:sub(1, 1):upper() .. about:sub(2)), name)
  end
end
out ".SH EXIT STATUS"
out(plain((command.exit_codes:gsub("^Exit codes: ", ""))))
out ".SH FILES"
for _, pair in ipairs {
  { "~/.config/thingsboard/config.lua, /etc/thingsboard/config.lua",
    "the configuration: Lua text that returns a table of the options of \\fBtb.device\\fR, and of \\fBoutbox\\fR, "
      .. "\\fBprovision\\fR, \\fBupdates\\fR and \\fBscripts\\fR." },
} do
  out ".TP"
  out(pair[1])
  out(pair[2])
end
out ".SH ENVIRONMENT"
out ".TP"
out "THINGSBOARD_URL, THINGSBOARD_TOKEN"
out "the address of the server, and the access token of the device."
out ".SH EXAMPLES"
verbatim [[
thingsboard --url https://thingsboard.example --token-file /etc/thingsboard/token send temperature=21.5
vmstat 5 | awk '{ print "{\"load\":" $1 "}"; fflush() }' | thingsboard send -l
thingsboard attributes watch interval
thingsboard rpc serve /etc/thingsboard/methods]]
out ""

local file <close> = assert(io.open(arg[1], "w"))
assert(file:write(table.concat(lines, "\n")))
