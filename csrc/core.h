/* What the files of thingsboard.core share with luaopen_thingsboard_core. */
#ifndef TB_CORE_H
#define TB_CORE_H

#include <lauxlib.h>

/* Registers a userdata type: its methods and metamethods. */
void tb_new_type(lua_State *L, const char *name, const luaL_Reg *methods, const luaL_Reg *metamethods);

/* Pushes a new one, all zero but for its first member, which is a `const char *` for the type's name: by its address
 * tb_check knows the type sooner than by the metatable. */
void *tb_new(lua_State *L, const char *name, size_t size, int user_values);

/* The userdata of the type at the index; raises when it is none. */
void *tb_check(lua_State *L, int index, const char *name, size_t size);

/* Each expects the module's table on the top of the stack and adds its functions to it. */
void tb_open_clock(lua_State *L);
void tb_open_body(lua_State *L);
void tb_open_checksum(lua_State *L);
void tb_open_file(lua_State *L);
void tb_open_reactor(lua_State *L);
void tb_open_client(lua_State *L);
void tb_open_exchange(lua_State *L);

#endif
