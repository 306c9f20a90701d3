/*** The outbox's store: records that wait for the server, on disk and in memory. It knows nothing of sending.
@module thingsboard.spool

A binding of our own, not one of those that there are: a record is packed into a run (see run.h) before it is a row, and
a batch is put together from rows, both without a Lua string for every record.

What is put waits in memory, as runs, until `sync` writes it in one transaction: at once, or when the script's time for
it has come. When the disk fails, it goes on waiting there. Each device's records are numbered; a row's id is the
device's number above, and the number of the run's first record below, so that a device's records are one range. */
#include "body.h"
#include "fork.h"
#include "json.h"
#include "run.h"
#include "times.h"
#include "type.h"

#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <lua.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char TYPE[] = "thingsboard.spool";

/* gcc's analyzer loses sight of what hangs in a list, and takes it for lost. */
#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 10
#pragma GCC diagnostic ignored "-Wanalyzer-malloc-leak"
#endif

/* Beside a run's data: what a row costs. And the data up to which a row on disk takes more records: four fill a page.
 */
enum {
  ROW_BYTES = 24,
  MOST_JOINED_BYTES = 900,
  MOST_IN_RUN = 256,
  MOST_RUN_BYTES = 16 * 1024,
  NUMBER_BITS = 40,
  SCHEMA = 1
};
enum { MOST_RECORD = 64 * 1024 * 1024, APPLICATION = 0x74626f78 /* "tbox" */ };

enum {
  INSERT,
  JOIN,
  SELECT,
  FIND,
  CUT,
  SUM,
  DELETE,
  SHAPE_OF,
  KEYS_OF,
  ADD_SHAPE,
  DATE,
  BEGIN,
  COMMIT,
  ROLLBACK,
  STATEMENTS
};

static const char *const SQL[STATEMENTS] = {
    [INSERT] = "INSERT INTO runs (id, ts, boot, shape, count, data) VALUES (?, ?, ?, ?, ?, ?)",
    [JOIN] = "UPDATE runs SET count = count + ?, data = CAST(data || ? AS BLOB) WHERE id = ?",
    [SELECT] = "SELECT id, ts, boot, shape, count, data FROM runs WHERE id BETWEEN ? AND ? ORDER BY id",
    [FIND] = "SELECT id, ts, boot, shape, count, data FROM runs WHERE id BETWEEN ? AND ? ORDER BY id DESC LIMIT 1",
    [CUT] = "UPDATE runs SET count = ?, data = ? WHERE id = ?",
    [SUM] =
        "SELECT coalesce(sum(count), 0), coalesce(sum(length(data)), 0), count(*) FROM runs WHERE id BETWEEN ? AND ?",
    [DELETE] = "DELETE FROM runs WHERE id BETWEEN ? AND ?",
    [SHAPE_OF] = "SELECT number FROM shapes WHERE keys = ?",
    [KEYS_OF] = "SELECT keys FROM shapes WHERE number = ?",
    [ADD_SHAPE] = "INSERT INTO shapes (keys) VALUES (?)",
    [DATE] = "UPDATE runs SET ts = ts + ?, boot = NULL WHERE boot = ?",
    /* Savepoints, not transactions: what several calls do may be made one by a transaction around them. */
    [BEGIN] = "SAVEPOINT step",
    [COMMIT] = "RELEASE step",
    [ROLLBACK] = "ROLLBACK TO step",
};

static const char TABLES[] =
    "BEGIN IMMEDIATE;"
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
    "PRAGMA user_version = 1;"
    "COMMIT;";

/* The log is small, for the disks are; a commit is on the disk when it returns. */
static const char SETTINGS[] = "PRAGMA locking_mode = EXCLUSIVE;"
                               "PRAGMA journal_mode = WAL;"
                               "PRAGMA synchronous = FULL;"
                               "PRAGMA wal_autocheckpoint = 256;"
                               "PRAGMA journal_size_limit = 1048576;"
                               "PRAGMA cache_size = -256;"
                               "PRAGMA temp_store = MEMORY;";

struct pending {
  struct pending *next;
  struct tb_run run;
  size_t device;
  bool undated;  /* its time is that since the system's start */
  int64_t saved; /* bytes, by joining a row */
};

/* The row that was written last, which takes more records: what is put one by one lies as close as what is put in
 * groups. */
struct tail {
  int64_t first, count, last_ts, shape;
  size_t length; /* of its data; 0: there is no such row */
  bool undated;
};

struct device {
  char *name;
  int64_t number; /* in the file; 0 before it is there */
  int64_t next;   /* number of the next record */
  int64_t count, bytes;
  struct pending *last; /* where the next record may find room */
  struct tail tail;
};

struct spool {
  const char *type; /* TYPE */
  struct tb_times times;
  int64_t due; /* while the system is not up for so long, what is put may wait in memory */
  sqlite3 *db; /* NULL while it cannot be opened */
  sqlite3_stmt *statements[STATEMENTS];
  sqlite3_stmt *query; /* of the last `query`, when that was cut short by a Lua error */
  char *path;          /* NULL once closed */
  unsigned forks;      /* of the process that made it */
  int64_t boot;        /* this boot's number in the file */
  struct device *devices;
  size_t device_count;
  struct pending *first, *last;
  struct tb_buffer keys, values, body;
  /* The shape that was used last, in the file. */
  struct tb_buffer shape_keys;
  int64_t shape;
};

static struct spool *check_spool(lua_State *L) {
  struct spool *spool = tb_check(L, 1, TYPE, sizeof *spool);
  if (spool->path == NULL) luaL_error(L, "the outbox is closed");
  if (spool->forks != tb_forks()) luaL_error(L, "the outbox belongs to the parent process: make a new one after fork");
  return spool;
}

static struct device *check_device(lua_State *L, struct spool *spool, int index) {
  lua_Integer number = luaL_checkinteger(L, index);
  luaL_argcheck(L, number >= 1 && (lua_Unsigned)number <= spool->device_count, index, "no such device");
  return &spool->devices[number - 1];
}

static const char *code_name(int code) {
  switch (code & 0xFF) {
#define NAME(name)                                                                                                     \
  case SQLITE_##name:                                                                                                  \
    return #name;
    NAME(BUSY)
    NAME(LOCKED)
    NAME(FULL)
    NAME(READONLY)
    NAME(IOERR)
    NAME(CORRUPT)
    NAME(NOTADB)
    NAME(CANTOPEN)
    NAME(NOMEM)
    NAME(PERM)
    NAME(AUTH)
    NAME(MISUSE)
#undef NAME
  default:
    return "ERROR";
  }
}

/* Pushes nil, what went wrong, and the code's name. */
static int failure(lua_State *L, const struct spool *spool, int code) {
  const char *text =
      spool->db != NULL && sqlite3_errcode(spool->db) == code ? sqlite3_errmsg(spool->db) : sqlite3_errstr(code);
  lua_pushnil(L);
  if ((code & 0xFF) == SQLITE_BUSY)
    lua_pushfstring(L, "%s: another process has this outbox open", spool->path);
  else
    lua_pushfstring(L, "%s: %s", spool->path, text);
  lua_pushstring(L, code_name(code));
  return 3;
}

/* Runs a statement that gives no row. */
static int run_statement(struct spool *spool, int which) {
  int code = sqlite3_step(spool->statements[which]);
  sqlite3_reset(spool->statements[which]);
  return code == SQLITE_DONE ? SQLITE_OK : code;
}

