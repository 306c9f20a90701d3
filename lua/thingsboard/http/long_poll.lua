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

--- A poll of a path, sent again and again; one at a time.
-- @tparam table client
-- @tparam string what for messages
-- @tparam string path
-- @tparam function check given what came, an object; whether it is a message of the server's
function long_poll.new(client, what, path, check)
  return setmetatable({
    client = client, what = what, path = path, expected = answer.message(check), backoff = backoff.new(0.1, 60),
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
-- @treturn[1] userdata the exchange, to be passed to `receive` and closed
-- @treturn[2] nil
-- @treturn[2] table the error
function long_poll:send(seconds)
  local path = ("%s?timeout=%d"):format(self.path, math.ceil(seconds * 1000))
  local exchange, err = self.client:start("GET", path, nil, seconds + GRACE)
  if not exchange then return nil, err end
  self.opened_at = core.monotonic()
  self.ends_at = self.opened_at + seconds
  return exchange
end

--- Waits for the end of the poll.
-- @treturn[1] table what came
-- @treturn[1] nil
-- @treturn[1] string its text
-- @treturn[2] nil the server says that nothing came; the next poll may go out at once
-- @treturn[3] nil
-- @treturn[3] table the error
function long_poll:receive(exchange)
  local client = self.client
  client.loop:wait(exchange)
  local open_for = core.monotonic() - self.opened_at
  local in_time = open_for >= (self.ends_at - self.opened_at) * 0.9
  self.ends_at = nil
  -- The request was sent, and the connection held for a while: begin again with short waits.
  if exchange:sent() and open_for > math.max(HELD, self.backoff.ceiling) then self.backoff:reset() end
  local message, err = client:outcome(self.what, exchange, self.expected)
  if message then
    self.backoff:reset()
    local _, text = exchange:result()
    return message, nil, text
  end
  -- A server or gateway that is down gives the same statuses at once: before its time such an answer is a failure. So
  -- is a timeout of the client, for the poll may never have reached the server.
  if nothing_came[err.status] and in_time then
    self.backoff:reset()
    return nil
  end
  return nil, err
end

--- After a failure: waits longer each time, or until the server answers another call.
function long_poll:recover()
  self.client.server:wait(self.backoff)
end

return long_poll
