--- The way of a request through the server: the checks in their order, then its endpoint.
local answers = require "spec.emulator.answers"
local endpoints = require "spec.emulator.endpoints"
local errors = require "spec.emulator.errors"
local media = require "spec.emulator.media"
local parameters = require "spec.emulator.parameters"
local target = require "spec.emulator.target"
local text = require "spec.emulator.text"

local application = {}

-- Behind /api/v1/{token}/; `allow` is the order in which the server names the methods.
local routes = {
  telemetry = { POST = endpoints.post_telemetry, allow = "POST" },
  attributes = { POST = endpoints.post_attributes, GET = endpoints.get_attributes, allow = "POST, GET" },
  ["attributes/updates"] = { GET = endpoints.get_updates, allow = "GET" },
  rpc = { GET = endpoints.get_rpc, POST = endpoints.post_rpc, allow = "GET, POST" },
  claim = { POST = endpoints.post_claim, allow = "POST" },
  firmware = { GET = endpoints.get_firmware, allow = "GET" },
  software = { GET = endpoints.get_software, allow = "GET" },
}
local reply_route = { POST = endpoints.post_reply, allow = "POST" }
local provision_route = { POST = endpoints.post_provision, allow = "POST" }

local function find_route(segments)
  if segments[1] ~= "api" or segments[2] ~= "v1" then return nil end
  if #segments == 3 then return segments[3] == "provision" and provision_route or nil end
  if #segments == 5 and segments[4] == "rpc" and segments[5] ~= "" then return reply_route end
  return routes[table.concat(segments, "/", 4)]
end

local FIREWALL_METHODS = {
  GET = true, HEAD = true, POST = true, PUT = true, PATCH = true, DELETE = true, OPTIONS = true,
}

local function size_limit(world, segments)
  if segments[1] ~= "api" then return math.huge end
  local settings = world.settings
  if segments[2] == "v1" and segments[4] == "rpc" then return settings.rpc_payload_limit end
  return settings.payload_limit
end

local function too_large(limit)
  return { status = 413, headers = {}, body = ('"Payload size exceeds the limit of %d bytes"'):format(limit) }
end

local FORM = "application/x-www-form-urlencoded"

-- A form's text is put together again from its parameters.
local function reassembled(bytes)
  local parts = {}
  for _, entry in ipairs((parameters.parse(bytes))) do
    for _, value in ipairs(entry.values) do
      parts[#parts + 1] = text.form_encode(entry.name) .. "=" .. text.form_encode(value)
    end
  end
  return table.concat(parts, "&")
end

local CONTROLLER = "public org.springframework.web.context.request.async.DeferredResult"
  .. "<org.springframework.http.ResponseEntity> org.thingsboard.server.transport.http.DeviceApiController."

local BODY_TYPES = "application/json, text/plain, application/cbor, application/yaml, application/xml;charset=UTF-8, "
  .. "text/xml;charset=UTF-8, application/*+json, application/*+xml;charset=UTF-8, */*"

-- The body as text; or nil and the answer.
local function bind_body(world, exchange, endpoint)
  local header = exchange.headers["content-type"]
  local kind
  if header and header ~= "" then
    local message
    kind, message = media.parse(header)
    if not kind then return nil, errors.json(world, exchange, 415, message, { { "Accept", BODY_TYPES } }) end
  end
  local bytes, why = exchange.body:read()
  if not bytes then return nil, errors.json(world, exchange, 400, why) end
  if header and header:find(FORM, 1, true) and exchange.method == "POST" and not exchange.target.query then
    bytes = reassembled(bytes)
  end
  if bytes == "" and endpoint.body == "required" then
    local message = "Required request body is missing: " .. CONTROLLER .. endpoint.method_name
    return nil, errors.json(world, exchange, 400, message)
  end
  return text.decode(bytes, kind and kind.parameters.charset)
end

local function answer_endpoint(world, exchange, endpoint)
  local segments = exchange.target.segments
  if endpoint.wants_json and not media.accepts_json(exchange.headers.accept) then return errors.not_acceptable() end
  local asked, body, failure
  if endpoint.parameters then
    asked, failure = endpoint.parameters(exchange, segments[5])
    if not asked then return errors.json(world, exchange, 400, failure) end
  end
  if endpoint.body then
    body, failure = bind_body(world, exchange, endpoint)
    if not body then return failure end
  end
  local device
  if not endpoint.without_token then
    device = world.devices:find(segments[3])
    if not device then return answers.empty(401, "no device has this token") end
  end
  return endpoint.handle(world, exchange, device, asked, body)
end

-- What the server as a whole can do is answered before any of its applications.
local function ping()
  local allow = { "Allow", "GET, HEAD, POST, PUT, DELETE, OPTIONS" }
  return { status = 200, headers = { allow }, body = "", plain = true }
end

--- Answers a request.
-- @param exchange `method`, `raw_target`, `headers` (names in lower case), `body` with a `read` method, `length` as
-- announced, `watch` for the client's going away, `continue` to ask for the body
function application.answer(world, exchange)
  if exchange.raw_target == "*" and exchange.method == "OPTIONS" then return ping() end
  local parsed, refused_by, path = target.parse(exchange.raw_target)
  exchange.path = parsed and parsed.path or path
  if exchange.method == "CONNECT" then return errors.page(501) end
  if not parsed and refused_by == "tomcat" then return errors.page(400) end
  exchange:continue()
  if not FIREWALL_METHODS[exchange.method] then return { status = 400, headers = {}, body = "", plain = true } end
  if not parsed then return errors.refused(world, exchange) end
  exchange.target = parsed
  local limit = size_limit(world, parsed.segments)
  if (exchange.length or 0) > limit then return too_large(limit) end
  if exchange.method == "OPTIONS" then return errors.json(world, exchange, 403, "Forbidden") end
  if parsed.segments[1] == "api" and parsed.segments[2] ~= "v1" then
    return errors.json(world, exchange, 401, "Authentication failed")
  end
  local route = find_route(parsed.segments)
  if not route then
    return errors.json(world, exchange, 404, ("No static resource %s."):format(parsed.path:match("^/?(.-)/?$")))
  end
  local endpoint = route[exchange.method == "HEAD" and "GET" or exchange.method]
  if not endpoint then
    return errors.json(world, exchange, 405, ("Request method '%s' is not supported"):format(exchange.method),
      { { "Allow", route.allow } })
  end
  local _, query = parameters.parse(parsed.query)
  exchange.query = query
  return answer_endpoint(world, exchange, endpoint)
end

return application
