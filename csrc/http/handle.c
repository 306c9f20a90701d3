#include "http/handle.h"

#include "base/memory.h"
#include "http/connection.h"
#include "http/options.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

static struct tb_handle *new_handle(lua_State *L, struct tb_client *client) {
  struct tb_handle *handle = calloc(1, sizeof *handle);
  CURL *easy = curl_easy_init();
  if (handle == NULL || easy == NULL) {
    free(handle);
    curl_easy_cleanup(easy);
    luaL_error(L, TB_NO_MEMORY);
    abort(); /* never reached: compilers do not know that luaL_error does not return */
  }
  handle->client = client;
  handle->easy = easy;
  handle->socket = CURL_SOCKET_BAD;
  curl_easy_setopt(handle->easy, CURLOPT_PRIVATE, (void *)handle);
  curl_easy_setopt(handle->easy, CURLOPT_SHARE, client->poller->share);
  curl_easy_setopt(handle->easy, CURLOPT_ERRORBUFFER, handle->error);
  tb_connection_configure(handle->easy, client->poller);
  return handle;
}

void tb_handle_free(struct tb_handle *handle) {
  if (handle == NULL) return;
  curl_easy_cleanup(handle->easy);
  curl_url_cleanup(handle->url);
  free(handle->path);
  free(handle);
}

struct tb_handle *tb_handle_of(CURL *easy) {
  char *handle = NULL;
  curl_easy_getinfo(easy, CURLINFO_PRIVATE, &handle);
  return (struct tb_handle *)(void *)handle;
}

static void configure(lua_State *L, int client, const struct tb_handle *handle) {
  lua_getiuservalue(L, client, TB_OPTIONS_VALUE);
  tb_options_apply(L, lua_gettop(L), handle->easy);
  lua_pop(L, 1);
}

static struct tb_handle *take_idle(struct tb_poller *poller, size_t at) {
  struct tb_handle *handle = poller->idle[at];
  poller->idle_count--;
  for (size_t i = at; i < poller->idle_count; i++) poller->idle[i] = poller->idle[i + 1];
  return handle;
}

void tb_handle_take(lua_State *L, int client, struct tb_handle **handle) {
  struct tb_client *owner = lua_touserdata(L, client);
  struct tb_poller *poller = owner->poller;
  if (poller == NULL) {
    luaL_error(L, "the device is closed"); /* by a finalizer */
    return;
  }
  for (size_t at = poller->idle_count; at-- > 0;) {
    if (poller->idle[at]->client != owner) continue;
    *handle = take_idle(poller, at);
    return;
  }
  *handle = new_handle(L, owner);
  configure(L, client, *handle);
}

void tb_handle_prepare(lua_State *L, int client) {
  struct tb_handle *handle = new_handle(L, lua_touserdata(L, client));
  tb_handle_give_back(handle); /* the poller owns it before configure raises */
  configure(L, client, handle);
}

void tb_handle_give_back(struct tb_handle *handle) {
  struct tb_poller *poller = handle->client->poller;
  if (poller->idle_count == TB_MAX_IDLE_HANDLES) tb_handle_free(take_idle(poller, 0));
  poller->idle[poller->idle_count++] = handle;
}

void tb_handle_free_idle(const struct tb_client *client) {
  for (size_t at = client->poller->idle_count; at-- > 0;)
    if (client->poller->idle[at]->client == client) tb_handle_free(take_idle(client->poller, at));
}

/* A URL that is used once, by a request that then waits, is kept in as little memory as can be; a URL that is used
 * again is parsed once, unless it has an address in brackets: releases of curl that are still in use forget the zone of
 * such an address, the "eth0" of [fe80::1%eth0], when they copy what was parsed. curl reports a URL that is malformed
 * when the exchange ends. */
void tb_handle_set_url(lua_State *L, int client, struct tb_handle *handle, const char *path) {
  bool again = handle->path != NULL && strcmp(handle->path, path) == 0;
  if (again && handle->url != NULL) return;
  lua_getiuservalue(L, client, TB_OPTIONS_VALUE);
  lua_getfield(L, -1, "prefix");
  const char *url = lua_pushfstring(L, "%s%s", lua_tostring(L, -1), path);
  bool ok;
  if (again && url[strcspn(url, "[")] == '\0') {
    handle->url = curl_url();
    CURLUcode code = handle->url == NULL ? CURLUE_OUT_OF_MEMORY : curl_url_set(handle->url, CURLUPART_URL, url, 0);
    if (code == CURLUE_OK) curl_easy_setopt(handle->easy, CURLOPT_CURLU, handle->url);
    ok = code != CURLUE_OUT_OF_MEMORY;
  } else {
    curl_easy_setopt(handle->easy, CURLOPT_CURLU, NULL);
    curl_url_cleanup(handle->url);
    handle->url = NULL;
    free(handle->path);
    handle->path = strdup(path);
    ok = handle->path != NULL && curl_easy_setopt(handle->easy, CURLOPT_URL, url) == CURLE_OK;
  }
  if (!ok) luaL_error(L, TB_NO_MEMORY);
  lua_pop(L, 3);
}
