--- Attributes of a device: three scopes, and the updates that polls wait for.
local answers = require "spec.emulator.answers"
local conversion = require "spec.emulator.conversion"
local gson = require "spec.emulator.gson"
local java_order = require "spec.emulator.java_order"
local keys = require "spec.emulator.keys"

local attributes = {}

--- Makes an empty scope.
function attributes.new_scope()
  return { order = {}, entries = {} }
end

--- Stores values in a scope: all of them or, when a key will not do, none. Returns whether it did.
function attributes.save(scope, values)
  if not keys.all_fit(values) then return false end
  for _, entry in ipairs(values) do
    if not scope.entries[entry.key] then scope.order[#scope.order + 1] = entry.key end
    scope.entries[entry.key] = entry
  end
  return true
end

--- Deletes keys of a scope.
function attributes.delete(scope, names)
  for _, name in ipairs(names) do scope.entries[name] = nil end
  local order = {}
  for _, name in ipairs(scope.order) do
    if scope.entries[name] then order[#order + 1] = name end
  end
  scope.order = order
end

-- Every poll that is open gets it; nothing is kept for one that is not.
local function tell_polls(device, body)
  for open in pairs(device.sessions) do
    if open.wants_updates then open:give(answers.json(body)) end
  end
end

--- Stores shared attributes and tells the open polls.
function attributes.set_shared(device, values)
  if attributes.save(device.scopes.shared, values) and #values > 0 then
    tell_polls(device, gson.write(conversion.object(values)))
  end
end

--- Deletes shared attributes and tells the open polls, also of keys that were not there.
function attributes.delete_shared(device, names)
  attributes.delete(device.scopes.shared, names)
  local quoted = {}
  for index, name in ipairs(java_order.sort(names, java_order.SHARED_KEY)) do quoted[index] = gson.quote(name) end
  tell_polls(device, '{"deleted":[' .. table.concat(quoted, ",") .. "]}")
end

-- Java's split drops empty parts at the end, and only there.
local function split(list)
  local parts = {}
  for part in (list .. ","):gmatch("([^,]*),") do parts[#parts + 1] = part end
  while parts[#parts] == "" do parts[#parts] = nil end
  return parts
end

local function collect(scope, names)
  local list = {}
  for _, name in ipairs(names) do list[#list + 1] = scope.entries[name] end
  return list
end

--- What a request for attributes is answered with.
-- @param client_keys, shared_keys as they stand in the request
-- @return the body, or nil where the server never answers
function attributes.read(device, client_keys, shared_keys)
  local wanted = { client = split(client_keys), shared = split(shared_keys) }
  local all = #wanted.client == 0 and #wanted.shared == 0
  local result = gson.object()
  for _, group in ipairs { "client", "shared" } do
    local scope = device.scopes[group]
    for _, name in ipairs(wanted[group]) do
      if name == "" then return nil end
    end
    local found = collect(scope, all and scope.order or java_order.sort(wanted[group]))
    if #found > 0 then gson.set(result, group, conversion.object(found)) end
  end
  return gson.write(result)
end

return attributes
