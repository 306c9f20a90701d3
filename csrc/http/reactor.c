/* The reactor, which is the poller as Lua sees it: an event loop polls it with pollfd, events, timeout and step. */
#include "http/reactor.h"

#include "base/clock.h"
#include "base/fork.h"
#include "base/memory.h"
#include "base/userdata.h"
#include "http/client.h"
#include "http/pool.h"

#include <errno.h>
#include <lauxlib.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

enum {
  EVENTS_PER_STEP = 64,
  LONGEST_WAIT = 1000, /* seconds, of one epoll_wait; a longer step waits again */
};

/* In place of a pool's number: a descriptor that Lua asked to be woken for. */
static const size_t WATCHED = UINT32_MAX;

/*** A new reactor.
@function reactor
@treturn userdata the reactor; raises when the system has no more descriptors or memory */
static int reactor_new(lua_State *L) {
  struct tb_poller *poller = tb_new(L, TB_REACTOR, sizeof *poller, TB_IN_FLIGHT_VALUE);
  poller->epoll = -1;
  poller->timer = -1;
  poller->forks = tb_forks();
  poller->curl_wake = poller->lua_wake = poller->overdue_at = poller->armed = TB_NEVER;
  lua_newtable(L);
  lua_setiuservalue(L, -2, TB_IN_FLIGHT_VALUE);
  if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) return luaL_error(L, "libcurl cannot be initialised");
  poller->epoll = epoll_create1(EPOLL_CLOEXEC);
  if (poller->epoll < 0) return luaL_error(L, "cannot make a reactor: %s", strerror(errno));
  poller->share = curl_share_init();
  if (poller->share == NULL || tb_pool_add(poller) == NULL) return luaL_error(L, TB_NO_MEMORY);
  curl_share_setopt(poller->share, CURLSHOPT_SHARE, CURL_LOCK_DATA_SSL_SESSION); /* fails in a libcurl without TLS */
  return 1;
}

/*** The descriptor to poll: it is readable when `step` has something to do, including timers that are due.
@function reactor:pollfd
@treturn integer the descriptor, which belongs to the reactor and must not be read or closed */
static int reactor_pollfd(lua_State *L) {
  struct tb_poller *poller = tb_check_poller(L, 1);
  if (poller->timer < 0) {
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (timer < 0 || !tb_poller_watch(poller, timer, EPOLLIN, 0)) {
      int error = errno;
      if (timer >= 0) close(timer);
      return luaL_error(L, "cannot make the reactor's timer: %s", strerror(error));
    }
    poller->timer = timer;
    tb_poller_arm(poller);
  }
  lua_pushinteger(L, poller->epoll);
  return 1;
}

/*** What to poll the descriptor for.
@function reactor:events
@treturn string always `"r"` */
static int reactor_events(lua_State *L) {
  tb_check_poller(L, 1);
  lua_pushliteral(L, "r");
  return 1;
}

/*** Seconds until the next timer, when `step` has something to do even if no descriptor becomes ready.
@function reactor:timeout
@treturn ?number 0 when it is due; nil when there is no timer */
static int reactor_timeout(lua_State *L) {
  struct tb_poller *poller = tb_check_poller(L, 1);
  int64_t wake = tb_poller_next_wake(poller);
  if (wake == TB_NEVER) return 0;
  int64_t left = wake - tb_monotonic();
  lua_pushnumber(L, left > 0 ? (lua_Number)left / (lua_Number)TB_SECOND : 0);
  return 1;
}

/*** Sets the time at which `step` returns at the latest.
@function reactor:wake_at
@tparam ?number time seconds of `core.monotonic`; nil: never */
static int reactor_wake_at(lua_State *L) {
  struct tb_poller *poller = tb_check_poller(L, 1);
  lua_Number time = luaL_optnumber(L, 2, HUGE_VAL);
  luaL_argcheck(L, !isnan(time), 2, "not a time");
  /* Rounded up, or Lua would be woken a moment early and find nothing due. */
  if (time >= (lua_Number)TB_NEVER / (lua_Number)TB_SECOND)
    poller->lua_wake = TB_NEVER;
  else
    poller->lua_wake = time > 0 ? (int64_t)ceil(time * (lua_Number)TB_SECOND) : 0;
  tb_poller_arm(poller);
  return 0;
}

/*** Limits the number of connections to one host and port, for exchanges that start from now on. An exchange that finds
none free waits for one.
@function reactor:max_connections
@tparam integer count 0: no limit */
static int reactor_max_connections(lua_State *L) {
  struct tb_poller *poller = tb_check_poller(L, 1);
  lua_Integer count = luaL_checkinteger(L, 2);
  luaL_argcheck(L, count >= 0 && count <= INT32_MAX, 2, "not a number of connections");
  curl_multi_setopt(poller->pools[0]->multi, CURLMOPT_MAX_HOST_CONNECTIONS, (long)count);
  poller->max_connections = (long)count;
  return 0;
}

