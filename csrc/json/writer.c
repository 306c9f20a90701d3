#include "json/writer.h"

#include "base/memory.h"
#include "json/number.h"

#include <assert.h>
#include <lauxlib.h>
#include <stdint.h>
#include <string.h>

static_assert(sizeof(lua_Integer) == sizeof(int64_t) && sizeof(lua_Number) == sizeof(double), "64-bit Lua numbers");

enum { MOST_LEVELS = 250, MOST_KEY_UNITS = 255, FIRST_BYTES = 512 };

/* A timestamp below this, taken for milliseconds, lies in the first days of March 1973: it can only be seconds. */
#define SECONDS 100000000000

/* Timestamps from here on lie in the year 5138 or later: they can only be microseconds, or nanoseconds. */
#define MICROSECONDS 100000000000000
#define NANOSECONDS 100000000000000000

static const char TOO_DEEP[] = "more than 250 levels of tables (or one that contains itself) cannot be sent";

/* The text so far lies between out->length and `at`. It is added to the buffer only at the end: when writing fails
 * before, even by a Lua error, the buffer stays as it was. */
struct writer {
  lua_State *L;
  struct tb_buffer *out;
  const struct tb_json_call *call;
  int names;          /* stack index of the strings "ts" and "values" */
  lua_Integer record; /* its number in a list, or 0 */
  char *at;
  char *end; /* of the buffer's memory */
};

/* A table being written. Its current key is the string at stack index `key`, or the integer `index` when `key` is 0. */
struct level {
  const struct level *up;
  int depth;
  int key;
  lua_Integer index;
};

static void add_path(luaL_Buffer *path, lua_State *L, const struct level *level) {
  if (level == NULL) return;
  add_path(path, L, level->up);
  if (level->key == 0) {
    lua_pushfstring(L, "[%I]", (LUAI_UACINT)level->index);
  } else {
    if (level->up != NULL) luaL_addchar(path, '.');
    lua_pushvalue(L, level->key);
  }
  luaL_addvalue(path);
}

/* Pushes the path of the value, or nil for the outermost. */
static void push_path(lua_State *L, const struct level *level) {
  if (level == NULL) {
    lua_pushnil(L);
    return;
  }
  luaL_Buffer path;
  luaL_buffinit(L, &path);
  add_path(&path, L, level);
  luaL_pushresult(&path);
}

/* Pushes "record n: path: reason", without the parts that do not apply, and the path. Always false. */
static bool refuse(struct writer *w, const struct level *level, const char *reason) {
  lua_State *L = w->L;
  push_path(L, level);
  int path = lua_gettop(L);
  if (w->record > 0) lua_pushfstring(L, "record %I: ", (LUAI_UACINT)w->record);
  if (level != NULL) {
    lua_pushvalue(L, path);
    lua_pushliteral(L, ": ");
  }
  lua_pushstring(L, reason);
  lua_concat(L, lua_gettop(L) - path);
  lua_insert(L, path);
  return false;
}

/* Raises for a programmer's mistake; never returns, whatever its type says. */
static bool mistake(struct writer *w, const struct level *level, const char *reason) {
  lua_State *L = w->L;
  refuse(w, level, reason);
  lua_pop(L, 1);
  luaL_where(L, w->call->level);
  lua_insert(L, -2);
  lua_pushfstring(L, w->call->what != NULL ? "%s: " : "", w->call->what);
  lua_insert(L, -2);
  lua_concat(L, 3);
  return lua_error(L) != 0;
}

static bool grow(struct writer *w, size_t wanted) {
  struct tb_buffer *out = w->out;
  size_t pending = (size_t)(w->at - out->data) - out->length;
  if (tb_buffer_reserve(out, pending + wanted)) {
    w->at = out->data + out->length + pending;
    w->end = out->data + out->capacity;
    return true;
  }
  if (wanted <= out->limit - out->length - pending) luaL_error(w->L, TB_NO_MEMORY);
  lua_pushfstring(w->L, "larger than the limit of %I bytes", (LUAI_UACINT)out->limit);
  return refuse(w, NULL, lua_tostring(w->L, -1));
}

/* Room for `wanted` more bytes at w->at. A text has less than SIZE_MAX / 2 bytes, so the few more cannot overflow. */
static inline bool room(struct writer *w, size_t wanted) {
  return wanted <= (size_t)(w->end - w->at) || grow(w, wanted);
}

