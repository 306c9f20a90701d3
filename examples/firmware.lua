-- Downloads the firmware that is assigned to the device, in chunks, and verifies it.
-- Usage: lua5.4 firmware.lua URL TOKEN FILE
local tb = require "thingsboard"
local url, token, file = table.unpack(arg)
assert(file, "usage: firmware.lua URL TOKEN FILE")

local dev = tb.device { url = url, token = token }
local keys = { "fw_title", "fw_version", "fw_size", "fw_checksum", "fw_checksum_algorithm" }
local told = assert(dev:request_attributes { shared = keys }).shared
if not told.fw_title then
  print("no firmware is assigned")
  os.exit(true)
end

print(assert(dev:firmware {
  title = told.fw_title, version = told.fw_version, size = told.fw_size,
  checksum = told.fw_checksum, checksum_algorithm = told.fw_checksum_algorithm,
  path = file, chunk_size = 64 * 1024,
  progress = function(received, total) print(("%d of %d bytes"):format(received, total)) end,
}) .. " is whole and verified")
