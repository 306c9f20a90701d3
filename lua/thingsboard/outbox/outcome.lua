--- What becomes of records and attributes once the server has answered: they leave the file, wait for markers, wait to
-- be sent again, or come in doubt.
-- @module thingsboard.outbox.outcome
local answers = require "thingsboard.outbox.answers"
local doubts = require "thingsboard.outbox.doubts"

local outcome = {}

-- Posts that begin with the same record and get answers that are not ThingsBoard's, or speak of a limit, before a
-- record is suspected to be the cause.
local STUCK = 3
-- Short lists that were refused, and whose records passed alone, before lists are given up; and how many objects go
-- before a short list is tried again.
local SHORT_LISTS, OBJECTS = 3, 50
-- Refusals of a post in a row, without words, that may be accidents: while none is known to have been one, and then.
local ACCIDENTS, ACCIDENTS_PROVED = 1, 4

--- Removes from the file what need not be sent again. Where the disk has no room for that, later.
-- @tparam table outbox
function outcome.remove_sent(outbox)
  local items, failed = outbox.sent_undeleted, false
  outbox.sent_undeleted = {}
  for _, item in ipairs(items) do
    if item.versions then
      outbox:attributes_sent(item.versions)
    else
      local removed, reason
      if not failed then removed, reason = outbox.spool:remove(outbox.number, item.first, item.last) end
      failed = not removed
      if failed then table.insert(outbox.sent_undeleted, item) end
      if reason then outbox.file:failed(reason) end
    end
  end
end

local function is_searching(outbox)
  return outbox.bisect:next() or outbox.most_attributes < math.maxinteger or outbox.doubts.count > 0
end

--- Keeps what a post carries as text where it may become a sample: its body is gone once it is sent. A lone record
-- goes as an object.
-- @tparam table outbox
-- @tparam table post
function outcome.prepare(outbox, post)
  if post.kind == "records" and (post.records == 1 or is_searching(outbox) and post.bytes <= doubts.largest_sample) then
    local text = post.body:take()
    post.inner = text:sub(2, -2)
    post.body = post.records == 1 and post.inner or text
  end
end

