--- What the clients of one server share: when a call of one of them succeeds, all others that wait try again.
-- @module thingsboard.http.server
local core = require "thingsboard.core"

local server = {}
server.__index = server

-- Seconds over which those that waited are spread.
local JITTER = 1

local by_loop = setmetatable({}, { __mode = "k" }) -- tables of servers, by address

--- The server of an address, shared by all clients of this loop that have the same address.
-- @tparam table loop
-- @tparam string url of which scheme, host and port count
-- @treturn server
function server.of(loop, url)
  local known = by_loop[loop] or setmetatable({}, { __mode = "v" })
  by_loop[loop] = known
  local base = url:match("^%a+://[^/]+"):lower()
  local found = known[base] or setmetatable({
    loop = loop,
    base = base,
    waiting = false, -- the set of signals of those that wait; false when nobody does
  }, server)
  known[base] = found
  return found
end

--- To be called when the server has answered a request.
function server:answered()
  local waiting = self.waiting
  self.waiting = false
  for signal in next, waiting do signal:raise() end
end

--- Waits after a failure: as long as the backoff says, or until the server answers another request.
-- @tparam backoff pause
function server:wait(pause)
  self:wait_until(core.monotonic() + pause:next(), pause, self.loop:signal())
end

--- Waits after a failure: until a time, or until the server answers another request. If the next try fails
-- nevertheless, an answer to others ends the wait after 1 s at the earliest, then after 2 s, 4 s and so on.
-- @tparam number at seconds of the monotonic clock
-- @tparam backoff pause
-- @tparam signal signal ends the wait when it is raised meanwhile
function server:wait_until(at, pause, signal)
  local loop = self.loop
  signal:lower()
  local now = core.monotonic()
  if pause.least and loop:wait(signal, math.min(at, now + pause.least)) then return end
  local waiting = self.waiting or {}
  local _ <close> = setmetatable({}, { __close = function()
    waiting[signal] = nil
    if self.waiting == waiting and next(waiting) == nil then self.waiting = false end
  end })
  waiting[signal] = true
  self.waiting = waiting
  if not loop:wait(signal, at) or self.waiting == waiting then return end -- the deadline, or the caller's signal
  pause.least = pause.least and math.min(pause.most, pause.least * 2) or 1
  signal:lower()
  loop:wait(signal, math.min(at, core.monotonic() + math.random() * JITTER))
end

return server
