/* Rule of this file: curl's callbacks fill C buffers and never touch Lua, because a Lua error must not unwind curl's
 * frames. The methods read what they gathered, after curl has returned. */
#include "http/exchange.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/userdata.h"
#include "digest/checksum.h"
#include "http/connection.h"
#include "http/curl_error.h"
#include "http/options.h"
#include "http/pool.h"
#include "http/redact.h"

#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const char TYPE[] = "thingsboard.exchange";

enum {
  MAX_HEADER_BYTES = 32768,
  FILE_RECEIVE_BUFFER = 65536,
  /* Over TLS libcurl copies what it sends into a buffer, and keeps that while it waits for the answer. */
  SMALL_SEND_BUFFER = 16384,
  LARGE_SEND_BUFFER = 65536,
  STALLED_BYTES_PER_SECOND = 64,
  /* curl checks no time-out while a transfer waits for a connection, or waits to learn whether another's connection
   * speaks HTTP/2. The reactor ends what is late by this much. */
  OVERDUE_MICROSECONDS = 100000,
};

/* libcurl 7.83 to 8.0 keep in a handle the address of a freed header of the last answer, and write there when the next
 * answer's first header begins with a blank. So with these releases headers are passed to on_body first, which ends
 * such an answer before libcurl looks at it. */
static bool has_stale_headers;

/* Stores a header's value, if there is room for it. */
static void keep_value(char *room, size_t size, const char *value) {
  size_t length = strcspn(value, "\r\n");
  if (length >= size) return;
  memcpy(room, value, length);
  room[length] = '\0';
}

/* Stores what is needed of a header line, which ends in a line break. The length of its name tells most apart. */
static void keep_header(struct tb_exchange *exchange, const char *line, size_t length) {
  const char *colon = memchr(line, ':', length);
  if (colon == NULL) return;
  const char *value = colon + 1;
  switch ((size_t)(value - line)) {
  case sizeof "Age": /* in seconds: a cache had the answer, and its date is that old */
    if (strncasecmp(line, "Age", 3) == 0 && value[1] != '0') exchange->date[0] = '!';
    return;
  case sizeof "Date":
    if (exchange->date[0] == '\0' && strncasecmp(line, "Date: ", 6) == 0)
      keep_value(exchange->date, sizeof exchange->date, line + 6);
    return;
  case sizeof "Connection": /* and Keep-Alive: the last answer on a connection has others of these */
    exchange->header_count--;
    if (strncasecmp(line, "Connection: close", 17) == 0) exchange->closes = true;
    return;
  case sizeof "Content-Type":
    if (strncasecmp(line, "Content-Type", 12) == 0)
      exchange->html = strncasecmp(value + strspn(value, " \t"), "text/html", 9) == 0;
    return;
  case sizeof "Content-Range":
    if (strncasecmp(line, "Content-Range: ", 15) == 0) keep_value(exchange->range, sizeof exchange->range, line + 15);
    return;
  case sizeof "Content-Encoding": /* and of the other */
    if (strncasecmp(line, "Content-Encoding", 16) == 0) exchange->encoded = strncasecmp(value, " identity", 9) != 0;
    if (strncasecmp(line, "WWW-Authenticate", 16) == 0) exchange->challenged = true;
    return;
  case sizeof "Proxy-Authenticate":
    if (strncasecmp(line, "Proxy-Authenticate", 18) == 0) exchange->challenged = true;
    return;
  case sizeof "Content-Disposition":
    if (strncasecmp(line, "Content-Disposition", 19) == 0)
      exchange->attachment = strncasecmp(value + strspn(value, " \t"), "attachment", 10) == 0;
  }
}

static size_t on_header(char *bytes, size_t size, size_t count, void *data) {
  struct tb_handle *handle = data;
  struct tb_exchange *exchange = handle->exchange;
  size_t length = size * count;
  if (length > MAX_HEADER_BYTES - exchange->header_bytes) {
    exchange->failure = TB_HEADERS_TOO_LARGE;
    return 0;
  }
  exchange->header_bytes += length;
  if (length > 5 && memcmp(bytes, "HTTP/", 5) == 0) {
    const char *status = memchr(bytes, ' ', length - 1);
    /* 101 counts as the final answer: curl takes what follows for its body. */
    exchange->interim = status != NULL && status[1] == '1' && strncmp(status, " 101", 4) != 0;
    exchange->closes = length > 8 && memcmp(bytes, "HTTP/1.0", 8) == 0;
    exchange->header_count = 0;
  } else if (*bytes == '\r' || *bytes == '\n') {
    exchange->headed = !exchange->interim;
    if (exchange->headed && exchange->closes) {
      struct tb_poller *poller = exchange->client->poller;
      tb_connection_expect_end(poller, tb_connection_of(handle->easy, poller, handle->socket));
    }
  } else {
    exchange->header_count++;
    keep_header(exchange, bytes, length);
  }
  return length;
}

