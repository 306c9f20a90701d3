/* Rule of this file: curl's callbacks fill C buffers and never touch Lua, for a Lua error must not unwind curl's
 * frames. What they gathered is read by the methods, after curl has returned. */
#include "http/exchange.h"

#include "base/clock.h"
#include "base/userdata.h"
#include "core/file.h"
#include "digest/checksum.h"
#include "http/pool.h"
#include "http/request_body.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

const char TB_EXCHANGE[] = "thingsboard.exchange";

enum { CLIENT_VALUE = 1, REACTOR_VALUE, REQUEST_VALUE, FILE_VALUE, CHECKSUM_VALUE, VALUES = CHECKSUM_VALUE };

enum {
  MOST_HEADERS = 32768,
  FILE_RECEIVE_BUFFER = 65536,
  SMALL_POST = 1024, /* no libcurl asks the server whether it expects one of no more bytes */
  STALLED_BYTES_A_SECOND = 64,
};

/* curl looks at no time-out while a transfer waits for a connection, or for what another one brings of it: whether it
 * speaks HTTP/2. What is late by so much is ended by the reactor. */
enum { OVERDUE_MICROSECONDS = 100000 };

#define AS_ANNOUNCED SIZE_MAX /* the limit of a body that may have all the bytes that its header tells of */

/* From 7.83 to 8.0 libcurl keeps in a handle the address of a header of its last answer, which it has freed, and writes
 * there when the next answer's first header begins with a blank. There each header comes to on_body before libcurl
 * looks at it, and such an answer ends here. */
static bool has_stale_headers;

/* Takes what is kept of a header line, which ends in a line break and a zero. */
static void keep_header(struct tb_exchange *exchange, const char *line) {
  switch (*line | 0x20) {
  case 'd':
    if (strncasecmp(line, "Date: ", 6) == 0) {
      size_t length = strcspn(line + 6, "\r\n");
      if (length < sizeof exchange->date) memcpy(exchange->date, line + 6, length);
    }
    return;
  case 'w':
  case 'p':
    if (strncasecmp(line, "WWW-Authenticate:", 17) == 0 || strncasecmp(line, "Proxy-Authenticate:", 19) == 0)
      exchange->challenged = true;
  }
}

static size_t on_header(char *bytes, size_t size, size_t count, void *data) {
  struct tb_exchange *exchange = ((struct tb_handle *)data)->exchange;
  size_t length = size * count;
  if (length > MOST_HEADERS - exchange->header_bytes) {
    exchange->failure = TB_HEADERS_TOO_LARGE;
    return 0;
  }
  exchange->header_bytes += length;
  if (length > 5 && memcmp(bytes, "HTTP/", 5) == 0) {
    const char *status = memchr(bytes, ' ', length - 1);
    /* 101 is the last: what follows is no HTTP any more, but a body to curl. */
    exchange->interim = status != NULL && status[1] == '1' && strncmp(status, " 101", 4) != 0;
  } else if (*bytes == '\r' || *bytes == '\n') {
    exchange->headed = !exchange->interim;
  } else {
    exchange->has_header = true;
    keep_header(exchange, bytes);
  }
  return length;
}

/* Before the first byte of a body: how much of it may come. The size of a package bounds nothing but a package. */
static void begin_body(struct tb_exchange *exchange) {
  curl_off_t announced = -1;
  curl_easy_getinfo(exchange->handle->easy, CURLINFO_RESPONSE_CODE, &exchange->status);
  curl_easy_getinfo(exchange->handle->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &announced);
  if (exchange->status != 200 || (exchange->limit == AS_ANNOUNCED && announced < 0))
    exchange->limit = exchange->client->max_response;
}

