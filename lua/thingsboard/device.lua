--- A device: the endpoints of the server's device API, a method each. Every method blocks in a plain script and
-- suspends in a task.
-- @module thingsboard.device
local answer = require "thingsboard.http.answer"
local check = require "thingsboard.check"
local client = require "thingsboard.http.client"
local errors = require "thingsboard.error"
local json = require "thingsboard.json.decode"
local options = require "thingsboard.options"
local payload = require "thingsboard.json.payload"
local secret_file = require "thingsboard.secret_file"
-- Modules that not every process needs are loaded where they are used, so that a short script starts faster.

local device = {}
device.__index = device
device.__name = "thingsboard.device"

local ENOENT <const>, ENOTDIR <const> = 2, 20

-- The clients by device, rather than in a field: printing the fields of a device must not show the token.
local clients = setmetatable({}, { __mode = "k" })

local function prefix_of(token)
  return "/api/v1/" .. client.escape(token)
end

-- The token in a file, checked.
local function read_token(path)
  local token, err = secret_file.read("device", path)
  if not token then return nil, err end
  if token:find "^{" then -- what `provision` keeps
    local kept = json.decode(token)
    token = type(kept) == "table" and type(kept.token) == "string" and kept.token or nil
    if not token then return nil, errors.new("file", "device: there is no access token in " .. path) end
  end
  local mistake = check.mistake_in_token(token)
  if mistake then return nil, errors.new("file", ("device: %s: %s"):format(path, mistake)) end
  return token
end

--- A device.
-- @tparam table given see `options.device`
-- @treturn[1] device
-- @treturn[2] nil
-- @treturn[2] table the error: `token_file` cannot be used
function device.new(given)
  given = check.read("device", given, options.device)
  local token, path = given.token, given.token_file
  if token and path then error("device: option 'token' must not stand beside 'token_file'", 2) end
  if not token and not path then error("device: option 'token' is missing, or 'token_file'", 2) end
  if path then
    local err
    token, err = read_token(path)
    if not token then return nil, err end
  else
    check.token("device", token)
  end
  local function renewed()
    local new = read_token(path)
    if not new or new == token then return nil end
    local old = token
    token = new
    return prefix_of(new), { new, old }
  end
  local self = setmetatable({}, device)
  clients[self] = client.new("device", given, prefix_of(token), { token }, path and renewed)
  return self
end

local function client_of(self)
  return clients[self] or error("a device expected: call its methods with a colon", 3)
end

local call, nothing, telemetry = client.call, answer.nothing, payload.telemetry -- for what is called most often

-- A post whose answer is nothing but its status.
local function post(self, what, path, body, err)
  if not body then return nil, err end
  return call(clients[self] or client_of(self), what, "POST", path, body, nil, nothing)
end

--- Posts telemetry (device API, "telemetry").
-- @tparam table|string value a table of values; `{ts=, values=}` with `ts` in milliseconds; a list of both; or JSON
-- text
-- @treturn[1] boolean true: the server has taken it
-- @treturn[2] nil
-- @treturn[2] table the error
function device:send_telemetry(value)
  return post(self, "send_telemetry", "/telemetry", telemetry("send_telemetry", value))
end

--- Publishes client attributes (device API, "attributes").
-- @tparam table|string values a table of values, or JSON text
-- @treturn[1] boolean true
-- @treturn[2] nil
-- @treturn[2] table the error
function device:send_attributes(values)
  return post(self, "send_attributes", "/attributes", payload.attributes("send_attributes", values))
end

local function check_keys(what, keys)
  if type(keys) ~= "table" then error(what .. ": a list of keys expected, got " .. type(keys), 4) end
  local escaped = {}
  for i = 1, #keys do
    local key = keys[i]
    if type(key) ~= "string" or key == "" then error(("%s: key %d must be a non-empty string"):format(what, i), 4) end
    if key:find(",", 1, true) then
      error(("%s: key '%s' holds a comma, and the server would take it for two keys"):format(what, key), 4)
    end
    escaped[i] = client.escape(key)
  end
  return table.concat(escaped, ",")
end

local LONGEST_PATH = 7000 -- the server takes a request line of 8 KiB, the token in it