static inline bool put(struct writer *w, const char *text, size_t length) {
  if (!room(w, length)) return false;
  memcpy(w->at, text, length);
  w->at += length;
  return true;
}

static inline bool put_byte(struct writer *w, char byte) {
  if (!room(w, 1)) return false;
  *w->at++ = byte;
  return true;
}

/* 0: written unchanged. 'u' and other letters: written as that escape. 'x': begins a longer character, or an invalid
 * one.
 */
static const char CLASSES[256] = {
    'u', 'u', 'u', 'u', 'u', 'u', 'u', 'u', 'b', 't', 'n', 'u', 'f',  'r', 'u', 'u', /* 0x00 */
    'u', 'u', 'u', 'u', 'u', 'u', 'u', 'u', 'u', 'u', 'u', 'u', 'u',  'u', 'u', 'u', /* 0x10 */
    0,   0,   '"', 0,   0,   0,   0,   0,   0,   0,   0,   0,   0,    0,   0,   0,   /* 0x20 */
    0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,    0,   0,   0,   /* 0x30 */
    0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,    0,   0,   0,   /* 0x40 */
    0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   '\\', 0,   0,   0,   /* 0x50 */
    0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,    0,   0,   0,   /* 0x60 */
    0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,    0,   0,   0,   /* 0x70 */
    'x', 'x', 'x', 'x', 'x', 'x', 'x', 'x', 'x', 'x', 'x', 'x', 'x',  'x', 'x', 'x', /* 0x80 */
    'x', 'x', 'x', 'x', 'x', 'x', 'x', 'x', 'x', 'x', 'x', 'x', 'x',  'x', 'x', 'x', /* 0x90 */
    'x', 'x', 'x', 'x', 'x', 'x', 'x', 'x', 'x', 'x', 'x', 'x', 'x',  'x', 'x', 'x', /* 0xA0 */
    'x', 'x', 'x', 'x', 'x', 'x', 'x', 'x', 'x', 'x', 'x', 'x', 'x',  'x', 'x', 'x', /* 0xB0 */
    'x', 'x', 'x', 'x', 'x', 'x', 'x', 'x', 'x', 'x', 'x', 'x', 'x',  'x', 'x', 'x', /* 0xC0 */
    'x', 'x', 'x', 'x', 'x', 'x', 'x', 'x', 'x', 'x', 'x', 'x', 'x',  'x', 'x', 'x', /* 0xD0 */
    'x', 'x', 'x', 'x', 'x', 'x', 'x', 'x', 'x', 'x', 'x', 'x', 'x',  'x', 'x', 'x', /* 0xE0 */
    'x', 'x', 'x', 'x', 'x', 'x', 'x', 'x', 'x', 'x', 'x', 'x', 'x',  'x', 'x', 'x', /* 0xF0 */
};

/* The bytes of the character beyond ASCII that `text` begins with; 0 when it is not valid UTF-8. */
static size_t utf8_length(const unsigned char *text, const unsigned char *end) {
  size_t left = (size_t)(end - text);
  unsigned lead = text[0];
  size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  if (lead < 0xC2 || lead > 0xF4 || left < length) return 0;
  /* The second byte also tells the overlong, the surrogates and what is beyond U+10FFFF. */
  unsigned lowest = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  unsigned highest = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  if (text[1] < lowest || text[1] > highest) return 0;
  for (size_t i = 2; i < length; i++)
    if ((text[i] & 0xC0) != 0x80) return 0;
  return length;
}

/* A Lua string: its last byte is followed by a NUL, which stops the scan like any NUL inside. */
static bool write_string(struct writer *w, const struct level *level, const char *string, size_t length, bool top) {
  const unsigned char *text = (const unsigned char *)string, *end = text + length;
  if (!room(w, length + 2)) return false;
  *w->at++ = '"';
  for (;;) {
    char *at = w->at;
    while (!CLASSES[*text]) *at++ = (char)*text++;
    w->at = at;
    if (text == end) break;
    char class = CLASSES[*text];
    if (class == 'x') {
      size_t bytes = utf8_length(text, end);
      if (bytes == 0) return refuse(w, level, "a string that is not valid UTF-8 cannot be sent");
      memcpy(w->at, text, bytes);
      w->at += bytes;
      text += bytes;
      continue;
    }
    if (*text == 0 && top)
      return refuse(w, level, "a string with a NUL character cannot be sent: the server would drop or replace it");
    /* The escape in place of this byte, as many bytes as there are still, and the quote. */
    if (!room(w, (size_t)(end - text) + (class == 'u' ? 6 : 2))) return false;
    *w->at++ = '\\';
    *w->at++ = class;
    if (class == 'u') {
      static const char HEX[] = "0123456789abcdef";
      *w->at++ = '0';
      *w->at++ = '0';
      *w->at++ = HEX[*text >> 4];
      *w->at++ = HEX[*text & 15];
    }
    text++;
  }
  *w->at++ = '"';
  return true;
}

