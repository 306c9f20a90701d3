/* A batch: the JSON of records that are sent together. */
#ifndef TB_BATCH_H
#define TB_BATCH_H

#include "spool/spool.h"

struct tb_batch {
  /* The request: records from one number to another, up to these bounds, but at least one. */
  int64_t first, last;
  int64_t max_bytes, max_records, max_points;
  /* The result. */
  int64_t first_taken, last_taken, records, points;
  bool full;
  int code; /* SQLite's, if an error ended the batch */
};

/* Writes the oldest records to spool->body as a JSON list without its closing bracket, and removes none. Undated
 * records cannot be sent: those before the batch are skipped, the next one after its first record ends it. Returns
 * SQLite's code. */
int tb_batch_read(struct tb_spool *spool, const struct tb_device *device, struct tb_batch *batch);

#endif
