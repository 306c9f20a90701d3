/* fork() for specs: Lua has none. */
#include <lauxlib.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

/* fork(f): calls f in a child, which ends then; returns how it ended: its exit status, or minus the
 * signal's number. */
static int call_in_child(lua_State *L) {
  pid_t child = fork();
  if (child < 0) return luaL_error(L, "no fork");
  if (child == 0) exit(lua_pcall(L, 0, 0, 0) == LUA_OK ? 0 : 1);
  int status = 0;
  waitpid(child, &status, 0);
  lua_pushinteger(L, WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status));
  return 1;
}

int luaopen_fork(lua_State *L);

int luaopen_fork(lua_State *L) {
  lua_pushcfunction(L, call_in_child);
  return 1;
}
