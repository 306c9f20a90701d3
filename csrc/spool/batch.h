/* A batch: the JSON of records that are sent together. */
#ifndef TB_BATCH_H
#define TB_BATCH_H

#include "spool/spool.h"

struct tb_batch {
  /* What is wanted: records from one number to another, up to these bounds, but one at least. */
  int64_t first, last;
  int64_t max_bytes, max_records, max_points;
  /* What was found. */
  int64_t first_taken, last_taken, records, points;
  bool full;
  int code; /* SQLite's, where the batch ended because something is wrong */
};

/* Writes the oldest records to spool->body as a JSON list, but for the bracket at its end, and leaves them where they
 * are. Undated records cannot be sent: those before the batch are passed over, those behind it end it. Returns SQLite's
 * code. */
int tb_batch_read(struct tb_spool *spool, const struct tb_device *device, struct tb_batch *batch);

#endif
