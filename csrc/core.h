/* What the files of thingsboard.core share with luaopen_thingsboard_core: each opens its own part. */
#ifndef TB_CORE_H
#define TB_CORE_H

#include <lua.h>

/* Each expects the module's table on the top of the stack and adds its functions to it. */
void tb_open_body(lua_State *L);
void tb_open_checksum(lua_State *L);

#endif
