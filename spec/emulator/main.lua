--- The emulator: `lua5.4 spec/emulator/main.lua`. See the README beside this file.
local root = debug.getinfo(1, "S").source:match("^@(.*)spec/emulator/main%.lua$")
-- Debian installs the modules of lua-http for Lua 5.1 to 5.3 only; they run under 5.4, but its own come first.
package.path = root .. "?.lua;" .. package.path
  .. ";/usr/share/lua/5.3/?.lua;/usr/share/lua/5.3/?/init.lua;/usr/share/lua/5.2/?.lua;/usr/share/lua/5.2/?/init.lua"

local run = require "spec.emulator.run"

os.exit(run({ ... }) and 0 or 1, true)
