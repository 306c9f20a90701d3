#include "base/userdata.h"

#include <string.h>

void tb_new_type(lua_State *L, const char *name, const luaL_Reg *methods, const luaL_Reg *metamethods) {
  luaL_newmetatable(L, name);
  luaL_setfuncs(L, metamethods, 0);
  lua_newtable(L);
  luaL_setfuncs(L, methods, 0);
  lua_setfield(L, -2, "__index");
  lua_pushliteral(L, "thingsboard");
  lua_setfield(L, -2, "__metatable"); /* scripts cannot call __gc on the wrong thing */
  lua_rawsetp(L, LUA_REGISTRYINDEX, name);
}

void *tb_new(lua_State *L, const char *name, size_t size, int user_values) {
  void *object = lua_newuserdatauv(L, size, user_values);
  memset(object, 0, size);
  *(const char **)object = name;
  lua_rawgetp(L, LUA_REGISTRYINDEX, name);
  lua_setmetatable(L, -2);
  return object;
}

void *tb_test(lua_State *L, int index, const char *name, size_t size) {
  void *object = lua_touserdata(L, index);
  return object != NULL && lua_rawlen(L, index) == size && *(const char **)object == name ? object : NULL;
}

void *tb_check(lua_State *L, int index, const char *name, size_t size) {
  void *object = tb_test(L, index, name, size);
  if (object == NULL) luaL_typeerror(L, index, name);
  return object;
}
