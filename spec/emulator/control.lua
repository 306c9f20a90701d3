--- The control interface: a line of JSON in, a line of JSON out.
-- In: `{"command":"...", ...}`. Out: `{"result":...}` or `{"error":"..."}`. Strings may hold any bytes; both ends leave
-- bytes from 0x80 on as they are. Whole numbers that may be large travel as text.
local cjson = require "cjson"
local cqueues = require "cqueues"
local actor = require "spec.emulator.actor"
local answers = require "spec.emulator.answers"
local attributes = require "spec.emulator.attributes"
local claim = require "spec.emulator.claim"
local client_rpc = require "spec.emulator.client_rpc"
local conversion = require "spec.emulator.conversion"
local ota = require "spec.emulator.ota"
local server = require "spec.emulator.server"
local settings = require "spec.emulator.settings"

local control = {}

local commands = {}

local function device_of(world, line)
  return line.token and world.devices:find(line.token) or line.name and world.devices:named(line.name)
    or error("no device has the token " .. tostring(line.token), 0)
end

local function values_of(line)
  return assert(conversion.attributes(line.json))
end

function commands.create_device(world, line)
  return world.devices:create({ name = line.name, token = line.token_wanted }).token
end

function commands.delete_device(world, line)
  for open in pairs(world.devices:delete(device_of(world, line))) do open:give(answers.deleted(open.exchange)) end
end

function commands.cut(world, line)
  for open in pairs(device_of(world, line).sessions) do
    if not open.answer then return open:cut() end
  end
end

function commands.change_token(world, line)
  world.devices:change_token(device_of(world, line), line.new)
end

local function plain(values, record)
  local list = {}
  for index, entry in ipairs(values) do
    list[index] = {
      key = entry.key, type = entry.type, value = entry.value,
      ts = record and tostring(record.ts), server_ts = record and record.server_ts,
    }
  end
  return list
end

function commands.telemetry(world, line)
  local list = {}
  for index, entry in ipairs(device_of(world, line).telemetry) do list[index] = plain({ entry }, entry)[1] end
  return list
end

function commands.messages(world, line)
  local list = {}
  for index, message in ipairs(device_of(world, line).messages) do
    list[index] = {
      ts = tostring(message.ts), server_ts = message.server_ts, json = message.json,
      transport = plain(message.transport), stored = plain(message.stored),
    }
  end
  return list
end

function commands.client_requests(world, line)
  local list = {}
  for index, request in ipairs(device_of(world, line).client_requests) do
    list[index] = { method = request.method, params = request.params }
  end
  return list
end

function commands.answer_client_rpc(world, line)
  local request = device_of(world, line).client_requests[line.index] or error("no such request", 0)
  local open = request.open
  local reply = client_rpc.answer(world, line.reply, request)
  if not open:give(answers.text(open.exchange, 200, reply)) then error("the request has ended", 0) end
end

function commands.attributes(world, line)
  local found = {}
  for key, entry in pairs(device_of(world, line).scopes[line.scope].entries) do
    found[key] = { type = entry.type, value = entry.value }
  end
  return found
end

function commands.set_shared(world, line) attributes.set_shared(device_of(world, line), values_of(line)) end

function commands.delete_shared(world, line) attributes.delete_shared(device_of(world, line), line.keys) end

function commands.set_server(world, line) attributes.save(device_of(world, line).scopes.server, values_of(line)) end

function commands.rpc(world, line, state)
  local request = actor.send(world, device_of(world, line), line)
  state.handles[#state.handles + 1] = request
  return #state.handles
end

function commands.rpc_result(_, line, state)
  local request = state.handles[line.handle] or error("no such handle", 0)
  local deadline = cqueues.monotime() + (line.wait or 0)
  while not request.result and cqueues.monotime() < deadline do
    request.changed:wait(deadline - cqueues.monotime())
  end
  return request.result
end

function commands.rpc_status(_, line, state)
  local request = state.handles[line.handle] or error("no such handle", 0)
  return { id = request.id, status = request.status, response = request.response }
end

function commands.restart_rpc_ids(world, line) actor.restart(device_of(world, line)) end

-- A restart of the server: polls and requests under way end, what is queued is lost, and nothing answers for
-- `line.seconds`.
function commands.restart(world, line)
  world.queue:lose()
  world.faults:add({ name = "restart", how = "close" })
  for _, device in pairs(world.devices.by_name) do
    for open in pairs(device.sessions) do
      open:deregister()
      open:cut()
    end
    actor.restart(device)
  end
  world:later(line.seconds * 1000, function() world.faults:remove("restart") end)
end

function commands.crash(world) world:crash() end

function commands.assign(world, line) ota.assign(world, device_of(world, line), line.kind, line.package) end

function commands.unassign(world, line) ota.unassign(device_of(world, line), line.kind) end

function commands.evict_package(world, line)
  local package = device_of(world, line).packages[line.kind] or error("no package is assigned", 0)
  package.evicted = true
end

function commands.on_client_rpc(world, line) world.client_rpc_reply = line.reply end

function commands.claim_by_user(world, line) return claim.take(world, device_of(world, line), line.secret) end

function commands.reclaim(world, line) device_of(world, line).claimed = nil end

function commands.provision_profile(world, line)
  world.profiles[line.key] = { secret = line.secret, strategy = line.strategy or "ALLOW_CREATE" }
end

function commands.set(world, line) settings.change(world.settings, line.settings) end

function commands.fault(world, line) world.faults:add(line.fault) end

function commands.clear_faults(world) world.faults:clear() end

function commands.remove_fault(world, line) world.faults:remove(line.name) end

function commands.requests(world) return world.journal.entries end

function commands.arrived(world, line) return world.journal:wait_for(line.count, line.wait) end

function commands.clear(world) world.journal:clear() end

--- Carries out a command; raises a text when it cannot.
-- @param state of whoever commands: `handles`, a list of the RPCs that he sent
-- @param message `command` and its fields
function control.execute(world, state, message)
  local command = commands[message.command] or error("no such command: " .. tostring(message.command), 0)
  return command(world, message, state)
end

local function serve(world, socket)
  socket:setmode("b", "bn")
  socket:setmaxline(1 << 30) -- fits a 32-bit size_t
  socket:onerror(function(_, _, why) return why end)
  local state = { handles = {} }
  while true do
    local line = socket:xread("*l")
    if not line then return end
    local done, result = pcall(function() return control.execute(world, state, cjson.decode(line)) end)
    local encoded, text = pcall(cjson.encode, done and { result = result } or { error = tostring(result) })
    socket:xwrite((encoded and text or cjson.encode({ error = text })) .. "\n", "bn")
  end
end

--- Serves the control interface on a free port of 127.0.0.1; returns the port.
function control.serve(queue, world)
  local listener, port = server.listen(0)
  server.accept(queue, listener, function(socket) serve(world, socket) end)
  return port
end

return control
