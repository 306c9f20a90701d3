/* The Lua binding of base/file.h, and two questions about files. */
#ifndef TB_CORE_FILE_H
#define TB_CORE_FILE_H

#include <lua.h>

/* Adds `file`, `sync` and `free_space` to the module's table, which is on the top of the stack. */
void tb_open_file(lua_State *L);

#endif
