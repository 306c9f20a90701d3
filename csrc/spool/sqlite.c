#include "spool/sqlite.h"

#include "spool/pending.h"
#include "spool/room.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

enum {
  /* The data up to which a row takes more records: four fill a page. A record takes 4 bytes at least. */
  MOST_JOINED_BYTES = 900,
  FREED_PAGES = 8,    /* how much is removed at once when the oldest records make room, */
  FREED_SHAPES = 1024 /* and how many shapes */
};

_Static_assert(MOST_JOINED_BYTES / 4 <= TB_MOST_IN_RUN, "a row takes no more records than a run");

/* ---- Statements ---- */

/* Runs a statement that gives no row. */
static int run(struct tb_spool *spool, enum tb_statement which) {
  int code = sqlite3_step(spool->statements[which]);
  sqlite3_reset(spool->statements[which]);
  return code == SQLITE_DONE ? SQLITE_OK : code;
}

/* Ends what TB_BEGIN began: keeps it when the code is SQLITE_OK. Where SQLite has rolled back already the rest fails,
 * which does not matter. */
static int finish(struct tb_spool *spool, int code) {
  if (code == SQLITE_OK) code = run(spool, TB_COMMIT);
  if (code == SQLITE_OK) return code;
  run(spool, TB_ROLLBACK);
  run(spool, TB_COMMIT);
  spool->shape = spool->period = 0; /* they may be gone with the rest */
  return code;
}

/* Reads one number of the first row of a statement that has been bound; 0 when there is no row. */
static int read_number(sqlite3_stmt *statement, int64_t *number) {
  int code = sqlite3_step(statement);
  *number = code == SQLITE_ROW ? sqlite3_column_int64(statement, 0) : 0;
  return code == SQLITE_ROW || code == SQLITE_DONE ? SQLITE_OK : code;
}

/* Runs a statement once, with a text or NULL for its question mark. */
static int read_once(struct tb_spool *spool, const char *sql, const char *text, int64_t *number) {
  sqlite3_stmt *statement = NULL;
  int code = sqlite3_prepare_v2(spool->db, sql, -1, &statement, NULL);
  if (code == SQLITE_OK && text != NULL) code = sqlite3_bind_text(statement, 1, text, -1, SQLITE_STATIC);
  if (code == SQLITE_OK) code = read_number(statement, number);
  sqlite3_finalize(statement);
  return code;
}

/* The number that a text has in a table of texts; it gets one when it has none. */
static int number_of(struct tb_spool *spool, const char *find, const char *add, const char *text, int64_t *number) {
  int code = read_once(spool, find, text, number);
  if (code != SQLITE_OK || *number != 0) return code;
  tb_room_forget(spool);
  code = read_once(spool, add, text, number);
  *number = sqlite3_last_insert_rowid(spool->db);
  return code;
}

/* ---- Rows ---- */

static int64_t id_of(const struct tb_device *device, int64_t number) {
  return device->number * TB_NUMBERS + (number < 0 ? 0 : number);
}

static void bind_range(const struct tb_device *device, sqlite3_stmt *statement, int64_t first, int64_t last) {
  sqlite3_bind_int64(statement, 1, id_of(device, first));
  sqlite3_bind_int64(statement, 2, id_of(device, last));
}

struct tb_cursor tb_cursor_open(struct tb_spool *spool, const struct tb_device *device, enum tb_statement which,
                                int64_t first, int64_t last) {
  const struct tb_cursor cursor = {spool->statements[which], device};
  bind_range(device, cursor.statement, first, last);
  return cursor;
}

int tb_cursor_next(const struct tb_cursor *cursor, struct tb_row *row) {
  sqlite3_stmt *statement = cursor->statement;
  int code = sqlite3_step(statement);
  if (code != SQLITE_ROW) return code;
  *row = (struct tb_row){.period = sqlite3_column_int64(statement, 2), .shape = sqlite3_column_int64(statement, 3)};
  tb_run_init(&row->run, TB_MOST_RECORD);
  row->run.first = sqlite3_column_int64(statement, 0) - id_of(cursor->device, 0);
  row->run.ts = sqlite3_column_int64(statement, 1);
  row->run.count = sqlite3_column_int64(statement, 4);
  const void *blob = sqlite3_column_blob(statement, 5);
  memcpy(&row->run.data.data, &blob, sizeof blob); /* for reading only, as the header says */
  row->run.data.length = (size_t)sqlite3_column_bytes(statement, 5);
  return code;
}

