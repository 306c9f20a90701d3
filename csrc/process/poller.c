#include "process/poller.h"

#include "base/userdata.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

static const char TB_POLLER[] = "thingsboard.poller";

struct tb_poller {
  const char *type;
  int epoll; /* -1 once closed */
  int bell;  /* an eventfd inside epoll, which the handler of signals writes to; -1 until the first is caught */
};

enum { SIGNALS = 8 };

static const char *const signal_names[SIGNALS + 1] = {"HUP",  "INT",  "TERM", "QUIT", "USR1",
                                                      "USR2", "PIPE", "CHLD", NULL};
static const int signal_numbers[SIGNALS] = {SIGHUP, SIGINT, SIGTERM, SIGQUIT, SIGUSR1, SIGUSR2, SIGPIPE, SIGCHLD};

/* What the handler knows of each signal. Programs that a script starts inherit no handler; signals that are blocked for
 * a signalfd would stay blocked there. */
static struct {
  volatile sig_atomic_t bell; /* of the poller that catches it; 0 for none */
  volatile sig_atomic_t came; /* and no poller has returned it yet */
  struct sigaction before;    /* its action while nobody catches it */
} caught[SIGNALS];

static volatile sig_atomic_t seconds_to_end; /* from the first INT or TERM on; 0 for as long as it takes */
static char last_words[256];                 /* when they are over */

static void give_up(int number) {
  ssize_t written = write(STDERR_FILENO, last_words, strlen(last_words));
  (void)written;
  (void)signal(number, SIG_DFL);
  (void)raise(number);
}

static void ring(int number) {
  const uint64_t one = 1;
  int error = errno;
  for (size_t i = 0; i < SIGNALS; i++) {
    if (signal_numbers[i] != number || caught[i].bell == 0) continue;
    caught[i].came = 1;
    ssize_t written = write((int)caught[i].bell, &one, sizeof one); /* fails only if it has rung often */
    (void)written;
  }
  if ((number == SIGINT || number == SIGTERM) && seconds_to_end > 0) {
    alarm((unsigned)seconds_to_end);
    seconds_to_end = 0;
  }
  errno = error;
}

static size_t check_signal(lua_State *L, int index) {
  return (size_t)luaL_checkoption(L, index, NULL, signal_names);
}

int tb_check_signal(lua_State *L, int index) {
  return signal_numbers[check_signal(L, index)];
}

int tb_check_descriptor(lua_State *L, int index) {
  lua_Integer fd = luaL_checkinteger(L, index);
  luaL_argcheck(L, fd >= 0 && fd <= INT_MAX, index, "not a descriptor");
  return (int)fd;
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
  poller->bell = -1;
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
  int fd = tb_check_descriptor(L, 2);
  bool watched = watch(poller, fd, events[luaL_checkoption(L, 3, NULL, names)]);
  if (!watched && errno != EPERM) return luaL_error(L, "cannot watch descriptor %d: %s", fd, strerror(errno));
  lua_pushboolean(L, watched);
  return 1;
}

/* Restores the signal's action from before it was caught, unless another poller catches it by now. */
static void release(const struct tb_poller *poller, size_t i) {
  if (caught[i].bell != poller->bell) return;
  sigaction(signal_numbers[i], &caught[i].before, NULL);
  caught[i].bell = 0;
  caught[i].came = 0;
}

