/* Checksums of packages, fed piece by piece. */
#ifndef TB_CHECKSUM_H
#define TB_CHECKSUM_H

#include <lua.h>
#include <stdbool.h>
#include <stddef.h>

struct tb_checksum;

/* The open checksum at the index; NULL when there is something else; raises when it is closed. */
struct tb_checksum *tb_test_checksum(lua_State *L, int index);

/* Adds bytes. Calls nothing of Lua, for curl's callbacks. False when the crypto library fails, or the checksum is
 * closed. */
bool tb_checksum_update(struct tb_checksum *checksum, const void *bytes, size_t count);

/* Adds `checksum` to the module's table, which is on the top of the stack. */
void tb_open_checksum(lua_State *L);

#endif
