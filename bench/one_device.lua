-- `lua one_device.lua URL TOKEN_FILE OUTBOX`: what the idle service is measured against, a script with one device,
-- which answers RPC, hears of attributes, and has an outbox.
local tb = require "thingsboard"

local dev = assert(tb.device { url = arg[1], token_file = arg[2] })
local outbox = assert(dev:outbox { path = arg[3] })
tb.spawn(function() outbox:run() end)
tb.spawn(function() dev:serve_rpc { ping = function() return true end } end)
tb.spawn(function() for _ in dev:attribute_updates() do end end)
tb.run()
