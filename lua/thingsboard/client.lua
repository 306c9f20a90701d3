--- One server, and one call to it: options, start, wait, status.
-- @module thingsboard.client
local core = require "thingsboard.core"
local errors = require "thingsboard.error"
local loop = require "thingsboard.loop"

local client = {}
client.__index = client

--- What every function that talks to a server takes.
client.options = {
  url = "text!", -- http:// or https://, host, perhaps a port and a path
  timeout = "positive number", -- seconds for a whole call
  connect_timeout = "positive number", -- seconds
  ca_file = "text", ca_path = "text", pinned_key = "text", verify = "boolean",
  client_cert = "text", client_key = "text",
  proxy = "text", interface = "text", user_agent = "text",
  max_response = "positive integer", -- bytes
}

-- The server answers what it could not do within 30 s: a little more, and its word is heard.
local TIMEOUT = 35
local CONNECT_TIMEOUT = 10
local MAX_RESPONSE = 4 * 1024 * 1024
local USER_AGENT = "thingsboard-lua"

local handed_on = { "ca_file", "ca_path", "pinned_key", "verify", "client_cert", "client_key", "proxy", "interface" }

--- Percent-encodes a text for a URL.
function client.escape(text)
  return (text:gsub("[^A-Za-z0-9%-._~]", function(c) return ("%%%02X"):format(c:byte()) end))
end

--- @tparam string what for messages
-- @tparam table options checked already
-- @tparam string path what every path of this client begins with
-- @tparam table secrets strings that no error may show
function client.new(what, options, path, secrets)
  local base = options.url:gsub("/+$", "")
  if not base:find("^[Hh][Tt][Tt][Pp][Ss]?://[^/?#@%s\\]+[^?#@%s\\]*$") then
    error(what .. ": option 'url' must be like https://host or http://host:port, without user, query or fragment", 3)
  end
  local config = {
    prefix = base .. path,
    secrets = secrets,
    connect_timeout = math.ceil((options.connect_timeout or CONNECT_TIMEOUT) * 1000),
    max_response = options.max_response or MAX_RESPONSE,
    user_agent = options.user_agent or USER_AGENT,
  }
  for _, name in ipairs(handed_on) do config[name] = options[name] end
  local on = loop.default()
  local self = setmetatable({
    core = core.client(on.reactor, config),
    loop = on,
    timeout = options.timeout or TIMEOUT,
    iterators = setmetatable({}, { __mode = "k" }), -- those that poll; they end with the client
  }, client)
  on.clients[self] = true
  return self
end

--- Starts a request without waiting for it.
-- @tparam ?number timeout seconds; the device's when absent
-- @treturn[1] userdata the exchange, to be closed by the caller
-- @treturn[2] nil
-- @treturn[2] table the error: the client is closed
function client:start(method, path, body, timeout, ...)
  if self.closed then return nil, errors.new("closed", "the device is closed") end
  return self.core:start(method, path, body, math.ceil((timeout or self.timeout) * 1000), ...)
end

--- What came of an exchange that has ended.
-- @treturn[1] string the body of a 200
-- @treturn[2] nil
-- @treturn[2] table the error
function client:outcome(what, exchange)
  local status, body, text = exchange:result()
  if status == 200 then return body end
  if status then return nil, errors.of_status(what, status, self:quote(body)) end
  return nil, errors.of_code(what, body, text)
end

--- A part of what the server said, fit for a message: one line, no page of HTML, no secret.
function client:quote(body)
  local text = self.core:redact(body):gsub("%s+", " "):gsub("%c", "?")
  if text:find("^ ?<") then return "a page of HTML" end
  text = text:match('"message" ?: ?"(.-[^\\])"') or text
  if #text > 300 then
    local cut = utf8.len(text) and utf8.offset(text, 0, 300) or 300
    text = text:sub(1, cut - 1) .. " ..."
  end
  return text
end

--- One call: sends, waits, judges.
-- @tparam string what the method's name, for messages
-- @treturn[1] string the body of a 200
-- @treturn[2] nil
-- @treturn[2] table the error
function client:call(what, method, path, body, timeout)
  local exchange <close>, err = self:start(method, path, body, timeout)
  if not exchange then return nil, err end
  self.loop:wait(exchange)
  return self:outcome(what, exchange)
end

--- Ends what is in flight, as `closed`, and the iterators. Idempotent.
function client:close()
  self.closed = true
  for iterator in next, self.iterators do iterator:close() end
  self.core:close()
end

return client
