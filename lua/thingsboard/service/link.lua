--- Tells in the log what the answers of the server show: that there are none, that it does not know the token, and when
-- that is over.
-- @module thingsboard.service.link
local core = require "thingsboard.core"
local outage = require "thingsboard.service.outage"

local link = {}

local SILENT <const> = 30 -- seconds without an answer of the server's that are worth a line in the log
local OK <const>, UNAUTHORIZED <const> = 200, 401
-- Seconds after the last 401 until an answer shows that the token is known: until then it may be one to a request from
-- before, such as a poll, which the server ends within 30 s.
local SURE_AFTER_OK <const>, SURE_AFTER_OTHERS <const> = 3, 35

--- Listens to a device.
-- @tparam table device
-- @tparam table log
-- @tparam function look called after each answer, too
function link.watch(device, log, look)
  local silence, unknown, failing_since, unknown_at = outage.new(log), outage.new(log), nil, -math.huge
  device:listen(function(status, err)
    look()
    local now = core.monotonic()
    if not status then
      if err.kind == "closed" then return end
      failing_since = failing_since or now
      if silence.told then return end
      if now - failing_since >= SILENT then
        silence:goes_on("the server has not answered for %d s: %s", (now - failing_since) // 1, err)
      elseif err.kind == "tls" and not err.retryable then -- time alone will not help
        silence:goes_on("the server cannot be used: %s", err)
      end
      return
    end
    silence:is_over("the server answers again, after %d s", (now - (failing_since or now)) // 1)
    failing_since = nil
    if status == UNAUTHORIZED then
      unknown_at = now
      unknown:goes_on "the server does not know the token (status 401); it is tried again, ever less often"
    elseif now - unknown_at > (status == OK and SURE_AFTER_OK or SURE_AFTER_OTHERS) then
      unknown:is_over "the server knows the token"
    end
  end)
end

return link