/* Before the first byte of a body: decides how many may come. Only a 200 that goes to a file may have more than
 * max_response. */
static void begin_body(struct tb_exchange *exchange) {
  curl_off_t announced = -1;
  curl_easy_getinfo(exchange->handle->easy, CURLINFO_RESPONSE_CODE, &exchange->status);
  curl_easy_getinfo(exchange->handle->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &announced);
  bool bounded = exchange->limit != TB_AS_ANNOUNCED || announced >= 0;
  exchange->max_body = exchange->status == 200 && bounded ? exchange->limit : exchange->client->max_response;
}

static enum tb_failure store_body(struct tb_exchange *exchange, const char *bytes, size_t length) {
  if (length > exchange->max_body - exchange->received) return TB_BODY_TOO_LARGE;
  if (exchange->file == NULL || exchange->status != 200)
    return tb_buffer_append(&exchange->body, bytes, length) ? TB_NO_FAILURE : TB_OUT_OF_MEMORY;
  exchange->file_error = tb_file_write(exchange->file, bytes, length);
  if (exchange->file_error != 0) return TB_FILE_FAILED;
  if (exchange->checksum != NULL && !tb_checksum_update(exchange->checksum, bytes, length)) return TB_OUT_OF_MEMORY;
  return TB_NO_FAILURE;
}

static size_t on_body(char *bytes, size_t size, size_t count, void *data) {
  struct tb_exchange *exchange = ((struct tb_handle *)data)->exchange;
  size_t length = size * count;
  if (has_stale_headers && !exchange->headed) {
    if (exchange->header_count != 0 || (*bytes != ' ' && *bytes != '\t')) return length;
    exchange->failure = TB_BLANK_HEADER;
    return 0;
  }
  if (exchange->status == 0) begin_body(exchange);
  exchange->failure = store_body(exchange, bytes, length);
  if (exchange->failure != TB_NO_FAILURE) return 0;
  exchange->received += length;
  return length;
}

static void unlink_exchange(struct tb_exchange *exchange) {
  *exchange->link = exchange->next;
  if (exchange->next != NULL) exchange->next->link = exchange->link;
  exchange->next = NULL;
}

/* Takes the exchange out of curl, which closes the connection of an unfinished transfer and keeps that of a finished
 * one. */
static void leave_curl(struct tb_exchange *exchange) {
  curl_multi_remove_handle(exchange->pool->multi, exchange->handle->easy);
  tb_pool_leave(exchange->pool);
  exchange->handle->exchange = NULL;
  tb_handle_give_back(exchange->handle);
  exchange->handle = NULL;
  exchange->client = NULL;
  unlink_exchange(exchange);
}

static bool used_new_connection(const struct tb_exchange *exchange) {
  long connections = 1;
  curl_easy_getinfo(exchange->handle->easy, CURLINFO_NUM_CONNECTS, &connections);
  return connections != 0;
}

static bool was_sent(const struct tb_exchange *exchange) {
  long bytes = 0;
  curl_easy_getinfo(exchange->handle->easy, CURLINFO_REQUEST_SIZE, &bytes);
  return bytes > 0;
}

/* Whether the answer began so soon after the request that it was on its way before. */
static bool came_at_once(const struct tb_exchange *exchange) {
  enum { AT_ONCE = 50000 }; /* microseconds */
  curl_off_t sent = 0, began = 0;
  curl_easy_getinfo(exchange->handle->easy, CURLINFO_PRETRANSFER_TIME_T, &sent);
  curl_easy_getinfo(exchange->handle->easy, CURLINFO_STARTTRANSFER_TIME_T, &began);
  return began - sent < AT_ONCE;
}

/* Whether a 408 is not about the request: a proxy says so of its own accord before it closes an idle connection. The
 * server's own is never due at once, and has no body or a JSON object. */
