--- `thingsboard provision`: gets credentials for a device, and keeps them in a file.
-- @module thingsboard.command.provision
local config = require "thingsboard.command.config"
local context = require "thingsboard.command.context"
local options = require "thingsboard.command.options"
local secret_file = require "thingsboard.secret_file"
local tb = require "thingsboard"

local provision = {
  usage = "provision --key KEY --secret-file FILE --store FILE [--name NAME] [--again]",
  help = [[
Asks the server for credentials by the key and the secret of a device profile, and keeps them in a file that only its
owner can read, which serves as --token-file from then on. Where that file exists, nothing is asked. All of it may
stand in the configuration as provision = { key = , secret_file = , store = , device_name = }.]],
  options = {
    { name = "key", value = "KEY", help = "provision key of the device profile" },
    { name = "secret-file", value = "FILE", help = "holds the provision secret; - for the standard input" },
    { name = "store", value = "FILE", help = "keeps the credentials" },
    { name = "name", value = "NAME", help = "of the device; the server makes one up if absent" },
    { name = "again", help = "ask, though there are credentials" },
  },
}

--- Provisions by what the configuration says.
-- @tparam table connection the connection's options
-- @tparam table wanted `key`, `secret` or `secret_file`, `store`, `device_name`, `anew`
-- @treturn[1] table the credentials
-- @treturn[2] nil
-- @treturn[2] table the error
function provision.ask(connection, wanted)
  local given = {}
  for name, value in next, connection do given[name] = value end
  for name, value in next, wanted do given[name] = value end
  given.secret_file = nil
  if wanted.secret_file then
    local secret, err = secret_file.read("provision", wanted.secret_file)
    if not secret then return nil, err end
    given.secret = secret
  end
  return tb.provision(given)
end

function provision.run(self, arguments)
  if arguments[1] then options.misused "provision takes no arguments" end
  local wanted = {}
  for name, value in next, self:config().provision or {} do wanted[name] = value end
  local given = self.given
  wanted.key = given.key or wanted.key
  if given["secret-file"] then wanted.secret_file, wanted.secret = given["secret-file"], nil end
  wanted.store = given.store or wanted.store
  wanted.device_name = given.name or wanted.device_name
  wanted.anew = given.again or wanted.anew
  for _, name in ipairs { "key", "store" } do
    if not wanted[name] then options.misused("--%s is missing", name) end
  end
  if not wanted.secret and not wanted.secret_file then options.misused "--secret-file is missing" end
  if wanted.secret_file == "-" then
    wanted.secret, wanted.secret_file = context.read_secret("provision", "-"), nil
  end
  local credentials, err = provision.ask(config.connection(self:connection()), wanted)
  if not credentials then return context.fail(err) end
  context.print { credentials_type = credentials.credentials_type, store = wanted.store }
end

return provision
