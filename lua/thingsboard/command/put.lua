--- `thingsboard put`: puts telemetry into an outbox, to be sent later.
-- @module thingsboard.command.put
local config = require "thingsboard.command.config"
local context = require "thingsboard.command.context"
local core = require "thingsboard.core"
local options = require "thingsboard.command.options"

local put = {
  usage = "put [-l] [--ts MILLISECONDS] [--outbox FILE] KEY=VALUE...",
  help = [[
Records telemetry in the file of an outbox, and returns when it is on the disk. `thingsboard outbox send` sends it. One
process at a time can use the file: while `thingsboard service` uses this outbox, record from one of its scripts.]],
  options = {
    { name = "lines", short = "l", help = "read lines of JSON from the standard input, as `send` does" },
    { name = "ts", value = "MILLISECONDS", help = "the time of the values; now if absent" },
    { name = "outbox", value = "FILE", help = "instead of the one of the configuration" },
  },
}

function put.run(self, arguments)
  if self.given.lines and arguments[1] then options.misused "with -l the values come from the standard input alone" end
  if not self.given.lines and not arguments[1] then
    options.misused "put what? KEY=VALUE..., or -l for lines of the standard input"
  end
  local values = context.telemetry_of(arguments, self.given.ts)
  local device <close> = config.recorder() -- no server is asked
  local outbox <close> = self:outbox(device)
  if not self.given.lines then
    local ok, err = outbox:put { ts = self.given.ts or core.now(), values = values }
    return not ok and context.fail_given(err) or nil
  end
  return require("thingsboard.command.lines").each_batch(function(batch) return outbox:put(batch) end)
end

return put