void tb_cursor_close(const struct tb_cursor *cursor) {
  sqlite3_reset(cursor->statement);
}

int tb_sqlite_span(struct tb_spool *spool, int64_t period, int64_t *first, int64_t *last) {
  static const struct tb_device all = {0}; /* its records' ids begin with 0 */
  struct tb_row row;
  int code;
  const struct tb_cursor cursor = tb_cursor_open(spool, &all, TB_SELECT, 0, INT64_MAX);
  while ((code = tb_cursor_next(&cursor, &row)) == SQLITE_ROW) {
    struct tb_record record = {0};
    while (row.period == period && tb_run_next(&row.run, &record)) {
      if (record.ts < *first) *first = record.ts;
      if (record.ts > *last) *last = record.ts;
    }
  }
  tb_cursor_close(&cursor);
  return code == SQLITE_DONE ? SQLITE_OK : code;
}

/* Adds what the rows that begin between two numbers hold to the device's counts, or with -1 takes it away. */
static int count_rows(struct tb_spool *spool, struct tb_device *device, int64_t first, int64_t last, int sign) {
  sqlite3_stmt *sum = spool->statements[TB_SUM];
  bind_range(device, sum, first, last);
  int code = sqlite3_step(sum);
  if (code == SQLITE_ROW) {
    device->count += sign * sqlite3_column_int64(sum, 0);
    device->bytes += sign * (sqlite3_column_int64(sum, 1) + TB_ROW_BYTES * sqlite3_column_int64(sum, 2));
    code = SQLITE_OK;
  }
  sqlite3_reset(sum);
  return code;
}

static void count_row(struct tb_device *device, const struct tb_run *run, int sign) {
  device->count += sign * run->count;
  device->bytes += sign * ((int64_t)run->data.length + TB_ROW_BYTES);
}

static int insert(struct tb_spool *spool, const struct tb_device *device, const struct tb_row *row) {
  sqlite3_stmt *statement = spool->statements[TB_INSERT];
  sqlite3_bind_int64(statement, 1, id_of(device, row->run.first));
  sqlite3_bind_int64(statement, 2, row->run.ts);
  sqlite3_bind_int64(statement, 3, row->period);
  sqlite3_bind_int64(statement, 4, row->shape);
  sqlite3_bind_int64(statement, 5, row->run.count);
  int code = sqlite3_bind_blob64(statement, 6, row->run.data.data, row->run.data.length, SQLITE_STATIC);
  return code == SQLITE_OK ? run(spool, TB_INSERT) : code;
}

/* No row takes more records. */
static void forget_tails(struct tb_spool *spool) {
  for (size_t i = 0; i < spool->device_count; i++) spool->devices[i].tail.length = 0;
}

/* ---- Shapes: the keys that records have in common ---- */

static bool remember_shape(struct tb_spool *spool, int64_t shape, const void *keys, size_t length) {
  spool->shape = 0;
  spool->shape_keys.length = 0;
  if (!tb_buffer_append(&spool->shape_keys, keys, length)) return false;
  spool->shape = shape;
  return true;
}

static bool is_last_shape(const struct tb_spool *spool, const struct tb_buffer *keys) {
  return spool->shape != 0 && spool->shape_keys.length == keys->length &&
         memcmp(spool->shape_keys.data, keys->data, keys->length) == 0;
}

static int find_shape(struct tb_spool *spool, const struct tb_buffer *keys, int64_t *number) {
  if (is_last_shape(spool, keys)) {
    *number = spool->shape;
    return SQLITE_OK;
  }
  sqlite3_stmt *find = spool->statements[TB_SHAPE_OF], *add = spool->statements[TB_ADD_SHAPE];
  sqlite3_bind_blob64(find, 1, keys->data, keys->length, SQLITE_STATIC);
  int code = read_number(find, number);
  sqlite3_reset(find);
  if (code == SQLITE_OK && *number == 0) {
    sqlite3_bind_blob64(add, 1, keys->data, keys->length, SQLITE_STATIC);
    code = run(spool, TB_ADD_SHAPE);
    *number = sqlite3_last_insert_rowid(spool->db);
  }
  if (code == SQLITE_OK) remember_shape(spool, *number, keys->data, keys->length);
  return code;
}

