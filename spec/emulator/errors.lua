--- Bodies of errors: the monolith's, the separate transport's, and Tomcat's own page.
local answers = require "spec.emulator.answers"
local gson = require "spec.emulator.gson"
local media = require "spec.emulator.media"
local text = require "spec.emulator.text"

local errors = {}

local phrases = {
  [400] = "Bad Request", [401] = "Unauthorized", [403] = "Forbidden", [404] = "Not Found", [405] = "Method Not Allowed",
  [406] = "Not Acceptable", [413] = "Payload Too Large", [415] = "Unsupported Media Type", [417] = "Expectation Failed",
  [500] = "Internal Server Error", [501] = "Not Implemented", [503] = "Service Unavailable",
  [505] = "HTTP Version Not Supported",
}

local codes = {
  [400] = 31, [405] = 31, [406] = 31, [415] = 31, [401] = 10, [403] = 20, [404] = 32, [429] = 33,
}

local JSON_TYPES = "application/json, application/*+json, application/cbor, application/yaml"

--- Tomcat's page, for what never reaches the application.
function errors.page(status)
  local title = ("HTTP Status %d – %s"):format(status, phrases[status])
  local body = '<!doctype html><html lang="en"><head><title>' .. title .. '</title><style type="text/css">'
    .. "body {font-family:Tahoma,Arial,sans-serif;} h1, h2, h3, b {color:white;background-color:#525D76;} "
    .. "h1 {font-size:22px;} h2 {font-size:16px;} h3 {font-size:14px;} p {font-size:12px;} a {color:black;} "
    .. ".line {height:1px;background-color:#525D76;border:none;}</style></head><body><h1>" .. title
    .. "</h1></body></html>"
  return {
    status = status, body = body, plain = true, close = true,
    headers = { { "Content-Type", "text/html;charset=utf-8" }, { "Content-Language", "en" } },
  }
end

--- The answer to an Accept header that lets no JSON pass.
function errors.not_acceptable()
  local answer = answers.empty(406)
  answer.headers[1] = { "Accept", JSON_TYPES }
  return answer
end

-- The separate transport has the framework's own error body.
local function framework_body(world, exchange, status)
  local now = world:now()
  return ('{"timestamp":"%s.%03d+00:00","status":%d,"error":%s,"path":%s}'):format(
    os.date("!%Y-%m-%dT%H:%M:%S", now // 1000), now % 1000, status, gson.quote(phrases[status] or "None"),
    gson.quote(text.decode(exchange.path or "/")))
end

--- An error that the framework finds or that is thrown before the request is handed on.
-- @param message its text, nil for null
-- @param headers further headers, as a list of pairs
function errors.json(world, exchange, status, message, headers)
  local accepts = media.accepts_json(exchange.headers.accept)
  if accepts == nil then return answers.empty(status) end
  if not accepts then return errors.not_acceptable() end
  local body
  if world.settings.flavour == "micro" then
    body = framework_body(world, exchange, status)
  else
    body = ('{"message":%s,"errorCode":%d,"status":%d,"timestamp":%d}'):format(
      message and gson.quote(message) or "null", codes[status] or 2, status, world:now())
  end
  local answer = { status = status, headers = headers or {}, body = body, chunked = true }
  table.insert(answer.headers, { "Content-Type", "application/json" })
  return answer
end

--- A request that the firewall in front of the application refuses.
function errors.refused(world, exchange)
  local answer = errors.json(world, exchange, 400, phrases[400])
  answer.plain = true
  return answer
end

--- An exception while a provisioning request is read: written past the framework, in Latin-1.
function errors.thrown(world, exchange, message)
  if world.settings.flavour == "micro" then return errors.json(world, exchange, 500, message) end
  local body = ('{"status":500,"message":%s,"errorCode":2,"timestamp":%d}'):format(gson.quote(message), world:now())
  return {
    status = 500, body = text.to_latin1(body),
    headers = { { "Content-Type", "application/json;charset=ISO-8859-1" } },
  }
end

--- A request that got no answer in time.
function errors.gave_up(world, exchange, why)
  local answer = errors.json(world, exchange, 503, nil)
  answer.why = why or "nothing answered within the server's async timeout"
  return answer
end

return errors
