--- A device's access token from its hardware id and a secret of the fleet: a device that was reset to factory settings
-- computes the token that it had, and an operator computes it for each device beforehand.
-- @module thingsboard.api.derive_token
local core = require "thingsboard.core"
local check = require "thingsboard.check"

local BLOCK = 64 -- bytes of a block of SHA-256
local TOKEN_LENGTH = 32 -- characters: the server's user interface takes no longer token

local function sha256(...)
  local checksum = core.checksum "SHA256"
  for _, text in ipairs { ... } do checksum:update(text) end
  return (checksum:hex():gsub("%x%x", function(digits) return string.char(tonumber(digits, 16)) end))
end

local function xor_bytes(text, byte)
  return (text:gsub(".", function(c) return string.char(c:byte() ~ byte) end))
end

-- HMAC (RFC 2104) over SHA-256.
local function hmac_sha256(key, text)
  if #key > BLOCK then key = sha256(key) end
  key = key .. ("\0"):rep(BLOCK - #key)
  return sha256(xor_bytes(key, 0x5c), sha256(xor_bytes(key, 0x36), text))
end

--- Derives an access token: the first 32 hexadecimal digits of HMAC-SHA256 with the secret as the key and the id as the
-- message, as `printf %s ID | openssl dgst -sha256 -hmac SECRET` prints them.
-- @function derive_token
-- @tparam string id what no other device has: a serial number, a MAC address
-- @tparam string secret of the fleet, at least 16 bytes; with it anyone can pose as any device
-- @treturn string the token
return function(id, secret)
  check.argument("derive_token", "id", id, "non-empty string")
  check.argument("derive_token", "secret", secret, "non-empty string")
  if #secret < 16 then error("derive_token: secret must have at least 16 bytes", 2) end
  return (hmac_sha256(secret, id):gsub(".", function(c) return ("%02x"):format(c:byte()) end)):sub(1, TOKEN_LENGTH)
end
