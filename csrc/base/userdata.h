/* Types of userdata. */
#ifndef TB_TYPE_H
#define TB_TYPE_H

#include <lauxlib.h>

/* Registers a type: its methods and metamethods. */
void tb_new_type(lua_State *L, const char *name, const luaL_Reg *methods, const luaL_Reg *metamethods);

/* Pushes a new one, all zero but for its first member, which is a `const char *` for the type's name: by its address
 * tb_check knows the type sooner than by the metatable. */
void *tb_new(lua_State *L, const char *name, size_t size, int user_values);

/* The userdata of the type at the index; raises when it is none. */
void *tb_check(lua_State *L, int index, const char *name, size_t size);

#endif
