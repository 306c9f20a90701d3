/* A spool: the outbox's store, and the devices whose records it holds. */
#ifndef TB_SPOOL_H
#define TB_SPOOL_H

#include "spool/record_clock.h"
#include "spool/run.h"
#include "spool/schema.h"

#include <sqlite3.h>

/* gcc's analyzer loses sight of what hangs in a list, and reports it as leaked. */
#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 10
#pragma GCC diagnostic ignored "-Wanalyzer-malloc-leak"
#endif

enum {
  TB_ROW_BYTES = 24, /* what a run costs in addition to its data */
  TB_MOST_IN_RUN = 256,
  TB_MOST_RECORD = 64 * 1024 * 1024
};

struct tb_pending;

/* The row that was written last. It takes more records, so that what is put one by one lies as close as what is put in
 * groups. */
struct tb_tail {
  int64_t first, count, last_ts, shape;
  int64_t period; /* as that of struct tb_row */
  size_t length;  /* of its data; 0: no row takes more */
};

struct tb_device {
  size_t index; /* among the spool's devices */
  char *name;
  int64_t number; /* in the file; 0 while it has none */
  int64_t next;   /* number of the next record */
  int64_t count, bytes;
  struct tb_pending *last; /* the run in memory that may take the next record */
  struct tb_tail tail;
};

struct tb_spool {
  const char *type; /* as tb_new sets it */
  char *path;       /* NULL once closed */
  unsigned forks;   /* of the process that made it */
  bool busy;        /* a method is running, and the collector may run: a finalizer must change nothing */
  const struct tb_json_writer *writer; /* of core */
  struct tb_record_clock clock;
  int64_t due; /* while the uptime is below this, records may wait in memory */
  struct tb_device *devices;
  size_t device_count;
  struct tb_pending *first, *last;     /* records in memory, of all devices */
  struct tb_buffer keys, values, body; /* scratch */
  sqlite3 *db;                         /* NULL while the file is not open */
  int64_t limit;                       /* bytes that the file and its log may take together */
  int64_t page;                        /* bytes of the file's pages */
  int64_t frames;                      /* pages that the log has room for at all times, */
  int64_t interval;                    /* and how many of them there are until a checkpoint */
  int64_t spare;                       /* free pages of the file that tb_room_for can still give without a look, */
  int64_t spare_at_once;               /* and how many of them to one transaction, for which the log has room */
  int64_t lent;                        /* what it has given to the transaction that is next */
  int log_pages;                       /* that the log has */
  const char *problem;                 /* why it could not be opened, where SQLite's code does not say it; or NULL */
  sqlite3_stmt *statements[TB_STATEMENTS];
  char boot[64];               /* the kernel's id of this boot */
  int64_t period;              /* in which records are undated now, its number in the file; 0: none yet */
  struct tb_buffer shape_keys; /* of the shape that was used last, */
  int64_t shape;               /* and its number in the file; 0: none */
  int64_t removed;             /* rows, since shapes that none has were removed, too */
};

#endif
