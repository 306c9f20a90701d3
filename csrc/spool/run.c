#include "spool/run.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { MOST_VARINT = 10 };

void tb_run_init(struct tb_run *run, size_t limit) {
  *run = (struct tb_run){0};
  tb_buffer_init(&run->keys, limit);
  tb_buffer_init(&run->data, limit);
}

void tb_run_free(struct tb_run *run) {
  tb_buffer_free(&run->keys);
  tb_buffer_free(&run->data);
}

static size_t put_varint(uint64_t value, unsigned char *out) {
  size_t length = 0;
  for (; value >= 0x80; value >>= 7) out[length++] = (unsigned char)(value | 0x80);
  out[length++] = (unsigned char)value;
  return length;
}

/* How many bytes it takes, or 0 when the bytes end before it does. */
static size_t get_varint(const char *bytes, size_t length, uint64_t *value) {
  *value = 0;
  for (size_t i = 0; i < length && i < MOST_VARINT; i++) {
    *value |= (uint64_t)((unsigned char)bytes[i] & 0x7F) << (7 * i);
    if (((unsigned char)bytes[i] & 0x80) == 0) return i + 1;
  }
  return 0;
}

/* Differences go to and fro without a sign bit at the top; all arithmetic is that of unsigned numbers. */
static uint64_t zigzag(uint64_t difference) {
  return (difference << 1) ^ (0 - (difference >> 63));
}

static uint64_t unzigzag(uint64_t coded) {
  return (coded >> 1) ^ (0 - (coded & 1));
}

/* The end of the JSON string that begins at `at`. */
static const char *string_end(const char *at) {
  for (at++; *at != '"'; at++)
    if (*at == '\\') at++;
  return at + 1;
}

/* The end of the value that begins at `at`, inside of an object. */
static const char *value_end(const char *at) {
  if (*at == '"') return string_end(at);
  if (*at != '{' && *at != '[') {
    while (*at != ',' && *at != '}') at++;
    return at;
  }
  int depth = 0;
  do {
    if (*at == '"') {
      at = string_end(at);
    } else {
      depth += (*at == '{' || *at == '[') - (*at == '}' || *at == ']');
      at++;
    }
  } while (depth > 0);
  return at;
}

static bool add_line(struct tb_buffer *lines, const char *from, const char *to) {
  size_t length = (size_t)(to - from);
  if (length >= lines->capacity - lines->length && !tb_buffer_reserve(lines, length + 1)) return false;
  char *at = lines->data + lines->length;
  memcpy(at, from, length);
  at[length] = '\n';
  lines->length += length + 1;
  return true;
}

const char *tb_run_split(const char *json, struct tb_buffer *keys, struct tb_buffer *values) {
  const char *at = json;
  keys->length = values->length = 0;
  do {
    const char *key = at + 1, *key_end = string_end(key);
    at = value_end(key_end + 1);
    if (!add_line(keys, key, key_end) || !add_line(values, key_end + 1, at)) return NULL;
  } while (*at == ',');
  return at + 1;
}

/* Returns the line at *at, and advances *at to the next. */
static const char *next_line(const char **at, const char *end, size_t *length) {
  const char *from = *at, *stop = memchr(from, '\n', (size_t)(end - from));
  if (stop == NULL) stop = end;
  *length = (size_t)(stop - from);
  *at = stop < end ? stop + 1 : end;
  return from;
}

const char *tb_run_split_values(const struct tb_run *run, const char *json, const char *end, struct tb_buffer *values) {
  const char *at = json, *keys = run->keys.data, *keys_end = keys + run->keys.length;
  char separator = '{';
  values->length = 0;
  while (keys < keys_end) {
    size_t length;
    const char *key = next_line(&keys, keys_end, &length);
    if ((size_t)(end - at) < length + 2 || *at != separator || memcmp(at + 1, key, length) != 0) return NULL;
    const char *value = at + length + 2;
    at = value_end(value);
    if (!add_line(values, value, at)) return NULL;
    separator = ',';
  }
  return *at == '}' ? at + 1 : NULL;
}

bool tb_run_add(struct tb_run *run, int64_t ts, const char *values, size_t length) {
  unsigned char head[2 * MOST_VARINT];
  size_t before = run->data.length;
  uint64_t difference = run->count == 0 ? 0 : (uint64_t)ts - (uint64_t)run->last_ts;
  size_t head_length = put_varint(zigzag(difference), head);
  head_length += put_varint(length, head + head_length);
  if (!tb_buffer_append(&run->data, head, head_length) || !tb_buffer_append(&run->data, values, length)) {
    run->data.length = before;
    return false;
  }
  if (run->count == 0) run->ts = ts;
  run->last_ts = ts;
  run->count++;
  return true;
}