static int begin(struct spool *spool) {
  return run_statement(spool, BEGIN);
}

/* Ends what `begin` began, well or not. Where SQLite has rolled back already the rest fails, which is no matter. */
static int finish(struct spool *spool, int code) {
  if (code == SQLITE_OK) code = run_statement(spool, COMMIT);
  if (code == SQLITE_OK) return code;
  run_statement(spool, ROLLBACK);
  run_statement(spool, COMMIT);
  spool->shape = 0; /* it may be gone with the rest */
  return code;
}

static void forget_tails(struct spool *spool) {
  for (size_t i = 0; i < spool->device_count; i++) spool->devices[i].tail.length = 0;
}

static void end_query(struct spool *spool) {
  sqlite3_finalize(spool->query);
  spool->query = NULL;
}

/* Closes the file. What waits in memory stays, as all that there is. */
static void close_database(struct spool *spool) {
  end_query(spool);
  for (size_t i = 0; i < STATEMENTS; i++) {
    sqlite3_finalize(spool->statements[i]);
    spool->statements[i] = NULL;
  }
  sqlite3_close(spool->db);
  spool->db = NULL;
  spool->shape = 0;
  forget_tails(spool);
  for (size_t i = 0; i < spool->device_count; i++) {
    struct device *device = &spool->devices[i];
    device->number = device->next = device->count = device->bytes = 0;
  }
  for (struct pending *p = spool->first; p != NULL; p = p->next) {
    struct device *device = &spool->devices[p->device];
    p->run.first = device->next;
    device->next += p->run.count;
    device->count += p->run.count;
    device->bytes += (int64_t)p->run.data.length + ROW_BYTES;
  }
}

static int64_t id_of(const struct device *device, int64_t number) {
  return (device->number << NUMBER_BITS) + number;
}

static int64_t most(int64_t a, int64_t b) {
  return a > b ? a : b;
}

/* Ids of the rows that may hold records from `first` to `last`. */
static void bind_range(const struct device *device, sqlite3_stmt *statement, int64_t first, int64_t last) {
  sqlite3_bind_int64(statement, 1, id_of(device, most(0, first)));
  sqlite3_bind_int64(statement, 2, id_of(device, last));
}

/* Reads one number of the first row of a statement that has been bound; `otherwise` when there is no row. */
static int read_number(sqlite3_stmt *statement, int64_t otherwise, int64_t *number) {
  int code = sqlite3_step(statement);
  *number = code == SQLITE_ROW ? sqlite3_column_int64(statement, 0) : otherwise;
  return code == SQLITE_ROW || code == SQLITE_DONE ? SQLITE_OK : code;
}

/* The number that a text has in a table of texts; made when it has none. */
static int number_of(struct spool *spool, const char *find, const char *add, const char *text, int64_t *number) {
  sqlite3_stmt *statement = NULL;
  int code = sqlite3_prepare_v2(spool->db, find, -1, &statement, NULL);
  if (code == SQLITE_OK) code = sqlite3_bind_text(statement, 1, text, -1, SQLITE_STATIC);
  if (code == SQLITE_OK) code = read_number(statement, 0, number);
  sqlite3_finalize(statement);
  if (code != SQLITE_OK || *number != 0) return code;
  code = sqlite3_prepare_v2(spool->db, add, -1, &statement, NULL);
  if (code == SQLITE_OK) code = sqlite3_bind_text(statement, 1, text, -1, SQLITE_STATIC);
  if (code == SQLITE_OK) code = sqlite3_step(statement) == SQLITE_DONE ? SQLITE_OK : sqlite3_errcode(spool->db);
  sqlite3_finalize(statement);
  *number = sqlite3_last_insert_rowid(spool->db);
  return code;
}

/* Finds a device in the file: its number and what waits there. What waits in memory already comes behind that. */
static int meet_device(struct spool *spool, size_t index) {
  struct device *device = &spool->devices[index];
  int64_t number = 0, next = 0;
  int code = number_of(spool, "SELECT number FROM devices WHERE name = ?", "INSERT INTO devices (name) VALUES (?)",
                       device->name, &number);
  if (code != SQLITE_OK) return code;
  struct device found = {.number = number};
  sqlite3_stmt *sum = spool->statements[SUM], *find = spool->statements[FIND];
  bind_range(&found, sum, 0, ((int64_t)1 << NUMBER_BITS) - 1);
  bind_range(&found, find, 0, ((int64_t)1 << NUMBER_BITS) - 1);
  code = sqlite3_step(sum);
  if (code == SQLITE_ROW) {
    found.count = sqlite3_column_int64(sum, 0);
    found.bytes = sqlite3_column_int64(sum, 1) + ROW_BYTES * sqlite3_column_int64(sum, 2);
    code = sqlite3_step(find);
    if (code == SQLITE_ROW) next = sqlite3_column_int64(find, 0) - id_of(&found, 0) + sqlite3_column_int64(find, 4);
  }
  sqlite3_reset(sum);
  sqlite3_reset(find);
  if (code != SQLITE_ROW && code != SQLITE_DONE) return code;
  for (struct pending *p = spool->first; p != NULL; p = p->next)
    if (p->device == index) p->run.first += next;
  device->number = number;
  device->next += next;
  device->count += found.count;
  device->bytes += found.bytes;
  return SQLITE_OK;
}

static int read_pragma(struct spool *spool, const char *sql, int64_t *value) {
  sqlite3_stmt *statement = NULL;
  int code = sqlite3_prepare_v2(spool->db, sql, -1, &statement, NULL);
  if (code == SQLITE_OK) code = read_number(statement, 0, value);
  sqlite3_finalize(statement);
  return code;
}

static void read_boot(char *id, size_t room) {
  int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
  ssize_t length = fd < 0 ? 0 : read(fd, id, room - 1);
  if (fd >= 0) close(fd);
  while (length > 0 && id[length - 1] == '\n') length--;
  id[length > 0 ? length : 0] = '\0';
}

static int open_database(struct spool *spool, const char **problem) {
  char boot[64];
  int64_t schema = 0, application = 0;
  int code =
      sqlite3_open_v2(spool->path, &spool->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);
  if (code == SQLITE_OK) code = sqlite3_exec(spool->db, SETTINGS, NULL, NULL, NULL);
  if (code == SQLITE_OK) code = read_pragma(spool, "PRAGMA user_version", &schema);
  if (code == SQLITE_OK) code = read_pragma(spool, "PRAGMA application_id", &application);
  if (code == SQLITE_OK && schema == 0 && application == 0) {
    code = sqlite3_exec(spool->db, TABLES, NULL, NULL, NULL);
  } else if (code == SQLITE_OK && application != APPLICATION) {
    *problem = "a database, but no outbox";
    return SQLITE_CANTOPEN;
  } else if (code == SQLITE_OK && schema > SCHEMA) {
    *problem = "an outbox of a newer release of this library";
    return SQLITE_CANTOPEN;
  }
  for (int i = 0; code == SQLITE_OK && i < STATEMENTS; i++)
    code = sqlite3_prepare_v3(spool->db, SQL[i], -1, SQLITE_PREPARE_PERSISTENT, &spool->statements[i], NULL);
  if (code != SQLITE_OK) return code;
  read_boot(boot, sizeof boot);
  code = number_of(spool, "SELECT number FROM boots WHERE boot = ?", "INSERT INTO boots (boot) VALUES (?)", boot,
                   &spool->boot);
  for (size_t i = 0; code == SQLITE_OK && i < spool->device_count; i++) code = meet_device(spool, i);
  return code;
}

