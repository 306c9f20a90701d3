/* Types of userdata. Their structs begin with a `const char *` to the type's name, by whose address a type is known. */
#ifndef TB_USERDATA_H
#define TB_USERDATA_H

#include <lauxlib.h>

/* Registers a type: its methods and metamethods. */
void tb_new_type(lua_State *L, const char *name, const luaL_Reg *methods, const luaL_Reg *metamethods);

/* Pushes a new userdata, all zero after the name. */
void *tb_new(lua_State *L, const char *name, size_t size, int user_values);

/* The userdata of the type at the index; when there is something else, NULL, or an error. */
void *tb_test(lua_State *L, int index, const char *name, size_t size);
void *tb_check(lua_State *L, int index, const char *name, size_t size);

#endif
