/*** The outbox's store: records that wait for the server, on disk and in memory. It knows nothing of sending.
@module thingsboard.spool

This is not a general binding of SQLite: records are packed into runs (see run.h), a row is a run, and a batch is
written from rows, so no record becomes a Lua string.

`put` keeps records in memory, as runs; `sync` writes them to the file, and while the disk fails they stay in memory.
Each device's records are numbered.

A method that fails returns nil, what is wrong, and SQLite's name of the error: `BUSY` when another process has the
file, `CORRUPT` or `NOTADB` when it is damaged, `FULL` when it cannot grow, `TOOBIG` when what is to be written is too
large even for the room that records take which could be removed, `MOVED` when it was removed or renamed. */
#include "base/fork.h"
#include "base/memory.h"
#include "base/userdata.h"
#include "spool/batch.h"
#include "spool/pending.h"
#include "spool/room.h"
#include "spool/sqlite.h"
#include "json/body.h"
#include "json/writer.h"

#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <lua.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char TYPE[] = "thingsboard.spool";

enum { DEFAULT_LIMIT = 64 * 1024 * 1024 };

static void check_free(lua_State *L, const struct tb_spool *spool) {
  if (spool->busy) luaL_error(L, "the outbox is in use: a finalizer has called it in the midst of another call");
}

static struct tb_spool *check_spool(lua_State *L) {
  struct tb_spool *spool = tb_check(L, 1, TYPE, sizeof *spool);
  check_free(L, spool);
  if (spool->path == NULL) luaL_error(L, "the outbox is closed");
  if (spool->forks != tb_forks()) luaL_error(L, "the outbox belongs to the parent process: make a new one after fork");
  return spool;
}

/* lua_pcall of what may run the collector. Meanwhile finalizers must not change the store. */
static int call_busy(lua_State *L, struct tb_spool *spool, int arguments, int results) {
  spool->busy = true;
  int status = lua_pcall(L, arguments, results, 0);
  spool->busy = false;
  return status;
}

/* A time, a size or a record's number. Those that are too large for any saturate, so that sums cannot overflow. */
static int64_t check_number(lua_State *L, int index) {
  const int64_t most = (int64_t)1 << 60;
  int64_t number = luaL_checkinteger(L, index);
  return number > most ? most : number < -most ? -most : number;
}

static struct tb_device *check_device(lua_State *L, struct tb_spool *spool, int index) {
  lua_Integer number = luaL_checkinteger(L, index);
  luaL_argcheck(L, number >= 1 && (lua_Unsigned)number <= spool->device_count, index, "no such device");
  return &spool->devices[number - 1];
}

static const char *code_name(int code) {
  if (code == SQLITE_READONLY_DBMOVED) return "MOVED";
  switch (code & 0xFF) {
#define NAME(name)                                                                                                     \
  case SQLITE_##name:                                                                                                  \
    return #name;
    NAME(BUSY)
    NAME(FULL)
    NAME(TOOBIG)
    NAME(READONLY)
    NAME(IOERR)
    NAME(CORRUPT)
    NAME(NOTADB)
    NAME(CANTOPEN)
    NAME(NOMEM)
#undef NAME
  default:
    return "ERROR";
  }
}

/* Pushes nil, what went wrong, and the code's name. */
static int failure(lua_State *L, const struct tb_spool *spool, int code) {
  bool is_last = spool->db != NULL && sqlite3_errcode(spool->db) == code;
  const char *text = is_last ? sqlite3_errmsg(spool->db) : sqlite3_errstr(code);
  int error = is_last && (code & 0xFF) == SQLITE_IOERR ? sqlite3_system_errno(spool->db) : 0;
  lua_pushnil(L);
  if (code == SQLITE_READONLY_DBMOVED)
    lua_pushfstring(L, "%s: the file was removed, or has another name", spool->path);
  else if (code == SQLITE_TOOBIG)
    lua_pushfstring(L, "%s: this is too large for the room that the file and its log have", spool->path);
  else if ((code & 0xFF) == SQLITE_BUSY)
    lua_pushfstring(L, "%s: another process has this outbox open", spool->path);
  else
    lua_pushfstring(L, "%s: %s", spool->path, error != 0 ? strerror(error) : text);
  lua_pushstring(L, code_name(code));
  return 3;
}

