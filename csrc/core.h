/* What the files of thingsboard.core share with luaopen_thingsboard_core. */
#ifndef TB_CORE_H
#define TB_CORE_H

#include "type.h"

/* Each expects the module's table on the top of the stack and adds its functions to it. */
void tb_open_clock(lua_State *L);
void tb_open_body(lua_State *L);
void tb_open_checksum(lua_State *L);
void tb_open_file(lua_State *L);
void tb_open_reactor(lua_State *L);
void tb_open_client(lua_State *L);
void tb_open_exchange(lua_State *L);

#endif
