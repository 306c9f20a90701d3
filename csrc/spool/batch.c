#include "spool/batch.h"

#include "spool/pending.h"
#include "spool/sqlite.h"

static void end_batch(struct tb_batch *batch, int code) {
  batch->full = true;
  batch->code = code;
}

static bool has_room(const struct tb_batch *batch, int64_t points) {
  return batch->records == 0 || (batch->records < batch->max_records && points <= batch->max_points - batch->points);
}

/* Adds a record, unless that makes the batch too large. */
static void add_record(struct tb_buffer *body, struct tb_batch *batch, const struct tb_run *run,
                       const struct tb_record *record, int64_t number, int64_t points) {
  size_t before = body->length;
  bool first = batch->records == 0;
  if (!tb_buffer_append(body, first ? "[" : ",", 1) || !tb_run_write(run, record, body)) {
    end_batch(batch, SQLITE_NOMEM);
  } else if (!first && (int64_t)body->length >= batch->max_bytes) {
    body->length = before;
    end_batch(batch, SQLITE_OK);
  } else {
    if (first) batch->first_taken = number;
    batch->last_taken = number;
    batch->records++;
    batch->points += points;
  }
}

static void add_run(struct tb_buffer *body, struct tb_batch *batch, const struct tb_run *run, bool undated) {
  if (undated) {
    if (batch->records > 0) end_batch(batch, SQLITE_OK);
    return;
  }
  struct tb_record record = {0};
  int64_t points = tb_run_keys(run);
  for (int64_t number = run->first; number < run->first + run->count && !batch->full; number++) {
    if (!tb_run_next(run, &record)) {
      end_batch(batch, SQLITE_CORRUPT);
    } else if (number > batch->last || !has_room(batch, points)) {
      end_batch(batch, SQLITE_OK);
    } else if (number >= batch->first) {
      add_record(body, batch, run, &record, number, points);
    }
  }
}

static int read_rows(struct tb_spool *spool, const struct tb_device *device, struct tb_batch *batch) {
  const struct tb_cursor cursor =
      tb_cursor_open(spool, device, TB_SELECT, batch->first - TB_MOST_IN_RUN + 1, batch->last);
  struct tb_row row;
  int code = SQLITE_DONE;
  while (!batch->full && (code = tb_cursor_next(&cursor, &row)) == SQLITE_ROW) {
    int loaded = row.period != 0 ? SQLITE_OK : tb_sqlite_load_keys(spool, &row);
    if (loaded == SQLITE_OK)
      add_run(&spool->body, batch, &row.run, row.period != 0);
    else
      end_batch(batch, loaded);
  }
  tb_cursor_close(&cursor);
  return code == SQLITE_ROW || code == SQLITE_DONE ? batch->code : code;
}

int tb_batch_read(struct tb_spool *spool, const struct tb_device *device, struct tb_batch *batch) {
  spool->body.length = 0;
  int code = spool->db == NULL ? SQLITE_OK : read_rows(spool, device, batch);
  if (code != SQLITE_OK) return code;
  for (const struct tb_pending *p = spool->first; p != NULL && !batch->full; p = p->next)
    if (&spool->devices[p->device] == device) add_run(&spool->body, batch, &p->run, p->undated);
  return batch->code;
}
