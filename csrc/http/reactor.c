/* The shape of an object that an event loop can poll: pollfd, events, timeout, step. Below it are the pools, whose
 * sockets and timers it waits for. */
#include "http/reactor.h"

#include "base/clock.h"
#include "base/fork.h"
#include "base/userdata.h"
#include "http/client.h"
#include "http/exchange.h"
#include "http/pool.h"

#include <errno.h>
#include <lauxlib.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

enum {
  EVENTS_A_STEP = 64,
  MICROSECONDS = 1000000,
  LONGEST_WAIT = 1000 * MICROSECONDS, /* of epoll; a longer step waits again */
};

/* In place of a pool's number: a descriptor that Lua asked to be woken for. */
static const size_t WATCHED = UINT32_MAX;

const char TB_REACTOR[] = "thingsboard.reactor";

static int64_t next_wake(const struct tb_reactor *reactor) {
  if (reactor->finished != NULL) return 0;
  int64_t wake = reactor->curl_wake < reactor->lua_wake ? reactor->curl_wake : reactor->lua_wake;
  return wake < reactor->overdue_at ? wake : reactor->overdue_at;
}

void tb_reactor_arm(struct tb_reactor *reactor) {
  int64_t wake = next_wake(reactor);
  if (reactor->timer < 0 || reactor->armed == wake) return;
  struct itimerspec setting = {0};
  if (wake != TB_NEVER) {
    if (wake <= 0) wake = 1; /* all zero would disarm it */
    setting.it_value.tv_sec = (time_t)(wake / MICROSECONDS);
    setting.it_value.tv_nsec = (long)(wake % MICROSECONDS) * 1000;
  }
  timerfd_settime(reactor->timer, TFD_TIMER_ABSTIME, &setting, NULL);
  reactor->armed = next_wake(reactor);
}

/* curl closes descriptors, and the system gives their numbers out again, before it says so here: what epoll then has to
 * say about a number that it knows no more, or knows already, is not an error. */
bool tb_reactor_watch(const struct tb_reactor *reactor, int fd, uint32_t events, size_t pool) {
  struct epoll_event event = {.events = events, .data.u64 = (uint64_t)pool << 32 | (uint32_t)fd};
  if (epoll_ctl(reactor->epoll, EPOLL_CTL_ADD, fd, &event) == 0) return true;
  return errno == EEXIST && epoll_ctl(reactor->epoll, EPOLL_CTL_MOD, fd, &event) == 0;
}

bool tb_reactor_is_own(const struct tb_reactor *reactor) {
  return reactor->forks == tb_forks();
}

struct tb_reactor *tb_check_reactor(lua_State *L, int index) {
  struct tb_reactor *reactor = tb_check(L, index, TB_REACTOR, sizeof(struct tb_reactor));
  if (reactor->epoll < 0) luaL_error(L, "the reactor is closed");
  if (!tb_reactor_is_own(reactor))
    luaL_error(L, "the reactor belongs to the parent process: make a new one after fork");
  return reactor;
}

/*** A new reactor.
@function reactor
@treturn userdata the reactor; raises when the system has no more descriptors or memory */
static int reactor_new(lua_State *L) {
  struct tb_reactor *reactor = tb_new(L, TB_REACTOR, sizeof *reactor, 1);
  reactor->epoll = -1;
  reactor->timer = -1;
  reactor->forks = tb_forks();
  reactor->curl_wake = reactor->lua_wake = reactor->overdue_at = reactor->armed = TB_NEVER;
  lua_newtable(L); /* the exchanges in flight, by address: see exchange.c */
  lua_setiuservalue(L, -2, 1);
  if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) return luaL_error(L, "libcurl cannot be initialised");
  reactor->epoll = epoll_create1(EPOLL_CLOEXEC);
  if (reactor->epoll < 0) return luaL_error(L, "cannot make a reactor: %s", strerror(errno));
  if (tb_pool_add(reactor) == NULL) return luaL_error(L, "not enough memory");
  return 1;
}

/*** The descriptor to watch: readable when `step` has something to do, its timers included.
@function reactor:pollfd
@treturn integer the descriptor; the reactor's own, not to be closed or read */
static int reactor_pollfd(lua_State *L) {
  struct tb_reactor *reactor = tb_check_reactor(L, 1);
  if (reactor->timer < 0) {
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (timer < 0 || !tb_reactor_watch(reactor, timer, EPOLLIN, 0)) {
      int error = errno;
      if (timer >= 0) close(timer);
      return luaL_error(L, "cannot make the reactor's timer: %s", strerror(error));
    }
    reactor->timer = timer;
    tb_reactor_arm(reactor);
  }
  lua_pushinteger(L, reactor->epoll);
  return 1;
}