int tb_sqlite_load_keys(struct tb_spool *spool, struct tb_row *row) {
  int code = SQLITE_OK;
  if (spool->shape != row->shape) {
    sqlite3_stmt *find = spool->statements[TB_KEYS_OF];
    sqlite3_bind_int64(find, 1, row->shape);
    code = sqlite3_step(find);
    if (code == SQLITE_ROW) {
      const void *keys = sqlite3_column_blob(find, 0);
      code = remember_shape(spool, row->shape, keys, (size_t)sqlite3_column_bytes(find, 0)) ? SQLITE_OK : SQLITE_NOMEM;
    } else if (code == SQLITE_DONE) {
      code = SQLITE_CORRUPT;
    }
    sqlite3_reset(find);
  }
  row->run.keys = spool->shape_keys;
  return code;
}

/* ---- The file ---- */

/* A new file is its owner's alone; SQLite gives its log the same mode. What is there keeps its own, and is not opened:
 * to close it would drop SQLite's locks. */
static void create_private(const char *path) {
  int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd >= 0) close(fd);
}

static int open_database(struct tb_spool *spool) {
  char page_size[40];
  create_private(spool->path);
  int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
  int code = sqlite3_open_v2(spool->path, &spool->db, flags, NULL);
  sqlite3_snprintf(sizeof page_size, page_size, "PRAGMA page_size = %d", tb_room_page_size(spool));
  if (code == SQLITE_OK) code = sqlite3_exec(spool->db, page_size, NULL, NULL, NULL); /* of a new file */
  if (code == SQLITE_OK) code = sqlite3_exec(spool->db, TB_SETTINGS, NULL, NULL, NULL);
  return code == SQLITE_OK ? read_once(spool, "PRAGMA page_size", NULL, &spool->page) : code;
}

/* Brings the file to the version of this release, in one transaction. */
static int migrate(struct tb_spool *spool) {
  int64_t version = 0, application = 0;
  int code = read_once(spool, "PRAGMA user_version", NULL, &version);
  if (code == SQLITE_OK) code = read_once(spool, "PRAGMA application_id", NULL, &application);
  if (code != SQLITE_OK) return code;
  if (application != TB_APPLICATION_ID && (application != 0 || version != 0)) {
    spool->problem = "this is a database, but no outbox";
    return SQLITE_CANTOPEN;
  }
  if (version < 0 || version > TB_SCHEMA_VERSION) {
    spool->problem = "this is an outbox of a newer release of this library";
    return SQLITE_CANTOPEN;
  }
  if (version == TB_SCHEMA_VERSION) return SQLITE_OK;
  code = sqlite3_exec(spool->db, "BEGIN IMMEDIATE", NULL, NULL, NULL);
  for (; code == SQLITE_OK && version < TB_SCHEMA_VERSION; version++)
    code = sqlite3_exec(spool->db, TB_MIGRATIONS[version], NULL, NULL, NULL);
  return code == SQLITE_OK ? sqlite3_exec(spool->db, "COMMIT", NULL, NULL, NULL) : code;
}

static int prepare(struct tb_spool *spool) {
  int code = SQLITE_OK;
  for (int i = 0; code == SQLITE_OK && i < TB_STATEMENTS; i++)
    code = sqlite3_prepare_v3(spool->db, TB_SQL[i], -1, SQLITE_PREPARE_PERSISTENT, &spool->statements[i], NULL);
  return code;
}

