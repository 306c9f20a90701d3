--- Firmware and software for the service: installed by an executable, or by a function of a script.
-- @module thingsboard.service.updates
local check = require "thingsboard.check"
local handler = require "thingsboard.service.handler"
local options = require "thingsboard.options"

local updates = {}

local function run(service, wanted)
  local by = wanted.apply and handler.new(wanted.apply)
  local what = "updates of " .. wanted.kind
  service:keep(what, function(device, works)
    local given = {}
    for name, value in next, wanted do given[name] = value end
    given.outbox = service.outbox
    if not given.current and by then
      local current, err = by:current()
      if not current then return nil, err end
      given.current = current
    end
    function given.attribute_updates(keys) -- asked for once the state file could be written
      works()
      return service.attributes:updates(keys)
    end
    function given.apply(package)
      service.log:info("%s: installing %s %s", what, package.title, package.version)
      if by then return by:apply(package) end
      return service:apply_update(package)
    end
    local _, err = device:updates(given)
    return nil, err
  end)
end

--- @tparam table service
-- @tparam table wanted the configuration's `updates`: options of `device:updates`, whose `apply` is the path of an
-- executable, or absent for a script's `device:on_update`; or a list of such, one for each kind. Mistakes in it raise.
function updates.start(service, wanted)
  local types = {}
  for _, option in ipairs(options.updates) do types[option.name] = option.type end
  types.apply = "text"
  types.outbox, types.progress, types.attribute_updates = nil, nil, nil
  for _, one in ipairs(wanted[1] and wanted or { wanted }) do
    types.current = one.apply and "table" or "table!"
    check.options("updates", one, types)
    run(service, one)
  end
end

return updates
