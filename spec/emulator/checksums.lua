--- Checksums of packages, as the server writes them into the attributes.
local digest = require "openssl.digest"

local checksums = {}

local function hex(bytes)
  return (bytes:gsub(".", function(char) return ("%02x"):format(char:byte()) end))
end

local function openssl(name)
  return function(data) return hex(digest.new(name):final(data)) end
end

local crc_table = {}
for index = 0, 255 do
  local value = index
  for _ = 1, 8 do value = value & 1 == 1 and 0xEDB88320 ~ value >> 1 or value >> 1 end
  crc_table[index] = value
end

local function crc32(data)
  local sum = 0xFFFFFFFF
  for at = 1, #data do sum = crc_table[(sum ~ data:byte(at)) & 0xFF] ~ sum >> 8 end
  return hex(string.pack("<I4", sum ~ 0xFFFFFFFF))
end

local function rotate32(value, by)
  value = value & 0xFFFFFFFF
  return (value << by | value >> 32 - by) & 0xFFFFFFFF
end

local function mix32(block) return rotate32(block * 0xCC9E2D51, 15) * 0x1B873593 & 0xFFFFFFFF end

local function murmur3_32(data)
  local sum, whole = 0, #data // 4 * 4
  for at = 1, whole, 4 do
    sum = rotate32(sum ~ mix32((string.unpack("<I4", data, at))), 13) * 5 + 0xE6546B64 & 0xFFFFFFFF
  end
  if whole < #data then
    sum = sum ~ mix32((string.unpack("<I4", data:sub(whole + 1) .. ("\0"):rep(4 + whole - #data))))
  end
  sum = sum ~ #data
  sum = (sum ~ sum >> 16) * 0x85EBCA6B & 0xFFFFFFFF
  sum = (sum ~ sum >> 13) * 0xC2B2AE35 & 0xFFFFFFFF
  return hex(string.pack("<I4", sum ~ sum >> 16))
end

local function rotate64(value, by) return value << by | value >> 64 - by end

local C1, C2 <const> = 0x87C37B91114253D5, 0x4CF5AD432745937F

local function first_half(block) return rotate64(block * C1, 31) * C2 end
local function second_half(block) return rotate64(block * C2, 33) * C1 end

local function finish64(value)
  value = (value ~ value >> 33) * 0xFF51AFD7ED558CCD
  value = (value ~ value >> 33) * 0xC4CEB9FE1A85EC53
  return value ~ value >> 33
end

local function murmur3_128(data)
  local one, two, whole = 0, 0, #data // 16 * 16
  for at = 1, whole, 16 do
    local low, high = string.unpack("<i8i8", data, at)
    one = (rotate64(one ~ first_half(low), 27) + two) * 5 + 0x52DCE729
    two = (rotate64(two ~ second_half(high), 31) + one) * 5 + 0x38495AB5
  end
  if whole < #data then
    local low, high = string.unpack("<i8i8", data:sub(whole + 1) .. ("\0"):rep(16 + whole - #data))
    one, two = one ~ first_half(low), two ~ second_half(high)
  end
  one, two = one ~ #data, two ~ #data
  one = one + two
  two = two + one
  one, two = finish64(one), finish64(two)
  one = one + two
  two = two + one
  return hex(string.pack("<i8i8", one, two))
end

local algorithms = {
  MD5 = openssl("md5"), SHA256 = openssl("sha256"), SHA384 = openssl("sha384"), SHA512 = openssl("sha512"),
  CRC32 = crc32, MURMUR3_32 = murmur3_32, MURMUR3_128 = murmur3_128,
}

--- The checksum of data in lowercase hex.
function checksums.of(algorithm, data)
  return assert(algorithms[algorithm], "no such algorithm: " .. tostring(algorithm))(data)
end

return checksums