static bool is_unasked(const struct tb_exchange *exchange, CURLcode code) {
  if (exchange->status != 408) return false;
  if (came_at_once(exchange)) return true;
  return code == CURLE_OK && exchange->closes && exchange->body.length > 0 && exchange->body.data[0] != '{';
}

/* Whether what came is not about the request, but about a kept connection that ended just when the request went out on
 * it. curl itself sends again when such a connection just ends, but not after an HTTP/2 GOAWAY, nor after an unasked
 * answer. */
static bool hit_end_of_connection(const struct tb_exchange *exchange, CURLcode code) {
  if (exchange->failure != TB_NO_FAILURE || exchange->new_connection) return false;
  if (exchange->header_bytes > 0) return is_unasked(exchange, code);
  return code == CURLE_HTTP2 || code == CURLE_HTTP2_STREAM || code == CURLE_PARTIAL_FILE || code == CURLE_GOT_NOTHING ||
         code == CURLE_SEND_ERROR || code == CURLE_RECV_ERROR;
}

static void forget_answer(struct tb_exchange *exchange) {
  exchange->header_bytes = 0;
  exchange->date[0] = exchange->range[0] = '\0';
  exchange->challenged = exchange->encoded = exchange->html = exchange->attachment = exchange->headed =
      false; /* the status line sets the others */
  exchange->body.length = 0;
  exchange->received = 0;
  exchange->status = 0;
}

/* Sends a request that hit the end of a connection again, once, on a new one. */
static bool send_again(struct tb_exchange *exchange, CURLcode code) {
  if (!hit_end_of_connection(exchange, code)) return false;
  struct tb_handle *handle = exchange->handle;
  if (exchange->deadline != TB_NEVER) { /* the time-out is for both together */
    int64_t left = (exchange->deadline - tb_monotonic()) / 1000;
    if (left <= 0) return false;
    curl_easy_setopt(handle->easy, CURLOPT_TIMEOUT_MS, (long)left);
  }
  CURLM *multi = exchange->pool->multi;
  curl_multi_remove_handle(multi, handle->easy);
  forget_answer(exchange);
  handle->error[0] = '\0';
  curl_easy_setopt(handle->easy, CURLOPT_FRESH_CONNECT, 1L); /* no kept connection, so this happens once */
  handle->kind = (struct tb_kind){0};
  return curl_multi_add_handle(multi, handle->easy) == CURLM_OK;
}

/* libcurl has limits of its own for headers. Newer releases report them by a code of its own, TOO_LARGE, which older
 * curl.h do not have; older releases by the code for a lack of memory. */
static bool exceeded_libcurls_headers(const struct tb_exchange *exchange, CURLcode code) {
  enum { TOO_LARGE = 100 };
  if (!was_sent(exchange)) return false;
  return (int)code == TOO_LARGE || (code == CURLE_OUT_OF_MEMORY && exchange->received == 0);
}

/* A copy of libcurl's text of a failure. Where a libcurl without strings has only "Error" to say of a code, our text of
 * the code stands instead. */
static char *copy_error(char text[CURL_ERROR_SIZE], CURLcode code) {
  static const char no_string[] = ": Error";
  size_t length = strlen(text), tail = sizeof no_string - 1;
  if (length >= tail && strcmp(text + length - tail, no_string) == 0) {
    size_t at = length - tail + 2;
    (void)snprintf(text + at, CURL_ERROR_SIZE - at, "%s", tb_curl_error_text((int)code));
  }
  return strdup(text);
}