/* The number on the top of the stack. */
static bool write_number(struct writer *w, const struct level *level, bool top) {
  char text[TB_NUMBER_ROOM];
  size_t length = 0;
  if (lua_isinteger(w->L, -1)) {
    length = tb_number_integer(lua_tointeger(w->L, -1), text);
    return put(w, text, length);
  }
  double value = lua_tonumber(w->L, -1);
  switch (top ? tb_number_top(value, text, &length) : tb_number_nested(value, text, &length)) {
  case TB_NUMBER_OK:
    return put(w, text, length);
  case TB_NUMBER_NAN:
    return refuse(w, level, "NaN cannot be sent");
  case TB_NUMBER_INFINITE:
    return refuse(w, level, value > 0 ? "infinity cannot be sent" : "-infinity cannot be sent");
  case TB_NUMBER_HUGE:
    return refuse(w, level, "a float of 2^63 or beyond cannot be sent: the server would store it as a string");
  case TB_NUMBER_TINY:
    return refuse(
        w, level,
        "a number this small cannot be sent: the server keeps 16 decimals, which would change it by more than "
        "one part in two million (a smaller unit helps)");
  case TB_NUMBER_LAST16:
    break;
  }
  return refuse(w, level,
                "a number with one digit, at the 16th decimal, cannot be sent: the server would store it as a string "
                "(a smaller unit helps)");
}

/* Whether the server would take the text for a number, and store a different one. */
static bool is_changed(lua_State *L, const char *text, size_t length) {
  if ((*text != '-' && *text != '.' && (*text < '0' || *text > '9')) || memchr(text, '.', length) == NULL) return false;
  if (lua_stringtonumber(L, text) != length + 1) return false;
  double value = lua_tonumber(L, -1);
  lua_pop(L, 1);
  return !tb_number_text_is_kept(text, length, value);
}

static bool write_table(struct writer *w, const struct level *up);

/* Writes the value on the top of the stack; `top` when it is the value of a telemetry or attribute key. On success the
 * stack is what it was; otherwise the reason and the path are on its top. */
static bool write_value(struct writer *w, const struct level *level, bool top) {
  lua_State *L = w->L;
  switch (lua_type(L, -1)) {
  case LUA_TSTRING: {
    size_t length;
    const char *text = lua_tolstring(L, -1, &length);
    if (top && is_changed(L, text, length))
      return refuse(w, level,
                    "a string of these digits cannot be sent: the server would store another number "
                    "(fewer digits, or a character that is none, help)");
    return write_string(w, level, text, length, top);
  }
  case LUA_TNUMBER:
    return write_number(w, level, top);
  case LUA_TBOOLEAN:
    return lua_toboolean(L, -1) ? put(w, "true", 4) : put(w, "false", 5);
  case LUA_TTABLE:
    return write_table(w, level);
  case LUA_TNIL:
    return mistake(w, level, "nil cannot be sent (null can)");
  default:
    if (!lua_islightuserdata(L, -1) || lua_touserdata(L, -1) != NULL)
      return mistake(w, level, lua_pushfstring(L, "a %s cannot be sent", luaL_typename(L, -1)));
    return put(w, "null", 4);
  }
}

static bool wrong_keys(struct writer *w, const struct level *level, const char *found) {
  return mistake(
      w, level, lua_pushfstring(w->L, "a table's keys must be strings, or 1..n without holes; this one has %s", found));
}

/* Raises for the key at `index`, which does not go with the table's first. */
static bool wrong_key(struct writer *w, const struct level *level, int index, bool mixed) {
  lua_State *L = w->L;
  if (lua_type(L, index) != LUA_TNUMBER && lua_type(L, index) != LUA_TSTRING)
    return wrong_keys(w, level, lua_pushfstring(L, "a %s as a key", luaL_typename(L, index)));
  if (mixed) return wrong_keys(w, level, "both kinds");
  lua_pushvalue(L, index);
  return wrong_keys(w, level, lua_pushfstring(L, "the key %s", lua_tostring(L, -1)));
}

