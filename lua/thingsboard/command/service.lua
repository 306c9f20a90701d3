--- `thingsboard service`: runs device scripts.
-- @module thingsboard.command.service
local config = require "thingsboard.command.config"
local context = require "thingsboard.command.context"
local options = require "thingsboard.command.options"

local running

local subcommand = {
  usage = "service [CONFIG]",
  help = [[
Runs the scripts of a folder until SIGTERM or SIGINT. A script is a Lua file that gets the library and the device:
local tb, device = ... What it puts goes through an outbox; all scripts share one RPC stream and one attribute poll; a
script that fails is started again. SIGHUP loads new and changed files, and stops removed ones; SIGUSR1 writes the
state into the log. examples/service/config.lua shows a configuration.]],
}

function subcommand.run(self, arguments)
  if #arguments > 1 then options.misused "service takes one configuration at most" end
  self.given.config = arguments[1] or self.given.config
  local values = context.configured(config.identify, self:config())
  self:connection()
  if not values.token and not values.token_file then
    options.misused "which device? Write token_file, or provision with a store, into the configuration"
  end
  running = context.configured(require("thingsboard.service").new, values)
  running:run()
  return context.codes.done
end

function subcommand.stop()
  if running then running:stop() end
end

return subcommand
