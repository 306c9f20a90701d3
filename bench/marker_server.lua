--- A server for the outbox's benchmark, `lua marker_server.lua PORT`: answers every post by 200 and forgets it, but for
-- client attributes, which it shows when it is asked. `GET /requests` tells how many requests came before.
local cqueues = require "cqueues"
local cqueues_socket = require "cqueues.socket"

local ANSWER = "HTTP/1.1 200 \r\nContent-Length: %d\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\n\r\n%s"

local queue, attributes, requests = cqueues.new(), "{}", 0
local listener = assert(cqueues_socket.listen("127.0.0.1", tonumber(arg[1])))

local function serve(socket)
  socket:setmode("b", "bf")
  socket:onerror(function(_, _, why) return why end)
  while true do
    local request, length = socket:xread "*l", 0
    if not request then return end
    for line in function() return socket:xread "*l" end do
      if line == "\r" or line == "" then break end
      length = tonumber(line:match "^[Cc]ontent%-[Ll]ength: (%d+)") or length
    end
    local body = length > 0 and socket:xread(length) or ""
    if request:find "^POST.*/attributes" then attributes = ('{"client":%s}'):format(body) end
    local shown = request:find "^GET /requests" and tostring(requests) or request:find "^GET" and attributes or ""
    requests = requests + 1
    socket:xwrite(ANSWER:format(#shown, shown), "bf")
    socket:flush()
  end
end

queue:wrap(function()
  for socket in listener:clients() do
    queue:wrap(function()
      serve(socket)
      socket:close()
    end)
  end
end)
assert(queue:loop())
