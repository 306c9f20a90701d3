--- What the file keeps of an outbox beside its records: attributes, counters, what is in doubt, and times.
-- @module thingsboard.outbox.saved
local core = require "thingsboard.core"
local schema = require "thingsboard.outbox.schema"
local spool = require "thingsboard.spool"

local saved = {}

local MOST_DOUBTS, DOUBTS_AT_ONCE = 1000, 50 -- that the file keeps; in one transaction, which must be small

--- Reads what the file holds of an outbox, for `opened`.
-- @tparam table outbox
-- @treturn[1] table
-- @treturn[2] nil
-- @treturn[2] string what is wrong
-- @treturn[2] string its code
function saved.read(outbox)
  local _, _, following, file_number = outbox.spool:counts(outbox.number)
  local found = { following = following, file_number = file_number }
  local reason, code, first, last, undated
  found.counters, reason, code = outbox.spool:query(schema.counters, file_number)
  if not found.counters then return nil, reason, code end
  found.attributes, reason, code = outbox.spool:query(schema.attributes, file_number)
  if not found.attributes then return nil, reason, code end
  found.doubts, reason, code = outbox.spool:query(schema.doubts, file_number)
  if not found.doubts then return nil, reason, code end
  first, last, found.newest, undated = outbox.spool:newest(outbox.number)
  if first == nil then return nil, last, found.newest end
  if undated then found.newest = nil end
  found.last = first and last or -1
  return found
end

--- Reads how many records have been dated though nobody knew their time, which the file counts by itself.
-- @tparam table outbox
function saved.read_undated(outbox)
  local row = outbox.file_number and outbox.spool:query(schema.undated, outbox.file_number)
  if row and row[1] then outbox.lost.undated = row[1][1] end
end

-- Takes up what the last process has found to be in doubt, and not what is gone since, or never was on the disk: its
-- number comes again.
local function take_up_doubts(outbox, found)
  local now = core.monotonic()
  for _, row in ipairs(found.doubts) do
    local id, points, bytes, counted, disturbed, wait, due = table.unpack(row)
    local is_record = math.type(id) ~= nil
    local attribute = outbox.pending[id]
    if is_record and id <= found.last and outbox:record(id)
      or attribute and attribute.on_disk and not attribute.in_doubt then
      local entry = outbox.doubts:take_up({ kind = is_record and "records" or "attributes", id = id, points = points,
        bytes = bytes, counted = counted, disturbed = disturbed > 0, wait = wait / 1000, at = due / 1000 }, now)
      if attribute then attribute.in_doubt = entry else outbox.held:add(id, id) end
    else
      outbox.spool:query(schema.forget_doubt, outbox.file_number, id)
    end
  end
  outbox.doubts.changed = false
end

--- Merges what the opened file holds with what is in memory.
-- @tparam table outbox
-- @tparam table found as `read` returns it
function saved.opened(outbox, found)
  local was_open = outbox.file_number -- so that its counts are known: the file was away
  local clock, last = outbox.file.clock, 0
  outbox.file_number, outbox.backlog_end = found.file_number, found.following
  for _, row in ipairs(found.counters) do
    if row[1] == schema.last_known_time then
      last = row[2]
      clock:follow(last)
    elseif row[1] == schema.waited_for_markers then
      outbox.noted_wait = row[2]
      outbox.confirm.waited = math.max(outbox.confirm.waited, row[2] / 1000)
    elseif row[1] == schema.marker_seen then
      outbox.confirm.seen = outbox.confirm.seen or row[2]
    else
      local count = outbox.lost[row[1]] or 0
      outbox.lost[row[1]] = was_open and math.max(count, row[2]) or count + row[2]
    end
  end
  if found.newest then clock:follow(found.newest) end
  if found.newest and found.newest > last and not clock:offset_now() then -- it may leave the file before that is known
    outbox.spool:query(schema.count, outbox.file_number, schema.last_known_time, found.newest)
  end
  for _, attribute in next, outbox.pending do attribute.on_disk = false end
  for _, row in ipairs(found.attributes) do
    if not outbox.pending[row[1]] then outbox.pending[row[1]] = { value = row[2], version = 0, on_disk = true } end
  end
  take_up_doubts(outbox, found)
  outbox.file.changed = true
end

--- How much `write_changes` writes of attributes.
-- @tparam table outbox
-- @treturn integer bytes
function saved.size_of_changes(outbox)
  local bytes = 0
  for key, attribute in next, outbox.pending do
    if not attribute.on_disk then bytes = bytes + #key + #attribute.value end
  end
  return bytes
end

--- Writes the changed counters and attributes, within a transaction of the file's.
-- @tparam table outbox
-- @return as `spool:query`
function saved.write_changes(outbox)
  local ok, reason, code = true, nil, nil
  for cause, count in next, outbox.lost do
    if ok then
      ok, reason, code = outbox.spool:query(schema.count, outbox.file_number, cause, count)
    end
  end
  for key, attribute in next, outbox.pending do
    if ok and not attribute.on_disk then
      ok, reason, code = outbox.spool:query(schema.keep_attribute, outbox.file_number, key, attribute.value)
    end
  end
  return ok, reason, code
end

--- That transaction is on the disk.
-- @tparam table outbox
function saved.changes_written(outbox)
  for _, attribute in next, outbox.pending do attribute.on_disk = true end
end

--- Stores the current time: undated records are dated after it once the system has been started again. Times that were
-- reserved and not given can be given again.
-- @tparam table outbox
function saved.note_time(outbox)
  local file = outbox.file
  if not file:is_open() or not file.clock:offset_now() then return end
  local last = file.clock:ahead() or file.clock:offset_now() + spool.uptime()
  outbox.spool:query(schema.count, outbox.file_number, schema.last_known_time, last)
  if last < file.taken and outbox.spool:query(schema.take_times, last) then file.taken = last end
end

--- Notes how long it has waited for a server that may not keep markers: a process may end before it knows.
-- @tparam table outbox
function saved.note_markers(outbox)
  local waited = math.ceil(outbox.confirm.waited * 1000)
  if not outbox.file:is_open() or waited == outbox.noted_wait then return end
  local ok = outbox.spool:query(schema.count, outbox.file_number, schema.waited_for_markers, waited)
  if ok then outbox.noted_wait = waited end
  local seen = outbox.confirm.seen -- by which a later process knows whether there is a new one
  if math.type(seen) == "integer" then
    outbox.spool:query(schema.count, outbox.file_number, schema.marker_seen, seen)
  end
end

--- Notes what is in doubt, and how far its trials have come: processes may end before they are a proof.
-- @tparam table outbox
function saved.note_doubts(outbox)
  if not outbox.file:is_open() or not outbox.doubts.changed then return end
  local list = outbox.doubts:list()
  local count = math.min(#list, MOST_DOUBTS)
  local ok = outbox.spool:query(schema.forget_doubts, outbox.file_number) ~= nil
  for first = 1, count, DOUBTS_AT_ONCE do
    ok = ok and outbox.file:transaction(function()
      local done = true
      for i = first, math.min(first + DOUBTS_AT_ONCE - 1, count) do
        local entry = list[i]
        done = done and outbox.spool:query(schema.note_doubt, outbox.file_number, entry.id, entry.points, entry.bytes,
          entry.counted, entry.disturbed and 1 or 0, math.ceil(entry.wait * 1000), math.ceil(entry.at * 1000))
      end
      return done
    end)
  end
  outbox.doubts.changed = not ok
end

return saved