/*** What to watch the descriptor for.
@function reactor:events
@treturn string always `"r"` */
static int reactor_events(lua_State *L) {
  tb_check_reactor(L, 1);
  lua_pushliteral(L, "r");
  return 1;
}

/*** How long until `step` has something to do though no descriptor stirs.
@function reactor:timeout
@treturn ?number seconds, 0 when it is due; nil when there is no such time */
static int reactor_timeout(lua_State *L) {
  struct tb_reactor *reactor = tb_check_reactor(L, 1);
  int64_t wake = next_wake(reactor);
  if (wake == TB_NEVER) return 0;
  int64_t left = wake - tb_monotonic();
  lua_pushnumber(L, left > 0 ? (lua_Number)left / MICROSECONDS : 0);
  return 1;
}

/*** Says when the Lua side wants a `step` at the latest.
@function reactor:wake_at
@tparam ?number time seconds of `core.monotonic`; nil for never */
static int reactor_wake_at(lua_State *L) {
  struct tb_reactor *reactor = tb_check_reactor(L, 1);
  lua_Number time = luaL_optnumber(L, 2, HUGE_VAL);
  luaL_argcheck(L, !isnan(time), 2, "not a time");
  /* Rounded up: woken a moment early, the Lua side would find nothing due. */
  if (time >= (lua_Number)TB_NEVER / MICROSECONDS)
    reactor->lua_wake = TB_NEVER;
  else
    reactor->lua_wake = time > 0 ? (int64_t)ceil(time * MICROSECONDS) : 0;
  tb_reactor_arm(reactor);
  return 0;
}

/*** Bounds the connections to one host and port, of the exchanges from now on. One for which there is none waits for
one that is free.
@function reactor:max_connections
@tparam integer count 0 for no bound */
static int reactor_max_connections(lua_State *L) {
  struct tb_reactor *reactor = tb_check_reactor(L, 1);
  lua_Integer count = luaL_checkinteger(L, 2);
  luaL_argcheck(L, count >= 0 && count <= INT32_MAX, 2, "not a number of connections");
  curl_multi_setopt(reactor->pools[0]->multi, CURLMOPT_MAX_HOST_CONNECTIONS, (long)count);
  reactor->most_connections = (long)count;
  return 0;
}

/*** Lets `step` return when a descriptor is readable, as often as it is. Closing the descriptor ends that.
@function reactor:watch
@tparam integer fd
@treturn boolean false when the system cannot watch it */
static int reactor_watch(lua_State *L) {
  const struct tb_reactor *reactor = tb_check_reactor(L, 1);
  lua_pushboolean(L, tb_reactor_watch(reactor, (int)luaL_checkinteger(L, 2), EPOLLIN, WATCHED));
  return 1;
}

/* Gives curl its turn where its time has come. */
static void work_where_due(struct tb_reactor *reactor, int64_t now) {
  reactor->curl_wake = TB_NEVER;
  for (size_t i = 0; i < reactor->pool_count; i++) {
    struct tb_pool *pool = reactor->pools[i];
    if (pool->wake <= now) {
      pool->wake = TB_NEVER; /* curl sets it anew while it is called */
      tb_pool_work(pool, CURL_SOCKET_TIMEOUT, 0);
    }
    if (pool->rest_at <= now) tb_pool_rest(pool);
    if (tb_pool_wake(pool) < reactor->curl_wake) reactor->curl_wake = tb_pool_wake(pool);
  }
}

/* Gives curl its turn when its time has come; ends what curl has not, when that is overdue. */
static void work_if_due(struct tb_reactor *reactor, int64_t now) {
  if (reactor->curl_wake <= now) work_where_due(reactor, now);
  if (reactor->overdue_at <= now) {
    reactor->overdue_at = TB_NEVER;
    for (struct tb_client *client = reactor->clients; client != NULL; client = client->next)
      tb_client_end_overdue(client, now);
  }
}

/* Ends the exchanges whose socket nobody watches. */
static void end_unwatched(struct tb_reactor *reactor) {
  reactor->unwatched = false;
  for (struct tb_client *client = reactor->clients; client != NULL; client = client->next)
    tb_client_end_unwatched(client);
}

enum turn { GO_ON, RETURN, FAILED };

/* Waits until a descriptor is ready or the time has come, and lets curl work. RETURN: Lua is to see what has happened,
 * a descriptor of its own or a signal. FAILED: as errno says. */
