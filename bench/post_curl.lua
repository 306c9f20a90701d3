--- `lua post_curl.lua URL COUNT`: telemetry through Lua-cURL on one handle, its body by lua-cjson.
local cjson = require "cjson"
local curl = require "cURL"

local url, count = arg[1], tonumber(arg[2])
local answer = {}
local easy = curl.easy {
  url = url, post = true, useragent = "thingsboard-lua", timeout_ms = 35000, connecttimeout_ms = 10000, nosignal = true,
  httpheader = { "Content-Type: application/json", "Expect:" },
  writefunction = function(bytes) answer[#answer + 1] = bytes end,
}
for i = 1, count do
  answer = {}
  easy:setopt_postfields(cjson.encode { temperature = 21.5, humidity = 10 + i % 90, battery = 3.123 })
  easy:perform()
  assert(easy:getinfo_response_code() == 200 and table.concat(answer) == "")
end