static size_t on_body(char *bytes, size_t size, size_t count, void *data) {
  struct tb_exchange *exchange = ((struct tb_handle *)data)->exchange;
  size_t length = size * count;
  if (has_stale_headers && !exchange->headed) {
    if (exchange->has_header || (*bytes != ' ' && *bytes != '\t')) return length;
    exchange->failure = TB_BLANK_HEADER;
    return 0;
  }
  if (exchange->status == 0) begin_body(exchange);
  if (length > exchange->limit - exchange->received) {
    exchange->failure = TB_BODY_TOO_LARGE;
    return 0;
  }
  if (exchange->file == NULL || exchange->status != 200) {
    if (!tb_buffer_append(&exchange->body, bytes, length)) {
      exchange->failure = TB_OUT_OF_MEMORY;
      return 0;
    }
  } else {
    exchange->file_error = tb_file_write(exchange->file, bytes, length);
    if (exchange->file_error == 0 && exchange->checksum != NULL &&
        !tb_checksum_update(exchange->checksum, bytes, length)) {
      exchange->failure = TB_OUT_OF_MEMORY;
      return 0;
    }
    if (exchange->file_error != 0) {
      exchange->failure = TB_FILE_FAILED;
      return 0;
    }
  }
  exchange->received += length;
  return length;
}

static void unlink_exchange(struct tb_exchange *exchange) {
  if (exchange->link == NULL) return;
  *exchange->link = exchange->next;
  if (exchange->next != NULL) exchange->next->link = exchange->link;
  exchange->link = NULL;
  exchange->next = NULL;
}

/* Off the wire: an unfinished transfer's connection is closed, a finished one's is kept for the next. */
static void leave_wire(struct tb_exchange *exchange) {
  curl_multi_remove_handle(exchange->pool->multi, exchange->handle->easy);
  tb_pool_leave(exchange->pool);
  exchange->handle->exchange = NULL;
  tb_client_give(exchange->handle);
  exchange->handle = NULL;
  exchange->client = NULL;
  unlink_exchange(exchange);
}

static bool was_sent(const struct tb_exchange *exchange) {
  long bytes = 0;
  curl_easy_getinfo(exchange->handle->easy, CURLINFO_REQUEST_SIZE, &bytes);
  return bytes > 0;
}

/* Between the request and the body: curl, which holds no header above 100 KB, says there that memory is short. */
static bool broke_in_headers(const struct tb_exchange *exchange) {
  return was_sent(exchange) && exchange->received == 0;
}

/* A kept connection may end just when a request goes out on it. When nothing of the answer came, the request goes out
 * once more, on a new one. curl itself does so where a connection just ends, but not where HTTP/2 says goodbye. */
static bool sent_anew(struct tb_exchange *exchange, CURLcode code) {
  if (code != CURLE_HTTP2 && code != CURLE_HTTP2_STREAM && code != CURLE_PARTIAL_FILE && code != CURLE_GOT_NOTHING &&
      code != CURLE_SEND_ERROR && code != CURLE_RECV_ERROR)
    return false;
  struct tb_handle *handle = exchange->handle;
  long connects = 1;
  curl_easy_getinfo(handle->easy, CURLINFO_NUM_CONNECTS, &connects);
  if (connects != 0 || exchange->header_bytes > 0) return false;
  if (exchange->deadline != TB_NEVER) { /* the time-out is for both together */
    int64_t left = (exchange->deadline - tb_monotonic()) / 1000;
    if (left <= 0) return false;
    curl_easy_setopt(handle->easy, CURLOPT_TIMEOUT_MS, (long)left);
  }
  CURLM *multi = exchange->pool->multi;
  curl_multi_remove_handle(multi, handle->easy);
  handle->error[0] = '\0';
  curl_easy_setopt(handle->easy, CURLOPT_FRESH_CONNECT, 1L); /* so that this happens once */
  handle->kind = (struct tb_kind){0};
  return curl_multi_add_handle(multi, handle->easy) == CURLM_OK;
}

