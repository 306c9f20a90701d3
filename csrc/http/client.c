#include "http/client.h"

#include "base/userdata.h"
#include "http/exchange.h"
#include "http/pool.h"
#include "http/redact.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

enum {
  REACTOR_VALUE = 1, /* user values: what keeps the reactor alive, */
  OPTIONS_VALUE,     /* the table of options, from which every new handle is set up, */
  USER_AGENT_VALUE,  /* its header, */
  EXCHANGE_VALUE,    /* and an exchange that waits to be used again */
  VALUES = EXCHANGE_VALUE,
  SMALL_RECEIVE_BUFFER = 1024,
  /* A frame of HTTP/2: where one does not fit into the buffer, libcurl 7.88 leaves the rest, and waits for a socket
   * that has no more to bring. */
  HTTP2_RECEIVE_BUFFER = 16384,
  /* A peer that is gone without a word shows by what it does not acknowledge: while nothing else is sent, by probes. A
   * poll would notice by its time-out only, and over HTTP/2 the next would go out on the same connection. */
  PROBE_AFTER_SECONDS = 10,
  PROBE_EVERY_SECONDS = 2,
  UNACKNOWLEDGED_MILLISECONDS = 20000,
};

const char TB_CLIENT[] = "thingsboard.client";

struct tb_client *tb_check_client(lua_State *L, int index) {
  struct tb_client *client = tb_check(L, index, TB_CLIENT, sizeof(struct tb_client));
  if (client->reactor == NULL) luaL_error(L, "the device is closed");
  if (!tb_reactor_is_own(client->reactor))
    luaL_error(L, "the device belongs to the parent process: make a new one after fork");
  return client;
}

/* Pushes the client's option; returns its type. */
static int push_option(lua_State *L, int index, const char *name) {
  lua_getiuservalue(L, index, OPTIONS_VALUE);
  int type = lua_getfield(L, -1, name);
  lua_remove(L, -2);
  return type;
}

static const char *string_option(lua_State *L, int index, const char *name) {
  push_option(L, index, name);
  const char *value = lua_tostring(L, -1);
  lua_pop(L, 1); /* the options' table holds it */
  return value;
}

/* Without TCP_USER_TIMEOUT, in another system, a connection is given up a little later. */
static int on_new_socket(void *data, curl_socket_t fd, curlsocktype purpose) {
  (void)data;
  (void)purpose;
#ifdef TCP_USER_TIMEOUT
  unsigned int milliseconds = UNACKNOWLEDGED_MILLISECONDS;
  setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &milliseconds, sizeof milliseconds);
#else
  (void)fd;
#endif
  return CURL_SOCKOPT_OK;
}

static bool is_https(lua_State *L, int index) {
  return strncasecmp(string_option(L, index, "prefix"), "https", 5) == 0;
}

