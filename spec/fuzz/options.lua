-- Options of any kind: what comes of them is a device, or an error at the script's line that names the option at fault.
-- An address that is taken means the same to libcurl. Nothing is sent: the clients' requests end before they start.
local bytes = require "spec.fuzz.bytes"
local client = require "thingsboard.http.client"
local errors = require "thingsboard.error"
local loop = require "thingsboard.loop"
local options = require "thingsboard.options"
local tb = require "thingsboard"

local SECRET = "S3CRET-"
local PREFIX = "spec/fuzz/options.lua:"

local read_url = url -- luacheck: ignore 113
local directory = io.popen("mktemp -d -p /dev/shm"):read "l"

local function nothing()
  return nil, errors.new("http", "nothing is sent", { status = 401 })
end
client.start, client.call = nothing, nothing -- luacheck: ignore 122

local function names_of(list)
  local names = {}
  for _, option in ipairs(list) do names[#names + 1] = option.name end
  table.sort(names)
  names[#names + 1] = "colour"
  names[#names + 1] = ""
  return names
end

local device_names = names_of(options.device)
local provision_names = names_of(options.provision)
local package_names = names_of(options.package)
local updates_names = names_of(options.updates)

-- What is taken, for the checks behind the first ones to be reached.
local good = {
  url = "http://127.0.0.1:9", token = SECRET .. "token", key = SECRET .. "key", secret = SECRET .. "secret",
  password = SECRET .. "password", credentials_type = "ACCESS_TOKEN", timeout = 1, connect_timeout = 0.5,
  max_response = 1000, proxy = "http://127.0.0.1:9", client_cert = "cert", client_key = "key", title = "t",
  version = "v", size = 10, chunk_size = 5, checksum = "00", checksum_algorithm = "MD5", path = "package",
  kind = "firmware", current = { title = "t", version = "1" }, directory = "updates", apply = print,
  progress = print, store = "store", anew = true, verify = false, unverified = "https",
}
local files = { store = true, path = true, directory = true, ca_file = true, ca_path = true }
local secrets = { token = true, secret = true, password = true, key = true }

local function any(from, name)
  local kind = from:byte() % 14
  if kind < 5 then return good[name] end
  if kind == 5 then return from:integer() end
  if kind == 6 then return from:float() end
  if kind == 7 then return from:byte() % 2 == 0 end
  if kind == 8 then return {} end
  if kind == 9 then return print end
  if kind == 10 then return from:byte() - 128 end
  local text = from:string():gsub(SECRET, "text") -- fuzzers learn it; what is no secret may be told
  if kind == 11 and name == "url" then text = from:choice { "http://", "https://", "HTTPS://h" } .. text end
  if kind == 11 and name == "proxy" then text = from:choice { "socks5h://", "http://u:" .. SECRET .. "@" } .. text end
  if secrets[name] then text = SECRET .. text end
  if files[name] and text ~= "" then text = text:gsub("[/\0]", "_"):sub(1, 50) end -- no file of just any name
  return text
end

local function any_options(from, names, required)
  local made = {}
  for _, name in ipairs(required) do made[name] = any(from, name) end
  for _ = 1, from:byte() % 8 do
    local name = from:choice(names)
    made[name] = any(from, name)
  end
  if from:byte() == 1 then made[from:integer()] = 1 end
  if made.current and from:byte() == 1 then made.current = { title = any(from, "title"), version = any(from, "x") } end
  return made
end

local function in_directory(made)
  for name in pairs(files) do
    if type(made[name]) == "string" and made[name] ~= "" then made[name] = directory .. "/" .. made[name] end
  end
  return made
end

local function check_text(text)
  if text:find(SECRET, 1, true) then error("a secret in " .. text) end
end

-- The message stands at the line of the call, begins with the function's name, and tells the option.
local function check_raised(what, message, given)
  if type(message) ~= "string" then error("raised no text: " .. tostring(message)) end
  local text = message:match("^" .. PREFIX:gsub("%p", "%%%0") .. "%d+: " .. what .. ": (.*)$")
  if not text then error("an error of another form: " .. message) end
  local named = text:match("option '(.-)'") -- the first: what follows may quote another
  local is_token = text:find "^the token "
  if not named and not is_token and not text:find "2 GiB" then error("no option is named: " .. message) end
  for name, value in next, given do
    if secrets[name] and type(value) == "string" and #value > #SECRET then check_text(message) end
  end
end

local function check_address(given)
  local base = given.url:gsub("/+$", "")
  local parts, reason = read_url(base .. "/api/v1/" .. client.escape(given.token) .. "/telemetry")
  if not parts then
    if base:find("[", 1, true) then return end -- whether an address of IPv6 exists is left to libcurl
    error(reason .. ": " .. base)
  end
  local scheme, host = base:lower():match "^(https?)://([^/]*)"
  host = host:gsub(":%d+$", "")
  assert(parts.scheme == scheme, "another scheme")
  -- libcurl decodes percents, and writes out addresses of IPv4 that are short, octal or hexadecimal.
  if parts.host:lower() ~= host and not host:find "[%%%[\x80-\xFF]" and not parts.host:find "^[%d.]+$" then
    error(("another host: %s in %s"):format(parts.host, base))
  end
  assert(not (parts.user or parts.password or parts.query or parts.fragment), "more than an address")
  local tail = "/api/v1/" .. client.escape(given.token) .. "/telemetry"
  if parts.path:sub(-#tail) ~= tail then error(("another path: %s of %s"):format(parts.path, base)) end
end

local function outcome(what, given, ok, value, err)
  if not ok then return check_raised(what, value, given) end
  if value == nil then
    assert(errors.is(err), "no error")
    check_text(err.message)
  end
  return value
end

local targets = {
  device = function(from)
    local given = any_options(from, device_names, { "url", "token" })
    local device = outcome("device", given, pcall(function()
      local made = tb.device(given)
      return made
    end))
    if not device then return end
    check_text(tostring(device))
    check_address(given)
    device:close()
  end,
  provision = function(from)
    local given = in_directory(any_options(from, provision_names, { "url", "key", "secret" }))
    outcome("provision", given, pcall(function()
      local made, err = tb.provision(given)
      return made, err
    end))
  end,
}

local function method(name, names, required, directory_too)
  targets[name] = function(from)
    local device <close> = tb.device { url = good.url, token = good.token, max_response = 1000 }
    local given = any_options(from, names, required)
    if directory_too then in_directory(given) end
    outcome(name, given, pcall(function()
      local made, err = device[name](device, given)
      if type(made) == "table" then made:close() end
      return made, err
    end))
  end
end

method("firmware", package_names, { "title", "version" }, true)
method("software", package_names, { "title", "version" }, true)
method("updates", updates_names, { "kind", "current", "directory", "apply" }, true)
method("rpc_requests", { "period", "x" }, {})
method("claim", { "secret_key", "duration_ms", "x" }, {})
method("request_attributes", { "x" }, {})

local order = {}
for name in pairs(targets) do order[#order + 1] = name end
table.sort(order)

return function(text)
  local from = bytes.new(text)
  local name = from:choice(order)
  targets[name](from)
  loop.default():close()
end
