/* A client: what stays the same between exchanges with one server. */
#ifndef TB_CLIENT_H
#define TB_CLIENT_H

#include "reactor.h"

#define TB_CLIENT "thingsboard.client"

struct tb_client {
  struct tb_reactor *reactor;     /* kept alive by user value 1; NULL once closed */
  struct tb_client *next, **link; /* in the reactor's list */
  struct tb_exchange *exchanges;  /* in flight */
  size_t max_response;
};

struct tb_client *tb_check_client(lua_State *L, int index);

/* A handle with the client's options set, from the pool or new. May raise, so it is stored where its owner looks
 * before its options are set. */
void tb_client_take(lua_State *L, int index, CURL **handle);

/* Gives a handle back, for the client's next exchange. */
void tb_client_give(struct tb_client *client, CURL *easy);

/* The URL's beginning, token and all. Owned by the client. */
const char *tb_client_prefix(lua_State *L, int index);

/* Pushes the text with the client's secrets struck out. */
void tb_client_push_redacted(lua_State *L, int index, const char *text, size_t length);

void tb_client_end_unwatched(struct tb_client *client);

/* Ends what should have ended; of the rest the reactor learns when it will be overdue. */
void tb_client_end_overdue(struct tb_client *client, int64_t now);

/* Ends the exchanges in flight as closed, and gives everything back. */
void tb_client_close(struct tb_client *client);

#endif