/*** A store, which is not open yet.
@function spool
@tparam string path of its file
@treturn userdata */
static int spool_new(lua_State *L) {
  size_t length;
  const char *path = luaL_checklstring(L, 1, &length);
  luaL_argcheck(L, length > 0 && strlen(path) == length, 1, "not a file name");
  struct spool *spool = tb_new(L, TYPE, sizeof *spool, 0);
  spool->forks = tb_forks();
  tb_buffer_init(&spool->keys, MOST_RECORD);
  tb_buffer_init(&spool->values, MOST_RECORD);
  tb_buffer_init(&spool->shape_keys, MOST_RECORD);
  tb_buffer_init(&spool->body, SIZE_MAX / 2);
  spool->path = strdup(path);
  if (spool->path == NULL) return luaL_error(L, "not enough memory");
  return 1;
}

/*** Opens the file, or makes it. What has been put before comes behind what is there: numbers of records that were
told before this call mean nothing after it.
@function spool:open
@treturn[1] boolean true, also when it is open
@treturn[2] nil
@treturn[2] string what is wrong
@treturn[2] string SQLite's name of the error: `BUSY` when another process has it, `CORRUPT` or `NOTADB` when it is
damaged */
static int spool_open(lua_State *L) {
  struct spool *spool = check_spool(L);
  const char *problem = NULL;
  int code = spool->db != NULL ? SQLITE_OK : open_database(spool, &problem);
  if (code == SQLITE_OK) {
    lua_pushboolean(L, 1);
    return 1;
  }
  int results = failure(L, spool, code);
  if (problem != NULL) {
    lua_pushfstring(L, "%s: %s", spool->path, problem);
    lua_replace(L, -3);
  }
  close_database(spool);
  return results;
}

/*** Closes the file, to be opened again or set aside. What waits in memory stays.
@function spool:shut */
static int spool_shut(lua_State *L) {
  close_database(check_spool(L));
  return 0;
}

/*** A device whose records are kept here.
@function spool:device
@tparam string name
@treturn[1] integer how the other methods know it
@treturn[2] nil
@treturn[2] string what is wrong
@treturn[2] string SQLite's name of the error */
static int spool_device(lua_State *L) {
  struct spool *spool = check_spool(L);
  const char *name = luaL_checkstring(L, 2);
  for (size_t i = 0; i < spool->device_count; i++) {
    if (strcmp(spool->devices[i].name, name) != 0) continue;
    lua_pushinteger(L, (lua_Integer)i + 1);
    return 1;
  }
  struct device *devices = realloc(spool->devices, (spool->device_count + 1) * sizeof *devices);
  if (devices == NULL) return luaL_error(L, "not enough memory");
  spool->devices = devices;
  devices[spool->device_count] = (struct device){.name = strdup(name)};
  if (devices[spool->device_count].name == NULL) return luaL_error(L, "not enough memory");
  int code = spool->db == NULL ? SQLITE_OK : meet_device(spool, spool->device_count);
  if (code != SQLITE_OK) {
    free(devices[spool->device_count].name);
    return failure(L, spool, code);
  }
  lua_pushinteger(L, (lua_Integer)++spool->device_count);
  return 1;
}

static bool same(const struct tb_buffer *a, const struct tb_buffer *b) {
  return a->length == b->length && (a->length == 0 || memcmp(a->data, b->data, a->length) == 0);
}

static struct pending *new_pending(size_t device, bool undated, const struct tb_buffer *keys) {
  struct pending *p = malloc(sizeof *p);
  if (p == NULL) return NULL;
  *p = (struct pending){.device = device, .undated = undated};
  tb_run_init(&p->run, MOST_RECORD);
  if (!tb_buffer_append(&p->run.keys, keys->data, keys->length)) {
    free(p);
    return NULL;
  }
  return p;
}

static void free_pending(struct pending *p) {
  tb_run_free(&p->run);
  free(p);
}

/* The number of the shape with these keys, in the file. */
static int find_shape(struct spool *spool, const struct tb_buffer *keys, int64_t *number) {
  if (spool->shape != 0 && same(&spool->shape_keys, keys)) {
    *number = spool->shape;
    return SQLITE_OK;
  }
  sqlite3_stmt *find = spool->statements[SHAPE_OF], *add = spool->statements[ADD_SHAPE];
  sqlite3_bind_blob64(find, 1, keys->data, keys->length, SQLITE_STATIC);
  int code = read_number(find, 0, number);
  sqlite3_reset(find);
  if (code == SQLITE_OK && *number == 0) {
    sqlite3_bind_blob64(add, 1, keys->data, keys->length, SQLITE_STATIC);
    code = run_statement(spool, ADD_SHAPE);
    *number = sqlite3_last_insert_rowid(spool->db);
  }
  spool->shape = 0;
  spool->shape_keys.length = 0;
  if (code == SQLITE_OK && tb_buffer_append(&spool->shape_keys, keys->data, keys->length)) spool->shape = *number;
  return code;
}

static int insert(struct spool *spool, int64_t id, const struct tb_run *run, int64_t boot, int64_t shape) {
  sqlite3_stmt *statement = spool->statements[INSERT];
  sqlite3_bind_int64(statement, 1, id);
  sqlite3_bind_int64(statement, 2, run->ts);
  if (boot != 0)
    sqlite3_bind_int64(statement, 3, boot);
  else
    sqlite3_bind_null(statement, 3);
  sqlite3_bind_int64(statement, 4, shape);
  sqlite3_bind_int64(statement, 5, run->count);
  int code = sqlite3_bind_blob64(statement, 6, run->data.data, run->data.length, SQLITE_STATIC);
  return code == SQLITE_OK ? run_statement(spool, INSERT) : code;
}

static bool joins(const struct tail *tail, const struct pending *p, int64_t shape) {
  return tail->length > 0 && tail->first + tail->count == p->run.first && tail->shape == shape &&
         tail->undated == p->undated && tail->length + p->run.data.length <= MOST_JOINED_BYTES &&
         tail->count + p->run.count <= MOST_IN_RUN;
}

static int join(struct spool *spool, struct device *device, struct pending *p) {
  struct tail *tail = &device->tail;
  struct tb_buffer *data = &spool->body;
  sqlite3_stmt *statement = spool->statements[JOIN];
  data->length = 0;
  if (!tb_run_join(&p->run, tail->last_ts, data)) return SQLITE_NOMEM;
  sqlite3_bind_int64(statement, 1, p->run.count);
  sqlite3_bind_blob64(statement, 2, data->data, data->length, SQLITE_STATIC);
  sqlite3_bind_int64(statement, 3, id_of(device, tail->first));
  int code = run_statement(spool, JOIN);
  tail->count += p->run.count;
  tail->length += data->length;
  tail->last_ts = p->run.last_ts;
  p->saved = (int64_t)p->run.data.length + ROW_BYTES - (int64_t)data->length;
  return code;
}

static int write_pending(struct spool *spool, struct pending *p) {
  struct device *device = &spool->devices[p->device];
  int64_t shape;
  int code = find_shape(spool, &p->run.keys, &shape);
  if (code != SQLITE_OK) return code;
  if (joins(&device->tail, p, shape)) return join(spool, device, p);
  p->saved = 0;
  device->tail = (struct tail){p->run.first, p->run.count, p->run.last_ts, shape, p->run.data.length, p->undated};
  return insert(spool, id_of(device, p->run.first), &p->run, p->undated ? spool->boot : 0, shape);
}

