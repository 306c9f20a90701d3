/* Writes Lua values as JSON, such that ThingsBoard stores what the script has. */
#ifndef TB_WRITER_H
#define TB_WRITER_H

#include "base/buffer.h"

#include <lua.h>
#include <stdbool.h>

/* What is written: any value, such as the parameters of an RPC, whose numbers keep all their digits; an object of
 * telemetry or attribute values; or telemetry: such an object, an envelope {ts=, values=} around one, or a list of
 * both. */
enum tb_json_form { TB_JSON_VALUE, TB_JSON_RECORD, TB_JSON_TELEMETRY };

/* How a programmer's mistake is raised: `what` is the function that is named in the message (or NULL), `level` the
 * level of the stack whose line it shows. */
struct tb_json_call {
  enum tb_json_form form;
  const char *what;
  int level;
};

/* Call this when a module is opened. It makes the metatable of arrays, and lends the writer to other libraries. */
void tb_json_open(lua_State *L);

/* The user values of a userdata whose methods write JSON: the strings that writing needs. While tb_json_write runs, Lua
 * allocates nothing, so its collector runs no finalizer that might write to the same buffer. */
enum { TB_JSON_TS_VALUE = 1, TB_JSON_VALUES_VALUE, TB_JSON_USER_VALUES = TB_JSON_VALUES_VALUE };

/* Sets them, of the userdata on the top of the stack. */
void tb_json_set_user_values(lua_State *L);

/* Appends the value at `index`, in a method of a userdata that has these user values. Where a value cannot be sent
 * (NaN, a string that is not UTF-8), it returns false and pushes two values: the reason, and the path of the key, or
 * nil. A programmer's mistake raises. In both cases out->length is what it was. The buffer's limit must be above 0. */
bool tb_json_write(lua_State *L, int index, struct tb_buffer *out, const struct tb_json_call *call);

/* Pushes the metatable that marks a table as an array. */
void tb_json_push_array_mt(lua_State *L);

/* What a library that has no writer of its own writes with: a light userdata under this name in the registry. */
#define TB_JSON_WRITER "thingsboard.writer"

struct tb_json_writer {
  void (*set_user_values)(lua_State *L);
  bool (*write)(lua_State *L, int index, struct tb_buffer *out, const struct tb_json_call *call);
};

#endif
