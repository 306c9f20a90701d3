#include "http/client.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/userdata.h"
#include "digest/checksum.h"
#include "http/options.h"
#include "http/pool.h"
#include "http/redact.h"
#include "http/request_body.h"

#include <lauxlib.h>
#include <string.h>

static const char TYPE[] = "thingsboard.client";

enum {
  SMALL_RECEIVE_BUFFER = 1024,
  /* One HTTP/2 frame: when a frame does not fit, libcurl 7.88 leaves the rest in its own buffer and waits for a socket
   * that has nothing more to read. */
  HTTP2_RECEIVE_BUFFER = 16384,
  SMALL_POST = 1024, /* bytes: up to this size no libcurl sends "Expect: 100-continue" */
};

static struct tb_client *check_client(lua_State *L, int index) {
  struct tb_client *client = tb_check(L, index, TYPE, sizeof *client);
  if (client->poller == NULL) luaL_error(L, "the device is closed");
  if (!tb_poller_is_own(client->poller))
    luaL_error(L, "the device belongs to the parent process: make a new one after fork");
  return client;
}

/*** A client of one server.
@function client
@tparam userdata reactor
@tparam table options copied: `prefix` (string, required: what every URL begins with), `connect_timeout` (milliseconds),
`verify` (boolean, true when absent), and the strings `ca_file`, `ca_path`, `pinned_key`, `client_cert`, `client_key`,
`client_key_password`, `proxy`, `interface`, each absent or not empty; and as a list, the secrets: strings that no text
may show
@tparam integer max_response bytes of an answer's body that stays in memory
@tparam ?string user_agent
@treturn userdata the client; raises when libcurl does not support an option that is set */
static int client_new(lua_State *L) {
  struct tb_poller *poller = tb_check_poller(L, 1);
  luaL_checktype(L, 2, LUA_TTABLE);
  lua_getfield(L, 2, "prefix");
  luaL_argcheck(L, lua_type(L, -1) == LUA_TSTRING, 2, "'prefix' missing");
  lua_Integer max_response = luaL_checkinteger(L, 3);
  luaL_argcheck(L, max_response > 0, 3, "not a number of bytes");
  const char *user_agent = luaL_optstring(L, 4, NULL);
  lua_settop(L, 4);
  tb_options_copy(L, 2);
  lua_replace(L, 2);
  struct tb_client *client = tb_new(L, TYPE, sizeof *client, TB_CLIENT_VALUES);
  /* No body in memory can have more than half of the address space. */
  client->max_response = (lua_Unsigned)max_response < SIZE_MAX / 2 ? (size_t)max_response : SIZE_MAX / 2;
  lua_pushvalue(L, 1);
  lua_setiuservalue(L, -2, TB_REACTOR_VALUE);
  lua_pushvalue(L, 2);
  lua_setiuservalue(L, -2, TB_OPTIONS_VALUE);
  client->socket = CURL_SOCKET_BAD;
  client->receive_buffer = tb_options_is_https(L, 2) ? HTTP2_RECEIVE_BUFFER : SMALL_RECEIVE_BUFFER;
  /* A header without a value is one that curl leaves out: "Expect:" saves a large post a round trip, "Accept:" saves
   * every request a header that says nothing. curl copies a user agent twice when it is an option, once when it is a
   * header. */
  static struct curl_slist no_accept = {(char *)"Accept:", NULL};
  if (user_agent != NULL) {
    char *header = (char *)lua_pushfstring(L, "User-Agent: %s", user_agent);
    client->user_agent = (struct curl_slist){header, &no_accept};
    lua_setiuservalue(L, 5, TB_USER_AGENT_VALUE);
  }
  client->json = (struct curl_slist){(char *)"Content-Type: application/json",
                                     user_agent != NULL ? &client->user_agent : &no_accept};
  client->no_expect = (struct curl_slist){(char *)"Expect:", &client->json};
  client->poller = tb_check_poller(L, 1); /* again: a finalizer may have closed it */
  client->link = &poller->clients;
  client->next = poller->clients;
  if (client->next != NULL) client->next->link = &client->next;
  poller->clients = client;
  client->pool = tb_pool_join(poller);
  if (client->pool == NULL) return luaL_error(L, TB_NO_MEMORY);
  tb_handle_prepare(L, 5);
  return 1;
}

