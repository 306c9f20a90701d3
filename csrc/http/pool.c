/* For every request, curl looks through all connections that the multi handle has to the host. With ten thousand polls
 * in one multi handle every call would be slow, so each serves a limited number of clients.
 *
 * A multi handle reports by two callbacks which sockets to wait for, and when it wants to be called. Both only record
 * what curl says. */
#include "http/pool.h"

#include "base/clock.h"
#include "http/connection.h"
#include "http/handle.h"
#include "http/options.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
  /* A pool takes 40 KiB and two descriptors. With this many polls in one pool, an answer takes 5 % more instructions
   * than with a single one. */
  CLIENTS_PER_POOL = 256,
  /* libcurl 7.88 breaks when many streams of one HTTP/2 connection end together: 43 of 150 polls failed with
   * PARTIAL_FILE. With this limit one connection still serves a busy device, or several quiet ones. */
  STREAMS_PER_CONNECTION = 8,
  /* Connections of a pool, idle ones included. By itself libcurl keeps four for each exchange that is in flight: when
   * many end together, and the next ones begin in the step after that, it would close what they need. */
  CONNECTIONS_PER_POOL = 4 * CLIENTS_PER_POOL,
};

static int on_timer(CURLM *multi, long milliseconds, void *data) {
  struct tb_pool *pool = data;
  struct tb_poller *poller = pool->poller;
  (void)multi;
  pool->wake = milliseconds < 0 ? TB_NEVER : tb_monotonic() + (int64_t)milliseconds * 1000;
  int64_t wake = tb_pool_next_wake(pool);
  if (wake < poller->curl_wake || poller->pool_count == 1) {
    poller->curl_wake = wake; /* with several pools it may be too early, which is corrected when it has come */
    tb_poller_arm(poller);
  }
  return 0;
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *data, void *known) {
  struct tb_pool *pool = data;
  struct tb_poller *poller = pool->poller;
  (void)known;
  if (what == CURL_POLL_REMOVE) {
    tb_connection_set_in_use(poller, fd, false);
    epoll_ctl(poller->epoll, EPOLL_CTL_DEL, fd, NULL);
    return 0;
  }
  uint32_t events = (what & CURL_POLL_IN ? EPOLLIN : 0) | (what & CURL_POLL_OUT ? EPOLLOUT : 0);
  struct tb_handle *handle = tb_handle_of(easy);
  tb_connection_set_in_use(poller, fd, true);
  if (handle != NULL)
    handle->socket = fd;
  else
    tb_connection_end(poller, fd); /* a handle of curl's own, with which it says goodbye over TLS */
  if (tb_poller_watch(poller, fd, events, pool->index)) return 0;
  if (handle != NULL && handle->exchange != NULL) {
    handle->unwatched = true;
    poller->unwatched = true;
  }
  return 0;
}

/* curl_multi_init, whose pair of sockets older releases leave open in the programs that a child process executes. As
 * each descriptor is the lowest one that is free, it gets those that a pipe has had before. */
static CURLM *init_multi(void) {
  int free_ones[2];
  bool known = pipe2(free_ones, O_CLOEXEC) == 0;
  for (int i = 0; known && i < 2; i++) close(free_ones[i]);
  CURLM *multi = curl_multi_init();
  for (int i = 0; known && multi != NULL && i < 2; i++) {
    int domain;
    socklen_t size = sizeof domain;
    if (getsockopt(free_ones[i], SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 && domain == AF_UNIX)
      fcntl(free_ones[i], F_SETFD, FD_CLOEXEC);
  }
  return multi;
}

static CURLM *new_multi(struct tb_pool *pool) {
  CURLM *multi = init_multi();
  if (multi == NULL) return NULL;
  curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, on_socket);
  curl_multi_setopt(multi, CURLMOPT_SOCKETDATA, pool);
  curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, on_timer);
  curl_multi_setopt(multi, CURLMOPT_TIMERDATA, pool);
  curl_multi_setopt(multi, CURLMOPT_MAX_CONCURRENT_STREAMS, (long)STREAMS_PER_CONNECTION);
  curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, (long)CONNECTIONS_PER_POOL);
  if (pool->index == 0) curl_multi_setopt(multi, CURLMOPT_MAX_HOST_CONNECTIONS, pool->poller->max_connections);
  return multi;
}

struct tb_pool *tb_pool_add(struct tb_poller *poller) {
  size_t count = poller->pool_count;
  /* NOLINTNEXTLINE(bugprone-sizeof-expression): an array of pointers it is */
  struct tb_pool **pools = realloc(poller->pools, (count + 1) * sizeof *pools);
  if (pools == NULL) return NULL;
  poller->pools = pools;
  struct tb_pool *pool = malloc(sizeof *pool);
  if (pool == NULL) return NULL;
  *pool = (struct tb_pool){.poller = poller, .index = count, .wake = TB_NEVER, .close_idle_at = TB_NEVER};
  pool->multi = new_multi(pool);
  if (pool->multi == NULL) {
    free(pool);
    return NULL;
  }
  poller->pools[poller->pool_count++] = pool;
  return pool;
}

struct tb_pool *tb_pool_join(struct tb_poller *poller) {
  struct tb_pool *pool = NULL;
  for (size_t i = 0; pool == NULL && i < poller->pool_count; i++)
    if (poller->pools[i]->clients < CLIENTS_PER_POOL) pool = poller->pools[i];
  if (pool == NULL) pool = tb_pool_add(poller);
  if (pool != NULL) pool->clients++;
  return pool;
}

/* Replaces the multi handle, which no exchange may be in. */
static bool renew(struct tb_pool *pool) {
  CURLM *multi = new_multi(pool);
  if (multi == NULL) return false;
  curl_multi_cleanup(pool->multi); /* still calls on_socket */
  pool->multi = multi;
  pool->wake = TB_NEVER;
  pool->broken = false;
  return true;
}

bool tb_pool_make_usable(struct tb_pool *pool) {
  return !pool->broken || renew(pool);
}

int64_t tb_pool_next_wake(const struct tb_pool *pool) {
  return pool->wake < pool->close_idle_at ? pool->wake : pool->close_idle_at;
}

void tb_pool_enter(struct tb_pool *pool) {
  pool->in_flight++;
  pool->close_idle_at = TB_NEVER;
}

void tb_pool_leave(struct tb_pool *pool) {
  if (--pool->in_flight > 0) return;
  pool->close_idle_at = tb_monotonic() + TB_IDLE_CONNECTION_SECONDS * TB_SECOND;
  if (pool->close_idle_at >= pool->poller->curl_wake) return;
  pool->poller->curl_wake = pool->close_idle_at;
  tb_poller_arm(pool->poller);
}

void tb_pool_close_idle(struct tb_pool *pool) {
  pool->close_idle_at = TB_NEVER;
  renew(pool); /* without memory for it, they stay until curl looks for a connection */
}

void tb_pool_free(struct tb_pool *pool) {
  curl_multi_cleanup(pool->multi); /* still calls on_socket */
  free(pool);
}
