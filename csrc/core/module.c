/*** The C side of the thingsboard library: HTTP, JSON, checksums and files. It knows no endpoint of the API.
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
#include <signal.h>
#include <string.h>

/* An exchange may end while a thread of libcurl still resolves its name (see CURLOPT_QUICK_EXIT in options.c). The
 * thread returns into libcurl later, so libcurl must stay when Lua unloads this module. */
static void keep_libcurl(void) {
  CURL *(*function)(void) = curl_easy_init;
  const void *address;
  Dl_info library;
  memcpy(&address, &function, sizeof address); /* ISO C has no cast for it */
  if (dladdr(address, &library) != 0) dlopen(library.dli_fname, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);
}

/* A signal that ends the process by default does so no more: what has raised it fails instead. A handler of the
 * program's stays. */
static void ignore_signal(int number) {
  struct sigaction action;
  if (sigaction(number, NULL, &action) != 0 || action.sa_handler != SIG_DFL) return;
  action.sa_handler = SIG_IGN;
  sigaction(number, &action, NULL);
}

/*** The coroutine that runs, if it can be suspended.
@function suspendable
@treturn ?thread nil outside of coroutines, and below a C function that cannot yield */
static int core_suspendable(lua_State *L) {
  if (!lua_isyieldable(L)) return 0;
  lua_pushthread(L);
  return 1;
}

__attribute__((visibility("default"))) int luaopen_thingsboard_core(lua_State *L); /* all else is hidden */

int luaopen_thingsboard_core(lua_State *L) {
  keep_libcurl();
  ignore_signal(SIGPIPE); /* older releases of libcurl let TLS write to a connection that the peer has reset */
  ignore_signal(SIGXFSZ); /* a file that gets longer than the process may make it: the disk is full for it */
  lua_newtable(L);
  lua_pushcfunction(L, core_suspendable);
  lua_setfield(L, -2, "suspendable");
  tb_open_clock(L);
  tb_open_body(L);
  tb_open_checksum(L);
  tb_open_file(L);
  tb_open_reactor(L);
  tb_open_client(L);
  tb_open_exchange(L);
  return 1;
}
