/* The Lua side of request bodies. */
#ifndef TB_REQUEST_BODY_H
#define TB_REQUEST_BODY_H

#include "json/body.h"

#include <lua.h>

/* The body at the index; NULL when there is something else. Raises when the body was closed. */
struct tb_body *tb_test_body(lua_State *L, int index);

/* Adds its functions to the module's table, which is on the top of the stack. */
void tb_open_body(lua_State *L);

#endif
