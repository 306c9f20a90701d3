/* The collector at the steps of the library's own Lua code: a hook that every coroutine inherits. */
#include <lauxlib.h>
#include <string.h>

enum { FULL = 16 }; /* of so many collections of the young, one is of all */

static lua_Integer every, left, collections;
static int young;

static void on_step(lua_State *L, lua_Debug *event) {
  static const char LIBRARY[] = "@lua/thingsboard/";
  lua_getinfo(L, "S", event);
  if (strncmp(event->source, LIBRARY, sizeof LIBRARY - 1) != 0 || --left > 0) return;
  left = every;
  lua_gc(L, young && ++collections % FULL != 0 ? LUA_GCSTEP : LUA_GCCOLLECT, 0);
}

/* collect(mode, every): "incremental": all, or "generational": the young, at every so many instructions. */
static int collect(lua_State *L) {
  young = *luaL_checkstring(L, 1) == 'g';
  every = left = luaL_checkinteger(L, 2);
  if (young)
    lua_gc(L, LUA_GCGEN, 0, 0);
  else
    lua_gc(L, LUA_GCINC, 0, 0, 0);
  lua_sethook(L, on_step, LUA_MASKCOUNT, 1);
  return 0;
}

int luaopen_collect(lua_State *L);

int luaopen_collect(lua_State *L) {
  lua_pushcfunction(L, collect);
  return 1;
}
