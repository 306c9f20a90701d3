/*** The C floor of the thingsboard library: what the wire needs, and nothing of what the API means.
@module thingsboard.core
*/
#include "core.h"

#include <lauxlib.h>

int luaopen_thingsboard_core(lua_State *L);

LUALIB_API int luaopen_thingsboard_core(lua_State *L) {
  lua_newtable(L);
  tb_open_body(L);
  tb_open_checksum(L);
  return 1;
}