static int sync_pending(struct spool *spool) {
  if (spool->first == NULL) return SQLITE_OK;
  if (spool->db == NULL) return SQLITE_CANTOPEN;
  int code = begin(spool);
  if (code != SQLITE_OK) return code;
  for (struct pending *p = spool->first; code == SQLITE_OK && p != NULL; p = p->next) code = write_pending(spool, p);
  code = finish(spool, code);
  if (code != SQLITE_OK) {
    forget_tails(spool);
    return code;
  }
  while (spool->first != NULL) {
    struct pending *p = spool->first;
    spool->first = p->next;
    spool->devices[p->device].last = NULL;
    spool->devices[p->device].bytes -= p->saved;
    free_pending(p);
  }
  spool->last = NULL;
  return SQLITE_OK;
}

/* Where the log cannot grow, what is in it may still find room in the file, and it begins anew. */
static bool makes_room(struct spool *spool, int code) {
  return ((code & 0xFF) == SQLITE_FULL || (code & 0xFF) == SQLITE_IOERR) && spool->db != NULL &&
         sqlite3_wal_checkpoint_v2(spool->db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL) == SQLITE_OK;
}

/*** Writes what waits in memory to the disk, all of it or nothing.
@function spool:sync
@treturn[1] boolean true: it is there, whatever happens
@treturn[2] nil
@treturn[2] string what is wrong
@treturn[2] string SQLite's name of the error */
static int spool_sync(lua_State *L) {
  struct spool *spool = check_spool(L);
  spool->due = 0;
  int code = sync_pending(spool);
  if (makes_room(spool, code)) code = sync_pending(spool);
  if (code != SQLITE_OK) return failure(L, spool, code);
  lua_pushboolean(L, 1);
  return 1;
}

/* A row, as a run that is read only: its buffers are SQLite's. The keys are left out. */
static struct tb_run row(const struct device *device, sqlite3_stmt *statement) {
  struct tb_run run;
  tb_run_init(&run, MOST_RECORD);
  run.first = sqlite3_column_int64(statement, 0) - id_of(device, 0);
  run.ts = sqlite3_column_int64(statement, 1);
  run.count = sqlite3_column_int64(statement, 4);
  const void *blob = sqlite3_column_blob(statement, 5);
  memcpy(&run.data.data, &blob, sizeof blob); /* read only, by this function's word */
  run.data.length = (size_t)sqlite3_column_bytes(statement, 5);
  return run;
}

/* Sets the keys of a run to those of a shape. */
static int load_keys(struct spool *spool, int64_t shape, struct tb_run *run) {
  int code = SQLITE_OK;
  if (spool->shape != shape) {
    sqlite3_stmt *find = spool->statements[KEYS_OF];
    sqlite3_bind_int64(find, 1, shape);
    code = sqlite3_step(find);
    spool->shape = 0;
    spool->shape_keys.length = 0;
    if (code == SQLITE_ROW) {
      const void *keys = sqlite3_column_blob(find, 0);
      bool kept = tb_buffer_append(&spool->shape_keys, keys, (size_t)sqlite3_column_bytes(find, 0));
      code = kept ? SQLITE_OK : SQLITE_NOMEM;
      if (kept) spool->shape = shape;
    } else if (code == SQLITE_DONE) {
      code = SQLITE_CORRUPT;
    }
    sqlite3_reset(find);
  }
  run->keys = spool->shape_keys; /* read only, too */
  return code;
}

struct batch {
  int64_t wanted, last; /* records from the one to the other */
  int64_t max_records, max_points;
  size_t max_bytes;
  int64_t first_taken, last_taken, records, points;
  bool full;
  int code; /* why it is full, when it is no good */
};

/* Adds a run's records to the body, as far as there is room. At least one record goes, however large. */
static void add_run(struct spool *spool, struct batch *batch, const struct tb_run *run) {
  struct tb_record record = {0};
  int64_t keys = tb_run_keys(run);
  for (int64_t number = run->first; number < run->first + run->count && !batch->full; number++) {
    if (!tb_run_next(run, &record)) {
      batch->full = true;
      batch->code = SQLITE_CORRUPT;
      return;
    }
    if (number < batch->wanted) continue;
    size_t before = spool->body.length;
    bool first = batch->records == 0;
    if (number > batch->last ||
        (!first && (batch->records >= batch->max_records || keys > batch->max_points - batch->points))) {
      batch->full = true;
    } else if (!tb_buffer_append(&spool->body, first ? "[" : ",", 1) || !tb_run_write(run, &record, &spool->body)) {
      batch->full = true;
      batch->code = SQLITE_NOMEM;
    } else if (!first && spool->body.length >= batch->max_bytes) {
      spool->body.length = before;
      batch->full = true;
    } else {
      if (first) batch->first_taken = number;
      batch->last_taken = number;
      batch->records++;
      batch->points += keys;
    }
  }
}

/* Undated records cannot be sent: those before the batch are passed over, those behind it end it. */
static bool passed_over(struct batch *batch, bool undated) {
  if (undated && batch->records > 0) batch->full = true;
  return undated;
}

static int read_batch(struct spool *spool, size_t index, struct batch *batch) {
  const struct device *device = &spool->devices[index];
  int code = SQLITE_DONE;
  if (spool->db != NULL) {
    sqlite3_stmt *statement = spool->statements[SELECT];
    bind_range(device, statement, batch->wanted - MOST_IN_RUN + 1, batch->last);
    while (!batch->full && (code = sqlite3_step(statement)) == SQLITE_ROW) {
      struct tb_run run = row(device, statement);
      if (passed_over(batch, sqlite3_column_type(statement, 2) != SQLITE_NULL)) continue;
      int loaded = load_keys(spool, sqlite3_column_int64(statement, 3), &run);
      if (loaded != SQLITE_OK) {
        code = loaded;
        break;
      }
      add_run(spool, batch, &run);
    }
    sqlite3_reset(statement);
    if (code != SQLITE_DONE && code != SQLITE_ROW) return code;
  }
  for (struct pending *p = spool->first; p != NULL && !batch->full; p = p->next)
    if (p->device == index && !passed_over(batch, p->undated)) add_run(spool, batch, &p->run);
  return batch->code;
}

