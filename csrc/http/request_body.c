/*** Request bodies: JSON that is written from Lua values, and then sent.
@module thingsboard.core
*/
#include "http/request_body.h"

#include "base/buffer.h"
#include "base/userdata.h"
#include "json/writer.h"

#include <lauxlib.h>
#include <stdint.h>

static const char TYPE[] = TB_BODY;
enum { DEFAULT_LIMIT = 64 * 1024 * 1024, MOST_KEPT = 16 * 1024 };

static struct tb_body *check_body(lua_State *L) {
  return tb_check(L, 1, TYPE, sizeof(struct tb_body));
}

struct tb_body *tb_test_body(lua_State *L, int index) {
  struct tb_body *body = tb_test(L, index, TYPE, sizeof *body);
  if (body != NULL && !body->open) luaL_argerror(L, index, "the body was closed");
  return body;
}

/* The buffer of the body that is the method's first argument. */
static struct tb_buffer *check_buffer(lua_State *L) {
  struct tb_body *body = check_body(L);
  if (!body->open) luaL_argerror(L, 1, "the body was closed");
  return &body->buffer;
}

/*** A body with nothing in it.
@function body
@tparam[opt=67108864] integer limit how many bytes it may get
@treturn thingsboard.body
*/
static int new_body(lua_State *L) {
  lua_Integer limit = luaL_optinteger(L, 1, DEFAULT_LIMIT);
  luaL_argcheck(L, limit > 0, 1, "a limit in bytes above 0 expected");
  struct tb_body *body = tb_new(L, TYPE, sizeof *body, TB_JSON_USER_VALUES);
  tb_json_set_user_values(L);
  body->open = true;
  tb_buffer_init(&body->buffer, (lua_Unsigned)limit < SIZE_MAX / 2 ? (size_t)limit : SIZE_MAX / 2);
  return 1;
}

/* Pushes what was written, and empties the buffer, which keeps its memory unless it is much. */
static int take(lua_State *L, struct tb_buffer *buffer) {
  size_t length = buffer->length;
  buffer->length = 0; /* first: what follows may raise */
  lua_pushlstring(L, buffer->data == NULL ? "" : buffer->data, length);
  if (buffer->capacity > MOST_KEPT) tb_buffer_free(buffer);
  return 1;
}

/* What a writing method returns: the body or, to one that takes it, the text; or nil with the reason and the path that
 * lie on the stack. */
static int result(lua_State *L, bool written, struct tb_buffer *buffer) {
  if (written) {
    if (lua_toboolean(L, 5)) return take(L, buffer);
    lua_settop(L, 1);
    return 1;
  }
  lua_pushnil(L);
  lua_insert(L, -3);
  return 3;
}

static int write(lua_State *L, enum tb_json_form form) {
  struct tb_buffer *buffer = check_buffer(L);
  if (form == TB_JSON_VALUE)
    luaL_checkany(L, 2);
  else
    luaL_checktype(L, 2, LUA_TTABLE);
  lua_Integer level = luaL_optinteger(L, 4, 1);
  luaL_argcheck(L, level > 0 && level < 100, 4, "not a level of the stack");
  struct tb_json_call call = {.form = form, .what = luaL_optstring(L, 3, NULL), .level = (int)level};
  lua_settop(L, 5);
  return result(L, tb_json_write(L, 2, buffer, &call), buffer);
}

/*** Appends telemetry, such that the server stores what the script has.
A number keeps its kind: floats go with a point and without an exponent, rounded to 16 decimals where they have more.
Raises for what is no value at all: functions, keys that are no strings, arrays with holes.
@function body:telemetry
@tparam table value an object of values by key (strings, numbers, booleans, tables, null); an envelope
`{ts = milliseconds, values = object}` around one; or a list of both
@tparam ?string what in whose name a mistake raises
@tparam[opt=1] integer level at whose line, as `error` takes it
@tparam ?boolean taken whether to return what `take` then returns
@treturn thingsboard.body itself; or nil, the reason and the path of the key (a string, or nil when it is no single one)
for what cannot be stored: NaN, infinities, floats of 2^63 or more, numbers that 16 decimals would change or that would
become strings, strings that are not UTF-8 or contain NUL, keys that the server does not take, no value at all, a time
that can only be seconds, more than 250 levels, more bytes than the limit. Then nothing was appended.
*/
static int body_telemetry(lua_State *L) {
  return write(L, TB_JSON_TELEMETRY);
}

