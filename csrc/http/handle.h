/* Clients, and the curl easy handles that carry their requests. What clients do is in client.c; here is what every
 * exchange needs of them. */
#ifndef TB_HANDLE_H
#define TB_HANDLE_H

#include "http/poller.h"

#include <curl/curl.h>

/* The client's user values. */
enum {
  TB_REACTOR_VALUE = 1,    /* keeps the reactor alive */
  TB_OPTIONS_VALUE,        /* a table: every new handle is configured from it; as a list, the secrets */
  TB_USER_AGENT_VALUE,     /* the text of the header */
  TB_SPARE_EXCHANGE_VALUE, /* an exchange that can be used again, or nil */
  TB_CLIENT_VALUES = TB_SPARE_EXCHANGE_VALUE,
};

/* What stays the same between the exchanges with one server. */
struct tb_client {
  const char *type;
  struct tb_poller *poller;       /* NULL once closed */
  struct tb_client *next, **link; /* in the poller's list */
  struct tb_pool *pool;           /* where its connections are, unless the poller limits their number */
  struct tb_exchange *exchanges;  /* in flight */
  curl_socket_t socket;           /* of the last exchange's connection */
  /* An exchange that times out without a byte of an answer leaves a dead connection: over HTTP/1.1 it is closed, but
   * over HTTP/2 it stays open for its other streams. The next exchange gets a new connection, and for as long as an
   * idle one may last none uses one that is older than that. */
  bool unheard;       /* the last exchange was such a one */
  int64_t unheard_at; /* the time of the last such exchange's end; 0: none */
  size_t max_response;
  long receive_buffer; /* bytes, for an answer that stays in memory */
  /* Lists of request headers; each begins with its own and goes on with the next one's. */
  struct curl_slist no_expect, json, user_agent;
};

/* A curl easy handle. What was configured for one exchange need not be configured again for the next of its kind. */
struct tb_handle {
  CURL *easy;
  char *path; /* the end of its URL; NULL when it has none yet */
  CURLU *url; /* the URL, parsed; NULL when it was used for one request only */
  struct tb_client *client;
  struct tb_exchange *exchange; /* in flight, or NULL */
  curl_socket_t socket;         /* that it waited for last: probably that of its connection */
  bool unwatched;               /* epoll could not take the socket, so the exchange would hang */
  struct tb_kind {
    bool post, large, file, range;
    long timeout; /* milliseconds; 0: not configured yet */
    long max_age; /* seconds, of the connection; 0: no limit */
  } kind;
  char error[CURL_ERROR_SIZE];
};

/* Stores a handle for the client at the index in *handle: an idle or a new one. It is stored before it is configured,
 * which may raise, so that it has an owner then. */
void tb_handle_take(lua_State *L, int client, struct tb_handle **handle);

/* Makes an idle handle, to be used when memory has run out. May raise. */
void tb_handle_prepare(lua_State *L, int client);

/* Puts the handle into the list of idle ones. */
void tb_handle_give_back(struct tb_handle *handle);

/* Sets the URL: the client's prefix, which has the token in it, and the path. May raise. */
void tb_handle_set_url(lua_State *L, int client, struct tb_handle *handle, const char *path);

/* The handle that an easy handle belongs to; NULL before its first exchange. */
struct tb_handle *tb_handle_of(CURL *easy);

/* Frees the client's idle handles. */
void tb_handle_free_idle(const struct tb_client *client);

/* Frees the handle; does nothing for NULL. */
void tb_handle_free(struct tb_handle *handle);

#endif
