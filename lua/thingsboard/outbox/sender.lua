--- Sends an outbox's records and attributes: in batches, within budgets, at the pace that the server accepts.
--
-- Fresh records (put since the last turn), the backlog, and attributes take turns. The records of a post that failed
-- join the backlog. Doubtful records are tried when nothing else is left to send. Sent records stay in the file until
-- they are confirmed, see `thingsboard.outbox.confirm`. `batches` forms the posts, `outcome` has what becomes of them.
-- @module thingsboard.outbox.sender
local core = require "thingsboard.core"
local answer = require "thingsboard.http.answer"
local answers = require "thingsboard.outbox.answers"
local batches = require "thingsboard.outbox.batches"
local errors = require "thingsboard.error"
local outcome = require "thingsboard.outbox.outcome"
local saved = require "thingsboard.outbox.saved"
local spool = require "thingsboard.spool"

local sender = {}

--- Seconds: the longest first wait after a failure, and the longest wait of all.
sender.first_pause, sender.longest_pause = 1, 300

local READ_TIMEOUT = 10 -- seconds for reading a marker: over a rate limit the server does not answer
local EXPIRE_EVERY = 1 -- seconds
local NOTE_EVERY = 60 -- seconds between notes of what is in doubt

--- Makes the outbox listen to all exchanges of its device. Those of other calls, too, show that the server was
-- restarted, that it is back, and its time. The clock of this also runs while the machine sleeps.
function sender.listen(outbox)
  outbox.client:listen(outbox, function(status, exchange, due, _, took)
    local clock = outbox.file.clock
    -- The date of a package is that of its first bytes.
    local date = status and clock:wants_date() and not exchange:is_attachment() and exchange:date()
    if date then clock:hear(date, spool.uptime(), due == nil and took or nil, outbox.server_time) end
    outbox.confirm:lost_connections(exchange:lost_connections())
    local is_end_of_poll = due and (status == 503 or status == 504)
    if not is_end_of_poll then
      outbox.confirm:heard(status, (exchange:result()), spool.uptime() / 1000)
    end
    if outbox.confirm.at_once then outbox.news:raise() end
    if (status == 200 or status == 408) and not outbox.posting then
      outbox.doubts:hurry(core.monotonic())
      outbox.wake:raise()
      if outbox.doubts.count > 0 then outbox.news:raise() end
    end
  end, spool.uptime)
end

-- Seconds that a call may take: as long as the device's may, and not past a deadline. And whether it ends by that.
local function time_for(outbox, deadline, most)
  most = math.min(outbox.client.timeout / 1000, most or math.huge)
  local left = deadline and deadline - core.monotonic() or math.huge
  return math.max(0.001, math.min(most, left)), left < most
end

local function deadline_error(outbox)
  local message, count = "drain: the deadline came first", outbox.confirm:count()
  if count > 0 then message = ("%s; %d records are sent and not confirmed yet"):format(message, count) end
  return errors.new("timeout", message, { retryable = true })
end

-- One exchange; in `outbox.posting` while it goes. Returns as `client:outcome` does, and the number of headers.
local function exchange_with(outbox, method, path, body, points, expected, deadline, most)
  outbox.posting = true
  local messages_done, points_done = outbox.messages:spend(1), outbox.points:spend(points)
  outbox.file.in_flight = outbox.file.in_flight + 1
  local _ <close> = setmetatable({}, { __close = function()
    outbox.file.in_flight = outbox.file.in_flight - 1
    outbox.posting = false
    messages_done()
    points_done()
  end })
  local timeout, is_cut = time_for(outbox, deadline, most)
  local exchange <close>, err = outbox.client:start(method, path, body, timeout)
  if not exchange then return nil, err end
  outbox.loop:wait(exchange)
  local result
  result, err = outbox.client:outcome("outbox", exchange, expected)
  -- A time-out that the deadline has cut short says nothing of the server.
  if err and err.kind == "timeout" and is_cut then err = deadline_error(outbox) end
  return result, err, (select(4, exchange:result()))
end

-- Sends a post, and does what its outcome asks for. True, or what ends the sending: false and perhaps an error.
local function send(outbox, post, deadline)
  outcome.prepare(outbox, post)
  post.breaks = outbox.confirm.breaks
  outbox.doubts:posted(post)
  local body, err
  body, err, post.headers = exchange_with(outbox, "POST", post.path, post.body, post.points, answer.nothing, deadline)
  local action, now = answers.action(not body and err or nil), core.monotonic()
  if outbox.closed or action == "closed" then return false end
  if action == "passed" then
    outcome.passed(outbox, post, now)
    return true
  end
  outbox.err = err
  if action == "ended" then return false, err end
  outbox.backlog_end = select(3, outbox.spool:counts(outbox.number))
  outcome.failed(outbox, post, err, action, now)
  return true
