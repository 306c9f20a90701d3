--- Forms the posts of an outbox: which records, or attributes, go together, and which go next.
-- @module thingsboard.outbox.batches
local core = require "thingsboard.core"
local doubts = require "thingsboard.outbox.doubts"
local errors = require "thingsboard.error"

local batches = {}

local PROBE_AFTER = 4 -- refusals in a row, before records are tried that lie elsewhere

-- The first records between two numbers that may be sent, as far as they fit into a post.
local function batch_between(outbox, first, last, most)
  local bounds = outbox.batch
  local points = math.max(1, math.min(bounds.points, outbox.points:room(), outbox.pace.points))
  local bytes = math.min(bounds.bytes, outbox.pace.bytes)
  if outbox.doubts:wants_sample() then bytes = math.min(bytes, doubts.largest_sample) end
  local records = math.min(bounds.records, most or math.maxinteger)
  if outbox.objects_only then records = outbox.objects_only > 0 and 1 or math.min(2, records) end
  while first <= last do
    local from, to = outbox.held:gap(first, last)
    if from > to then return nil end
    local body, taken_from, taken_to, count, sum = outbox.spool:batch(outbox.number, from, to, bytes, records,
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
  local body, points = outbox.doubts:sample()
  if body then return { kind = "sample", path = "/telemetry", body = body, bytes = #body, points = points } end
  return batch_between(outbox, math.random(0, outbox.backlog_end - 1), outbox.backlog_end - 1, 1)
end

-- Marks a post that comes again, from the same record on, when it is refused.
local function recurring(post)
  if post then post.recurs = true end
  return post
end

-- The backlog; while a bad record is searched for, what the search is to look at.
local function next_backlog(outbox)
  local probed, problem, kind = probe(outbox)
  if probed or problem then return probed, problem, kind end
  local first, last, records = outbox.bisect:next()
  if first then
    local batch, reason, code = batch_between(outbox, first, last, records)
    if batch or reason then return recurring(batch), reason, code end
    outbox.bisect:stop() -- they are gone, dropped for their age or to make room
  end
  local batch, reason, code = batch_between(outbox, 0, outbox.backlog_end - 1, outbox.bisect:room())
  return recurring(batch), reason, code
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
      if parts[1] and (size > math.min(outbox.batch.bytes, outbox.pace.bytes) or count >= room) then break end
      parts[#parts + 1] = key .. ":" .. attribute.value
      versions[key] = attribute.version
      count = count + 1
    end
  end
  if parts[1] then return recurring(attributes_post(parts, versions, count)) end
  outbox.most_attributes = math.maxinteger
end

-- What is in doubt, and the samples before and after it. Records that have since been dropped are no longer in doubt.
local function next_doubt(outbox)
  while true do
    local entry, step = outbox.doubts:next(core.monotonic())
    if not entry then return nil end
    if step == "before" or step == "after" then
      local body, points = outbox.doubts:sample_for(entry)
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
      local body, from, to, records, points = outbox:record(entry.id)
      if body == nil then return nil, from, to end
      if body then
        return { kind = "records", path = "/telemetry", body = body, bytes = #body, first = from, last = to,
          records = records, points = points, doubt = entry, step = step }
      end
    end
    outbox.doubts:remove(entry)
  end
end

local kinds = { next_fresh, next_backlog, next_attributes }

--- What is to be posted next: records and attributes that wait, in turn; what is in doubt, where it is due and nothing
-- else waits, or its trial is on.
-- @tparam table outbox
-- @treturn[1] ?table the post, or nil: `kind` (`records`, `attributes` or `sample`), `path`, `body`, `bytes`, `points`;
-- of records `first`, `last` and how many `records`; of attributes their `versions` by key; `recurs` where it comes
-- again when it is refused; in a trial its entry as `doubt`, and its `step`
-- @treturn[2] nil
-- @treturn[2] table the error: the disk cannot be read
function batches.next(outbox)
  local found, reason, code
  if outbox.doubts.trial then found, reason, code = next_doubt(outbox) end
  for _ = 1, #kinds do
    if found or reason then break end
    outbox.turn = outbox.turn % #kinds + 1
    found, reason, code = kinds[outbox.turn](outbox)
  end
  if not found and not reason then found, reason, code = next_doubt(outbox) end
  if not reason then return found end
  if outbox.file:mend(reason, code) then return batches.next(outbox) end
  return nil, errors.new("file", "outbox: " .. reason, { retryable = true })
end

--- The next marker.
-- @tparam table outbox
-- @treturn table the post, as of `next`; its `kind` is `marker`
function batches.marker(outbox)
  local body = ("{%s:%d}"):format(outbox.marker_key, outbox.confirm:next_value())
  return { kind = "marker", path = "/attributes", body = body, bytes = #body, points = 1 }
end

return batches
