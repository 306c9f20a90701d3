--- Decides whether an answer is ThingsBoard's own. Portals, proxies, firewalls and load balancers answer in its place.
--
-- ThingsBoard's answers have known forms: a successful post has no body, a successful request has JSON of a certain
-- shape, and errors have one of the few forms below. Everything else is somebody else's answer, and means an outage.
-- @module thingsboard.http.answer
local json = require "thingsboard.json.decode"

local answer = {}

-- What an endpoint may answer. Each has `read`, which gets the body of a 200 and the core's exchange, and returns the
-- body's value, or nil and why it cannot be ThingsBoard's. Some have `bare`, the set of statuses that ThingsBoard sends
-- without a body, `meanings`, texts by status, and `attachment`, whether its 200 is marked as an attachment.

-- 401: unknown token. 408: a request that took too long. 500: a bad value, a rate limit or an internal failure. The
-- others are a gateway's, which says only that it could not deliver. ThingsBoard has a bare 406 as well, but for an
-- Accept header, which no request of ours has.
local bare = { [401] = true, [408] = true, [429] = true, [500] = true, [502] = true, [503] = true, [504] = true }
local bare_of_package = setmetatable({ [400] = true, [404] = true }, { __index = bare })

local function decode(body)
  local value, reason = json.decode(body)
  if value == nil then return nil, "the answer is no JSON: " .. reason end
  return value
end

--- A post: no body.
answer.nothing = {
  read = function(body)
    if body == "" then return true end
    return nil, "the answer of a post has a body, which ThingsBoard's never has"
  end,
}

--- A post that ThingsBoard refuses: no 200.
answer.refusal = {
  read = function() return nil, "the answer of an empty post is a 200, which ThingsBoard's never is" end,
}

--- Any JSON: the answer of a rule chain.
answer.json = { read = decode }

--- Attributes: `client` and `shared`, each an object, and nothing else.
answer.attributes = {
  read = function(body)
    local value, reason = decode(body)
    if value == nil then return nil, reason end
    if not json.is_object(value) then return nil, "the answer holds no attributes" end
    for group, values in next, value do
      if group ~= "client" and group ~= "shared" or not json.is_object(values) then
        return nil, "the answer holds no attributes"
      end
    end
    return { client = value.client or {}, shared = value.shared or {} }
  end,
}

--- A message of a poll.
-- @tparam function check given an object; whether it is such a message
function answer.message(check)
  return {
    read = function(body)
      local value, reason = json.decode(body)
      if json.is_object(value) and check(value) then return value end
      return nil, "the answer is no message of the server's" .. (reason and ": " .. reason or "")
    end,
  }
end

local provisioning_statuses = { SUCCESS = true, NOT_FOUND = true, FAILURE = true }

--- The answer to a request for credentials: an object with one of these statuses, which have another name in the
-- server's older documentation, and with the kind of the credentials or the reason why there are none.
answer.provisioning = {
  read = function(body)
    local value, reason = decode(body)
    if value == nil then return nil, reason end
    if json.is_object(value) then
      local status = value.status or value.provisionDeviceStatus
      local said = value[status == "SUCCESS" and "credentialsType" or "errorMsg"]
      local is_bare = status ~= "SUCCESS" and not value.status -- the older form has no reason
      if provisioning_statuses[status] and (type(said) == "string" or is_bare) then
        value.status = status
        return value
      end
    end
    return nil, "the answer has no status of provisioning, or no credentials"
  end,
}

--- A package of ThingsBoard's: any bytes, which only a header tells from somebody else's.
function answer.package(meanings)
  return {
    read = function(body, exchange)
      if exchange:is_attachment() then return body end
      return nil, "the answer is not marked as a package, as ThingsBoard's packages are"
    end,
    attachment = true, bare = bare_of_package, meanings = meanings,
  }
end

--- A file of another server, whose answers may have any form.
answer.file = { read = function(body) return body end, any = true, meanings = {} }
for _, status in ipairs { 301, 302, 303, 307, 308 } do
  answer.file.meanings[status] =
    "the package's server redirects, which is not followed: as the package's url, give the url that it redirects to"
end

answer.file.meanings[401] = "the package's server asks for credentials, and none are sent there: serve it without"

-- The monolith's error object, and that of the separate transport.
local function is_error_object(status, body)
  local value = json.decode(body)
  if type(value) ~= "table" or value.status ~= status then return false end
  if math.type(value.errorCode) == "integer" then
    return math.type(value.timestamp) == "integer" and (type(value.message) == "string" or value.message == json.null)
  end
  return type(value.timestamp) == "string" and type(value.error) == "string" and type(value.path) == "string"
    and value.path:find("/api/v1/", 1, true) ~= nil
end

-- Texts by status: what begins so is ThingsBoard's.
local texts = {
  [403] = { "^Device was deleted!$" },
  [413] = { '^"Payload size exceeds the limit of %d+ bytes"$' },
  [500] = {
    "^Can't parse value: ", "^java%.[%w%.]+: ", "^com%.google%.gson%.[%w%.]+: ", "Rate limits reached",
    "^String value length %[",
  },
}

-- Tomcat's own page, for requests that never reach ThingsBoard's code.
local paged = { [400] = true, [413] = true, [414] = true, [417] = true, [500] = true, [501] = true, [505] = true }

local function is_page(status, body)
  return paged[status] and body:find(("<title>HTTP Status %d \u{2013} "):format(status), 1, true) ~= nil
    and body:find("font-family:Tahoma,Arial,sans-serif", 1, true) ~= nil
end

local function has_text(status, body)
  for _, pattern in ipairs(texts[status] or {}) do
    if body:find(pattern) then return true end
  end
  return false
end

--- Whether an answer that is no success is ThingsBoard's own.
-- @tparam table expected what the endpoint may answer
-- @tparam integer status
-- @tparam string body
-- @tparam boolean challenged whether it asks for credentials, see `challenged` of the core's exchange
-- @treturn boolean
function answer.is_own(expected, status, body, challenged)
  if expected.any then return true end
  if challenged then return false end
  if body == "" then return (expected.bare or bare)[status] or false end
  return has_text(status, body) or is_error_object(status, body) or is_page(status, body) or false
end

--- Whether an answer that says it is a page has no word. ThingsBoard's answers without a body do not say so.
-- @tparam table expected what the endpoint may answer
-- @tparam string body
-- @tparam userdata exchange of the core
-- @treturn boolean
function answer.is_empty_page(expected, body, exchange)
  return body == "" and not expected.any and not exchange:is_attachment()
end

--- Whether a body is a page for people: HTML, with or without a byte order mark.
-- @tparam string body
-- @treturn boolean
function answer.is_html(body)
  return body:find("^%s*<") ~= nil or body:find("^\xEF\xBB\xBF%s*<") ~= nil
end

return answer
