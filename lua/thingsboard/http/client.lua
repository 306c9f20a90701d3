--- The connection of one device to one server: checks its options, sends a request, waits, and judges the answer.
-- @module thingsboard.http.client
local core = require "thingsboard.core"
local answer = require "thingsboard.http.answer"
local errors = require "thingsboard.error"
local json = require "thingsboard.json.decode"
local loop = require "thingsboard.loop"
local options = require "thingsboard.options"
local server = require "thingsboard.http.server"

-- What most clients do not have is here, which takes no memory of each.
local client = {
  closed = false,
  iterators = false, -- the set of those to be closed with the client
  listeners = false, -- by their owner
  begun = false, -- by exchange, when it was started, for listeners that want to know
  uptime = nil, -- the clock for that
  renewal = false, -- how to get another token
  rpc = nil, -- the state of `thingsboard.api.rpc_requests`
}
client.__index = client

--- Percent-encodes a text for a URL.
function client.escape(text)
  return (text:gsub("[^A-Za-z0-9%-._~]", function(c) return ("%%%02X"):format(c:byte()) end))
end

-- Whether this is the address of a server: without user, query or fragment, with a valid port. Host names are limited
-- to 255 bytes: longer ones made some libcurl overflow a buffer (CVE-2023-38545).
local function is_url(url)
  local authority = url:match("^[Hh][Tt][Tt][Pp][Ss]?://([^/?#@%s\\]+)[^?#@%s\\]*$")
  if not authority or #authority > 255 then return false end
  local port = authority:match("^[%w%-._\x80-\xFF]+(.*)$") or authority:match("^%[[%x:.]+%](.*)$")
    or authority:match("^%[[%x:.]+%%[%w%-._~]+%](.*)$") -- or IPv6, perhaps with a zone: fe80::1%eth0, fe80::1%25eth0
  if port == "" then return true end
  local number = port and tonumber(port:match("^:(%d+)$"))
  return number ~= nil and number >= 1 and number <= 65535
end

local function is_proxy(url)
  local scheme = url:lower():match("^(.-)://")
  return not scheme or scheme:find("^https?$") or scheme:find("^socks4a?$") or scheme:find("^socks5h?$")
end

local function milliseconds(seconds)
  return math.ceil(seconds * 1000)
end

local await = loop.await
local weak = { __mode = "k" }