void tb_exchange_end(struct tb_exchange *exchange, CURLcode code) {
  struct tb_reactor *reactor = exchange->client->reactor;
  if (sent_anew(exchange, code)) return;
  const struct tb_handle *handle = exchange->handle;
  curl_easy_getinfo(handle->easy, CURLINFO_RESPONSE_CODE, &exchange->status);
  exchange->sent = (code == CURLE_OK && exchange->failure == TB_NO_FAILURE) || was_sent(exchange);
  exchange->code = code;
  if (exchange->header_bytes > 0)
    exchange->client->unheard = false;
  else if (code == CURLE_OPERATION_TIMEDOUT && exchange->sent)
    exchange->client->unheard = true;
  if (code != CURLE_OK && handle->error[0] != '\0') exchange->error = strdup(handle->error);
  if (code == CURLE_OUT_OF_MEMORY && exchange->failure == TB_NO_FAILURE && broke_in_headers(exchange))
    exchange->failure = TB_HEADERS_TOO_LARGE;
  /* curl takes the end of a connection within the headers for the end of the answer. */
  if (code == CURLE_OK && exchange->failure == TB_NO_FAILURE && !exchange->headed) {
    exchange->code = CURLE_PARTIAL_FILE;
    exchange->error = strdup("the connection ended within the answer's headers");
  }
  exchange->done = true;
  leave_wire(exchange);
  struct tb_exchange **end = reactor->finished == NULL ? &reactor->finished : &reactor->last_finished->next;
  *end = exchange;
  exchange->link = end;
  exchange->queue = reactor;
  reactor->last_finished = exchange;
}

void tb_exchange_leave_queue(struct tb_exchange *exchange) {
  struct tb_reactor *reactor = exchange->queue;
  if (reactor->last_finished == exchange) {
    struct tb_exchange *before = NULL; /* only the first leaves, but for a close() in between */
    for (struct tb_exchange *e = reactor->finished; e != exchange; e = e->next) before = e;
    reactor->last_finished = before;
  }
  unlink_exchange(exchange);
  exchange->queue = NULL;
}

void tb_exchange_push(lua_State *L, int reactor, const struct tb_exchange *exchange) {
  lua_getiuservalue(L, reactor, 1);
  lua_rawgetp(L, -1, exchange);
  lua_remove(L, -2);
}

void tb_exchange_release(lua_State *L, int reactor, const struct tb_exchange *exchange) {
  lua_getiuservalue(L, reactor, 1);
  lua_pushnil(L);
  lua_rawsetp(L, -2, exchange);
  lua_pop(L, 1);
}

/* What an exchange of this kind asks of its handle, beside what its client asked already. */
static void set_up(struct tb_handle *handle, struct tb_kind kind) {
  struct tb_client *client = handle->client;
  CURL *easy = handle->easy;
  curl_easy_setopt(easy, CURLOPT_PRIVATE, (void *)handle);
  curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, handle->error);
  curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
  curl_easy_setopt(easy, CURLOPT_HEADERDATA, handle);
  curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
  curl_easy_setopt(easy, CURLOPT_WRITEDATA, handle);
  curl_easy_setopt(easy, CURLOPT_HEADER, has_stale_headers ? 1L : 0L);
  curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, 0L);
#if LIBCURL_VERSION_NUM >= 0x075000
  curl_easy_setopt(easy, CURLOPT_MAXLIFETIME_CONN, 0L);
#endif
  curl_easy_setopt(easy, CURLOPT_RANGE, NULL); /* of the exchange before: this one's follows */
  curl_easy_setopt(easy, kind.post ? CURLOPT_POST : CURLOPT_HTTPGET, 1L);
  curl_easy_setopt(easy, CURLOPT_HTTPHEADER,
                   kind.large  ? &client->no_expect
                   : kind.post ? &client->json
                               : client->json.next);
  /* How long a file takes nobody knows: there the time-out bounds a standstill. */
  curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, kind.file ? 0L : kind.timeout);
  curl_easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT, kind.file ? (long)STALLED_BYTES_A_SECOND : 0L);
  curl_easy_setopt(easy, CURLOPT_LOW_SPEED_TIME, kind.file ? (kind.timeout + 999) / 1000 : 0L);
  curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, kind.file ? (long)FILE_RECEIVE_BUFFER : client->receive_buffer);
  handle->kind = kind;
}

/* Lets the next exchange go out on a new connection, and closes those of some age on which nothing is under way. */
static void leave_connections(struct tb_handle *handle) {
  curl_easy_setopt(handle->easy, CURLOPT_FRESH_CONNECT, 1L);
#if LIBCURL_VERSION_NUM >= 0x075000
  curl_easy_setopt(handle->easy, CURLOPT_MAXLIFETIME_CONN, 1L); /* second */
#endif
  handle->kind = (struct tb_kind){0};
}

