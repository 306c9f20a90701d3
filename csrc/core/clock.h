/* The clocks, as Lua sees them: the monotonic one for waiting, the wall clock for timestamps. */
#ifndef TB_CORE_CLOCK_H
#define TB_CORE_CLOCK_H

#include <lua.h>

/* Adds `monotonic` and `now` to the module's table, which is on the top of the stack. */
void tb_open_clock(lua_State *L);

#endif