/* The kernel's id of this boot; empty where it has none. */
static void read_boot(char *id, size_t room) {
  int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
  ssize_t length = fd < 0 ? 0 : read(fd, id, room - 1);
  if (fd >= 0) close(fd);
  while (length > 0 && id[length - 1] == '\n') length--;
  id[length > 0 ? length : 0] = '\0';
}

/*** Makes a store. Its file is not opened yet.
@function spool
@tparam string path of its file
@treturn userdata */
static int spool_new(lua_State *L) {
  size_t length;
  const char *path = luaL_checklstring(L, 1, &length);
  luaL_argcheck(L, length > 0 && strlen(path) == length, 1, "not a file name");
  struct tb_spool *spool = tb_new(L, TYPE, sizeof *spool, TB_JSON_USER_VALUES);
  spool->forks = tb_forks();
  read_boot(spool->boot, sizeof spool->boot);
  tb_buffer_init(&spool->keys, TB_MOST_RECORD);
  tb_buffer_init(&spool->values, TB_MOST_RECORD);
  tb_buffer_init(&spool->shape_keys, TB_MOST_RECORD);
  tb_buffer_init(&spool->body, SIZE_MAX / 2);
  tb_room_set_limit(spool, DEFAULT_LIMIT);
  spool->path = strdup(path);
  if (spool->path == NULL) return luaL_error(L, TB_NO_MEMORY);
  lua_getfield(L, LUA_REGISTRYINDEX, TB_JSON_WRITER);
  spool->writer = lua_touserdata(L, -1);
  lua_pop(L, 1);
  spool->writer->set_user_values(L);
  return 1;
}

/*** Opens the file, or makes it. Records that are in memory are numbered anew, behind those in the file: numbers that
were returned before this call are invalid.
@function spool:open
@treturn[1] string the kernel's id of this boot; also when the file is open already
@return[2] failure
@treturn[2] boolean whether they are numbered anew all the same: it failed late */
static int spool_open(lua_State *L) {
  struct tb_spool *spool = check_spool(L);
  int code = spool->db != NULL ? SQLITE_OK : tb_sqlite_open(spool);
  if (code == SQLITE_OK) {
    lua_pushstring(L, spool->boot);
    return 1;
  }
  bool anew = spool->device_count > 0 && spool->devices[0].number != 0;
  tb_sqlite_close(spool); /* first: the message takes memory, which may be short */
  int results = failure(L, spool, code);
  if (spool->problem != NULL) {
    lua_pushfstring(L, "%s: %s", spool->path, spool->problem);
    lua_replace(L, -3);
  }
  lua_pushboolean(L, anew);
  return results + 1;
}

/*** Closes the file, so that it can be opened again or renamed. Records in memory stay, numbered anew.
@function spool:shut */
static int spool_shut(lua_State *L) {
  tb_sqlite_close(check_spool(L));
  return 0;
}

/*** Adds a device, unless it is there.
@function spool:device
@tparam string name
@treturn[1] integer by which the other methods know it
@return[2] failure */
static int spool_device(lua_State *L) {
  struct tb_spool *spool = check_spool(L);
  luaL_checktype(L, 2, LUA_TSTRING); /* not a number: to convert it might run the collector */
  const char *name = lua_tostring(L, 2);
  for (size_t i = 0; i < spool->device_count; i++) {
    if (strcmp(spool->devices[i].name, name) != 0) continue;
    lua_pushinteger(L, (lua_Integer)i + 1);
    return 1;
  }
  struct tb_device *devices = realloc(spool->devices, (spool->device_count + 1) * sizeof *devices);
  if (devices == NULL) return luaL_error(L, TB_NO_MEMORY);
  spool->devices = devices;
  devices[spool->device_count] = (struct tb_device){.index = spool->device_count, .name = strdup(name)};
  if (devices[spool->device_count].name == NULL) return luaL_error(L, TB_NO_MEMORY);
  int code = spool->db == NULL ? SQLITE_OK : tb_sqlite_attach_device(spool, spool->device_count);
  if (code != SQLITE_OK) {
    free(devices[spool->device_count].name);
    return failure(L, spool, code);
  }
  lua_pushinteger(L, (lua_Integer)++spool->device_count);
  return 1;
}