static bool is_same_kind(struct tb_kind a, struct tb_kind b) {
  return a.post == b.post && a.large == b.large && a.file == b.file && a.range == b.range && a.timeout == b.timeout;
}

/* Pushes an exchange with nothing in it: the one that waits to be used again, or a new one. */
static struct tb_exchange *push_exchange(lua_State *L, int reactor) {
  struct tb_exchange *exchange;
  if (tb_client_push_exchange(L, 1)) {
    exchange = lua_touserdata(L, -1);
    *exchange = (struct tb_exchange){.type = TB_EXCHANGE};
    return exchange;
  }
  exchange = tb_new(L, TB_EXCHANGE, sizeof *exchange, VALUES);
  lua_pushvalue(L, 1);
  lua_setiuservalue(L, -2, CLIENT_VALUE);
  lua_pushvalue(L, reactor);
  lua_setiuservalue(L, -2, REACTOR_VALUE);
  return exchange;
}

/* Keeps what the exchange uses; what is not given is nil already. */
static void keep(lua_State *L, int self, int user_value, int index) {
  if (lua_isnil(L, index)) return;
  lua_pushvalue(L, index);
  lua_setiuservalue(L, self, user_value);
}

/*** Sends a request; `step` of the reactor carries it on, and tells its end.
@function client:start
@tparam string method `"GET"` or `"POST"`
@tparam string path what follows the client's prefix in the URL, percent-encoded
@tparam ?string|thingsboard.body body JSON text; a body is empty after this
@tparam integer timeout milliseconds for the whole exchange; with a file, for a standstill
@tparam ?userdata file where the body of a 200 goes; other bodies stay in memory
@tparam ?userdata checksum fed with what goes to the file
@tparam ?integer limit bytes that the body of a 200 may have; when absent, the client's `max_response`, and with a file
what the server announces. Other bodies, and those in memory, have no more than `max_response`
@tparam ?string range the bytes of the body that are wanted, `first-last` from 0 on; a server need not heed it
@treturn userdata the exchange; raises for bad arguments, closed clients, and when memory is short */
int tb_exchange_start(lua_State *L) {
  static const char *const verbs[] = {"GET", "POST", NULL};
  struct tb_client *client = tb_check_client(L, 1);
  bool post = luaL_checkoption(L, 2, NULL, verbs) == 1;
  size_t path_length;
  const char *path = luaL_checklstring(L, 3, &path_length);
  luaL_argcheck(L, strlen(path) == path_length, 3, "contains a zero byte");
  size_t length = 0;
  struct tb_body *moved = tb_test_body(L, 4);
  if (moved == NULL && !lua_isnoneornil(L, 4)) luaL_checktype(L, 4, LUA_TSTRING);
  const char *body = lua_isnoneornil(L, 4) || moved != NULL ? "" : lua_tolstring(L, 4, &length);
  luaL_argcheck(L, post || lua_isnoneornil(L, 4), 4, "a GET has no body");
  lua_Integer timeout = luaL_checkinteger(L, 5);
  luaL_argcheck(L, timeout > 0 && timeout <= INT32_MAX, 5, "not a time-out in milliseconds");
  struct tb_file *file = lua_isnoneornil(L, 6) ? NULL : tb_check_file(L, 6);
  struct tb_checksum *checksum = lua_isnoneornil(L, 7) ? NULL : tb_check_checksum(L, 7);
  lua_Integer limit = luaL_optinteger(L, 8, 0);
  luaL_argcheck(L, limit >= 0, 8, "negative");
  const char *range = luaL_optstring(L, 9, NULL);
  lua_settop(L, 9);

  lua_getiuservalue(L, 1, 1);
  int reactor = lua_gettop(L), self = reactor + 1;
  struct tb_exchange *exchange = push_exchange(L, reactor);
  exchange->file = file;
  exchange->checksum = checksum;
  exchange->limit = lua_isnoneornil(L, 8) || (lua_Unsigned)limit > SIZE_MAX ? AS_ANNOUNCED : (size_t)limit;
  if (file == NULL && exchange->limit > client->max_response) exchange->limit = client->max_response;
  tb_buffer_init(&exchange->body, client->max_response);
  if (moved != NULL) { /* nobody changes it while it is sent */
    exchange->request = moved->buffer.data;
    length = moved->buffer.length;
    tb_buffer_init(&moved->buffer, moved->buffer.limit);
    if (length > 0) body = exchange->request;
  }
  keep(L, self, REQUEST_VALUE, 4); /* not copied by curl */
  keep(L, self, FILE_VALUE, 6);
  keep(L, self, CHECKSUM_VALUE, 7);
  tb_client_take(L, 1, &exchange->handle);
  struct tb_handle *handle = exchange->handle;
  struct tb_kind kind = {.post = post,
                         .large = length > SMALL_POST,
                         .file = file != NULL,
                         .range = range != NULL,
                         .timeout = (long)timeout};
  if (!is_same_kind(handle->kind, kind)) set_up(handle, kind);
  if (client->unheard) leave_connections(handle);
  if (range != NULL) curl_easy_setopt(handle->easy, CURLOPT_RANGE, range);
  tb_client_aim(L, 1, handle, path);
  /* From here on Lua makes nothing, so no finalizer runs. */
  if (client->reactor == NULL) return luaL_error(L, "the device is closed");
  if (post) {
    curl_easy_setopt(handle->easy, CURLOPT_POSTFIELDS, body);
    curl_easy_setopt(handle->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)length);
  }
  handle->error[0] = '\0';
  handle->exchange = exchange;
  exchange->deadline = file != NULL ? TB_NEVER : tb_monotonic() + (int64_t)timeout * 1000;
  exchange->overdue_at = file != NULL ? TB_NEVER : exchange->deadline + OVERDUE_MICROSECONDS;
  lua_getiuservalue(L, reactor, 1);
  lua_pushvalue(L, self);
  lua_rawsetp(L, -2, exchange);
  lua_pop(L, 1);
  exchange->pool = client->reactor->most_connections > 0 ? client->reactor->pools[0] : client->pool;
  if (!tb_pool_is_sound(exchange->pool) || curl_multi_add_handle(exchange->pool->multi, handle->easy) != CURLM_OK) {
    tb_exchange_release(L, reactor, exchange);
    return luaL_error(L, "not enough memory");
  }
  tb_pool_enter(exchange->pool);
  exchange->client = client;
  exchange->link = &client->exchanges;
  exchange->next = client->exchanges;
  if (exchange->next != NULL) exchange->next->link = &exchange->next;
  client->exchanges = exchange;
  if (exchange->overdue_at < client->reactor->overdue_at) client->reactor->overdue_at = exchange->overdue_at;
  lua_settop(L, self);
  return 1;
}

