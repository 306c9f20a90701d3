/* Forks of this process: what belongs to the parent is not to be used in the child. */
#ifndef TB_FORK_H
#define TB_FORK_H

#include <lua.h>

/* Begins to count; raises when memory is short. */
void tb_count_forks(lua_State *L);

/* How often this process comes from a fork. To ask for its id would be a system call each time. */
unsigned tb_forks(void);

#endif
