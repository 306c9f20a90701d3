#include "http/poller.h"

#include "base/clock.h"
#include "base/fork.h"
#include "base/userdata.h"

#include <errno.h>
#include <lauxlib.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>

const char TB_REACTOR[] = "thingsboard.reactor";

struct tb_poller *tb_check_poller(lua_State *L, int index) {
  struct tb_poller *poller = tb_check(L, index, TB_REACTOR, sizeof *poller);
  if (poller->epoll < 0) luaL_error(L, "the reactor is closed");
  if (!tb_poller_is_own(poller)) luaL_error(L, "the reactor belongs to the parent process: make a new one after fork");
  return poller;
}

bool tb_poller_is_own(const struct tb_poller *poller) {
  return poller->forks == tb_forks();
}

/* curl may close a descriptor, and the system reuse its number, before curl reports the change here. So epoll may not
 * know a number that we think it watches, or watch one that we think is new; neither is an error. */
bool tb_poller_watch(const struct tb_poller *poller, int fd, uint32_t events, size_t pool) {
  struct epoll_event event = {.events = events, .data.u64 = (uint64_t)pool << 32 | (uint32_t)fd};
  if (epoll_ctl(poller->epoll, EPOLL_CTL_ADD, fd, &event) == 0) return true;
  return errno == EEXIST && epoll_ctl(poller->epoll, EPOLL_CTL_MOD, fd, &event) == 0;
}

int64_t tb_poller_next_wake(const struct tb_poller *poller) {
  if (poller->finished != NULL) return 0;
  int64_t wake = poller->curl_wake < poller->lua_wake ? poller->curl_wake : poller->lua_wake;
  return wake < poller->overdue_at ? wake : poller->overdue_at;
}

void tb_poller_arm(struct tb_poller *poller) {
  int64_t wake = tb_poller_next_wake(poller);
  if (poller->timer < 0 || poller->armed == wake) return;
  struct itimerspec setting = {0};
  if (wake != TB_NEVER) {
    const int64_t latest = INT32_MAX * TB_SECOND;               /* of a time_t of 32 bits */
    int64_t at = wake <= 0 ? 1 : wake < latest ? wake : latest; /* all zero would disarm it */
    setting.it_value.tv_sec = (time_t)(at / TB_SECOND);
    setting.it_value.tv_nsec = (long)(at % TB_SECOND) * 1000;
  }
  timerfd_settime(poller->timer, TFD_TIMER_ABSTIME, &setting, NULL);
  poller->armed = wake;
}
