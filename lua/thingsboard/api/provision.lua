--- Provisioning: gets credentials for a device from the server.
-- @module thingsboard.api.provision
local core = require "thingsboard.core"
local check = require "thingsboard.check"
local answers = require "thingsboard.http.answer"
local client = require "thingsboard.http.client"
local errors = require "thingsboard.error"
local json = require "thingsboard.json.decode"
local options = require "thingsboard.options"
local payload = require "thingsboard.json.payload"

local wire_names = {
  key = "provisionDeviceKey", secret = "provisionDeviceSecret", device_name = "deviceName",
  credentials_type = "credentialsType", token = "token", client_id = "clientId", username = "username",
  password = "password", hash = "hash", gateway = "gateway",
}

-- The server's credentials in Lua terms. Unset members of MQTT_BASIC are empty strings on the wire.
local function read_credentials(answer)
  local kind, value = answer.credentialsType, answer.credentialsValue
  if value == nil or value == json.null then value = answer.accessToken end -- as in the server's older documentation
  local credentials = { credentials_type = kind }
  if kind == "ACCESS_TOKEN" and type(value) == "string" and value ~= "" then
    credentials.token = value
  elseif kind == "X509_CERTIFICATE" and type(value) == "string" then
    credentials.certificate = value
  elseif kind == "MQTT_BASIC" and type(value) == "table" then
    for name, wire in next, { client_id = "clientId", username = "userName", password = "password" } do
      if type(value[wire]) == "string" and value[wire] ~= "" then credentials[name] = value[wire] end
    end
  elseif kind ~= "LWM2M_CREDENTIALS" then
    return nil
  end
  return credentials
end

local function read_answer(from, answer)
  if answer.status == "SUCCESS" then
    local credentials = read_credentials(answer)
    if credentials then return credentials end
    return nil, errors.new("answer", "provision: the answer holds credentials that this library does not know")
  end
  local said = type(answer.errorMsg) == "string" and from:quote(answer.errorMsg) .. " " or ""
  if answer.status == "NOT_FOUND" then
    return nil, errors.new("not_found", "provision: " .. said ..
      "Check the key and the secret, and that the device profile allows provisioning")
  end
  return nil, errors.new("refused", "provision: " .. said ..
    "The name may be taken, unknown or provisioned already, or the credentials may be in use")
end

-- Reads the store. Returns nil without an error when there is no such file.
local function read_store(path)
  local file, reason, code = io.open(path, "rb")
  if not file then
    if code == 2 then return nil end -- ENOENT
    return nil, errors.new("file", "provision: cannot read the credentials: " .. reason)
  end
  local text = file:read "a"
  file:close()
  local credentials = text and json.decode(text)
  if type(credentials) == "table" and type(credentials.credentials_type) == "string" then return credentials end
  return nil, errors.new("file", ("provision: %s holds no credentials; remove it, or provision anew"):format(path))
end

-- Writes the store. The server returns credentials only once, so if writing fails the error carries them.
local function write_store(file, credentials)
  local body = core.body()
  body:value(credentials)
  local ok, reason = file:write(body:text() .. "\n")
  if ok then ok, reason = file:commit() end
  if ok then return credentials end
  return nil, errors.new("file", "provision: the credentials are in this error's field 'credentials', nowhere else: "
    .. reason, { credentials = credentials })
end

local function request(from, given)
  local wishes = {}
  for name, wire in next, wire_names do wishes[wire] = given[name] end
  local body, err = payload.value("provision", wishes)
  if not body then return nil, err end
  local answer
  answer, err = from:call("provision", "POST", "/provision", body, nil, answers.provisioning)
  if not answer then return nil, err end
  return read_answer(from, answer)
end

local function request_and_keep(from, given)
  local file <close>, reason = core.file(given.store) -- first: without a place to keep them, do not ask for credentials
  if not file then return nil, errors.new("file", "provision: " .. reason) end
  local credentials, err = request(from, given)
  if not credentials then return nil, err end
  return write_store(file, credentials)
end

--- Asks the server for credentials (device API, "provision").
-- With `store` the credentials are on disk before this returns, and come from there the next time, unless `anew` is
-- true.
-- @function provision
-- @tparam table given see `options.provision`
-- @treturn[1] table `credentials_type`, and `token`, or `certificate`, or `client_id`, `username`, `password`
-- @treturn[2] nil
-- @treturn[2] table the error; kind `not_found`: the server knows no such key and secret; `refused`: it gives no
-- credentials for this device; `file`: the store cannot be read or written
return function(given)
  given = check.read("provision", given, options.provision)
  if given.token then check.token("provision", given.token) end
  if given.anew and not given.store then error("provision: option 'store' is missing beside 'anew'", 2) end
  if given.store and not given.anew then
    local kept, err = read_store(given.store)
    if kept or err then return kept, err end
  end
  local from = client.new("provision", given, "/api/v1", { given.key, given.secret, given.password, given.token })
  local ask = given.store and request_and_keep or request
  local credentials, err = ask(from, given)
  from:close()
  return credentials, err
end
