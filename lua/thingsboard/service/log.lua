--- The service's log: lines on the standard error, which the system's log takes.
-- @module thingsboard.service.log
local log = {}
log.__index = log

local levels = { error = 1, warning = 2, info = 3, debug = 4 }

--- @tparam ?string level `error`, `warning`, `info` or `debug`: less important lines are left out; `info` by default
function log.new(level)
  return setmetatable({ level = levels[level or "info"], last_error = nil }, log)
end

local function write(self, level, text, ...)
  if select("#", ...) > 0 then text = text:format(...) end
  if level == "error" then self.last_error = text:match "^[^\n]*" end
  if levels[level] > self.level then return end
  io.stderr:write("thingsboard: ", level, ": ", (text:gsub("\n", "\n  ")), "\n")
end

for level in next, levels do
  --- Writes a line: a text, or a format and its values.
  log[level] = function(self, ...) write(self, level, ...) end
end

return log
