--- Which keys the server's storage takes. A message with one that will not do is dropped whole, after its 200.
local keys = {}

local LONGEST = 255

local function fits(key)
  return key:find("%S") and utf8.len(key) <= LONGEST and not key:find("<[%a/!]") and not key:find("{{.*}}")
end

--- Whether storage takes all keys of a list of values.
function keys.all_fit(values)
  for _, entry in ipairs(values) do
    if not fits(entry.key) then return false end
  end
  return true
end

return keys
