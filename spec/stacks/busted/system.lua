-- What busted asks of LuaSystem, from LuaSocket, where only that is built.
local socket = require "socket"

return { gettime = socket.gettime, monotime = socket.gettime, sleep = socket.sleep }
