/* The JSON of a request, as a userdata that every module of ours knows by the name of its type. */
#ifndef TB_BODY_H
#define TB_BODY_H

#include "base/buffer.h"

#include <lua.h>

#define TB_BODY "thingsboard.body"

struct tb_body {
  const char *type;
  struct tb_buffer buffer;
  bool open;
};

/* The body at the index, open; NULL when there is something else; raises when it was closed. */
struct tb_body *tb_test_body(lua_State *L, int index);

/* Adds its functions to the module's table, which is on the top of the stack. */
void tb_open_body(lua_State *L);

#endif
