--- The folder of scripts, and the collectors that are configured.
-- @module thingsboard.service.scripts
local process = require "thingsboard.process"
local script = require "thingsboard.service.script"

local scripts = {}
scripts.__index = scripts

--- @tparam table service
-- @tparam ?string folder
function scripts.new(service, folder)
  return setmetatable({ service = service, folder = folder, by_name = {}, collectors = {} }, scripts)
end

local WRITABLE_BY_OTHERS <const> = 2 -- permission bit

-- The scripts in the folder: paths by name; nil when it cannot be read, or is not to be trusted.
local function look(self)
  local about, reason = process.stat(self.folder)
  if about and about.mode & WRITABLE_BY_OTHERS ~= 0 then
    reason = self.folder .. ": every user can write to it; chmod o-w it"
  end
  local names
  if not reason then names, reason = process.list(self.folder) end
  if not names then
    self.service.log:error("scripts: %s", reason)
    return nil
  end
  local found = {}
  for _, name in ipairs(names) do
    if name:find "^[^.].*%.lua$" then found[name] = self.folder .. "/" .. name end
  end
  return found
end

local function start(self, name, path)
  local new = script.new(self.service, name, path)
  self.by_name[name] = new
  new:start()
end

--- Starts new scripts, restarts those that have changed or failed, ends removed ones; the others go on undisturbed.
function scripts:reload()
  if not self.folder then return end
  local found = look(self)
  if not found then return end
  for name, old in next, self.by_name do
    if not found[name] then
      self.service.log:info("%s is gone, and is stopped", name)
      old:stop()
      self.by_name[name] = nil
    end
  end
  local sorted = {}
  for name in next, found do sorted[#sorted + 1] = name end
  table.sort(sorted)
  for _, name in ipairs(sorted) do
    local path, old = found[name], self.by_name[name]
    local about = process.stat(path)
    if not old then
      self.service.log:info("%s is started", name)
      start(self, name, path)
    elseif about and about.changed ~= old.changed then
      self.service.log:info("%s has changed, and is started again", name)
      old:stop()
      start(self, name, path)
    elseif old.state == "failed" then
      self.service.log:info("%s is started again", name)
      old:stop()
      start(self, name, path)
    end
  end
end

--- Starts the collectors, each with its options.
-- @tparam table wanted options by name
function scripts:start_collectors(wanted)
  for name, options in next, wanted do
    name = tostring(name)
    local path = package.searchpath("thingsboard.collector." .. name, package.path)
    if not path then
      self.service.log:error("collectors: there is none called '%s'", name)
    elseif options ~= false then
      local new = script.new(self.service, "collector " .. name, path, type(options) == "table" and options or {})
      self.collectors[name] = new
      new:start()
    end
  end
end

--- All of them.
-- @treturn function an iterator
function scripts:each()
  local all = {}
  for _, one in next, self.by_name do all[#all + 1] = one end
  for _, one in next, self.collectors do all[#all + 1] = one end
  table.sort(all, function(a, b) return a.name < b.name end)
  local at = 0
  return function()
    at = at + 1
    return all[at]
  end
end

--- Ends all of them.
function scripts:stop()
  for one in self:each() do one:stop() end
end

return scripts
