/*** Checksums, fed piece by piece.
@module thingsboard.core
*/
#include "digest/checksum.h"

#include "base/userdata.h"
#include "digest/murmur3.h"

#include <lauxlib.h>
#include <string.h>
#include <zlib.h>

#ifdef TB_MBEDTLS
#include <mbedtls/md.h>
typedef mbedtls_md_context_t digest_context;
#else
#include <openssl/evp.h>
typedef EVP_MD_CTX *digest_context;
#endif

static const char TYPE[] = "thingsboard.checksum";

static const char *const NAMES[] = {"MD5", "SHA256", "SHA384", "SHA512", "CRC32", "MURMUR3_32", "MURMUR3_128", NULL};
enum { MOST_BYTES = 64 }; /* of SHA512 */
enum algorithm { MD5, SHA256, SHA384, SHA512, CRC32, MURMUR3_32, MURMUR3_128 };

struct tb_checksum {
  const char *type;
  enum algorithm algorithm;
  bool open;
  digest_context digest; /* of MD5 and the SHAs; all zeros before it starts and after it ends */
  uLong crc;
  struct tb_murmur3 murmur;
};

/* All that is asked of the crypto library: to start, take in bytes, finish a copy so that more can be taken in (the
 * length, 0 on failure), and end. */
#ifdef TB_MBEDTLS

static bool start_digest(struct tb_checksum *checksum) {
  const mbedtls_md_info_t *kind = mbedtls_md_info_from_string(NAMES[checksum->algorithm]);
  return kind != NULL && mbedtls_md_setup(&checksum->digest, kind, 0) == 0 && mbedtls_md_starts(&checksum->digest) == 0;
}

static bool update_digest(struct tb_checksum *checksum, const void *bytes, size_t count) {
  return mbedtls_md_update(&checksum->digest, bytes, count) == 0;
}

static size_t copy_digest(const struct tb_checksum *checksum, unsigned char *out) {
  const mbedtls_md_info_t *kind = mbedtls_md_info_from_string(NAMES[checksum->algorithm]);
  mbedtls_md_context_t copy;
  mbedtls_md_init(&copy);
  bool done = mbedtls_md_setup(&copy, kind, 0) == 0 && mbedtls_md_clone(&copy, &checksum->digest) == 0 &&
              mbedtls_md_finish(&copy, out) == 0;
  mbedtls_md_free(&copy);
  return done ? mbedtls_md_get_size(kind) : 0;
}

static void end_digest(struct tb_checksum *checksum) {
  mbedtls_md_free(&checksum->digest);
}

#else

static bool start_digest(struct tb_checksum *checksum) {
  const EVP_MD *kind = EVP_get_digestbyname(NAMES[checksum->algorithm]);
  checksum->digest = EVP_MD_CTX_new();
  return kind != NULL && checksum->digest != NULL && EVP_DigestInit_ex(checksum->digest, kind, NULL) == 1;
}

static bool update_digest(struct tb_checksum *checksum, const void *bytes, size_t count) {
  return EVP_DigestUpdate(checksum->digest, bytes, count) == 1;
}

static size_t copy_digest(const struct tb_checksum *checksum, unsigned char *out) {
  unsigned length = 0;
  EVP_MD_CTX *copy = EVP_MD_CTX_new();
  bool done =
      copy != NULL && EVP_MD_CTX_copy_ex(copy, checksum->digest) == 1 && EVP_DigestFinal_ex(copy, out, &length) == 1;
  EVP_MD_CTX_free(copy);
  return done ? length : 0;
}

static void end_digest(struct tb_checksum *checksum) {
  EVP_MD_CTX_free(checksum->digest);
  checksum->digest = NULL;
}

#endif

bool tb_checksum_update(struct tb_checksum *checksum, const void *bytes, size_t count) {
  if (!checksum->open) return false;
  if (count == 0) return true; /* zlib would begin anew for no bytes at NULL */
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
    return update_digest(checksum, bytes, count);
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

/* As luaL_checkoption, but the message lists what there is. */
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

/*** A checksum of nothing yet. Raises when the crypto library does not have the algorithm, as one in FIPS mode has no
MD5.
@function checksum
@tparam string algorithm MD5, SHA256, SHA384, SHA512, CRC32, MURMUR3_32 or MURMUR3_128
@treturn thingsboard.checksum
*/
static int new_checksum(lua_State *L) {
  enum algorithm algorithm = check_algorithm(L, 1);
  struct tb_checksum *checksum = tb_new(L, TYPE, sizeof *checksum, 0);
  checksum->algorithm = algorithm;
  checksum->open = true;
  if (algorithm <= SHA512 && !start_digest(checksum))
    return luaL_error(L, "%s is not available: the crypto library refuses it", NAMES[algorithm]);
  return 1;
}

/*** Takes in bytes.
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

/* The checksum of what was taken in so far. Returns the length, 0 on failure. */
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
    return copy_digest(checksum, out);
  }
}

/*** The checksum of what was taken in so far, as ThingsBoard writes it. More may be taken in afterwards.
@function checksum:hex
@treturn string lowercase, of the algorithm's full width
*/
static int checksum_hex(lua_State *L) {
  static const char DIGITS[] = "0123456789abcdef";
  const struct tb_checksum *checksum = check_open(L);
  unsigned char bytes[MOST_BYTES];
  char text[2 * MOST_BYTES];
  size_t length = take_result(checksum, bytes);
  if (length == 0) return luaL_error(L, "%s: the crypto library failed", NAMES[checksum->algorithm]);
  for (size_t i = 0; i < length; i++) {
    text[2 * i] = DIGITS[bytes[i] >> 4];
    text[2 * i + 1] = DIGITS[bytes[i] & 15];
  }
  lua_pushlstring(L, text, 2 * length);
  return 1;
}

/*** Gives up what it holds. Closing again does nothing; everything else raises from then on.
@function checksum:close
*/
static int checksum_close(lua_State *L) {
  struct tb_checksum *checksum = check_any(L);
  checksum->open = false;
  end_digest(checksum);
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
