--- The service's outbox. It exists from the start, even without a token, and is opened again while the disk fails.
-- @module thingsboard.service.outbox
local config = require "thingsboard.command.config"
local errors = require "thingsboard.error"

local outbox = {}
outbox.__index = outbox

--- @tparam table service
-- @tparam table wanted the options of the outbox; mistakes in them raise
function outbox.new(service, wanted)
  local copy = { on_trouble = "memory" }
  for name, value in next, wanted do copy[name] = value end
  local self = setmetatable({ service = service, wanted = copy, open = nil, err = nil }, outbox)
  self.recorder = config.recorder() -- until there is a token
  self.open, self.err = self.recorder:outbox(copy)
  if not self.open then
    service.loop:spawn_background(function()
      service:patiently("outbox", function()
        if not self.open then self.open, self.err = self.recorder:outbox(copy) end
        return self.open, self.err
      end)
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

--- Sends through this device from now on.
function outbox:use(device)
  self.service:keep("outbox", function()
    if self.device ~= device then
      local ok, err = move(self, device)
      if not ok then return nil, err end
    end
    local _, err = self.open:run()
    return nil, err
  end)
end

--- As `put` of an outbox.
function outbox:put(values, in_order)
  if self.open then return self.open:put(values, in_order) end
  return nil, self.err or errors.new("file", "put: the outbox is not open", { retryable = true })
end

--- As `attributes` of an outbox.
function outbox:attributes(values)
  if self.open then return self.open:attributes(values) end
  return nil, self.err or errors.new("file", "attributes: the outbox is not open", { retryable = true })
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
