/*** What the command and the service need from the operating system: child processes, signals, modes of files.
@module thingsboard.process
*/

#include "process/child.h"
#include "process/file.h"
#include "process/poller.h"

#include <dlfcn.h>
#include <lauxlib.h>

__attribute__((visibility("default"))) int luaopen_thingsboard_process(lua_State *L); /* all else is hidden */

/*** Loads a module's library so that functions of the libraries that it needs are bound when they are first called.
`require` binds all of them at once, most of which a short process never calls; it leaves those that are loaded as they
are. If the library cannot be loaded, `require` will say why.
@function load_lazily
@tparam string path */
static int load_lazily(lua_State *L) {
  (void)dlopen(luaL_checkstring(L, 1), RTLD_LAZY); /* and kept until the process ends */
  return 0;
}

int luaopen_thingsboard_process(lua_State *L) {
  lua_newtable(L);
  lua_pushcfunction(L, load_lazily);
  lua_setfield(L, -2, "load_lazily");
  tb_open_poller(L);
  tb_open_child(L);
  tb_open_files(L);
  return 1;
}