/*** Lets `step` return whenever a descriptor is readable. Closing the descriptor ends that.
@function reactor:watch
@tparam integer fd
@treturn boolean false when the system cannot watch it */
static int reactor_watch(lua_State *L) {
  const struct tb_poller *poller = tb_check_poller(L, 1);
  lua_Integer fd = luaL_checkinteger(L, 2);
  luaL_argcheck(L, fd >= 0 && fd <= INT_MAX, 2, "not a descriptor");
  lua_pushboolean(L, tb_poller_watch(poller, (int)fd, EPOLLIN, WATCHED));
  return 1;
}

/* Ends the client's exchanges whose handles are `unwatched`. */
static void end_unwatched_of(const struct tb_client *client) {
  struct tb_exchange *next;
  for (struct tb_exchange *exchange = client->exchanges; exchange != NULL; exchange = next) {
    next = exchange->next;
    if (!exchange->handle->unwatched) continue;
    exchange->handle->unwatched = false;
    exchange->failure = TB_OUT_OF_MEMORY;
    tb_exchange_end(exchange, CURLE_OK);
  }
}

static void end_unwatched(struct tb_poller *poller) {
  poller->unwatched = false;
  for (struct tb_client *client = poller->clients; client != NULL; client = client->next) end_unwatched_of(client);
}

/* Ends what is overdue, and finds out when the next exchange will be. */
static void end_overdue(struct tb_poller *poller, int64_t now) {
  poller->overdue_at = TB_NEVER;
  for (struct tb_client *client = poller->clients; client != NULL; client = client->next) {
    struct tb_exchange *next;
    for (struct tb_exchange *exchange = client->exchanges; exchange != NULL; exchange = next) {
      next = exchange->next;
      if (exchange->overdue_at <= now) {
        strcpy(exchange->handle->error, "Timed out while it waited for a connection");
        tb_exchange_end(exchange, CURLE_OPERATION_TIMEDOUT);
      } else if (exchange->overdue_at < poller->overdue_at) {
        poller->overdue_at = exchange->overdue_at;
      }
    }
  }
}

/* When curl runs out of memory it may lose track of a socket or a timer, or leave a table half changed by whose size it
 * divides later. So all exchanges and connections of such a pool end. */
static void give_up(struct tb_pool *pool) {
  for (struct tb_client *client = pool->poller->clients; client != NULL; client = client->next) {
    for (struct tb_exchange *exchange = client->exchanges; exchange != NULL; exchange = exchange->next)
      if (exchange->pool == pool) exchange->handle->unwatched = true;
    end_unwatched_of(client);
  }
  pool->broken = true;
  tb_pool_make_usable(pool);
}

/* Lets curl work on a socket, or on what is due, and ends the exchanges that curl has finished. */
static void work(struct tb_pool *pool, curl_socket_t fd, int what) {
  CURLMsg *message;
  int left;
  if (pool->broken) return;
  bool ok = curl_multi_socket_action(pool->multi, fd, what, &left) == CURLM_OK;
  while ((message = curl_multi_info_read(pool->multi, &left)) != NULL) /* CURLMSG_DONE is the only kind that there is */
    tb_exchange_end(tb_handle_of(message->easy_handle)->exchange, message->data.result);
  if (!ok) give_up(pool);
}

static void work_where_due(struct tb_poller *poller, int64_t now) {
  poller->curl_wake = TB_NEVER;
  for (size_t i = 0; i < poller->pool_count; i++) {
    struct tb_pool *pool = poller->pools[i];
    if (pool->wake <= now) {
      pool->wake = TB_NEVER; /* curl sets the next one while it works */
      work(pool, CURL_SOCKET_TIMEOUT, 0);
    }
    if (pool->close_idle_at <= now) tb_pool_close_idle(pool);
    if (tb_pool_next_wake(pool) < poller->curl_wake) poller->curl_wake = tb_pool_next_wake(pool);
  }
}

enum turn { GO_ON, RETURN, FAILED };

/* Waits until a descriptor is ready or the time has come, and lets curl work. RETURN: there is something for Lua, a
 * descriptor of its own or a signal. FAILED: errno says why. */
static enum turn turn(struct tb_poller *poller, int64_t now, int64_t until) {
  struct epoll_event events[EVENTS_PER_STEP];
  int64_t wake = tb_poller_next_wake(poller);
  int64_t left = (wake < until ? wake : until) - now;
  int milliseconds = left <= 0 ? 0 : left < LONGEST_WAIT * TB_SECOND ? (int)((left + 999) / 1000) : LONGEST_WAIT * 1000;
  int count = epoll_wait(poller->epoll, events, EVENTS_PER_STEP, milliseconds);
  if (count < 0) return errno == EINTR ? RETURN : FAILED;
  enum turn next = GO_ON;
  for (int i = 0; i < count; i++) {
    int fd = (int)(uint32_t)events[i].data.u64;
    if (fd == poller->timer) {
      uint64_t expirations;
      if (read(poller->timer, &expirations, sizeof expirations) > 0) poller->armed = TB_NEVER;
      continue;
    }
    size_t pool = (size_t)(events[i].data.u64 >> 32);
    if (pool == WATCHED) {
      next = RETURN;
      continue;
    }
    /* For 0, which is an error or an end alone, curl asks the socket itself. */
    int what =
        (events[i].events & EPOLLIN ? CURL_CSELECT_IN : 0) | (events[i].events & EPOLLOUT ? CURL_CSELECT_OUT : 0);
    work(poller->pools[pool], fd, what);
  }
  return next;
}