/* The length of the array on the top of the stack. Raises unless its keys are 1..n. */
static lua_Integer array_length(struct writer *w, const struct level *level) {
  lua_State *L = w->L;
  int table = lua_gettop(L);
  lua_Integer count = 0, highest = 0;
  for (lua_pushnil(L); lua_next(L, table); lua_pop(L, 1)) {
    if (lua_type(L, -2) == LUA_TSTRING) wrong_key(w, level, -2, count > 0);
    lua_Integer key = lua_isinteger(L, -2) ? lua_tointeger(L, -2) : 0;
    if (key < 1) wrong_key(w, level, -2, false);
    if (key > highest) highest = key;
    count++;
  }
  if (count != highest) wrong_keys(w, level, "holes (null would fill them)");
  return count;
}

/* The array on the top of the stack. */
static bool write_array(struct writer *w, const struct level *up, struct level *level) {
  lua_State *L = w->L;
  lua_Integer length = array_length(w, up);
  if (!put_byte(w, '[')) return false;
  for (level->index = 1; level->index <= length; level->index++) {
    if (level->index > 1 && !put_byte(w, ',')) return false;
    lua_rawgeti(L, -1, level->index);
    if (!write_value(w, level, false)) return false;
    lua_pop(L, 1);
  }
  return put_byte(w, ']');
}

/* An object whose table, first key and first value are on the top of the stack; leaves the table there. */
static bool write_object(struct writer *w, const struct level *up, struct level *level) {
  lua_State *L = w->L;
  char separator = '{';
  level->key = lua_gettop(L) - 1;
  do {
    if (lua_type(L, level->key) != LUA_TSTRING) return wrong_key(w, up, level->key, separator == ',');
    size_t length;
    const char *key = lua_tolstring(L, level->key, &length);
    if (!put_byte(w, separator)) return false;
    separator = ',';
    if (!write_string(w, level, key, length, false)) return false;
    if (!put_byte(w, ':')) return false;
    if (!write_value(w, level, false)) return false;
    lua_pop(L, 1);
  } while (lua_next(L, level->key - 1));
  return put_byte(w, '}');
}

static bool is_array(lua_State *L) {
  if (!lua_getmetatable(L, -1)) return false;
  tb_json_push_array_mt(L);
  bool same = lua_rawequal(L, -1, -2) != 0;
  lua_pop(L, 2);
  return same;
}

/* The table on the top of the stack. Only its own keys are read: no metamethod runs. */
static bool write_table(struct writer *w, const struct level *up) {
  lua_State *L = w->L;
  struct level level = {.up = up, .depth = up == NULL ? 1 : up->depth + 1};
  if (level.depth > MOST_LEVELS) return refuse(w, up, TOO_DEEP);
  luaL_checkstack(L, LUA_MINSTACK, "nested too deep");
  if (is_array(L)) return write_array(w, up, &level);
  lua_pushnil(L);
  if (!lua_next(L, -2)) return put(w, "{}", 2);
  if (lua_type(L, -2) != LUA_TNUMBER) return write_object(w, up, &level);
  lua_pop(L, 2);
  return write_array(w, up, &level);
}

/* Whether all of a key is what Java calls whitespace. */
static bool is_blank(const char *key, size_t length) {
  /* The spaces beyond ASCII that Java counts: not the ones that forbid a line break. */
  static const char BLANKS[][4] = {"\xE1\x9A\x80", "\xE2\x80\x80", "\xE2\x80\x81", "\xE2\x80\x82", "\xE2\x80\x83",
                                   "\xE2\x80\x84", "\xE2\x80\x85", "\xE2\x80\x86", "\xE2\x80\x88", "\xE2\x80\x89",
                                   "\xE2\x80\x8A", "\xE2\x80\xA8", "\xE2\x80\xA9", "\xE2\x81\x9F", "\xE3\x80\x80"};
  for (size_t at = 0; at < length;) {
    unsigned char byte = (unsigned char)key[at];
    if (byte == ' ' || (byte >= '\t' && byte <= '\r') || (byte >= 0x1C && byte <= 0x1F)) {
      at++;
      continue;
    }
    if (byte < 0x80) return false;
    size_t kind = 0, kinds = sizeof BLANKS / sizeof *BLANKS;
    while (kind < kinds && strncmp(key + at, BLANKS[kind], 3) != 0) kind++;
    if (kind == kinds) return false;
    at += 3;
  }
  return true;
}

