--- Sends what an outbox keeps: in batches, within budgets, past what the server will not take.
--
-- Fresh records, those put since the last turn, go in turn with the backlog and with attributes. What a post leaves
-- behind when it fails is backlog.
-- @module thingsboard.outbox.sender
local core = require "thingsboard.core"
local answer = require "thingsboard.http.answer"
local backoff = require "thingsboard.http.backoff"
local errors = require "thingsboard.error"
local spool = require "thingsboard.spool"

local sender = {}

--- Seconds: the first wait after a failure takes this at most, and none takes more than the other.
sender.first_pause, sender.longest_pause = 1, 300

-- A post that is answered 500 so often, while nothing else shows whether the server is well, is looked into.
local TRIES = 3
-- So many lone records refused one after another: then it may not be they that are at fault, and the rest goes with
-- them in groups, each twice as large as the one before.
local MOST_LONE = 8
local EXPIRE_EVERY = 1 -- seconds
local NOTE_EVERY = 60 -- seconds between notes of how late it is

-- What the server answers for a body that it will never take.
local refusals = { [400] = true, [403] = true, [415] = true }
local ends = { [401] = true, [404] = true }

--- Lets the outbox hear of answers to other calls of its device: that the server is there again, and what time it is.
function sender.listen(outbox)
  outbox.client:listen(outbox, function(status, exchange)
    if outbox.server_time and not outbox.file.clock:offset_now() then
      local date = exchange:date()
      if date then outbox.file.clock:learn(date, spool.uptime()) end
    end
    if (status == 200 or status == 408) and not outbox.posting then outbox.wake:raise() end
  end)
end

-- Seconds that a call may take: as long as the device's may, and not past a deadline.
local function time_for(outbox, deadline)
  local most = outbox.client.timeout / 1000
  return deadline and math.max(0.001, math.min(most, deadline - core.monotonic())) or most
end

-- One post; in `outbox.posting` while it goes, until a deadline at most.
local function post(outbox, path, body, points, deadline)
  outbox.posting = true
  local messages_done, points_done = outbox.messages:spend(1), outbox.points:spend(points)
  outbox.file.in_flight = outbox.file.in_flight + 1
  local _ <close> = setmetatable({}, { __close = function()
    outbox.file.in_flight = outbox.file.in_flight - 1
    outbox.posting = false
    messages_done()
    points_done()
  end })
  return outbox.client:call("outbox", "POST", path, body, time_for(outbox, deadline), answer.nothing)
end

-- When the budgets have room for so many points; nil when they have now. More points than a budget ever holds go when
-- it is whole.
local function wait_for_budget(outbox, points)
  local wanted = points
  for _, band in ipairs(outbox.points) do wanted = math.min(wanted, band.most) end
  if outbox.messages:room() >= 1 and outbox.points:room() >= wanted then return nil end
  return math.max(outbox.messages:free_at(1), outbox.points:free_at(wanted))
end

