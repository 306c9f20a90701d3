--- `thingsboard emulator`: an emulator of the server to try scripts against, with a page for a browser. It is installed
-- as a package of its own, in a folder beside Lua's modules.
-- @module thingsboard.command.emulator
local context = require "thingsboard.command.context"

local HELP <const> = [[
usage: thingsboard emulator [--port PORT] [--tls] [--quiet] [--SETTING VALUE]...

Behaves as the server does towards devices, on 127.0.0.1, until it is interrupted. Its first line is an address and a
token, its second the address of a page for a browser, then comes a line for every request.
]]

local function find()
  local here = package.searchpath("thingsboard.command.emulator", package.path):match "^(.*)emulator%.lua$"
  for _, folder in ipairs { "../../../", "../../../../thingsboard-emulator/" } do -- in a clone, installed
    local main = loadfile(here .. folder .. "spec/emulator/main.lua")
    if main then return main end
  end
end

--- Runs the emulator to its end.
-- @tparam table arguments
-- @treturn integer the exit code
return function(arguments)
  if arguments[1] == "--help" then
    io.stdout:write(HELP)
    return context.codes.done
  end
  local main = find()
  if not main then
    context.complain "emulator: it is not installed; on Debian, install the package thingsboard-emulator"
    return context.codes.file
  end
  return main("--page", table.unpack(arguments))
end
