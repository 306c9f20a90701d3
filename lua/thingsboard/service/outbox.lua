--- The service's outbox. It exists from the start, even without a token, and is opened again while the disk fails.
-- @module thingsboard.service.outbox
local config = require "thingsboard.command.config"
local core = require "thingsboard.core"
local outage = require "thingsboard.service.outage"
local tb = require "thingsboard"

local outbox = {}
outbox.__index = outbox

local TIMELESS <const> = 30 -- seconds without the time that are worth a line in the log
local HAS_ROOM <const> = 60 -- seconds without a record that was dropped for room, after which there is some again

--- @tparam table service
-- @tparam table wanted the options of the outbox; mistakes in them raise
function outbox.new(service, wanted)
  local copy = { on_trouble = "memory" }
  for name, value in next, wanted do copy[name] = value end
  local self = setmetatable({ service = service, wanted = copy, open = nil, err = nil }, outbox)
  self.recorder = config.recorder() -- until there is a token
  self.open, self.err = self.recorder:outbox(copy)
  self.disk, self.clock, self.full = outage.new(service.log), outage.new(service.log), outage.new(service.log)
  self.dropped, self.dropped_at = nil, 0 -- records that were dropped for room, and when the last ones were
  self.is_open = service.loop:signal()
  if self.open then
    self.is_open:raise()
  else
    service.loop:spawn_background(function()
      service:patiently("outbox", function()
        self.open, self.err = self.recorder:outbox(copy)
        return self.open, self.err
      end)
      self.is_open:raise()
    end)
  end
  return self
end

-- Passes the file to the device. Records in memory would be lost, so they are written to the disk first.
local function move(self, device)
  if self.open then
    local ok, err = self.open:sync()
    if not ok then return nil, err end
    self.open:close()
  end
  self.open, self.err = device:outbox(self.wanted)
  self.device = self.open and device
  return self.open, self.err
end

local function look_for_room(self)
  local dropped, now = self.open.lost.full or 0, core.monotonic()
  if dropped > (self.dropped or dropped) then
    self.dropped_at = now
    self.full:goes_on "outbox: it is full; the oldest records are dropped"
  elseif now - self.dropped_at > HAS_ROOM then
    self.full:is_over("outbox: it has room again; %d records were dropped since its file was made", dropped)
  end
  self.dropped = dropped
end

--- Looks for what an outbox waits for, and tells it in the log: called whenever something may have changed.
function outbox:look()
  if not self.open then return end
  local trouble = self.open.file.trouble -- `stats` counts all that waits, which is too much for each put
  if trouble then
    self.disk:goes_on("outbox: %s; records wait in memory", trouble)
  else
    self.disk:is_over "outbox: the disk works again"
  end
  look_for_room(self)
  if tb.clock() then
    self.clock:is_over "the time is known"
  elseif core.monotonic() - self.service.began > TIMELESS then
    self.clock:goes_on "the time is not known; records wait for it"
  end
end

--- Sends through this device from now on.
function outbox:use(device)
  self.service:keep("outbox", function(_, works)
    self.service.loop:wait(self.is_open)
    if self.device ~= device then
      local ok, err = move(self, device)
      if not ok then return nil, err end
    end
    works()
    local _, err = self.open:run()
    return nil, err
  end)
end

local function outcome(self, ...)
  self:look()
  return ...
end

--- As `put` of an outbox.
function outbox:put(values, in_order)
  if self.open then return outcome(self, self.open:put(values, in_order)) end
  return nil, self.err
end

--- As `attributes` of an outbox.
function outbox:attributes(values)
  if self.open then return outcome(self, self.open:attributes(values)) end
  return nil, self.err
end

--- As `stats` of an outbox; nil while it is not open.
function outbox:stats()
  return self.open and self.open:stats()
end

--- Writes what waits in memory.
function outbox:close()
  if not self.open then return end
  local ok, err = self.open:close()
  if not ok then self.service.log:error("%s", err) end
end

return outbox
