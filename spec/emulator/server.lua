--- The listening sockets and what comes in on them.
local cqueues = require "cqueues"
local cqueues_socket = require "cqueues.socket"
local http1 = require "spec.emulator.http1"

local server = {}

--- Listens on a port of 127.0.0.1, 0 for any free one.
-- @return the socket and its port; or nil
function server.listen(port)
  local listener = cqueues_socket.listen({ host = "127.0.0.1", port = port, reuseaddr = true })
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
          serve(socket)
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
  server.accept(queue, listener, function(socket) http1.serve(world, socket) end)
end

return server
