/* The methods of clients; their struct is in handle.h. */
#ifndef TB_CLIENT_H
#define TB_CLIENT_H

#include "http/exchange.h"

/* Ends the exchanges in flight as closed, and frees what the client has. Idempotent. */
void tb_client_close(struct tb_client *client);

/* Adds `client` to the module's table, which is on the top of the stack. */
void tb_open_client(lua_State *L);

#endif
