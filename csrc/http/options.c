#include "http/options.h"

#include "base/memory.h"
#include "http/curl_error.h"

#include <lauxlib.h>
#include <stdint.h>
#include <strings.h>

enum {
  /* A peer that has vanished acknowledges neither data (see connection.c) nor, while the connection is idle, probes.
   * Without probes only a time-out would end a poll, and over HTTP/2 the next poll would use the same connection. */
  PROBE_AFTER_SECONDS = 10,
  PROBE_EVERY_SECONDS = 2,
};

/* Every option of a connection: a new one needs a line here and one in lua/thingsboard/options.lua. Strings and
 * numbers go to libcurl unchanged, a boolean as 0 or 1; an absent option keeps libcurl's default, or the one that
 * tb_options_apply sets. */
static const struct {
  char name[sizeof "client_key_password"];
  signed char type;
  CURLoption option; /* 0: not libcurl's */
} known[] = {
    {"prefix", LUA_TSTRING, 0}, /* what every URL begins with */
    {"connect_timeout", LUA_TNUMBER, CURLOPT_CONNECTTIMEOUT_MS},
    {"verify", LUA_TBOOLEAN, CURLOPT_SSL_VERIFYPEER},
    {"ca_file", LUA_TSTRING, CURLOPT_CAINFO},
    {"ca_path", LUA_TSTRING, CURLOPT_CAPATH},
    {"pinned_key", LUA_TSTRING, CURLOPT_PINNEDPUBLICKEY},
    {"client_cert", LUA_TSTRING, CURLOPT_SSLCERT},
    {"client_key", LUA_TSTRING, CURLOPT_SSLKEY},
    {"client_key_password", LUA_TSTRING, CURLOPT_KEYPASSWD},
    {"proxy", LUA_TSTRING, CURLOPT_PROXY},
    {"interface", LUA_TSTRING, CURLOPT_INTERFACE},
};

enum { KNOWN = sizeof known / sizeof *known };

void tb_options_copy(lua_State *L, int index) {
  lua_createtable(L, 1, 2); /* most have one secret, a prefix and a time-out */
  for (size_t i = 0; i < KNOWN; i++) {
    int type = lua_getfield(L, index, known[i].name);
    if (type == LUA_TNIL) {
      lua_pop(L, 1);
      continue;
    }
    if (type != known[i].type) luaL_error(L, "option '%s' must be a %s", known[i].name, lua_typename(L, known[i].type));
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

static bool has(lua_State *L, int options, const char *name) {
  bool is_there = lua_getfield(L, options, name) != LUA_TNIL;
  lua_pop(L, 1);
  return is_there;
}

bool tb_options_is_https(lua_State *L, int options) {
  lua_getfield(L, options, "prefix");
  bool https = strncasecmp(lua_tostring(L, -1), "https", 5) == 0;
  lua_pop(L, 1);
  return https;
}

/* Sets what is the same for all clients. */
static CURLcode apply_constants(CURL *easy, bool https) {
  static const struct {
    CURLoption option;
    char text[sizeof "http,https"];
  } texts[] = {
#if LIBCURL_VERSION_NUM >= 0x075500
    {CURLOPT_PROTOCOLS_STR, "http,https"},
#endif
    {CURLOPT_PROXY, ""}, /* not absent: libcurl would read the environment */
    {CURLOPT_NOPROXY, ""}
  };
  static const struct {
    CURLoption option;
    int value;
  } numbers[] = {
#if LIBCURL_VERSION_NUM < 0x075500
    {CURLOPT_PROTOCOLS, CURLPROTO_HTTP | CURLPROTO_HTTPS},
#endif
    {CURLOPT_NOSIGNAL, 1},
    {CURLOPT_SUPPRESS_CONNECT_HEADERS, 1},
    {CURLOPT_TCP_KEEPALIVE, 1},
    {CURLOPT_TCP_KEEPIDLE, PROBE_AFTER_SECONDS},
    {CURLOPT_TCP_KEEPINTVL, PROBE_EVERY_SECONDS},
    {CURLOPT_MAXAGE_CONN, TB_IDLE_CONNECTION_SECONDS},
#if LIBCURL_VERSION_NUM >= 0x075700
    {CURLOPT_QUICK_EXIT, 1} /* do not wait for the resolver's thread when an exchange ends: it would stop all others */
#endif
  };
  CURLcode code = CURLE_OK;
  for (size_t i = 0; i < sizeof texts / sizeof *texts && code == CURLE_OK; i++)
    code = curl_easy_setopt(easy, texts[i].option, texts[i].text);
  for (size_t i = 0; i < sizeof numbers / sizeof *numbers && code == CURLE_OK; i++)
    code = curl_easy_setopt(easy, numbers[i].option, (long)numbers[i].value);
  /* While the first connection is being made, a request waits until it is known whether HTTP/2 can share it. Without
   * TLS it would wait for a whole answer, perhaps a poll's. */
  curl_easy_setopt(easy, CURLOPT_PIPEWAIT, (long)https);
  curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2); /* fails in a libcurl without TLS */
  return code;
}

/* libcurl has default files of authorities, which every connection copies. Where the client names authorities, they
 * replace both defaults; where it cannot need them, they only take memory. */
static void drop_defaults(lua_State *L, int options, CURL *easy) {
  bool file = has(L, options, "ca_file"), path = has(L, options, "ca_path"), proxy = has(L, options, "proxy");
  bool unused = !proxy && !tb_options_is_https(L, options);
  if (!file && (path || unused)) curl_easy_setopt(easy, CURLOPT_CAINFO, NULL);
  if (!path && (file || unused)) curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
  if (proxy) return;
  curl_easy_setopt(easy, CURLOPT_PROXY_CAINFO, NULL);
  curl_easy_setopt(easy, CURLOPT_PROXY_CAPATH, NULL);
}

/* Rounds down; what exceeds a `long` of 32 bits becomes the largest one. */
static long to_long(lua_Number number) {
  return number >= 0 && number < INT32_MAX ? (long)number : INT32_MAX;
}

void tb_options_apply(lua_State *L, int options, CURL *easy) {
  CURLcode code = apply_constants(easy, tb_options_is_https(L, options));
  if (code != CURLE_OK) luaL_error(L, "cannot set up a request: %s", tb_curl_error_text((int)code));
  /* Any password keeps the TLS library from asking for one on the terminal, which would stop all tasks. */
  if (has(L, options, "client_cert")) curl_easy_setopt(easy, CURLOPT_KEYPASSWD, "");
  for (size_t i = 0; i < KNOWN; i++) {
    int type = lua_getfield(L, options, known[i].name);
    if (known[i].option == 0 || type == LUA_TNIL)
      code = CURLE_OK;
    else if (type == LUA_TSTRING)
      code = curl_easy_setopt(easy, known[i].option, lua_tostring(L, -1));
    else if (type == LUA_TNUMBER)
      code = curl_easy_setopt(easy, known[i].option, to_long(lua_tonumber(L, -1)));
    else
      code = curl_easy_setopt(easy, known[i].option, (long)lua_toboolean(L, -1));
    if (code == CURLE_OUT_OF_MEMORY) luaL_error(L, TB_NO_MEMORY);
    if (code != CURLE_OK) luaL_error(L, "this libcurl does not support option '%s'", known[i].name);
    if (known[i].option == CURLOPT_SSL_VERIFYPEER && type == LUA_TBOOLEAN && !lua_toboolean(L, -1))
      curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 0L);
    lua_pop(L, 1);
  }
  drop_defaults(L, options, easy);
}
