--- Requests that a device sends to the server (client-side RPC).
local conversion = require "spec.emulator.conversion"
local gson = require "spec.emulator.gson"
local numbers = require "spec.emulator.numbers"

local client_rpc = {}

--- Reads the body of a device's request.
-- @return `{ method=, params= }`, params as JSON text; or nil and the message of the answer, "" for none
function client_rpc.read(body)
  local object, message = gson.parse(body)
  if not object then return nil, message end
  if object.kind ~= "object" or not object.values.method or not object.values.params then return nil, "" end
  local method = conversion.as_string(object.values.method)
  if not method then return nil, "" end
  return { method = method, params = gson.write(object.values.params) }
end

--- What the server's rules answer, or nil if they do not.
-- @param reply "echo", which also answers `getTime`; or a JSON text for everything; nil for none
function client_rpc.answer(world, reply, request)
  if not reply then return nil end
  if reply ~= "echo" then return gson.write(assert(gson.parse(reply))) end
  if request.method == "getTime" then return ('{"time":%d}'):format(world:now()) end
  local params = gson.parse(request.params)
  local echo = gson.object()
  gson.set(echo, "echo", gson.string(request.method))
  if params ~= gson.null then gson.set(echo, "params", params) end
  return gson.write(echo, { number = numbers.jackson })
end

return client_rpc
