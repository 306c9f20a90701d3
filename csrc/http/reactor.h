/* The methods of reactors; their struct is in poller.h. */
#ifndef TB_REACTOR_H
#define TB_REACTOR_H

#include <lua.h>

/* Adds `reactor` to the module's table, which is on the top of the stack. */
void tb_open_reactor(lua_State *L);

#endif
