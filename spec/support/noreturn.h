/* Included before all else when coverage is measured: Lua's functions that raise do not return, so what a macro does
 * with what they return is no branch. */
#include <lauxlib.h>

int(luaL_argerror)(lua_State *L, int argument, const char *message) __attribute__((noreturn));
int(luaL_typeerror)(lua_State *L, int argument, const char *type) __attribute__((noreturn));
int(luaL_error)(lua_State *L, const char *format, ...) __attribute__((noreturn));
int(lua_error)(lua_State *L) __attribute__((noreturn));
