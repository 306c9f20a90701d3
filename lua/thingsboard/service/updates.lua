--- Firmware and software for the service: installed by an executable, or by a function of a script.
-- @module thingsboard.service.updates
local handler = require "thingsboard.service.handler"

local updates = {}

local function run(service, wanted)
  local by = wanted.apply and handler.new(wanted.apply)
  local what = "updates of " .. wanted.kind
  service:keep(what, function(device)
    local given = {}
    for name, value in next, wanted do given[name] = value end
    given.outbox = service.outbox
    if not given.current and by then
      local current, err = by:current()
      if not current then return nil, err end
      given.current = current
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
-- executable, or absent for a script's `device:on_update`; or a list of such, one for each kind
function updates.start(service, wanted)
  for _, one in ipairs(wanted[1] and wanted or { wanted }) do run(service, one) end
end

return updates