/* Whether the key, which has no NUL, contains "{{" and then "}}". */
static bool has_template(const char *key) {
  const char *at = strstr(key, "{{");
  return at != NULL && strstr(at + 2, "}}") != NULL;
}

/* The UTF-16 units of valid UTF-8. */
static size_t utf16_units(const char *text, size_t length) {
  size_t units = 0;
  for (size_t i = 0; i < length; i++) {
    unsigned char byte = (unsigned char)text[i];
    units += (byte & 0xC0) != 0x80;
    units += byte >= 0xF0;
  }
  return units;
}

static bool write_record_key(struct writer *w, const struct level *level, const char *key, size_t length) {
  if (!write_string(w, level, key, length, true)) return false;
  /* The server answers 200 to all of these, and then drops every value that came with them. */
  if (is_blank(key, length)) return refuse(w, level, "a blank key cannot be sent: the server would drop the message");
  if (length > MOST_KEY_UNITS && utf16_units(key, length) > MOST_KEY_UNITS)
    return refuse(w, level, "a key of more than 255 characters cannot be sent: the server would drop the message");
  if (has_template(key))
    return refuse(w, level, "a key with {{...}} cannot be sent: the server would drop the message");
  return true;
}

static bool is_ts(const char *key, size_t length) {
  return length == 2 && memcmp(key, "ts", 2) == 0;
}

static bool is_values(const char *key, size_t length) {
  return length == 6 && memcmp(key, "values", 6) == 0;
}

/* The table on the top of the stack: an object of values. */
static bool write_record(struct writer *w) {
  lua_State *L = w->L;
  struct level level = {.depth = 1, .key = lua_gettop(L) + 1};
  bool any = false, ts = false, values = false;
  char separator = '{';
  lua_pushnil(L);
  while (lua_next(L, level.key - 1)) {
    if (lua_type(L, level.key) != LUA_TSTRING)
      return mistake(
          w, NULL, lua_pushfstring(L, "the keys of values must be strings; here is a %s", luaL_typename(L, level.key)));
    size_t length;
    const char *key = lua_tolstring(L, level.key, &length);
    ts = ts || is_ts(key, length);
    values = values || is_values(key, length);
    any = any || !lua_islightuserdata(L, -1); /* null is the only one that can be written */
    if (!put_byte(w, separator)) return false;
    separator = ',';
    if (!write_record_key(w, &level, key, length)) return false;
    if (!put_byte(w, ':')) return false;
    if (!write_value(w, &level, true)) return false;
    lua_pop(L, 1);
  }
  if (!any) return refuse(w, NULL, "nothing to send: the server drops a record without a value that is not null");
  if (ts && values) {
    lua_pushliteral(L, "ts");
    return refuse(
        w, &level,
        "the keys ts and values cannot be sent together: the server would take them for a time and its values");
  }
  return put_byte(w, '}');
}

/* Writes values at a time: on the stack are the envelope, its ts and its values. */
static bool write_envelope(struct writer *w) {
  lua_State *L = w->L;
  int values = lua_gettop(L), ts = values - 1, whole = 0;
  lua_Integer time = lua_type(L, ts) == LUA_TNUMBER ? lua_tointegerx(L, ts, &whole) : 0;
  if (!whole) return mistake(w, NULL, "ts must be an integer, milliseconds since 1970");
  if (!lua_istable(L, values)) return mistake(w, NULL, "values must be a table");
  for (lua_pushnil(L); lua_next(L, ts - 1); lua_pop(L, 1)) {
    size_t length = 0;
    const char *key = lua_type(L, -2) == LUA_TSTRING ? lua_tolstring(L, -2, &length) : NULL;
    if (!is_ts(key, length) && !is_values(key, length))
      return mistake(
          w, NULL,
          lua_pushfstring(L, "key '%s' beside ts and values: the server would drop it", luaL_tolstring(L, -2, NULL)));
  }
  if (time < SECONDS || time >= MICROSECONDS) {
    const char *unit = time < SECONDS ? "seconds" : time < NANOSECONDS ? "microseconds" : "nanoseconds";
    return refuse(
        w, NULL,
        lua_pushfstring(L, "ts = %I can only be %s; it must be milliseconds, as of tb.now()", (LUAI_UACINT)time, unit));
  }
  char digits[TB_NUMBER_ROOM];
  size_t length = tb_number_integer(time, digits);
  return put(w, "{\"ts\":", 6) && put(w, digits, length) && put(w, ",\"values\":", 10) && write_record(w) &&
         put_byte(w, '}');
}

