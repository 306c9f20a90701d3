--- The listening sockets and what comes in on them.
local cqueues = require "cqueues"
local cqueues_socket = require "cqueues.socket"
local connection_common = require "http.connection_common"
local http1 = require "spec.emulator.http1"
local http2 = require "spec.emulator.http2"

local server = {}

local HANDSHAKE_TIMEOUT = 10

--- Listens on a port, 0 for any free one, of an address: 127.0.0.1 when absent.
-- @return the socket and its port; or nil
function server.listen(port, address)
  local listener = cqueues_socket.listen({ host = address or "127.0.0.1", port = port, reuseaddr = true })
  listener:onerror(function(_, _, why) return why end)
  if not listener:listen() then return nil end
  local _, _, bound = listener:localname()
  return listener, bound
end

--- Runs `serve` as a task for every connection that comes in.
function server.accept(queue, listener, serve)
  queue:wrap(function()
    while true do
      local socket = listener:accept({ nodelay = true })
      if socket then
        queue:wrap(function()
          local served, message = xpcall(serve, debug.traceback, socket)
          if not served then io.stderr:write("emulator: ", tostring(message), "\n") end
          socket:close()
        end)
      else
        cqueues.sleep(0.02) -- out of descriptors: some will be free soon
      end
    end
  end)
end

--- Serves HTTP without TLS.
function server.plain(queue, world, listener)
  server.accept(queue, listener, function(socket)
    local _ <close> = world:connected(socket)
    http1.serve(world, socket)
  end)
end

--- Serves HTTP over TLS: 1.1 or 2, as the client prefers.
function server.tls(queue, world, listener, context)
  server.accept(queue, listener, function(socket)
    socket:setmode("b", "b")
    socket:onerror(connection_common.onerror)
    local _ <close> = world:connected(socket)
    if not socket:starttls(context, HANDSHAKE_TIMEOUT) then return end
    if socket:checktls():getAlpnSelected() == "h2" then
      http2.serve(world, socket)
    else
      http1.serve(world, socket)
    end
  end)
end

return server
