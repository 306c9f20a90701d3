/* An exchange: one request and its answer. */
#ifndef TB_EXCHANGE_H
#define TB_EXCHANGE_H

#include "base/buffer.h"
#include "http/client.h"

extern const char TB_EXCHANGE[];

struct tb_file;
struct tb_checksum;

/* What ended an exchange when it was not curl. */
enum tb_failure {
  TB_NO_FAILURE,
  TB_CLOSED,
  TB_BODY_TOO_LARGE,
  TB_HEADERS_TOO_LARGE,
  TB_BLANK_HEADER,
  TB_FILE_FAILED,
  TB_OUT_OF_MEMORY
};

struct tb_exchange {
  const char *type;
  struct tb_client *client;         /* kept alive by a user value; NULL once the exchange has ended */
  struct tb_pool *pool;             /* where it is while in flight */
  struct tb_exchange *next, **link; /* in the client's list while in flight, then in the reactor's queue */
  struct tb_reactor *queue;         /* the reactor whose queue of finished ones it is in, or NULL */
  struct tb_handle *handle;         /* while in flight */
  char date[32];                    /* when the server answered, by its own word; empty without one */
  size_t header_bytes;              /* that came, those of interim answers too */
  bool challenged;                  /* a header asks for credentials */
  bool has_header;                  /* one came, beside the status line */
  bool interim;                     /* the headers that come are those of an answer before the answer */
  bool headed;                      /* all of the headers came */
  char *request;                    /* what is sent, when it was a body's memory */
  struct tb_buffer body;
  struct tb_file *file;         /* where the body of a 200 goes, or NULL; kept by a user value */
  struct tb_checksum *checksum; /* fed with what goes to the file, or NULL; kept by a user value */
  size_t limit;                 /* bytes of body that may come */
  size_t received;              /* bytes of body that came */
  int64_t deadline;             /* of the whole exchange; TB_NEVER with a file */
  int64_t overdue_at;           /* when curl must have noticed that */
  long status;                  /* 0 before there is one */
  CURLcode code;
  enum tb_failure failure;
  int file_error; /* errno behind TB_FILE_FAILED */
  bool done;
  bool sent;      /* the request went out; known once it has ended */
  bool unwatched; /* its socket is not in epoll, so it would hang */
  char *error;    /* curl's words to the code, or NULL */
};

/* Takes the exchange off the wire, its handle back into the pool, and puts it into the queue of the finished; or sends
 * it once more: see sent_anew. No Lua. */
void tb_exchange_end(struct tb_exchange *exchange, CURLcode code);

void tb_exchange_leave_queue(struct tb_exchange *exchange);

/* client:start, a method of the client's. */
int tb_exchange_start(lua_State *L);

/* The reactor (at the index) keeps the userdata of what is in flight: push it, let go of it. */
void tb_exchange_push(lua_State *L, int reactor, const struct tb_exchange *exchange);
void tb_exchange_release(lua_State *L, int reactor, const struct tb_exchange *exchange);

/* Adds its functions to the module's table, which is on the top of the stack. */
void tb_open_exchange(lua_State *L);

#endif
