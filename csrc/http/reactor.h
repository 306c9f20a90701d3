/* The reactor: all of curl's sockets and timers behind one descriptor. */
#ifndef TB_REACTOR_H
#define TB_REACTOR_H

#include <curl/curl.h>
#include <lua.h>
#include <stdbool.h>
#include <stdint.h>

struct tb_client;
struct tb_exchange;
struct tb_pool;
struct tb_handle;

extern const char TB_REACTOR[];

/* Times are microseconds of the monotonic clock; TB_NEVER is later than all of them. */
#define TB_NEVER INT64_MAX

enum { TB_MOST_IDLE = 64 };

struct tb_reactor {
  const char *type;
  int epoll;             /* -1 once closed */
  int timer;             /* a timerfd inside epoll, made when the first foreign loop asks for pollfd(); -1 before */
  unsigned forks;        /* of the process that made it: see tb_reactor_is_own */
  int64_t curl_wake;     /* when curl wants to be called, or earlier */
  int64_t lua_wake;      /* when the Lua side wants to be called */
  int64_t overdue_at;    /* no exchange in flight is overdue before */
  int64_t armed;         /* what the timerfd is set to */
  bool unwatched;        /* an exchange's socket could not be added to epoll: see tb_exchange.unwatched */
  long most_connections; /* to a host; 0 for no bound. With one, all exchanges are in the first pool */
  struct tb_pool **pools;
  size_t pool_count;
  struct tb_client *clients;
  struct tb_exchange *finished; /* a queue: ended, and not yet handed over by step() */
  struct tb_exchange *last_finished;
  /* Handles that wait for their client's next exchange, the one that has waited longest first: it goes first. Those of
   * all clients stand in one list, so that many devices that rest together keep no more than one that is busy. */
  struct tb_handle *idle[TB_MOST_IDLE];
  size_t idle_count;
};

/* The open reactor at the index; raises when it is none, closed, or used in a forked child. */
struct tb_reactor *tb_check_reactor(lua_State *L, int index);

/* Watches a descriptor for a pool. False when the system cannot. */
bool tb_reactor_watch(const struct tb_reactor *reactor, int fd, uint32_t events, size_t pool);

/* Keeps the timerfd, when there is one, at the next wake-up: to be called when that has changed. */
void tb_reactor_arm(struct tb_reactor *reactor);

/* False in a process forked from the one that made the reactor: its sockets are the parent's. */
bool tb_reactor_is_own(const struct tb_reactor *reactor);

/* Adds its functions to the module's table, which is on the top of the stack. */
void tb_open_reactor(lua_State *L);

#endif
