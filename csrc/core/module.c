/*** The C floor of the thingsboard library: what the wire needs, and nothing of what the API means.
@module thingsboard.core
*/

#include "core/clock.h"
#include "core/file.h"
#include "digest/checksum.h"
#include "http/client.h"
#include "http/exchange.h"
#include "http/reactor.h"
#include "http/request_body.h"

#include <curl/curl.h>
#include <dlfcn.h>
#include <string.h>

/* A thread that still resolves a name when its exchange ends is left to itself (see client.c), and returns into
 * libcurl: which therefore stays when Lua unloads this module. */
static void keep_libcurl(void) {
  CURL *(*function)(void) = curl_easy_init;
  const void *address;
  Dl_info library;
  memcpy(&address, &function, sizeof address); /* ISO C has no cast for it */
  if (dladdr(address, &library) != 0) dlopen(library.dli_fname, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);
}

__attribute__((visibility("default"))) int luaopen_thingsboard_core(lua_State *L); /* all else is hidden */

int luaopen_thingsboard_core(lua_State *L) {
  keep_libcurl();
  lua_newtable(L);
  tb_open_clock(L);
  tb_open_body(L);
  tb_open_checksum(L);
  tb_open_file(L);
  tb_open_reactor(L);
  tb_open_client(L);
  tb_open_exchange(L);
  return 1;
}