/* Takes the first exchange out of the queue, pushes it, and whether there is another. */
static int pop_finished(lua_State *L, struct tb_poller *poller) {
  struct tb_exchange *exchange = poller->finished;
  tb_exchange_leave_queue(exchange);
  tb_exchange_take(L, 1, exchange);
  bool more = poller->finished != NULL;
  if (!more) tb_poller_arm(poller);
  lua_pushboolean(L, more);
  return 2;
}

/*** Waits and lets curl work until an exchange has ended, the time of `wake_at` or the time-out has come, a descriptor
of `watch` is readable, or a signal interrupts. Returns the ended exchanges one by one, each once, in the order of their
ends; while there are any it does not wait.
@function reactor:step
@tparam ?number timeout seconds to wait at most; nil: no limit
@treturn ?userdata an exchange that has ended; nil when there is none for now
@treturn ?boolean whether there is another */
static int reactor_step(lua_State *L) {
  struct tb_poller *poller = tb_check_poller(L, 1);
  lua_Number timeout = luaL_optnumber(L, 2, HUGE_VAL);
  luaL_argcheck(L, !isnan(timeout), 2, "not a time");
  if (poller->finished != NULL) return pop_finished(L, poller);
  int64_t now = tb_monotonic(), until = TB_NEVER;
  if (timeout < 1e9) until = timeout > 0 ? now + (int64_t)ceil(timeout * (lua_Number)TB_SECOND) : now;
  enum turn next;
  do {
    if (poller->curl_wake <= now) work_where_due(poller, now);
    if (poller->overdue_at <= now) end_overdue(poller, now);
    if (poller->unwatched) end_unwatched(poller); /* or the wait would be for nothing */
    next = turn(poller, now, until);
    if (poller->unwatched) end_unwatched(poller);
    if (next == FAILED) return luaL_error(L, "cannot wait: %s", strerror(errno));
    if (poller->finished != NULL) return pop_finished(L, poller);
    now = tb_monotonic();
  } while (next == GO_ON && now < until && now < poller->lua_wake);
  tb_poller_arm(poller);
  return 0;
}

/*** Closes the clients, which ends what is in flight, and all connections. Idempotent.
@function reactor:close */
static int reactor_close(lua_State *L) {
  struct tb_poller *poller = tb_check(L, 1, TB_REACTOR, sizeof *poller);
  if (poller->epoll >= 0 && tb_poller_is_own(poller)) {
    while (poller->clients != NULL) tb_client_close(poller->clients);
    while (poller->finished != NULL) tb_exchange_leave_queue(poller->finished);
    while (poller->pool_count > 0)
      tb_pool_free(poller->pools[--poller->pool_count]); /* needs the epoll descriptor still */
    free(poller->pools);
    poller->pools = NULL;
    free(poller->connections);
    poller->connections = NULL;
    poller->connection_count = 0;
  }
  /* An exchange that client:start raised in has a handle until it is collected, which is before the reactor is: until
   * then curl says that the share is in use, and keeps it. */
  if (tb_poller_is_own(poller) && curl_share_cleanup(poller->share) == CURLSHE_OK) poller->share = NULL;
  /* In a forked child curl is not cleaned up, because it would write to the parent's connections. */
  if (poller->timer >= 0) close(poller->timer);
  if (poller->epoll >= 0) close(poller->epoll);
  poller->timer = -1;
  poller->epoll = -1;
  return 0;
}

static int reactor_tostring(lua_State *L) {
  const struct tb_poller *poller = tb_check(L, 1, TB_REACTOR, sizeof *poller);
  lua_pushfstring(L, poller->epoll < 0 ? "thingsboard.reactor (closed)" : "thingsboard.reactor (%p)",
                  (const void *)poller);
  return 1;
}

static const luaL_Reg methods[] = {{"pollfd", reactor_pollfd},
                                   {"events", reactor_events},
                                   {"timeout", reactor_timeout},
                                   {"max_connections", reactor_max_connections},
                                   {"wake_at", reactor_wake_at},
                                   {"step", reactor_step},
                                   {"watch", reactor_watch},
                                   {"close", reactor_close},
                                   {NULL, NULL}};

static const luaL_Reg metamethods[] = {
    {"__gc", reactor_close}, {"__close", reactor_close}, {"__tostring", reactor_tostring}, {NULL, NULL}};

void tb_open_reactor(lua_State *L) {
  tb_count_forks(L);
  tb_new_type(L, TB_REACTOR, methods, metamethods);
  lua_pushcfunction(L, reactor_new);
  lua_setfield(L, -2, "reactor");
}
