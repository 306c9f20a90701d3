-- In Copas. Debian's is pure Lua, at home in the folder of 5.1; its loop never ends, that of later releases does.
package.path = package.path .. ";/usr/share/lua/5.1/?.lua"
local hosts = require "spec.support.hosts"
local copas = hosts.require("copas", "lua-copas")
local socket = require "socket"

local echo = assert(socket.udp())
assert(echo:setsockname("127.0.0.1", 0))
echo:settimeout(0)

hosts.behaves {
  name = "copas",
  attach = function() require "thingsboard.adapter.copas".attach() end,
  go = function(body) copas.addthread(body) end,
  run = function(done)
    if copas.finished then return copas.loop() end
    repeat copas.step(0.02) until done()
  end,
  tick = function()
    socket.sleep(0.005)
    assert(echo:sendto("tick", echo:getsockname()))
    assert(copas.receivefrom(echo, 16))
  end,
}
