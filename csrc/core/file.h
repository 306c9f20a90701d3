/* The Lua binding of base/file.h, and functions that sync a file and return free space. */
#ifndef TB_CORE_FILE_H
#define TB_CORE_FILE_H

#include <lua.h>

/* Adds `file`, `sync` and `free_space` to the module's table, which is on the top of the stack. */
void tb_open_file(lua_State *L);

#endif