int tb_sqlite_attach_device(struct tb_spool *spool, size_t index) {
  struct tb_device *device = &spool->devices[index], found = {0};
  /* A name has a row and an index. Without room it may be there already, or need no page. */
  (void)tb_room_for(spool, tb_room_pages(spool, 2 * strlen(device->name)));
  int code = number_of(spool, TB_DEVICE_OF, TB_ADD_DEVICE, device->name, &found.number);
  if (code == SQLITE_OK) code = count_rows(spool, &found, 0, TB_NUMBERS - 1, 1);
  if (code != SQLITE_OK) return code;
  struct tb_row newest;
  const struct tb_cursor cursor = tb_cursor_open(spool, &found, TB_FIND, 0, TB_NUMBERS - 1);
  code = tb_cursor_next(&cursor, &newest);
  tb_cursor_close(&cursor);
  if (code != SQLITE_ROW && code != SQLITE_DONE) return code;
  device->number = found.number;
  device->next = code == SQLITE_ROW ? newest.run.first + newest.run.count : 0;
  device->count = found.count;
  device->bytes = found.bytes;
  tb_pending_renumber(spool, index);
  return SQLITE_OK;
}

static int attach_devices(struct tb_spool *spool) {
  int code = SQLITE_OK;
  for (size_t i = 0; code == SQLITE_OK && i < spool->device_count; i++) code = tb_sqlite_attach_device(spool, i);
  return code;
}

int tb_sqlite_open(struct tb_spool *spool) {
  static int (*const STEPS[])(struct tb_spool *) = {open_database, migrate, tb_room_open, prepare, attach_devices};
  int code = SQLITE_OK;
  spool->problem = NULL;
  spool->removed = INT64_MAX / 2; /* nobody knows how many other processes have removed */
  for (size_t i = 0; code == SQLITE_OK && i < sizeof STEPS / sizeof *STEPS; i++) code = STEPS[i](spool);
  return code;
}

void tb_sqlite_close(struct tb_spool *spool) {
  tb_room_close(spool);
  for (size_t i = 0; i < TB_STATEMENTS; i++) {
    sqlite3_finalize(spool->statements[i]);
    spool->statements[i] = NULL;
  }
  sqlite3_close(spool->db);
  spool->db = NULL;
  spool->shape = spool->period = 0;
  forget_tails(spool);
  for (size_t i = 0; i < spool->device_count; i++) {
    struct tb_device *device = &spool->devices[i];
    if (device->number == 0) continue; /* its records have the numbers of memory */
    device->number = device->next = device->count = device->bytes = 0;
    tb_pending_renumber(spool, i);
  }
}

/* ---- Writing ---- */

static bool can_join(const struct tb_tail *tail, const struct tb_row *row) {
  return tail->length > 0 && tail->first + tail->count == row->run.first && tail->shape == row->shape &&
         tail->period == row->period && tail->length + row->run.data.length <= MOST_JOINED_BYTES;
}

/* Adds a run's records to the row that was written last. */
static int join(struct tb_spool *spool, struct tb_device *device, struct tb_pending *p) {
  struct tb_tail *tail = &device->tail;
  struct tb_buffer *data = &spool->body;
  sqlite3_stmt *statement = spool->statements[TB_JOIN];
  data->length = 0;
  if (!tb_run_join(&p->run, tail->last_ts, data)) return SQLITE_NOMEM;
  sqlite3_bind_int64(statement, 1, p->run.count);
  sqlite3_bind_blob64(statement, 2, data->data, data->length, SQLITE_STATIC);
  sqlite3_bind_int64(statement, 3, id_of(device, tail->first));
  int code = run(spool, TB_JOIN);
  tail->count += p->run.count;
  tail->length += data->length;
  tail->last_ts = p->run.last_ts;
  p->saved = (int64_t)p->run.data.length + TB_ROW_BYTES - (int64_t)data->length;
  return code;
}

/* The period of what is undated now. */
static int find_period(struct tb_spool *spool, int64_t *period) {
  int code = SQLITE_OK;
  if (spool->period == 0) code = number_of(spool, TB_PERIOD_OF, TB_ADD_PERIOD, spool->boot, &spool->period);
  *period = spool->period;
  return code;
}

