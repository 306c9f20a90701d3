--- The queue between a device's 200 and the storage: in order for each device, in memory alone.
local cqueues = require "cqueues"

local queue = {}

local Queue = {}
Queue.__index = Queue

--- Makes the queues; what is in them waits for `settings.queue_delay`.
function queue.new(settings)
  return setmetatable({ settings = settings, waiting = setmetatable({}, { __mode = "k" }) }, Queue)
end

local LOOK_EVERY = 0.01

local function work(self, device, list)
  while list[1] do
    local left = list[1].at + self.settings.queue_delay / 1000 - cqueues.monotime()
    if left > 0 then
      cqueues.sleep(math.min(left, LOOK_EVERY))
    else
      table.remove(list, 1).act()
    end
  end
  if self.waiting[device] == list then self.waiting[device] = nil end
end

--- Lets a message of a device be stored when it is its turn: at once without a delay.
-- @return what `act` returns, or true when that is called later
function Queue:add(device, act)
  local list = self.waiting[device]
  if not list and self.settings.queue_delay <= 0 then return act() end
  if not list then
    list = {}
    self.waiting[device] = list
    cqueues.running():wrap(function() work(self, device, list) end)
  end
  list[#list + 1] = { at = cqueues.monotime(), act = act }
  return true
end

--- Loses all that waits, as a crash of the server does.
function Queue:lose()
  for device, list in pairs(self.waiting) do
    for i = #list, 1, -1 do list[i] = nil end
    self.waiting[device] = nil
  end
end

return queue
