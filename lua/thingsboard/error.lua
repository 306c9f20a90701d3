--- The error type: what functions return after nil when something outside the program fails.
--
-- Fields: `kind` (below), `status` (integer, of an answer), `message` (string, what is wrong and what may help),
-- `retryable` (boolean: the same call may succeed later), `code` (string, libcurl's name of the error).
--
-- Kinds:
--
-- - `value`: the value cannot be sent unchanged
-- - `http`: the server itself answered with a status that is no success
-- - `answer`: somebody else answered in the server's place, or the answer makes no sense or is too large
-- - `timeout`: no answer in time
-- - `network`: no connection, or one that broke
-- - `tls`: the other side is not who it should be, or speaks no TLS
-- - `closed`: the device was closed during the call
-- - `memory`: memory has run out
-- - `file`: a file cannot be read or written
-- - `full`: the outbox is full
-- - `clock`: the outbox does not know the time yet
-- - `package`: the download is not what was announced
-- - `not_found`: the server knows no such provisioning key and secret
-- - `refused`: the server provisions no credentials for this device
-- @module thingsboard.error
local error_type = { __name = "thingsboard.error" }

function error_type:__tostring()
  return self.message
end

local M = {}

local retryable_status = { [408] = true, [429] = true, [500] = true, [502] = true, [503] = true, [504] = true }

local meaning = {
  [400] = "the server did not understand the request",
  [401] = "the server knows no device with this token; check it, and that the device's credentials are an access token",
  [403] = "the server forbids it",
  [404] = "the server has no such path; check the url",
  [408] = "the server got no result in time",
  [413] = "the request is too large for the server; send less at once",
  [429] = "too many requests; send less often",
  [500] = "the server failed: it answers so for a bad value, for a rate limit, and for failures of its own",
  [502] = "the server behind the gateway does not answer",
  [503] = "the server is not available, or got no result in time",
  [504] = "the server behind the gateway did not answer in time",
}

-- Meanings of statuses in an answer that is not the server's.
local foreign = {
  [401] = "a proxy or portal on the way asks for credentials",
  [407] = "a proxy asks for credentials",
  [413] = "the request is too large for a proxy on the way; send less at once",
  [429] = "a proxy on the way says that there are too many requests; send less often",
  [502] = "a gateway says that the server behind it does not answer",
  [503] = "a gateway says that the server is not available",
  [504] = "a gateway says that the server behind it did not answer in time",
}

for _, status in ipairs { 301, 302, 303, 307, 308 } do
  foreign[status] = "the server redirects, which is not followed; give the url that it redirects to"
end

local code_kinds = {
  OPERATION_TIMEDOUT = "timeout",
  BODY_TOO_LARGE = "answer", HEADERS_TOO_LARGE = "answer", WEIRD_SERVER_REPLY = "answer",
  BAD_FUNCTION_ARGUMENT = "answer", BAD_CONTENT_ENCODING = "answer", UNSUPPORTED_PROTOCOL = "answer",
  CLOSED = "closed", OUT_OF_MEMORY = "memory", FILE_FAILED = "file",
  PEER_FAILED_VERIFICATION = "tls", URL_MALFORMAT = "value",
  TOO_LARGE = "value",
}

-- Whether the certificate's signature is wrong, in OpenSSL's words: libcurl calls that a failure of the connection.
local function is_wrong_signature(text)
  return text:find("asn1 encoding routines", 1, true) or text:find("bad signature", 1, true)
    or text:find("padding check failed", 1, true) or text:find("provider signature failure", 1, true)
end

-- Whether to try again. A handshake that is cut off looks like one that fails, and an answer that is no HTTP may be the
-- rest of another one, or come from somebody on the way.
local function may_pass(kind, code, text)
  return kind == "network" or kind == "timeout" or kind == "memory"
    or code == "SSL_CONNECT_ERROR" and not is_wrong_signature(text)
    or code == "WEIRD_SERVER_REPLY" or code == "BAD_FUNCTION_ARGUMENT"
    or code == "UNSUPPORTED_PROTOCOL" and not text:find("not supported", 1, true) -- https, without TLS
end

local advice = {
  BODY_TOO_LARGE = "; raise max_response",
  BAD_FUNCTION_ARGUMENT = "; libcurl says so when the headers of an answer make no sense",
  SSL_CONNECT_ERROR = "; check that the url's port speaks TLS",
  PEER_FAILED_VERIFICATION = "; give the server's authority as ca_file, and check the clock",
  SSL_PINNEDPUBKEYNOTMATCH = "; the server's key is not the pinned one",
  COULDNT_RESOLVE_HOST = "; check the url's host name and the name servers",
  COULDNT_RESOLVE_PROXY = "; check the proxy's name and the name servers",
  PROXY = "; check the proxy, its user and its password",
  SSL_CACERT_BADFILE = "; check ca_file: it must be a PEM file of certificates that can be read",
  INTERFACE_FAILED = "; check the option interface",
  SSL_CERTPROBLEM = "; check client_cert and client_key, and client_key_password if the key has a pass phrase",
  SSL_CLIENTCERT = "; give client_cert and client_key",
  COULDNT_CONNECT = "; check the url's host and port, or the proxy's, and that the server runs",
}

--- An error of a kind.
-- @tparam string kind
-- @tparam string message
-- @tparam ?table more fields to add: `status`, `retryable`, `code`
-- @treturn table
function M.new(kind, message, more)
  local err = setmetatable(more or {}, error_type)
  err.kind = kind
  err.message = message
  err.retryable = err.retryable or false
  return err
end

--- The error for an answer that is the server's own, and whose status is no success.
-- @tparam string what was tried
-- @tparam integer status
-- @tparam string text what the server said, without secrets
-- @tparam ?table meanings words by status, where one means something special here
function M.of_status(what, status, text, meanings)
  local said = text ~= "" and (": " .. text) or ""
  local means = meanings and meanings[status] or meaning[status] or "the server refused"
  local message = ("%s: %s (status %d)%s"):format(what, means, status, said)
  return M.new("http", message, { status = status, retryable = retryable_status[status] or false })
end

--- The error for an answer that is not the server's own: an outage, whatever it says.
-- @tparam string what was tried
-- @tparam ?integer status nil when the answer was not read to its end
-- @tparam string text what it says, without secrets
-- @tparam ?string reason why it cannot be the server's
function M.of_foreign(what, status, text, reason)
  local message = ("%s: %s; check the url, and any proxy, firewall or portal on the way: this is no answer of " ..
    "ThingsBoard's%s%s"):format(what, reason or foreign[status] or "somebody else answered",
    status and (" (status %d)"):format(status) or "", text ~= "" and (": " .. text) or "")
  return M.new("answer", message, { status = status, retryable = true })
end

-- Whether libcurl says that a certificate is for another host: in the words of OpenSSL's part of it, or of mbed TLS's.
local function is_other_host(text)
  return text:find "match[es]* target" or text:find("CN_MISMATCH", 1, true)
end

--- The error for an exchange that came to no answer.
-- @tparam string what was tried
-- @tparam string code libcurl's name, or one of the core's
-- @tparam string text
-- @tparam string host the url's host and port
function M.of_code(what, code, text, host)
  local kind = code_kinds[code] or (code:find("^SSL_") and "tls") or "network"
  local advised = advice[code] or ""
  if code == "COULDNT_CONNECT" and host:find "^%[[Ff][Ee]80:" then
    advised = "; check the port, and that there is an interface of the name behind the %: this address needs one, "
      .. "as in [fe80::1%eth0]"
  elseif code == "SSL_CONNECT_ERROR" and is_wrong_signature(text) then
    advised = "; the authority in ca_file has the right name, but did not sign the certificate"
  elseif kind == "tls" and is_other_host(text) then
    advised = ("; the certificate is not for %s: check the url's host"):format(host)
  end
  local message = ("%s: %s (%s)%s"):format(what, text, code, advised)
  return M.new(kind, message, { code = code, retryable = may_pass(kind, code, text) })
end

--- The text of a raised value, even if its `__tostring` raises.
-- @param raised anything
-- @treturn string
function M.text_of(raised)
  local ok, text = pcall(tostring, raised)
  return ok and text or ("a %s that cannot be shown"):format(type(raised))
end

--- The text of a raised value, without the place in the code that `error` puts in front.
-- @param raised anything
-- @treturn string
function M.words_of(raised)
  return (M.text_of(raised):gsub("^.-:%d+: ", "", 1))
end

--- A text that can be sent: of one that is not valid UTF-8, the bytes above 127 become `?`.
-- @tparam string text
-- @treturn string
function M.as_utf8(text)
  return utf8.len(text) and text or (text:gsub("[\x80-\xFF]", "?"))
end

--- What Lua raises when memory runs out: exactly this preallocated string. The core raises the same.
M.NO_MEMORY = "not enough memory"

--- Whether a value is such an error.
function M.is(value)
  return getmetatable(value) == error_type
end

return M
