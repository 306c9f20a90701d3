--- Every SQL statement that Lua runs on the file of an outbox. The tables, and the statements that are run for each
-- record, are in `csrc/spool/schema.c`.
-- @module thingsboard.outbox.schema
local LAST_KNOWN_TIME <const> = "last known time"

return {
  begin = "BEGIN",
  commit = "COMMIT",
  rollback = "ROLLBACK",

  -- `counters` holds a number by device and cause: how many records were lost for that cause, or one of these times.
  -- Device 0 stands for the file.
  counters = "SELECT cause, count FROM counters WHERE device = ?",
  undated = "SELECT count FROM counters WHERE device = ? AND cause = 'undated'",
  count = "INSERT OR REPLACE INTO counters VALUES (?, CAST(? AS TEXT), ?)",
  last_known_time = LAST_KNOWN_TIME,
  waited_for_markers = "milliseconds waited for markers",
  marker_seen = "marker that was seen last",
  times_taken = "SELECT count FROM counters WHERE device = 0 AND cause = 'times taken'",
  take_times = "INSERT OR REPLACE INTO counters VALUES (0, 'times taken', ?)",

  -- `attributes` holds those that the server does not have yet: the JSON text of the key and of its last value.
  attributes = "SELECT key, value FROM attributes WHERE device = ?",
  keep_attribute = "INSERT OR REPLACE INTO attributes VALUES (?, ?, ?)",
  forget_attribute = "DELETE FROM attributes WHERE device = ? AND key = ?",

  -- `rejected` holds what was set aside.
  rejected = "SELECT body, reason, at FROM rejected WHERE device = ? ORDER BY id",
  reject = "INSERT INTO rejected (device, body, reason, at) VALUES (?, ?, ?, ?)",
  is_rejected = "SELECT 1 FROM rejected LIMIT 1",
  forget_oldest_rejected = "DELETE FROM rejected WHERE id IN (SELECT id FROM rejected ORDER BY id LIMIT 10)",
  forget_rejected = "DELETE FROM rejected WHERE device = ? AND id <= (SELECT max(id) FROM rejected) - ?",

  -- `doubts` holds what was refused alone: how large it is, and how far its trials have come.
  doubts = "SELECT id, points, bytes, counted, disturbed, wait, due FROM doubts WHERE device = ?",
  forget_doubts = "DELETE FROM doubts WHERE device = ?",
  forget_doubt = "DELETE FROM doubts WHERE device = ? AND id = ?",
  note_doubt = "INSERT INTO doubts VALUES (?, ?, ?, ?, ?, ?, ?, ?)",

  -- `runs` holds the records. `ts` is a time since 1970; where `period` names one in which nobody knew the time, it is
  -- an uptime, to which that one's `offset` is added once it is known. The id of a run begins with the number of its
  -- device.
  noted_offset = "SELECT offset FROM periods WHERE boot = CAST(? AS TEXT) AND offset IS NOT NULL "
    .. "ORDER BY number DESC LIMIT 1",
  note_offset = "INSERT INTO periods (boot, offset) VALUES (CAST(? AS TEXT), ?)",
  undated_now = "SELECT number FROM periods WHERE boot = CAST(? AS TEXT) AND offset IS NULL",
  periods_before = "SELECT number FROM periods WHERE boot <> CAST(? AS TEXT)",
  forget_periods = "DELETE FROM periods WHERE boot <> CAST(? AS TEXT) "
    .. "AND number NOT IN (SELECT period FROM runs WHERE period IS NOT NULL)",
  latest_known = "SELECT max(count) FROM counters WHERE cause = '" .. LAST_KNOWN_TIME .. "'",
  undated_before = "SELECT number FROM periods WHERE offset IS NULL AND boot <> CAST(? AS TEXT) ORDER BY number",
  count_undated = "INSERT INTO counters SELECT id / ?, 'undated', sum(count) FROM runs WHERE period = ? "
    .. "GROUP BY 1 ON CONFLICT (device, cause) DO UPDATE SET count = count + excluded.count",
  date_period = "UPDATE periods SET offset = ? WHERE number = ?",
}
