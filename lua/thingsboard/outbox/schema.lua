--- Every SQL statement that Lua runs on the file of an outbox. The tables, and the statements that are run for each
-- record, are in `csrc/spool/sqlite.c`.
-- @module thingsboard.outbox.schema
return {
  begin = "BEGIN",
  commit = "COMMIT",
  rollback = "ROLLBACK",

  -- `counters` holds a number by device and cause: how many records were lost for that cause, or one of these times.
  -- Device 0 stands for the file.
  counters = "SELECT cause, count FROM counters WHERE device = ?",
  count = "INSERT OR REPLACE INTO counters VALUES (?, CAST(? AS TEXT), ?)",
  last_known_time = "last known time",
  times_taken = "SELECT count FROM counters WHERE device = 0 AND cause = 'times taken'",
  take_times = "INSERT OR REPLACE INTO counters VALUES (0, 'times taken', ?)",

  -- `attributes` holds those that the server does not have yet: the JSON text of the key and of its last value.
  attributes = "SELECT key, value FROM attributes WHERE device = ?",
  keep_attribute = "INSERT OR REPLACE INTO attributes VALUES (?, ?, ?)",
  forget_attribute = "DELETE FROM attributes WHERE device = ? AND key = ?",

  -- `rejected` holds what was set aside.
  rejected = "SELECT body, reason, at FROM rejected WHERE device = ? ORDER BY id",
  reject = "INSERT INTO rejected (device, body, reason, at) VALUES (?, ?, ?, ?)",
  forget_rejected = "DELETE FROM rejected WHERE device = ? AND id <= (SELECT max(id) FROM rejected) - ?",

  -- `runs` holds the records. `ts` is a time since the start of the system that `boot` names, or where that is NULL a
  -- time since 1970. The id of a run begins with the number of its device.
  is_undated = "SELECT 1 FROM runs WHERE boot = ? LIMIT 1",
  latest_time = "SELECT max(at) FROM (SELECT max(ts) AS at FROM runs WHERE boot IS NULL UNION ALL "
    .. "SELECT max(count) FROM counters WHERE cause = 'last known time')",
  boots_before = "SELECT boot, min(ts), max(ts) FROM runs WHERE boot <> ? GROUP BY boot ORDER BY boot",
  count_undated = "INSERT INTO counters SELECT id / ?, 'undated', sum(count) FROM runs WHERE boot = ? "
    .. "GROUP BY 1 ON CONFLICT (device, cause) DO UPDATE SET count = count + excluded.count",
  date_boot = "UPDATE runs SET ts = ts + ?, boot = NULL WHERE boot = ?",
}
