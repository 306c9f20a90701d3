--- The service as a process, against an emulator, for the specs of a file.
-- @usage local s = service.specs() -- within `describe`; its fields are new for each spec
local busted = require "busted"
local assert = require "luassert"
local cjson = require "cjson"
local command = require "spec.support.command"
local emulator = require "spec.support.emulator"
local library = require "spec.support.library"
local scratch = require "spec.support.scratch"
local until_true = require "spec.support.until_true"

local service = {}
service.__index = service

--- Sets up an emulator for the file, and a folder and a device for each spec; a service that a spec leaves is killed.
-- @treturn table `e`, the emulator; `directory`, and in it `scripts`, `token_file`, `config`; `pid` of the service
function service.specs()
  local self = setmetatable({}, service)

  busted.setup(function() self.e = emulator.start() end)
  busted.teardown(function() self.e:stop() end)

  busted.before_each(function()
    self.directory = scratch.new()
    self.scripts, self.log_path = self.directory .. "/scripts", self.directory .. "/log"
    os.execute("mkdir " .. self.scripts)
    self.token_file = command.write(self.directory .. "/token", self.e:create_device {})
    self.e:clear()
  end)

  busted.after_each(function()
    if self.process then self:kill() end
    scratch.remove(self.directory)
    self.e:clear_faults()
  end)

  return self
end

--- The device's token.
function service:token()
  local file <close> = assert(io.open(self.token_file))
  return (file:read "a":gsub("%s", ""))
end

--- Writes a script.
function service:write(name, text)
  return command.write(self.scripts .. "/" .. name, text, "644")
end

--- The log so far.
function service:log()
  local file <close> = io.open(self.log_path)
  return file and file:read "a" or ""
end

--- Waits until a condition holds, and returns what that returned.
-- @tparam function condition
-- @tparam ?number seconds 30 by default
function service:wait(condition, seconds)
  local ok, value = pcall(until_true, condition, seconds or 30)
  if ok then return value end
  error(("%s; the log: %s"):format(value, self:log()), 2)
end

--- Waits until the log has a text.
-- @tparam string text
-- @tparam ?number seconds
-- @tparam ?integer from the first byte of the log that counts
function service:wait_for_log(text, seconds, from)
  local ok = pcall(until_true, function() return self:log():find(text, from or 1, true) end, seconds or 30)
  if not ok then error(("'%s' did not come; the log: %s"):format(text, self:log()), 2) end
end

--- How often the log has a text.
function service:count_in_log(text)
  local count, at = 0, 1
  local log = self:log()
  while true do
    local _, last = log:find(text, at, true)
    if not last then return count end
    count, at = count + 1, last + 1
  end
end

-- A value as Lua text.
local function text_of(value)
  if type(value) ~= "table" then return ("%q"):format(value) end
  local parts = {}
  for key, inner in pairs(value) do parts[#parts + 1] = ("[%q] = %s"):format(key, text_of(inner)) end
  return "{ " .. table.concat(parts, ", ") .. " }"
end

--- Writes a configuration, and starts the service with it.
-- @tparam ?table more entries of the configuration; `cjson.null` for none of that name
-- @tparam ?table environment variables
function service:start(more, environment)
  local config = { url = self.e.url, token_file = self.token_file, scripts = self.scripts }
  config.outbox = { path = self.directory .. "/outbox" }
  for name, value in pairs(more or {}) do config[name] = value end
  for name, value in pairs(config) do if value == cjson.null then config[name] = nil end end
  self.config = command.write(self.directory .. "/config.lua", "return " .. text_of(config))
  self.process, self.pid = command.start({ "service", self.config }, { errors = self.log_path,
    environment = environment })
end

--- Starts it with seconds that are so much shorter than the machine's.
-- @tparam number times
-- @tparam ?table more as for `start`
function service:start_in_haste(times, more)
  local haste = command.write(self.directory .. "/haste", tostring(times), "644")
  self:start(more, { LD_PRELOAD = library.preload "haste", HASTE = haste })
end

--- Sends it a signal.
function service:signal(name)
  command.signal(self.pid, name)
end

--- Ends it by a signal, and sees that it ends well.
function service:stop(name)
  self:signal(name or "TERM")
  local ok, how, code = self.process:close()
  self.process = nil
  assert.same({ true, "exit", 0 }, { ok, how, code }, self:log())
end

--- Kills it.
function service:kill()
  self:signal "KILL"
  self.process:close()
  self.process, self.pid = nil, nil
end

--- The values of a key that have come, as texts.
function service:values(key)
  local list = {}
  for _, entry in ipairs(self.e:series(self:token())[key] or {}) do list[#list + 1] = entry.value end
  return list
end

--- Waits until so many values of a key have come.
function service:wait_for_values(key, count, seconds)
  return self:wait(function()
    local list = self:values(key)
    return #list >= count and list
  end, seconds)
end

--- Calls a method of the device's, as a user of the server does.
-- @return what is answered, decoded; or the status
function service:ask(method, params)
  local handle = self.e:rpc(self:token(), { method = method, params = params or "{}" })
  local result = self.e:rpc_result(handle, 15)
  return result.body and result.body ~= "" and cjson.decode(result.body) or result.status
end

--- How many requests had a text in their path.
function service:requests(text)
  local count = 0
  for _, request in ipairs(self.e:requests()) do
    if request.target:find(text, 1, true) then count = count + 1 end
  end
  return count
end

--- Waits until both polls of RPC are open.
function service:wait_for_polls()
  self:wait(function() return self:requests "/rpc?" >= 2 end)
end

return service
