#include "core/clock.h"

#include "base/clock.h"

#include <lauxlib.h>
#include <time.h>

/*** The monotonic clock, for waiting.
@function monotonic
@treturn number seconds since a fixed but unknown moment; never goes back */
static int core_monotonic(lua_State *L) {
  lua_pushnumber(L, (lua_Number)tb_monotonic() / 1e6);
  return 1;
}

/*** The wall clock, for timestamps.
@function now
@treturn integer milliseconds since 1970, UTC */
static int core_now(lua_State *L) {
  struct timespec time;
  clock_gettime(CLOCK_REALTIME, &time);
  lua_pushinteger(L, (lua_Integer)time.tv_sec * 1000 + time.tv_nsec / 1000000);
  return 1;
}

void tb_open_clock(lua_State *L) {
  static const luaL_Reg functions[] = {{"monotonic", core_monotonic}, {"now", core_now}, {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
}