static struct tb_exchange *check_exchange(lua_State *L) {
  return tb_check(L, 1, TB_EXCHANGE, sizeof(struct tb_exchange));
}

/*** Whether the exchange has ended.
@function exchange:done
@treturn boolean */
static int exchange_done(lua_State *L) {
  lua_pushboolean(L, check_exchange(L)->done);
  return 1;
}

/*** Whether the request went out, on a connection that was there or made for it. Nothing tells whether it arrived.
@function exchange:sent
@treturn boolean false before the end, too */
static int exchange_sent(lua_State *L) {
  lua_pushboolean(L, check_exchange(L)->sent);
  return 1;
}

/* curl's name for a code, from a table of ours: a libcurl built without strings has none. NULL for the rare. No
 * pointers in it: each would take another 24 bytes of the module for its relocation. */
static const char *code_name(CURLcode code) {
#define NAME(name)                                                                                                     \
  { CURLE_##name, #name }
  static const struct {
    unsigned char code;
    char name[sizeof "PEER_FAILED_VERIFICATION"];
  } names[] = {NAME(UNSUPPORTED_PROTOCOL),
               NAME(FAILED_INIT),
               NAME(URL_MALFORMAT),
               NAME(NOT_BUILT_IN),
               NAME(COULDNT_RESOLVE_PROXY),
               NAME(COULDNT_RESOLVE_HOST),
               NAME(COULDNT_CONNECT),
               NAME(WEIRD_SERVER_REPLY),
               NAME(REMOTE_ACCESS_DENIED),
               NAME(HTTP2),
               NAME(PARTIAL_FILE),
               NAME(HTTP_RETURNED_ERROR),
               NAME(WRITE_ERROR),
               NAME(READ_ERROR),
               NAME(OUT_OF_MEMORY),
               NAME(OPERATION_TIMEDOUT),
               NAME(RANGE_ERROR),
               NAME(HTTP_POST_ERROR),
               NAME(SSL_CONNECT_ERROR),
               NAME(FUNCTION_NOT_FOUND),
               NAME(ABORTED_BY_CALLBACK),
               NAME(BAD_FUNCTION_ARGUMENT),
               NAME(INTERFACE_FAILED),
               NAME(TOO_MANY_REDIRECTS),
               NAME(GOT_NOTHING),
               NAME(SSL_ENGINE_NOTFOUND),
               NAME(SEND_ERROR),
               NAME(RECV_ERROR),
               NAME(SSL_CERTPROBLEM),
               NAME(SSL_CIPHER),
               NAME(PEER_FAILED_VERIFICATION),
               NAME(BAD_CONTENT_ENCODING),
               NAME(FILESIZE_EXCEEDED),
               NAME(USE_SSL_FAILED),
               NAME(SEND_FAIL_REWIND),
               NAME(SSL_ENGINE_INITFAILED),
               NAME(LOGIN_DENIED),
               NAME(SSL_CACERT_BADFILE),
               NAME(SSL_SHUTDOWN_FAILED),
               NAME(AGAIN),
               NAME(SSL_CRL_BADFILE),
               NAME(SSL_ISSUER_ERROR),
               NAME(NO_CONNECTION_AVAILABLE),
               NAME(SSL_PINNEDPUBKEYNOTMATCH),
               NAME(SSL_INVALIDCERTSTATUS),
               NAME(HTTP2_STREAM)};
#undef NAME
  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    if (names[i].code == code) return names[i].name;
  return NULL;
}

/* Pushes what went wrong: a code's name and the text to it. */
static void push_failure(lua_State *L, const struct tb_exchange *exchange) {
  static const char *const names[] = {[TB_CLOSED] = "CLOSED",
                                      [TB_BODY_TOO_LARGE] = "BODY_TOO_LARGE",
                                      [TB_HEADERS_TOO_LARGE] = "HEADERS_TOO_LARGE",
                                      [TB_BLANK_HEADER] = "WEIRD_SERVER_REPLY",
                                      [TB_FILE_FAILED] = "FILE_FAILED",
                                      [TB_OUT_OF_MEMORY] = "OUT_OF_MEMORY"};
  if (exchange->failure != TB_NO_FAILURE)
    lua_pushstring(L, names[exchange->failure]);
  else if (code_name(exchange->code) != NULL)
    lua_pushstring(L, code_name(exchange->code));
  else
    lua_pushfstring(L, "CURLE_%d", (int)exchange->code);
  switch (exchange->failure) {
  case TB_CLOSED:
    lua_pushliteral(L, "closed before its answer was taken");
    return;
  case TB_BODY_TOO_LARGE:
    lua_pushfstring(L, "the answer has more than %I bytes", (LUAI_UACINT)exchange->limit);
    return;
  case TB_HEADERS_TOO_LARGE:
    lua_pushfstring(L, "the answer's headers have more than %d bytes", (int)MOST_HEADERS);
    return;
  case TB_BLANK_HEADER:
    lua_pushliteral(L, "the answer's first header begins with a blank");
    return;
  case TB_FILE_FAILED:
    lua_pushfstring(L, "cannot write the file: %s", strerror(exchange->file_error));
    return;
  case TB_OUT_OF_MEMORY:
    lua_pushliteral(L, "out of memory");
    return;
  case TB_NO_FAILURE:
    break;
  }
  const char *text = exchange->error != NULL ? exchange->error : curl_easy_strerror(exchange->code);
  lua_getiuservalue(L, 1, CLIENT_VALUE);
  tb_client_push_redacted(L, -1, text, strlen(text));
  lua_remove(L, -2);
}

/*** What came of it, once it is done.
@function exchange:result
@treturn[1] integer the status
@treturn[1] string the body, empty when it went to a file
@treturn[2] nil
@treturn[2] string curl's name of the error, or `CLOSED`, `BODY_TOO_LARGE`, `HEADERS_TOO_LARGE`, `FILE_FAILED`
@treturn[2] string the text to it, without secrets */
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
  return 2;
}

