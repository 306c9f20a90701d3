/* To find a connection for a request, curl looks through all that it has to the host. Ten thousand polls on one multi
 * handle would make every call slow, so a multi handle serves few clients, and the reactor has as many as it needs.
 *
 * A multi handle tells, by two callbacks, which sockets it waits for and when it wants to be called; both only write
 * down what they are told. */
#include "http/pool.h"

#include "base/clock.h"
#include "http/client.h"
#include "http/exchange.h"
#include "http/reactor.h"

#include <stdlib.h>
#include <sys/epoll.h>

enum {
  REST_MICROSECONDS = TB_IDLE_CONNECTION_SECONDS * 1000000,
  /* A pool takes 40 KiB and two descriptors. The more clients share one, the more connections curl looks through: among
   * the polls of so many an answer takes a twentieth more instructions than alone. */
  CLIENTS_A_POOL = 256,
  /* Many polls that end together on one connection of HTTP/2 are more than some releases of libcurl stand (7.88: 43 of
   * 150 failed as partial). So one connection serves a busy device, or few quiet ones. */
  STREAMS_A_CONNECTION = 8,
};

static int on_timer(CURLM *multi, long milliseconds, void *data) {
  struct tb_pool *pool = data;
  struct tb_reactor *reactor = pool->reactor;
  (void)multi;
  pool->wake = milliseconds < 0 ? TB_NEVER : tb_monotonic() + (int64_t)milliseconds * 1000;
  int64_t wake = tb_pool_wake(pool);
  if (wake < reactor->curl_wake || reactor->pool_count == 1) {
    reactor->curl_wake = wake; /* among several, too early a time is put right when it has come */
    tb_reactor_arm(reactor);
  }
  return 0;
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *data, void *known) {
  struct tb_pool *pool = data;
  struct tb_reactor *reactor = pool->reactor;
  (void)known;
  if (what == CURL_POLL_REMOVE) {
    epoll_ctl(reactor->epoll, EPOLL_CTL_DEL, fd, NULL);
    return 0;
  }
  uint32_t events = (what & CURL_POLL_IN ? EPOLLIN : 0) | (what & CURL_POLL_OUT ? EPOLLOUT : 0);
  if (tb_reactor_watch(reactor, fd, events, pool->index)) return 0;
  char *handle = NULL;
  curl_easy_getinfo(easy, CURLINFO_PRIVATE, &handle);
  struct tb_exchange *exchange = handle == NULL ? NULL : ((struct tb_handle *)(void *)handle)->exchange;
  if (exchange != NULL) {
    exchange->unwatched = true;
    reactor->unwatched = true;
  }
  return 0;
}

static CURLM *new_multi(struct tb_pool *pool) {
  CURLM *multi = curl_multi_init();
  if (multi == NULL) return NULL;
  curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, on_socket);
  curl_multi_setopt(multi, CURLMOPT_SOCKETDATA, pool);
  curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, on_timer);
  curl_multi_setopt(multi, CURLMOPT_TIMERDATA, pool);
  curl_multi_setopt(multi, CURLMOPT_MAX_CONCURRENT_STREAMS, (long)STREAMS_A_CONNECTION);
  if (pool->index == 0) curl_multi_setopt(multi, CURLMOPT_MAX_HOST_CONNECTIONS, pool->reactor->most_connections);
  return multi;
}

struct tb_pool *tb_pool_add(struct tb_reactor *reactor) {
  size_t count = reactor->pool_count;
  /* NOLINTNEXTLINE(bugprone-sizeof-expression): an array of pointers it is */
  struct tb_pool **pools = realloc(reactor->pools, (count + 1) * sizeof *pools);
  if (pools == NULL) return NULL;
  reactor->pools = pools;
  struct tb_pool *pool = malloc(sizeof *pool);
  if (pool == NULL) return NULL;
  *pool = (struct tb_pool){.reactor = reactor, .index = count, .wake = TB_NEVER, .rest_at = TB_NEVER};
  pool->multi = new_multi(pool);
  if (pool->multi == NULL) {
    free(pool);
    return NULL;
  }
  reactor->pools[reactor->pool_count++] = pool;
  return pool;
}

struct tb_pool *tb_pool_join(struct tb_reactor *reactor) {
  struct tb_pool *pool = NULL;
  for (size_t i = 0; pool == NULL && i < reactor->pool_count; i++)
    if (reactor->pools[i]->clients < CLIENTS_A_POOL) pool = reactor->pools[i];
  if (pool == NULL) pool = tb_pool_add(reactor);
  if (pool != NULL) pool->clients++;
  return pool;
}

/* Puts a new multi handle in the place of one in which no exchange is. */
static bool renew(struct tb_pool *pool) {
  CURLM *multi = new_multi(pool);
  if (multi == NULL) return false;
  curl_multi_cleanup(pool->multi); /* calls on_socket still */
  pool->multi = multi;
  pool->wake = TB_NEVER;
  pool->broken = false;
  return true;
}

bool tb_pool_is_sound(struct tb_pool *pool) {
  return !pool->broken || renew(pool);
}

int64_t tb_pool_wake(const struct tb_pool *pool) {
  return pool->wake < pool->rest_at ? pool->wake : pool->rest_at;
}

void tb_pool_enter(struct tb_pool *pool) {
  pool->flying++;
  pool->rest_at = TB_NEVER;
}

void tb_pool_leave(struct tb_pool *pool) {
  if (--pool->flying > 0) return;
  pool->rest_at = tb_monotonic() + REST_MICROSECONDS;
  if (pool->rest_at >= pool->reactor->curl_wake) return;
  pool->reactor->curl_wake = pool->rest_at;
  tb_reactor_arm(pool->reactor);
}

void tb_pool_rest(struct tb_pool *pool) {
  pool->rest_at = TB_NEVER;
  renew(pool); /* without memory they stay until curl seeks one */
}

/* When memory is short curl may lose track of a socket or of a timer, or leave a socket's table half undone, by whose
 * size it divides the next time. So no exchange may be left to it, and no connection. */
static void give_up(struct tb_pool *pool) {
  for (struct tb_client *client = pool->reactor->clients; client != NULL; client = client->next) {
    for (struct tb_exchange *exchange = client->exchanges; exchange != NULL; exchange = exchange->next)
      if (exchange->pool == pool) exchange->unwatched = true;
    tb_client_end_unwatched(client);
  }
  pool->broken = true;
  tb_pool_is_sound(pool);
}

void tb_pool_work(struct tb_pool *pool, curl_socket_t fd, int what) {
  CURLMsg *message;
  int left;
  if (pool->broken) return;
  bool well = curl_multi_socket_action(pool->multi, fd, what, &left) == CURLM_OK;
  while ((message = curl_multi_info_read(pool->multi, &left)) != NULL) {
    if (message->msg != CURLMSG_DONE) continue;
    char *handle = NULL;
    CURLcode code = message->data.result; /* the message goes when its handle leaves the multi */
    curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &handle);
    tb_exchange_end(((struct tb_handle *)(void *)handle)->exchange, code);
  }
  if (!well) give_up(pool);
}

void tb_pool_free(struct tb_pool *pool) {
  curl_multi_cleanup(pool->multi); /* calls on_socket still */
  free(pool);
}
