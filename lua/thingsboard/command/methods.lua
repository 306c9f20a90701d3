--- A folder of executables, each of which is a method that the server may call.
-- @module thingsboard.command.methods
local child = require "thingsboard.loop.child"
local context = require "thingsboard.command.context"
local errors = require "thingsboard.error"
local json = require "thingsboard.json.decode"
local loop = require "thingsboard.loop"
local process = require "thingsboard.process"

local BY_OTHERS <const>, BY_ANYONE_TO_RUN <const> = 2, 73 -- permission bits: o=w, and a=x
local TIMEOUT <const>, MOST_OUTPUT <const> = 9, 65536 -- seconds, bytes

local methods = {}
methods.__index = methods

--- @tparam string directory
-- @tparam table given `timeout` (seconds), `max-output` (bytes)
-- @treturn[1] methods
-- @treturn[2] nil
-- @treturn[2] table the error
function methods.open(directory, given)
  local about, reason = process.stat(directory)
  if about and about.type ~= "directory" then reason = directory .. ": not a directory" end
  if about and about.mode & BY_OTHERS ~= 0 then reason = directory .. ": every user can write to it; chmod o-w it" end
  if reason then return nil, errors.new("file", "rpc serve: " .. reason) end
  return setmetatable({
    directory = directory, timeout = given.timeout or TIMEOUT, max_output = given["max-output"] or MOST_OUTPUT,
  }, methods)
end

-- The method's file; nil when there is none that may be run. A name is never a path, and a link leads nowhere.
local function find(self, method)
  if method:find "^[.-]" or method:find "[/%c]" then return nil end
  local path = self.directory .. "/" .. method
  local about = process.stat(path, true)
  if not about or about.type ~= "file" or about.mode & BY_ANYONE_TO_RUN == 0 then return nil end
  if about.mode & BY_OTHERS ~= 0 then
    context.complain(("method %s is not run: every user can write to %s"):format(method, path))
    return nil
  end
  return path
end

local function why_failed(self, result)
  if result.timed_out then return ("it took longer than %g s"):format(self.timeout) end
  if result.too_long then return ("it wrote more than %d bytes"):format(self.max_output) end
  if result.signal then return ("it was ended by signal %d"):format(result.signal) end
  local said = result.output:match "^%s*(.-)%s*$"
  return said ~= "" and said or ("it ended with code %d"):format(result.code)
end

--- Runs a method, while other tasks go on.
-- @tparam string method
-- @param params
-- @return what to answer
function methods:call(method, params)
  local path = find(self, method)
  if not path then return { error = "no such method: " .. errors.as_utf8(method) } end
  if params == nil then params = json.null end
  local result, reason = child.run(loop.default(), {
    path, input = context.json(params), timeout = self.timeout, max_output = self.max_output,
  })
  if not result then
    context.complain(("method %s: %s"):format(method, reason))
    return { error = "it cannot be run" }
  end
  if result.code ~= 0 or result.too_long then
    local why = errors.as_utf8(why_failed(self, result))
    context.complain(("method %s: %s"):format(method, why))
    return { error = why }
  end
  local text = result.output:gsub("\n$", "")
  if text == "" then return json.null end
  return context.value_of(errors.as_utf8(text))
end

return methods
