-- A device that gets its credentials from the server, once, and keeps them in a file that only its owner can read.
-- Usage: lua5.4 provisioning.lua URL KEY SECRET NAME FILE
local tb = require "thingsboard"
local url, key, secret, name, file = table.unpack(arg)
assert(file, "usage: provisioning.lua URL KEY SECRET NAME FILE")

local credentials = assert(tb.provision { url = url, key = key, secret = secret, device_name = name, store = file })
local dev = tb.device { url = url, token = credentials.token }
assert(dev:send_attributes { provisioned_by = "provisioning.lua" })
print("the device has its credentials, kept in " .. file)