/*** The server's time of the answer.
@function exchange:date
@treturn ?string its header `Date`; nil when it has none */
static int exchange_date(lua_State *L) {
  const struct tb_exchange *exchange = check_exchange(L);
  if (exchange->date[0] == '\0') return 0;
  lua_pushstring(L, exchange->date);
  return 1;
}

/*** Whether the answer asks for other credentials, which ThingsBoard never does: a proxy or a portal answered.
@function exchange:challenged
@treturn boolean true when it has a header `WWW-Authenticate` or `Proxy-Authenticate` */
static int exchange_challenged(lua_State *L) {
  lua_pushboolean(L, check_exchange(L)->challenged);
  return 1;
}

/*** How much of the answer's body has come.
@function exchange:received
@treturn integer bytes
@treturn ?integer bytes in all, when the server has said so; nothing once the exchange has ended */
static int exchange_received(lua_State *L) {
  struct tb_exchange *exchange = check_exchange(L);
  curl_off_t total = -1;
  lua_pushinteger(L, (lua_Integer)exchange->received);
  if (exchange->handle != NULL) curl_easy_getinfo(exchange->handle->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &total);
  if (total < 0) return 1;
  lua_pushinteger(L, (lua_Integer)total);
  return 2;
}

/*** Drops the exchange, in flight or not. Idempotent. What it brought is gone.
@function exchange:close */
static int exchange_close(lua_State *L) {
  struct tb_exchange *exchange = check_exchange(L);
  bool flying = exchange->client != NULL;
  /* In a forked child the handle is left alone: its cleanup would speak on the parent's connection. */
  if (flying && (exchange->client->reactor == NULL || !tb_reactor_is_own(exchange->client->reactor))) return 0;
  if (flying || exchange->queue != NULL) {
    lua_getiuservalue(L, 1, REACTOR_VALUE);
    if (flying)
      leave_wire(exchange);
    else
      tb_exchange_leave_queue(exchange);
    tb_exchange_release(L, lua_gettop(L), exchange);
  }
  tb_handle_free(exchange->handle); /* start raised before it was on the wire */
  exchange->handle = NULL;
  exchange->done = true;
  exchange->failure = TB_CLOSED;
  free(exchange->error);
  exchange->error = NULL;
  free(exchange->request);
  exchange->request = NULL;
  tb_buffer_free(&exchange->body);
  return 0;
}