void tb_exchange_end(struct tb_exchange *exchange, CURLcode code) {
  struct tb_poller *poller = exchange->client->poller;
  struct tb_handle *handle = exchange->handle;
  curl_easy_getinfo(handle->easy, CURLINFO_RESPONSE_CODE, &exchange->status);
  exchange->new_connection = used_new_connection(exchange);
  if (send_again(exchange, code)) return;
  exchange->sent = (code == CURLE_OK && exchange->failure == TB_NO_FAILURE) || was_sent(exchange);
  /* Before the request, this is what libcurl 8 says of a client's key that it cannot read. */
  if (code == CURLE_BAD_FUNCTION_ARGUMENT && !exchange->sent) code = CURLE_SSL_CERTPROBLEM;
  exchange->code = code;
  if (exchange->header_bytes > 0) {
    exchange->client->unheard = false;
  } else if (code == CURLE_OPERATION_TIMEDOUT && exchange->sent) {
    exchange->client->unheard = true;
    exchange->client->unheard_at = tb_monotonic();
  }
  if (code != CURLE_OK && handle->error[0] != '\0') exchange->error = copy_error(handle->error, code);
  if (exchange->failure == TB_NO_FAILURE && exceeded_libcurls_headers(exchange, code))
    exchange->failure = TB_HEADERS_TOO_LARGE;
  /* curl takes a connection that ends within the headers for the end of the answer. */
  if (code == CURLE_OK && exchange->failure == TB_NO_FAILURE && !exchange->headed) {
    exchange->code = CURLE_PARTIAL_FILE;
    exchange->error = strdup("the connection ended within the answer's headers");
  }
  if (code == CURLE_OK) {
    curl_socket_t last = exchange->client->socket;
    exchange->client->socket = tb_connection_of(handle->easy, poller, handle->socket);
    tb_connection_answered(poller, exchange->client->socket);
    if (exchange->client->socket != last) tb_connection_check(poller, last);
  }
  exchange->done = true;
  leave_curl(exchange);
  exchange->lost_connections = poller->lost_connections;
  struct tb_exchange **end = poller->finished == NULL ? &poller->finished : &poller->last_finished->next;
  *end = exchange;
  exchange->link = end;
  exchange->queue = poller;
  poller->last_finished = exchange;
}

void tb_exchange_leave_queue(struct tb_exchange *exchange) {
  struct tb_poller *poller = exchange->queue;
  if (poller->last_finished == exchange) {
    struct tb_exchange *before = NULL; /* it is nearly always the first that leaves, which has none before it */
    for (struct tb_exchange *e = poller->finished; e != exchange; e = e->next) before = e;
    poller->last_finished = before;
  }
  unlink_exchange(exchange);
  exchange->queue = NULL;
}

void tb_exchange_keep(lua_State *L, int reactor, int index) {
  lua_getiuservalue(L, reactor, TB_IN_FLIGHT_VALUE);
  lua_pushvalue(L, index);
  lua_rawsetp(L, -2, lua_touserdata(L, index));
  lua_pop(L, 1);
}

void tb_exchange_take(lua_State *L, int reactor, const struct tb_exchange *exchange) {
  lua_getiuservalue(L, reactor, TB_IN_FLIGHT_VALUE);
  lua_rawgetp(L, -1, exchange);
  lua_pushnil(L);
  lua_rawsetp(L, -3, exchange);
}

static bool is_same_kind(struct tb_kind a, struct tb_kind b) {
  return a.post == b.post && a.large == b.large && a.file == b.file && a.range == b.range && a.timeout == b.timeout &&
         a.max_age == b.max_age;
}

/* How old a connection may be: not older than the end of the last exchange that heard nothing. */
static long max_age_of_connection(struct tb_client *client) {
  if (client->unheard_at == 0) return 0;
  int64_t seconds = (tb_monotonic() - client->unheard_at) / TB_SECOND;
  if (seconds <= TB_IDLE_CONNECTION_SECONDS) return (long)seconds + 1; /* rounded up, for the one that was made then */
  client->unheard_at = 0;
  return 0;
}

void tb_exchange_configure(struct tb_exchange *exchange, struct tb_kind kind) {
  struct tb_handle *handle = exchange->handle;
  struct tb_client *client = handle->client;
  CURL *easy = handle->easy;
  kind.max_age = max_age_of_connection(client);
  if (is_same_kind(handle->kind, kind) && !client->unheard) return;
  curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
  curl_easy_setopt(easy, CURLOPT_HEADERDATA, handle);
  curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
  curl_easy_setopt(easy, CURLOPT_WRITEDATA, handle);
  curl_easy_setopt(easy, CURLOPT_HEADER, has_stale_headers ? 1L : 0L);
  curl_easy_setopt(easy, CURLOPT_RANGE, NULL);
  curl_easy_setopt(easy, kind.post ? CURLOPT_POST : CURLOPT_HTTPGET, 1L);
  curl_easy_setopt(easy, CURLOPT_HTTPHEADER,
                   kind.large  ? &client->no_expect
                   : kind.post ? &client->json
                               : client->json.next);
  /* A download may take any time: there the time-out is for a standstill. */
  curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, kind.file ? 0L : kind.timeout);
  curl_easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT, kind.file ? (long)STALLED_BYTES_PER_SECOND : 0L);
  curl_easy_setopt(easy, CURLOPT_LOW_SPEED_TIME, kind.file ? (kind.timeout - 1) / 1000 + 1 : 0L);
  curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, kind.file ? (long)FILE_RECEIVE_BUFFER : client->receive_buffer);
  curl_easy_setopt(easy, CURLOPT_UPLOAD_BUFFERSIZE, kind.large ? (long)LARGE_SEND_BUFFER : (long)SMALL_SEND_BUFFER);
  curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, client->unheard ? 1L : 0L);
