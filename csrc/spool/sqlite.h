/* Records in the file. What returns an int returns SQLite's code. */
#ifndef TB_SQLITE_H
#define TB_SQLITE_H

#include "spool/spool.h"

/* Numbers that a device's records may have: see schema.c. */
#define TB_NUMBERS ((int64_t)1 << 40)

/* A run in the file. */
struct tb_row {
  struct tb_run run;
  int64_t period; /* 0: its records are dated */
  int64_t shape;
};

/* Opens the file, or makes it, and finds what it has of the devices. Where that fails, spool->problem may say more than
 * the code does. */
int tb_sqlite_open(struct tb_spool *spool);

/* Closes the file. Records in memory stay, and are then the only ones. */
void tb_sqlite_close(struct tb_spool *spool);

/* Finds a device in the file: its number and what waits there. What waits in memory comes behind that. */
int tb_sqlite_attach_device(struct tb_spool *spool, size_t index);

/* Writes the records in memory, if there are many in several transactions: on failure the rest stays in memory. */
int tb_sqlite_sync(struct tb_spool *spool);

/* Removes a device's records from one number to another. */
int tb_sqlite_remove(struct tb_spool *spool, struct tb_device *device, int64_t first, int64_t last);

/* Removes some of a device's oldest records in the file, whole rows, to make room. */
int tb_sqlite_remove_oldest(struct tb_spool *spool, struct tb_device *device);

/* Removes shapes that no row has any more, and says how many these were. It reads all rows, so it does so only once as
 * many have been removed as the file has pages. */
int tb_sqlite_remove_shapes(struct tb_spool *spool, int64_t *count);

/* Dates the undated records of this boot: the offset is added to their uptimes. */
int tb_sqlite_date(struct tb_spool *spool, int64_t offset);

/* Reads rows. With TB_SELECT: those that may hold a device's records from one number to another, oldest first; with
 * TB_FIND: the newest of these. */
struct tb_cursor {
  sqlite3_stmt *statement;
  const struct tb_device *device;
};
struct tb_cursor tb_cursor_open(struct tb_spool *spool, const struct tb_device *device, enum tb_statement which,
                                int64_t first, int64_t last);

/* SQLITE_ROW, or SQLITE_DONE at the end. The row's data belongs to SQLite: read-only, and valid until the next call. It
 * has no keys yet. */
int tb_cursor_next(const struct tb_cursor *cursor, struct tb_row *row);

void tb_cursor_close(const struct tb_cursor *cursor);

/* Widens a span to that of the times of all devices' records that are undated in a period, or with 0 dated. */
int tb_sqlite_span(struct tb_spool *spool, int64_t period, int64_t *first, int64_t *last);

/* Gives a row its keys: read-only, and valid until keys of another shape are loaded. */
int tb_sqlite_load_keys(struct tb_spool *spool, struct tb_row *row);

#endif