/* Sets what every exchange of the client has in common. May raise: somebody must own the handle already. */
static void configure(lua_State *L, int index, CURL *easy) {
  static const struct {
    const char *name;
    CURLoption option;
  } strings[] = {
      {"ca_file", CURLOPT_CAINFO},      {"ca_path", CURLOPT_CAPATH},    {"pinned_key", CURLOPT_PINNEDPUBLICKEY},
      {"client_cert", CURLOPT_SSLCERT}, {"client_key", CURLOPT_SSLKEY}, {"interface", CURLOPT_INTERFACE}};
  for (size_t i = 0; i < sizeof strings / sizeof *strings; i++) {
    const char *value = string_option(L, index, strings[i].name);
    CURLcode code = value == NULL ? CURLE_OK : curl_easy_setopt(easy, strings[i].option, value);
    if (code == CURLE_OUT_OF_MEMORY) luaL_error(L, "not enough memory");
    if (code != CURLE_OK) luaL_error(L, "this libcurl cannot do with option '%s'", strings[i].name);
  }
  /* Authorities that are named stand in place of the system's, in libcurl's other default as well. */
  bool file = string_option(L, index, "ca_file") != NULL, folder = string_option(L, index, "ca_path") != NULL;
  if (file && !folder) curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
  if (folder && !file) curl_easy_setopt(easy, CURLOPT_CAINFO, NULL);
  /* Of the defaults, which every connection copies, a client keeps what it can need. */
  const char *proxy = string_option(L, index, "proxy");
  if (proxy == NULL) {
    curl_easy_setopt(easy, CURLOPT_PROXY_CAINFO, NULL);
    curl_easy_setopt(easy, CURLOPT_PROXY_CAPATH, NULL);
    if (!is_https(L, index)) {
      curl_easy_setopt(easy, CURLOPT_CAINFO, NULL);
      curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
    }
  }
  push_option(L, index, "verify");
  long verify = lua_isnil(L, -1) || lua_toboolean(L, -1);
  push_option(L, index, "connect_timeout");
  long connect_timeout = (long)lua_tointeger(L, -1);
  lua_pop(L, 2);
  const struct {
    CURLoption option;
    const char *value;
  } texts[] = {
#if LIBCURL_VERSION_NUM >= 0x075500
    {CURLOPT_PROTOCOLS_STR, "http,https"},
#endif
    {CURLOPT_PROXY, proxy != NULL ? proxy : ""}, /* not NULL: that would ask the environment */
    {CURLOPT_NOPROXY, ""}
  };
  const struct {
    CURLoption option;
    long value;
  } numbers[] = {
#if LIBCURL_VERSION_NUM < 0x075500
    {CURLOPT_PROTOCOLS, CURLPROTO_HTTP | CURLPROTO_HTTPS},
#endif
    {CURLOPT_NOSIGNAL, 1},
    {CURLOPT_FOLLOWLOCATION, 0},
    {CURLOPT_NETRC, CURL_NETRC_IGNORED},
    {CURLOPT_SUPPRESS_CONNECT_HEADERS, 1},
    {CURLOPT_CONNECTTIMEOUT_MS, connect_timeout},
    {CURLOPT_TCP_KEEPALIVE, 1},
    {CURLOPT_TCP_KEEPIDLE, PROBE_AFTER_SECONDS},
    {CURLOPT_TCP_KEEPINTVL, PROBE_EVERY_SECONDS},
    {CURLOPT_MAXAGE_CONN, TB_IDLE_CONNECTION_SECONDS},
#if LIBCURL_VERSION_NUM >= 0x075700
    {CURLOPT_QUICK_EXIT, 1}, /* or the end of an exchange would wait, with all others, for the resolver's thread */
#endif
    /* What is sent while the first connection is still being made waits to see whether it speaks HTTP/2, and shares
     * it. Without TLS it would wait for a whole answer, perhaps a poll's. */
    {CURLOPT_PIPEWAIT, is_https(L, index)}
  };
  CURLcode bad = curl_easy_setopt(easy, CURLOPT_SOCKOPTFUNCTION, on_new_socket);
  for (size_t i = 0; i < sizeof texts / sizeof *texts && bad == CURLE_OK; i++)
    bad = curl_easy_setopt(easy, texts[i].option, texts[i].value);
  for (size_t i = 0; i < sizeof numbers / sizeof *numbers && bad == CURLE_OK; i++)
    bad = curl_easy_setopt(easy, numbers[i].option, numbers[i].value);
  if (bad != CURLE_OK) luaL_error(L, "cannot set up a request: %s", curl_easy_strerror(bad));
  /* A libcurl without TLS knows none of these; https fails by itself there. */
  curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
  curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, verify);
  curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, verify ? 2L : 0L);
}

static struct tb_handle *new_handle(struct tb_client *client) {
  struct tb_handle *handle = calloc(1, sizeof *handle);
  if (handle == NULL) return NULL;
  handle->client = client;
  handle->easy = curl_easy_init();
  if (handle->easy != NULL) return handle;
  tb_handle_free(handle);
  return NULL;
}

void tb_handle_free(struct tb_handle *handle) {
  if (handle == NULL) return;
  curl_easy_cleanup(handle->easy);
  curl_url_cleanup(handle->url);
  free(handle->path);
  free(handle);
}