static int write_pending(struct tb_spool *spool, struct tb_pending *p) {
  struct tb_device *device = &spool->devices[p->device];
  struct tb_row row = {.run = p->run};
  int code = find_shape(spool, &p->run.keys, &row.shape);
  if (code == SQLITE_OK && p->undated) code = find_period(spool, &row.period);
  if (code != SQLITE_OK) return code;
  if (can_join(&device->tail, &row)) return join(spool, device, p);
  p->saved = 0;
  device->tail =
      (struct tb_tail){p->run.first, p->run.count, p->run.last_ts, row.shape, row.period, p->run.data.length};
  return insert(spool, device, &row);
}

/* Whether the file was removed or renamed, so that the next start would not find it. */
static bool is_gone(struct tb_spool *spool) {
  int moved = 0;
  return sqlite3_file_control(spool->db, "main", SQLITE_FCNTL_HAS_MOVED, &moved) == SQLITE_OK && moved != 0;
}

static int64_t pages_of(const struct tb_spool *spool, const struct tb_run *run) {
  return tb_room_pages(spool, run->data.length + 2 * run->keys.length); /* keys have a row and an index */
}

/* Where a transaction that begins with the first run in memory ends: before this one, or NULL. */
static struct tb_pending *end_of_transaction(const struct tb_spool *spool, int64_t *pages) {
  struct tb_pending *end = spool->first;
  *pages = 0;
  do {
    *pages += pages_of(spool, &end->run);
    end = end->next;
  } while (end != NULL && *pages + pages_of(spool, &end->run) <= tb_room_in_transaction(spool));
  return end;
}

/* Whether one statement writes it, which needs no transaction around it. */
static bool is_one_statement(const struct tb_spool *spool, const struct tb_pending *p) {
  return is_last_shape(spool, &p->run.keys) && (!p->undated || spool->period != 0);
}

static int write_until(struct tb_spool *spool, const struct tb_pending *end) {
  bool alone = spool->first->next == end && is_one_statement(spool, spool->first);
  int code = alone ? SQLITE_OK : run(spool, TB_BEGIN);
  if (code != SQLITE_OK) return code;
  for (struct tb_pending *p = spool->first; code == SQLITE_OK && p != end; p = p->next) code = write_pending(spool, p);
  if (!alone) code = finish(spool, code);
  if (code != SQLITE_OK) forget_tails(spool);
  return code;
}

/* If the log could not grow, its pages may still fit into the file, and the log begins anew. */
static bool restarts_log(struct tb_spool *spool, int code) {
  return ((code & 0xFF) == SQLITE_FULL || (code & 0xFF) == SQLITE_IOERR) &&
         sqlite3_wal_checkpoint_v2(spool->db, NULL, SQLITE_CHECKPOINT_RESTART, NULL, NULL) == SQLITE_OK;
}

int tb_sqlite_sync(struct tb_spool *spool) {
  if (spool->db != NULL && is_gone(spool)) return SQLITE_READONLY_DBMOVED; /* with all that was written before */
  if (spool->first == NULL) return SQLITE_OK;
  if (spool->db == NULL) return SQLITE_CANTOPEN;
  while (spool->first != NULL) {
    int64_t pages;
    const struct tb_pending *end = end_of_transaction(spool, &pages);
    int code = tb_room_for(spool, pages);
    if (code != SQLITE_OK) return code;
    code = write_until(spool, end);
    if (restarts_log(spool, code)) code = write_until(spool, end);
    if (code != SQLITE_OK) return code;
    while (spool->first != end) {
      spool->devices[spool->first->device].bytes -= spool->first->saved;
      tb_pending_pop(spool);
    }
  }
  return SQLITE_OK;
}

/* ---- Removing ---- */

/* What stays of the row that holds a record, when records from one number to another are taken out of it. Where it has
 * none, `count` is 0. */
struct rest {
  struct tb_row head, tail;
};

static void free_rest(struct rest *rest) {
  tb_run_free(&rest->head.run);
  tb_run_free(&rest->tail.run);
}

