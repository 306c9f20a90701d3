/* A file that appears whole or not at all: written under a temporary name beside its own, synced, renamed. */
#ifndef TB_FILE_H
#define TB_FILE_H

#include <lua.h>
#include <stddef.h>

struct tb_file;

/* The open file at the index, or an error. */
struct tb_file *tb_check_file(lua_State *L, int index);

/* Appends the bytes; 0, or the errno of what went wrong. No Lua. */
int tb_file_write(struct tb_file *file, const void *bytes, size_t count);

/* Adds its functions to the module's table, which is on the top of the stack. */
void tb_open_file(lua_State *L);

#endif
