--- Sends an outbox's records and attributes: in batches, within budgets, at the pace that the server accepts.
--
-- Fresh records (put since the last turn), the backlog, and attributes take turns. The records of a post that failed
-- join the backlog. Doubtful records are tried when nothing else is left to send. Sent records stay in the file until
-- they are confirmed, see `thingsboard.outbox.confirm`.
-- @module thingsboard.outbox.sender
local core = require "thingsboard.core"
local answer = require "thingsboard.http.answer"
local answers = require "thingsboard.outbox.answers"
local backoff = require "thingsboard.http.backoff"
local errors = require "thingsboard.error"
local spool = require "thingsboard.spool"

local sender = {}

--- Seconds: the longest first wait after a failure, and the longest wait of all.
sender.first_pause, sender.longest_pause = 1, 300

local READ_TIMEOUT = 10 -- seconds for reading a marker: over a rate limit the server does not answer
local EXPIRE_EVERY = 1 -- seconds
local NOTE_EVERY = 60 -- seconds between notes of how late it is
-- Posts that begin with the same record and get answers that are not ThingsBoard's, or speak of a limit, before a
-- record is suspected to be the cause.
local STUCK = 3
local PROBE_AFTER = 4 -- refusals in a row, before records are tried that lie elsewhere
local SAMPLE_BYTES = 16 * 1024 -- of a post that may be kept as a sample, at most
-- Short lists that were refused, and whose records passed alone, before lists are given up; and how many objects go
-- before a list is tried again.
local SHORT_LISTS, OBJECTS = 3, 50

-- Without polls the device's exchanges come one after another, and use one connection. A poll has one of its own.
local function has_polls(outbox)
  for iterator in next, outbox.client.iterators do
    if getmetatable(iterator) ~= getmetatable(outbox) then return true end
  end
  return false
end

--- Makes the outbox listen to answers to its device's other calls: they show that the server is back, and its time.
function sender.listen(outbox)
  outbox.client:listen(outbox, function(status, exchange)
    local clock = outbox.file.clock
    local date = status and clock:wants_date() and exchange:date()
    if date then clock:hear(date, spool.uptime(), outbox.server_time) end
    if not outbox.posting and not has_polls(outbox) then outbox.confirm:used(exchange:connection()) end
    outbox.confirm:heard(status, core.monotonic())
    if outbox.confirm.at_once then outbox.news:raise() end
    if (status == 200 or status == 408) and not outbox.posting then
      outbox.retry_at = 0
      outbox.doubts:hurry(core.monotonic())
      outbox.wake:raise()
      if outbox.doubts.count > 0 then outbox.news:raise() end
    end
  end)
end

-- Seconds that a call may take: as long as the device's may, and not past a deadline.
local function time_for(outbox, deadline)
  local most = outbox.client.timeout / 1000
  return deadline and math.max(0.001, math.min(most, deadline - core.monotonic())) or most
end

-- ---- Batches ----

-- The first records between two numbers that may be sent, as far as they fit into a post.
local function batch_between(outbox, first, last, most)
  local bounds = outbox.batch
  local points = math.max(1, math.min(bounds.points, outbox.points:room(), outbox.pace.points))
  local records = outbox.objects_only and 1 or math.min(bounds.records, most or math.maxinteger)
  while first <= last do
    local from, to = outbox.held:gap(first, last)
    if from > to then return nil end
    local body, taken_from, taken_to, count, sum = outbox.spool:batch(outbox.number, from, to, bounds.bytes, records,
      points, outbox.body)
    if body == nil then return nil, taken_from, taken_to end -- with the reason and its name
    if body then
      return {
        kind = "records", path = "/telemetry", body = body, bytes = #body, first = taken_from, last = taken_to,
        records = count, points = sum,
      }
    end
    if to == math.maxinteger then return nil end
    first = to + 1
  end
end

local function next_fresh(outbox)
  return batch_between(outbox, outbox.backlog_end, math.maxinteger)
end