static int cut_copy(struct rest *rest, const struct tb_row *found, int64_t first, int64_t last) {
  rest->head = *found;
  tb_run_init(&rest->head.run, TB_MOST_RECORD);
  struct tb_buffer data = rest->head.run.data, keys = rest->head.run.keys;
  if (!tb_buffer_append(&data, found->run.data.data, found->run.data.length)) return SQLITE_NOMEM;
  rest->head.run = found->run;
  rest->head.run.data = data;
  rest->head.run.keys = keys;
  rest->tail = rest->head;
  enum tb_cut cut = tb_run_cut(&rest->head.run, first, last, &rest->tail.run);
  if (cut != TB_CUT) return cut == TB_CUT_NO_MEMORY ? SQLITE_NOMEM : SQLITE_CORRUPT;
  if (rest->head.run.first > last) { /* nothing stays before them */
    rest->tail = rest->head;
    tb_run_init(&rest->head.run, TB_MOST_RECORD);
  }
  return SQLITE_OK;
}

/* Finds the row that holds the record `number`, and what stays of it. */
static int cut_row(struct tb_spool *spool, const struct tb_device *device, int64_t number, int64_t first, int64_t last,
                   struct rest *rest) {
  struct tb_row found;
  const struct tb_cursor cursor = tb_cursor_open(spool, device, TB_FIND, number - TB_MOST_IN_RUN + 1, number);
  int code = tb_cursor_next(&cursor, &found);
  if (code == SQLITE_ROW) {
    int64_t end = found.run.first + found.run.count;
    bool is_cut = end > number && (found.run.first < first || end > last + 1);
    code = is_cut ? cut_copy(rest, &found, first, last) : SQLITE_OK;
  }
  tb_cursor_close(&cursor);
  return code == SQLITE_DONE ? SQLITE_OK : code;
}

/* Writes what stays of a row. */
static int write_rest(struct tb_spool *spool, struct tb_device *device, const struct tb_row *row) {
  if (row->run.count == 0) return SQLITE_OK;
  count_row(device, &row->run, 1);
  return insert(spool, device, row);
}

static int take_out(struct tb_spool *spool, struct tb_device *device, int64_t first, int64_t last) {
  struct rest left = {0}, right = {0}; /* of the row that holds the first, and of that which holds the last */
  int code = cut_row(spool, device, first, first, last, &left);
  int64_t from = left.head.run.count > 0 ? left.head.run.first : first;
  if (code == SQLITE_OK && left.tail.run.count == 0) code = cut_row(spool, device, last, first, last, &right);
  if (code == SQLITE_OK) code = count_rows(spool, device, from, last, -1);
  if (code == SQLITE_OK) {
    bind_range(device, spool->statements[TB_DELETE], from, last);
    code = run(spool, TB_DELETE);
    spool->removed += sqlite3_changes(spool->db);
  }
  if (code == SQLITE_OK) code = write_rest(spool, device, &left.head);
  if (code == SQLITE_OK) code = write_rest(spool, device, left.tail.run.count > 0 ? &left.tail : &right.tail);
  free_rest(&left);
  free_rest(&right);
  return code;
}

/* Notes the last time given, while records that show it leave the file: later ones that nobody can date follow it. */
static int note_last(struct tb_spool *spool, const struct tb_device *device) {
  if (!spool->clock.given || spool->clock.undated) return SQLITE_OK;
  sqlite3_bind_int64(spool->statements[TB_NOTE_LAST], 1, device->number);
  sqlite3_bind_int64(spool->statements[TB_NOTE_LAST], 2, spool->clock.last);
  return run(spool, TB_NOTE_LAST);
}

/* Removes them in one transaction. */
static int remove_at_once(struct tb_spool *spool, struct tb_device *device, int64_t first, int64_t last) {
  device->tail.length = 0;
  tb_room_forget(spool); /* what stays of a row may take a page */
  const struct tb_device before = *device;
  int code = run(spool, TB_BEGIN);
  if (code != SQLITE_OK) return code;
  code = take_out(spool, device, first, last);
  if (code == SQLITE_OK) code = note_last(spool, device);
  code = finish(spool, code);
  if (code != SQLITE_OK) *device = before;
  return code;
}

/* The last record that is removed in one transaction with the first, of those up to `last`: that of as many rows as it
 * may have, and no more bytes. */
