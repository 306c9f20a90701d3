#include "base/buffer.h"

#include <stdlib.h>
#include <string.h>

enum { SMALLEST = 64 };

void tb_buffer_init(struct tb_buffer *buffer, size_t limit) {
  *buffer = (struct tb_buffer){.limit = limit};
}

bool tb_buffer_reserve(struct tb_buffer *buffer, size_t extra) {
  if (extra <= buffer->capacity - buffer->length) return true;
  if (extra > buffer->limit - buffer->length) return false;
  size_t wanted = buffer->length + extra;
  /* Doubled, up to the limit; limit / 2 avoids the overflow that capacity * 2 could have. */
  size_t capacity = buffer->capacity > buffer->limit / 2 ? buffer->limit : buffer->capacity * 2;
  if (capacity < SMALLEST) capacity = SMALLEST;
  if (capacity < wanted) capacity = wanted;
  if (capacity > buffer->limit) capacity = buffer->limit;
  char *data = realloc(buffer->data, capacity);
  if (data == NULL) return false;
  buffer->data = data;
  buffer->capacity = capacity;
  return true;
}

bool tb_buffer_append(struct tb_buffer *buffer, const void *bytes, size_t count) {
  if (count == 0) return true;
  if (!tb_buffer_reserve(buffer, count)) return false;
  memcpy(buffer->data + buffer->length, bytes, count);
  buffer->length += count;
  return true;
}

void tb_buffer_free(struct tb_buffer *buffer) {
  free(buffer->data);
  tb_buffer_init(buffer, buffer->limit);
}