/*** Puts a batch together, oldest record first, without taking anything away.
@function spool:batch
@tparam integer device
@tparam integer first number of the first record that may be in it
@tparam integer last and of the last
@tparam integer max_bytes
@tparam integer max_records
@tparam integer max_points keys of all records together; one record goes whatever the bounds
@tparam thingsboard.body body for the JSON, in place of what it holds
@treturn[1] thingsboard.body the same
@treturn[1] integer the first record's number
@treturn[1] integer the last one's
@treturn[1] integer how many records
@treturn[1] integer how many points
@treturn[2] boolean false: there is none
@treturn[3] nil
@treturn[3] string what is wrong
@treturn[3] string SQLite's name of the error */
static int spool_batch(lua_State *L) {
  struct spool *spool = check_spool(L);
  const struct device *device = check_device(L, spool, 2);
  struct batch batch = {.wanted = luaL_checkinteger(L, 3),
                        .last = luaL_checkinteger(L, 4),
                        .max_bytes = (size_t)luaL_checkinteger(L, 5),
                        .max_records = luaL_checkinteger(L, 6),
                        .max_points = luaL_checkinteger(L, 7)};
  struct tb_body *body = luaL_checkudata(L, 8, TB_BODY);
  luaL_argcheck(L, body->open, 8, "the body was closed");
  if (batch.last >= device->next) batch.last = device->next - 1;
  spool->body.length = 0;
  int code = read_batch(spool, (size_t)(device - spool->devices), &batch);
  if (code != SQLITE_OK) return failure(L, spool, code);
  if (batch.records == 0) {
    lua_pushboolean(L, 0);
    return 1;
  }
  if (!tb_buffer_append(&spool->body, "]", 1)) return failure(L, spool, SQLITE_NOMEM);
  tb_buffer_free(&body->buffer);
  body->buffer = spool->body;
  tb_buffer_init(&spool->body, spool->body.limit);
  lua_pushvalue(L, 8);
  lua_pushinteger(L, batch.first_taken);
  lua_pushinteger(L, batch.last_taken);
  lua_pushinteger(L, batch.records);
  lua_pushinteger(L, batch.points);
  return 5;
}

/* A copy of the row that holds a record, if there is one: `run.count` is 0 otherwise. */
struct copy {
  struct tb_run run;
  int64_t boot, shape;
};

static int copy_row(struct spool *spool, const struct device *device, int64_t number, struct copy *copy) {
  sqlite3_stmt *statement = spool->statements[FIND];
  tb_run_init(&copy->run, MOST_RECORD);
  bind_range(device, statement, number - MOST_IN_RUN + 1, number);
  int code = sqlite3_step(statement);
  if (code == SQLITE_ROW) {
    struct tb_run found = row(device, statement);
    code = SQLITE_DONE;
    if (found.first + found.count > number) {
      struct tb_buffer data = copy->run.data, keys = copy->run.keys;
      if (!tb_buffer_append(&data, found.data.data, found.data.length)) code = SQLITE_NOMEM;
      copy->run = found;
      copy->run.data = data;
      copy->run.keys = keys;
      copy->boot = sqlite3_column_int64(statement, 2); /* 0 for NULL */
      copy->shape = sqlite3_column_int64(statement, 3);
    }
  }
  sqlite3_reset(statement);
  return code == SQLITE_DONE ? SQLITE_OK : code;
}

/* Of the run that holds `last`, what comes behind it becomes a row of its own; inserted when the others are gone. */
static int keep_tail(struct spool *spool, struct device *device, struct copy *copy, int64_t last) {
  int64_t end = copy->run.first + copy->run.count;
  if (copy->run.count == 0 || end <= last + 1) return SQLITE_OK;
  if (!tb_run_cut(&copy->run, last + 1, end - last - 1)) return SQLITE_CORRUPT;
  device->count += copy->run.count;
  device->bytes += (int64_t)copy->run.data.length + ROW_BYTES;
  return insert(spool, id_of(device, last + 1), &copy->run, copy->boot, copy->shape);
}

/* Of the run that holds `first`, what comes before it stays where it is. */
static int keep_head(struct spool *spool, struct device *device, struct copy *copy, int64_t first) {
  if (copy->run.count == 0 || copy->run.first >= first) return SQLITE_OK;
  int64_t count = copy->run.count;
  size_t length = copy->run.data.length;
  if (!tb_run_cut(&copy->run, copy->run.first, first - copy->run.first)) return SQLITE_CORRUPT;
  device->count -= count - copy->run.count;
  device->bytes -= (int64_t)(length - copy->run.data.length);
  sqlite3_stmt *statement = spool->statements[CUT];
  sqlite3_bind_int64(statement, 1, copy->run.count);
  sqlite3_bind_blob64(statement, 2, copy->run.data.data, copy->run.data.length, SQLITE_STATIC);
  sqlite3_bind_int64(statement, 3, id_of(device, copy->run.first));
  return run_statement(spool, CUT);
}

static int delete_rows(struct spool *spool, struct device *device, int64_t first, int64_t last) {
  sqlite3_stmt *sum = spool->statements[SUM], *delete = spool->statements[DELETE];
  bind_range(device, sum, first, last);
  bind_range(device, delete, first, last);
  int code = sqlite3_step(sum);
  if (code == SQLITE_ROW) {
    device->count -= sqlite3_column_int64(sum, 0);
    device->bytes -= sqlite3_column_int64(sum, 1) + ROW_BYTES * sqlite3_column_int64(sum, 2);
    code = SQLITE_OK;
  }
  sqlite3_reset(sum);
  return code == SQLITE_OK ? run_statement(spool, DELETE) : code;
}

static int remove_rows(struct spool *spool, struct device *device, int64_t first, int64_t last) {
  struct copy head = {0}, tail = {0};
  device->tail.length = 0;
  struct device before = *device;
  int code = begin(spool);
  if (code != SQLITE_OK) return code;
  code = copy_row(spool, device, first, &head);
  if (code == SQLITE_OK) code = copy_row(spool, device, last, &tail);
  if (code == SQLITE_OK) code = keep_head(spool, device, &head, first);
  if (code == SQLITE_OK) code = delete_rows(spool, device, first, last);
  if (code == SQLITE_OK) code = keep_tail(spool, device, &tail, last);
  tb_run_free(&head.run);
  tb_run_free(&tail.run);
  code = finish(spool, code);
  if (code != SQLITE_OK) *device = before;
  return code;
}

/* The records of a run in memory from one number on, as a run of their own; NULL when memory is short. */
static struct pending *copy_tail(const struct pending *p, int64_t from) {
  struct pending *tail = malloc(sizeof *tail);
  if (tail == NULL) return NULL;
  *tail = (struct pending){.next = p->next, .device = p->device, .undated = p->undated};
  if (tb_run_copy(&p->run, &tail->run) && tb_run_cut(&tail->run, from, p->run.first + p->run.count - from)) return tail;
  free_pending(tail);
  return NULL;
}

/* Takes records out of a run that waits in memory: its head or its tail stays, and when both do, the tail as a run of
 * its own behind it. False, and nothing has changed, when memory is short. */
static bool cut_pending(struct spool *spool, struct pending *p, int64_t first, int64_t last) {
  struct device *device = &spool->devices[p->device];
  int64_t start = p->run.first, end = start + p->run.count, count = p->run.count;
  size_t length = p->run.data.length;
  struct pending *tail = NULL;
  if (start < first && end > last + 1) {
    tail = copy_tail(p, last + 1);
    if (tail == NULL) return false;
  }
  if (!(start < first ? tb_run_cut(&p->run, start, first - start) : tb_run_cut(&p->run, last + 1, end - last - 1))) {
    if (tail != NULL) free_pending(tail);
    return false;
  }
  device->count -= count - p->run.count;
  device->bytes -= (int64_t)(length - p->run.data.length);
  if (tail == NULL) return true;
  p->next = tail;
  if (spool->last == p) spool->last = tail;
  device->count += tail->run.count;
  device->bytes += (int64_t)tail->run.data.length + ROW_BYTES;
  return true;
}