/*** Writes the records in memory to the file. Where that fails, those that are not in the file stay in memory.
@function spool:sync
@treturn[1] boolean true: they are on the disk
@return[2] failure */
static int spool_sync(lua_State *L) {
  struct tb_spool *spool = check_spool(L);
  spool->due = 0;
  int code = tb_sqlite_sync(spool);
  if (code != SQLITE_OK) return failure(L, spool, code);
  lua_pushboolean(L, 1);
  return 1;
}

/*** Puts a batch together, oldest record first. The records stay where they are.
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
@return[3] failure */
static int spool_batch(lua_State *L) {
  struct tb_spool *spool = check_spool(L);
  const struct tb_device *device = check_device(L, spool, 2);
  struct tb_batch batch = {.first = check_number(L, 3),
                           .last = check_number(L, 4),
                           .max_bytes = check_number(L, 5),
                           .max_records = check_number(L, 6),
                           .max_points = check_number(L, 7)};
  struct tb_body *body = luaL_checkudata(L, 8, TB_BODY);
  luaL_argcheck(L, body->open, 8, "the body was closed");
  if (batch.last >= device->next) batch.last = device->next - 1;
  int code = tb_batch_read(spool, device, &batch);
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

/*** Removes records that are in memory, and nothing that is on disk.
@function spool:discard_pending
@tparam integer device
@tparam integer first number of the first
@tparam integer last number of the last
@treturn integer how many there were; raises when memory is short */
static int spool_discard_pending(lua_State *L) {
  struct tb_spool *spool = check_spool(L);
  struct tb_device *device = check_device(L, spool, 2);
  int64_t first = check_number(L, 3), last = check_number(L, 4), count = device->count;
  if (!tb_pending_remove(spool, device, first, last)) return luaL_error(L, TB_NO_MEMORY);
  lua_pushinteger(L, count - device->count);
  return 1;
}

/* The values of a record, and its time where it has one. A plain record never looks like an envelope: the JSON writer
 * refuses keys that would make it one. */
static const char *open_envelope(const char *at, const char *end, int64_t *ts) {
  static const char begin[] = "{\"ts\":", middle[] = ",\"values\":";
  char *rest;
  if (memcmp(at, begin, sizeof begin - 1) != 0) return at;    /* the shortest record is longer: {"a":1} */
  long long time = strtoll(at + sizeof begin - 1, &rest, 10); /* ends at what is no digit, before the text does */
  if ((size_t)(end - rest) < sizeof middle || memcmp(rest, middle, sizeof middle - 1) != 0) return at;
  *ts = time;
  return rest + sizeof middle - 1;
}

/*** Says how the time is known.
@function spool:set_clock_policy
@tparam ?string policy `wall`: by the system's clock; `confirmed`: by the system's clock while it is within a minute of
the uptime and the offset, else by these; `fixed`: by these; nil: nobody knows it
@tparam ?integer offset milliseconds to be added to the uptime, 0 when absent */
static int spool_set_clock_policy(lua_State *L) {
  static const char *const POLICIES[] = {[TB_CLOCK_UNKNOWN] = "unknown",
                                         [TB_CLOCK_WALL] = "wall",
                                         [TB_CLOCK_CONFIRMED] = "confirmed",
                                         [TB_CLOCK_FIXED] = "fixed",
                                         NULL};
  struct tb_spool *spool = tb_check(L, 1, TYPE, sizeof *spool);
  int policy = luaL_checkoption(L, 2, "unknown", POLICIES);
  spool->clock.offset = lua_isnoneornil(L, 3) ? 0 : check_number(L, 3);
  spool->clock.policy = (enum tb_clock_policy)policy;
  return 0;
}

/*** What has to be added to the time since the system's start.
@function spool:offset
@treturn ?integer milliseconds; nil when nobody knows */
static int spool_offset(lua_State *L) {
  const struct tb_spool *spool = tb_check(L, 1, TYPE, sizeof *spool);
  int64_t offset;
  if (tb_record_clock_offset(&spool->clock, tb_uptime(), &offset))
    lua_pushinteger(L, offset);
  else
    lua_pushnil(L);
  return 1;
}

/*** Lets the next time, and what waits for a date, follow a time that was given before, unless that is too far ahead.
@function spool:follow
@tparam integer time milliseconds since 1970
@tparam integer most milliseconds that it may lie ahead */
static int spool_follow(lua_State *L) {
  struct tb_spool *spool = tb_check(L, 1, TYPE, sizeof *spool);
  tb_record_clock_follow(&spool->clock, check_number(L, 2), check_number(L, 3));
  return 0;
}

/*** Lets the next time come behind uptimes that were given before, in this start of the system, while nobody knew the
time.
@function spool:follow_uptimes
@tparam integer first milliseconds since the system's start
@tparam integer last */
static int spool_follow_uptimes(lua_State *L) {
  struct tb_spool *spool = tb_check(L, 1, TYPE, sizeof *spool);
  tb_record_clock_follow_uptimes(&spool->clock, check_number(L, 2), check_number(L, 3));
  return 0;
}

/*** The last time given, when it is later than the true one: more records came than there were milliseconds, or the
clock was stepped back.
@function spool:ahead
@treturn ?integer milliseconds since 1970 */
static int spool_ahead(lua_State *L) {
  const struct tb_spool *spool = tb_check(L, 1, TYPE, sizeof *spool);
  int64_t last;
  if (!tb_record_clock_ahead(&spool->clock, &last)) return 0;
  lua_pushinteger(L, last);
  return 1;
}

/*** Lets records wait in memory for a while: `put` says then that they may. `sync` ends that.
@function spool:wait
@tparam integer time milliseconds */
static int spool_wait(lua_State *L) {
  struct tb_spool *spool = check_spool(L);
  spool->due = tb_uptime() + check_number(L, 2);
  return 0;
}

/* Adds the records in spool->body: one, or a list. `stamped` tells whether any got its time here. False when memory is
 * short, with some of them added. */
static bool keep_records(struct tb_spool *spool, struct tb_device *device, int64_t up, bool *stamped) {
  const char *at = spool->body.data, *end = at + spool->body.length;
  if (*at == '[') at++;
  while (at < end) {
    int64_t ts;
    const char *values = open_envelope(at, end, &ts);
    bool own = values != at;
    if (!own) ts = *stamped ? ++spool->clock.last : tb_record_clock_next(&spool->clock, up);
    *stamped = *stamped || !own;
    at = tb_pending_put(spool, device, ts, !own && spool->clock.undated, values, end);
    if (at == NULL) return false;
    at += own ? 2 : 1; /* the envelope's brace, and the comma or the bracket */
  }
  return true;
}

/*** Adds records, in memory: all or none. They are on disk after the next `sync`. Those that bring no time get the time
of the call, each a millisecond later than the one before.
@function spool:put
@tparam integer device
@tparam table values what `body:telemetry` takes
@treturn[1] integer the number of the first record; raises when memory is short
@treturn[1] integer the number of the last record
@treturn[1] ?boolean whether they may wait in memory; nil: not these, which are so large that the file may lack room
@treturn[1] integer how many records wait now
@treturn[1] integer and how many bytes
@treturn[1] boolean whether nobody knows what time it is
@treturn[2] nil
@treturn[2] string why they cannot be sent */
static int spool_put(lua_State *L) {
  struct tb_spool *spool = check_spool(L);
  struct tb_device *device = check_device(L, spool, 2);
  /* At the line of the script that called the function that calls this one. */
  const struct tb_json_call call = {.form = TB_JSON_TELEMETRY, .what = "put", .level = 2};
  if (!lua_istable(L, 3)) {
    luaL_where(L, call.level);
    lua_pushfstring(L, "put: a table expected, got %s", luaL_typename(L, 3));
    lua_concat(L, 2);
    return lua_error(L);
  }
  spool->body.length = 0;
  if (!spool->writer->write(L, 3, &spool->body, &call)) {
    lua_pop(L, 1); /* where it is: the reason says that */
    lua_pushnil(L);
    lua_insert(L, -2);
    return 2;
  }
  int64_t first = device->next, up = tb_uptime();
  bool stamped = false;
  if (!keep_records(spool, device, up, &stamped)) {
    tb_pending_remove(spool, device, first, device->next - 1);
    return luaL_error(L, TB_NO_MEMORY);
  }
  lua_pushinteger(L, first);
  lua_pushinteger(L, device->next - 1);
  bool is_large = spool->db != NULL && tb_room_pages(spool, spool->body.length) > tb_room_in_transaction(spool);
  if (is_large)
    lua_pushnil(L);
  else
    lua_pushboolean(L, up < spool->due);
  lua_pushinteger(L, device->count);
  lua_pushinteger(L, device->bytes);
  lua_pushboolean(L, stamped && spool->clock.undated);
  return 6;
}

/*** Removes records. Those in the file are removed on the disk when this returns.
@function spool:remove
@tparam integer device
@tparam integer first number of the first
@tparam integer last number of the last
@treturn[1] integer how many there were
@return[2] failure */
static int spool_remove(lua_State *L) {
  struct tb_spool *spool = check_spool(L);
  struct tb_device *device = check_device(L, spool, 2);
  int64_t first = check_number(L, 3), last = check_number(L, 4), count = device->count;
  luaL_argcheck(L, first >= 0, 3, "negative");
  if (last >= device->next) last = device->next - 1;
  int code = spool->db == NULL || first > last ? SQLITE_OK : tb_sqlite_remove(spool, device, first, last);
  if (code == SQLITE_OK && first <= last && !tb_pending_remove(spool, device, first, last)) code = SQLITE_NOMEM;
  if (code != SQLITE_OK) return failure(L, spool, code);
  lua_pushinteger(L, count - device->count);
  return 1;
}

/*** Removes some of a device's oldest records that are on disk, to make room.
@function spool:remove_oldest
@tparam integer device
@treturn[1] integer how many there were
@return[2] failure */
static int spool_remove_oldest(lua_State *L) {
  struct tb_spool *spool = check_spool(L);
  struct tb_device *device = check_device(L, spool, 2);
  int64_t count = device->count;
  int code = spool->db == NULL ? SQLITE_OK : tb_sqlite_remove_oldest(spool, device);
  if (code != SQLITE_OK) return failure(L, spool, code);
  lua_pushinteger(L, count - device->count);
  return 1;
}

/*** Removes what records that are gone have left in the file: names of keys. That takes long, so it is done only now
and then.
@function spool:remove_leftovers
@treturn[1] integer how much there was
@return[2] failure */
static int spool_remove_leftovers(lua_State *L) {
  struct tb_spool *spool = check_spool(L);
  int64_t count = 0;
  int code = spool->db == NULL ? SQLITE_OK : tb_sqlite_remove_shapes(spool, &count);
  if (code != SQLITE_OK) return failure(L, spool, code);
  lua_pushinteger(L, count);
  return 1;
}

/*** Sets how many bytes the file and its log may take together, 64 KiB at least. Without this call that is 64 MiB.
@function spool:set_limit
@tparam integer bytes */
static int spool_set_limit(lua_State *L) {
  struct tb_spool *spool = check_spool(L);
  tb_room_set_limit(spool, check_number(L, 2));
  return 0;
}

/*** Half the size of the file system that the file is in.
@function spool:half_of_disk
@treturn ?integer bytes; nil when that cannot be told */
static int spool_half_of_disk(lua_State *L) {
  const struct tb_spool *spool = check_spool(L);
  int64_t half = tb_room_half(spool->path);
  const char *slash = strrchr(spool->path, '/');
  if (half == 0 && slash != NULL) { /* it is not there yet */
    lua_pushlstring(L, spool->path, (size_t)(slash - spool->path) + 1);
    half = tb_room_half(lua_tostring(L, -1));
  }
  if (half == 0) return 0;
  lua_pushinteger(L, half);
  return 1;
}

/*** Dates the undated records of this boot, in memory and in the file, of all devices.
@function spool:date
@tparam integer offset milliseconds to be added to an uptime
@treturn[1] boolean true
@return[2] failure */
static int spool_date(lua_State *L) {
  struct tb_spool *spool = check_spool(L);
  int64_t offset = check_number(L, 2);
  if (spool->clock.undated) tb_record_clock_became_known(&spool->clock, offset);
  if (spool->clock.became_known) offset = spool->clock.known_offset;
  int code = spool->db == NULL ? SQLITE_OK : tb_sqlite_date(spool, offset);
  if (code != SQLITE_OK) return failure(L, spool, code);
  for (struct tb_pending *p = spool->first; p != NULL; p = p->next) {
    if (!p->undated) continue;
    p->undated = false;
    p->run.ts += offset;
    p->run.last_ts += offset;
  }
  spool->clock.became_known = false;
  lua_pushboolean(L, 1);
  return 1;
}

/*** Counts what waits of a device.
@function spool:counts
@tparam integer device
@treturn integer records
@treturn integer bytes
@treturn integer number that the next record gets
@treturn integer the device's number in the file, 0 while that is not open */
static int spool_counts(lua_State *L) {
  struct tb_spool *spool = check_spool(L);
  const struct tb_device *device = check_device(L, spool, 2);
  lua_pushinteger(L, device->count);
  lua_pushinteger(L, device->bytes);
  lua_pushinteger(L, device->next);
  lua_pushinteger(L, device->number);
  return 4;
}

/* Pushes what `oldest` returns of a run. */
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

/* Pushes what `oldest` returns of the first row that a statement finds. Returns how many values that is: 0 without one.
 */
static int push_row(lua_State *L, struct tb_spool *spool, const struct tb_device *device, enum tb_statement which,
                    int64_t before) {
  const struct tb_cursor cursor = tb_cursor_open(spool, device, which, 0, device->next);
  struct tb_row row;
  int code = tb_cursor_next(&cursor, &row);
  int results = code == SQLITE_ROW ? push_run(L, &row.run, row.period != 0, before) : 0;
  tb_cursor_close(&cursor);
  return code == SQLITE_ROW || code == SQLITE_DONE ? results : failure(L, spool, code);
}

/*** The oldest run of a device's records.
@function spool:oldest
@tparam integer device
@tparam boolean in_memory only of those that are not in the file
@tparam ?integer before milliseconds since 1970: only those records of it that are older
@treturn[1] integer the first one's number
@treturn[1] integer the last one's number
@treturn[1] integer the last one's time
@treturn[1] boolean whether that is an uptime
@treturn[2] boolean false: there are none
@return[3] failure */
static int spool_oldest(lua_State *L) {
  struct tb_spool *spool = check_spool(L);
  const struct tb_device *device = check_device(L, spool, 2);
  int64_t before = lua_isnoneornil(L, 4) ? INT64_MAX : check_number(L, 4);
  int results = spool->db != NULL && !lua_toboolean(L, 3) ? push_row(L, spool, device, TB_SELECT, before) : 0;
  if (results > 0) return results;
  for (const struct tb_pending *p = spool->first; p != NULL; p = p->next)
    if (&spool->devices[p->device] == device) return push_run(L, &p->run, p->undated, before);
  lua_pushboolean(L, 0);
  return 1;
}

/*** The newest run of a device's records in the file.
@function spool:newest
@tparam integer device
@return as `oldest` */
static int spool_newest(lua_State *L) {
  struct tb_spool *spool = check_spool(L);
  const struct tb_device *device = check_device(L, spool, 2);
  int results = spool->db != NULL ? push_row(L, spool, device, TB_FIND, INT64_MAX) : 0;
  if (results > 0) return results;
  lua_pushboolean(L, 0);
  return 1;
}

/*** The times of records in the file, of all devices.
@function spool:span
@tparam integer period the number of that in which they are undated; 0: of those that are dated
@treturn[1] integer the first; uptimes where they are undated
@treturn[1] integer the last
@treturn[2] boolean false: there are none
@return[3] failure */
static int spool_span(lua_State *L) {
  struct tb_spool *spool = check_spool(L);
  int64_t period = luaL_checkinteger(L, 2), first = INT64_MAX, last = INT64_MIN;
  int code = spool->db == NULL ? SQLITE_CANTOPEN : tb_sqlite_span(spool, period, &first, &last);
  if (code != SQLITE_OK) return failure(L, spool, code);
  if (first > last) {
    lua_pushboolean(L, 0);
    return 1;
  }
  lua_pushinteger(L, first);
  lua_pushinteger(L, last);
  return 2;
}

/*** The absolute name of a file, which need not be there yet, without links and dots. A file to which a link leads is
made, its owner's alone: else its name could not be told.
@function real_path
@tparam string path
@treturn[1] string
@treturn[2] nil
@treturn[2] string what is wrong with its directory */
static int real_path(lua_State *L) {
  const char *path = luaL_checkstring(L, 1);
  struct stat about;
  char *real = realpath(path, NULL);
  if (real == NULL && errno == ENOENT && lstat(path, &about) == 0) {
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd >= 0) close(fd);
    real = realpath(path, NULL);
  }
  if (real == NULL && errno == ENOENT) {
    const char *slash = strrchr(path, '/');
    const char *directory = slash == NULL   ? "."
                            : slash == path ? "/"
                                            : lua_pushlstring(L, path, (size_t)(slash - path));
    real = realpath(directory, NULL);
    if (real != NULL) {
      lua_pushfstring(L, "%s/%s", real, slash == NULL ? path : slash + 1);
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
    if (lua_type(L, i) == LUA_TNUMBER) {
      code = sqlite3_bind_int64(statement, i - from + 1, luaL_checkinteger(L, i));
    } else {
      const char *text = luaL_checklstring(L, i, &length);
      code = sqlite3_bind_blob64(statement, i - from + 1, text, length, SQLITE_STATIC);
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

/* Binds the values behind a statement, and gives its rows, and SQLite's code. */
static int read_rows(lua_State *L) {
  sqlite3_stmt *statement = lua_touserdata(L, 1);
  int code = bind_values(L, statement, 2);
  lua_Integer rows = 0;
  lua_newtable(L);
  while (code == SQLITE_OK && (code = sqlite3_step(statement)) == SQLITE_ROW) {
    lua_newtable(L);
    for (int i = 0; i < sqlite3_column_count(statement); i++) {
      push_column(L, statement, i);
      lua_rawseti(L, -2, i + 1);
    }
    lua_rawseti(L, -2, ++rows);
    code = SQLITE_OK;
  }
  lua_pushinteger(L, code);
  return 2;
}

/* Reserves room for a change of so many bytes. A small one may need none. */
static int reserve(struct tb_spool *spool, size_t bytes) {
  int code = tb_room_for(spool, tb_room_pages(spool, bytes));
  bool is_full = code == SQLITE_FULL || code == SQLITE_TOOBIG;
  return is_full && (int64_t)bytes <= spool->page ? SQLITE_OK : code;
}

/*** Reserves room for a transaction of several statements.
@function spool:reserve
@tparam integer bytes of all of them
@treturn[1] boolean true
@return[2] failure */
static int spool_reserve(lua_State *L) {
  struct tb_spool *spool = check_spool(L);
  lua_Integer bytes = luaL_checkinteger(L, 2);
  int code = spool->db == NULL ? SQLITE_CANTOPEN : reserve(spool, (size_t)bytes);
  if (code != SQLITE_OK) return failure(L, spool, code);
  lua_pushboolean(L, true);
  return 1;
}

/*** Runs one SQL statement, for what is done seldom. Strings go as blobs.
@function spool:query
@tparam string sql
@param ... integers and strings for its question marks
@treturn[1] table a list of rows, each a list of columns
@return[2] failure */
static int spool_query(lua_State *L) {
  struct tb_spool *spool = check_spool(L);
  luaL_checktype(L, 2, LUA_TSTRING);
  int values = lua_gettop(L) - 2;
  size_t bytes = 0;
  for (int i = 3; i <= values + 2; i++) {
    if (lua_isinteger(L, i)) continue;
    luaL_checktype(L, i, LUA_TSTRING);
    size_t length;
    lua_tolstring(L, i, &length);
    bytes += length;
  }
  if (spool->db == NULL) return failure(L, spool, SQLITE_CANTOPEN);
  sqlite3_stmt *statement = NULL;
  int code = sqlite3_prepare_v2(spool->db, lua_tostring(L, 2), -1, &statement, NULL);
  if (code == SQLITE_OK && !sqlite3_stmt_readonly(statement)) code = reserve(spool, bytes);
  if (code != SQLITE_OK) {
    sqlite3_finalize(statement);
    return failure(L, spool, code);
  }
  lua_pushcfunction(L, read_rows);
  lua_insert(L, 3);
  lua_pushlightuserdata(L, statement);
  lua_insert(L, 4);
  int status = call_busy(L, spool, values + 1, 2);
  if (status == LUA_OK) code = (int)lua_tointeger(L, -1);
  sqlite3_finalize(statement);
  if (status != LUA_OK) return lua_error(L);
  if (code != SQLITE_DONE) return failure(L, spool, code);
  lua_pop(L, 1);
  return 1;
}

/*** Numbers that a device's records may have: a run's id, in the file, is its device's number times this, and the
number of its first record.
@field NUMBERS */

/*** Time since the system's start.
@function uptime
@treturn integer milliseconds, those asleep too */
static int uptime(lua_State *L) {
  lua_pushinteger(L, tb_uptime());
  return 1;
}

/*** Whether a finalizer calls this during another method: all others raise then.
@function spool:busy
@treturn boolean */
static int spool_busy(lua_State *L) {
  const struct tb_spool *spool = tb_check(L, 1, TYPE, sizeof *spool);
  lua_pushboolean(L, spool->busy);
  return 1;
}

/*** Closes the file. Records in memory are lost: call `sync` before. Idempotent.
@function spool:close */
static int spool_close(lua_State *L) {
  struct tb_spool *spool = tb_check(L, 1, TYPE, sizeof *spool);
  check_free(L, spool);
  if (spool->path == NULL) return 0;
  if (spool->forks == tb_forks()) tb_sqlite_close(spool); /* a forked child's would begin the parent's log anew */
  while (spool->first != NULL) tb_pending_pop(spool);
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
  const struct tb_spool *spool = tb_check(L, 1, TYPE, sizeof *spool);
  if (spool->path == NULL)
    lua_pushfstring(L, "%s (closed)", TYPE);
  else
    lua_pushfstring(L, "%s (%s)", TYPE, spool->path);
  return 1;
}

static const luaL_Reg METHODS[] = {{"open", spool_open},
                                   {"shut", spool_shut},
                                   {"device", spool_device},
                                   {"put", spool_put},
                                   {"discard_pending", spool_discard_pending},
                                   {"sync", spool_sync},
                                   {"batch", spool_batch},
                                   {"remove", spool_remove},
                                   {"remove_oldest", spool_remove_oldest},
                                   {"remove_leftovers", spool_remove_leftovers},
                                   {"set_limit", spool_set_limit},
                                   {"half_of_disk", spool_half_of_disk},
                                   {"date", spool_date},
                                   {"counts", spool_counts},
                                   {"oldest", spool_oldest},
                                   {"newest", spool_newest},
                                   {"span", spool_span},
                                   {"reserve", spool_reserve},
                                   {"query", spool_query},
                                   {"set_clock_policy", spool_set_clock_policy},
                                   {"offset", spool_offset},
                                   {"follow", spool_follow},
                                   {"follow_uptimes", spool_follow_uptimes},
                                   {"ahead", spool_ahead},
                                   {"wait", spool_wait},
                                   {"busy", spool_busy},
                                   {"close", spool_close},
                                   {NULL, NULL}};

static const luaL_Reg METAMETHODS[] = {
    {"__gc", spool_close}, {"__close", spool_close}, {"__tostring", spool_tostring}, {NULL, NULL}};

__attribute__((visibility("default"))) int luaopen_thingsboard_spool(lua_State *L); /* all else is hidden */

int luaopen_thingsboard_spool(lua_State *L) {
  static const luaL_Reg functions[] = {
      {"spool", spool_new}, {"uptime", uptime}, {"real_path", real_path}, {NULL, NULL}};
  lua_getglobal(L, "require"); /* of the library that has the writer */
  lua_pushliteral(L, "thingsboard.core");
  lua_call(L, 1, 0);
  if (lua_getfield(L, LUA_REGISTRYINDEX, TB_JSON_WRITER) != LUA_TLIGHTUSERDATA)
    return luaL_error(L, "thingsboard.core and thingsboard.spool are of different versions");
  tb_count_forks(L);
  tb_new_type(L, TYPE, METHODS, METAMETHODS);
  luaL_newlib(L, functions);
  lua_pushinteger(L, TB_NUMBERS);
  lua_setfield(L, -2, "NUMBERS");
  return 1;
}