#if LIBCURL_VERSION_NUM >= 0x075000
  curl_easy_setopt(easy, CURLOPT_MAXLIFETIME_CONN, kind.max_age);
#endif
  const struct tb_kind unconfigured = {0};
  handle->kind = client->unheard ? unconfigured : kind;
}

struct tb_exchange *tb_exchange_push_new(lua_State *L, int client) {
  if (lua_getiuservalue(L, client, TB_SPARE_EXCHANGE_VALUE) != LUA_TNIL) {
    lua_pushnil(L);
    lua_setiuservalue(L, client, TB_SPARE_EXCHANGE_VALUE);
    struct tb_exchange *spare = lua_touserdata(L, -1);
    *spare = (struct tb_exchange){.type = TYPE};
    return spare;
  }
  lua_pop(L, 1);
  struct tb_exchange *exchange = tb_new(L, TYPE, sizeof *exchange, TB_EXCHANGE_VALUES);
  lua_pushvalue(L, client);
  lua_setiuservalue(L, -2, TB_CLIENT_VALUE);
  lua_getiuservalue(L, client, TB_REACTOR_VALUE);
  lua_setiuservalue(L, -2, TB_EXCHANGE_REACTOR_VALUE);
  return exchange;
}

bool tb_exchange_send(struct tb_exchange *exchange, const char *bytes, size_t length) {
  struct tb_handle *handle = exchange->handle;
  struct tb_client *client = handle->client;
  struct tb_poller *poller = client->poller;
  if (bytes != NULL) {
    curl_easy_setopt(handle->easy, CURLOPT_POSTFIELDS, bytes);
    curl_easy_setopt(handle->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)length);
  }
  handle->error[0] = '\0';
  handle->exchange = exchange;
  exchange->overdue_at = exchange->deadline == TB_NEVER ? TB_NEVER : exchange->deadline + OVERDUE_MICROSECONDS;
  exchange->pool = poller->max_connections > 0 ? poller->pools[0] : client->pool;
  if (!tb_pool_make_usable(exchange->pool) || curl_multi_add_handle(exchange->pool->multi, handle->easy) != CURLM_OK)
    return false;
  tb_pool_enter(exchange->pool);
  exchange->client = client;
  exchange->link = &client->exchanges;
  exchange->next = client->exchanges;
  if (exchange->next != NULL) exchange->next->link = &exchange->next;
  client->exchanges = exchange;
  if (exchange->overdue_at < poller->overdue_at) poller->overdue_at = exchange->overdue_at;
  return true;
}

static struct tb_exchange *check_exchange(lua_State *L) {
  return tb_check(L, 1, TYPE, sizeof(struct tb_exchange));
}

/*** Whether the exchange has ended.
@function exchange:done
@treturn boolean */
static int exchange_done(lua_State *L) {
  lua_pushboolean(L, check_exchange(L)->done);
  return 1;
}

/*** Whether the request was sent. It may still not have arrived.
@function exchange:sent
@treturn boolean false before the exchange has ended */
static int exchange_sent(lua_State *L) {
  lua_pushboolean(L, check_exchange(L)->sent);
  return 1;
}

