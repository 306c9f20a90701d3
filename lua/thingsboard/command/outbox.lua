--- `thingsboard outbox`: shows what an outbox holds, and sends it.
-- @module thingsboard.command.outbox
local config = require "thingsboard.command.config"
local context = require "thingsboard.command.context"
local errors = require "thingsboard.error"
local options = require "thingsboard.command.options"

local outbox = {
  usage = "outbox status|send [--outbox FILE] [-W SECONDS]",
  help = [[
status  prints what waits and what was lost, as JSON. While `thingsboard service` has the file, this is what the service
        wrote into the file that `state` in its configuration names.
send    sends what waits, until nothing does, or until SECONDS have passed.]],
  options = {
    { name = "outbox", value = "FILE", help = "instead of the one of the configuration" },
    { name = "wait", short = "W", value = "SECONDS", help = "send: give up after so long; exit code 4" },
  },
}

-- What the service has written, while it has the outbox.
local function print_state(path, err)
  local file <close> = path and io.open(path, "rb")
  if not file then return context.fail(err) end
  context.write(file:read "a")
end

local function status(self)
  local device <close> = config.recorder() -- no server is asked
  local well, here = pcall(self.existing_outbox, self, device)
  if not well then
    if errors.is(here) and here.kind == "file" then return print_state(self:config().state, here) end
    error(here, 0)
  end
  local stats = here:stats()
  here:close()
  context.print {
    records = stats.records, bytes = stats.bytes, attributes = stats.attributes, lost = stats.lost,
  }
end

local function send(self)
  local device <close> = self:device()
  local here <close> = self:existing_outbox(device)
  local ok, err = here:drain { deadline = self.given.wait }
  if not ok then return context.fail(err) end
end

function outbox.run(self, arguments)
  local what = arguments[1]
  if #arguments ~= 1 or what ~= "status" and what ~= "send" then options.misused "outbox what? status, or send" end
  return (what == "send" and send or status)(self)
end

return outbox
