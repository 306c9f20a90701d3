#include "process/poller.h"

#include "base/userdata.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

static const char TB_POLLER[] = "thingsboard.poller";

struct tb_poller {
  const char *type;
  int epoll;       /* -1 once closed */
  int signals;     /* a signalfd inside epoll; -1 until the first signal is caught */
  sigset_t caught; /* blocked in this thread, and read from the signalfd */
};

static const char *const signal_names[] = {"HUP", "INT", "TERM", "QUIT", "USR1", "USR2", "PIPE", "CHLD", NULL};
static const int signal_numbers[] = {SIGHUP, SIGINT, SIGTERM, SIGQUIT, SIGUSR1, SIGUSR2, SIGPIPE, SIGCHLD};

int tb_check_signal(lua_State *L, int index) {
  return signal_numbers[luaL_checkoption(L, index, NULL, signal_names)];
}

static struct tb_poller *check_poller(lua_State *L) {
  struct tb_poller *poller = tb_check(L, 1, TB_POLLER, sizeof(struct tb_poller));
  if (poller->epoll < 0) luaL_error(L, "the poller is closed");
  return poller;
}

/*** A new poller.
@function poller
@treturn userdata the poller; raises when the system has no more descriptors */
static int poller_new(lua_State *L) {
  struct tb_poller *poller = tb_new(L, TB_POLLER, sizeof *poller, 0);
  poller->signals = -1;
  sigemptyset(&poller->caught);
  poller->epoll = epoll_create1(EPOLL_CLOEXEC);
  if (poller->epoll < 0) return luaL_error(L, "cannot make a poller: %s", strerror(errno));
  return 1;
}

/*** The descriptor to watch: readable while `step` has an event to return.
@function poller:pollfd
@treturn integer the descriptor; the poller's own, not to be closed or read */
static int poller_pollfd(lua_State *L) {
  lua_pushinteger(L, check_poller(L)->epoll);
  return 1;
}

static bool watch(const struct tb_poller *poller, int fd, uint32_t events) {
  struct epoll_event event = {.events = events, .data.fd = fd};
  if (epoll_ctl(poller->epoll, EPOLL_CTL_MOD, fd, &event) == 0) return true;
  return errno == ENOENT && epoll_ctl(poller->epoll, EPOLL_CTL_ADD, fd, &event) == 0;
}

/*** Watches a descriptor until `step` has returned it once, or it is closed.
@function poller:watch
@tparam integer fd
@tparam string what `"r"` or `"w"`
@treturn boolean false for a file of a kind that never has to be waited for; raises when the system cannot */
static int poller_watch(lua_State *L) {
  static const char *const names[] = {"r", "w", NULL};
  static const uint32_t events[] = {EPOLLIN | EPOLLONESHOT, EPOLLOUT | EPOLLONESHOT};
  const struct tb_poller *poller = check_poller(L);
  int fd = (int)luaL_checkinteger(L, 2);
  bool watched = watch(poller, fd, events[luaL_checkoption(L, 3, NULL, names)]);
  if (!watched && errno != EPERM) return luaL_error(L, "cannot watch descriptor %d: %s", fd, strerror(errno));
  lua_pushboolean(L, watched);
  return 1;
}

/*** Catches a signal from now on, or restores its default action. A caught signal is blocked in this thread.
@function poller:catch
@tparam string name `"HUP"`, `"INT"`, `"TERM"`, `"QUIT"`, `"USR1"`, `"USR2"`, `"PIPE"` or `"CHLD"`
@tparam boolean on */
static int poller_catch(lua_State *L) {
  struct tb_poller *poller = check_poller(L);
  int number = tb_check_signal(L, 2);
  bool on = lua_toboolean(L, 3);
  sigset_t caught = poller->caught, one;
  if (on)
    sigaddset(&caught, number);
  else
    sigdelset(&caught, number);
  int fd = signalfd(poller->signals, &caught, SFD_CLOEXEC | SFD_NONBLOCK);
  if (fd < 0) return luaL_error(L, "cannot catch signals: %s", strerror(errno));
  if (poller->signals < 0 && !watch(poller, fd, EPOLLIN)) {
    int error = errno;
    close(fd);
    return luaL_error(L, "cannot catch signals: %s", strerror(error));
  }
  poller->signals = fd;
  poller->caught = caught;
  sigemptyset(&one);
  sigaddset(&one, number);
  pthread_sigmask(on ? SIG_BLOCK : SIG_UNBLOCK, &one, NULL);
  return 0;
}

static const char *name_of(uint32_t number) {
  for (size_t i = 0; signal_names[i] != NULL; i++)
    if ((uint32_t)signal_numbers[i] == number) return signal_names[i];
  return "";
}

/*** Returns the next event. Does not wait.
@function poller:step
@return[1] integer a descriptor that is ready, and watched no more
@return[2] string the name of a signal that has come
@treturn[3] nil nothing has happened */
static int poller_step(lua_State *L) {
  const struct tb_poller *poller = check_poller(L);
  struct epoll_event event;
  if (epoll_wait(poller->epoll, &event, 1, 0) <= 0) return 0;
  if (event.data.fd != poller->signals) {
    lua_pushinteger(L, event.data.fd);
    return 1;
  }
  struct signalfd_siginfo info;
  if (read(poller->signals, &info, sizeof info) != (ssize_t)sizeof info) return 0;
  lua_pushstring(L, name_of(info.ssi_signo));
  return 1;
}

/*** Closes it, and restores the default actions of the signals that it has caught. Idempotent.
@function poller:close */
static int poller_close(lua_State *L) {
  struct tb_poller *poller = tb_check(L, 1, TB_POLLER, sizeof(struct tb_poller));
  if (poller->epoll < 0) return 0;
  if (poller->signals >= 0) {
    close(poller->signals);
    pthread_sigmask(SIG_UNBLOCK, &poller->caught, NULL);
  }
  close(poller->epoll);
  poller->epoll = poller->signals = -1;
  return 0;
}

void tb_open_poller(lua_State *L) {
  static const luaL_Reg methods[] = {{"pollfd", poller_pollfd}, {"watch", poller_watch}, {"catch", poller_catch},
                                     {"step", poller_step},     {"close", poller_close}, {NULL, NULL}};
  static const luaL_Reg metamethods[] = {{"__gc", poller_close}, {"__close", poller_close}, {NULL, NULL}};
  tb_new_type(L, TB_POLLER, methods, metamethods);
  lua_pushcfunction(L, poller_new);
  lua_setfield(L, -2, "poller");
}
