/* The options of a client's connections. */
#ifndef TB_OPTIONS_H
#define TB_OPTIONS_H

#include <curl/curl.h>
#include <lua.h>
#include <stdbool.h>

/* The server closes an idle connection after 60 s; over HTTP/2 it says goodbye (GOAWAY) after 20 s. */
enum { TB_IDLE_CONNECTION_SECONDS = 50 };

/* Pushes a copy of the options in the table at the index, and of its list of secrets. Nobody else can change the copy,
 * and to read it runs no code. Raises when an option has the wrong type. */
void tb_options_copy(lua_State *L, int index);

/* Configures what all exchanges of a client have in common. `options` is the index of such a copy. May raise, so the
 * easy handle must have an owner. */
void tb_options_apply(lua_State *L, int options, CURL *easy);

/* Whether the URL has TLS. */
bool tb_options_is_https(lua_State *L, int options);

#endif
