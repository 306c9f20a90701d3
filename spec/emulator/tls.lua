--- TLS: an authority and a certificate of it, made at start.
local altname = require "openssl.x509.altname"
local basexx = require "basexx"
local bignum = require "openssl.bignum"
local digest = require "openssl.digest"
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

local function new_certificate(common_name, issuer, key, ends)
  local certificate = x509.new()
  certificate:setVersion(3)
  certificate:setSerial(bignum.fromBinary(rand.bytes(15)))
  certificate:setSubject(named(common_name))
  certificate:setIssuer(issuer)
  local now = os.time()
  certificate:setLifetime(now - 3600, now + (ends or LIFETIME))
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

local function new_server_certificate(authority, authority_key, key, fault)
  local alone = fault == "self_signed"
  local issuer = alone and named("localhost") or authority:getSubject()
  local certificate = new_certificate("localhost", issuer, key, fault == "expired" and -60)
  certificate:setBasicConstraints({ CA = false })
  local names = altname.new()
  if fault == "other_name" then
    names:add("DNS", "elsewhere.example")
  else
    names:add("DNS", "localhost")
    names:add("IP", "127.0.0.1")
  end
  certificate:setSubjectAlt(names)
  certificate:addExtension(extension.new("extendedKeyUsage", "serverAuth"))
  certificate:sign(alone and key or authority_key)
  return certificate
end

-- The first protocol of the client's that is known, as Tomcat prefers its own first.
local function selector(http2)
  local known = http2 and { "h2", "http/1.1" } or { "http/1.1" }
  return function(_, offered)
    for _, wanted in ipairs(known) do
      for _, protocol in ipairs(offered) do
        if protocol == wanted then return protocol end
      end
    end
  end
end

-- A key's SHA-256, in curl's form of a pin.
local function pin_of(key)
  local der = basexx.from_base64((key:toPEM("public"):gsub("%-%-%-%-%-[^\n]+", ""):gsub("%s", "")))
  return "sha256//" .. basexx.to_base64(digest.new("sha256"):final(der))
end

--- Makes a context for serving, and writes the authority's certificate to a temporary file.
-- @tparam table settings `http2`, `certificate`
-- @return the context, the file's name, and the pin of the server's key
function tls.new(settings)
  local authority_key, key = new_key(), new_key()
  local authority = new_authority(authority_key)
  local context = http_tls.new_server_context()
  if context.setGroups then context:setGroups("X25519:P-256") end
  context:setPrivateKey(key)
  context:setCertificate(new_server_certificate(authority, authority_key, key, settings.certificate))
  context:setAlpnSelect(selector(settings.http2))
  local path = os.tmpname()
  local file = assert(io.open(path, "w"))
  file:write(tostring(authority))
  file:close()
  return context, path, pin_of(key)
end

return tls
