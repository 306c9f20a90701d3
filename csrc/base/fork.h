/* Counts forks, so that a child process notices that an object belongs to its parent. */
#ifndef TB_FORK_H
#define TB_FORK_H

#include <lua.h>

/* Begins to count. Raises when memory has run out. Idempotent. */
void tb_count_forks(lua_State *L);

/* How many forks lie between the first process that counted and this one. Cheaper than getpid, a system call. */
unsigned tb_forks(void);

#endif