/*** Appends an object of telemetry or attribute values; as `telemetry`.
@function body:values
@tparam table record values by key
@tparam ?string what
@tparam[opt=1] integer level
@tparam ?boolean taken
@treturn thingsboard.body itself; or nil, the reason and the path
*/
static int body_values(lua_State *L) {
  return write(L, TB_JSON_RECORD);
}

/*** Appends any value, such as the parameters of an RPC or its answer. All digits of numbers go.
Raises for what is no JSON: functions, nil, keys of other kinds, arrays with holes.
@function body:value
@param value string, number, boolean, table or null
@tparam ?string what in whose name a mistake raises
@tparam[opt=1] integer level at whose line, as `error` takes it
@tparam ?boolean taken whether to return what `take` then returns
@treturn thingsboard.body itself; or nil, the reason and the path of the key (nil for the value itself) for what cannot
be sent: NaN, infinities, strings that are not UTF-8, more than 250 levels, more bytes than the limit. Then nothing
was appended.
*/
static int body_value(lua_State *L) {
  return write(L, TB_JSON_VALUE);
}

/*** What was written.
@function body:text
@treturn string
*/
static int body_text(lua_State *L) {
  const struct tb_buffer *buffer = check_buffer(L);
  lua_pushlstring(L, buffer->data == NULL ? "" : buffer->data, buffer->length);
  return 1;
}

/*** Takes what was written out of the body, which is empty then. Its memory stays for what is written next, unless it
is much.
@function body:take
@treturn string
*/
static int body_take(lua_State *L) {
  return take(L, check_buffer(L));
}

/*** Gives the memory back. Closing again does nothing; everything else raises from then on.
@function body:close
*/
static int body_close(lua_State *L) {
  struct tb_body *body = check_body(L);
  body->open = false;
  tb_buffer_free(&body->buffer);
  return 0;
}

/* The length in bytes. */
static int body_length(lua_State *L) {
  lua_pushinteger(L, (lua_Integer)check_buffer(L)->length);
  return 1;
}

static int body_tostring(lua_State *L) {
  const struct tb_body *body = check_body(L);
  if (body->open)
    lua_pushfstring(L, "%s (%I bytes)", TYPE, (LUAI_UACINT)body->buffer.length);
  else
    lua_pushfstring(L, "%s (closed)", TYPE);
  return 1;
}

/*** Marks a table as an array, which an empty one is not otherwise: `[]` instead of `{}`.
@function array
@tparam table list
@treturn table the same
*/
static int array(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 1);
  tb_json_push_array_mt(L);
  if (lua_getmetatable(L, 1)) {
    luaL_argcheck(L, lua_rawequal(L, -1, -2), 1, "the table has a metatable already");
    lua_pop(L, 1);
  }
  lua_setmetatable(L, 1);
  return 1;
}

static const luaL_Reg METHODS[] = {
    {"telemetry", body_telemetry}, {"values", body_values}, {"value", body_value}, {"text", body_text},
    {"take", body_take},           {"close", body_close},   {NULL, NULL},
};

static const luaL_Reg METAMETHODS[] = {
    {"__len", body_length}, {"__tostring", body_tostring}, {"__gc", body_close}, {"__close", body_close}, {NULL, NULL},
};

static const luaL_Reg FUNCTIONS[] = {{"body", new_body}, {"array", array}, {NULL, NULL}};

void tb_open_body(lua_State *L) {
  tb_json_open(L);
  tb_new_type(L, TYPE, METHODS, METAMETHODS);
  luaL_setfuncs(L, FUNCTIONS, 0);
}
