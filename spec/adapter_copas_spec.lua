-- In Copas. Debian's is pure Lua, at home in the folder of 5.1; its loop never ends, that of later releases does.
package.path = package.path .. ";/usr/share/lua/5.1/?.lua"
local hosts = require "spec.support.hosts"
local copas = hosts.require("copas", "lua-copas")
local socket = require "socket"

local quiet = assert(socket.udp())
assert(quiet:setsockname("127.0.0.1", 0))

-- What Copas waits for until a time has come.
local function new_moment(at)
  return {
    getfd = function() return quiet:getfd() end,
    dirty = function() return socket.gettime() >= at end,
    receive = function() return socket.gettime() >= at or nil, "timeout" end,
    close = function() end,
  }
end

hosts.behaves {
  name = "copas",
  attach = function() require "thingsboard.adapter.copas".attach() end,
  go = function(body) copas.addthread(body) end,
  run = function(done)
    if copas.finished then return copas.loop() end
    repeat copas.step(0.02) until done()
  end,
  readable = function(udp)
    local asked = false
    copas.receive {
      getfd = function() return udp:getfd() end,
      dirty = function() return false end,
      receive = function()
        asked = not asked
        return not asked or nil, "timeout"
      end,
      close = function() end,
    }
  end,
  tick = function() copas.receive(new_moment(socket.gettime() + 0.005)) end,
}
