--- TLS: an authority and a certificate of it, made at start.
local altname = require "openssl.x509.altname"
local bignum = require "openssl.bignum"
local extension = require "openssl.x509.extension"
local name = require "openssl.x509.name"
local pkey = require "openssl.pkey"
local rand = require "openssl.rand"
local x509 = require "openssl.x509"
local http_tls = require "http.tls"

local tls = {}

local LIFETIME = 30 * 24 * 3600

local function named(common_name)
  local subject = name.new()
  subject:add("CN", common_name)
  return subject
end

local function new_certificate(common_name, issuer, key)
  local certificate = x509.new()
  certificate:setVersion(3)
  certificate:setSerial(bignum.fromBinary(rand.bytes(15)))
  certificate:setSubject(named(common_name))
  certificate:setIssuer(issuer)
  local now = os.time()
  certificate:setLifetime(now - 3600, now + LIFETIME)
  certificate:setPublicKey(key)
  return certificate
end

local function new_key() return pkey.new({ type = "EC", curve = "prime256v1" }) end

local function new_authority(key)
  local common_name = "Emulator's authority"
  local authority = new_certificate(common_name, named(common_name), key)
  authority:setBasicConstraints({ CA = true })
  authority:setBasicConstraintsCritical(true)
  authority:addExtension(extension.new("keyUsage", "critical,keyCertSign,cRLSign"))
  authority:sign(key)
  return authority
end

local function new_server_certificate(authority, authority_key, key)
  local certificate = new_certificate("localhost", authority:getSubject(), key)
  certificate:setBasicConstraints({ CA = false })
  local names = altname.new()
  names:add("DNS", "localhost")
  names:add("IP", "127.0.0.1")
  certificate:setSubjectAlt(names)
  certificate:addExtension(extension.new("extendedKeyUsage", "serverAuth"))
  certificate:sign(authority_key)
  return certificate
end

-- The first protocol of the client's that is known, as Tomcat prefers its own first.
local function select_protocol(_, offered)
  for _, wanted in ipairs { "h2", "http/1.1" } do
    for _, protocol in ipairs(offered) do
      if protocol == wanted then return protocol end
    end
  end
end

--- Makes a context for serving, and writes the authority's certificate to a temporary file.
-- @return the context and the file's name
function tls.new()
  local authority_key, key = new_key(), new_key()
  local authority = new_authority(authority_key)
  local context = http_tls.new_server_context()
  if context.setGroups then context:setGroups("X25519:P-256") end
  context:setPrivateKey(key)
  context:setCertificate(new_server_certificate(authority, authority_key, key))
  context:setAlpnSelect(select_protocol)
  local path = os.tmpname()
  local file = assert(io.open(path, "w"))
  file:write(tostring(authority))
  file:close()
  return context, path
end

return tls
