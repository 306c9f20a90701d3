--- `thingsboard claim`: lets a user claim the device.
-- @module thingsboard.command.claim
local context = require "thingsboard.command.context"
local options = require "thingsboard.command.options"

local claim = {
  usage = "claim [--secret-file FILE] [--duration SECONDS]",
  help = "Lets a user of the server claim the device, with a secret or without.",
  options = {
    { name = "secret-file", value = "FILE", help = "holds what the user must know; - for the standard input" },
    { name = "duration", value = "SECONDS", help = "how long it may be claimed; as the server says if absent" },
  },
}

function claim.run(self, arguments)
  if arguments[1] then options.misused "claim takes no arguments" end
  local path = self.given["secret-file"]
  local secret = path and context.read_secret("claim", path)
  local duration = self.given.duration
  local ok, err = self:device():claim { secret_key = secret, duration_ms = duration and math.ceil(duration * 1000) }
  if not ok then return context.fail(err) end
end

return claim
