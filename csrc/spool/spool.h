/* What the files of thingsboard.spool share: `spool.c` its Lua face, `memory.c` the records that wait in memory,
 * `disk.c` those that wait in SQLite. */
#ifndef TB_SPOOL_H
#define TB_SPOOL_H

#include "spool/record_clock.h"
#include "spool/run.h"

#include <sqlite3.h>
#include <stddef.h>

/* gcc's analyzer loses sight of what hangs in a list, and takes it for lost. */
#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 10
#pragma GCC diagnostic ignored "-Wanalyzer-malloc-leak"
#endif

enum {
  TB_ROW_BYTES = 24, /* beside a run's data: what a row costs */
  TB_MOST_IN_RUN = 256,
  TB_MOST_RUN_BYTES = 16 * 1024,
  TB_MOST_RECORD = 64 * 1024 * 1024
};

/* Numbers that a device's records may have. */
#define TB_NUMBERS ((int64_t)1 << 40)

/* Statements that are run often. */
enum {
  TB_INSERT,
  TB_JOIN,
  TB_SELECT,
  TB_FIND,
  TB_CUT,
  TB_SUM,
  TB_DELETE,
  TB_SHAPE_OF,
  TB_KEYS_OF,
  TB_ADD_SHAPE,
  TB_DATE,
  TB_BEGIN,
  TB_COMMIT,
  TB_ROLLBACK,
  TB_STATEMENTS
};

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
  sqlite3_stmt *statements[TB_STATEMENTS];
  char *path;     /* NULL once closed */
  bool busy;      /* a method runs in whose midst the collector may: a finalizer must change nothing */
  unsigned forks; /* of the process that made it */
  int64_t boot;   /* this boot's number in the file */
  struct device *devices;
  size_t device_count;
  struct pending *first, *last;
  struct tb_buffer keys, values, body;
  /* The shape that was used last, in the file. */
  struct tb_buffer shape_keys;
  int64_t shape;
};

/* ---- memory.c ---- */

void tb_memory_free(struct pending *p);

/* Takes records of a device away; false when memory is short. */
bool tb_memory_remove(struct spool *spool, size_t index, int64_t first, int64_t last);

/* Adds the record whose values have been split; its keys are those of the last run, or have been split as well. False
 * when memory is short. */
bool tb_memory_put(struct spool *spool, struct device *device, int64_t ts, bool undated, bool same_keys);

/* ---- disk.c: what returns an int returns SQLite's code ---- */

/* Opens the file, or makes it, and finds the devices in it. `problem` says what SQLite does not. */
int tb_disk_open(struct spool *spool, const char **problem);

/* Closes the file. What waits in memory stays, as all that there is. */
void tb_disk_close(struct spool *spool);

/* Finds a device in the file: its number and what waits there. What waits in memory already comes behind that. */
int tb_disk_meet(struct spool *spool, size_t index);

/* Writes what waits in memory, all of it or nothing. */
int tb_disk_sync(struct spool *spool);

/* Where the log cannot grow, what is in it may still find room in the file, and it begins anew. */
bool tb_disk_makes_room(struct spool *spool, int code);

/* Takes records away. */
int tb_disk_remove(struct spool *spool, struct device *device, int64_t first, int64_t last);

/* No row takes more records. */
void tb_disk_forget_tails(struct spool *spool);

/* Runs a statement that gives no row. */
int tb_disk_run(struct spool *spool, int which);

/* Ids of the rows that may hold records from `first` to `last`. */
void tb_disk_bind_range(const struct device *device, sqlite3_stmt *statement, int64_t first, int64_t last);

/* A row of TB_SELECT or TB_FIND, as a run that is read only: its buffers are SQLite's. The keys are left out: */
struct tb_run tb_disk_row(const struct device *device, sqlite3_stmt *statement);

/* Sets the keys of a run to those of a shape. */
int tb_disk_load_keys(struct spool *spool, int64_t shape, struct tb_run *run);

#endif
