--- Shared attributes for all scripts, by one poll that starts when a script first asks for an attribute.
-- @module thingsboard.service.attributes
local core = require "thingsboard.core"

local attributes = {}
attributes.__index = attributes

local FIRST_WAIT <const> = 2 -- seconds that the first script which asks waits for the values

--- @tparam table service
function attributes.new(service)
  return setmetatable({
    service = service,
    values = {}, -- as the server has them
    known = false, -- whether they have come
    watchers = setmetatable({}, { __mode = "k" }), -- the set of signals that a change raises, while somebody has them
    started = false,
  }, attributes)
end

local function apply(self, values, deleted)
  for key, value in next, values do self.values[key] = value end
  for _, key in ipairs(deleted) do self.values[key] = nil end
  self.known = true
  for changed in next, self.watchers do changed:raise() end
end

local function start(self)
  if self.started then return end
  self.started = core.monotonic()
  self.service:keep("shared attributes", function(device, works)
    local updates = device:attribute_updates()
    for values, deleted in updates, nil, nil, updates do
      works()
      if not self.known then self.values = {} end
      apply(self, values, deleted)
    end
    self.known = false -- the next poll begins with all values
    return nil, updates.error
  end)
end

-- Waits for the first values, but not for long: there may be no server.
local function wait_for_values(self)
  local changed = self.service.loop:signal()
  self.watchers[changed] = true
  self.service.loop:wait(changed, self.started + FIRST_WAIT)
end

--- What a script sees as `device.attributes`.
-- @treturn table whose fields are the values now
function attributes:view()
  local function values()
    start(self)
    if not self.known then wait_for_values(self) end
    return self.values
  end
  return setmetatable({}, {
    __index = function(_, key) return values()[key] end,
    __newindex = function() error("device.attributes are the server's; set your own by device:send_attributes", 2) end,
    __pairs = function() return next, values() end,
  })
end

--- Calls a function with the value of an attribute as soon as there is one, and at each change; with nil when it is
-- deleted. If a value changes several times while it runs, it gets the last one.
-- @tparam table script
-- @tparam string key
-- @tparam function call
function attributes:watch(script, key, call)
  start(self)
  script:spawn(function()
    local changed, seen = self.service.loop:signal(), nil
    self.watchers[changed] = true
    while true do
      changed:lower()
      local value = self.values[key]
      if value ~= seen then
        seen = value
        local ok, raised = xpcall(call, debug.traceback, value)
        if not ok then self.service.log:error("%s: attribute %s: %s", script.name, key, raised) end
      else
        self.service.loop:wait(changed)
      end
    end
  end)
end

--- The changes of some attributes, beginning with their values: an iterator as of `device:attribute_updates`.
-- @tparam table keys
function attributes:updates(keys)
  start(self)
  local changed, handed, begun = self.service.loop:signal(), {}, false
  self.watchers[changed] = true
  local iterator = setmetatable({ close = function()
    self.watchers[changed] = nil
    changed:raise()
  end }, { __call = function()
    while self.watchers[changed] do
      changed:lower()
      local values, deleted = {}, {}
      for _, key in ipairs(self.known and keys or {}) do
        local value = self.values[key]
        if value ~= handed[key] then
          handed[key] = value
          if value == nil then deleted[#deleted + 1] = key else values[key] = value end
        end
      end
      if next(values) ~= nil or deleted[1] or self.known and not begun then
        begun = true
        return values, deleted
      end
      self.service.loop:wait(changed)
    end
  end })
  getmetatable(iterator).__close = iterator.close
  return iterator
end

return attributes
