--- The options of all functions, except `outbox` (see `thingsboard.outbox.options`): name, type, default and meaning.
-- Checks, defaults, the guide's page of options and the types for editors follow from these lists. The types are those
-- of `thingsboard.check`.
-- @module thingsboard.options
local options = {}

local function join(...)
  local all = {}
  for _, list in ipairs { ... } do table.move(list, 1, #list, #all + 1, all) end
  return all
end

--- A connection to a server. Options with `core` are passed to the core's client unchanged. Options with `shared` apply
-- to packages by URL as well; a pinned key, a certificate, and `verify` are for this server only.
options.connection = {
  { name = "url", type = "text!", doc = "`http://` or `https://`, a host, and optionally a port and a path" },
  -- The server gives up after 30 s, and says so: wait a little longer than that for its answer.
  { name = "timeout", type = "positive number", shared = true, default = 35, doc = "seconds for a whole call" },
  { name = "connect_timeout", type = "positive number", shared = true, default = 10,
    doc = "seconds until there is a connection" },
  { name = "verify", type = "boolean", core = true, default = true,
    doc = "`false` turns off the checks of certificate and name" },
  { name = "ca_file", type = "text", core = true, shared = true,
    doc = "PEM file of the authorities to trust, instead of the system's" },
  { name = "ca_path", type = "text", core = true, shared = true,
    doc = "folder of such files, with the names that `openssl rehash` gives them" },
  { name = "pinned_key", type = "text", core = true, doc = "the server's public key, in curl's form: `sha256//...`" },
  { name = "client_cert", type = "text", core = true, doc = "PEM file of the device's own certificate" },
  { name = "client_key", type = "text", core = true, doc = "PEM file of its key" },
  { name = "client_key_password", type = "text", core = true, doc = "the key's pass phrase, if it has one" },
  { name = "proxy", type = "text", core = true, shared = true,
    doc = "like `http://host:port` or `socks5h://host:port`; the environment's proxies are ignored" },
  { name = "interface", type = "text", core = true, shared = true,
    doc = "name or address of the network interface to send from; without libcurl's `if!` or `host!`, with which "
      .. "some releases (8.14) use connections of other devices" },
  { name = "max_response", type = "positive integer", default = 4 * 1024 * 1024,
    doc = "the largest answer that is kept in memory, in bytes" },
  { name = "user_agent", type = "text", shared = true, default = "thingsboard-lua",
    doc = "the value of the header `User-Agent`" },
}

--- The `url_options` of `updates`: a connection's options without `url`, which the package has. `false` turns off what
-- the device has and packages by URL shall not.
options.elsewhere = table.move(options.connection, 2, #options.connection, 1, {})
for i, option in ipairs(options.elsewhere) do
  if option.shared and option.type == "text" and not option.default then
    options.elsewhere[i] = setmetatable({ type = "text or false" }, { __index = option })
  end
end

--- `tb.device`
options.device = join({
  { name = "token", type = "non-empty string", doc = "the device's access token; this or `token_file` is required" },
  { name = "token_file", type = "text",
    doc = "a file with the token, or a `store` of `provision`; its group may read it, no other user; after a 401 " ..
      "it is read again" },
}, options.connection)

--- What `tb.provision` takes in addition to the options of the connection.
options.credentials = {
  { name = "key", type = "non-empty string!", doc = "the device profile's provision device key" },
  { name = "secret", type = "non-empty string!", doc = "the device profile's provision device secret" },
  { name = "device_name", type = "string",
    doc = "the name of the device to create or to find; without it the server makes one up" },
  { name = "credentials_type", type = "ACCESS_TOKEN|X509_CERTIFICATE|MQTT_BASIC|LWM2M_CREDENTIALS",
    doc = "the kind of credentials; without it `ACCESS_TOKEN`" },
  { name = "token", type = "non-empty string", doc = "the access token that the device asks for" },
  { name = "client_id", type = "string", doc = "for `MQTT_BASIC`" },
  { name = "username", type = "string", doc = "for `MQTT_BASIC`" },
  { name = "password", type = "string", doc = "for `MQTT_BASIC`" },
  { name = "hash", type = "non-empty string", doc = "the certificate of `X509_CERTIFICATE`, in PEM" },
  { name = "gateway", type = "boolean", doc = "whether the new device is a gateway" },
  { name = "store", type = "text", doc = "a file of mode 0600 that keeps the credentials" },
  { name = "anew", type = "boolean", default = false, doc = "ask the server even though `store` has credentials" },
}

--- `tb.provision`
options.provision = join(options.credentials, options.connection)

--- `request_attributes`
options.request_attributes = {
  { name = "client", type = "table", doc = "list of keys of client attributes" },
  { name = "shared", type = "table", doc = "list of keys of shared attributes" },
}

--- `attribute_updates`
options.attribute_updates = {
  { name = "period", type = "positive number", default = 20, doc = "seconds that a poll stays open" },
}

--- `rpc_requests` and `serve_rpc`
options.rpc_requests = {
  -- A poll asks for at most one and a half periods, which stays below the server's 30 s.
  { name = "period", type = "positive number", default = 18,
    doc = "seconds from one end of a poll to its next; two polls run, half a period apart" },
}

--- `claim`
options.claim = {
  { name = "secret_key", type = "string", doc = "what a user must enter to claim the device" },
  { name = "duration_ms", type = "positive integer",
    doc = "milliseconds for which the device can be claimed; without it the server's setting applies" },
}

--- `firmware` and `software`
options.package = {
  { name = "title", type = "text!", doc = "of the assigned package" },
  { name = "version", type = "text!", doc = "of the assigned package" },
  { name = "size", type = "non-negative integer",
    doc = "bytes, as in the shared attribute `fw_size`; the download is checked against it" },
  { name = "checksum", type = "text",
    doc = "as in the shared attribute `fw_checksum`; the download is checked against it" },
  { name = "checksum_algorithm", type = "text", doc = "as in the shared attribute `fw_checksum_algorithm`" },
  { name = "path", type = "text",
    doc = "a file to write; without it the package is returned as a string of `max_response` bytes at most" },
  { name = "chunk_size", type = "positive integer",
    doc = "bytes to ask for in one request; without it one request asks for the whole package" },
  { name = "progress", type = "function",
    doc = "called with the bytes received so far and the total, which is nil when the server does not tell it" },
}

--- `updates`
options.updates = {
  { name = "kind", type = "firmware|software!", doc = "`\"firmware\"` or `\"software\"`" },
  { name = "current", type = "table!", doc = "`title` and `version` of what is running now" },
  { name = "directory", type = "text!", doc = "folder for the state and the package" },
  { name = "package_directory", type = "text", doc = "another folder for the package, such as `/tmp` in memory" },
  { name = "apply", type = "function!",
    doc = "called with a table of `title`, `version`, `tag`, `size` and the `path` of the verified file" },
  { name = "chunk_size", type = "positive integer", default = 256 * 1024,
    doc = "bytes to ask for in one request, the most that an interruption costs; at most the device's `max_response`" },
  { name = "progress", type = "function",
    doc = "called with the bytes received so far and the total, which is nil when the server does not tell it" },
  { name = "strong", type = "boolean", default = false, doc = "refuse MD5, CRC32 and MURMUR3" },
  { name = "unverified", type = "https", doc = "`\"https\"`: take packages by URL that have no checksum, by https" },
  { name = "allow_http", type = "boolean", default = false, doc = "take packages by URL without TLS" },
  { name = "url_options", type = "table",
    doc = "options of the connection for packages by URL, as of `tb.device`; without them the device's time-outs, " ..
      "`ca_file`, `ca_path`, `proxy`, `interface` and `user_agent` are used; `false` turns one of `ca_file` to " ..
      "`interface` off" },
  { name = "outbox", type = "table", doc = "an outbox; the states are put there instead of being posted" },
  { name = "attribute_updates", type = "function",
    doc = "called with a list of keys in place of the device's method of this name, where one poll serves several: " ..
      "returns such an iterator" },
}

return options
