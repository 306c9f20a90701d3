-- Storage: storage_PATH_total, storage_PATH_free (bytes) of the file systems that hold `paths`, {"/"} if absent, as
-- storage_root_free, storage_overlay_free.
local measure = require "thingsboard.service.measure"
local process = require "thingsboard.process"
local tb, device, options = ...

measure.run(tb, device, options, { paths = "table" }, 300, function(given)
  local values = {}
  for _, path in ipairs(given.paths or { "/" }) do
    local total, free = process.room(given.root .. path)
    local name = path == "/" and "root" or measure.key((path:gsub("^/", "")))
    if total then values["storage_" .. name .. "_total"], values["storage_" .. name .. "_free"] = total, free end
  end
  return values
end)
