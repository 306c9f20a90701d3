/* Records in memory: runs that wait to be written, of all devices in one list, in the order in which they were put. */
#ifndef TB_PENDING_H
#define TB_PENDING_H

#include "spool/spool.h"

struct tb_pending {
  struct tb_pending *next;
  struct tb_run run;
  size_t device; /* its index */
  bool undated;  /* its times are uptimes */
  int64_t saved; /* bytes that it saves in the file by joining a row */
};

/* Adds the record whose JSON, an object that is not empty, begins at `json`; the text ends at `end`. Returns the
 * position after the record; NULL, with nothing added, when memory is short. */
const char *tb_pending_put(struct tb_spool *spool, struct tb_device *device, int64_t ts, bool undated, const char *json,
                           const char *end);

/* Removes the records of a device from one number to another. False when memory is short, with some of them left. */
bool tb_pending_remove(struct tb_spool *spool, struct tb_device *device, int64_t first, int64_t last);

/* Removes the first run of the list. */
void tb_pending_pop(struct tb_spool *spool);

/* Renumbers a device's records, after those that it has in the file, and counts them. */
void tb_pending_renumber(struct tb_spool *spool, size_t index);

#endif