local function attributes_path(what, keys)
  local query = {}
  for group, name in next, { client = "clientKeys", shared = "sharedKeys" } do
    local list = keys[group] and check_keys(what, keys[group]) or ""
    if list ~= "" then query[#query + 1] = name .. "=" .. list end
  end
  local path = "/attributes" .. (#query > 0 and "?" .. table.concat(query, "&") or "")
  if #path > LONGEST_PATH then error(what .. ": too many keys for one request: ask in parts", 3) end
  return path
end

local function request(self, what, path)
  return client_of(self):call(what, "GET", client.uncached(path), nil, nil, answer.attributes)
end

--- Requests attributes (device API, "attributes").
-- @tparam ?table keys see `options.request_attributes`; all attributes when neither list names any
-- @treturn[1] table `client` and `shared`, a table of values each; what does not exist is absent
-- @treturn[2] nil
-- @treturn[2] table the error
function device:request_attributes(keys)
  keys = check.read("request_attributes", keys or {}, options.request_attributes)
  return request(self, "request_attributes", attributes_path("request_attributes", keys))
end

--- Iterates over the changes of shared attributes, beginning with their values (device API, "attributes/updates"). No
-- lasting change is missed, none is returned twice; changes while the script is busy are returned together.
-- @tparam ?table keys names; all when absent
-- @tparam ?table given see `options.attribute_updates`
-- @treturn iterator of a table of values and a list of the keys that are deleted; its `error` says why it ended by
-- itself
function device:attribute_updates(keys, given)
  given = check.read("attribute_updates", given or {}, options.attribute_updates)
  local path = attributes_path("attribute_updates", { shared = keys })
  local attribute_updates = require "thingsboard.api.attribute_updates"
  return attribute_updates.new(client_of(self), function() return request(self, "attribute_updates", path) end,
    keys and #keys > 0 and keys or nil, given.period)
end

--- Iterates over the server's RPC requests (device API, "rpc"), each with `id`, `method`, `params` and `reply(value)`.
-- No request is lost between two polls, none is returned twice. Reply to every two-way request: until then the server
-- holds back the requests behind it.
-- @tparam ?table given see `options.rpc_requests`
-- @treturn iterator of requests; its `error` says why it ended by itself
function device:rpc_requests(given)
  given = check.read("rpc_requests", given or {}, options.rpc_requests)
  local requests = require("thingsboard.api.rpc_requests").new("rpc_requests", self, client_of(self), given.period)
  return requests, nil, nil, requests
end

--- Answers an RPC request of the server (device API, "rpc/{id}").
-- @tparam integer id
-- @param value any JSON value; nil goes as null
-- @treturn[1] boolean true: the server has taken it; it accepts answers to ids that nobody waits for, too
-- @treturn[2] nil
-- @treturn[2] table the error
function device:reply_rpc(id, value)
  check.argument("reply_rpc", "id", id, "integer")
  local known = client_of(self)
  if value == nil then value = json.null end
  local body, err = payload.value("reply_rpc", value)
  local ok
  ok, err = post(self, "reply_rpc", ("/rpc/%d"):format(id), body, err)
  if ok then require("thingsboard.api.rpc_requests").answered(known, id) end
  return ok, err
end

--- Answers the server's RPC requests by handlers, one after another, until the device is closed.
-- A handler is called with `params` and the request; what it returns is the answer. One that raises is answered
-- `{error = message}`, and so is a method without a handler.
--
-- One-way requests are answered as well, which costs a post and does no harm. Nothing in a request tells its kind. That
-- a request is not repeated proves nothing either: a server that sends requests in sequence repeats none, and a two-way
-- request without an answer blocks all later ones.
-- @tparam table handlers functions by method
-- @tparam ?table given see `options.rpc_requests`
-- @treturn nil
-- @treturn ?table the error that ended it
function device:serve_rpc(handlers, given)
  if type(handlers) ~= "table" then error("serve_rpc: a table of handlers expected, got " .. type(handlers), 2) end
  for method, handler in next, handlers do
    check.argument("serve_rpc", ("handler '%s'"):format(method), handler, "function")
  end
  given = check.read("serve_rpc", given or {}, options.rpc_requests)
  local requests = require("thingsboard.api.rpc_requests").new("serve_rpc", self, client_of(self), given.period)
  for asked in requests, nil, nil, requests do
    require("thingsboard.api.rpc_answer").by(client_of(self).loop, asked, handlers[asked.method])
  end
  return nil, requests.error
end

--- Sends a request to the server (device API, "rpc"), which its rule chain answers.
-- @tparam string method
-- @param params any JSON value; nil goes as null
-- @return[1] the decoded answer
-- @treturn[2] nil
-- @treturn[2] table the error
function device:send_rpc(method, params)
  check.argument("send_rpc", "method", method, "non-empty string")
  if params == nil then params = json.null end
  local body, err = payload.value("send_rpc", { method = method, params = params })
  if not body then return nil, err end
  local value
  value, err = client_of(self):call("send_rpc", "POST", "/rpc", body, nil, answer.json)
  if value == nil then
    if err.kind == "http" and (err.status == 503 or err.status == 408) then
      err.message = err.message .. "; does the server's rule chain reply to requests of devices?"
    end
    return nil, err
  end
  if type(value) == "table" and value.error == "timeout" and next(value, (next(value))) == nil then
    return nil, errors.new("timeout", "send_rpc: the server's rule chain gave no answer in time", { retryable = true })
  end
  return value, err
end

--- Lets a user claim the device (device API, "claim"). The server answers 200 even if claiming is not allowed; only the
-- user sees that. After one wrong secret the server forgets the claim: call this again then.
-- @tparam ?table given see `options.claim`
-- @treturn[1] boolean true
-- @treturn[2] nil
-- @treturn[2] table the error
function device:claim(given)
  given = check.read("claim", given or {}, options.claim)
  local claim = { secretKey = given.secret_key, durationMs = given.duration_ms }
  if next(claim) == nil then return post(self, "claim", "/claim", "") end
  return post(self, "claim", "/claim", payload.value("claim", claim))
end

--- Downloads the firmware that is assigned (device API, "firmware").
-- @tparam table given see `options.package`
-- @treturn[1] string the package, or the path of the file that holds it
-- @treturn[2] nil
-- @treturn[2] table the error; no file is written then
function device:firmware(given)
  return require("thingsboard.ota.download").package(client_of(self), "firmware", given)
end

--- Downloads the software that is assigned (device API, "software"); as `firmware`.
-- @tparam table given see `options.package`
-- @treturn[1] string the package, or the path of the file that holds it
-- @treturn[2] nil
-- @treturn[2] table the error; no file is written then
function device:software(given)
  return require("thingsboard.ota.download").package(client_of(self), "software", given)
end

--- Keeps firmware or software up to date: learns of packages from the shared attributes, downloads them so that an
-- interruption costs no more than a chunk, verifies them on disk, applies each at most once, tells the server the
-- states DOWNLOADING, DOWNLOADED, VERIFIED, UPDATING, and UPDATED or FAILED. Run it in a task; a restart does no harm.
-- `apply` returns true when the new version runs, "again" to be called again, else nil and a reason. When it does not
-- return because the system restarts, `current` tells at the next start how it went.
-- @tparam table given see `options.updates`
-- @treturn nil
-- @treturn ?table the error that ended it
function device:updates(given)
  local client_here = client_of(self)
  return require("thingsboard.ota.updater").run(self, client_here, given)
end

-- Why a module that exists cannot be read: Lua reports it as not found.
local function unreadable(name)
  for template in package.cpath:gmatch "[^;]+" do
    local _, reason, code = io.open((template:gsub("%?", name)))
    if code and code ~= ENOENT and code ~= ENOTDIR then return reason end
  end
end

--- Opens an outbox: a record is on disk when `put` returns, and is sent when the server can be reached.
-- @tparam table given see `thingsboard.outbox.options`
-- @treturn[1] outbox with `put`, `attributes`, `run`, `drain`, `sync`, `stats`, `rejected`, `close`
-- @treturn[2] nil
-- @treturn[2] table the error: kind `file`
function device:outbox(given)
  local client_here = client_of(self)
  local found, problem = pcall(require, "thingsboard.spool")
  if not found then
    if problem:find "^module 'thingsboard.spool' not found" then
      problem = unreadable "thingsboard/spool" or "this build has none, for SQLite's header was missing: " ..
        "install SQLite's development package (libsqlite3-dev), and build and install again"
    end
    error("outbox: " .. problem, 2)
  end
  return require("thingsboard.outbox").new(client_here, given)
end

--- Calls a function whenever a request has ended, as long as the device exists.
-- @tparam function listener called with the status of the server's answer, nil when there was none, or it was somebody
-- else's; and with the error, unless the request has succeeded
function device:listen(listener)
  check.argument("listen", "listener", listener, "function")
  client_of(self):listen(self, function(status, _, _, err) listener(status, err) end)
end

--- Ends all calls in flight, polls included. Idempotent.
function device:close()
  client_of(self):close()
end

device.__close = device.close

function device:__tostring()
  return ("thingsboard.device (%s)"):format(tostring(client_of(self).core):match("closed") or "open")
end

return device
