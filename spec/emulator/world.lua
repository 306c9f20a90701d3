--- All that one emulator knows, handed from part to part: there is no global state.
local cqueues = require "cqueues"
local socket = require "socket"
local devices = require "spec.emulator.devices"
local faults = require "spec.emulator.faults"
local journal = require "spec.emulator.journal"
local limits = require "spec.emulator.limits"
local queue = require "spec.emulator.queue"

local world = {}

local World = {}
World.__index = World

--- Makes a world of its settings.
function world.new(settings)
  local self = setmetatable({
    settings = settings,
    devices = devices.new(),
    profiles = {},
    faults = faults.new(),
    journal = journal.new(settings),
    limits = limits.new(settings),
    page = nil,             -- what a browser shows, if anything
    queue = queue.new(settings),
    sockets = {}, -- of open connections
    client_rpc_reply = nil, -- how requests of devices are answered, see client_rpc
    started = cqueues.monotime(),
  }, World)
  return self
end

--- Milliseconds since 1970, whole.
function World:now() -- luacheck: no self
  return math.floor(socket.gettime() * 1000)
end

--- The time as the header `Date` tells it.
function World:date()
  return os.date("!%a, %d %b %Y %H:%M:%S GMT", (self:now() + math.tointeger(self.settings.date_offset)) // 1000)
end

--- Runs a function as a task of its own after so many milliseconds; at once and here for none.
function World:later(milliseconds, act) -- luacheck: no self
  if milliseconds <= 0 then return act() end
  cqueues.running():wrap(function()
    cqueues.sleep(milliseconds / 1000)
    act()
  end)
end

--- Notes an open connection, until the variable that holds this is closed.
function World:connected(connection)
  self.sockets[connection] = true
  return setmetatable({}, { __close = function() self.sockets[connection] = nil end })
end

--- The server crashes and is there again at once: what is queued is gone, and so are all connections.
function World:crash()
  self.queue:lose()
  for open in pairs(self.sockets) do open:shutdown("rw") end
end

--- When a request that came now is given up with 503: at the first check after its time.
function World:async_deadline()
  local check = self.settings.async_check / 1000
  local earliest = cqueues.monotime() + self.settings.async_timeout / 1000 - self.started
  return self.started + math.ceil(earliest / check) * check
end

return world