bool tb_run_join(const struct tb_run *run, int64_t last_ts, struct tb_buffer *out) {
  unsigned char head[MOST_VARINT];
  size_t length = put_varint(zigzag((uint64_t)run->ts - (uint64_t)last_ts), head);
  /* In place of the first record's 0. */
  return tb_buffer_append(out, head, length) && tb_buffer_append(out, run->data.data + 1, run->data.length - 1);
}

bool tb_run_next(const struct tb_run *run, struct tb_record *record) {
  const char *bytes = run->data.data;
  size_t at = record->at, end = run->data.length;
  uint64_t difference, length;
  size_t used = at < end ? get_varint(bytes + at, end - at, &difference) : 0;
  if (used == 0) return false;
  size_t more = get_varint(bytes + at + used, end - at - used, &length);
  if (more == 0 || length > end - at - used - more) return false;
  record->ts = at == 0 ? run->ts : (int64_t)((uint64_t)record->ts + unzigzag(difference));
  record->values = bytes + at + used + more;
  record->length = (size_t)length;
  record->at = at + used + more + record->length;
  return true;
}

bool tb_run_write(const struct tb_run *run, const struct tb_record *record, struct tb_buffer *out) {
  char head[64];
  int head_length = snprintf(head, sizeof head, "{\"ts\":%" PRId64 ",\"values\":", record->ts);
  /* Each line's end becomes a colon or a comma. */
  if (!tb_buffer_reserve(out, (size_t)head_length + run->keys.length + record->length + 4)) return false;
  char *to = out->data + out->length;
  memcpy(to, head, (size_t)head_length);
  to += head_length;
  const char *keys = run->keys.data, *keys_end = keys + run->keys.length;
  const char *values = record->values, *values_end = values + record->length;
  char separator = '{';
  while (keys < keys_end && values < values_end) {
    size_t length;
    const char *text = next_line(&keys, keys_end, &length);
    *to++ = separator;
    memcpy(to, text, length);
    to += length;
    *to++ = ':';
    text = next_line(&values, values_end, &length);
    memcpy(to, text, length);
    to += length;
    separator = ',';
  }
  *to++ = '}';
  *to++ = '}';
  out->length = (size_t)(to - out->data);
  return true;
}

int64_t tb_run_keys(const struct tb_run *run) {
  int64_t count = 0;
  for (size_t i = 0; i < run->keys.length; i++) count += run->keys.data[i] == '\n';
  return count;
}

/* Data from the place behind a record's difference on, as that of a run which begins with the record. */
static bool copy_from(const struct tb_run *run, size_t start, struct tb_run *copy) {
  return tb_buffer_append(&copy->keys, run->keys.data, run->keys.length) && tb_buffer_append(&copy->data, "", 1) &&
         tb_buffer_append(&copy->data, run->data.data + start, run->data.length - start);
}

enum tb_cut tb_run_cut(struct tb_run *run, int64_t first, int64_t last, struct tb_run *behind) {
  int64_t end = run->first + run->count;
  bool has_head = first > run->first, has_tail = last < end - 1;
  struct tb_run head = *run, tail = *run;
  struct tb_record record = {0};
  size_t start = 0; /* of the tail, its first record's difference left out */
  tb_run_init(behind, run->data.limit);
  for (int64_t number = run->first; number < (has_tail ? end : first); number++) {
    uint64_t difference;
    size_t at = record.at;
    if (!tb_run_next(run, &record)) return TB_CUT_NO_SENSE;
    if (number == first - 1) {
      head.data.length = record.at;
      head.last_ts = record.ts;
    } else if (number == last + 1) {
      start = at + get_varint(run->data.data + at, run->data.length - at, &difference);
      tail.ts = record.ts;
    }
  }
  head.count = first - run->first;
  tail.first = last + 1;
  tail.count = end - last - 1;
  tail.last_ts = record.ts;
  if (!has_head) {
    run->data.data[0] = 0;
    memmove(run->data.data + 1, run->data.data + start, run->data.length - start);
    tail.data.length = 1 + run->data.length - start;
    *run = tail;
    return TB_CUT;
  }
  if (has_tail) {
    if (!copy_from(run, start, behind)) {
      tb_run_free(behind);
      return TB_CUT_NO_MEMORY;
    }
    tail.keys = behind->keys;
    tail.data = behind->data;
    *behind = tail;
  }
  *run = head;
  return TB_CUT;
}
