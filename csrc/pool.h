/* A pool: connections that some of the clients share. */
#ifndef TB_POOL_H
#define TB_POOL_H

#include <curl/curl.h>
#include <stdbool.h>
#include <stdint.h>

struct tb_reactor;

struct tb_pool {
  struct tb_reactor *reactor;
  CURLM *multi;
  size_t index;     /* in the reactor's list */
  int64_t wake;     /* when curl wants to be called */
  unsigned clients; /* whose connections are here */
  bool broken;      /* memory was short in curl: nothing is asked of its multi handle any more */
};

/* Makes the reactor's next pool; NULL when memory or descriptors are short. */
struct tb_pool *tb_pool_add(struct tb_reactor *reactor);

/* A pool for one more client, counted in; NULL when memory or descriptors are short. */
struct tb_pool *tb_pool_join(struct tb_reactor *reactor);

/* Whether exchanges can begin here: a broken one is mended first, for which there may be no memory. */
bool tb_pool_is_sound(struct tb_pool *pool);

/* Lets curl work on a socket, or on what is due, and ends the exchanges that it has done with. */
void tb_pool_work(struct tb_pool *pool, curl_socket_t fd, int what);

/* Closes the connections. No exchange may be in flight. */
void tb_pool_free(struct tb_pool *pool);

#endif
