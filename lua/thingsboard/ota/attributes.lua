--- The shared attributes that tell of a package.
-- @module thingsboard.ota.attributes
local json = require "thingsboard.json.decode"

local attributes = {}

--- What their keys begin with, by the kind of package.
attributes.prefixes = { firmware = "fw_", software = "sw_" }

--- What they tell, by the names that they have without it.
attributes.names = { "title", "version", "tag", "size", "checksum", "checksum_algorithm", "url" }

-- Where the server casts types, a version that a user sets by hand arrives as a number.
local may_be_number = { title = true, version = true, tag = true }

-- The value of an attribute; nil when it makes no sense. What a user sets by hand can be anything, and what is no UTF-8
-- or has a NUL could not be reported.
local function sensible(name, value)
  if name == "size" then
    local size = math.type(value) and math.tointeger(value)
    return size and size >= 0 and size or nil
  end
  if math.type(value) and may_be_number[name] then return tostring(value) end
  local is_text = type(value) == "string" and utf8.len(value) ~= nil and not value:find("\0", 1, true)
  return is_text and value or nil
end

--- Their keys.
-- @tparam string prefix
-- @treturn table strings
function attributes.keys(prefix)
  local keys = {}
  for n, name in ipairs(attributes.names) do keys[n] = prefix .. name end
  return keys
end

--- What they say, by name; an empty one counts as missing.
-- @tparam string prefix
-- @tparam table told their values, by key
-- @treturn table its `nonsense` is the key of one that makes no sense
function attributes.read(prefix, told)
  local package = {}
  for _, name in ipairs(attributes.names) do
    local value = told[prefix .. name]
    if value ~= nil and value ~= json.null and value ~= "" then
      package[name] = sensible(name, value)
      if package[name] == nil then package.nonsense = prefix .. name end
    end
  end
  return package
end

return attributes