/* Takes an idle handle out of its reactor's list. */
static struct tb_handle *take_idle(struct tb_reactor *reactor, size_t at) {
  struct tb_handle *handle = reactor->idle[at];
  reactor->idle_count--;
  for (size_t i = at; i < reactor->idle_count; i++) reactor->idle[i] = reactor->idle[i + 1];
  return handle;
}

void tb_client_take(lua_State *L, int index, struct tb_handle **handle) {
  struct tb_client *client = tb_check_client(L, index);
  struct tb_reactor *reactor = client->reactor;
  for (size_t at = reactor->idle_count; at-- > 0;) {
    if (reactor->idle[at]->client != client) continue;
    *handle = take_idle(reactor, at);
    return;
  }
  *handle = new_handle(client);
  if (*handle == NULL) luaL_error(L, "not enough memory");
  configure(L, index, (*handle)->easy);
}

void tb_client_give(struct tb_handle *handle) {
  struct tb_reactor *reactor = handle->client->reactor;
  if (reactor->idle_count == TB_MOST_IDLE) tb_handle_free(take_idle(reactor, 0));
  reactor->idle[reactor->idle_count++] = handle;
}

/* What is asked for once, and waits, keeps no more of its URL than it must; what is asked for again and again is parsed
 * once for all. A URL that makes no sense curl is to see by itself, and to say so when the exchange ends. */
void tb_client_aim(lua_State *L, int index, struct tb_handle *handle, const char *path) {
  bool again = handle->path != NULL && strcmp(handle->path, path) == 0;
  if (again && handle->url != NULL) return;
  const char *url = lua_pushfstring(L, "%s%s", string_option(L, index, "prefix"), path);
  bool well;
  if (again) {
    handle->url = curl_url();
    CURLUcode bad = handle->url == NULL ? CURLUE_OUT_OF_MEMORY : curl_url_set(handle->url, CURLUPART_URL, url, 0);
    if (bad == CURLUE_OK) curl_easy_setopt(handle->easy, CURLOPT_CURLU, handle->url);
    well = bad != CURLUE_OUT_OF_MEMORY;
  } else {
    curl_easy_setopt(handle->easy, CURLOPT_CURLU, NULL);
    curl_url_cleanup(handle->url);
    handle->url = NULL;
    free(handle->path);
    handle->path = strdup(path);
    well = handle->path != NULL && curl_easy_setopt(handle->easy, CURLOPT_URL, url) == CURLE_OK;
  }
  if (!well) luaL_error(L, "not enough memory");
  lua_pop(L, 1);
}

void tb_client_keep_exchange(lua_State *L, int index, int exchange) {
  index = lua_absindex(L, index);
  lua_pushvalue(L, exchange);
  lua_setiuservalue(L, index, EXCHANGE_VALUE);
}

bool tb_client_push_exchange(lua_State *L, int index) {
  index = lua_absindex(L, index);
  if (lua_getiuservalue(L, index, EXCHANGE_VALUE) != LUA_TNIL) {
    lua_pushnil(L);
    lua_setiuservalue(L, index, EXCHANGE_VALUE);
    return true;
  }
  lua_pop(L, 1);
  return false;
}

void tb_client_end_unwatched(struct tb_client *client) {
  struct tb_exchange *next;
  for (struct tb_exchange *exchange = client->exchanges; exchange != NULL; exchange = next) {
    next = exchange->next;
    if (!exchange->unwatched) continue;
    exchange->failure = TB_OUT_OF_MEMORY;
    tb_exchange_end(exchange, CURLE_OK);
  }
}

void tb_client_end_overdue(struct tb_client *client, int64_t now) {
  struct tb_exchange *next;
  for (struct tb_exchange *exchange = client->exchanges; exchange != NULL; exchange = next) {
    next = exchange->next;
    if (exchange->overdue_at > now) {
      if (exchange->overdue_at < client->reactor->overdue_at) client->reactor->overdue_at = exchange->overdue_at;
      continue;
    }
    strcpy(exchange->handle->error, "Timed out while it waited for a connection");
    tb_exchange_end(exchange, CURLE_OPERATION_TIMEDOUT);
  }
}