/* The arguments of `start`, and where the fields of its table are put. */
enum { CLIENT = 1, METHOD, PATH, BODY, TIMEOUT, DOWNLOAD, DOWNLOAD_FILE, CHECKSUM, LIMIT, RANGE };

struct download {
  struct tb_file *file;
  struct tb_checksum *checksum;
  uint64_t limit;
  const char *range;
};

/* Reads the table, and puts its fields behind the arguments. */
static struct download read_download(lua_State *L) {
  static const char names[][sizeof "checksum"] = {"file", "checksum", "limit", "range"};
  luaL_checktype(L, DOWNLOAD, LUA_TTABLE);
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    lua_pushstring(L, names[i]);
    lua_rawget(L, DOWNLOAD);
  }
  lua_Integer limit = lua_tointeger(L, LIMIT);
  struct download download = {
      .file = tb_test_file(L, DOWNLOAD_FILE),
      .checksum = tb_test_checksum(L, CHECKSUM),
      .limit = lua_isnil(L, LIMIT) ? TB_AS_ANNOUNCED : (uint64_t)limit,
      .range = lua_tostring(L, RANGE),
  };
  luaL_argcheck(L, download.file != NULL || lua_isnil(L, DOWNLOAD_FILE), DOWNLOAD, "file is not a thingsboard.file");
  luaL_argcheck(L, download.checksum != NULL || lua_isnil(L, CHECKSUM), DOWNLOAD,
                "checksum is not a thingsboard.checksum");
  luaL_argcheck(L, (lua_isinteger(L, LIMIT) && limit >= 0) || lua_isnil(L, LIMIT), DOWNLOAD,
                "limit is not a number of bytes");
  luaL_argcheck(L, download.range != NULL || lua_isnil(L, RANGE), DOWNLOAD, "range is not a string");
  return download;
}

/* Makes the exchange keep alive what it uses. */
static void keep(lua_State *L, int exchange, int user_value, int index) {
  lua_pushvalue(L, index);
  lua_setiuservalue(L, exchange, user_value);
}

/*** Starts a request. The reactor's `step` continues it, and returns it when it has ended.
@function client:start
@tparam string method `"GET"` or `"POST"`
@tparam string path what follows the client's prefix in the URL, percent-encoded
@tparam ?string|thingsboard.body body of a POST: JSON text; a body is empty after this
@tparam integer timeout milliseconds for the whole exchange; with a file, for a standstill
@tparam ?table download `file`: where the body of a 200 goes, while other bodies stay in memory; `checksum`: fed with
what goes to the file; `limit`: bytes that the body of a 200 may have, else the client's `max_response`, and for a file
what the server announces; `range`: the wanted bytes, `first-last` from 0 on, which a server may ignore. Bodies that
stay in memory never exceed `max_response`
@treturn userdata the exchange; raises for bad arguments, a closed client, and when memory has run out */
static int client_start(lua_State *L) {
  static const char *const methods[] = {"GET", "POST", NULL};
  struct tb_client *client = check_client(L, CLIENT);
  bool post = luaL_checkoption(L, METHOD, NULL, methods) == 1;
  size_t path_length, length = 0;
  const char *path = luaL_checklstring(L, PATH, &path_length), *bytes = "";
  luaL_argcheck(L, strlen(path) == path_length, PATH, "contains a zero byte");
  struct tb_body *body = tb_test_body(L, BODY);
  if (body == NULL && !lua_isnoneornil(L, BODY)) {
    luaL_checktype(L, BODY, LUA_TSTRING);
    bytes = lua_tolstring(L, BODY, &length);
  }
  luaL_argcheck(L, post || lua_isnoneornil(L, BODY), BODY, "a GET has no body");
  lua_Integer timeout = luaL_checkinteger(L, TIMEOUT);
  luaL_argcheck(L, timeout > 0 && timeout <= INT32_MAX, TIMEOUT, "not a time-out in milliseconds");
  lua_settop(L, DOWNLOAD);
  struct download download = {.limit = TB_AS_ANNOUNCED};
  if (!lua_isnil(L, DOWNLOAD)) download = read_download(L);

  struct tb_exchange *exchange = tb_exchange_push_new(L, CLIENT);
  int self = lua_gettop(L);
  exchange->file = download.file;
  exchange->checksum = download.checksum;
  exchange->limit = download.limit;
  if (exchange->file == NULL && exchange->limit > client->max_response) exchange->limit = client->max_response;
  tb_buffer_init(&exchange->body, client->max_response);
  if (body != NULL) { /* the exchange takes its memory, so that nobody changes what is being sent */
    exchange->request = body->buffer.data;
    length = body->buffer.length;
    tb_buffer_init(&body->buffer, body->buffer.limit);
    if (length > 0) bytes = exchange->request;
  }
  if (!lua_isnil(L, BODY)) keep(L, self, TB_REQUEST_VALUE, BODY); /* curl does not copy it */
  if (exchange->file != NULL) keep(L, self, TB_FILE_VALUE, DOWNLOAD_FILE);
  if (exchange->checksum != NULL) keep(L, self, TB_CHECKSUM_VALUE, CHECKSUM);
  tb_handle_take(L, CLIENT, &exchange->handle);
  tb_exchange_configure(exchange, (struct tb_kind){.post = post,
                                                   .large = length > SMALL_POST,
                                                   .file = exchange->file != NULL,
                                                   .range = download.range != NULL,
                                                   .timeout = (long)timeout});
  if (download.range != NULL) curl_easy_setopt(exchange->handle->easy, CURLOPT_RANGE, download.range);
  tb_handle_set_url(L, CLIENT, exchange->handle, path);
  /* A finalizer may have closed the client. None runs from here on, for Lua allocates nothing but a table's slot. */
  if (client->poller == NULL) return luaL_error(L, "the device is closed");
  exchange->deadline = exchange->file != NULL ? TB_NEVER : tb_monotonic() + (int64_t)timeout * 1000;
  lua_getiuservalue(L, CLIENT, TB_REACTOR_VALUE);
  tb_exchange_keep(L, self + 1, self);
  if (!tb_exchange_send(exchange, post ? bytes : NULL, length)) {
    tb_exchange_take(L, self + 1, exchange);
    return luaL_error(L, TB_NO_MEMORY);
  }
  lua_settop(L, self);
  return 1;
}

