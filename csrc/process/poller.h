/* Signals and descriptors behind one descriptor, for the loop to watch. */
#ifndef TB_PROCESS_POLLER_H
#define TB_PROCESS_POLLER_H

#include <lua.h>

/* The number of the signal at the index, a name such as "TERM"; raises when it is none that can be caught. */
int tb_check_signal(lua_State *L, int index);

/* The descriptor at the index; raises when the number can be none. */
int tb_check_descriptor(lua_State *L, int index);

/* Adds its functions to the module's table, which is on the top of the stack. */
void tb_open_poller(lua_State *L);

#endif
