#include "spool/schema.h"

const char *const TB_MIGRATIONS[TB_SCHEMA_VERSION] = {
    /* runs: a row is a run (see run.h). Its id is its device's number times TB_NUMBERS, and the number of its first
     * record, so that a device's records are one range. `ts` is the first record's time; where `boot` is set, it is the
     * uptime in that boot. rejected: what the server has refused. counters: what was lost, by cause. */
    "CREATE TABLE devices (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);"
    "CREATE TABLE shapes (number INTEGER PRIMARY KEY, keys BLOB NOT NULL UNIQUE);"
    "CREATE TABLE boots (number INTEGER PRIMARY KEY, boot TEXT NOT NULL UNIQUE);"
    "CREATE TABLE runs (id INTEGER PRIMARY KEY, ts INTEGER NOT NULL, boot INTEGER, shape INTEGER NOT NULL,"
    "  count INTEGER NOT NULL, data BLOB NOT NULL);"
    "CREATE TABLE attributes (device INTEGER, key BLOB, value BLOB NOT NULL, PRIMARY KEY (device, key)) WITHOUT ROWID;"
    "CREATE TABLE rejected (id INTEGER PRIMARY KEY, device INTEGER NOT NULL, body BLOB NOT NULL, reason TEXT NOT NULL,"
    "  at INTEGER);"
    "CREATE TABLE counters (device INTEGER, cause TEXT, count INTEGER NOT NULL, PRIMARY KEY (device, cause))"
    "  WITHOUT ROWID;"
    "PRAGMA application_id = 1952608120;"
    "PRAGMA user_version = 1;",

    /* periods: times in which the clock was not known, in a boot, which is the kernel's id of it. Once `offset` is
     * known, it turns their uptimes into times since 1970: to date records takes one row, however many there are. */
    "CREATE TABLE periods (number INTEGER PRIMARY KEY, boot TEXT NOT NULL, offset INTEGER);"
    "INSERT INTO periods (number, boot) SELECT number, boot FROM boots;"
    "DROP TABLE boots;"
    "ALTER TABLE runs RENAME COLUMN boot TO period;"
    "PRAGMA user_version = 2;",

    /* doubts: what the server has refused alone, and is tried again; `id` is the number of a record, or the key of an
     * attribute. `wait` and `due` are milliseconds; `due` is an uptime. */
    "CREATE TABLE doubts (device INTEGER, id, points INTEGER NOT NULL, bytes INTEGER NOT NULL,"
    "  counted INTEGER NOT NULL, disturbed INTEGER NOT NULL, wait INTEGER NOT NULL, due INTEGER NOT NULL,"
    "  PRIMARY KEY (device, id)) WITHOUT ROWID;"
    "PRAGMA user_version = 3;",
};

/* A commit is on the disk when it returns. What is removed is not overwritten, which would take room. How long the log
 * gets: see room.h. */
const char TB_SETTINGS[] = "PRAGMA locking_mode = EXCLUSIVE;"
                           "PRAGMA journal_mode = WAL;"
                           "PRAGMA synchronous = FULL;"
                           "PRAGMA secure_delete = OFF;"
                           "PRAGMA cache_size = -256;"
                           "PRAGMA temp_store = MEMORY;";

/* The period is 0 or NULL for what is dated. */
#define ROWS                                                                                                           \
  "SELECT id, ts + coalesce(offset, 0), CASE WHEN offset IS NULL THEN period END, shape, count, data FROM runs"        \
  " LEFT JOIN periods ON number = period WHERE id BETWEEN ? AND ?"

const char *const TB_SQL[TB_STATEMENTS] = {
    [TB_INSERT] = "INSERT INTO runs (id, ts, period, shape, count, data) VALUES (?, ?, ?, ?, ?, ?)",
    [TB_JOIN] = "UPDATE runs SET count = count + ?, data = CAST(data || ? AS BLOB) WHERE id = ?",
    [TB_SELECT] = (ROWS " ORDER BY id"),
    [TB_FIND] = (ROWS " ORDER BY id DESC LIMIT 1"),
    [TB_SUM] =
        "SELECT coalesce(sum(count), 0), coalesce(sum(length(data)), 0), count(*) FROM runs WHERE id BETWEEN ? AND ?",
    [TB_SIZES] = "SELECT id, count, length(data) FROM runs WHERE id BETWEEN ? AND ? ORDER BY id",
    [TB_DELETE] = "DELETE FROM runs WHERE id BETWEEN ? AND ?",
    [TB_NOTE_LAST] = "INSERT OR REPLACE INTO counters VALUES (?, 'last known time', ?)",
    [TB_SHAPE_OF] = "SELECT number FROM shapes WHERE keys = ?",
    [TB_KEYS_OF] = "SELECT keys FROM shapes WHERE number = ?",
    [TB_ADD_SHAPE] = "INSERT INTO shapes (keys) VALUES (?)",
    [TB_UNUSED_SHAPES] = "SELECT number FROM shapes WHERE number NOT IN (SELECT shape FROM runs) LIMIT ?",
    [TB_DELETE_SHAPE] = "DELETE FROM shapes WHERE number = ?",
    [TB_DATE] = "UPDATE periods SET offset = ? WHERE boot = ? AND offset IS NULL",
    [TB_PAGE_COUNT] = "PRAGMA page_count",
    [TB_FREE_PAGES] = "PRAGMA freelist_count",
    /* Savepoints, not transactions: a caller may put a transaction around them. */
    [TB_BEGIN] = "SAVEPOINT step",
    [TB_COMMIT] = "RELEASE step",
    [TB_ROLLBACK] = "ROLLBACK TO step",
};

const char TB_DEVICE_OF[] = "SELECT number FROM devices WHERE name = ?";
const char TB_ADD_DEVICE[] = "INSERT INTO devices (name) VALUES (?)";
const char TB_PERIOD_OF[] = "SELECT number FROM periods WHERE boot = ? AND offset IS NULL";
const char TB_ADD_PERIOD[] = "INSERT INTO periods (boot) VALUES (?)";