/* Pushes the name of what went wrong, and a text. */
static void push_failure(lua_State *L, const struct tb_exchange *exchange) {
  static const char *const names[] = {[TB_CLOSED] = "CLOSED",
                                      [TB_BODY_TOO_LARGE] = "BODY_TOO_LARGE",
                                      [TB_HEADERS_TOO_LARGE] = "HEADERS_TOO_LARGE",
                                      [TB_BLANK_HEADER] = "WEIRD_SERVER_REPLY",
                                      [TB_FILE_FAILED] = "FILE_FAILED",
                                      [TB_OUT_OF_MEMORY] = "OUT_OF_MEMORY"};
  if (exchange->failure != TB_NO_FAILURE)
    lua_pushstring(L, names[exchange->failure]);
  else if (tb_curl_error_name((int)exchange->code) != NULL)
    lua_pushstring(L, tb_curl_error_name((int)exchange->code));
  else
    lua_pushfstring(L, "CURLE_%d", (int)exchange->code);
  switch (exchange->failure) {
  case TB_CLOSED:
    lua_pushliteral(L, "closed before its answer was taken");
    return;
  case TB_BODY_TOO_LARGE:
    lua_pushfstring(L, "the answer has more than %I bytes", (LUAI_UACINT)exchange->max_body);
    return;
  case TB_HEADERS_TOO_LARGE:
    lua_pushfstring(L, "the answer's headers have more than %d bytes", (int)MAX_HEADER_BYTES);
    return;
  case TB_BLANK_HEADER:
    lua_pushliteral(L, "the answer's first header begins with a blank");
    return;
  case TB_FILE_FAILED:
    lua_pushfstring(L, "cannot write the file: %s", strerror(exchange->file_error));
    return;
  case TB_OUT_OF_MEMORY:
    lua_pushliteral(L, TB_NO_MEMORY);
    return;
  case TB_NO_FAILURE:
    break;
  }
  const char *text = exchange->error != NULL ? exchange->error : tb_curl_error_text((int)exchange->code);
  lua_getiuservalue(L, 1, TB_CLIENT_VALUE);
  lua_getiuservalue(L, -1, TB_OPTIONS_VALUE);
  tb_redact(L, -1, text, strlen(text));
  lua_rotate(L, -3, 1);
  lua_pop(L, 2);
}

/*** The result of an exchange that has ended; raises before its end.
@function exchange:result
@treturn[1] integer the status
@treturn[1] string the body, empty when it went to a file
@treturn[1] boolean whether the answer says that it is a page: it has a header `Content-Type: text/html`
@treturn[1] integer how many headers it has, without `Connection` and `Keep-Alive`: a mark of who has answered
@treturn[2] nil
@treturn[2] string curl's name of the error without `CURLE_`, or `CLOSED`, `BODY_TOO_LARGE`, `HEADERS_TOO_LARGE`,
`FILE_FAILED`
@treturn[2] string what went wrong, without secrets */
static int exchange_result(lua_State *L) {
  struct tb_exchange *exchange = check_exchange(L);
  if (!exchange->done) return luaL_error(L, "the exchange has not ended");
  if (exchange->code != CURLE_OK || exchange->failure != TB_NO_FAILURE) {
    lua_pushnil(L);
    push_failure(L, exchange);
    return 3;
  }
  lua_pushinteger(L, exchange->status);
  lua_pushlstring(L, exchange->body.data, exchange->body.length);
  lua_pushboolean(L, exchange->html);
  lua_pushinteger(L, exchange->header_count);
  return 4;
}

static int push_value(lua_State *L, const char *value) {
  if (*value == '\0') return 0;
  lua_pushstring(L, value);
  return 1;
}

/*** The answer's header `Date`: the server's clock. One that a cache had kept is spoilt.
@function exchange:date
@treturn ?string nil when there is none */
static int exchange_date(lua_State *L) {
  return push_value(L, check_exchange(L)->date);
}

/*** The answer's header `Content-Range`: which bytes these are, or how many there are in all.
@function exchange:range
@treturn ?string nil when there is none */
static int exchange_range(lua_State *L) {
  return push_value(L, check_exchange(L)->range);
}

/*** Whether the answer asks for other credentials, which ThingsBoard never does: a proxy or a portal answered.
@function exchange:challenged
@treturn boolean true when it has a header `WWW-Authenticate` or `Proxy-Authenticate` */
static int exchange_challenged(lua_State *L) {
  lua_pushboolean(L, check_exchange(L)->challenged);
  return 1;
}

/*** Whether the answer's body is encoded, compressed for instance, which no request of ours allows. It is left as it
came.
@function exchange:encoded
@treturn boolean true when it has a header `Content-Encoding` other than `identity` */
static int exchange_encoded(lua_State *L) {
  lua_pushboolean(L, check_exchange(L)->encoded);
  return 1;
}

/*** Whether the answer's body is a file to be kept, as each package of ThingsBoard's is.
@function exchange:is_attachment
@treturn boolean true when it has a header `Content-Disposition: attachment` */
static int exchange_is_attachment(lua_State *L) {
  lua_pushboolean(L, check_exchange(L)->attachment);
  return 1;
}

