/* A byte buffer that grows up to a limit. */
#ifndef TB_BUFFER_H
#define TB_BUFFER_H

#include <stdbool.h>
#include <stddef.h>

/* Invariant: length <= capacity <= limit; data is NULL exactly when capacity is 0. */
struct tb_buffer {
  char *data;
  size_t length;
  size_t capacity;
  size_t limit;
};

/* An empty buffer that never grows past limit bytes. Allocates nothing. */
void tb_buffer_init(struct tb_buffer *buffer, size_t limit);

/* Makes room for `extra` more bytes. False when the limit or memory does not allow it; the buffer is unchanged then. */
bool tb_buffer_reserve(struct tb_buffer *buffer, size_t extra);

/* False as tb_buffer_reserve. */
bool tb_buffer_append(struct tb_buffer *buffer, const void *bytes, size_t count);

/* Frees the memory; the buffer is empty then, and can be used again. */
void tb_buffer_free(struct tb_buffer *buffer);

#endif
