--- A device that records in an outbox: what the specs of the outbox share.
local child = require "spec.support.child"
local loop = require "thingsboard.loop"
local scratch = require "spec.support.scratch"
local tb = require "thingsboard"

local recording = {}
recording.__index = recording

--- A new device of an emulator, and a path for its outbox.
-- @treturn table `dev`, `token`, `directory`, `path`; `unknown_time` to be set where no script shall know the time
function recording.start(e)
  local self = setmetatable({ e = e, token = e:create_device {}, directory = scratch.new() }, recording)
  self.path = self.directory .. "/outbox"
  tb.clock(true)
  self.dev = tb.device { url = e.url, token = self.token }
  return self
end

--- Ends all devices, and the emulator's faults.
function recording:stop()
  loop.default():close()
  self.e:clear_faults()
  scratch.remove(self.directory)
end

--- Puts records whose `n` counts up.
-- @tparam table outbox
-- @tparam integer from
-- @tparam integer to
-- @tparam ?table extra more values, by `n`
function recording.fill(outbox, from, to, extra)
  for n = from, to do
    local values = { n = n }
    for key, value in pairs(extra and extra[n] or {}) do values[key] = value end
    assert(outbox:put(values))
  end
end

--- What the server has of `n`, once there are so many: it stores what it has taken a little later.
-- @tparam integer count
-- @tparam ?string token of another device
-- @treturn table integers, in order
function recording:arrived(count, token)
  local values
  local deadline = tb.now() + 10000
  repeat
    values = {}
    for _, entry in ipairs(self.e:series(token or self.token).n or {}) do
      values[#values + 1] = math.tointeger(tonumber(entry.value))
    end
  until #values >= count or tb.now() > deadline
  table.sort(values)
  return values
end

--- Runs a script that has this device as `dev`, and the outbox's path as `path`, in a process of its own.
-- @treturn string what it printed
function recording:run(script, ...)
  return child.run(([[
    local tb = require "thingsboard"
    local path = %q
    local dev = tb.device { url = %q, token = %q }
    tb.clock(%s)
  ]]):format(self.path, self.e.url, self.token, self.unknown_time and "" or "true") .. script, ...)
end

return recording
