/* A run: consecutive records of one device whose values have the same keys, packed, as they lie in memory and on disk.
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

/* Takes a record's values apart: the object at `json`, which is the JSON writer's and not empty, into lines of keys and
 * of values, which replace what the buffers hold. What is behind it; NULL when memory is short. */
const char *tb_run_split(const char *json, struct tb_buffer *keys, struct tb_buffer *values);

/* Takes the values alone, of a record whose keys are the run's; NULL when they are others, too. The text ends at `end`,
 * where those keys may be longer. */
const char *tb_run_split_values(const struct tb_run *run, const char *json, const char *end, struct tb_buffer *values);

/* The line at `at`, which is moved on to the next. */
const char *tb_run_line(const char **at, const char *end, size_t *length);

/* Appends a record whose keys are the run's. False, and nothing has changed, when memory or the limit forbids it. */
bool tb_run_add(struct tb_run *run, int64_t ts, const char *values, size_t length);

/* Appends the run's records as they stand behind a record of that time in another run's data. */
bool tb_run_join(const struct tb_run *run, int64_t last_ts, struct tb_buffer *out);

/* One record after another: `at` is the place in `data`, 0 at first, and `ts` that of the record before. False at the
 * end, and where the data makes no sense. */
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

/* Takes the records from one number to another out of a run of which some stays: those before them or else those behind
 * them. Where both stay, those behind become a run of their own, `behind`, which is empty otherwise, and takes no
 * memory then. Where that fails, the run is as it was. */
enum tb_cut { TB_CUT, TB_CUT_NO_MEMORY, TB_CUT_NO_SENSE };
enum tb_cut tb_run_cut(struct tb_run *run, int64_t first, int64_t last, struct tb_run *behind);

#endif