void tb_client_close(struct tb_client *client) {
  if (client->reactor == NULL) return;
  if (tb_reactor_is_own(client->reactor)) {
    while (client->exchanges != NULL) {
      client->exchanges->failure = TB_CLOSED;
      tb_exchange_end(client->exchanges, CURLE_OK);
    }
    tb_reactor_arm(client->reactor);
    for (size_t at = client->reactor->idle_count; at-- > 0;)
      if (client->reactor->idle[at]->client == client) tb_handle_free(take_idle(client->reactor, at));
  }
  *client->link = client->next;
  if (client->next != NULL) client->next->link = client->link;
  if (client->pool != NULL) client->pool->clients--;
  client->pool = NULL;
  client->reactor = NULL;
}

/* Pushes a copy of what is known of the options at the index: nobody else can change it, nor is code run to read it. */
static void push_options(lua_State *L, int index) {
  static const struct {
    char name[sizeof "connect_timeout"];
    int type;
  } known[] = {{"prefix", LUA_TSTRING},         {"ca_file", LUA_TSTRING},     {"ca_path", LUA_TSTRING},
               {"pinned_key", LUA_TSTRING},     {"client_cert", LUA_TSTRING}, {"client_key", LUA_TSTRING},
               {"proxy", LUA_TSTRING},          {"interface", LUA_TSTRING},   {"verify", LUA_TBOOLEAN},
               {"connect_timeout", LUA_TNUMBER}};
  lua_createtable(L, 1, 2); /* most have one secret, a prefix and a time-out */
  for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
    int type = lua_getfield(L, index, known[i].name);
    if (type != known[i].type && type != LUA_TNIL)
      luaL_error(L, "option '%s' must be a %s", known[i].name, lua_typename(L, known[i].type));
    if (type == LUA_TNIL)
      lua_pop(L, 1);
    else
      lua_setfield(L, -2, known[i].name);
  }
  lua_Integer count = luaL_len(L, index), kept = 0;
  for (lua_Integer i = 1; i <= count; i++) {
    if (lua_geti(L, index, i) == LUA_TSTRING && lua_rawlen(L, -1) > 0)
      lua_rawseti(L, -2, ++kept);
    else
      lua_pop(L, 1);
  }
}

/*** A client of one server.
@function client
@tparam userdata reactor
@tparam table options copied, and read anew for every connection handle: `prefix` (string: where every URL begins),
`connect_timeout` (milliseconds), `verify` (boolean, true when absent), and the strings `ca_file`, `ca_path`,
`pinned_key`, `client_cert`, `client_key`, `proxy`, `interface`, each absent or not empty; as a list, the strings that
no text may show
@tparam integer max_response bytes
@tparam ?string user_agent
@treturn userdata the client; raises when libcurl does not know an option that is set */
static int client_new(lua_State *L) {
  struct tb_reactor *reactor = tb_check_reactor(L, 1);
  luaL_checktype(L, 2, LUA_TTABLE);
  lua_getfield(L, 2, "prefix");
  luaL_argcheck(L, lua_type(L, -1) == LUA_TSTRING, 2, "'prefix' missing");
  lua_Integer max_response = luaL_checkinteger(L, 3);
  luaL_argcheck(L, max_response > 0 && (lua_Unsigned)max_response <= SIZE_MAX / 2, 3, "not a number of bytes");
  const char *user_agent = luaL_optstring(L, 4, NULL);
  lua_settop(L, 4);
  push_options(L, 2);
  lua_replace(L, 2);
  struct tb_client *client = tb_new(L, TB_CLIENT, sizeof *client, VALUES);
  client->max_response = (size_t)max_response;
  lua_pushvalue(L, 1);
  lua_setiuservalue(L, -2, REACTOR_VALUE);
  lua_pushvalue(L, 2);
  lua_setiuservalue(L, -2, OPTIONS_VALUE);
  client->receive_buffer = is_https(L, 5) ? HTTP2_RECEIVE_BUFFER : SMALL_RECEIVE_BUFFER;
  /* "Expect:" spares a large post a round trip and a wait, "Accept:" every request a header that says nothing. The user
   * agent goes as one more, which curl copies once where it would copy it twice as the option of that name. */
  static struct curl_slist no_accept = {(char *)"Accept:", NULL};
  if (user_agent != NULL) {
    char *header = (char *)lua_pushfstring(L, "User-Agent: %s", user_agent);
    client->user_agent = (struct curl_slist){header, &no_accept};
    lua_setiuservalue(L, 5, USER_AGENT_VALUE);
  }
  client->json = (struct curl_slist){(char *)"Content-Type: application/json",
                                     user_agent != NULL ? &client->user_agent : &no_accept};
  client->no_expect = (struct curl_slist){(char *)"Expect:", &client->json};
  client->reactor = tb_check_reactor(L, 1); /* once more: a finalizer may have closed it */
  client->link = &reactor->clients;
  client->next = reactor->clients;
  if (client->next != NULL) client->next->link = &client->next;
  reactor->clients = client;
  client->pool = tb_pool_join(reactor);
  if (client->pool == NULL) return luaL_error(L, "not enough memory");
  struct tb_handle *first = new_handle(client);
  if (first == NULL) return luaL_error(L, "not enough memory");
  tb_client_give(first); /* it has an owner before anything can raise */
  configure(L, 5, first->easy);
  return 1;
}