static bool remove_pending(struct spool *spool, size_t index, int64_t first, int64_t last) {
  struct device *device = &spool->devices[index];
  struct pending **link = &spool->first, *before = NULL;
  device->last = NULL;
  while (*link != NULL) {
    struct pending *p = *link;
    bool own = p->device == index;
    if (own && p->run.first >= first && p->run.first + p->run.count <= last + 1) {
      device->count -= p->run.count;
      device->bytes -= (int64_t)p->run.data.length + ROW_BYTES;
      *link = p->next;
      if (spool->last == p) spool->last = before;
      free_pending(p);
      continue;
    }
    if (own && p->run.first <= last && p->run.first + p->run.count > first && !cut_pending(spool, p, first, last))
      return false;
    if (own) device->last = p;
    before = p;
    link = &p->next;
  }
  return true;
}

/* Adds the record whose values have been split; its keys are those of the last run, or have been split as well. False
 * when memory is short. */
static bool put_record(struct spool *spool, struct device *device, int64_t ts, bool undated, bool same_keys) {
  struct pending *p = device->last;
  if (!same_keys || p->undated != undated || p->run.count >= MOST_IN_RUN ||
      p->run.first + p->run.count != device->next || p->run.data.length + spool->values.length > MOST_RUN_BYTES) {
    p = new_pending((size_t)(device - spool->devices), undated, same_keys ? &p->run.keys : &spool->keys);
    if (p == NULL) return false;
    p->run.first = device->next;
  }
  size_t before = p->run.data.length;
  if (!tb_run_add(&p->run, ts, spool->values.data, spool->values.length)) {
    if (p != device->last) free_pending(p);
    return false;
  }
  if (p != device->last) {
    *(spool->last != NULL ? &spool->last->next : &spool->first) = p;
    spool->last = p;
    device->last = p;
    device->bytes += ROW_BYTES;
  }
  device->bytes += (int64_t)(p->run.data.length - before);
  device->count++;
  device->next++;
  return true;
}

/*** Takes records away that are in memory, and nothing that is on disk.
@function spool:unput
@tparam integer device
@tparam integer first number of the first
@tparam integer last number of the last
@treturn integer how many there were; raises when memory is short */
static int spool_unput(lua_State *L) {
  struct spool *spool = check_spool(L);
  struct device *device = check_device(L, spool, 2);
  int64_t first = luaL_checkinteger(L, 3), last = luaL_checkinteger(L, 4), count = device->count;
  if (!remove_pending(spool, (size_t)(device - spool->devices), first, last)) return luaL_error(L, "not enough memory");
  lua_pushinteger(L, count - device->count);
  return 1;
}

/* The values of a record, and its time where it has one. A plain record never looks like an envelope: the JSON writer
 * refuses keys that would make it one. */
static const char *open_envelope(const char *at, const char *end, int64_t *ts) {
  static const char begin[] = "{\"ts\":", middle[] = ",\"values\":";
  char *rest;
  if ((size_t)(end - at) < sizeof begin || memcmp(at, begin, sizeof begin - 1) != 0) return at;
  long long time = strtoll(at + sizeof begin - 1, &rest, 10); /* ends at what is no digit, before the text does */
  if ((size_t)(end - rest) < sizeof middle || memcmp(rest, middle, sizeof middle - 1) != 0) return at;
  *ts = time;
  return rest + sizeof middle - 1;
}

/*** Says how the clock is to be judged.
@function spool:believe
@tparam ?boolean told whether it is known; nil: the year decides
@tparam integer trusted_from milliseconds since 1970, from which on it is known
@tparam ?integer learnt milliseconds to be added to the time since the system's start while the clock is not known */
static int spool_believe(lua_State *L) {
  struct spool *spool = tb_check(L, 1, TYPE, sizeof *spool);
  struct tb_times *times = &spool->times;
  times->told = lua_isnoneornil(L, 2) ? TB_BY_YEAR : lua_toboolean(L, 2) ? TB_KNOWN : TB_UNKNOWN;
  times->trusted_from = luaL_checkinteger(L, 3);
  times->learnt = !lua_isnoneornil(L, 4);
  times->learnt_offset = luaL_optinteger(L, 4, 0);
  return 0;
}

/*** What has to be added to the time since the system's start.
@function spool:offset
@treturn ?integer milliseconds; nil when nobody knows */
static int spool_offset(lua_State *L) {
  const struct spool *spool = tb_check(L, 1, TYPE, sizeof *spool);
  int64_t offset;
  if (tb_times_offset(&spool->times, tb_uptime(), &offset))
    lua_pushinteger(L, offset);
  else
    lua_pushnil(L);
  return 1;
}

/*** Goes on behind a time that was given before, unless that lies too far ahead to have been.
@function spool:follow
@tparam integer time milliseconds since 1970
@tparam integer most milliseconds that it may lie ahead */
static int spool_follow(lua_State *L) {
  struct spool *spool = tb_check(L, 1, TYPE, sizeof *spool);
  tb_times_follow(&spool->times, luaL_checkinteger(L, 2), luaL_checkinteger(L, 3));
  return 0;
}

/*** The last time given, when it is later than the true one: more were asked for than there were milliseconds, or the
clock was stepped back.
@function spool:ahead
@treturn ?integer milliseconds since 1970 */
static int spool_ahead(lua_State *L) {
  const struct spool *spool = tb_check(L, 1, TYPE, sizeof *spool);
  int64_t last;
  if (!tb_times_ahead(&spool->times, &last)) return 0;
  lua_pushinteger(L, last);
  return 1;
}

/*** Lets what is put wait in memory for a while, as `put` tells; `sync` ends that.
@function spool:wait
@tparam integer time milliseconds */
static int spool_wait(lua_State *L) {
  struct spool *spool = check_spool(L);
  spool->due = tb_uptime() + luaL_checkinteger(L, 2);
  return 0;
}

/*** Adds records, in memory: all or none. They are on disk after the next `sync`. Those that bring no time get the time
of the call, each a millisecond later than the one before.
@function spool:put
@tparam integer device
@tparam table values what `body:telemetry` takes
@treturn[1] integer the number of the first record; raises when memory is short
@treturn[1] integer the number of the last record
@treturn[1] boolean whether they may wait in memory
@treturn[1] integer how many records wait now
@treturn[1] integer and how many bytes
@treturn[1] boolean whether nobody knows what time it is
@treturn[2] nil
@treturn[2] string why they cannot be sent */
static int spool_put(lua_State *L) {
  struct spool *spool = check_spool(L);
  struct device *device = check_device(L, spool, 2);
  /* At the line of the script that called the function that calls this one. */
  const struct tb_json_call call = {.form = TB_JSON_TELEMETRY, .what = "put", .level = 2};
  if (!lua_istable(L, 3)) {
    luaL_where(L, call.level);
    lua_pushfstring(L, "put: a table expected, got %s", luaL_typename(L, 3));
    lua_concat(L, 2);
    return lua_error(L);
  }
  int64_t first = device->next, up = tb_uptime();
  bool stamped = false, ok = true;
  spool->body.length = 0;
  if (!tb_json_write(L, 3, &spool->body, &call)) {
    lua_pushnil(L);
    lua_pushvalue(L, -3);
    return 2;
  }
  const char *at = spool->body.data, *end = at + spool->body.length;
  if (*at == '[') at++;
  while (ok && at < end && *at == '{') {
    int64_t ts;
    const char *values = open_envelope(at, end, &ts);
    bool own = values != at;
    if (!own) ts = stamped ? ++spool->times.last : tb_times_next(&spool->times, up);
    stamped = stamped || !own;
    const struct pending *last = device->last;
    at = last == NULL ? NULL : tb_run_split_values(&last->run, values, end, &spool->values);
    bool same_keys = at != NULL;
    if (!same_keys) at = tb_run_split(values, end, &spool->keys, &spool->values);
    ok = at != NULL && put_record(spool, device, ts, !own && spool->times.undated, same_keys);
    if (ok) at += own ? 2 : 1; /* the envelope's brace, and the comma or the bracket */
  }
  if (!ok) {
    remove_pending(spool, (size_t)(device - spool->devices), first, device->next - 1);
    return luaL_error(L, "not enough memory");
  }
  lua_pushinteger(L, first);
  lua_pushinteger(L, device->next - 1);
  lua_pushboolean(L, up < spool->due);
  lua_pushinteger(L, device->count);
  lua_pushinteger(L, device->bytes);
  lua_pushboolean(L, stamped && spool->times.undated);
  return 6;
}

