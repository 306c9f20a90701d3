--- `thingsboard send`: sends telemetry at once.
-- @module thingsboard.command.send
local context = require "thingsboard.command.context"
local options = require "thingsboard.command.options"

local send = {
  usage = "send [-l] [--ts MILLISECONDS] KEY=VALUE...",
  help = [[
Sends telemetry. A value is JSON if it is valid JSON, else text: temperature=21.5 open=true name=hall list='[1,2]'.
With -l each line of the standard input is a JSON object of values, or {"ts": milliseconds, "values": {...}}; it is sent
when it comes, together with lines that came during the last post.]],
  options = {
    { name = "lines", short = "l", help = "read lines of JSON from the standard input" },
    { name = "ts", value = "MILLISECONDS", help = "the time of the values; the server's if absent" },
  },
}

function send.run(self, arguments)
  if self.given.lines then
    if arguments[1] then options.misused "with -l the values come from the standard input alone" end
    local device = self:device()
    return require("thingsboard.command.lines").each_batch(function(batch) return device:send_telemetry(batch) end)
  end
  if not arguments[1] then options.misused "send what? KEY=VALUE..., or -l for lines of the standard input" end
  local values = context.telemetry_of(arguments, self.given.ts)
  local ok, err = self:device():send_telemetry(self.given.ts and { ts = self.given.ts, values = values } or values)
  if not ok then return context.fail_given(err) end
end

return send
