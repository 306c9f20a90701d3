--- `lua firmware.lua URL PATH SIZE SHA256`: downloads a firmware; without a PATH, makes a request and ends.
local tb = require "thingsboard"

local url, path, size, checksum = table.unpack(arg)
local device = tb.device { url = url, token = "A1_TEST_TOKEN" }
if path then
  assert(device:firmware {
    title = "bench", version = "1", path = path,
    size = tonumber(size), checksum = checksum, checksum_algorithm = "SHA256",
  })
else
  device:request_attributes()
end