void tb_client_push_redacted(lua_State *L, int index, const char *text, size_t length) {
  index = lua_absindex(L, index);
  lua_pushlstring(L, text, length);
  lua_getiuservalue(L, index, OPTIONS_VALUE);
  int secrets = lua_gettop(L);
  lua_Integer count = luaL_len(L, secrets);
  for (lua_Integer i = 1; i <= count; i++) {
    size_t secret_length, left;
    lua_geti(L, secrets, i);
    const char *secret = lua_tolstring(L, -1, &secret_length);
    const char *rest = lua_tolstring(L, secrets - 1, &left);
    luaL_Buffer clean;
    luaL_buffinit(L, &clean);
    while (left > 0) {
      size_t found = tb_secret_spelled(rest, left, secret, secret_length);
      if (found > 0)
        luaL_addstring(&clean, "***");
      else
        luaL_addchar(&clean, *rest);
      rest += found > 0 ? found : 1;
      left -= found > 0 ? found : 1;
    }
    luaL_pushresult(&clean);
    lua_replace(L, secrets - 1);
    lua_settop(L, secrets);
  }
  lua_pop(L, 1);
}

/*** Strikes the client's secrets out of a text.
@function client:redact
@tparam string text
@treturn string the text with `***` in the place of each */
static int client_redact(lua_State *L) {
  tb_check(L, 1, TB_CLIENT, sizeof(struct tb_client));
  size_t length;
  const char *text = luaL_checklstring(L, 2, &length);
  tb_client_push_redacted(L, 1, text, length);
  return 1;
}

/*** Ends what is in flight (as `CLOSED`) and gives the handles back. Idempotent.
@function client:close */
static int client_close(lua_State *L) {
  tb_client_close(tb_check(L, 1, TB_CLIENT, sizeof(struct tb_client)));
  return 0;
}

static int client_tostring(lua_State *L) {
  const struct tb_client *client = tb_check(L, 1, TB_CLIENT, sizeof(struct tb_client));
  lua_pushfstring(L, client->reactor == NULL ? "thingsboard.client (closed)" : "thingsboard.client (%p)",
                  (const void *)client);
  return 1;
}

static const luaL_Reg methods[] = {
    {"start", tb_exchange_start}, {"redact", client_redact}, {"close", client_close}, {NULL, NULL}};

static const luaL_Reg metamethods[] = {
    {"__gc", client_close}, {"__close", client_close}, {"__tostring", client_tostring}, {NULL, NULL}};

void tb_open_client(lua_State *L) {
  tb_new_type(L, TB_CLIENT, methods, metamethods);
  lua_pushcfunction(L, client_new);
  lua_setfield(L, -2, "client");
}