/* Whether the record at the index has another key than the one on the top of the stack. */
static bool has_other_key(lua_State *L, int record) {
  int name = lua_gettop(L);
  lua_pushnil(L);
  while (lua_next(L, record)) {
    bool other = !lua_rawequal(L, -2, name);
    lua_pop(L, 1);
    if (other) lua_pop(L, 1);
    if (other) return true;
  }
  return false;
}

/* The value on the top of the stack: an object of values, or an envelope around one. */
static bool write_timed(struct writer *w) {
  lua_State *L = w->L;
  int record = lua_gettop(L);
  if (!lua_istable(L, record))
    return mistake(w, NULL, lua_pushfstring(L, "must be a table, got %s", luaL_typename(L, record)));
  lua_pushvalue(L, w->names);
  bool timed = lua_rawget(L, record) != LUA_TNIL;
  lua_pushvalue(L, w->names + 1);
  timed = lua_rawget(L, record) != LUA_TNIL && timed;
  if (!timed && lua_isnumber(L, record + 1)) { /* a string of digits, too */
    lua_pushvalue(L, w->names);
    if (has_other_key(L, record))
      return refuse(w, NULL,
                    "ts stands beside values, and the server would store it as one of them; write {ts = ..., values = "
                    "{...}}");
  }
  if (!timed) lua_settop(L, record);
  if (!(timed ? write_envelope(w) : write_record(w))) return false;
  lua_settop(L, record);
  return true;
}

/* The list of records on the top of the stack. */
static bool write_list(struct writer *w) {
  lua_State *L = w->L;
  lua_Integer count = (lua_Integer)lua_rawlen(L, -1);
  if (count == 0) return refuse(w, NULL, "nothing to send: the list is empty");
  for (w->record = 1; w->record <= count; w->record++) {
    lua_rawgeti(L, -1, w->record);
    if (!put_byte(w, w->record == 1 ? '[' : ',') || !write_timed(w)) return false;
    lua_pop(L, 1);
  }
  return put_byte(w, ']');
}

static bool write_telemetry(struct writer *w) {
  lua_State *L = w->L;
  if (!lua_istable(L, -1)) return mistake(w, NULL, "a table expected");
  bool list = lua_rawgeti(L, -1, 1) != LUA_TNIL;
  lua_pop(L, 1);
  return list || is_array(L) ? write_list(w) : write_timed(w);
}

bool tb_json_write(lua_State *L, int index, struct tb_buffer *out, const struct tb_json_call *call) {
  struct writer w = {.L = L, .out = out, .call = call};
  luaL_checkstack(L, LUA_MINSTACK, "nested too deep");
  lua_getiuservalue(L, 1, TB_JSON_TS_VALUE);
  lua_getiuservalue(L, 1, TB_JSON_VALUES_VALUE);
  w.names = lua_gettop(L) - 1;
  /* The first memory has room for an ordinary record. */
  if (out->data == NULL && !tb_buffer_reserve(out, out->limit < FIRST_BYTES ? out->limit : FIRST_BYTES))
    return luaL_error(L, TB_NO_MEMORY);
  lua_pushvalue(L, index);
  w.at = out->data + out->length;
  w.end = out->data + out->capacity;
  bool well = call->form == TB_JSON_VALUE    ? write_value(&w, NULL, false)
              : call->form == TB_JSON_RECORD ? write_record(&w)
                                             : write_telemetry(&w);
  if (well) out->length = (size_t)(w.at - out->data);
  return well;
}

void tb_json_set_user_values(lua_State *L) {
  lua_pushliteral(L, "ts");
  lua_setiuservalue(L, -2, TB_JSON_TS_VALUE);
  lua_pushliteral(L, "values");
  lua_setiuservalue(L, -2, TB_JSON_VALUES_VALUE);
}

static const char ARRAY[] = "thingsboard.array";

void tb_json_open(lua_State *L) {
  static struct tb_json_writer writer = {.set_user_values = tb_json_set_user_values, .write = tb_json_write};
  luaL_newmetatable(L, ARRAY);
  lua_pushlightuserdata(L, &writer);
  lua_setfield(L, LUA_REGISTRYINDEX, TB_JSON_WRITER);
  lua_pop(L, 1);
}

void tb_json_push_array_mt(lua_State *L) {
  luaL_getmetatable(L, ARRAY);
}
