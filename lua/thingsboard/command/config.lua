--- The configuration of the command and the service: from options, the environment, and a configuration file.
-- @module thingsboard.command.config
local check = require "thingsboard.check"
local errors = require "thingsboard.error"
local options = require "thingsboard.options"
local process = require "thingsboard.process"
local secret_file = require "thingsboard.secret_file"
local tb = require "thingsboard"

local config = {}

local SYSTEM <const> = "/etc/thingsboard/config.lua"
local LONGEST <const> = 1 << 20 -- bytes
local MOST_STEPS <const> = 1000000 -- instructions of Lua
local MOST_MEMORY <const> = 16384 -- KiB: a loop that doubles a text takes all that there is in fifty steps

-- What a configuration file may hold.
local types = {}
for _, list in ipairs { options.device, require "thingsboard.service.options" } do
  for _, option in ipairs(list) do types[option.name] = option.type:gsub("!$", "") end
end

local function refuse(path, reason)
  return nil, errors.new("file", ("%s: %s"):format(path, reason))
end

-- What is wrong with options, as an error; nil if nothing.
local function mistake_in(what, given, known)
  local well, message = pcall(check.options, what, given, known)
  if not well then return errors.new("file", errors.words_of(message)) end
end

-- Runs the chunk without globals and string methods, and with limits of instructions and memory.
local function evaluate(chunk)
  local strings = getmetatable ""
  local methods = strings.__index
  local thread = coroutine.create(chunk)
  local steps, most = 0, collectgarbage "count" + MOST_MEMORY
  debug.sethook(thread, function()
    steps = steps + 1
    if steps > MOST_STEPS then error("it takes too long", 0) end
    if collectgarbage "count" > most then error("it takes too much memory", 0) end
  end, "", 1)
  strings.__index = nil
  local ok, value = coroutine.resume(thread)
  strings.__index = methods
  return ok, value
end

local function has_secret(values)
  return values.token ~= nil or values.provision ~= nil and values.provision.secret ~= nil
end

-- The entries that are paths, and those in its tables.
local paths = {
  "token_file", "ca_file", "ca_path", "client_cert", "client_key", "scripts", "state",
  derive = { "id_file", "secret_file" }, provision = { "secret_file", "store" }, outbox = { "path" },
  updates = { "directory", "package_directory" },
}

-- Makes relative paths begin with the folder that the configuration is in.
local function resolve(values, folder, names)
  local function whole(path)
    return type(path) == "string" and path:sub(1, 1) ~= "/" and folder .. "/" .. path or path
  end
  for key, name in next, names or paths do
    if type(name) == "string" then
      values[name] = whole(values[name])
    elseif type(values[key]) == "table" then
      for _, one in ipairs(values[key][1] and values[key] or { values[key] }) do
        if type(one) ~= "table" then error(("%s: a table expected, got %s"):format(key, type(one)), 0) end
        resolve(one, folder, name)
      end
    end
  end
  if not names then
    local updates = values.updates or {}
    for _, one in ipairs(updates[1] and updates or { updates }) do
      if type(one.apply) == "string" and one.apply:find("/", 1, true) then one.apply = whole(one.apply) end
    end
  end
  return values
end

--- Reads a configuration file: Lua text that returns a table. Relative paths in it begin in its folder.
-- @tparam string path
-- @treturn[1] table
-- @treturn[2] nil
-- @treturn[2] table the error, of the kind `file`
function config.read(path)
  local about, reason = process.stat(path)
  if not about then return nil, errors.new("file", reason) end
  local file <close>, why = io.open(path, "rb")
  if not file then return nil, errors.new("file", why) end
  local chunk
  chunk, why = load(file:read(LONGEST) or "", "@" .. path, "t", {})
  if not chunk then return nil, errors.new("file", why) end
  local ok, values = evaluate(chunk)
  if not ok then return refuse(path, errors.text_of(values)) end
  if type(values) ~= "table" then return refuse(path, "it returns no table: begin it with 'return {'") end
  local mistake = mistake_in(path, values, types)
  if mistake then return nil, mistake end
  local exposed = has_secret(values) and secret_file.exposed(about.mode)
  if exposed then return refuse(path, exposed) end
  local well, message = pcall(resolve, values, path:match "^(.*)/[^/]*$" or ".")
  if not well then return refuse(path, message) end
  return values
end

local function exists(path)
  return path and process.stat(path) ~= nil
end

local function default_path()
  local home = os.getenv "HOME"
  local folder = os.getenv "XDG_CONFIG_HOME" or home and home .. "/.config"
  local path = folder and folder .. "/thingsboard/config.lua"
  return exists(path) and path or exists(SYSTEM) and SYSTEM or nil
end

local function from_environment(value)
  return value ~= "" and value or nil
end

-- Taken at once: no program that the command starts inherits it.
local token_of_environment = from_environment(process.take_variable "THINGSBOARD_TOKEN")

-- A token from a hardware id, which a file of the system holds, and a secret of the fleet.
local function derive(path, wanted)
  local mistake = mistake_in(path .. ": derive", wanted, { id_file = "text!", secret_file = "text!" })
  if mistake then return nil, mistake end
  local file <close>, reason = io.open(wanted.id_file, "rb")
  local id = file and file:read "l"
  if not id or id == "" then return refuse(wanted.id_file, reason or "it holds no hardware id") end
  local secret, err = secret_file.read("derive", wanted.secret_file)
  if not secret then return nil, err end
  local ok, token = pcall(tb.derive_token, id, secret)
  if ok then return token end
  return refuse(wanted.secret_file, "the secret must have at least 16 bytes")
end

--- The merged values of options, environment and file, in this order of precedence.
-- @tparam table given `config`, `url` and `token-file` of the command line
-- @treturn[1] table the values; `url_from` and `token_from` say where these come from, unless that is the file, which
-- is `read_from`
-- @treturn[2] nil
-- @treturn[2] table the error
function config.load(given)
  local path, values = given.config or default_path(), {}
  if path then
    local err
    values, err = config.read(path)
    if not values then return nil, err end
  end
  local url = from_environment(os.getenv "THINGSBOARD_URL")
  values.url_from = given.url and "--url" or url and "THINGSBOARD_URL" or nil
  values.url = given.url or url or values.url
  local token = token_of_environment
  if given["token-file"] then
    values.token, values.token_file = nil, given["token-file"]
  elseif token then
    values.token, values.token_file, values.token_from = token, nil, "THINGSBOARD_TOKEN"
  end
  values.read_from = path
  return values
end

--- Finds out who we are, where the values have neither a token nor its file: derives the token, or takes the file that
-- `provision` keeps. What needs no identity need not call this.
-- @tparam table values of `load`; `token` or `token_file` is set, if there is any
-- @treturn[1] table the values
-- @treturn[2] nil
-- @treturn[2] table the error
function config.identify(values)
  if values.token or values.token_file then return values end
  if values.derive then
    local err
    values.token, err = derive(values.read_from, values.derive)
    if not values.token then return nil, err end
  elseif values.provision then
    values.token_file = values.provision.store
  end
  return values
end

--- A stand-in for a device that need not be known: its outbox takes records, and sends nothing.
function config.recorder()
  return tb.device { url = "http://localhost", token = "unknown" }
end

--- The options of a connection among them.
function config.connection(values)
  local connection = {}
  for _, option in ipairs(options.connection) do connection[option.name] = values[option.name] end
  return connection
end

return config
