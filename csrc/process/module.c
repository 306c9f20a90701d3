/*** What the command and the service need from the operating system: child processes, signals, modes of files.
@module thingsboard.process
*/

#include "process/child.h"
#include "process/file.h"
#include "process/poller.h"

__attribute__((visibility("default"))) int luaopen_thingsboard_process(lua_State *L); /* all else is hidden */

int luaopen_thingsboard_process(lua_State *L) {
  lua_newtable(L);
  tb_open_poller(L);
  tb_open_child(L);
  tb_open_files(L);
  return 1;
}