/* At the end of its scope, when nobody holds it any more: as `close`, and the client uses it for its next request. */
static int exchange_leave(lua_State *L) {
  exchange_close(L);
  const struct tb_exchange *exchange = check_exchange(L);
  if (exchange->client != NULL) return 0; /* a forked child's: left alone */
  lua_settop(L, 1);
  bool filed = exchange->file != NULL || exchange->checksum != NULL;
  for (int value = REQUEST_VALUE; value <= (filed ? VALUES : REQUEST_VALUE); value++) {
    lua_pushnil(L);
    lua_setiuservalue(L, 1, value);
  }
  lua_getiuservalue(L, 1, CLIENT_VALUE);
  tb_client_keep_exchange(L, 2, 1);
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
                                   {"challenged", exchange_challenged},
                                   {"received", exchange_received},
                                   {"close", exchange_close},
                                   {NULL, NULL}};

static const luaL_Reg metamethods[] = {
    {"__gc", exchange_close}, {"__close", exchange_leave}, {"__tostring", exchange_tostring}, {NULL, NULL}};

void tb_open_exchange(lua_State *L) {
  unsigned version = curl_version_info(CURLVERSION_NOW)->version_num;
  has_stale_headers = version >= 0x075300 && version < 0x080100;
  tb_new_type(L, TB_EXCHANGE, methods, metamethods);
}
