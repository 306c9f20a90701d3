--- The service's state: for the log, a file, and the server.
-- @module thingsboard.service.state
local core = require "thingsboard.core"
local errors = require "thingsboard.error"

local state = {}

local FILE_EVERY <const> = 60 -- seconds

--- @tparam table service
-- @treturn table
function state.of(service)
  local scripts, restarts = {}, 0
  for one in service.scripts:each() do
    scripts[errors.as_utf8(one.name)] = { state = one.state, restarts = one.restarts }
    restarts = restarts + one.restarts
  end
  local last_error, stats = service.log.last_error, service.outbox and service.outbox:stats()
  return {
    uptime = math.floor(core.monotonic() - service.began),
    scripts = scripts, restarts = restarts,
    last_error = last_error and errors.as_utf8(last_error),
    outbox = stats and {
      records = stats.records, bytes = stats.bytes, attributes = stats.attributes, lost = stats.lost,
      trouble = stats.trouble, error = stats.err and tostring(stats.err),
    },
  }
end

local function write_file(service, path, text)
  local file, reason = core.file(path, path .. ".new")
  local ok = file
  if file then
    ok, reason = file:write(text .. "\n")
    if ok then ok, reason = file:commit() end
    file:close()
  end
  if ok then service.state_file:is_over "state: works again" else service.state_file:goes_on("state: %s", reason) end
end

--- Writes the state into the log, if asked to, and into the file that the configuration names.
function state.write(service, into_log)
  local text = core.body():value(state.of(service)):text()
  if into_log then service.log:info("state: %s", text) end
  if service.values.state then write_file(service, service.values.state, text) end
end

local function report(service, as)
  local now = state.of(service)
  local values = {
    uptime = now.uptime, script_restarts = now.restarts, last_error = now.last_error,
    records_waiting = now.outbox and now.outbox.records,
  }
  if as == "attributes" then service:send_attributes(values) else service:put(values) end
end

--- Updates the file, and sends the state to the server as often as the configuration says.
function state.start(service)
  local wanted = service.values.report
  if service.values.state then
    service.loop:spawn_background(function()
      while true do
        state.write(service)
        service.loop:sleep(FILE_EVERY)
      end
    end)
  end
  if wanted then
    service.loop:spawn_background(function()
      while true do
        service.loop:sleep(wanted.every or 300)
        report(service, wanted.as)
      end
    end)
  end
end

return state
