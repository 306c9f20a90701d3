--- The options of everything that takes some, but for outboxes: name, type, default and what it means. Checks, defaults
-- and the README's tables follow from these lists. See `thingsboard.check` for the types.
-- @module thingsboard.options
local options = {}

local function join(...)
  local all = {}
  for _, list in ipairs { ... } do table.move(list, 1, #list, #all + 1, all) end
  return all
end

--- A connection to a server. What has `core` is handed to the core's client as it is. What has `shared` holds for
-- packages by URL, too; a pinned key, a certificate, and what turns checks off are for this server only.
options.connection = {
  { name = "url", type = "text!", doc = "`http://` or `https://`, a host, perhaps a port and a path" },
  -- The server answers what it could not do within 30 s: a little more, and its word is heard.
  { name = "timeout", type = "positive number", shared = true, default = 35, doc = "seconds for a whole call" },
  { name = "connect_timeout", type = "positive number", shared = true, default = 10,
    doc = "seconds until there is a connection" },
  { name = "verify", type = "boolean", core = true, default = true, doc = "`false` turns the checks of TLS off" },
  { name = "ca_file", type = "text", core = true, shared = true,
    doc = "PEM file of the authorities to trust, instead of the system's" },
  { name = "ca_path", type = "text", core = true, shared = true,
    doc = "folder of such files, named as `openssl rehash` does" },
  { name = "pinned_key", type = "text", core = true, doc = "the server's public key, as curl takes it: `sha256//...`" },
  { name = "client_cert", type = "text", core = true, doc = "PEM file of the device's own certificate" },
  { name = "client_key", type = "text", core = true, doc = "PEM file of its key" },
  { name = "client_key_password", type = "text", core = true, doc = "the key's pass phrase, where it has one" },
  { name = "proxy", type = "text", core = true, shared = true,
    doc = "like `http://host:port` or `socks5h://host:port`; the environment's proxies are ignored" },
  { name = "interface", type = "text", core = true, shared = true, doc = "name or address to send from" },
  { name = "max_response", type = "positive integer", default = 4 * 1024 * 1024,
    doc = "the most bytes of an answer in memory" },
  { name = "user_agent", type = "text", shared = true, default = "thingsboard-lua",
    doc = "what the server is told of the client" },
}

--- The `url_options` of `updates`: the address is the package's.
options.elsewhere = table.move(options.connection, 2, #options.connection, 1, {})

--- `tb.device`
options.device = join({
  { name = "token", type = "non-empty string", doc = "the device's access token; this or `token_file` is required" },
  { name = "token_file", type = "text",
    doc = "a file with the token, or a `store` of `provision`; no other user may read it; after a 401 it is read " ..
      "again" },
}, options.connection)

--- What `tb.provision` takes beside the options of the connection.
options.credentials = {
  { name = "key", type = "non-empty string!", doc = "the device profile's provision device key" },
  { name = "secret", type = "non-empty string!", doc = "the device profile's provision device secret" },
  { name = "device_name", type = "string",
    doc = "the name to create or find the device by; without it the server makes one up" },
  { name = "credentials_type", type = "ACCESS_TOKEN|X509_CERTIFICATE|MQTT_BASIC|LWM2M_CREDENTIALS",
    doc = "the kind of credentials; without it `ACCESS_TOKEN`" },
  { name = "token", type = "non-empty string", doc = "the token that the device asks for" },
  { name = "client_id", type = "string", doc = "of `MQTT_BASIC`" },
  { name = "username", type = "string", doc = "of `MQTT_BASIC`" },
  { name = "password", type = "string", doc = "of `MQTT_BASIC`" },
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
  -- A poll asks for one period and a half at most, which stays below the server's 30 s.
  { name = "period", type = "positive number", default = 18, doc = "seconds from the end of a poll to its next end" },
}

--- `claim`
options.claim = {
  { name = "secret_key", type = "string", doc = "what the user who claims the device must know" },
  { name = "duration_ms", type = "positive integer",
    doc = "milliseconds that the claim stands; without it as long as the server's settings say" },
}

--- `firmware` and `software`
options.package = {
  { name = "title", type = "text!", doc = "of the package that is assigned" },
  { name = "version", type = "text!", doc = "of the package that is assigned" },
  { name = "size", type = "non-negative integer",
    doc = "bytes, as in the shared attribute `fw_size`; held against what comes" },
  { name = "checksum", type = "text", doc = "as in the shared attribute `fw_checksum`; held against what comes" },
  { name = "checksum_algorithm", type = "text", doc = "as in the shared attribute `fw_checksum_algorithm`" },
  { name = "path", type = "text",
    doc = "a file to write; without it the package is returned as a string of `max_response` bytes at most" },
  { name = "chunk_size", type = "positive integer", doc = "bytes of a request; without it one request brings all" },
  { name = "progress", type = "function",
    doc = "called with the bytes that have come and those in all, which are nil when the server does not tell" },
}

--- `updates`
options.updates = {
  { name = "kind", type = "firmware|software!", doc = "`\"firmware\"` or `\"software\"`" },
  { name = "current", type = "table!", doc = "`title` and `version` of what runs" },
  { name = "directory", type = "text!", doc = "where the state and the package are kept" },
  { name = "package_directory", type = "text", doc = "where the package is kept instead, such as `/tmp` in memory" },
  { name = "apply", type = "function!",
    doc = "called with a table of `title`, `version`, `tag`, `size` and the `path` of the verified file" },
  { name = "chunk_size", type = "positive integer", default = 256 * 1024,
    doc = "bytes of a request, which is what an interruption can cost; at most the device's `max_response`" },
  { name = "progress", type = "function",
    doc = "called with the bytes that have come and those in all, which are nil when the server does not tell" },
  { name = "strong", type = "boolean", default = false, doc = "refuse MD5, CRC32 and MURMUR3" },
  { name = "unverified", type = "https", doc = "`\"https\"`: take packages by URL that have no checksum, by https" },
  { name = "allow_http", type = "boolean", default = false, doc = "take packages by URL without TLS" },
  { name = "url_options", type = "table",
    doc = "options of the connection for packages by URL, as of `tb.device`; without them the device's time-outs, " ..
      "`ca_file`, `ca_path`, `proxy`, `interface` and `user_agent` are used" },
  { name = "outbox", type = "table", doc = "an outbox, by which the states are told" },
}

return options
