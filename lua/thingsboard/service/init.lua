--- The service: runs device scripts over one device and one outbox. It keeps running without a network, a server, a
-- token or a working disk.
-- @module thingsboard.service
local attributes = require "thingsboard.service.attributes"
local check = require "thingsboard.check"
local client = require "thingsboard.http.client"
local config = require "thingsboard.command.config"
local core = require "thingsboard.core"
local errors = require "thingsboard.error"
local link = require "thingsboard.service.link"
local log = require "thingsboard.service.log"
local loop = require "thingsboard.loop"
local outage = require "thingsboard.service.outage"
local outbox = require "thingsboard.service.outbox"
local patience = require "thingsboard.service.patience"
local rpc = require "thingsboard.service.rpc"
local scripts = require "thingsboard.service.scripts"
local server = require "thingsboard.http.server"
local state = require "thingsboard.service.state"
local tb = require "thingsboard"
local updates = require "thingsboard.service.updates"

local service = {}
service.__index = service

local LAST_WORDS <const> = 5 -- seconds that scripts have for their handlers of SIGTERM

-- The device's methods that a script may call in addition to the service's own; they wait until there is a token.
local of_device = { "send_telemetry", "request_attributes", "send_rpc", "claim", "firmware", "software" }

--- @tparam table values the configuration; mistakes in it raise
function service.new(values)
  check.options("report", values.report or {}, { every = "positive number", as = "telemetry|attributes" })
  local self = setmetatable({
    values = values, loop = loop.default(), log = log.new(values.log), began = core.monotonic(),
    connection = config.connection(values),
    device = nil, -- once there is a token
    outbox = nil, -- if there is to be one
    clock_told = nil, -- the log has that the clock is known
    update_handler = nil, -- `script` and `call`
  }, service)
  self.stopping = self.loop:signal()
  self.provisioning, self.state_file = outage.new(self.log), outage.new(self.log)
  if values.clock_file then tb.clock(values.clock_file) end -- which a hook of the NTP client makes
  local mistake = client.mistake("device", self.connection)
  if mistake then error(mistake, 0) end
  self.server = server.of(self.loop, self.connection.url)
  local weak = { __mode = "k" }
  self.waiting_for_device, self.waiting_for_handler = setmetatable({}, weak), setmetatable({}, weak) -- sets of signals
  self.rpc, self.attributes = rpc.new(self), attributes.new(self)
  self.scripts = scripts.new(self, values.scripts)
  if values.outbox then self.outbox = outbox.new(self, values.outbox) end
  if values.updates then updates.start(self, values.updates) end
  return self
end

--- Tries something until it works; see `patience.keep`.
function service:patiently(what, try)
  return patience.keep(self.server, self.log, what, try)
end

-- The server does not know the token. Asks for another, where the configuration says so.
local function provision_anew(self)
  local wanted = self.values.provision
  if not wanted or not wanted.anew then return end
  local credentials, err = require("thingsboard.command.provision").ask(self.connection, wanted)
  if credentials then
    self.provisioning.told = nil
    self.log:info "provisioned anew"
  else
    self.provisioning:goes_on("%s", err)
  end
end

--- Runs a function with the device for ever, in a task of its own, once there is a token.
-- @tparam string what for the log
-- @tparam function body called with the device, and a function by which it may say that it works; it returns nil and
-- the error that ended it
function service:keep(what, body)
  self.loop:spawn_background(function()
    self:wait_for_device()
    self:patiently(what, function(works)
      local _, err = body(self.device, works)
      if errors.is(err) and err.kind == "http" and err.status == 401 then provision_anew(self) end
      return nil, err
    end)
  end)
end

-- Waits until another raises the signals of a set.
local function wait_among(self, waiting)
  local ready = self.loop:signal()
  waiting[ready] = true
  self.loop:wait(ready)
end

local function raise_all(waiting)
  for ready in next, waiting do ready:raise() end
end

--- Waits until there is a token.
function service:wait_for_device()
  while not self.device do wait_among(self, self.waiting_for_device) end
end

-- The device of the configuration; nil and the error while there is no token.
local function make_device(self)
  local values, given = self.values, {}
  for name, value in next, self.connection do given[name] = value end
  given.token, given.token_file = values.token, values.token_file
  local device, err = tb.device(given)
  if device or not values.provision or values.token_file ~= values.provision.store then return device, err end
  local wanted = {}
  for name, value in next, values.provision do wanted[name] = value end
  wanted.anew = nil
  local credentials
  credentials, err = require("thingsboard.command.provision").ask(self.connection, wanted)
  if not credentials then return nil, err end
  return tb.device(given)