static int last_at_once(struct tb_spool *spool, const struct tb_device *device, int64_t first, int64_t bytes,
                        int64_t *last) {
  sqlite3_stmt *sizes = spool->statements[TB_SIZES];
  int64_t rows = tb_room_in_transaction(spool), end = *last;
  int code = SQLITE_ROW;
  bind_range(device, sizes, first, *last);
  for (; rows > 0 && bytes > 0 && (code = sqlite3_step(sizes)) == SQLITE_ROW; rows--) {
    end = sqlite3_column_int64(sizes, 0) - id_of(device, 0) + sqlite3_column_int64(sizes, 1) - 1;
    bytes -= sqlite3_column_int64(sizes, 2);
  }
  sqlite3_reset(sizes);
  if (code == SQLITE_ROW && end < *last) *last = end;
  return code == SQLITE_ROW || code == SQLITE_DONE ? SQLITE_OK : code;
}

int tb_sqlite_remove(struct tb_spool *spool, struct tb_device *device, int64_t first, int64_t last) {
  while (first <= last) {
    int64_t until = last;
    int code = last_at_once(spool, device, first, INT64_MAX, &until);
    if (code == SQLITE_OK) code = remove_at_once(spool, device, first, until);
    if (restarts_log(spool, code)) code = remove_at_once(spool, device, first, until);
    if (code != SQLITE_OK) return code;
    first = until + 1;
  }
  return SQLITE_OK;
}

int tb_sqlite_remove_oldest(struct tb_spool *spool, struct tb_device *device) {
  int64_t last = device->next;
  int code = last_at_once(spool, device, 0, FREED_PAGES * spool->page, &last);
  return code == SQLITE_OK ? remove_at_once(spool, device, 0, last) : code;
}

static int read_unused_shapes(struct tb_spool *spool, int64_t numbers[FREED_SHAPES], int64_t *count) {
  sqlite3_stmt *statement = spool->statements[TB_UNUSED_SHAPES];
  int code;
  *count = 0;
  sqlite3_bind_int64(statement, 1, FREED_SHAPES);
  while ((code = sqlite3_step(statement)) == SQLITE_ROW) numbers[(*count)++] = sqlite3_column_int64(statement, 0);
  sqlite3_reset(statement);
  return code == SQLITE_DONE ? SQLITE_OK : code;
}

/* Deletes shapes in one transaction. */
static int delete_shapes(struct tb_spool *spool, const int64_t *numbers, int64_t count) {
  int code = run(spool, TB_BEGIN);
  if (code != SQLITE_OK) return code;
  for (int64_t i = 0; code == SQLITE_OK && i < count; i++) {
    sqlite3_bind_int64(spool->statements[TB_DELETE_SHAPE], 1, numbers[i]);
    code = run(spool, TB_DELETE_SHAPE);
  }
  return finish(spool, code);
}

int tb_sqlite_remove_shapes(struct tb_spool *spool, int64_t *count) {
  int64_t numbers[FREED_SHAPES], pages = 0, found;
  *count = 0;
  int code = read_number(spool->statements[TB_PAGE_COUNT], &pages);
  sqlite3_reset(spool->statements[TB_PAGE_COUNT]);
  if (code != SQLITE_OK || spool->removed < pages) return code;
  tb_room_forget(spool);
  spool->shape = 0;
  int64_t at_once = tb_room_in_transaction(spool) / 2; /* each has an entry in an index, too */
  code = read_unused_shapes(spool, numbers, &found);
  if (code == SQLITE_OK && found < FREED_SHAPES) spool->removed = 0;
  while (code == SQLITE_OK && *count < found) {
    int64_t some = found - *count < at_once ? found - *count : at_once;
    code = delete_shapes(spool, numbers + *count, some);
    if (restarts_log(spool, code)) code = delete_shapes(spool, numbers + *count, some);
    if (code == SQLITE_OK) *count += some;
  }
  return code;
}

int tb_sqlite_date(struct tb_spool *spool, int64_t offset) {
  sqlite3_stmt *statement = spool->statements[TB_DATE];
  sqlite3_bind_int64(statement, 1, offset);
  sqlite3_bind_text(statement, 2, spool->boot, -1, SQLITE_STATIC);
  int code = run(spool, TB_DATE);
  if (code == SQLITE_OK) spool->period = 0;
  return code;
}
