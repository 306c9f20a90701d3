--- A request that waits for its answer, and its session with the device's actor.
-- The two end apart: the server gives the request up with 503 at its async timeout, while the session lives on until
-- its own timer, and what is delivered to it then is lost.
local cqueues = require "cqueues"
local condition = require "cqueues.condition"

local session = {}

local Session = {}
Session.__index = Session

--- Opens a session. With a device it is one that the actor can reach.
-- @param timeout milliseconds until it is answered with 408; nil for a request that has no session
-- @param answers `timeout` and `gave_up`: functions that make the answers for 408 and 503
function session.open(world, device, timeout, answers)
  local self = setmetatable({
    device = device, answers = answers,
    changed = condition.new(),
    deadline = world:async_deadline(),
    registered = timeout ~= nil,
    ends_at = timeout and cqueues.monotime() + timeout / 1000,
  }, Session)
  if self.registered then device.sessions[self] = true end
  return self
end

--- Ends the session: nothing is delivered to it any more. Its request, if still open, waits on.
function Session:deregister()
  self.registered = false
  self.device.sessions[self] = nil
end

--- Answers the request and ends the session. Whether anybody still listens does not matter to the server.
-- @return whether the session was still there
function Session:give(answer)
  if not self.registered then return false end
  self:deregister()
  self.answer = self.answer or answer -- a request that was cut stays so
  self.changed:signal()
  return true
end

function Session:linger()
  if not self.registered then return end
  cqueues.running():wrap(function()
    self.changed:wait(self.ends_at - cqueues.monotime())
    if self.registered then self:deregister() end
  end)
end

--- Cuts the request's connection, as a broken network does: the session does not hear of it, and lives on.
function Session:cut()
  self.answer = { cut = true }
  self.changed:signal()
end

--- Waits for the answer.
-- @param watch tells when the client goes away, see the connection; may be nil
function Session:wait(watch)
  while not self.answer do
    local now = cqueues.monotime()
    if self.registered and self.ends_at <= now then
      self:deregister()
      return self.answers.timeout()
    end
    if self.deadline <= now then
      self:linger()
      return self.answers.gave_up()
    end
    local until_then = self.registered and math.min(self.ends_at, self.deadline) or self.deadline
    local pollable = watch and watch.pollable
    local first, second = cqueues.poll(self.changed, pollable or until_then - now, pollable and until_then - now)
    if self.answer and self.answer.cut then self:linger() end
    if pollable and (first == pollable or second == pollable) and not watch:listening() then watch = nil end
  end
  return self.answer
end

return session
