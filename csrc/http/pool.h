/* A pool: connections that some of the clients share. */
#ifndef TB_POOL_H
#define TB_POOL_H

#include <curl/curl.h>
#include <stdbool.h>
#include <stdint.h>

struct tb_reactor;

/* The server closes an idle connection after 60 s, over HTTP/2 after 20 s by GOAWAY. */
enum { TB_IDLE_CONNECTION_SECONDS = 50 };

struct tb_pool {
  struct tb_reactor *reactor;
  CURLM *multi;
  size_t index;     /* in the reactor's list */
  int64_t wake;     /* when curl wants to be called */
  int64_t rest_at;  /* when its connections have been idle for long; TB_NEVER while an exchange is in flight */
  unsigned flying;  /* exchanges in flight */
  unsigned clients; /* whose connections are here */
  bool broken;      /* memory was short in curl: nothing is asked of its multi handle any more */
};

/* Makes the reactor's next pool; NULL when memory or descriptors are short. */
struct tb_pool *tb_pool_add(struct tb_reactor *reactor);

/* A pool for one more client, counted in; NULL when memory or descriptors are short. */
struct tb_pool *tb_pool_join(struct tb_reactor *reactor);

/* Whether exchanges can begin here: a broken one is mended first, for which there may be no memory. */
bool tb_pool_is_sound(struct tb_pool *pool);

/* When something is to be done here, by curl or by tb_pool_rest. */
int64_t tb_pool_wake(const struct tb_pool *pool);

/* An exchange begins here, or leaves. */
void tb_pool_enter(struct tb_pool *pool);
void tb_pool_leave(struct tb_pool *pool);

/* Closes the connections, of which none is in use: curl would, but not before another is sought. */
void tb_pool_rest(struct tb_pool *pool);

/* Lets curl work on a socket, or on what is due, and ends the exchanges that it has done with. */
void tb_pool_work(struct tb_pool *pool, curl_socket_t fd, int what);

/* Closes the connections. No exchange may be in flight. */
void tb_pool_free(struct tb_pool *pool);

#endif