local function next_attributes(outbox)
  local parts, sent, size, count = {}, {}, 2, 0
  local room = math.max(1, math.min(outbox.points:room(), outbox.most_attributes))
  local suspect
  for key, attribute in next, outbox.pending do
    if attribute.tries then
      suspect = key
    else
      size = size + #key + #attribute.value + 2
      if parts[1] and (size > outbox.batch.bytes or count >= room) then break end
      parts[#parts + 1] = key .. ":" .. attribute.value
      sent[key] = attribute.version
      count = count + 1
    end
  end
  if not parts[1] and suspect then
    parts[1], sent[suspect], count = suspect .. ":" .. outbox.pending[suspect].value, outbox.pending[suspect].version, 1
  end
  if not parts[1] then return nil end
  return { path = "/attributes", body = "{" .. table.concat(parts, ",") .. "}", points = count, sent = sent }
end

-- Records that the server has, and that cannot be taken away while the disk is full: no log has room for that.
local function remember_sent(outbox, first, last, records)
  local newest = outbox.sent_undeleted[#outbox.sent_undeleted]
  if newest and newest.last + 1 == first then
    newest.last, newest.records = last, newest.records + records
  else
    table.insert(outbox.sent_undeleted, { first = first, last = last, records = records })
  end
end

local function remove_sent(outbox)
  while outbox.sent_undeleted[1] do
    local range = outbox.sent_undeleted[1]
    if not outbox.spool:remove(outbox.number, range.first, range.last) then return end
    table.remove(outbox.sent_undeleted, 1)
  end
end

-- What lies between, short of what has been sent.
local function past_sent(outbox, first, last)
  local moved
  repeat
    moved = false
    for _, range in ipairs(outbox.sent_undeleted) do
      if first >= range.first and first <= range.last then first, moved = range.last + 1, true end
    end
  until not moved
  for _, range in ipairs(outbox.sent_undeleted) do
    if range.first > first then last = math.min(last, range.first - 1) end
  end
  return first, last
end

local function batch_between(outbox, first, last, most)
  local bounds = outbox.batch
  first, last = past_sent(outbox, first, last)
  local body, from, to, records, points = outbox.spool:batch(outbox.number, first, last, bounds.bytes,
    math.min(bounds.records, most or math.maxinteger), math.max(1, math.min(bounds.points, outbox.points:room())),
    outbox.body)
  if body == nil then return nil, from, to end -- with the reason and its name
  if not body then return nil end
  return {
    path = "/telemetry", body = body, bytes = #body, first = from, last = to, records = records, points = points,
  }
end

local function next_fresh(outbox)
  return batch_between(outbox, outbox.backlog_end, math.maxinteger)
end

-- The backlog; of a suspect range, only as much as is looked at now, or what lies behind it.
local function next_backlog(outbox)
  local suspect = outbox.suspect
  if suspect and not suspect.passing then
    local batch, reason, code = batch_between(outbox, suspect.first, suspect.last, suspect.records)
    if batch or reason then return batch, reason, code end
    outbox.suspect = nil -- it is gone, dropped for its age or for want of room
  elseif suspect then
    suspect.passing = false
    local batch, reason, code = batch_between(outbox, suspect.last + 1, outbox.backlog_end - 1)
    if batch or reason then return batch, reason, code end
    suspect.last_one = true
    return next_backlog(outbox)
  end
  return batch_between(outbox, 0, outbox.backlog_end - 1)
end

local kinds = { next_fresh, next_backlog, next_attributes }

-- What is next in turn.
local function next_post(outbox)
  for _ = 1, #kinds do
    outbox.turn = outbox.turn % #kinds + 1
    local found, reason, code = kinds[outbox.turn](outbox)
    if found then return found end
    if reason then
      if outbox.file:mend(reason, code) then return next_post(outbox) end
      return nil, errors.new("file", "outbox: " .. reason, { retryable = true })
    end
  end
end

local function note_time(outbox)
  local now = core.monotonic()
  if now < (outbox.noted_at) then return end
  outbox.noted_at = now + NOTE_EVERY
  outbox:note_time()
end

local function succeeded(outbox, sent)
  outbox.sent.posts = outbox.sent.posts + 1
  outbox.err = nil
  if sent.sent then
    outbox.sent.attributes = outbox.sent.attributes + sent.points
    outbox:attributes_sent(sent.sent)
    outbox.most_attributes = math.maxinteger
  else
    if not outbox.spool:remove(outbox.number, sent.first, sent.last) then
      remember_sent(outbox, sent.first, sent.last, sent.records)
    end
    outbox.sent.records = outbox.sent.records + sent.records
    note_time(outbox)
    if sent.first >= outbox.backlog_end then outbox.backlog_end = sent.last + 1 end
  end
  local suspect = outbox.suspect
  if not suspect then return end
  suspect.others_pass = true
  if sent.first and sent.first <= suspect.last and sent.last >= suspect.first then -- not here: further on
    suspect.first, suspect.lone, suspect.divided = sent.last + 1, 0, true
    if suspect.first > suspect.last then outbox.suspect = nil end
    suspect.records = math.max(1, (suspect.last - suspect.first + 1) // 2)
  end
end

local function set_aside(outbox, batch, err)
  local most = math.maxinteger -- the body has been sent: once more, then
  local body = outbox.spool:batch(outbox.number, batch.first, batch.last, most, batch.records, most, outbox.body)
  return body and outbox:reject(batch.first, batch.last, batch.records, body:take(), err.message)
end

local function suspect_range(outbox, first, last, records)
  outbox.suspect = { first = first, last = last, records = records, tries = 0, lone = 0 }
  return outbox.suspect
end

-- The records of a batch were refused, or are suspected: fewer of them, until one stands alone.
local function look_into(outbox, batch, err)
  local suspect = outbox.suspect
  if not suspect or batch.first < suspect.first or batch.last > suspect.last then
    suspect = suspect_range(outbox, batch.first, batch.last)
  end
  suspect.tries = suspect.tries + 1
  suspect.last = batch.last
  local sure = refusals[err.status] or err.status == 413
  if batch.records > 1 then
    if sure or suspect.others_pass or suspect.tries >= TRIES then suspect.records = batch.records // 2 end
    return sure
  end
  suspect.lone = suspect.lone + 1
  if suspect.lone == 1 then suspect.others_pass = false end -- from now on, that is
  suspect.passing = not sure -- let others show whether the server is well
  -- Where nothing is left that could pass, it must do that those passed that it was in a batch with.
  local others_pass = suspect.others_pass or suspect.last_one and suspect.divided
  if not sure and (suspect.lone < TRIES or not others_pass) then return false end
  outbox.suspect = nil
  return set_aside(outbox, batch, err)
end

-- Attributes were refused, or are suspected: fewer of them, until one stands alone. That goes behind all others, and
-- when they pass and it does not, it is given up.
local function attributes_failed(outbox, sent, err)
  local sure = refusals[err.status] or err.status == 413
  if not sure and err.status ~= 500 then return false end
  if sent.points > 1 then
    outbox.posts_before = outbox.posts_before or outbox.sent.posts -- those that pass from now on tell that one is bad
    outbox.most_attributes = sent.points // 2
    return sure
  end
  local attribute = outbox.pending[next(sent.sent)]
  if not attribute then return true end
  attribute.tries = (attribute.tries or 0) + 1
  attribute.posts = attribute.posts or outbox.posts_before or outbox.sent.posts
  if not sure and (attribute.tries < TRIES or outbox.sent.posts == attribute.posts) then return false end
  outbox.posts_before = nil
  outbox:lose("rejected", 1)
  outbox:attributes_sent(sent.sent)
  return true
end

-- True when another post may go at once; else the error that makes it wait.
local function failed(outbox, sent, err)
  outbox.err = err
  if err.status == 413 and sent.first and sent.records > 1 then
    outbox.batch.bytes = math.max(1, sent.bytes // 2)
    return true
  end
  if err.kind ~= "http" then return err end -- only the server's own word settles anything
  if not sent.first then return attributes_failed(outbox, sent, err) or err end
  if refusals[err.status] then
    local in_row = outbox.refused_in_row
    local group = in_row >= MOST_LONE and 1 << math.min(in_row - MOST_LONE + 1, 30) or 1
    if sent.records <= group then outbox.refused_in_row = in_row + 1 end
    if group > 1 and sent.records > group then
      suspect_range(outbox, sent.first, sent.last, group)
      return true
    elseif group > 1 then
      suspect_range(outbox, sent.last + 1, sent.last + 2 * group, 2 * group)
      return set_aside(outbox, sent, err) or err
    end
  end
  if refusals[err.status] or err.status == 413 or err.status == 500 then return look_into(outbox, sent, err) or err end
  return err
end

local function wait(outbox, signal, deadline)
  signal:lower()
  outbox.loop:wait(signal, deadline)
end

-- Whether everything that could be sent has been.
local function leftover(outbox)
  local count = outbox:stats().records
  if count == 0 then return true end
  local message = "drain: %d records wait until the clock is known"
  return nil, errors.new("clock", message:format(count), { retryable = true })
end

-- Only an answer can tell the time, and nothing but records without one is left to send.
local function must_ask(outbox)
  return outbox.server_time and outbox.file.undated and not outbox.file.clock:offset_now()
end

-- Asks for nothing but the answer's date, of which the outbox hears as of any other: see `listen`.
local function ask_time(outbox, deadline)
  local done <const> = outbox.messages:spend(1)
  local _, err = outbox.client:call("outbox", "GET", "/attributes?clientKeys=time", nil, time_for(outbox, deadline),
    answer.attributes)
  done()
  if outbox.closed or not must_ask(outbox) then return nil end
  return err or errors.new("clock", "outbox: the server's answer has no date", { retryable = true })
end

local function soonest(...)
  local at = math.huge
  for i = 1, select("#", ...) do at = math.min(at, (select(i, ...)) or math.huge) end
  return at < math.huge and at or nil
end

local function loop(outbox, deadline)
  local pause = backoff.new(sender.first_pause, sender.longest_pause)
  local expire_at = 0
  while not outbox.closed do
    if outbox.file.trouble then outbox.file:sync() end
    outbox.file:date()
    if core.monotonic() >= expire_at then
      remove_sent(outbox)
      outbox:expire()
      outbox:write_losses()
      expire_at = core.monotonic() + EXPIRE_EVERY
    end
    if deadline and core.monotonic() >= deadline then
      return nil, outbox.err or errors.new("timeout", "drain: the deadline came first", { retryable = true })
    end
    local sent, err = next_post(outbox)
    if sent then
      local at = wait_for_budget(outbox, sent.points)
      if at then
        outbox.turn = outbox.turn - 1 -- it stays its turn
        wait(outbox, outbox.wake, soonest(at, deadline))
        goto continue
      end
      local body
      body, err = post(outbox, sent.path, sent.body, sent.points, deadline)
      if outbox.closed then break end
      if body then
        pause:reset()
        outbox.refused_in_row = 0
        succeeded(outbox, sent)
      else
        if err.kind == "closed" then break end
        if err.kind == "http" and ends[err.status] then
          outbox.err = err
          return nil, err
        end
        outbox.backlog_end = select(3, outbox.spool:counts(outbox.number))
        err = failed(outbox, sent, err)
        if err == true then err = nil end
        if outbox.suspect and outbox.suspect.others_pass then pause:reset() end -- the server is well
      end
    elseif not err and must_ask(outbox) then
      err = ask_time(outbox, deadline)
      if err and err.kind == "http" and ends[err.status] then
        outbox.err = err
        return nil, err
      end
    elseif not err then
      if deadline then return leftover(outbox) end
      local due = outbox.file.undated or outbox.max_age or outbox.file.trouble or outbox.sent_undeleted[1]
      wait(outbox, outbox.news, due and core.monotonic() + EXPIRE_EVERY or nil)
    end
    if err then wait(outbox, outbox.wake, soonest(core.monotonic() + pause:next(), deadline)) end
    ::continue::
  end
  return nil, deadline and errors.new("closed", "drain: the outbox is closed") or nil
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
  outbox.backlog_end = select(3, outbox.spool:counts(outbox.number))
  local _ <close> = setmetatable({}, { __close = function() outbox.running = false end })
  local ok, err = loop(outbox, deadline)
  return ok, err
end

return sender