local function keep_sample(outbox, post, now)
  local text = is_searching(outbox) and post.inner
  if not text then return end
  outbox.doubts:keep_sample({ text = text, records = post.records, points = post.points, bytes = #text }, now)
end

local function send_objects(outbox, count)
  outbox.objects_only, outbox.doubts.lists = count, count == nil
end

-- Notes whether the server takes lists: some plans are said to take objects only.
local function learn_form(outbox, post, passed)
  if post.kind ~= "records" then return end
  if passed and post.records > 1 then
    outbox.lists_refused, outbox.short_list = 0, nil
    send_objects(outbox, nil)
  elseif not passed then
    outbox.short_list = post.records > 1 and post.records < 4
      and { last = post.last, first = post.first, left = post.records } or nil
  elseif outbox.objects_only then
    send_objects(outbox, math.max(0, outbox.objects_only - 1))
  elseif outbox.short_list and post.first >= outbox.short_list.first and post.last <= outbox.short_list.last then
    outbox.short_list.left = outbox.short_list.left - 1
    if outbox.short_list.left > 0 then return end
    outbox.short_list, outbox.lists_refused = nil, outbox.lists_refused + 1
    if outbox.lists_refused >= SHORT_LISTS then send_objects(outbox, OBJECTS) end
  end
end

-- Items that were sent need not be sent again: they leave the file.
local function finish(outbox, items)
  for _, item in ipairs(items) do table.insert(outbox.sent_undeleted, item) end
  outcome.remove_sent(outbox)
  if outbox.sent_undeleted[1] then outcome.remove_sent(outbox) end -- there may be room now
end

local function item_passed(outbox, item, post, now)
  if outbox.confirm.on then
    item.headers = post.headers
    outbox.confirm:passed(item, post.bytes, now)
    if outbox.confirm.breaks ~= post.breaks then outbox.confirm:broke(true) end -- while it was in flight
  else
    finish(outbox, { item })
  end
end

local function records_passed(outbox, post, now)
  outbox.sent.records = outbox.sent.records + post.records
  if post.first >= outbox.backlog_end then outbox.backlog_end = post.last + 1 end
  outbox.held:add(post.first, post.last)
  item_passed(outbox, { first = post.first, last = post.last, records = post.records }, post, now)
end

local function attributes_passed(outbox, post, now)
  outbox.sent.attributes = outbox.sent.attributes + post.points
  if outbox.stuck_at == "attributes" then outbox.stuck_at = nil end -- records have other places
  for key, version in next, post.versions do
    local attribute = outbox.pending[key]
    if attribute and attribute.version == version then attribute.sent = true end
  end
  item_passed(outbox, { versions = post.versions, attributes = post.points }, post, now)
end

--- What was sent and has not been confirmed waits again.
-- @tparam table outbox
-- @tparam table items of `thingsboard.outbox.confirm`
function outcome.send_again(outbox, items)
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

--- What was sent is confirmed.
-- @tparam table outbox
-- @tparam table items of `thingsboard.outbox.confirm`
function outcome.confirmed(outbox, items)
  for _, item in ipairs(items) do outbox.sent.confirmed = outbox.sent.confirmed + (item.records or 0) end
  finish(outbox, items)
end

--- Markers are given up: it is said once, and what was sent is taken for stored, as without markers.
-- @tparam table outbox
-- @tparam table items of `thingsboard.outbox.confirm`
-- @tparam boolean is_new they were not given up before
function outcome.without_markers(outbox, items, is_new)
  if is_new then
    warn("thingsboard: outbox: ", outbox.confirm.problem, "; what is sent is not confirmed any more")
  end
  finish(outbox, items)
end

-- Sets aside what is proved to be refused.
local function set_aside(outbox, entry, now)
  if entry.kind == "attributes" then
    outbox:lose("rejected", 1)
    local attribute = outbox.pending[entry.id]
    if attribute then outbox:attributes_sent { [entry.id] = attribute.version } end
  else
    local body = outbox:record(entry.id)
    if body and not outbox:reject(entry.id, entry.id, 1, body:take(), entry.said) then
      return outbox.doubts:disturb(now) -- the disk cannot keep it
    end
  end
  outbox.doubts:remove(entry)
end

-- Whether the refusal of a post, without words, may be an accident: then the same goes again, before a record of it is
-- searched for.
local function may_be_accident(outbox, post)
  if not post.recurs then return true end
  local last = outbox.accidents[post.kind]
  local count = last and last.first == post.first and last.count + 1 or 1
  local may_be = count <= (outbox.pace.unchanged and ACCIDENTS_PROVED or ACCIDENTS)
  outbox.accidents[post.kind] = may_be and { first = post.first, last = post.last, count = count } or nil
  return may_be
end

-- A post has passed. Where it was refused before, that was an accident indeed, or a limit.
local function note_accident(outbox, post)
  local last = outbox.accidents[post.kind]
  if not last or not post.recurs or last.first ~= post.first then return end
  outbox.accidents[post.kind] = nil
  if (post.last or 0) >= (last.last or 0) then outbox.pace:prove(true) end
end

--- A post has passed.
-- @tparam table outbox
-- @tparam table post
-- @tparam number now seconds of the monotonic clock
function outcome.passed(outbox, post, now)
  if post.kind ~= "marker" then outbox.sent.posts = outbox.sent.posts + 1 end
  outbox.err = nil
  outbox.pause:reset()
  outbox.pace:passed(now, outbox.batch)
  keep_sample(outbox, post, now)
  learn_form(outbox, post, true)
  if post.doubt then
    local verdict = outbox.doubts:passed(post, now)
    if verdict == "proved" then set_aside(outbox, post.doubt, now) end
    if verdict == "passed" then outbox.pace:prove() end
  else
    outbox.doubts:hurry(now)
  end
  note_accident(outbox, post)
  if post.kind == "records" then
    records_passed(outbox, post, now)
    if outbox.bisect:passed(post.first, post.last, post.records) then outbox.pace:prove() end
  elseif post.kind == "attributes" then
    attributes_passed(outbox, post, now)
  elseif post.kind == "marker" then
    outbox.confirm:marked(now, post.breaks, post.headers)
  end
end

local function doubt(outbox, post, err, now)
  local points, bytes = post.points, post.bytes
  if answers.action(err) == "too_large" then points, bytes = 0, 0 end -- no sample of its size passes
  if post.kind == "records" then
    outbox.held:add(post.first, post.last)
    outbox.doubts:add("records", post.first, points, bytes, err.message, now, outbox.pace.proved)
  else
    local key = next(post.versions)
    local attribute = outbox.pending[key]
    if not attribute or attribute.version ~= post.versions[key] then return end -- it has a new value
    attribute.in_doubt = outbox.doubts:add("attributes", key, points, bytes, err.message, now, outbox.pace.proved)
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

-- The points for which a post may have been refused: a marker has too few, and somebody on the way does not count them.
local function refused_points(post, err)
  return (post.kind == "marker" or err.kind == "answer") and 0 or post.points
end

-- The server has refused a post. One that is in doubt does not slow down: the sample behind it has to pass at once, or
-- a limit could have refused the one and not the other.
local function refused(outbox, post, err, now)
  local is_unclear, is_sample = answers.is_unclear(err), post.kind == "sample"
  if post.doubt then outbox.doubts:refused(post, now, err.message, true) end
  if post.doubt and not is_sample then return end
  if outbox.objects_only == 0 and post.kind == "records" and post.records > 1 then
    return send_objects(outbox, OBJECTS) -- as before: nothing else is wrong
  end
  local cause = (is_unclear or is_sample) and "unclear" or "itself"
  if outbox.pace:refused(now, refused_points(post, err), cause) then outbox.doubts:disturb(now) end
  if is_sample then return end
  if post.kind == "marker" then return outbox.confirm:refuse(now, is_unclear and "unclear" or nil) end
  if is_unclear and may_be_accident(outbox, post) then return end
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
  outbox.pace:refused(now, refused_points(post, err))
  outbox.pace:prove()
  if is_stuck(outbox, post) and (post.records or post.points) == 1 then doubt(outbox, post, err, now) end
end

local failures = {} -- what to do, by action

local function too_large(outbox, post, err, now)
  if post.kind == "records" and post.records > 1 then
    outbox.pace:too_large(post.bytes)
  else
    failures[err.kind == "http" and "refused" or "outage"](outbox, post, err, now)
  end
end

-- The server is out of reach, or somebody on the way answers in its place. Where somebody does so again and again, it
-- may be for what one record holds: that is searched for as well, so that it holds up nothing. It is never proved.
local function outage(outbox, post, err, now)
  if post.doubt and err.kind == "answer" then outbox.doubts:refused(post, now, err.message, false) end
  outbox.doubts:disturb(now)
  if post.kind == "marker" and err.kind == "answer" then return outbox.confirm:refuse(now, "foreign") end
  -- The first of somebody's after one that has passed may tell of a limit, whatever it says.
  if err.kind == "answer" and outbox.pause:is_over() then outbox.pace:refused(now, 0) end
  outbox.retry_at = now + outbox.pause:next()
  if err.kind == "answer" and is_stuck(outbox, post) then search(outbox, post, err, now) end
end

failures.refused, failures.limited, failures.too_large, failures.outage = refused, limited, too_large, outage

--- A post has failed.
-- @tparam table outbox
-- @tparam table post
-- @tparam table err
-- @tparam string action `refused`, `limited`, `too_large` or `outage`, of `thingsboard.outbox.answers`
-- @tparam number now seconds of the monotonic clock
function outcome.failed(outbox, post, err, action, now)
  if post.kind ~= "marker" and not post.doubt then outbox.confirm:failed() end
  failures[action](outbox, post, err, now)
end

return outcome