/*** Takes records away, on disk at once.
@function spool:remove
@tparam integer device
@tparam integer first number of the first
@tparam integer last number of the last
@treturn[1] integer how many there were
@treturn[2] nil
@treturn[2] string what is wrong
@treturn[2] string SQLite's name of the error */
static int spool_remove(lua_State *L) {
  struct spool *spool = check_spool(L);
  struct device *device = check_device(L, spool, 2);
  int64_t first = luaL_checkinteger(L, 3), last = luaL_checkinteger(L, 4), count = device->count;
  luaL_argcheck(L, first >= 0, 3, "negative");
  if (last >= device->next) last = device->next - 1;
  int code = spool->db == NULL || first > last ? SQLITE_OK : remove_rows(spool, device, first, last);
  if (makes_room(spool, code)) code = remove_rows(spool, device, first, last);
  if (code == SQLITE_OK && first <= last && !remove_pending(spool, (size_t)(device - spool->devices), first, last))
    code = SQLITE_NOMEM;
  if (code != SQLITE_OK) return failure(L, spool, code);
  lua_pushinteger(L, count - device->count);
  return 1;
}

/*** Dates the records of this boot that have no date yet, in memory and on disk, those of all devices.
@function spool:date
@tparam integer offset milliseconds from the system's start in 1970's terms
@treturn[1] boolean true
@treturn[2] nil
@treturn[2] string what is wrong
@treturn[2] string SQLite's name of the error */
static int spool_date(lua_State *L) {
  struct spool *spool = check_spool(L);
  int64_t offset = luaL_checkinteger(L, 2);
  if (spool->times.undated && spool->times.given) tb_times_become_known(&spool->times, offset);
  if (spool->times.became_known) offset = spool->times.known_offset;
  forget_tails(spool);
  if (spool->db != NULL) {
    sqlite3_bind_int64(spool->statements[DATE], 1, offset);
    sqlite3_bind_int64(spool->statements[DATE], 2, spool->boot);
    int code = run_statement(spool, DATE);
    if (code != SQLITE_OK) return failure(L, spool, code);
  }
  for (struct pending *p = spool->first; p != NULL; p = p->next) {
    if (!p->undated) continue;
    p->undated = false;
    p->run.ts += offset;
    p->run.last_ts += offset;
  }
  lua_pushboolean(L, 1);
  return 1;
}

/*** What waits of a device.
@function spool:counts
@tparam integer device
@treturn integer records
@treturn integer bytes
@treturn integer number that the next record gets
@treturn integer the device's number in the file, 0 while that is not open
@treturn integer this boot's number in the file */
static int spool_counts(lua_State *L) {
  struct spool *spool = check_spool(L);
  const struct device *device = check_device(L, spool, 2);
  lua_pushinteger(L, device->count);
  lua_pushinteger(L, device->bytes);
  lua_pushinteger(L, device->next);
  lua_pushinteger(L, device->number);
  lua_pushinteger(L, spool->boot);
  return 5;
}

/* Pushes what `oldest` tells of a run. */
static int push_run(lua_State *L, const struct tb_run *run, bool undated, int64_t before) {
  struct tb_record record = {0}, next = {0};
  int64_t count = 0;
  while (tb_run_next(run, &next) && next.ts < before) {
    record = next;
    count++;
  }
  if (count == 0 || (undated && before < INT64_MAX)) {
    lua_pushboolean(L, 0);
    return 1;
  }
  lua_pushinteger(L, run->first);
  lua_pushinteger(L, run->first + count - 1);
  lua_pushinteger(L, record.ts);
  lua_pushboolean(L, undated);
  return 4;
}

/*** The oldest records of a device, which were put together.
@function spool:oldest
@tparam integer device
@tparam boolean in_memory only of those that are not on disk
@tparam ?integer before milliseconds since 1970: of these, those that are older
@treturn[1] integer the first one's number
@treturn[1] integer the last one's number
@treturn[1] integer the last one's time
@treturn[1] boolean whether that is the one since a start of the system
@treturn[2] boolean false: there are none
@treturn[3] nil
@treturn[3] string what is wrong
@treturn[3] string SQLite's name of the error */
static int spool_oldest(lua_State *L) {
  struct spool *spool = check_spool(L);
  const struct device *device = check_device(L, spool, 2);
  int64_t before = luaL_optinteger(L, 4, INT64_MAX);
  if (spool->db != NULL && !lua_toboolean(L, 3)) {
    sqlite3_stmt *statement = spool->statements[SELECT];
    bind_range(device, statement, 0, device->next);
    int code = sqlite3_step(statement), results = 0;
    if (code == SQLITE_ROW) {
      struct tb_run run = row(device, statement);
      results = push_run(L, &run, sqlite3_column_type(statement, 2) != SQLITE_NULL, before);
    }
    sqlite3_reset(statement);
    if (code != SQLITE_ROW && code != SQLITE_DONE) return failure(L, spool, code);
    if (results > 0) return results;
  }
  for (const struct pending *p = spool->first; p != NULL; p = p->next)
    if (&spool->devices[p->device] == device) return push_run(L, &p->run, p->undated, before);
  lua_pushboolean(L, 0);
  return 1;
}

/*** The newest records of a device that are on disk; as `oldest`.
@function spool:newest
@tparam integer device */
static int spool_newest(lua_State *L) {
  struct spool *spool = check_spool(L);
  const struct device *device = check_device(L, spool, 2);
  int results = 0;
  if (spool->db != NULL) {
    sqlite3_stmt *statement = spool->statements[FIND];
    bind_range(device, statement, 0, device->next);
    if (sqlite3_step(statement) == SQLITE_ROW) {
      struct tb_run run = row(device, statement);
      results = push_run(L, &run, sqlite3_column_type(statement, 2) != SQLITE_NULL, INT64_MAX);
    }
    sqlite3_reset(statement);
  }
  if (results > 0) return results;
  lua_pushboolean(L, 0);
  return 1;
}