-- By turns with what is next, once several posts in a row were refused, what should pass: the sample, or a record from
-- anywhere in the backlog. If it does, the server is well, and it is bad records that lie together. Else they would be
-- taken for a limit.
local function probe(outbox)
  local in_row = outbox.pace.in_row
  if in_row < PROBE_AFTER or in_row % 2 > 0 or outbox.backlog_end == 0 then return nil end
  local sample = outbox.doubts:sample "records"
  if sample then
    local body = sample.records == 1 and sample.text or "[" .. sample.text .. "]"
    return { kind = "sample", path = "/telemetry", body = body, bytes = #body, points = sample.points }
  end
  return batch_between(outbox, math.random(0, outbox.backlog_end - 1), outbox.backlog_end - 1, 1)
end

-- The backlog; while a bad record is searched for, what the search is to look at.
local function next_backlog(outbox)
  local probed, problem, kind = probe(outbox)
  if probed or problem then return probed, problem, kind end
  local first, last, records = outbox.bisect:next()
  if first then
    local batch, reason, code = batch_between(outbox, first, last, records)
    if batch or reason then return batch, reason, code end
    outbox.bisect:stop() -- they are gone, dropped for their age or to make room
  end
  return batch_between(outbox, 0, outbox.backlog_end - 1, outbox.bisect:room())
end

local function attributes_post(parts, versions, count)
  local body = "{" .. table.concat(parts, ",") .. "}"
  return {
    kind = "attributes", path = "/attributes", body = body, bytes = #body, points = count, versions = versions,
  }
end

local function next_attributes(outbox)
  local parts, versions, size, count = {}, {}, 2, 0
  local room = math.max(1, math.min(outbox.points:room(), outbox.most_attributes, outbox.pace.points))
  for key, attribute in next, outbox.pending do
    if not attribute.in_doubt and not attribute.sent then
      size = size + #key + #attribute.value + 2
      if parts[1] and (size > outbox.batch.bytes or count >= room) then break end
      parts[#parts + 1] = key .. ":" .. attribute.value
      versions[key] = attribute.version
      count = count + 1
    end
  end
  if parts[1] then return attributes_post(parts, versions, count) end
  outbox.most_attributes = math.maxinteger
end

-- What is in doubt, and the samples before and after it. Records that have since been dropped are no longer in doubt.
local function next_doubt(outbox)
  local doubts = outbox.doubts
  while true do
    local entry, step = doubts:next(core.monotonic())
    if not entry then return nil end
    if step == "before" or step == "after" then
      local body, points = doubts:sample_for(entry)
      local path = entry.kind == "records" and "/telemetry" or "/attributes"
      return { kind = "sample", path = path, body = body, bytes = #body, points = points, doubt = entry, step = step }
    end
    if entry.kind == "attributes" then
      local attribute = outbox.pending[entry.id]
      if attribute and attribute.in_doubt == entry then
        local post = attributes_post({ entry.id .. ":" .. attribute.value }, { [entry.id] = attribute.version }, 1)
        post.doubt, post.step = entry, step
        return post
      end
    else
      local most = math.maxinteger
      local body, from, to, records, points =
        outbox.spool:batch(outbox.number, entry.id, entry.id, most, 1, most, outbox.body)
      if body == nil then return nil, from, to end
      if body then
        return { kind = "records", path = "/telemetry", body = body, bytes = #body, first = from, last = to,
          records = records, points = points, doubt = entry, step = step }
      end
    end
    doubts:remove(entry)
  end
end

local kinds = { next_fresh, next_backlog, next_attributes }

-- What is next in turn.
local function next_post(outbox)
  local found, reason, code
  if outbox.doubts.trial then found, reason, code = next_doubt(outbox) end
  for _ = 1, #kinds do
    if found or reason then break end
    outbox.turn = outbox.turn % #kinds + 1
    found, reason, code = kinds[outbox.turn](outbox)
  end
  if not found and not reason then found, reason, code = next_doubt(outbox) end
  if not reason then return found end
  if outbox.file:mend(reason, code) then return next_post(outbox) end
  return nil, errors.new("file", "outbox: " .. reason, { retryable = true })
end

-- ---- The outcome of a post ----

-- Records that the server has leave the file. While the disk is full, no log has room for that: later, then.
local function remove_sent(outbox)
  while outbox.sent_undeleted[1] do
    local range = outbox.sent_undeleted[1]
    if not outbox.spool:remove(outbox.number, range.first, range.last) then return end
    table.remove(outbox.sent_undeleted, 1)
  end
end

local function note_time(outbox)
  local now = core.monotonic()
  if now < outbox.noted_at then return end
  outbox.noted_at = now + NOTE_EVERY
  outbox:note_time()
end

local function is_searching(outbox)
  return outbox.bisect:next() or outbox.most_attributes < math.maxinteger or outbox.doubts.count > 0
end

-- What the post carries as text, where it may become a sample: its body is gone once it has been sent. A lone record
-- goes as an object.
local function prepare(outbox, post)
  if post.kind == "records" and (post.records == 1 or is_searching(outbox) and post.bytes <= SAMPLE_BYTES) then
    local text = post.body:take()
    post.inner = text:sub(2, -2)
    post.body = post.records == 1 and post.inner or text
  end
end

local function keep_sample(outbox, post, now)
  if not is_searching(outbox) then return end
  local inner = post.kind == "attributes" and post.bytes <= SAMPLE_BYTES and post.body or post.inner
  if not inner then return end
  outbox.doubts:keep_sample(post.kind, { text = inner, records = post.records, points = post.points, bytes = #inner },
    now)
end

-- Notes whether the server takes lists: some plans are said to take objects only.
local function learn_form(outbox, post, passed)
  if post.kind ~= "records" then return end
  if passed and post.records > 1 then
    outbox.lists_refused, outbox.short_list = 0, nil
  elseif not passed then
    outbox.short_list = post.records > 1 and post.records < 4
      and { last = post.last, first = post.first, left = post.records } or nil
  elseif outbox.objects_only then
    outbox.objects_only = outbox.objects_only > 1 and outbox.objects_only - 1 or nil
  elseif outbox.short_list and post.first >= outbox.short_list.first and post.last <= outbox.short_list.last then
    outbox.short_list.left = outbox.short_list.left - 1
    if outbox.short_list.left > 0 then return end
    outbox.short_list, outbox.lists_refused = nil, outbox.lists_refused + 1
    if outbox.lists_refused >= SHORT_LISTS then outbox.objects_only = OBJECTS end
  end
end

-- Items that were sent need not be sent again: they leave the file.
local function finish(outbox, items)
  for _, item in ipairs(items) do
    if item.versions then
      outbox:attributes_sent(item.versions)
    else
      table.insert(outbox.sent_undeleted, item)
    end
  end
  remove_sent(outbox)
end

local function item_passed(outbox, item, post)
  if outbox.confirm.on then
    outbox.confirm:passed(item, post.bytes)
    if outbox.confirm.breaks ~= post.breaks then outbox.confirm:broke(true) end -- while it was in flight
  else
    finish(outbox, { item })
  end
end

local function records_passed(outbox, post)
  outbox.sent.records = outbox.sent.records + post.records
  if post.first >= outbox.backlog_end then outbox.backlog_end = post.last + 1 end
  outbox.held:add(post.first, post.last)
  item_passed(outbox, { first = post.first, last = post.last, records = post.records }, post)
  note_time(outbox)
end

local function attributes_passed(outbox, post)
  outbox.sent.attributes = outbox.sent.attributes + post.points
  for key, version in next, post.versions do
    local attribute = outbox.pending[key]
    if attribute and attribute.version == version then attribute.sent = true end
  end
  item_passed(outbox, { versions = post.versions, attributes = post.points }, post)
end

-- What was sent and has not been confirmed waits again.
local function send_again(outbox, items)
  for _, item in ipairs(items) do
    if item.versions then
      outbox.sent.attributes = outbox.sent.attributes - item.attributes
      for key, version in next, item.versions do
        local attribute = outbox.pending[key]
        if attribute and attribute.version == version then attribute.sent = nil end
      end
    else
      outbox.held:remove(item.first, item.last)
      outbox.sent.records = outbox.sent.records - item.records
      outbox.sent.again = outbox.sent.again + item.records
    end
  end
end

local function confirmed(outbox, items)
  for _, item in ipairs(items) do outbox.sent.confirmed = outbox.sent.confirmed + (item.records or 0) end
  finish(outbox, items)
end

-- Markers are given up: it is said once, and what was sent is taken for stored, as without markers.
local function without_markers(outbox, items)
  if not items then return end
  warn("thingsboard: outbox: ", outbox.confirm.problem, "; what is sent is not confirmed any more")
  finish(outbox, items)
end

-- Sets aside what is proved to be refused.
local function set_aside(outbox, entry, now)
  if entry.kind == "attributes" then
    outbox:lose("rejected", 1)
    local attribute = outbox.pending[entry.id]
    if attribute then outbox:attributes_sent { [entry.id] = attribute.version } end
  else
    local most = math.maxinteger
    local body = outbox.spool:batch(outbox.number, entry.id, entry.id, most, 1, most, outbox.body)
    if body and not outbox:reject(entry.id, entry.id, 1, body:take(), entry.said) then
      return outbox.doubts:disturb(now) -- the disk cannot keep it
    end
  end
  outbox.doubts:remove(entry)
end

local function passed(outbox, post, now)
  if post.kind ~= "marker" then outbox.sent.posts = outbox.sent.posts + 1 end
  outbox.err = nil
  outbox.pause:reset()
  outbox.pace:passed(now, outbox.batch.points)
  keep_sample(outbox, post, now)
  learn_form(outbox, post, true)
  if post.doubt then
    local verdict = outbox.doubts:passed(post, now)
    if verdict == "proved" then set_aside(outbox, post.doubt, now) end
    if verdict == "passed" then outbox.pace:prove() end
  else
    outbox.doubts:hurry(now)
  end
  if post.kind == "records" then
    records_passed(outbox, post)
    if outbox.bisect:passed(post.first, post.last, post.records) then outbox.pace:prove() end
  elseif post.kind == "attributes" then
    attributes_passed(outbox, post)
  elseif post.kind == "marker" then
    outbox.confirm:marked(now, post.breaks)
  end
end

local function doubt(outbox, post, err, now)
  local too_large = answers.action(err) == "too_large"
  if post.kind == "records" then
    outbox.held:add(post.first, post.last)
    outbox.doubts:add("records", post.first, post.points, post.bytes, too_large, err.message, now)
  else
    local key = next(post.versions)
    local attribute = outbox.pending[key]
    if not attribute then return end -- it has a new value
    attribute.in_doubt = outbox.doubts:add("attributes", key, 1, post.bytes, too_large, err.message, now)
  end
end

-- A post goes again in parts, or what is alone is in doubt.
local function search(outbox, post, err, now)
  if post.kind == "records" then
    if outbox.bisect:refused(post.first, post.last, post.records) then doubt(outbox, post, err, now) end
  elseif post.points > 1 then
    outbox.most_attributes = post.points // 2
  else
    outbox.most_attributes = math.maxinteger
    doubt(outbox, post, err, now)
  end
end

-- The server has refused a post.
local function refused(outbox, post, err, now)
  if post.doubt then outbox.doubts:refused(post, now, err.message, true) end
  if post.kind == "sample" then
    outbox.doubts:disturb(now)
    outbox.pace:refused(now, post.points)
  end
  if post.doubt or post.kind == "sample" then return end
  if outbox.pace:refused(now, post.points, not answers.may_be_limit(err)) then outbox.doubts:disturb(now) end
  if post.kind == "marker" then return without_markers(outbox, outbox.confirm:refuse(now)) end
  learn_form(outbox, post, false)
  search(outbox, post, err, now)
end

-- Whether posts fail again and again at one place of the backlog, or those of attributes do, so that what stands there
-- must not hold up the rest.
local function is_stuck(outbox, post)
  if post.kind == "marker" or post.kind == "sample" or post.doubt then return false end
  local place = post.first or post.kind
  outbox.stuck = place == outbox.stuck_at and outbox.stuck + 1 or 1
  outbox.stuck_at = place
  if outbox.stuck >= STUCK then return true end
  if post.kind == "attributes" then return outbox.most_attributes < math.maxinteger end
  return outbox.bisect:next() ~= nil
end

local function limited(outbox, post, err, now)
  if post.doubt then outbox.doubts:refused(post, now, err.message, false) end
  outbox.doubts:disturb(now)
  outbox.pace:refused(now, post.points)
  outbox.pace:prove()
  if is_stuck(outbox, post) and (post.records or post.points) == 1 then doubt(outbox, post, err, now) end
end

local failures = {} -- what to do, by action

local function too_large(outbox, post, err, now)
  if post.kind == "records" and post.records > 1 then
    outbox.batch.bytes = math.max(1, post.bytes // 2)
  else
    failures[err.kind == "http" and "refused" or "outage"](outbox, post, err, now)
  end
end

-- The server is out of reach, or somebody on the way answers in its place. Where somebody does so again and again, it
-- may be for what one record holds: that is searched for as well, so that it holds up nothing. It is never proved.
local function outage(outbox, post, err, now)
  if post.doubt and err.kind == "answer" then outbox.doubts:refused(post, now, err.message, false) end
  outbox.doubts:disturb(now)
  if post.kind == "marker" and err.kind == "answer" then
    return without_markers(outbox, outbox.confirm:refuse(now))
  end
  outbox.retry_at = now + outbox.pause:next()
  if err.kind == "answer" and is_stuck(outbox, post) then search(outbox, post, err, now) end
end

failures.refused, failures.limited, failures.too_large, failures.outage = refused, limited, too_large, outage

-- One exchange; in `outbox.posting` while it goes. Returns as `client:outcome` does.
local function exchange_with(outbox, method, path, body, points, timeout, expected)
  outbox.posting = true
  local messages_done, points_done = outbox.messages:spend(1), outbox.points:spend(points)
  outbox.file.in_flight = outbox.file.in_flight + 1
  local _ <close> = setmetatable({}, { __close = function()
    outbox.file.in_flight = outbox.file.in_flight - 1
    outbox.posting = false
    messages_done()
    points_done()
  end })
  local exchange <close>, err = outbox.client:start(method, path, body, timeout)
  if not exchange then return nil, err end
  outbox.loop:wait(exchange)
  outbox.confirm:used(exchange:connection())
  return outbox.client:outcome("outbox", exchange, expected)
end

-- Sends a post, and does what its outcome asks for. True, or what ends the sending: false and perhaps an error.
local function send(outbox, post, deadline)
  prepare(outbox, post)
  post.breaks = outbox.confirm.breaks
  outbox.doubts:posted(post)
  local body, err = exchange_with(outbox, "POST", post.path, post.body, post.points, time_for(outbox, deadline),
    answer.nothing)
  local action, now = answers.action(not body and err or nil), core.monotonic()
  if outbox.closed or action == "closed" then return false end
  if action == "passed" then
    passed(outbox, post, now)
    return true
  end
  outbox.err = err
  if action == "ended" then return false, err end
  outbox.backlog_end = select(3, outbox.spool:counts(outbox.number))
  failures[action](outbox, post, err, now)
  return true
end

-- ---- Markers ----

local function marker_post(outbox)
  local body = ("{%s:%d}"):format(outbox.marker_key, outbox.confirm:next_value())
  return { kind = "marker", path = "/attributes", body = body, bytes = #body, points = 1 }
end

-- Reads the marker. Returns as `send` does.
local function read_marker(outbox, deadline)
  local timeout = math.min(READ_TIMEOUT, time_for(outbox, deadline))
  local values, err = exchange_with(outbox, "GET", outbox.marker_path, nil, 0, timeout, answer.attributes)
  local now = core.monotonic()
  if outbox.closed then return false end
  if values then
    outbox.pause:reset()
    outbox.err = nil
    confirmed(outbox, outbox.confirm:read(now, values.client[outbox.marker_name]))
    return true
  end
  outbox.err = err
  local action = answers.action(err)
  if action == "ended" or action == "closed" then return false, action == "ended" and err or nil end
  if action == "outage" and err.kind ~= "answer" and err.kind ~= "timeout" then
    outbox.retry_at = now + outbox.pause:next()
  else
    outbox.pace:refused(now, 1)
    without_markers(outbox, outbox.confirm:refuse(now))
  end
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
  local _, err = outbox.client:call("outbox", "GET", "/attributes?clientKeys=time", nil, time_for(outbox, deadline),
    answer.attributes)
  done()
  if outbox.closed or not must_ask(outbox) then return true end
  err = err or errors.new("clock", "outbox: the server's answer has no date", { retryable = true })
  if answers.action(err) == "ended" then
    outbox.err = err
    return false, err
  end
  outbox.retry_at = core.monotonic() + outbox.pause:next()
  return true
end

local function timed_out(outbox)
  if outbox.err then return outbox.err end
  local message, count = "drain: the deadline came first", outbox.confirm:count()
  if count > 0 then message = ("%s; %d records are sent and not confirmed yet"):format(message, count) end
  return errors.new("timeout", message, { retryable = true })
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
--   read  the marker
--   again what was sent and could not be confirmed waits again
--   missed the marker has not come back
--   ask   for the time
--   done  with the error, if there is one
local function next_step(outbox, deadline)
  local now = core.monotonic()
  if outbox.closed then return "done", deadline and errors.new("closed", "drain: the outbox is closed") end
  if deadline and now >= deadline then return "done", timed_out(outbox) end
  if now < outbox.retry_at then return "wait", outbox.retry_at, outbox.wake end
  local post, err = next_post(outbox)
  if err then return "wait", now + outbox.pause:next(), outbox.wake end
  if not post and must_ask(outbox) then return "ask" end
  local first, confirm_at
  if not (post and post.doubt) then
    local mode = post and "more" or (deadline or outbox:is_tight()) and "final" or "idle"
    first, confirm_at = outbox.confirm:next(now, mode)
  end
  if first and post then outbox.turn = outbox.turn - 1 end -- it stays its turn
  if first == "again" or first == "missed" then return first end
  if first == "wait" and post then return "wait", confirm_at, outbox.wake end
  if first == "mark" or first == "read" then
    post = first == "mark" and marker_post(outbox) or nil
    local at = math.max(budget_at(outbox, post and 1 or 0), outbox.pace.next_at)
    if at > now then return "wait", at, outbox.wake end
    if first == "read" then return "read" end
  end
  if post then
    local at = math.max(budget_at(outbox, post.points), outbox.pace.next_at)
    if at <= now then return "send", post end
    if not post.doubt then outbox.turn = outbox.turn - 1 end -- it stays its turn
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
  if outbox.file.trouble then outbox.file:sync() end
  outbox.file:date()
  if core.monotonic() < outbox.expire_at then return end
  remove_sent(outbox)
  outbox:expire()
  outbox:write_losses()
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
    elseif step == "read" then
      going, err = read_marker(outbox, deadline)
    elseif step == "again" then
      send_again(outbox, outbox.confirm:take_stale())
    elseif step == "missed" then
      without_markers(outbox, outbox.confirm:miss())
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
  outbox.pause = backoff.new(sender.first_pause, sender.longest_pause)
  outbox.retry_at, outbox.expire_at = 0, 0
  outbox.backlog_end = select(3, outbox.spool:counts(outbox.number))
  local _ <close> = setmetatable({}, { __close = function() outbox.running = false end })
  local ok, err = loop(outbox, deadline)
  if not outbox.closed then outbox:note_markers() end
  if ok then return true end
  return nil, err
end

return sender