static enum turn turn(struct tb_reactor *reactor, int64_t now, int64_t until) {
  struct epoll_event events[EVENTS_A_STEP];
  int64_t wake = next_wake(reactor);
  int64_t left = (wake < until ? wake : until) - now;
  int milliseconds = left <= 0 ? 0 : left < LONGEST_WAIT ? (int)((left + 999) / 1000) : LONGEST_WAIT / 1000;
  int count = epoll_wait(reactor->epoll, events, EVENTS_A_STEP, milliseconds);
  if (count < 0) return errno == EINTR ? RETURN : FAILED;
  enum turn next = GO_ON;
  for (int i = 0; i < count; i++) {
    int fd = (int)(uint32_t)events[i].data.u64;
    if (fd == reactor->timer) {
      uint64_t expirations;
      if (read(reactor->timer, &expirations, sizeof expirations) > 0) reactor->armed = TB_NEVER;
      continue;
    }
    size_t pool = (size_t)(events[i].data.u64 >> 32);
    if (pool == WATCHED) {
      next = RETURN;
      continue;
    }
    int what = (events[i].events & EPOLLIN ? CURL_CSELECT_IN : 0) |
               (events[i].events & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
               (events[i].events & (EPOLLERR | EPOLLHUP) ? CURL_CSELECT_ERR : 0);
    tb_pool_work(reactor->pools[pool], fd, what);
  }
  return next;
}

/* Pushes the exchange that has ended first, which nobody but Lua keeps from now on, and whether there is another. */
static int hand_over(lua_State *L, struct tb_reactor *reactor) {
  struct tb_exchange *exchange = reactor->finished;
  tb_exchange_leave_queue(exchange);
  tb_exchange_push(L, 1, exchange);
  tb_exchange_release(L, 1, exchange);
  bool more = reactor->finished != NULL;
  if (!more) tb_reactor_arm(reactor);
  lua_pushboolean(L, more);
  return 2;
}

/*** Waits and lets curl work until an exchange has ended, the time of `wake_at` or the time-out has come, a descriptor
of `watch` is readable, or a signal interrupts. Hands over what has ended, one exchange at a time, each once, in order
of their ends; it does not wait as long as there is one.
@function reactor:step
@tparam ?number timeout seconds to wait at most; nil for as long as it takes
@treturn ?userdata an exchange that has ended; nil when there is none for now
@treturn ?boolean whether there is another */
static int reactor_step(lua_State *L) {
  struct tb_reactor *reactor = tb_check_reactor(L, 1);
  lua_Number timeout = luaL_optnumber(L, 2, HUGE_VAL);
  luaL_argcheck(L, !isnan(timeout), 2, "not a time");
  if (reactor->finished != NULL) return hand_over(L, reactor);
  int64_t now = tb_monotonic(), until = TB_NEVER;
  if (timeout < 1e9) until = timeout > 0 ? now + (int64_t)ceil(timeout * MICROSECONDS) : now;
  enum turn next;
  do {
    work_if_due(reactor, now);
    if (reactor->unwatched) end_unwatched(reactor); /* before it is waited for */
    next = turn(reactor, now, until);
    if (reactor->unwatched) end_unwatched(reactor);
    if (next == FAILED) return luaL_error(L, "cannot wait: %s", strerror(errno));
    if (reactor->finished != NULL) return hand_over(L, reactor);
    now = tb_monotonic();
  } while (next == GO_ON && now < until && now < reactor->lua_wake);
  tb_reactor_arm(reactor);
  return 0;
}

/*** Ends what is in flight, closes all connections and the clients. Idempotent.
@function reactor:close */
static int reactor_close(lua_State *L) {
  struct tb_reactor *reactor = tb_check(L, 1, TB_REACTOR, sizeof(struct tb_reactor));
  if (reactor->epoll >= 0 && tb_reactor_is_own(reactor)) {
    while (reactor->clients != NULL) tb_client_close(reactor->clients);
    while (reactor->finished != NULL) tb_exchange_leave_queue(reactor->finished);
    while (reactor->pool_count > 0)
      tb_pool_free(reactor->pools[--reactor->pool_count]); /* the descriptors go after it */
    free(reactor->pools);
    reactor->pools = NULL;
  }
  /* In a forked child curl's memory is left alone: its cleanup would speak on the parent's connections. */
  if (reactor->timer >= 0) close(reactor->timer);
  if (reactor->epoll >= 0) close(reactor->epoll);
  reactor->timer = -1;
  reactor->epoll = -1;
  return 0;
}

static int reactor_tostring(lua_State *L) {
  const struct tb_reactor *reactor = tb_check(L, 1, TB_REACTOR, sizeof(struct tb_reactor));
  lua_pushfstring(L, reactor->epoll < 0 ? "thingsboard.reactor (closed)" : "thingsboard.reactor (%p)",
                  (const void *)reactor);
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
