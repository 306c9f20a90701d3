--- The emulator from a spec's side: starts the process, acts as the server's user, looks at what arrived.
-- Blocking, on LuaSocket. The process ends with `stop`, and with this process whatever happens to it.
-- @usage
-- local emulator = require "spec.support.emulator"
-- local e = emulator.start { async_timeout = 2000 }
-- e:set_shared(e.token, '{"interval":5}')
-- e:stop()
local cjson = require "cjson"
local socket = require "socket"

local emulator = {}

local Emulator = {}
Emulator.__index = Emulator

local START_TIMEOUT = 20
local CALL_TIMEOUT = 60
-- For specs that run under another Lua than the emulator, or on a TLS that knows servers by their names alone.
local EMULATOR_LUA = os.getenv "EMULATOR_LUA" or "lua5.4"
local TLS_HOST = os.getenv "EMULATOR_TLS_HOST" or "127.0.0.1"

local main = debug.getinfo(1, "S").source:match("^@(.*)support/emulator%.lua$") .. "emulator/main.lua"

local function quoted(argument)
  return "'" .. tostring(argument):gsub("'", "'\\''") .. "'"
end

local function command_line(settings, port)
  local parts = { "ulimit -n $(ulimit -Hn) 2>/dev/null; exec " .. EMULATOR_LUA, quoted(main) }
  parts[3] = "--quiet --port 0 --control --tls --parent --tell " .. port
  for name, value in pairs(settings) do
    if name == "page" then
      parts[#parts + 1] = "--page"
    elseif name ~= "rate_limits" then
      parts[#parts + 1] = "--" .. name:gsub("_", "-") .. " " .. quoted(math.tointeger(value) or value)
    end
  end
  return table.concat(parts, " ") .. " >/dev/null"
end

--- Starts an emulator and waits until it serves.
-- @tparam[opt] table settings see the emulator's README; times in milliseconds; `page = true` for its page
-- @return the emulator, with the fields `url`, `tls_url`, `ca_file`, `port`, `tls_port`, `token`, `page` and
-- `pin`, of the key that TLS uses
function emulator.start(settings)
  settings = settings or {}
  local listener = assert(socket.bind("127.0.0.1", 0))
  local _, port = listener:getsockname()
  local process = assert(io.popen(command_line(settings, port), "w"))
  listener:settimeout(START_TIMEOUT)
  local teller = assert(listener:accept(), "the emulator did not start")
  teller:settimeout(START_TIMEOUT)
  assert(teller:receive("*l"))
  local line = assert(teller:receive("*l"))
  local about = cjson.decode(line)
  teller:close()
  listener:close()
  local control = assert(socket.connect("127.0.0.1", math.tointeger(about.control)))
  control:setoption("tcp-nodelay", true)
  control:settimeout(CALL_TIMEOUT)
  local self = setmetatable({
    process = process, control = control,
    url = about.url, tls_url = about.tls_url:gsub("127%.0%.0%.1", TLS_HOST), ca_file = about.ca_file,
    token = about.token, pin = about.pin, page = about.page,
    port = math.tointeger(about.port), tls_port = math.tointeger(about.tls_port),
  }, Emulator)
  if settings.rate_limits then self:set({ rate_limits = settings.rate_limits }) end
  return self
end

local function call(self, command, fields)
  fields = fields or {}
  fields.command = command
  assert(self.control:send(cjson.encode(fields) .. "\n"))
  local line = assert(self.control:receive("*l"))
  local answer = cjson.decode(line)
  if answer.error then error("emulator: " .. answer.error, 3) end
  return answer.result
end

local function number(text) return math.tointeger(tonumber(text)) end

--- Ends the emulator.
function Emulator:stop()
  if not self.process then return end
  self.control:close()
  self.process:close()
  self.process = nil
end

Emulator.__gc = Emulator.stop
Emulator.__close = Emulator.stop

--- Makes a device; returns its token.
-- @tparam[opt] table fields `name`, `token`
function Emulator:create_device(fields)
  fields = fields or {}
  return call(self, "create_device", { name = fields.name, token_wanted = fields.token })
end

--- Deletes a device; its open requests hear so.
function Emulator:delete_device(token) call(self, "delete_device", { token = token }) end

--- Cuts the connection of one of a device's open polls; the server does not notice.
function Emulator:cut(token) call(self, "cut", { token = token }) end

--- Gives a device another token.
function Emulator:change_token(token, new) call(self, "change_token", { token = token, new = new }) end

--- What is stored of a device's telemetry, in order of arrival.
-- @return a list of `{ ts=, server_ts=, key=, type=, value= }`;
-- `type` is LONG, DOUBLE, STRING, BOOL or JSON, `value` text
function Emulator:telemetry(token)
  local list = call(self, "telemetry", { token = token })
  for _, entry in ipairs(list) do entry.ts = number(entry.ts) end
  return list
end

--- Stored telemetry by key: for each a list of `{ ts=, type=, value= }` by time, a ts once with its last value.
function Emulator:series(token)
  local series, places = {}, {}
  for _, entry in ipairs(self:telemetry(token)) do
    local list = series[entry.key] or {}
    series[entry.key] = list
    local place = entry.key .. "\0" .. entry.ts
    if not places[place] then
      places[place] = { ts = entry.ts }
      list[#list + 1] = places[place]
    end
    places[place].type, places[place].value = entry.type, entry.value
  end
  for _, list in pairs(series) do
    table.sort(list, function(left, right) return left.ts < right.ts end)
  end
  return series
end

--- The messages that the rule engine got, the empty ones too.
-- @return a list of `{ ts=, server_ts=, json=, transport=, stored= }`: the message's text, and the values before and
-- after it
function Emulator:messages(token)
  local list = call(self, "messages", { token = token })
  for _, message in ipairs(list) do message.ts = number(message.ts) end
  return list
end

--- The requests that a device sent to the server: a list of `{ method=, params= }`, params as JSON text.
function Emulator:client_requests(token) return call(self, "client_requests", { token = token }) end

--- Attributes of a scope, "client", "shared" or "server": `{ key = { type=, value= } }`.
function Emulator:attributes(token, scope) return call(self, "attributes", { token = token, scope = scope }) end

--- Sets shared attributes, given as a JSON text.
function Emulator:set_shared(token, json) call(self, "set_shared", { token = token, json = json }) end

--- Deletes shared attributes.
function Emulator:delete_shared(token, keys) call(self, "delete_shared", { token = token, keys = keys }) end

--- Sets server attributes, given as a JSON text.
function Emulator:set_server(token, json) call(self, "set_server", { token = token, json = json }) end

--- Sends a request to a device; returns at once.
-- @tparam string token the device's
-- @tparam table fields `method`, `params` (JSON text), `oneway`, `persistent`, `timeout` (milliseconds), `version` (1
-- for the older API of the server's users, which has other statuses)
-- @return a handle for `rpc_result` and `rpc_status`
function Emulator:rpc(token, fields)
  local line = { token = token }
  for name, value in pairs(fields) do line[name] = value end
  return call(self, "rpc", line)
end

--- What the server's user got as answer, waiting for it if asked to.
-- @return `{ status=, body= }`; nil if there is none yet
function Emulator:rpc_result(handle, wait_seconds)
  local result = call(self, "rpc_result", { handle = handle, wait = wait_seconds })
  if result == cjson.null or not result then return nil end
  result.status = number(result.status)
  return result
end

--- How a request fares: `{ id=, status=, response= }`, the status being QUEUED, DELIVERED, SUCCESSFUL or EXPIRED.
function Emulator:rpc_status(handle)
  local status = call(self, "rpc_status", { handle = handle })
  status.id = number(status.id)
  return status
end

--- Lets a device's actor start again, as a restart of the server does.
function Emulator:restart_rpc_ids(token) call(self, "restart_rpc_ids", { token = token }) end

--- The server crashes and is there again at once: what it has queued is gone, and so are all connections.
function Emulator:crash() call(self, "crash") end

--- Assigns a package.
-- @tparam string token the device's
-- @tparam string kind "firmware" or "software"
-- @tparam table package `title`, `version`, `tag`, `data` or `size` of a made up pattern, `checksum_algorithm`,
-- `checksum`, `file_name`, `content_type`, `url`
function Emulator:assign(token, kind, package)
  call(self, "assign", { token = token, kind = kind, package = package })
end

--- Takes a package away.
function Emulator:unassign(token, kind) call(self, "unassign", { token = token, kind = kind }) end

--- Loses a package's bytes between lookup and reading.
function Emulator:evict_package(token, kind) call(self, "evict_package", { token = token, kind = kind }) end

--- How requests of devices are answered: nil: not at all; "echo": with themselves, and `getTime` with the time; else
-- with this JSON text.
function Emulator:on_client_rpc(reply) call(self, "on_client_rpc", { reply = reply }) end

--- A user claims a device: "SUCCESS", "FAILURE" or "CLAIMED".
function Emulator:claim_by_user(token, secret)
  return call(self, "claim_by_user", { token = token, secret = secret or "" })
end

--- Takes a claimed device back.
function Emulator:reclaim(token) call(self, "reclaim", { token = token }) end

--- Makes or changes a profile for provisioning.
-- @tparam table profile `key`, `secret`, `strategy` (ALLOW_CREATE, CHECK_PRE_PROVISIONED, DISABLED or
-- X509_CERTIFICATE_CHAIN, on which the server breaks)
function Emulator:provision_profile(profile)
  call(self, "provision_profile", { key = profile.key, secret = profile.secret, strategy = profile.strategy })
end

--- Changes settings while it runs.
function Emulator:set(settings) call(self, "set", { settings = settings }) end

--- Breaks the next answers that match; see the emulator's README.
function Emulator:fault(fault) call(self, "fault", { fault = fault }) end

--- Ends all faults.
function Emulator:clear_faults() call(self, "clear_faults") end

--- What arrived.
-- @return a list of `{ method=, target=, headers=, body=, connection=, at=, ended_at=, status=, given_up= }`
function Emulator:requests()
  local list = call(self, "requests")
  for _, entry in ipairs(list) do
    entry.status, entry.connection = number(entry.status), number(entry.connection)
  end
  return list
end

--- How many requests have arrived since the start, waiting until there are so many if told to.
-- @tparam[opt] number count
-- @tparam[opt=5] number seconds to wait at most
function Emulator:arrived(count, seconds)
  return number(call(self, "arrived", { count = count or 0, wait = seconds or 5 }))
end

--- Forgets what arrived.
function Emulator:clear() call(self, "clear") end

return emulator
