/* Child processes, whose input, output and end the loop can watch. */
#ifndef TB_CHILD_H
#define TB_CHILD_H

#include <lua.h>

/* Adds its functions to the module's table, which is on the top of the stack. */
void tb_open_child(lua_State *L);

#endif
