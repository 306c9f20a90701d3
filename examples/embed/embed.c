/* A daemon with a poll loop of its own that runs a device script: one more descriptor to watch, and no thread.
 *
 *     embed script.lua arguments...
 *
 * The script starts tasks and returns. The daemon ends when they have ended, or on SIGTERM or SIGINT. */
#include <errno.h>
#include <inttypes.h>
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

enum { BEAT_NANOSECONDS = 50000000 };

struct daemon {
  char **script; /* its file, then its arguments, then NULL */
  int heart;     /* a timer of the daemon's own */
  int signals;   /* SIGTERM and SIGINT */
  uint64_t beats;
};

/* Puts the result of loop:method(0) on the stack, the loop being at index 1. */
static void call(lua_State *L, const char *method) {
  lua_getfield(L, 1, method);
  lua_pushvalue(L, 1);
  lua_pushinteger(L, 0);
  lua_call(L, 2, 1);
}

static void run_script(lua_State *L, char **script) {
  if (luaL_loadfile(L, script[0]) != LUA_OK) lua_error(L);
  int count = 0;
  while (script[count + 1] != NULL) lua_pushstring(L, script[++count]);
  lua_call(L, count, 0);
}

static void serve(lua_State *L, struct daemon *daemon) {
  call(L, "pollfd");
  struct pollfd fds[] = {{.fd = (int)lua_tointeger(L, -1), .events = POLLIN},
                         {.fd = daemon->heart, .events = POLLIN},
                         {.fd = daemon->signals, .events = POLLIN}};
  for (;; lua_settop(L, 1)) {
    call(L, "working");
    if (!lua_toboolean(L, -1)) return;
    if (poll(fds, sizeof fds / sizeof *fds, -1) < 0) {
      if (errno == EINTR) continue;
      luaL_error(L, "cannot wait: %s", strerror(errno));
    }
    uint64_t beats;
    if (fds[1].revents != 0 && read(daemon->heart, &beats, sizeof beats) > 0) daemon->beats += beats;
    if (fds[2].revents != 0) return;
    if (fds[0].revents != 0) call(L, "step"); /* with 0: without waiting */
  }
}

/* All that may raise, below one lua_pcall. */
static int run(lua_State *L) {
  struct daemon *daemon = lua_touserdata(L, 1);
  luaL_openlibs(L);
  lua_getglobal(L, "require");
  lua_pushliteral(L, "thingsboard.loop");
  lua_call(L, 1, 1);
  lua_getfield(L, -1, "default");
  lua_call(L, 0, 1);
  lua_replace(L, 1); /* the loop */
  lua_settop(L, 1);
  run_script(L, daemon->script);
  serve(L, daemon);
  call(L, "close"); /* cancels what still runs, so that it closes what it has to close */
  return 0;
}

static int with_traceback(lua_State *L) {
  luaL_traceback(L, L, luaL_tolstring(L, 1, NULL), 1);
  return 1;
}

int main(int argc, char **argv) {
  if (argc < 2) return fprintf(stderr, "usage: embed script.lua arguments...\n"), 2;
  sigset_t ending;
  sigemptyset(&ending);
  sigaddset(&ending, SIGTERM);
  sigaddset(&ending, SIGINT);
  sigprocmask(SIG_BLOCK, &ending, NULL);
  struct itimerspec beat = {.it_interval.tv_nsec = BEAT_NANOSECONDS, .it_value.tv_nsec = BEAT_NANOSECONDS};
  struct daemon daemon = {.script = argv + 1,
                          .heart = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC),
                          .signals = signalfd(-1, &ending, SFD_CLOEXEC)};
  lua_State *L = luaL_newstate();
  if (L == NULL || daemon.heart < 0 || daemon.signals < 0 || timerfd_settime(daemon.heart, 0, &beat, NULL) != 0) {
    perror("embed");
    return 1;
  }
  lua_pushcfunction(L, with_traceback);
  lua_pushcfunction(L, run);
  lua_pushlightuserdata(L, &daemon);
  int status = lua_pcall(L, 1, 0, 1);
  if (status != LUA_OK) (void)fprintf(stderr, "embed: %s\n", lua_tostring(L, -1));
  lua_close(L);
  close(daemon.heart);
  close(daemon.signals);
  printf("beats: %" PRIu64 "\n", daemon.beats);
  return status == LUA_OK ? 0 : 1;
}