end

local function identify(self)
  self.loop:spawn_background(function()
    self.device = self:patiently("identity", function() return make_device(self) end)
    link.watch(self.device, self.log, function() if self.outbox then self.outbox:look() end end)
    if self.outbox then self.outbox:use(self.device) end
    raise_all(self.waiting_for_device)
  end)
end

--- Records values: through the outbox where there is one, else it sends them at once.
function service:put(values)
  if self.outbox then return self.outbox:put(values) end
  self:wait_for_device()
  return self.device:send_telemetry(values)
end

--- Sets client attributes, likewise.
function service:send_attributes(values)
  if self.outbox then return self.outbox:attributes(values) end
  self:wait_for_device()
  return self.device:send_attributes(values)
end

--- The device as a script sees it.
-- @tparam table script
-- @treturn table `put`, `attributes`, `on_rpc`, `on_attribute`, `on_update`, `send_attributes`, and the methods of a
-- device that one script's use leaves to the others
function service:device_for(script)
  local facade, tasks = { attributes = self.attributes:view() }, script.tasks
  local function check_runs()
    if script.tasks ~= tasks then error("the script has been stopped", 3) end
  end
  function facade.put(_, values) return self:put(values) end
  function facade.send_attributes(_, values) return self:send_attributes(values) end
  function facade.on_rpc(_, method, call)
    check.argument("on_rpc", "method", method, "non-empty string")
    check.argument("on_rpc", "handler", call, "function")
    check_runs()
    self.rpc:add(script, method, call)
  end
  function facade.on_attribute(_, key, call)
    check.argument("on_attribute", "key", key, "non-empty string")
    check.argument("on_attribute", "handler", call, "function")
    check_runs()
    self.attributes:watch(script, key, call)
  end
  function facade.on_update(_, call)
    check.argument("on_update", "handler", call, "function")
    check_runs()
    local other = self.update_handler
    if other and other.script ~= script then
      error(("on_update: %s installs updates already"):format(other.script.name), 2)
    end
    self.update_handler = { script = script, call = call }
    raise_all(self.waiting_for_handler)
  end
  for _, name in ipairs(of_device) do
    facade[name] = function(_, ...)
      self:wait_for_device()
      return self.device[name](self.device, ...)
    end
  end
  return facade
end

--- Lets the script that has asked for it install a package; waits for one to ask.
-- @return as `apply` of `device:updates`; "again" if the script was stopped meanwhile
function service:apply_update(package)
  while not self.update_handler do wait_among(self, self.waiting_for_handler) end
  local by = self.update_handler
  local ok, result, reason = by.script:call(by.call, package)
  if ok then return result, type(reason) == "string" and reason or nil end
  if ok == nil then return "again" end
  self.log:error("%s: on_update: %s", by.script.name, result)
  return nil, result:match "^[^\n]*"
end

--- A script is gone.
function service:remove_update_handler(script)
  if self.update_handler and self.update_handler.script == script then self.update_handler = nil end
end

local function on_error(self)
  return function(task, message)
    if task.script then return task.script:failed(task, message) end
    self.log:error("%s", message)
  end
end

local function listen_to_signals(self)
  tb.on_signal("HUP", function()
    self.log:info "reload"
    if self.values.clock_file and not self.clock_told and tb.clock() then -- the hook sends this signal
      self.clock_told = true
      self.log:info "the clock is known"
    end
    self.scripts:reload()
  end)
  tb.on_signal("USR1", function() state.write(self, true) end)
end

-- Lets the scripts finish: runs their handlers of the signal.
local function wait_for_last_words(self)
  local deadline = core.monotonic() + LAST_WORDS
  self.loop:sleep(0)
  for one in self.scripts:each() do
    while one:is_ending() and core.monotonic() < deadline do self.loop:sleep(0.05) end
  end
end

--- Ends `run`.
function service:stop()
  self.stopping:raise()
end

--- Runs until it is stopped.
function service:run()
  local values = self.values
  self.loop.on_error = on_error(self)
  listen_to_signals(self)
  self.log:info("version %s starts", tb.version)
  identify(self)
  self.scripts:reload()
  self.scripts:start_collectors(values.collectors or {})
  state.start(self)
  self.loop:wait(self.stopping)
  self.log:info "it is told to end"
  wait_for_last_words(self)
  self.scripts:stop()
  if values.state then state.write(self) end
  if self.outbox then self.outbox:close() end
  if self.device then self.device:close() end
end

return service
