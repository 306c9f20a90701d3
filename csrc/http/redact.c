#include "http/redact.h"

#include <ctype.h>
#include <lauxlib.h>
#include <stdbool.h>
#include <string.h>

/* The value of this many hexadecimal digits; -1 when they are not all hexadecimal. */
static int hexadecimal(const char *text, const char *end, int digits) {
  int number = 0;
  if (end - text < digits) return -1;
  for (int i = 0; i < digits; i++) {
    unsigned char digit = (unsigned char)text[i];
    if (!isxdigit(digit)) return -1;
    number = number << 4 | (isdigit(digit) ? digit - '0' : tolower(digit) - 'a' + 10);
  }
  return number;
}

/* Writes a character of 16 bits as UTF-8; returns its length in bytes. */
static size_t to_utf8(int code, char *bytes) {
  size_t count = code < 0x80 ? 1 : code < 0x800 ? 2 : 3;
  static const unsigned char firsts[] = {0, 0, 0xC0, 0xE0};
  for (size_t i = count; i-- > 1; code >>= 6) bytes[i] = (char)(0x80 | (code & 0x3F));
  bytes[0] = (char)(firsts[count] | code);
  return count;
}

/* Where the secret ends that the text begins with; NULL when it begins with something else. Within one secret either
 * every escape is decoded or none is. */
static const char *spelled(const char *text, const char *end, const char *secret, size_t left, bool percent,
                           bool json) {
  while (left > 0) {
    char bytes[3];
    size_t count = 1;
    int code;
    if (text == end) return NULL;
    if (percent && *text == '%' && (code = hexadecimal(text + 1, end, 2)) >= 0) {
      bytes[0] = (char)code;
      text += 3;
    } else if (json && *text == '\\' && end - text > 1) {
      if (text[1] == 'u' && (code = hexadecimal(text + 2, end, 4)) >= 0) {
        count = to_utf8(code, bytes);
        text += 6;
      } else {
        bytes[0] = text[1];
        text += 2;
      }
    } else {
      bytes[0] = *text++;
    }
    if (count > left || memcmp(secret, bytes, count) != 0) return NULL;
    secret += count;
    left -= count;
  }
  return text;
}

/* How many bytes of the text, from its beginning, spell the secret in one of the ways; 0 when none do. */
static size_t find_secret(const char *text, size_t length, const char *secret, size_t secret_length) {
  if (*text != *secret && *text != '%' && *text != '\\') return 0;
  for (int way = 0; way < 4; way++) {
    const char *end = spelled(text, text + length, secret, secret_length, way & 1, way & 2);
    if (end != NULL) return (size_t)(end - text);
  }
  return 0;
}

void tb_redact(lua_State *L, int secrets, const char *text, size_t length) {
  secrets = lua_absindex(L, secrets);
  lua_pushlstring(L, text, length);
  int result = lua_gettop(L);
  lua_Integer count = luaL_len(L, secrets);
  for (lua_Integer i = 1; i <= count; i++) {
    size_t secret_length, left;
    lua_geti(L, secrets, i);
    const char *secret = lua_tolstring(L, -1, &secret_length);
    const char *rest = lua_tolstring(L, result, &left);
    luaL_Buffer clean;
    luaL_buffinit(L, &clean);
    while (left > 0) {
      size_t found = find_secret(rest, left, secret, secret_length);
      if (found > 0)
        luaL_addstring(&clean, "***");
      else
        luaL_addchar(&clean, *rest);
      rest += found > 0 ? found : 1;
      left -= found > 0 ? found : 1;
    }
    luaL_pushresult(&clean);
    lua_replace(L, result);
    lua_settop(L, result);
  }
}
