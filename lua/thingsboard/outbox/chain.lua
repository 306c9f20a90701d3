--- Notices when the server may have been restarted, and lost what it had in its queue. A device knows of that only by
-- its own exchanges, the links of a chain. The chain breaks
--
-- - when an exchange gets no answer: the connection broke, or none could be made;
-- - when somebody else answers, or a gateway says that the server does not (502 to 504): that is how a restart looks
--   from behind a gateway. But a gateway may answer polls alone so, for hours. So it is a sign only where there was
--   none for ten seconds; a restart that it hides after that takes longer, and leaves a gap. 429 is no sign, whoever
--   says it: it tells of a limit, not of the server, and does not count as a success either;
-- - when the server has ended a connection, of whichever device of the process, and had not said that it would. It may
--   be that of the device's last exchange; another device may have made a new one by now;
-- - when more than ten seconds lie between two exchanges that succeed: a server can be restarted in that time.
-- @module thingsboard.outbox.chain
local chain = {}
chain.__index = chain

local LONGEST_GAP = 10 -- seconds; a monolith takes more than 15 to start
-- So many exchanges by which connections were lost, with nothing confirmed between them, are the way of this server or
-- of a proxy before it. Then only the first after a confirmation is a sign.
local LOSSES = 10

function chain.new()
  return setmetatable({
    succeeded_at = nil, -- the last exchange
    foreign_at = nil, -- when somebody else, or a gateway, has answered last
    lost_before = nil, -- how many connections were lost when the last exchange ended
    losses = 0, -- exchanges by which more were lost, since a confirmation
  }, chain)
end

--- Notes an exchange of the device that has ended.
-- @tparam ?integer status of the server's own answer; nil when it has not answered
-- @tparam ?integer answered status of whoever has answered; nil when nobody has
-- @tparam number now seconds since the system's start, those asleep too
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

--- Notes the connections that were lost until an exchange of the device ended.
-- @tparam integer count see `lost_connections` of `thingsboard.core`'s exchange
-- @treturn boolean whether the chain breaks
function chain:lost_connections(count)
  local breaks = self.lost_before ~= nil and count ~= self.lost_before and self.losses < LOSSES
  if breaks then self.losses = self.losses + 1 end
  self.lost_before = count
  return breaks
end

--- Something has been confirmed.
function chain:confirmed()
  self.losses = self.losses < LOSSES and 0 or LOSSES - 1
end

return chain
