/* A Lua whose memory runs out, on purpose: its allocator is put before the one that it has. What C allocates by itself
 * is not touched. */
#include <lauxlib.h>
#include <lua.h>

static lua_Alloc real;
static void *real_data;
static lua_Integer count, from, refused;
static size_t most;

static void *allocate(void *data, void *block, size_t old, size_t wanted) {
  (void)data;
  if (wanted > most && (block == NULL || wanted > old) && ++count >= from) {
    refused++;
    return NULL;
  }
  return real(real_data, block, old, wanted);
}

/* call(n, bytes, f): calls f, while Lua gets no block that is larger than so many bytes, from the n-th such block on.
 * Returns how many it wanted, whether f returned, and its result or error. */
static int call(lua_State *L) {
  from = luaL_checkinteger(L, 1);
  most = (size_t)luaL_checkinteger(L, 2);
  lua_settop(L, 3);
  luaL_checkstack(L, LUA_MINSTACK, NULL);
  count = refused = 0;
  real = lua_getallocf(L, &real_data);
  lua_setallocf(L, allocate, NULL);
  int status = lua_pcall(L, 0, 1, 0);
  lua_setallocf(L, real, real_data);
  lua_pushinteger(L, count);
  lua_pushboolean(L, status == LUA_OK);
  lua_rotate(L, 3, 2);
  return 3;
}

/* refused(): how many were refused in this call, or the last. */
static int how_many(lua_State *L) {
  lua_pushinteger(L, refused);
  return 1;
}

int luaopen_starve(lua_State *L);

int luaopen_starve(lua_State *L) {
  static const luaL_Reg functions[] = {{"call", call}, {"refused", how_many}, {NULL, NULL}};
  luaL_newlib(L, functions);
  return 1;
}
