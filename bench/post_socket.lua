--- `lua post_socket.lua URL COUNT`: telemetry through LuaSocket's HTTP on a kept connection, its body by lua-cjson.
local cjson = require "cjson"
local http = require "socket.http"
local ltn12 = require "ltn12"
local socket = require "socket"

-- LuaSocket closes the connection after every request: this hands it the same one again, and keeps it from closing it.
local url, count = arg[1], tonumber(arg[2])
local host, port = url:match("^http://([^:]+):(%d+)")
local connection = assert(socket.connect(host, tonumber(port)))
connection:setoption("tcp-nodelay", true)
local kept = setmetatable({}, { __index = function(self, name)
  local method = function(_, ...) return connection[name](connection, ...) end
  self[name] = method
  return method
end })
function kept.connect() return 1 end
function kept.close() return 1 end
for i = 1, count do
  local body = cjson.encode { temperature = 21.5, humidity = 10 + i % 90, battery = 3.123 }
  local ok, status = http.request {
    url = url, method = "POST", source = ltn12.source.string(body), create = function() return kept end,
    headers = { ["Content-Type"] = "application/json", ["Content-Length"] = #body, Connection = "keep-alive",
      ["User-Agent"] = "thingsboard-lua" },
  }
  assert(ok and status == 200, status)
end
