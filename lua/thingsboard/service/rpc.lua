--- Passes the server's RPC requests to the scripts, by one iterator that starts when a script first serves a method.
-- @module thingsboard.service.rpc
local answer = require "thingsboard.api.rpc_answer"

local rpc = {}
rpc.__index = rpc

local MOST_AT_ONCE <const>, MOST_WAITING <const> = 64, 1000 -- requests of a script: in its handlers, and before them

--- @tparam table service
function rpc.new(service)
  return setmetatable({
    service = service,
    handlers = {}, -- by method: `script` and `call`
    lines = {}, -- by script: a list of requests that wait, and `running`, how many do not
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

-- A script whose handlers do not return holds up its own requests, and no others.
local function dispatch(self, asked)
  local loop, handler = self.service.loop, self.handlers[asked.method]
  if not handler then return loop:spawn_background(answer.by, loop, asked, nil) end
  local line = self.lines[handler.script]
  if line.running >= MOST_AT_ONCE and #line >= MOST_WAITING then
    return loop:spawn_background(answer.send, loop, asked, { error = "too many requests wait for this script" })
  elseif line.running >= MOST_AT_ONCE then
    line[#line + 1] = asked
    return
  end
  line.running = line.running + 1
  loop:spawn_background(function()
    local _ <close> = setmetatable({}, { __close = function()
      line.running = line.running - 1
      if line[1] then dispatch(self, table.remove(line, 1)) end
    end })
    handle(self, asked, handler)
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
  self.lines[script] = self.lines[script] or { running = 0 }
  start(self)
end

--- Removes what a script serves.
function rpc:remove(script)
  for method, handler in next, self.handlers do
    if handler.script == script then self.handlers[method] = nil end
  end
  local line = self.lines[script] or {}
  self.lines[script] = nil
  while line[1] do dispatch(self, table.remove(line, 1)) end -- who asked hears that there is no such method
end

return rpc
