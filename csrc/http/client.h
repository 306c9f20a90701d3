/* A client: what stays the same between exchanges with one server. */
#ifndef TB_CLIENT_H
#define TB_CLIENT_H

#include "http/reactor.h"

extern const char TB_CLIENT[];

struct tb_client {
  const char *type;
  struct tb_reactor *reactor;     /* kept alive by user value 1; NULL once closed */
  struct tb_client *next, **link; /* in the reactor's list */
  struct tb_pool *pool;           /* where its connections are, unless the reactor is bounded */
  struct tb_exchange *exchanges;  /* in flight */
  /* The last that was heard of the server is nothing, until a time-out. Over HTTP/1.1 the connection ends with that;
   * one of HTTP/2 stays, for its other streams, and would be taken for the next exchange, though nobody may be there.
   */
  bool unheard;
  size_t max_response;
  long receive_buffer; /* bytes, of an exchange whose answer stays in memory */
  /* Lists of request headers, each the end of the one before. */
  struct curl_slist no_expect, json, user_agent;
};

/* One of curl's handles, with what it was set up for last: an exchange like the one before it need not do it again. */
struct tb_handle {
  CURL *easy;
  char *path; /* the end of the URL; NULL when it has none yet */
  CURLU *url; /* the same, parsed; NULL when it was asked for once */
  struct tb_client *client;
  struct tb_exchange *exchange; /* in flight, or NULL */
  struct tb_kind {
    bool post, large, file, range;
    long timeout; /* milliseconds; 0 before it was set up */
  } kind;
  char error[CURL_ERROR_SIZE];
};

struct tb_client *tb_check_client(lua_State *L, int index);

/* A handle with the client's options set, from the pool or new. May raise, so it is stored where its owner looks
 * before its options are set. */
void tb_client_take(lua_State *L, int index, struct tb_handle **handle);

/* Gives a handle back, for the client's next exchange. */
void tb_client_give(struct tb_handle *handle);

/* Sets where it goes: the client's prefix, token and all, and the path. May raise. */
void tb_client_aim(lua_State *L, int index, struct tb_handle *handle, const char *path);

/* Ends the handle; NULL is none. */
void tb_handle_free(struct tb_handle *handle);

/* Pushes the text with the client's secrets struck out. */
void tb_client_push_redacted(lua_State *L, int index, const char *text, size_t length);

/* The client at the index keeps one exchange that has left its scope, for its next request. To keep one takes no
 * memory. Pushes it, and lets go of it; false, with nothing pushed, when there is none. */
void tb_client_keep_exchange(lua_State *L, int index, int exchange);
bool tb_client_push_exchange(lua_State *L, int index);

void tb_client_end_unwatched(struct tb_client *client);

/* Ends what should have ended; of the rest the reactor learns when it will be overdue. */
void tb_client_end_overdue(struct tb_client *client, int64_t now);

/* Ends the exchanges in flight as closed, and gives everything back. */
void tb_client_close(struct tb_client *client);

/* Adds its functions to the module's table, which is on the top of the stack. */
void tb_open_client(lua_State *L);

#endif