/*** How many connections of the reactor were lost before the exchange ended: a server, of whichever exchange, has ended
them without having said that it would. Idle connections do not count.
@function exchange:lost_connections
@treturn integer that many; only differences mean something */
static int exchange_lost_connections(lua_State *L) {
  lua_pushinteger(L, (lua_Integer)check_exchange(L)->lost_connections);
  return 1;
}

/*** How much of the answer's body has been received.
@function exchange:received
@treturn integer bytes
@treturn ?integer the body's size in bytes, while in flight and when the server has announced it */
static int exchange_received(lua_State *L) {
  struct tb_exchange *exchange = check_exchange(L);
  curl_off_t total = -1;
  lua_pushinteger(L, (lua_Integer)exchange->received);
  if (exchange->handle != NULL) curl_easy_getinfo(exchange->handle->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &total);
  if (total < 0) return 1;
  lua_pushinteger(L, (lua_Integer)total);
  return 2;
}

/* What `close` does; false in a forked child, where a handle in flight is not cleaned up, because curl would write to
 * the parent's connection. */
static bool close_exchange(lua_State *L, struct tb_exchange *exchange) {
  bool in_flight = exchange->client != NULL;
  if (in_flight && (exchange->client->poller == NULL || !tb_poller_is_own(exchange->client->poller))) return false;
  if (in_flight || exchange->queue != NULL) {
    lua_getiuservalue(L, 1, TB_EXCHANGE_REACTOR_VALUE);
    if (in_flight)
      leave_curl(exchange);
    else
      tb_exchange_leave_queue(exchange);
    tb_exchange_take(L, lua_gettop(L), exchange);
  }
  tb_handle_free(exchange->handle); /* NULL, unless client:start raised before it was in curl */
  exchange->handle = NULL;
  exchange->done = true;
  exchange->failure = TB_CLOSED;
  free(exchange->error);
  exchange->error = NULL;
  free(exchange->request);
  exchange->request = NULL;
  tb_buffer_free(&exchange->body);
  return true;
}

/*** Aborts the exchange if it is in flight, and frees what it received. Idempotent.
@function exchange:close */
static int exchange_close(lua_State *L) {
  close_exchange(L, check_exchange(L));
  return 0;
}

/* `__close`, at the end of the scope of the only variable that holds it: closes it, and lets the client use it again.
 */
static int exchange_leave(lua_State *L) {
  struct tb_exchange *exchange = check_exchange(L);
  if (!close_exchange(L, exchange)) return 0;
  lua_settop(L, 1);
  bool has_file = exchange->file != NULL || exchange->checksum != NULL;
  for (int value = TB_REQUEST_VALUE; value <= (has_file ? TB_EXCHANGE_VALUES : TB_REQUEST_VALUE); value++) {
    lua_pushnil(L);
    lua_setiuservalue(L, 1, value);
  }
  lua_getiuservalue(L, 1, TB_CLIENT_VALUE);
  lua_pushvalue(L, 1);
  lua_setiuservalue(L, 2, TB_SPARE_EXCHANGE_VALUE);
  return 0;
}

static int exchange_tostring(lua_State *L) {
  const struct tb_exchange *exchange = check_exchange(L);
  lua_pushfstring(L, "thingsboard.exchange (%s)", exchange->done ? "ended" : "in flight");
  return 1;
}

static const luaL_Reg methods[] = {{"done", exchange_done},
                                   {"sent", exchange_sent},
                                   {"result", exchange_result},
                                   {"date", exchange_date},
                                   {"range", exchange_range},
                                   {"challenged", exchange_challenged},
                                   {"encoded", exchange_encoded},
                                   {"is_attachment", exchange_is_attachment},
                                   {"lost_connections", exchange_lost_connections},
                                   {"received", exchange_received},
                                   {"close", exchange_close},
                                   {NULL, NULL}};

static const luaL_Reg metamethods[] = {
    {"__gc", exchange_close}, {"__close", exchange_leave}, {"__tostring", exchange_tostring}, {NULL, NULL}};

void tb_open_exchange(lua_State *L) {
  unsigned version = curl_version_info(CURLVERSION_NOW)->version_num;
  has_stale_headers = version >= 0x075300 && version < 0x080100;
  tb_new_type(L, TYPE, methods, metamethods);
}
