--- `thingsboard rpc`: calls the server, and answers the server's calls by executables.
-- @module thingsboard.command.rpc
local answer = require "thingsboard.api.rpc_answer"
local context = require "thingsboard.command.context"
local loop = require "thingsboard.loop"
local methods = require "thingsboard.command.methods"
local options = require "thingsboard.command.options"
local tb = require "thingsboard"

local MOST_BESIDE <const> = 8 -- methods that run at the same time

local rpc = {
  usage = "rpc call|serve ...",
  help = [[
call METHOD [PARAMS]  asks the server, whose rule chain answers; prints the answer as JSON. PARAMS are JSON if they are
                      valid JSON, else text; - for the standard input.
serve DIRECTORY       answers the server's calls until it gets a signal: a method is an executable of that name in
                      DIRECTORY, which gets the params as JSON on its standard input. Its output is the answer: JSON
                      if it is valid JSON, else text; an exit code other than 0 makes the answer {"error": ...}. What
                      a method leaves running is ended with it. The name is never a path, and other users must not be
                      able to write to the file.]],
  options = {
    { name = "wait", short = "W", value = "SECONDS", help = "call: wait no longer than this; exit code 5" },
    { name = "timeout", value = "SECONDS", help = "serve: for a method; 9 if absent, because the server waits for 10" },
    { name = "max-output", value = "COUNT", help = "serve: bytes that a method may write; 65536 if absent" },
    { name = "jobs", short = "j", value = "COUNT", help = "serve: methods at the same time; 8 if absent" },
  },
}

local function call(self, arguments)
  local method, params = arguments[1], arguments[2]
  if not method or #arguments > 2 then options.misused "rpc call METHOD [PARAMS]" end
  if params == "-" then params = context.read_input() end
  params = params and context.value_of(params)
  local connection_wait = self.given.wait
  if connection_wait then self:config().timeout = connection_wait end
  local device = self:device()
  local result, err = context.asked(device.send_rpc, device, method, params)
  if err then
    context.complain(err)
    return err.kind == "timeout" and connection_wait and context.codes.nothing or context.code_of(err)
  end
  context.print(result)
end

local function serve(self, arguments)
  if #arguments ~= 1 then options.misused "rpc serve DIRECTORY" end
  self.endless = true
  local serving, err = methods.open(arguments[1], self.given)
  if not serving then return context.fail(err) end
  local device <close> = self:device()
  local on, running, most = loop.default(), 0, self.given.jobs or MOST_BESIDE
  local freed = on:signal()
  local requests = device:rpc_requests()
  for asked in requests, nil, nil, requests do
    while running >= most do
      freed:lower()
      on:wait(freed)
    end
    running = running + 1
    tb.spawn(function()
      local _ <close> = setmetatable({}, { __close = function()
        running = running - 1
        freed:raise()
      end })
      answer.send(on, asked, serving:call(asked.method, asked.params))
    end)
  end
  if requests.error then return context.fail(requests.error) end
end

local actions = { call = call, serve = serve }

function rpc.run(self, arguments)
  local action = actions[table.remove(arguments, 1) or ""]
  if not action then options.misused "rpc what? call, or serve" end
  return action(self, arguments)
end

return rpc
