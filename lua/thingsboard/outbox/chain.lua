--- Notices when the server may have been restarted, and lost what it had in its queue. A device knows of that only by
-- its own exchanges, the links of a chain. The chain breaks
--
-- - when an exchange gets no answer: the connection broke, or none could be made;
-- - when somebody else answers, or a gateway says that the server does not (502 to 504): that is how a restart looks
--   from behind a gateway. But a gateway may answer polls alone so, for hours. So it is a sign only where there was
--   none for ten seconds; a restart that it hides after that takes longer, and leaves a gap. 429 is no sign, whoever
--   says it: it tells of a limit, not of the server, and does not count as a success either;
-- - when a connection has ended that the server had not said it would close;
-- - when more than ten seconds lie between two exchanges that succeed: a server can be restarted in that time.
-- @module thingsboard.outbox.chain
local chain = {}
chain.__index = chain

local LONGEST_GAP = 10 -- seconds; a monolith takes more than 15 to start
-- So many connections that end without notice, with nothing confirmed between them, are the way of this server or of a
-- proxy before it. Then only the first after a confirmation is a sign.
local UNTOLD_ENDS = 10

function chain.new()
  return setmetatable({
    succeeded_at = nil, -- the last exchange
    foreign_at = nil, -- when somebody else, or a gateway, has answered last
    closing = true, -- the server has said that it closes the connection, or there has been none
    untold_ends = 0, -- connections that ended without notice, since a confirmation
  }, chain)
end

--- Notes an exchange of the device that has ended.
-- @tparam ?integer status of the server's own answer; nil when it has not answered
-- @tparam ?integer answered status of whoever has answered; nil when nobody has
-- @tparam number now seconds of the monotonic clock
-- @treturn ?string nil: the chain holds; else how it breaks: `failed`, by an exchange that failed; `gap`
function chain:heard(status, answered, now)
  if not answered then return "failed" end
  if answered == 429 then return nil end
  if not status or status >= 502 then
    local is_first = not self.foreign_at or now - self.foreign_at > LONGEST_GAP
    self.foreign_at = now
    return is_first and "failed" or nil
  end
  if status ~= 200 and status ~= 408 then return nil end
  local before = self.succeeded_at
  self.succeeded_at = now
  return before and now - before > LONGEST_GAP and "gap" or nil
end

--- Notes the connection of an exchange, where exchanges of the device come one after another.
-- @tparam boolean new it was made for this exchange
-- @tparam boolean closing the server has said that it closes it
-- @treturn boolean whether the chain breaks
function chain:used(new, closing)
  local breaks = new and not self.closing and self.untold_ends < UNTOLD_ENDS
  if breaks then self.untold_ends = self.untold_ends + 1 end
  self.closing = closing
  return breaks
end

--- Something has been confirmed.
function chain:confirmed()
  self.untold_ends = self.untold_ends < UNTOLD_ENDS and 0 or UNTOLD_ENDS - 1
end

return chain