end

-- ---- Markers ----

-- Reads the marker. Returns as `send` does.
local function read_marker(outbox, deadline)
  local values, err = exchange_with(outbox, "GET", outbox.client.uncached(outbox.marker_path), nil, 0,
    answer.attributes, deadline, READ_TIMEOUT)
  local now = core.monotonic()
  if outbox.closed then return false end
  if values then
    outbox.pause:reset()
    outbox.err = nil
    local items, is_shared = outbox.confirm:read(now, values.client[outbox.marker_name])
    outcome.confirmed(outbox, items)
    if is_shared then
      warn("thingsboard: outbox: somebody else writes the client attribute ", outbox.marker_name, " of this device, ",
        "which slows both down; give each outbox a 'confirm_key' of its own")
    end
    return true
  end
  outbox.err = err
  local action = answers.action(err)
  if action == "ended" or action == "closed" then return false, action == "ended" and err or nil end
  if action == "outage" and err.kind ~= "answer" and err.kind ~= "timeout" then
    outbox.retry_at = now + outbox.pause:next()
    return true
  end
  local unclear = answers.is_unclear(err) and "unclear" or nil
  outbox.pace:refused(now, 0, unclear)
  if action ~= "limited" then outbox.confirm:refuse(now, err.kind == "answer" and "foreign" or unclear) end
  return true
end

-- Markers are to be given up. An empty post shows whether the server takes the posts: it refuses that one in its own
-- words, and nothing comes of it.
local function prove(outbox, deadline)
  local _, err = exchange_with(outbox, "POST", "/telemetry", "", 0, answer.refusal, deadline)
  if outbox.closed then return false end
  if err.status == 400 and err.kind == "http" then
    outcome.without_markers(outbox, outbox.confirm:give_up(core.monotonic()))
    return true
  end
  outbox.err = err
  if err.kind == "answer" then outbox.confirm:go_on() end -- else nobody has said anything, and it is tried again
  if answers.action(err) == "ended" then return false, err end
  outbox.retry_at = core.monotonic() + outbox.pause:next()
  return true
end

-- ---- What comes next ----

local function wait(outbox, signal, at)
  signal:lower()
  outbox.loop:wait(signal, at)
end

local function soonest(...)
  local at = math.huge
  for i = 1, select("#", ...) do at = math.min(at, (select(i, ...)) or math.huge) end
  return at < math.huge and at or nil
end

-- When the budgets have room for that number of points. More points than a budget can hold are sent when it is full.
local function budget_at(outbox, points)
  local wanted = points
  for _, band in ipairs(outbox.points) do wanted = math.min(wanted, band.most) end
  if outbox.messages:room() >= 1 and outbox.points:room() >= wanted then return 0 end
  return math.max(outbox.messages:free_at(1), outbox.points:free_at(wanted))
end

-- Only an answer can tell the time, and nothing but records without one is left to send.
local function must_ask(outbox)
  local file = outbox.file
  return (file.undated or file.has_lost) and not file.clock:offset_now() and file.clock:may_ask(spool.uptime())
end

-- Asks for nothing but the answer's date, of which the outbox hears as of any other: see `listen`.
local function ask_time(outbox, deadline)
  local done <const> = outbox.messages:spend(1)
  local path = outbox.client.uncached "/attributes?clientKeys=time"
  local _, err = outbox.client:call("outbox", "GET", path, nil, (time_for(outbox, deadline)), answer.attributes)
  done()
  if outbox.closed or not must_ask(outbox) then return true end
  if answers.action(err) == "ended" then
    outbox.err = err
    return false, err
  end
  outbox.retry_at = core.monotonic() + outbox.pause:next()
  return true
end

-- Why records are left, when nothing more can be sent.
local function leftover(outbox)
  local count = outbox:stats().records
  if count == 0 then return nil end
  local message = "drain: %d records wait until the clock is known"
  return errors.new("clock", message:format(count), { retryable = true })
end

