/* A pool: one curl multi handle, and the connections that its clients share. */
#ifndef TB_POOL_H
#define TB_POOL_H

#include "http/poller.h"

#include <curl/curl.h>

struct tb_pool {
  struct tb_poller *poller;
  CURLM *multi;
  size_t index;          /* in the poller's list */
  int64_t wake;          /* when curl wants to be called */
  int64_t close_idle_at; /* when its connections will have been idle for too long; TB_NEVER with exchanges in flight */
  unsigned in_flight;    /* exchanges */
  unsigned clients;
  bool broken; /* curl ran out of memory inside the multi handle, which is not to be used again */
};

/* Makes the poller's next pool. NULL when memory or descriptors have run out. */
struct tb_pool *tb_pool_add(struct tb_poller *poller);

/* Returns a pool for one more client, and counts the client. NULL when memory or descriptors have run out. */
struct tb_pool *tb_pool_join(struct tb_poller *poller);

/* False when the pool is broken and there is no memory to repair it. */
bool tb_pool_make_usable(struct tb_pool *pool);

/* When the pool needs a call: curl's time or close_idle_at, whichever is earlier. */
int64_t tb_pool_next_wake(const struct tb_pool *pool);

/* Counts an exchange in; counts it out. */
void tb_pool_enter(struct tb_pool *pool);
void tb_pool_leave(struct tb_pool *pool);

/* Closes the connections; no exchange may be in flight. curl itself closes an old one only when it looks for another.
 */
void tb_pool_close_idle(struct tb_pool *pool);

/* Closes the connections and frees the pool. No exchange may be in flight. */
void tb_pool_free(struct tb_pool *pool);

#endif
