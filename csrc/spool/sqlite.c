/* Records on disk: a row is a run. A row's id is its device's number times TB_NUMBERS, and the number of the run's
 * first record, so that a device's records are one range. */
#include "spool/spool.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
  /* The data up to which a row takes more records: four fill a page. A record takes 4 bytes at least. */
  MOST_JOINED_BYTES = 900,
  SCHEMA = 1,
  APPLICATION = 0x74626f78 /* "tbox" */
};

_Static_assert(MOST_JOINED_BYTES / 4 <= TB_MOST_IN_RUN, "a row takes no more records than a run");

static const char *const SQL[TB_STATEMENTS] = {
    [TB_INSERT] = "INSERT INTO runs (id, ts, boot, shape, count, data) VALUES (?, ?, ?, ?, ?, ?)",
    [TB_JOIN] = "UPDATE runs SET count = count + ?, data = CAST(data || ? AS BLOB) WHERE id = ?",
    [TB_SELECT] = "SELECT id, ts, boot, shape, count, data FROM runs WHERE id BETWEEN ? AND ? ORDER BY id",
    [TB_FIND] = "SELECT id, ts, boot, shape, count, data FROM runs WHERE id BETWEEN ? AND ? ORDER BY id DESC LIMIT 1",
    [TB_CUT] = "UPDATE runs SET count = ?, data = ? WHERE id = ?",
    [TB_SUM] =
        "SELECT coalesce(sum(count), 0), coalesce(sum(length(data)), 0), count(*) FROM runs WHERE id BETWEEN ? AND ?",
    [TB_DELETE] = "DELETE FROM runs WHERE id BETWEEN ? AND ?",
    [TB_SHAPE_OF] = "SELECT number FROM shapes WHERE keys = ?",
    [TB_KEYS_OF] = "SELECT keys FROM shapes WHERE number = ?",
    [TB_ADD_SHAPE] = "INSERT INTO shapes (keys) VALUES (?)",
    [TB_DATE] = "UPDATE runs SET ts = ts + ?, boot = NULL WHERE boot = ?",
    /* Savepoints, not transactions: what several calls do may be made one by a transaction around them. */
    [TB_BEGIN] = "SAVEPOINT step",
    [TB_COMMIT] = "RELEASE step",
    [TB_ROLLBACK] = "ROLLBACK TO step",
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

int tb_disk_run(struct spool *spool, int which) {
  int code = sqlite3_step(spool->statements[which]);
  sqlite3_reset(spool->statements[which]);
  return code == SQLITE_DONE ? SQLITE_OK : code;
}

static int begin(struct spool *spool) {
  return tb_disk_run(spool, TB_BEGIN);
}

/* Ends what `begin` began, well or not. Where SQLite has rolled back already the rest fails, which is no matter. */
static int finish(struct spool *spool, int code) {
  if (code == SQLITE_OK) code = tb_disk_run(spool, TB_COMMIT);
  if (code == SQLITE_OK) return code;
  tb_disk_run(spool, TB_ROLLBACK);
  tb_disk_run(spool, TB_COMMIT);
  spool->shape = 0; /* it may be gone with the rest */
  return code;
}

void tb_disk_forget_tails(struct spool *spool) {
  for (size_t i = 0; i < spool->device_count; i++) spool->devices[i].tail.length = 0;
}

void tb_disk_close(struct spool *spool) {
  for (size_t i = 0; i < TB_STATEMENTS; i++) {
    sqlite3_finalize(spool->statements[i]);
    spool->statements[i] = NULL;
  }
  sqlite3_close(spool->db);
  spool->db = NULL;
  spool->shape = 0;
  tb_disk_forget_tails(spool);
  for (size_t i = 0; i < spool->device_count; i++) {
    struct device *device = &spool->devices[i];
    device->number = device->next = device->count = device->bytes = 0;
  }
  for (struct pending *p = spool->first; p != NULL; p = p->next) {
    struct device *device = &spool->devices[p->device];
    p->run.first = device->next;
    device->next += p->run.count;
    device->count += p->run.count;
    device->bytes += (int64_t)p->run.data.length + TB_ROW_BYTES;
  }
}

static int64_t id_of(const struct device *device, int64_t number) {
  return device->number * TB_NUMBERS + number;
}

static int64_t most(int64_t a, int64_t b) {
  return a > b ? a : b;
}

void tb_disk_bind_range(const struct device *device, sqlite3_stmt *statement, int64_t first, int64_t last) {
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

int tb_disk_meet(struct spool *spool, size_t index) {
  struct device *device = &spool->devices[index];
  int64_t number = 0, next = 0;
  int code = number_of(spool, "SELECT number FROM devices WHERE name = ?", "INSERT INTO devices (name) VALUES (?)",
                       device->name, &number);
  if (code != SQLITE_OK) return code;
  struct device found = {.number = number};
  sqlite3_stmt *sum = spool->statements[TB_SUM], *find = spool->statements[TB_FIND];
  tb_disk_bind_range(&found, sum, 0, TB_NUMBERS - 1);
  tb_disk_bind_range(&found, find, 0, TB_NUMBERS - 1);
  code = sqlite3_step(sum);
  if (code == SQLITE_ROW) {
    found.count = sqlite3_column_int64(sum, 0);
    found.bytes = sqlite3_column_int64(sum, 1) + TB_ROW_BYTES * sqlite3_column_int64(sum, 2);
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

int tb_disk_open(struct spool *spool, const char **problem) {
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
  for (int i = 0; code == SQLITE_OK && i < TB_STATEMENTS; i++)
    code = sqlite3_prepare_v3(spool->db, SQL[i], -1, SQLITE_PREPARE_PERSISTENT, &spool->statements[i], NULL);
  if (code != SQLITE_OK) return code;
  read_boot(boot, sizeof boot);
  code = number_of(spool, "SELECT number FROM boots WHERE boot = ?", "INSERT INTO boots (boot) VALUES (?)", boot,
                   &spool->boot);
  for (size_t i = 0; code == SQLITE_OK && i < spool->device_count; i++) code = tb_disk_meet(spool, i);
  return code;
}

static bool same(const struct tb_buffer *a, const struct tb_buffer *b) {
  return a->length == b->length && memcmp(a->data, b->data, a->length) == 0;
}

/* The number of the shape with these keys, in the file. */
static int find_shape(struct spool *spool, const struct tb_buffer *keys, int64_t *number) {
  if (spool->shape != 0 && same(&spool->shape_keys, keys)) {
    *number = spool->shape;
    return SQLITE_OK;
  }
  sqlite3_stmt *find = spool->statements[TB_SHAPE_OF], *add = spool->statements[TB_ADD_SHAPE];
  sqlite3_bind_blob64(find, 1, keys->data, keys->length, SQLITE_STATIC);
  int code = read_number(find, 0, number);
  sqlite3_reset(find);
  if (code == SQLITE_OK && *number == 0) {
    sqlite3_bind_blob64(add, 1, keys->data, keys->length, SQLITE_STATIC);
    code = tb_disk_run(spool, TB_ADD_SHAPE);
    *number = sqlite3_last_insert_rowid(spool->db);
  }
  spool->shape = 0;
  spool->shape_keys.length = 0;
  if (code == SQLITE_OK && tb_buffer_append(&spool->shape_keys, keys->data, keys->length)) spool->shape = *number;
  return code;
}

static int insert(struct spool *spool, int64_t id, const struct tb_run *run, int64_t boot, int64_t shape) {
  sqlite3_stmt *statement = spool->statements[TB_INSERT];
  sqlite3_bind_int64(statement, 1, id);
  sqlite3_bind_int64(statement, 2, run->ts);
  if (boot != 0)
    sqlite3_bind_int64(statement, 3, boot);
  else
    sqlite3_bind_null(statement, 3);
  sqlite3_bind_int64(statement, 4, shape);
  sqlite3_bind_int64(statement, 5, run->count);
  int code = sqlite3_bind_blob64(statement, 6, run->data.data, run->data.length, SQLITE_STATIC);
  return code == SQLITE_OK ? tb_disk_run(spool, TB_INSERT) : code;
}

static bool joins(const struct tail *tail, const struct pending *p, int64_t shape) {
  return tail->length > 0 && tail->first + tail->count == p->run.first && tail->shape == shape &&
         tail->undated == p->undated && tail->length + p->run.data.length <= MOST_JOINED_BYTES;
}

static int join(struct spool *spool, struct device *device, struct pending *p) {
  struct tail *tail = &device->tail;
  struct tb_buffer *data = &spool->body;
  sqlite3_stmt *statement = spool->statements[TB_JOIN];
  data->length = 0;
  if (!tb_run_join(&p->run, tail->last_ts, data)) return SQLITE_NOMEM;
  sqlite3_bind_int64(statement, 1, p->run.count);
  sqlite3_bind_blob64(statement, 2, data->data, data->length, SQLITE_STATIC);
  sqlite3_bind_int64(statement, 3, id_of(device, tail->first));
  int code = tb_disk_run(spool, TB_JOIN);
  tail->count += p->run.count;
  tail->length += data->length;
  tail->last_ts = p->run.last_ts;
  p->saved = (int64_t)p->run.data.length + TB_ROW_BYTES - (int64_t)data->length;
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

/* Whether nobody will find the file again: it was removed, or has another name. */
static bool is_gone(struct spool *spool) {
  int moved = 0;
  return sqlite3_file_control(spool->db, "main", SQLITE_FCNTL_HAS_MOVED, &moved) == SQLITE_OK && moved != 0;
}

int tb_disk_sync(struct spool *spool) {
  if (spool->first == NULL) return SQLITE_OK;
  if (spool->db == NULL) return SQLITE_CANTOPEN;
  if (is_gone(spool)) return SQLITE_READONLY_DBMOVED;
  int code = begin(spool);
  if (code != SQLITE_OK) return code;
  for (struct pending *p = spool->first; code == SQLITE_OK && p != NULL; p = p->next) code = write_pending(spool, p);
  code = finish(spool, code);
  if (code != SQLITE_OK) {
    tb_disk_forget_tails(spool);
    return code;
  }
  while (spool->first != NULL) {
    struct pending *p = spool->first;
    spool->first = p->next;
    spool->devices[p->device].last = NULL;
    spool->devices[p->device].bytes -= p->saved;
    tb_memory_free(p);
  }
  spool->last = NULL;
  return SQLITE_OK;
}

bool tb_disk_makes_room(struct spool *spool, int code) {
  return ((code & 0xFF) == SQLITE_FULL || (code & 0xFF) == SQLITE_IOERR) &&
         sqlite3_wal_checkpoint_v2(spool->db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL) == SQLITE_OK;
}

struct tb_run tb_disk_row(const struct device *device, sqlite3_stmt *statement) {
  struct tb_run run;
  tb_run_init(&run, TB_MOST_RECORD);
  run.first = sqlite3_column_int64(statement, 0) - id_of(device, 0);
  run.ts = sqlite3_column_int64(statement, 1);
  run.count = sqlite3_column_int64(statement, 4);
  const void *blob = sqlite3_column_blob(statement, 5);
  memcpy(&run.data.data, &blob, sizeof blob); /* read only, by this function's word */
  run.data.length = (size_t)sqlite3_column_bytes(statement, 5);
  return run;
}

int tb_disk_load_keys(struct spool *spool, int64_t shape, struct tb_run *run) {
  int code = SQLITE_OK;
  if (spool->shape != shape) {
    sqlite3_stmt *find = spool->statements[TB_KEYS_OF];
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

/* A copy of the row that holds a record, if there is one: `run.count` is 0 otherwise. */
struct copy {
  struct tb_run run;
  int64_t boot, shape;
};

static int copy_row(struct spool *spool, const struct device *device, int64_t number, struct copy *copy) {
  sqlite3_stmt *statement = spool->statements[TB_FIND];
  tb_run_init(&copy->run, TB_MOST_RECORD);
  tb_disk_bind_range(device, statement, number - TB_MOST_IN_RUN + 1, number);
  int code = sqlite3_step(statement);
  if (code == SQLITE_ROW) {
    struct tb_run found = tb_disk_row(device, statement);
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
  device->bytes += (int64_t)copy->run.data.length + TB_ROW_BYTES;
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
  sqlite3_stmt *statement = spool->statements[TB_CUT];
  sqlite3_bind_int64(statement, 1, copy->run.count);
  sqlite3_bind_blob64(statement, 2, copy->run.data.data, copy->run.data.length, SQLITE_STATIC);
  sqlite3_bind_int64(statement, 3, id_of(device, copy->run.first));
  return tb_disk_run(spool, TB_CUT);
}

static int delete_rows(struct spool *spool, struct device *device, int64_t first, int64_t last) {
  sqlite3_stmt *sum = spool->statements[TB_SUM], *delete = spool->statements[TB_DELETE];
  tb_disk_bind_range(device, sum, first, last);
  tb_disk_bind_range(device, delete, first, last);
  int code = sqlite3_step(sum);
  if (code == SQLITE_ROW) {
    device->count -= sqlite3_column_int64(sum, 0);
    device->bytes -= sqlite3_column_int64(sum, 1) + TB_ROW_BYTES * sqlite3_column_int64(sum, 2);
    code = SQLITE_OK;
  }
  sqlite3_reset(sum);
  return code == SQLITE_OK ? tb_disk_run(spool, TB_DELETE) : code;
}

int tb_disk_remove(struct spool *spool, struct device *device, int64_t first, int64_t last) {
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
