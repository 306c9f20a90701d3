#include "spool/pending.h"

#include "spool/room.h"

#include <stdlib.h>

enum { MOST_RUN_PAGES = 4 };

static void free_pending(struct tb_pending *p) {
  tb_run_free(&p->run);
  free(p);
}

/* Adds a run's records to what is counted of its device, or with -1 takes them away. */
static void count_run(struct tb_device *device, const struct tb_run *run, int sign) {
  device->count += sign * run->count;
  device->bytes += sign * ((int64_t)run->data.length + TB_ROW_BYTES);
}

/* The run that takes the record in spool->values: the last one, or a new one that is not in the list yet. Its keys are
 * those of the last run, or they are in spool->keys. */
static struct tb_pending *run_for(struct tb_spool *spool, struct tb_device *device, bool undated, bool same_keys) {
  struct tb_pending *last = device->last;
  if (same_keys && last->undated == undated && last->run.count < TB_MOST_IN_RUN &&
      last->run.first + last->run.count == device->next &&
      last->run.data.length + spool->values.length <= MOST_RUN_PAGES * (size_t)tb_room_page_size(spool))
    return last;
  const struct tb_buffer *keys = same_keys ? &last->run.keys : &spool->keys;
  struct tb_pending *p = malloc(sizeof *p);
  if (p == NULL) return NULL;
  *p = (struct tb_pending){.device = device->index, .undated = undated};
  tb_run_init(&p->run, TB_MOST_RECORD);
  p->run.first = device->next;
  if (tb_buffer_append(&p->run.keys, keys->data, keys->length)) return p;
  free(p);
  return NULL;
}

const char *tb_pending_put(struct tb_spool *spool, struct tb_device *device, int64_t ts, bool undated, const char *json,
                           const char *end) {
  const char *behind = device->last == NULL ? NULL : tb_run_split_values(&device->last->run, json, end, &spool->values);
  bool same_keys = behind != NULL;
  if (!same_keys) behind = tb_run_split(json, &spool->keys, &spool->values);
  struct tb_pending *p = behind == NULL ? NULL : run_for(spool, device, undated, same_keys);
  if (p == NULL) return NULL;
  bool is_new = p != device->last;
  size_t before = p->run.data.length;
  if (!tb_run_add(&p->run, ts, spool->values.data, spool->values.length)) {
    if (is_new) free_pending(p);
    return NULL;
  }
  if (is_new) {
    *(spool->last != NULL ? &spool->last->next : &spool->first) = p;
    spool->last = device->last = p;
    device->bytes += TB_ROW_BYTES;
  }
  device->bytes += (int64_t)(p->run.data.length - before);
  device->count++;
  device->next++;
  return behind;
}

/* Removes records from a run that has others, too. Memory is needed only where others stay on both sides. */
static bool cut_pending(struct tb_spool *spool, struct tb_pending *p, int64_t first, int64_t last) {
  struct tb_device *device = &spool->devices[p->device];
  const struct tb_run before = p->run;
  struct tb_run behind;
  struct tb_pending *next = NULL;
  if (first > p->run.first && last < p->run.first + p->run.count - 1) {
    next = malloc(sizeof *next);
    if (next == NULL) return false;
    *next = (struct tb_pending){.next = p->next, .device = p->device, .undated = p->undated};
  }
  if (tb_run_cut(&p->run, first, last, &behind) != TB_CUT) {
    free(next);
    return false;
  }
  count_run(device, &before, -1);
  count_run(device, &p->run, 1);
  if (next == NULL) return true;
  next->run = behind;
  count_run(device, &behind, 1);
  p->next = next;
  if (spool->last == p) spool->last = next;
  return true;
}

bool tb_pending_remove(struct tb_spool *spool, struct tb_device *device, int64_t first, int64_t last) {
  struct tb_pending **link = &spool->first, *before = NULL;
  device->last = NULL;
  while (*link != NULL) {
    struct tb_pending *p = *link;
    bool own = p->device == device->index;
    int64_t end = p->run.first + p->run.count;
    if (own && p->run.first >= first && end <= last + 1) {
      count_run(device, &p->run, -1);
      *link = p->next;
      if (spool->last == p) spool->last = before;
      free_pending(p);
      continue;
    }
    if (own && p->run.first <= last && end > first && !cut_pending(spool, p, first, last)) return false;
    if (own) device->last = p;
    before = p;
    link = &p->next;
  }
  return true;
}

void tb_pending_pop(struct tb_spool *spool) {
  struct tb_pending *p = spool->first;
  spool->first = p->next;
  if (spool->first == NULL) spool->last = NULL;
  if (spool->devices[p->device].last == p) spool->devices[p->device].last = NULL;
  free_pending(p);
}

void tb_pending_renumber(struct tb_spool *spool, size_t index) {
  struct tb_device *device = &spool->devices[index];
  for (struct tb_pending *p = spool->first; p != NULL; p = p->next) {
    if (p->device != index) continue;
    p->run.first = device->next;
    device->next += p->run.count;
    count_run(device, &p->run, 1);
  }
}
