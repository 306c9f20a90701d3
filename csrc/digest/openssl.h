/* MD5 and the SHAs, by OpenSSL's libcrypto. mbedtls.h has the same four functions. */
#ifndef TB_OPENSSL_H
#define TB_OPENSSL_H

#include <openssl/evp.h>
#include <stdbool.h>
#include <stddef.h>

typedef EVP_MD_CTX *tb_digest; /* all zero before it starts and after it ends */

/* False when the library does not have the algorithm, or memory has run out. To be ended even then. */
static inline bool tb_digest_start(tb_digest *digest, const char *algorithm) {
  const EVP_MD *kind = EVP_get_digestbyname(algorithm);
  *digest = EVP_MD_CTX_new();
  return kind != NULL && *digest != NULL && EVP_DigestInit_ex(*digest, kind, NULL) == 1;
}

static inline bool tb_digest_update(tb_digest *digest, const void *bytes, size_t count) {
  return EVP_DigestUpdate(*digest, bytes, count) == 1;
}

/* Writes the digest of the bytes so far; more can be added afterwards. Returns its length, 0 on failure. */
static inline size_t tb_digest_result(const tb_digest *digest, const char *algorithm, unsigned char *out) {
  (void)algorithm;
  unsigned length = 0;
  EVP_MD_CTX *copy = EVP_MD_CTX_new();
  bool done = copy != NULL && EVP_MD_CTX_copy_ex(copy, *digest) == 1 && EVP_DigestFinal_ex(copy, out, &length) == 1;
  EVP_MD_CTX_free(copy);
  return done ? length : 0;
}

static inline void tb_digest_end(tb_digest *digest) {
  EVP_MD_CTX_free(*digest);
  *digest = NULL;
}

#endif
