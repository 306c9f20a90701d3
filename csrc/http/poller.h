/* The poller: all of curl's sockets and timers behind one epoll descriptor. Its methods, and what happens when a socket
 * is ready, are in reactor.c. */
#ifndef TB_POLLER_H
#define TB_POLLER_H

#include <curl/curl.h>
#include <lua.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tb_client;
struct tb_exchange;
struct tb_handle;
struct tb_pool;

extern const char TB_REACTOR[]; /* the userdata's name in Lua */

/* Times are microseconds of the monotonic clock. TB_NEVER is later than all of them. */
#define TB_NEVER INT64_MAX

enum {
  TB_IN_FLIGHT_VALUE = 1, /* user value: a table of the exchanges in flight or finished, by address */
  TB_MAX_IDLE_HANDLES = 64,
};

/* See connection.c. */
struct tb_connection {
  int64_t used_at; /* when its last exchange has ended; 0: none has had an answer yet */
  uint16_t port;   /* our own; 0: not known yet */
  bool counts;     /* if the server ends it, it is lost */
  bool in_use;
};

struct tb_poller {
  const char *type;
  int epoll;            /* -1 once closed */
  int timer;            /* a timerfd inside epoll, made by the first pollfd(); -1 before */
  unsigned forks;       /* tb_forks() when it was made: see tb_poller_is_own */
  int64_t curl_wake;    /* no pool needs a call before this time */
  int64_t lua_wake;     /* when the Lua side wants to be called */
  int64_t overdue_at;   /* no exchange in flight is overdue before this time */
  int64_t armed;        /* what the timerfd is set to */
  bool unwatched;       /* some handle is `unwatched` */
  long max_connections; /* to one host; 0: no limit. With a limit, all exchanges are in the first pool. */
  struct tb_pool **pools;
  size_t pool_count;
  struct tb_connection *connections; /* by socket */
  size_t connection_count;
  unsigned lost_connections;
  struct tb_client *clients;
  CURLSH *share; /* TLS sessions: one cache for all handles takes less memory, and saves handshakes */
  struct tb_exchange *finished, *last_finished; /* a queue of what step() has not returned yet */
  /* Handles that wait for their client's next exchange, the longest unused first: it is freed first. One list for all
   * clients, so that many idle devices together keep no more handles than one busy device. */
  struct tb_handle *idle[TB_MAX_IDLE_HANDLES];
  size_t idle_count;
};

/* The open poller at the index; raises when there is none, when it is closed, or in a forked child. */
struct tb_poller *tb_check_poller(lua_State *L, int index);

/* Adds a descriptor to epoll, or changes its events; `pool` comes back with each event. False when the system cannot.
 */
bool tb_poller_watch(const struct tb_poller *poller, int fd, uint32_t events, size_t pool);

/* When step() has something to do even if no descriptor becomes ready. */
int64_t tb_poller_next_wake(const struct tb_poller *poller);

/* Sets the timerfd, if there is one, to the next wake. To be called after the next wake has changed. */
void tb_poller_arm(struct tb_poller *poller);

/* False in a process that was forked from the one that made the poller: the sockets are the parent's. */
bool tb_poller_is_own(const struct tb_poller *poller);

#endif
