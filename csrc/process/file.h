/* File functions that Lua's own library lacks: modes, folders, file systems, descriptors. */
#ifndef TB_PROCESS_FILE_H
#define TB_PROCESS_FILE_H

#include <lua.h>

/* Adds its functions to the module's table, which is on the top of the stack. */
void tb_open_files(lua_State *L);

#endif
