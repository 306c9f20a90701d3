--- The order in which Java's hash maps hand out their keys: clients see it in answers.
local java_order = {}

local function code_of(string)
  local sum = 0
  for _, code in utf8.codes(string) do
    if code > 0xFFFF then
      code = code - 0x10000
      sum = sum * 31 + (0xD800 | code >> 10)
      code = 0xDC00 | code & 0x3FF
    end
    sum = sum * 31 + code & 0xFFFFFFFF
  end
  return sum
end

local function bucket(string, seed, size)
  local sum = code_of(string) + seed & 0xFFFFFFFF
  return (sum ~ sum >> 16) & size - 1
end

--- Seed for keys that lie in the server's sets together with the name of the shared scope.
java_order.SHARED_KEY = (59 + code_of("SHARED_SCOPE")) * 59

--- Returns the keys once each, in the order of a hash map that they were put into one after another.
function java_order.sort(keys, seed)
  local buckets, seen, distinct = {}, {}, {}
  for _, key in ipairs(keys) do
    if not seen[key] then
      seen[key] = #distinct + 1
      distinct[#distinct + 1] = key
    end
  end
  local size = 16
  while #distinct > size * 3 // 4 do size = size * 2 end
  for _, key in ipairs(distinct) do buckets[key] = bucket(key, seed or 0, size) end
  table.sort(distinct, function(left, right)
    if buckets[left] ~= buckets[right] then return buckets[left] < buckets[right] end
    return seen[left] < seen[right]
  end)
  return distinct
end

return java_order
