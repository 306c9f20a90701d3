/* The body of every fuzz target: libFuzzer's bytes go to a function in Lua, and what that raises is a finding. The core
 * is linked in with sanitizers and libFuzzer's counters; lines of Lua count as code that was reached, too. */
#include <curl/curl.h>
#include <lauxlib.h>
#include <lualib.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int luaopen_thingsboard_core(lua_State *L);

static lua_State *state;

enum { COUNTERS = 1 << 15 };
__attribute__((section("__libfuzzer_extra_counters"))) static uint8_t counters[COUNTERS];

/* A line counts together with the one before it, so that the ways through the code differ. */
static void on_line(lua_State *L, lua_Debug *event) {
  static uintptr_t before;
  lua_getinfo(L, "Sl", event);
  uintptr_t here = ((uintptr_t)event->source >> 4) * 31 + (uintptr_t)event->currentline;
  counters[(here * 0x9E3779B1u ^ before) % COUNTERS]++;
  before = here * 0x9E3779B1u >> 1;
}

/* url(text): how libcurl reads a URL: its parts by name, or nil and libcurl's words. */
static int url(lua_State *L) {
  static const struct {
    const char *name;
    CURLUPart part;
  } parts[] = {{"scheme", CURLUPART_SCHEME}, {"user", CURLUPART_USER},        {"password", CURLUPART_PASSWORD},
               {"host", CURLUPART_HOST},     {"port", CURLUPART_PORT},        {"path", CURLUPART_PATH},
               {"query", CURLUPART_QUERY},   {"fragment", CURLUPART_FRAGMENT}};
  const char *text = luaL_checkstring(L, 1);
  CURLU *handle = curl_url();
  CURLUcode code = curl_url_set(handle, CURLUPART_URL, text, 0);
  lua_settop(L, 0);
  if (code == CURLUE_OK) {
    lua_newtable(L);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
      char *value = NULL;
      if (curl_url_get(handle, parts[i].part, &value, 0) != CURLUE_OK) continue;
      lua_pushstring(L, value);
      lua_setfield(L, 1, parts[i].name);
      curl_free(value);
    }
  } else {
    lua_pushnil(L);
    lua_pushstring(L, curl_url_strerror(code));
  }
  curl_url_cleanup(handle);
  return lua_gettop(L);
}

static int with_traceback(lua_State *L) {
  luaL_traceback(L, L, luaL_tolstring(L, 1, NULL), 1);
  return 1;
}

static void end(void) {
  lua_close(state); /* what is left after it is a leak */
}

int LLVMFuzzerInitialize(int *count, char ***arguments);

int LLVMFuzzerInitialize(int *count, char ***arguments) {
  (void)count;
  (void)arguments;
  state = luaL_newstate();
  luaL_openlibs(state);
  luaL_getsubtable(state, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
  lua_pushcfunction(state, luaopen_thingsboard_core);
  lua_setfield(state, -2, "thingsboard.core");
  lua_settop(state, 0);
  lua_register(state, "url", url);
  lua_pushcfunction(state, with_traceback);
  const char *target = getenv("TARGET");
  lua_pushfstring(state, "spec/fuzz/%s.lua", target != NULL ? target : "TARGET");
  if (luaL_loadfile(state, lua_tostring(state, -1)) != LUA_OK || lua_pcall(state, 0, 1, 1) != LUA_OK) {
    fprintf(stderr, "%s\n", lua_tostring(state, -1));
    exit(1);
  }
  atexit(end);
  return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
  lua_sethook(state, on_line, LUA_MASKLINE, 0);
  lua_pushvalue(state, -1); /* the target's function lies below, and the handler of errors at 1 */
  lua_pushlstring(state, (const char *)bytes, length);
  if (lua_pcall(state, 1, 0, 1) != LUA_OK) {
    fprintf(stderr, "%s\n", lua_tostring(state, -1));
    abort();
  }
  return 0;
}