/*** Redacts a text.
@function client:redact
@tparam string text
@treturn string the text with `***` in the place of each of the client's secrets */
static int client_redact(lua_State *L) {
  tb_check(L, 1, TYPE, sizeof(struct tb_client));
  size_t length;
  const char *text = luaL_checklstring(L, 2, &length);
  lua_getiuservalue(L, 1, TB_OPTIONS_VALUE);
  tb_redact(L, -1, text, length);
  return 1;
}

void tb_client_close(struct tb_client *client) {
  struct tb_poller *poller = client->poller;
  if (poller == NULL) return;
  if (tb_poller_is_own(poller)) {
    while (client->exchanges != NULL) {
      client->exchanges->failure = TB_CLOSED;
      tb_exchange_end(client->exchanges, CURLE_OK);
    }
    tb_poller_arm(poller);
    tb_handle_free_idle(client);
  }
  *client->link = client->next;
  if (client->next != NULL) client->next->link = client->link;
  if (client->pool != NULL) client->pool->clients--;
  client->pool = NULL;
  client->poller = NULL;
}

/*** Ends the exchanges in flight, as `CLOSED`. Idempotent.
@function client:close */
static int client_close(lua_State *L) {
  tb_client_close(tb_check(L, 1, TYPE, sizeof(struct tb_client)));
  return 0;
}

static int client_tostring(lua_State *L) {
  const struct tb_client *client = tb_check(L, 1, TYPE, sizeof *client);
  lua_pushfstring(L, client->poller == NULL ? "thingsboard.client (closed)" : "thingsboard.client (%p)",
                  (const void *)client);
  return 1;
}

static const luaL_Reg methods[] = {
    {"start", client_start}, {"redact", client_redact}, {"close", client_close}, {NULL, NULL}};

static const luaL_Reg metamethods[] = {
    {"__gc", client_close}, {"__close", client_close}, {"__tostring", client_tostring}, {NULL, NULL}};

void tb_open_client(lua_State *L) {
  tb_new_type(L, TYPE, methods, metamethods);
  lua_pushcfunction(L, client_new);
  lua_setfield(L, -2, "client");
}
