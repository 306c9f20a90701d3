/* An exchange: one request and its answer. */
#ifndef TB_EXCHANGE_H
#define TB_EXCHANGE_H

#include "base/buffer.h"
#include "http/handle.h"

struct tb_file;
struct tb_checksum;

/* The exchange's user values, which keep alive what an exchange in flight uses. */
enum {
  TB_CLIENT_VALUE = 1,
  TB_EXCHANGE_REACTOR_VALUE,
  TB_REQUEST_VALUE,
  TB_FILE_VALUE,
  TB_CHECKSUM_VALUE,
  TB_EXCHANGE_VALUES = TB_CHECKSUM_VALUE,
};

/* Why an exchange failed, if not by an error of curl's. */
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
  struct tb_client *client;         /* NULL once the exchange has ended */
  struct tb_pool *pool;             /* while in flight */
  struct tb_exchange *next, **link; /* in the client's list while in flight, then in the poller's queue */
  struct tb_poller *queue;          /* whose queue of finished exchanges it is in, or NULL */
  struct tb_handle *handle;         /* while in flight */
  int header_count;                 /* of the answer, without those of the connection */
  char date[32];                    /* the answer's header `Date`; empty without one */
  char range[64];                   /* the answer's header `Content-Range`; likewise */
  size_t header_bytes;              /* received, with those of interim answers */
  bool challenged;                  /* a header asks for credentials */
  bool new_connection;              /* it was made for this exchange; known once it has ended */
  unsigned lost_connections;        /* of the poller when the exchange ended */
  bool closes;                      /* the server closes the connection after this answer */
  bool encoded;                     /* a header says that the body is compressed, or the like */
  bool html;                        /* a header says that the body is a page */
  bool attachment;                  /* a header says that the body is a file to be kept */
  bool interim;                     /* the current headers belong to a 1xx answer */
  bool headed;                      /* all headers of the answer have come */
  char *request;                    /* the bytes that are sent, when they were a body's */
  struct tb_buffer body;
  struct tb_file *file;         /* where the body of a 200 goes, or NULL */
  struct tb_checksum *checksum; /* fed with what goes to the file, or NULL */
  uint64_t limit;               /* bytes that the body of a 200 may have, or TB_AS_ANNOUNCED */
  uint64_t max_body;            /* bytes that this body may have; set before its first byte */
  uint64_t received;            /* bytes of body that came */
  int64_t deadline;             /* of the whole exchange; TB_NEVER with a file */
  int64_t overdue_at;           /* when curl should have noticed the deadline */
  long status;                  /* 0 before there is one */
  CURLcode code;
  enum tb_failure failure;
  int file_error; /* errno, of TB_FILE_FAILED */
  bool done;
  bool sent;   /* the request went out; set when the exchange ends */
  char *error; /* curl's text for the code, or NULL */
};

#define TB_AS_ANNOUNCED UINT64_MAX /* a limit: as many bytes as the answer's header announces */

/* Pushes an exchange of the client at the index with nothing in it: the client's spare one, or a new one. */
struct tb_exchange *tb_exchange_push_new(lua_State *L, int client);

/* Configures the exchange's handle for this kind of exchange. Calls nothing of Lua. */
void tb_exchange_configure(struct tb_exchange *exchange, struct tb_kind kind);

/* Sends the request: the bytes that a POST has, which must stay where they are. False when memory has run out. Calls
 * nothing of Lua. */
bool tb_exchange_send(struct tb_exchange *exchange, const char *bytes, size_t length);

/* Takes the exchange out of curl, gives its handle back, and puts it into the queue of finished ones. But a request
 * that hit the end of a kept connection is sent again: see send_again. Calls nothing of Lua. */
void tb_exchange_end(struct tb_exchange *exchange, CURLcode code);

/* Takes the exchange out of the queue of finished ones. */
void tb_exchange_leave_queue(struct tb_exchange *exchange);

/* The reactor at the index `reactor` keeps what is in flight or finished alive: `tb_exchange_keep` begins that for the
 * userdata at `index`, `tb_exchange_take` ends it, and pushes it behind the table that held it. */
void tb_exchange_keep(lua_State *L, int reactor, int index);
void tb_exchange_take(lua_State *L, int reactor, const struct tb_exchange *exchange);

/* Registers the type. */
void tb_open_exchange(lua_State *L);

#endif
