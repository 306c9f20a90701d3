/* Records in memory: runs that wait to be written, those of all devices in one list. */
#include "spool/spool.h"

#include <stdlib.h>

static struct pending *new_pending(size_t device, bool undated, const struct tb_buffer *keys) {
  struct pending *p = malloc(sizeof *p);
  if (p == NULL) return NULL;
  *p = (struct pending){.device = device, .undated = undated};
  tb_run_init(&p->run, TB_MOST_RECORD);
  if (!tb_buffer_append(&p->run.keys, keys->data, keys->length)) {
    free(p);
    return NULL;
  }
  return p;
}

void tb_memory_free(struct pending *p) {
  tb_run_free(&p->run);
  free(p);
}

/* The records of a run in memory from one number on, as a run of their own; NULL when memory is short. */
static struct pending *copy_tail(const struct pending *p, int64_t from) {
  struct pending *tail = malloc(sizeof *tail);
  if (tail == NULL) return NULL;
  *tail = (struct pending){.next = p->next, .device = p->device, .undated = p->undated};
  if (!tb_run_copy(&p->run, &tail->run)) {
    free(tail);
    return NULL;
  }
  tb_run_cut(&tail->run, from, p->run.first + p->run.count - from);
  return tail;
}

/* Takes records out of a run that waits in memory: its head or its tail stays, and when both do, the tail as a run of
 * its own behind it. False, and nothing has changed, when memory is short; only where both stay it is needed. */
static bool cut_pending(struct spool *spool, struct pending *p, int64_t first, int64_t last) {
  struct device *device = &spool->devices[p->device];
  int64_t start = p->run.first, end = start + p->run.count, count = p->run.count;
  size_t length = p->run.data.length;
  struct pending *tail = NULL;
  if (start < first && end > last + 1) {
    tail = copy_tail(p, last + 1);
    if (tail == NULL) return false;
  }
  if (start < first)
    tb_run_cut(&p->run, start, first - start);
  else
    tb_run_cut(&p->run, last + 1, end - last - 1);
  device->count -= count - p->run.count;
  device->bytes -= (int64_t)(length - p->run.data.length);
  if (tail == NULL) return true;
  p->next = tail;
  if (spool->last == p) spool->last = tail;
  device->count += tail->run.count;
  device->bytes += (int64_t)tail->run.data.length + TB_ROW_BYTES;
  return true;
}

bool tb_memory_remove(struct spool *spool, size_t index, int64_t first, int64_t last) {
  struct device *device = &spool->devices[index];
  struct pending **link = &spool->first, *before = NULL;
  device->last = NULL;
  while (*link != NULL) {
    struct pending *p = *link;
    bool own = p->device == index;
    if (own && p->run.first >= first && p->run.first + p->run.count <= last + 1) {
      device->count -= p->run.count;
      device->bytes -= (int64_t)p->run.data.length + TB_ROW_BYTES;
      *link = p->next;
      if (spool->last == p) spool->last = before;
      tb_memory_free(p);
      continue;
    }
    if (own && p->run.first <= last && p->run.first + p->run.count > first && !cut_pending(spool, p, first, last))
      return false;
    if (own) device->last = p;
    before = p;
    link = &p->next;
  }
  return true;
}

bool tb_memory_put(struct spool *spool, struct device *device, int64_t ts, bool undated, bool same_keys) {
  struct pending *p = device->last;
  if (!same_keys || p->undated != undated || p->run.count >= TB_MOST_IN_RUN ||
      p->run.first + p->run.count != device->next || p->run.data.length + spool->values.length > TB_MOST_RUN_BYTES) {
    p = new_pending((size_t)(device - spool->devices), undated, same_keys ? &p->run.keys : &spool->keys);
    if (p == NULL) return false;
    p->run.first = device->next;
  }
  size_t before = p->run.data.length;
  if (!tb_run_add(&p->run, ts, spool->values.data, spool->values.length)) {
    if (p != device->last) tb_memory_free(p);
    return false;
  }
  if (p != device->last) {
    *(spool->last != NULL ? &spool->last->next : &spool->first) = p;
    spool->last = p;
    device->last = p;
    device->bytes += TB_ROW_BYTES;
  }
  device->bytes += (int64_t)(p->run.data.length - before);
  device->count++;
  device->next++;
  return true;
}
