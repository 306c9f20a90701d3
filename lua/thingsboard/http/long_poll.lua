--- A long poll, as RPC requests and attribute updates use it: sends it, judges its end, and waits after failures.
-- @module thingsboard.http.long_poll
local core = require "thingsboard.core"
local answer = require "thingsboard.http.answer"
local backoff = require "thingsboard.http.backoff"

local long_poll = {}
long_poll.__index = long_poll

-- Seconds that the client waits longer than it asks the server to.
local GRACE = 10

-- Seconds after which a poll that broke counts as one that worked. One that broke sooner may have failed from the
-- start, with a distant server.
local HELD = 2

-- The statuses by which the server says that nothing came.
local nothing_came = { [408] = true, [503] = true, [504] = true }

--- A kind of poll: what all polls of a path have in common.
-- @tparam string what for messages
-- @tparam string path
-- @tparam function check given what came, an object; whether it is a message of the server's
-- @treturn table for `new`
function long_poll.kind(what, path, check)
  return { what = what, path = path, expected = answer.message(check) }
end

--- A poll, sent again and again; one at a time. What it needs seldom is nil until then: there may be many polls.
-- @tparam table client
-- @tparam table kind
function long_poll.new(client, kind)
  return setmetatable({
    client = client, kind = kind,
    exchange = nil, -- from `send` to `receive`
    backoff = nil, -- after failures
    opened_at = nil, -- when it was sent
    ends_at = nil, -- when the server will end it; nil when it is not open
  }, long_poll)
end

--- Whether another poll is pointless: the server knows no device with this token, and there is no other token, or the
-- device was closed. Other errors may pass: a clock that is not set yet, somebody who answers in the server's place.
function long_poll.is_final(err)
  return err.kind == "http" and err.status == 401 and not err.retryable or err.kind == "closed"
end

--- Sends the poll. From now on `opened_at` says when it was sent and `ends_at` when the server will end it, in seconds
-- of the monotonic clock.
-- @tparam number seconds that the server is asked to wait; below 30, which no server exceeds
-- @treturn[1] userdata the exchange, to be waited for
-- @treturn[2] nil
-- @treturn[2] table the error
function long_poll:send(seconds)
  local path = ("%s?timeout=%d"):format(self.kind.path, math.ceil(seconds * 1000))
  local exchange, err = self.client:start("GET", self.client.uncached(path), nil, seconds + GRACE)
  if not exchange then return nil, err end
  self.exchange = exchange
  self.opened_at = core.monotonic()
  self.ends_at = self.opened_at + seconds
  return exchange
end

--- Drops the poll, if it is open.
function long_poll:close()
  local exchange = self.exchange
  self.exchange, self.ends_at = nil, nil
  if exchange then exchange:close() end
end

--- What has become of the poll. One that has not ended is dropped: there was no memory to wait for it.
-- @treturn[1] table what came
-- @treturn[1] nil
-- @treturn[1] string its text
-- @treturn[2] nil the server says that nothing came; the next poll may go out at once
-- @treturn[3] nil
-- @treturn[3] table the error
function long_poll:receive()
  local exchange <close> = self.exchange
  local open_for = core.monotonic() - self.opened_at
  local in_time = open_for >= (self.ends_at - self.opened_at) * 0.9
  self.exchange, self.ends_at = nil, nil
  if not exchange:done() then return nil end
  local waits = self.backoff
  -- The request was sent, and the connection held for a while: begin again with short waits.
  if waits and exchange:sent() and open_for > math.max(HELD, waits.ceiling) then waits:reset() end
  local message, err = self.client:outcome(self.kind.what, exchange, self.kind.expected, in_time)
  if message then
    self.backoff = nil
    local _, text = exchange:result()
    return message, nil, text
  end
  -- A server or gateway that is down gives the same statuses at once: before its time such an answer is a failure. So
  -- is a timeout of the client, for the poll may never have reached the server.
  if nothing_came[err.status] and in_time then
    self.backoff = nil
    return nil
  end
  return nil, err
end

--- After a failure: waits longer each time, or until the server answers another call.
function long_poll:recover()
  self.backoff = self.backoff or backoff.new(0.1, 60)
  self.client.server:wait(self.backoff)
end

return long_poll