-- What comes next, of these:
--   send  with the post
--   wait  with the time until which, and the signal that ends the waiting before
--   rest  with the time until which: the server is out of reach
--   read  the marker
--   again what was sent and could not be confirmed waits again
--   missed the marker has not come back
--   prove that the server takes the posts
--   ask   for the time
--   done  with the error, if there is one
local function next_step(outbox, deadline)
  local now = core.monotonic()
  if outbox.closed then return "done", deadline and errors.new("closed", "drain: the outbox is closed") end
  if deadline and now >= deadline then return "done", outbox.err or deadline_error(outbox) end
  if now < outbox.retry_at then return "rest", outbox.retry_at end
  local post, err = batches.next(outbox)
  if err then return "wait", now + outbox.pause:next(), outbox.wake end
  if not post and must_ask(outbox) then return "ask" end
  local first, confirm_at
  local trial = post and post.doubt
  if not (trial and outbox.doubts.trial) then -- nothing comes between the posts of a trial
    local mode = post and not trial and "more" or (deadline or outbox:is_tight()) and "final" or "idle"
    first, confirm_at = outbox.confirm:next(now, mode)
  end
  if first == "wait" and trial then first = nil end
  if first and post and not trial then outbox.turn = outbox.turn - 1 end -- it stays its turn
  if first == "again" or first == "missed" then return first end
  if first == "wait" and post then return "wait", confirm_at, outbox.wake end
  if first == "mark" or first == "read" or first == "prove" then
    post = first == "mark" and batches.marker(outbox) or nil
    local at = math.max(budget_at(outbox, post and 1 or 0), outbox.pace.next_at)
    if at > now then return "wait", at, outbox.wake end
    if first ~= "mark" then return first end
  end
  if post then
    local at = math.max(budget_at(outbox, post.points), outbox.pace.next_at)
    if at <= now then return "send", post end
    if not trial then outbox.turn = outbox.turn - 1 end -- it stays its turn
    return "wait", at, outbox.wake
  end
  local due = soonest(outbox.doubts:due(), confirm_at)
  if deadline then
    if due then return "wait", due, outbox.wake end
    return "done", leftover(outbox)
  end
  local file = outbox.file
  local look = file.undated or file.has_lost or outbox.max_age or file.trouble or outbox.sent_undeleted[1]
  return "wait", soonest(due, look and now + EXPIRE_EVERY), outbox.news
end

local function keep_house(outbox)
  outbox.file:date()
  if core.monotonic() < outbox.expire_at then return end
  if outbox.file.trouble then outbox.file:sync() end
  outcome.remove_sent(outbox)
  outbox:expire()
  outbox:write_losses()
  if core.monotonic() >= outbox.note_doubts_at then
    outbox.note_doubts_at = core.monotonic() + NOTE_EVERY
    saved.note_doubts(outbox)
  end
  outbox.expire_at = core.monotonic() + EXPIRE_EVERY
end

local function loop(outbox, deadline)
  while true do
    if not outbox.closed then keep_house(outbox) end
    local step, what, signal = next_step(outbox, deadline)
    local going, err = true, nil
    if step == "send" then
      going, err = send(outbox, what, deadline)
    elseif step == "wait" then
      wait(outbox, signal, soonest(what, deadline))
    elseif step == "rest" then
      outbox.client.server:wait_until(soonest(what, deadline), outbox.pause, outbox.wake)
      outbox.retry_at = 0
    elseif step == "read" then
      going, err = read_marker(outbox, deadline)
    elseif step == "again" then
      outcome.send_again(outbox, outbox.confirm:take_stale())
    elseif step == "missed" then
      outbox.confirm:miss()
    elseif step == "prove" then
      going, err = prove(outbox, deadline)
    elseif step == "ask" then
      going, err = ask_time(outbox, deadline)
    else
      return not what, what
    end
    if not going and err then return nil, err end
  end
end

--- Sends until a deadline or, without one, until the outbox is closed.
-- @tparam table outbox
-- @tparam ?number deadline seconds of the monotonic clock
-- @treturn[1] boolean true: nothing waits
-- @treturn[2] nil
-- @treturn[2] ?table the error
function sender.run(outbox, deadline)
  if outbox.running then error("this outbox is being sent already", 3) end
  outbox.running = true
  outbox.pause:reset()
  outbox.retry_at, outbox.expire_at = 0, 0
  outbox.backlog_end = select(3, outbox.spool:counts(outbox.number))
  local _ <close> = setmetatable({}, { __close = function() outbox.running = false end })
  outbox.doubts:begin(core.monotonic())
  local ok, err = loop(outbox, deadline)
  if not outbox.closed then
    saved.note_markers(outbox)
    saved.note_doubts(outbox)
  end
  if ok then return true end
  return nil, err
end

return sender