/*** Catches a signal from now on, or restores the action that it had before. If several pollers catch a signal, the
last one gets it.
@function poller:catch
@tparam string name `"HUP"`, `"INT"`, `"TERM"`, `"QUIT"`, `"USR1"`, `"USR2"`, `"PIPE"` or `"CHLD"`
@tparam boolean on */
static int poller_catch(lua_State *L) {
  struct tb_poller *poller = check_poller(L);
  size_t i = check_signal(L, 2);
  if (!lua_toboolean(L, 3)) {
    release(poller, i);
    return 0;
  }
  if (poller->bell < 0) {
    int bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (bell >= 0 && !watch(poller, bell, EPOLLIN)) {
      int error = errno;
      close(bell);
      bell = -1;
      errno = error;
    }
    if (bell < 0) return luaL_error(L, "cannot catch signals: %s", strerror(errno));
    poller->bell = bell;
  }
  bool is_new = caught[i].bell == 0;
  caught[i].bell = poller->bell;
  if (!is_new) return 0;
  struct sigaction action = {.sa_handler = ring, .sa_flags = SA_RESTART};
  sigset_t one;
  sigemptyset(&action.sa_mask);
  sigaction(signal_numbers[i], &action, &caught[i].before);
  sigemptyset(&one);
  sigaddset(&one, signal_numbers[i]); /* whoever started this process may have blocked it */
  pthread_sigmask(SIG_UNBLOCK, &one, NULL);
  return 0;
}

/* The next signal that has come for this poller; NULL for none. */
static const char *next_signal(const struct tb_poller *poller) {
  for (size_t i = 0; i < SIGNALS; i++) {
    if (caught[i].bell != poller->bell || !caught[i].came) continue;
    caught[i].came = 0;
    return signal_names[i];
  }
  return NULL;
}

/*** Returns the next event. Does not wait.
@function poller:step
@return[1] integer a descriptor that is ready, and watched no more
@return[2] string the name of a signal that has come
@treturn[3] nil nothing has happened */
static int poller_step(lua_State *L) {
  const struct tb_poller *poller = check_poller(L);
  struct epoll_event event;
  uint64_t count;
  const char *name = next_signal(poller);
  while (name == NULL && epoll_wait(poller->epoll, &event, 1, 0) > 0) {
    if (event.data.fd != poller->bell) {
      lua_pushinteger(L, event.data.fd);
      return 1;
    }
    if (read(poller->bell, &count, sizeof count) != (ssize_t)sizeof count) return 0;
    name = next_signal(poller); /* after the read: what comes later rings again */
  }
  if (name == NULL) return 0;
  lua_pushstring(L, name);
  return 1;
}

/*** Closes it, and restores the actions of the signals that it has caught. Idempotent.
@function poller:close */
static int poller_close(lua_State *L) {
  struct tb_poller *poller = tb_check(L, 1, TB_POLLER, sizeof(struct tb_poller));
  if (poller->epoll < 0) return 0;
  for (size_t i = 0; i < SIGNALS; i++) release(poller, i);
  if (poller->bell >= 0) close(poller->bell);
  close(poller->epoll);
  poller->epoll = poller->bell = -1;
  return 0;
}

/*** Limits how long the process may take to end once it has caught INT or TERM: then SIGALRM ends it, whatever it does.
@function end_within
@tparam integer seconds
@tparam string text written to the standard error then; at most 255 bytes of it */
static int end_within(lua_State *L) {
  lua_Integer seconds = luaL_checkinteger(L, 1);
  luaL_argcheck(L, seconds > 0 && seconds <= INT_MAX, 1, "out of range");
  (void)snprintf(last_words, sizeof last_words, "%s", luaL_checkstring(L, 2));
  (void)signal(SIGALRM, give_up);
  seconds_to_end = (sig_atomic_t)seconds;
  return 0;
}

void tb_open_poller(lua_State *L) {
  static const luaL_Reg methods[] = {{"pollfd", poller_pollfd}, {"watch", poller_watch}, {"catch", poller_catch},
                                     {"step", poller_step},     {"close", poller_close}, {NULL, NULL}};
  static const luaL_Reg metamethods[] = {{"__gc", poller_close}, {"__close", poller_close}, {NULL, NULL}};
  tb_new_type(L, TB_POLLER, methods, metamethods);
  lua_pushcfunction(L, poller_new);
  lua_setfield(L, -2, "poller");
  lua_pushcfunction(L, end_within);
  lua_setfield(L, -2, "end_within");
}