-- Makes the core's client. All of its URLs begin with the prefix.
local function new_core(on, given, prefix, secrets)
  local config = { prefix = prefix, connect_timeout = milliseconds(given.connect_timeout) }
  for _, secret in next, secrets do config[#config + 1] = secret end
  for _, option in ipairs(options.connection) do
    local value = given[option.name]
    if option.core and value ~= option.default then config[option.name] = value end -- a default takes no memory
  end
  config[#config + 1] = given.client_key_password
  return core.client(on.reactor, config, given.max_response, given.user_agent)
end

-- What a client needs to use another token after a 401.
local function new_renewal(on, given, base, proxy_secret, renewed)
  return {
    cores = setmetatable({}, weak), -- by exchange, the core's client that started it
    core = function()
      local path, secrets = renewed()
      if not path then return nil end
      secrets[#secrets + 1] = proxy_secret
      return new_core(on, given, base .. path, secrets)
    end,
  }
end

local none = {}

-- The options that apply to packages by URL as well, unless they are the default. Most devices have none, and share a
-- table.
local function shared_options(given)
  local values
  for _, option in ipairs(options.connection) do
    local value = given[option.name]
    if option.shared and value ~= option.default then
      values = values or {}
      values[option.name] = value
    end
  end
  return values or none
end

--- Checks the values of options whose types are right.
-- @tparam string what for messages
-- @tparam table given values of `options.connection`
-- @treturn ?string what is wrong; nil when nothing is
function client.mistake(what, given)
  if not is_url(given.url:gsub("/+$", "")) then
    return what .. ": option 'url' must be like https://host or http://host:port, without user, query or fragment"
  end
  for _, name in ipairs { "client_key", "client_key_password" } do
    if given[name] and not given.client_cert then
      return ("%s: option 'client_cert' is missing beside '%s'"):format(what, name)
    end
  end
  if given.proxy and not is_proxy(given.proxy) then
    return what .. ": option 'proxy' must be like http://host:port or socks5h://host:port"
  end
end

--- @tparam string what for messages
-- @tparam table given values of `options.connection`, read by `thingsboard.check`
-- @tparam string path what every path of this client begins with
-- @tparam table secrets strings that no error may show
-- @tparam ?function renewed called after a 401: returns another path and other secrets, to be used from then on, or nil
function client.new(what, given, path, secrets, renewed)
  local mistake = client.mistake(what, given)
  if mistake then error(mistake, 3) end
  local base = given.url:gsub("/+$", "")
  local proxy_secret = given.proxy and given.proxy:gsub("^.-://", ""):match("^(.*)@")
  secrets[#secrets + 1] = proxy_secret
  local on = loop.default()
  local self = setmetatable({
    core = new_core(on, given, base .. path, secrets),
    loop = on,
    timeout = milliseconds(given.timeout),
    max_response = given.max_response,
    shared = shared_options(given),
    server = server.of(on, base),
    renewal = renewed and new_renewal(on, given, base, proxy_secret, renewed) or nil,
  }, client)
  on.clients[self] = true
  return self
end

-- Whether a request that was answered 401 is to be tried again, for there is another token now.
local function is_renewed(self, exchange)
  local renewal = self.renewal
  if renewal.cores[exchange] ~= self.core then return true end
  local renewed = not self.closed and renewal.core()
  if not renewed then return false end
  self.core = renewed
  return true
end

local asked = core.now()

--- A path whose answer no cache has. Some keep answers though the server forbids it, and would bring a request of RPC
-- twice, or an attribute's old value after a new one. So each path has a number of its own, which the server ignores,
-- and which no earlier process has used.
function client.uncached(path)
  asked = asked + 1
  return ("%s%sn=%d"):format(path, path:find("?", 1, true) and "&" or "?", asked)
end

--- Starts a request without waiting for it.
-- @tparam ?number timeout seconds; the device's when absent
-- @tparam ?table download of a package: see `start` of the core's client
-- @treturn[1] userdata the exchange, to be closed by the caller
-- @treturn[2] nil
-- @treturn[2] table the error: the client is closed
function client:start(method, path, body, timeout, download)
  if self.closed then return nil, errors.new("closed", "the device is closed") end
  timeout = timeout and milliseconds(timeout) or self.timeout
  local exchange = self.core:start(method, path, body, timeout, download)
  if self.renewal then self.renewal.cores[exchange] = self.core end
  if self.begun then self.begun[exchange] = self.uptime() end
  return exchange
end

local start = client.start

--- Closes the iterator when the client is closed; now, if it is closed already. Keeps a weak reference only.
-- @tparam table iterator with `close()`
function client:bind(iterator)
  if self.closed then return iterator:close() end
  self.iterators = self.iterators or setmetatable({}, weak)
  self.iterators[iterator] = true
end

--- Calls a function after every exchange, until its owner is collected.
-- @param whom the owner
-- @tparam function listener called with the status, nil when there was no answer or it was somebody else's; the
-- exchange; whether that answer was due; the error, unless the exchange has succeeded; and with `uptime`, how long it
-- took by that
-- @tparam ?function uptime a clock
function client:listen(whom, listener, uptime)
  self.listeners = self.listeners or setmetatable({}, weak)
  if uptime then self.begun, self.uptime = self.begun or setmetatable({}, weak), uptime end
  self.listeners[whom] = listener
end

-- The error of an exchange that has not succeeded: its result is `status`, `body` and `text`.
local function failure(self, what, exchange, expected, own, reason, status, body, text)
  if not status then
    if body == "BODY_TOO_LARGE" and expected.attachment and not exchange:is_attachment() then
      return errors.of_foreign(what, nil, "", text)
    end
    return errors.of_code(what, body, text, self:host())
  end
  if not own then
    local encoded = exchange:encoded() -- nobody can read it
    if encoded then
      reason = "the answer is compressed, which was not asked for" .. (reason and ": " .. reason or "")
    end
    return errors.of_foreign(what, status, encoded and "" or self:quote(body), reason)
  end
  local err = errors.of_status(what, status, self:quote(body), expected.meanings)
  if status == 401 and self.renewal then err.retryable = is_renewed(self, exchange) end
  return err
end

--- The result of an exchange that has ended.
-- @tparam string what the method's name, for messages
-- @tparam userdata exchange
-- @tparam table expected what the endpoint may answer, see `thingsboard.http.answer`
-- @tparam ?boolean due a poll has come to its time, at which 503 and 504 say only that nothing came
-- @return[1] what the answer says
-- @treturn[2] nil
-- @treturn[2] table the error: of kind `answer` when the answer is not the server's own
function client:outcome(what, exchange, expected, due)
  local status, body, text = exchange:result() -- the text of a failure; of an answer true, when it says it is a page
  local value, reason, own, err
  if text == true and answer.is_empty_page(expected, body, exchange) then
    reason = "the answer is an empty page"
  elseif status == 200 then
    value, reason = expected.read(body, exchange)
    own = value ~= nil
  else
    own = status and answer.is_own(expected, status, body, exchange:challenged())
  end
  if self.server.waiting and own and (status == 200 or status == 408) then self.server:answered() end
  if value == nil then err = failure(self, what, exchange, expected, own, reason, status, body, text) end
  if self.listeners then
    local took = self.begun and self.uptime() - (self.begun[exchange] or 0)
    for _, listener in next, self.listeners do listener(own and status or nil, exchange, due, err, took) end
  end
  return value, err
end

local outcome = client.outcome

--- The url's host and port, for messages.
function client:host() return self.server.base:match "://(.*)$" end

-- The words in the body of an error: the server's own JSON has them as `message`, the separate transport's as `error`.
local function words(body)
  local value = json.decode(body)
  if type(value) == "string" then return value end
  if type(value) ~= "table" then return body end
  if type(value.message) == "string" then return value.message end
  if type(value.error) == "string" then return value.error end
  return value.message == json.null and "" or body
end

--- An excerpt of an answer for an error message: one line of valid UTF-8, no HTML, secrets redacted.
function client:quote(body)
  local text = self.core:redact(words(body)):gsub("%s+", " "):gsub("%c", "?")
  text = errors.as_utf8(text):gsub("\xC2[\x80-\x9F]", "?")
  if answer.is_html(body) then return "a page of HTML" end
  if #text > 300 then text = text:sub(1, utf8.offset(text, 0, 300) - 1) .. " ..." end
  return text
end

--- Sends a request, waits for its end, and returns the result.
-- @tparam string what the method's name, for messages
-- @tparam string method
-- @tparam string path
-- @tparam ?string body
-- @tparam ?number timeout seconds; the device's when absent
-- @tparam table expected see `outcome`
-- @return as `outcome`
function client:call(what, method, path, body, timeout, expected)
  local value, err
  repeat
    local exchange <close>, closed = start(self, method, path, body, timeout)
    if not exchange then return nil, closed end
    await(self.loop, exchange)
    value, err = outcome(self, what, exchange, expected)
    if value ~= nil then return value end
  until not (err.kind == "http" and err.status == 401 and err.retryable) -- where the token has changed
  return nil, err
end

--- Ends all requests in flight with the error `closed`, and closes the iterators. Idempotent.
function client:close()
  self.closed = true
  local _ <close> = self.core -- even if closing an iterator raises
  for _, core_client in next, self.renewal and self.renewal.cores or {} do core_client:close() end
  for iterator in next, self.iterators or {} do iterator:close() end
end

return client
