--- Passes the server's RPC requests to the scripts, by one iterator that starts when a script first serves a method.
-- @module thingsboard.service.rpc
local answer = require "thingsboard.api.rpc_answer"

local rpc = {}
rpc.__index = rpc

local MOST_IN_FLIGHT <const> = 64 -- requests that handlers work on

--- @tparam table service
function rpc.new(service)
  return setmetatable({
    service = service,
    handlers = {}, -- by method: `script` and `call`
    in_flight = 0, freed = service.loop:signal(),
    started = false,
  }, rpc)
end

-- Calls the handler in a task of its script, and answers whatever becomes of it.
local function handle(self, asked, handler)
  local loop = self.service.loop
  local ok, result = handler.script:call(handler.call, asked.params, asked)
  if ok then return answer.send(loop, asked, result) end
  if ok == nil then
    return answer.send(loop, asked, { error = "the script that serves this method was stopped" })
  end
  self.service.log:error("%s: method %s: %s", handler.script.name, asked.method, result)
  answer.send(loop, asked, { error = (result:match "^[^\n]*") })
end

local function dispatch(self, asked)
  local loop = self.service.loop
  while self.in_flight >= MOST_IN_FLIGHT do
    self.freed:lower()
    loop:wait(self.freed)
  end
  self.in_flight = self.in_flight + 1
  loop:spawn_background(function()
    local _ <close> = setmetatable({}, { __close = function()
      self.in_flight = self.in_flight - 1
      self.freed:raise()
    end })
    local handler = self.handlers[asked.method]
    if handler then return handle(self, asked, handler) end
    answer.by(loop, asked, nil)
  end)
end

local function start(self)
  if self.started then return end
  self.started = true
  self.service:keep("RPC requests", function(device, works)
    local requests = device:rpc_requests()
    for asked in requests, nil, nil, requests do
      works()
      dispatch(self, asked)
    end
    return nil, requests.error
  end)
end

--- Lets a script serve a method. Raises when another does.
-- @tparam table script
-- @tparam string method
-- @tparam function call called with `params` and the request; what it returns is the answer
function rpc:add(script, method, call)
  local other = self.handlers[method]
  if other and other.script ~= script then
    error(("on_rpc: the method '%s' is served by %s already"):format(method, other.script.name), 0)
  end
  self.handlers[method] = { script = script, call = call }
  start(self)
end

--- Removes what a script serves.
function rpc:remove(script)
  for method, handler in next, self.handlers do
    if handler.script == script then self.handlers[method] = nil end
  end
end

return rpc
