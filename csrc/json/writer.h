/* Writing Lua values as JSON under the server's rules, and the userdata that holds what was written. */
#ifndef TB_JSON_H
#define TB_JSON_H

#include "base/buffer.h"

#include <lua.h>
#include <stdbool.h>

/* What is written: any value, such as the parameters of an RPC, whose numbers keep all their digits; an object of
 * telemetry or attribute values; or telemetry: such an object, an envelope {ts=, values=} around one, or a list of
 * both. */
enum tb_json_form { TB_JSON_VALUE, TB_JSON_RECORD, TB_JSON_TELEMETRY };

/* A programmer's mistake raises: in whose name (or NULL), and at the line of which level of the stack. */
struct tb_json_call {
  enum tb_json_form form;
  const char *what;
  int level;
};

/* Makes what writing takes, so that Lua makes nothing meanwhile: its collector would run finalizers, and one of them
 * might write to the same buffer. To be called when a module is opened. */
void tb_json_open(lua_State *L);

/* Appends the value at `index`. False for a value of the world that cannot be sent, with two values pushed: the reason,
 * and the path of the key at fault or nil. A programmer's mistake raises. In both cases out->length is what it was.
 * The buffer's limit must be above 0. */
bool tb_json_write(lua_State *L, int index, struct tb_buffer *out, const struct tb_json_call *call);

/* Makes the metatable that marks a table as an array, and leaves it on the stack; the same one every time. */
void tb_json_push_array_mt(lua_State *L);

#endif
