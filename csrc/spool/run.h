/* A run: consecutive records of one device that have the same keys, packed. It has the same form in memory and on disk.
 *
 * `keys` has one line for each key, a JSON string. `data` has, for each record, the milliseconds that it is later than
 * the one before it (zigzag, 0 for the first), the length of its values, and its values, one line of JSON for each key.
 * Neither a key nor a value holds a line's end: JSON escapes it. */
#ifndef TB_RUN_H
#define TB_RUN_H

#include "base/buffer.h"

#include <stdint.h>

struct tb_run {
  int64_t first; /* the number of its first record; the others follow */
  int64_t ts;    /* of the first record, milliseconds */
  int64_t last_ts;
  int64_t count;
  struct tb_buffer keys, data;
};

/* An empty run; its buffers grow to `limit` bytes at most. */
void tb_run_init(struct tb_run *run, size_t limit);

void tb_run_free(struct tb_run *run);

/* Splits the values of a record, the object at `json` that the JSON writer has written and that is not empty, into
 * lines of keys and of values, in place of what the buffers hold. Returns the position after it; NULL when memory is
 * short.
 */
const char *tb_run_split(const char *json, struct tb_buffer *keys, struct tb_buffer *values);

/* Splits the values alone, where the record has exactly the run's keys: NULL when it has others, or memory is short.
 * The text ends at `end`. */
const char *tb_run_split_values(const struct tb_run *run, const char *json, const char *end, struct tb_buffer *values);

/* Appends a record that has the run's keys. False, with nothing changed, when memory or the limit forbids it. */
bool tb_run_add(struct tb_run *run, int64_t ts, const char *values, size_t length);

/* Appends the run's records to another run's data, whose last record has that time. */
bool tb_run_join(const struct tb_run *run, int64_t last_ts, struct tb_buffer *out);

/* Iterates over a run's records. Before the first, `at`, which is a place in `data`, is 0. False at the end, and where
 * the data makes no sense. */
struct tb_record {
  size_t at;
  int64_t ts;
  const char *values;
  size_t length;
};
bool tb_run_next(const struct tb_run *run, struct tb_record *record);

/* Writes a record as an element of a list of telemetry. False when memory or the buffer's limit forbids it. */
bool tb_run_write(const struct tb_run *run, const struct tb_record *record, struct tb_buffer *out);

/* How many keys each record has. */
int64_t tb_run_keys(const struct tb_run *run);

/* Removes the records from one number to another from a run in which others stay. Where some stay on both sides, those
 * behind become a run of their own, `behind`; otherwise it is empty, and no memory is needed. On failure the run is as
 * it was. */
enum tb_cut { TB_CUT, TB_CUT_NO_MEMORY, TB_CUT_NO_SENSE };
enum tb_cut tb_run_cut(struct tb_run *run, int64_t first, int64_t last, struct tb_run *behind);

#endif