/*** Takes an object apart.
@function members
@tparam string json an object, as `body:values` writes it
@treturn table JSON texts of the values, by JSON texts of the keys; raises when memory is short */
static int members(lua_State *L) {
  size_t length;
  const char *json = luaL_checklstring(L, 1, &length);
  lua_newtable(L);
  /* Lua's memory may run out below: the buffers belong to a spool that is never opened, which is collected. */
  lua_pushcfunction(L, spool_new);
  lua_pushliteral(L, ":memory:");
  lua_call(L, 1, 1);
  struct spool *owner = lua_touserdata(L, -1);
  if (tb_run_split(json, json + length, &owner->keys, &owner->values) == NULL)
    return luaL_error(L, "not enough memory");
  const char *key = owner->keys.data, *keys_end = key + owner->keys.length;
  const char *value = owner->values.data, *values_end = value + owner->values.length;
  while (key < keys_end) {
    size_t key_length, value_length;
    const char *text = tb_run_line(&key, keys_end, &key_length);
    lua_pushlstring(L, text, key_length);
    text = tb_run_line(&value, values_end, &value_length);
    lua_pushlstring(L, text, value_length);
    lua_rawset(L, -4);
  }
  lua_pop(L, 1);
  return 1;
}

/*** The one name of a file, which may not be there yet.
@function real_path
@tparam string path
@treturn[1] string without links and dots
@treturn[2] nil
@treturn[2] string what is wrong with its directory */
static int real_path(lua_State *L) {
  const char *path = luaL_checkstring(L, 1);
  char *real = realpath(path, NULL);
  if (real == NULL && errno == ENOENT) {
    const char *slash = strrchr(path, '/');
    const char *directory = slash == NULL   ? "."
                            : slash == path ? "/"
                                            : lua_pushlstring(L, path, (size_t)(slash - path));
    real = realpath(directory, NULL);
    path = slash == NULL ? path : slash + 1;
    if (real != NULL) {
      lua_pushfstring(L, "%s/%s", real, path);
      free(real);
      return 1;
    }
  }
  if (real == NULL) {
    lua_pushnil(L);
    lua_pushfstring(L, "%s: %s", path, strerror(errno));
    return 2;
  }
  lua_pushstring(L, real);
  free(real);
  return 1;
}

/* The values from a stack index to the top. */
static int bind_values(lua_State *L, sqlite3_stmt *statement, int from) {
  int code = SQLITE_OK;
  for (int i = from; i <= lua_gettop(L) && code == SQLITE_OK; i++) {
    size_t length;
    switch (lua_type(L, i)) {
    case LUA_TNIL:
      code = sqlite3_bind_null(statement, i - from + 1);
      break;
    case LUA_TNUMBER:
      code = sqlite3_bind_int64(statement, i - from + 1, luaL_checkinteger(L, i));
      break;
    default: {
      const char *text = luaL_checklstring(L, i, &length);
      code = sqlite3_bind_blob64(statement, i - from + 1, text, length, SQLITE_STATIC);
    }
    }
  }
  return code;
}

static void push_column(lua_State *L, sqlite3_stmt *statement, int column) {
  switch (sqlite3_column_type(statement, column)) {
  case SQLITE_INTEGER:
    lua_pushinteger(L, sqlite3_column_int64(statement, column));
    return;
  case SQLITE_NULL:
    lua_pushnil(L);
    return;
  default: {
    const char *bytes = sqlite3_column_blob(statement, column);
    lua_pushlstring(L, bytes == NULL ? "" : bytes, (size_t)sqlite3_column_bytes(statement, column));
  }
  }
}

/*** Runs one SQL statement, for what is done seldom. Strings go as blobs.
@function spool:query
@tparam string sql
@param ... integers, strings and nils for its question marks
@treturn[1] table a list of rows, each a list of columns
@treturn[2] nil
@treturn[2] string what is wrong
@treturn[2] string SQLite's name of the error */
static int spool_query(lua_State *L) {
  struct spool *spool = check_spool(L);
  const char *sql = luaL_checkstring(L, 2);
  if (spool->db == NULL) return failure(L, spool, SQLITE_CANTOPEN);
  for (int i = 3; i <= lua_gettop(L); i++)
    if (!lua_isnil(L, i) && !lua_isinteger(L, i)) luaL_checkstring(L, i);
  lua_newtable(L);
  lua_insert(L, 3);
  end_query(spool);
  int code = sqlite3_prepare_v2(spool->db, sql, -1, &spool->query, NULL);
  if (code == SQLITE_OK) code = bind_values(L, spool->query, 4);
  lua_Integer rows = 0;
  while (code == SQLITE_OK && (code = sqlite3_step(spool->query)) == SQLITE_ROW) {
    lua_newtable(L);
    for (int i = 0; i < sqlite3_column_count(spool->query); i++) {
      push_column(L, spool->query, i);
      lua_rawseti(L, -2, i + 1);
    }
    lua_rawseti(L, 3, ++rows);
    code = SQLITE_OK;
  }
  int results = 1;
  if (code == SQLITE_DONE)
    lua_pushvalue(L, 3);
  else
    results = failure(L, spool, code);
  end_query(spool);
  return results;
}

/*** Time since the system's start.
@function uptime
@treturn integer milliseconds, those asleep too */
static int uptime(lua_State *L) {
  lua_pushinteger(L, tb_uptime());
  return 1;
}

/*** Closes the file. What waits in memory is lost: `sync` before. Idempotent.
@function spool:close */
static int spool_close(lua_State *L) {
  struct spool *spool = tb_check(L, 1, TYPE, sizeof *spool);
  if (spool->path == NULL) return 0;
  if (spool->forks == tb_forks()) close_database(spool); /* a forked child's would drop the parent's locks */
  while (spool->first != NULL) {
    struct pending *p = spool->first;
    spool->first = p->next;
    free_pending(p);
  }
  for (size_t i = 0; i < spool->device_count; i++) free(spool->devices[i].name);
  free(spool->devices);
  free(spool->path);
  spool->path = NULL;
  spool->device_count = 0;
  spool->devices = NULL;
  tb_buffer_free(&spool->keys);
  tb_buffer_free(&spool->values);
  tb_buffer_free(&spool->shape_keys);
  tb_buffer_free(&spool->body);
  return 0;
}

static int spool_tostring(lua_State *L) {
  const struct spool *spool = tb_check(L, 1, TYPE, sizeof *spool);
  if (spool->path == NULL)
    lua_pushfstring(L, "%s (closed)", TYPE);
  else
    lua_pushfstring(L, "%s (%s)", TYPE, spool->path);
  return 1;
}

static const luaL_Reg METHODS[] = {
    {"open", spool_open},   {"shut", spool_shut},       {"device", spool_device}, {"put", spool_put},
    {"unput", spool_unput}, {"sync", spool_sync},       {"batch", spool_batch},   {"remove", spool_remove},
    {"date", spool_date},   {"counts", spool_counts},   {"oldest", spool_oldest}, {"newest", spool_newest},
    {"query", spool_query}, {"believe", spool_believe}, {"offset", spool_offset}, {"follow", spool_follow},
    {"ahead", spool_ahead}, {"wait", spool_wait},       {"close", spool_close},   {NULL, NULL}};

static const luaL_Reg METAMETHODS[] = {
    {"__gc", spool_close}, {"__close", spool_close}, {"__tostring", spool_tostring}, {NULL, NULL}};

__attribute__((visibility("default"))) int luaopen_thingsboard_spool(lua_State *L); /* all else is hidden */

int luaopen_thingsboard_spool(lua_State *L) {
  static const luaL_Reg functions[] = {
      {"spool", spool_new}, {"uptime", uptime}, {"members", members}, {"real_path", real_path}, {NULL, NULL}};
  tb_count_forks(L);
  tb_new_type(L, TYPE, METHODS, METAMETHODS);
  luaL_newlib(L, functions);
  return 1;
}
