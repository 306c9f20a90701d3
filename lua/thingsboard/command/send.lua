--- `thingsboard send`: sends telemetry at once.
-- @module thingsboard.command.send
local context = require "thingsboard.command.context"
local options = require "thingsboard.command.options"

local send = {
  usage = "send [-l] [--ts MILLISECONDS] KEY=VALUE...",
  help = [[
Sends telemetry. A value is JSON where it is JSON, else text: temperature=21.5 open=true name=hall list='[1,2]'.
With -l each line of the standard input is a JSON object of values, or {"ts": milliseconds, "values": {...}}; it is sent
as it comes, together with others that have come meanwhile.]],
  options = {
    { name = "lines", short = "l", help = "read lines of JSON from the standard input" },
    { name = "ts", value = "MILLISECONDS", help = "the time of the values; the server's if absent" },
  },
}

local function send_lines(device)
  local failure
  local code = require("thingsboard.command.lines").each_batch(function(batch)
    local ok, err = device:send_telemetry(batch)
    failure = not ok and err or nil
    return ok
  end)
  return failure and context.fail(failure) or code
end

function send.run(self, arguments)
  if self.given.lines then
    if arguments[1] then options.misused "with -l the values come from the standard input alone" end
    return send_lines(self:device())
  end
  if not arguments[1] then options.misused "send what? KEY=VALUE..., or -l for lines of the standard input" end
  local values = context.values_of(arguments)
  local ok, err = self:device():send_telemetry(self.given.ts and { ts = self.given.ts, values = values } or values)
  if not ok then return context.fail(err) end
end

return send
