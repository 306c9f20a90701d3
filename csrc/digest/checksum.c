/*** Checksums of packages, fed piece by piece.
@module thingsboard.core
*/
#include "digest/checksum.h"

#include "base/userdata.h"
#include "digest/murmur3.h"
#ifdef TB_MBEDTLS
#include "digest/mbedtls.h"
#else
#include "digest/openssl.h"
#endif

#include <lauxlib.h>
#include <string.h>
#include <zlib.h>

static const char TYPE[] = "thingsboard.checksum";

static const char *const NAMES[] = {"MD5", "SHA256", "SHA384", "SHA512", "CRC32", "MURMUR3_32", "MURMUR3_128", NULL};
enum { MAX_BYTES = 64 }; /* of SHA512 */
enum algorithm { MD5, SHA256, SHA384, SHA512, CRC32, MURMUR3_32, MURMUR3_128 };

struct tb_checksum {
  const char *type;
  enum algorithm algorithm;
  bool open;
  tb_digest digest; /* of MD5 and the SHAs */
  uLong crc;
  struct tb_murmur3 murmur;
};

bool tb_checksum_update(struct tb_checksum *checksum, const void *bytes, size_t count) {
  if (!checksum->open) return false;
  if (count == 0) return true; /* zlib takes NULL for a new beginning */
  switch (checksum->algorithm) {
  case CRC32:
    checksum->crc = crc32_z(checksum->crc, bytes, count);
    return true;
  case MURMUR3_32:
    tb_murmur3_32_update(&checksum->murmur, bytes, count);
    return true;
  case MURMUR3_128:
    tb_murmur3_128_update(&checksum->murmur, bytes, count);
    return true;
  default:
    return tb_digest_update(&checksum->digest, bytes, count);
  }
}

struct tb_checksum *tb_test_checksum(lua_State *L, int index) {
  struct tb_checksum *checksum = tb_test(L, index, TYPE, sizeof *checksum);
  if (checksum != NULL && !checksum->open) luaL_argerror(L, index, "the checksum was closed");
  return checksum;
}

/* The checksum that a method is called for, open or not. */
static struct tb_checksum *check_any(lua_State *L) {
  return tb_check(L, 1, TYPE, sizeof(struct tb_checksum));
}

static struct tb_checksum *check_open(lua_State *L) {
  check_any(L);
  return tb_test_checksum(L, 1);
}

/* Like luaL_checkoption, but the error lists the algorithms. */
static enum algorithm check_algorithm(lua_State *L, int index) {
  size_t length;
  const char *name = luaL_checklstring(L, index, &length);
  for (int i = 0; NAMES[i] != NULL; i++)
    if (length == strlen(NAMES[i]) && memcmp(name, NAMES[i], length) == 0) return (enum algorithm)i;
  luaL_Buffer message;
  luaL_buffinit(L, &message);
  luaL_addstring(&message, "one of");
  for (int i = 0; NAMES[i] != NULL; i++) {
    luaL_addstring(&message, i == 0 ? " " : ", ");
    luaL_addstring(&message, NAMES[i]);
  }
  luaL_addstring(&message, " expected");
  luaL_pushresult(&message);
  luaL_argerror(L, index, lua_tostring(L, -1));
  return MD5;
}

/*** A new checksum. Raises when the crypto library does not have the algorithm: in FIPS mode there is no MD5.
@function checksum
@tparam string algorithm MD5, SHA256, SHA384, SHA512, CRC32, MURMUR3_32 or MURMUR3_128
@treturn thingsboard.checksum
*/
static int new_checksum(lua_State *L) {
  enum algorithm algorithm = check_algorithm(L, 1);
  struct tb_checksum *checksum = tb_new(L, TYPE, sizeof *checksum, 0);
  checksum->algorithm = algorithm;
  checksum->open = true;
  if (algorithm <= SHA512 && !tb_digest_start(&checksum->digest, NAMES[algorithm]))
    return luaL_error(L, "%s is not available: the crypto library refuses it", NAMES[algorithm]);
  return 1;
}

/*** Adds bytes.
@function checksum:update
@tparam string bytes
@treturn thingsboard.checksum itself
*/
static int checksum_update(lua_State *L) {
  struct tb_checksum *checksum = check_open(L);
  size_t count;
  const char *bytes = luaL_checklstring(L, 2, &count);
  if (!tb_checksum_update(checksum, bytes, count))
    return luaL_error(L, "%s: the crypto library failed", NAMES[checksum->algorithm]);
  lua_settop(L, 1);
  return 1;
}

/* Writes the checksum of the bytes so far. Returns its length, 0 on failure. */
static size_t take_result(const struct tb_checksum *checksum, unsigned char *out) {
  switch (checksum->algorithm) {
  case CRC32:
    for (int i = 0; i < 4; i++) out[i] = (unsigned char)(checksum->crc >> (8 * i) & 0xFF);
    return 4;
  case MURMUR3_32:
    tb_murmur3_32_result(&checksum->murmur, out);
    return 4;
  case MURMUR3_128:
    tb_murmur3_128_result(&checksum->murmur, out);
    return 16;
  default:
    return tb_digest_result(&checksum->digest, NAMES[checksum->algorithm], out);
  }
}

/*** The checksum of the bytes so far, as ThingsBoard writes it. More can be added afterwards.
@function checksum:hex
@treturn string lowercase, of the algorithm's full width
*/
static int checksum_hex(lua_State *L) {
  static const char DIGITS[] = "0123456789abcdef";
  const struct tb_checksum *checksum = check_open(L);
  unsigned char bytes[MAX_BYTES];
  char text[2 * MAX_BYTES];
  size_t length = take_result(checksum, bytes);
  if (length == 0) return luaL_error(L, "%s: the crypto library failed", NAMES[checksum->algorithm]);
  for (size_t i = 0; i < length; i++) {
    text[2 * i] = DIGITS[bytes[i] >> 4];
    text[2 * i + 1] = DIGITS[bytes[i] & 15];
  }
  lua_pushlstring(L, text, 2 * length);
  return 1;
}

/*** Frees what it holds. Idempotent; all other methods raise from then on.
@function checksum:close
*/
static int checksum_close(lua_State *L) {
  struct tb_checksum *checksum = check_any(L);
  checksum->open = false;
  tb_digest_end(&checksum->digest);
  return 0;
}

static int checksum_tostring(lua_State *L) {
  const struct tb_checksum *checksum = check_any(L);
  lua_pushfstring(L, "%s (%s%s)", TYPE, NAMES[checksum->algorithm], checksum->open ? "" : ", closed");
  return 1;
}

static const luaL_Reg METHODS[] = {
    {"update", checksum_update},
    {"hex", checksum_hex},
    {"close", checksum_close},
    {NULL, NULL},
};

static const luaL_Reg METAMETHODS[] = {
    {"__tostring", checksum_tostring},
    {"__gc", checksum_close},
    {"__close", checksum_close},
    {NULL, NULL},
};

static const luaL_Reg FUNCTIONS[] = {{"checksum", new_checksum}, {NULL, NULL}};

void tb_open_checksum(lua_State *L) {
  tb_new_type(L, TYPE, METHODS, METAMETHODS);
  luaL_setfuncs(L, FUNCTIONS, 0);
}
