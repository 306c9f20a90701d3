--- All that one emulator knows, handed from part to part: there is no global state.
local cqueues = require "cqueues"
local socket = require "socket"
local devices = require "spec.emulator.devices"
local faults = require "spec.emulator.faults"
local journal = require "spec.emulator.journal"
local limits = require "spec.emulator.limits"

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

--- When a request that came now is given up with 503: at the first check after its time.
function World:async_deadline()
  local check = self.settings.async_check / 1000
  local earliest = cqueues.monotime() + self.settings.async_timeout / 1000 - self.started
  return self.started + math.ceil(earliest / check) * check
end

return world
