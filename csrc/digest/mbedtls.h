/* MD5 and the SHAs, by mbed TLS. openssl.h has the same four functions, and says what they do. */
#ifndef TB_MBEDTLS_H
#define TB_MBEDTLS_H

#include <mbedtls/md.h>
#include <stdbool.h>
#include <stddef.h>

typedef mbedtls_md_context_t tb_digest;

static inline bool tb_digest_start(tb_digest *digest, const char *algorithm) {
  const mbedtls_md_info_t *kind = mbedtls_md_info_from_string(algorithm);
  return kind != NULL && mbedtls_md_setup(digest, kind, 0) == 0 && mbedtls_md_starts(digest) == 0;
}

static inline bool tb_digest_update(tb_digest *digest, const void *bytes, size_t count) {
  return mbedtls_md_update(digest, bytes, count) == 0;
}

static inline size_t tb_digest_result(const tb_digest *digest, const char *algorithm, unsigned char *out) {
  const mbedtls_md_info_t *kind = mbedtls_md_info_from_string(algorithm);
  mbedtls_md_context_t copy;
  mbedtls_md_init(&copy);
  bool done = mbedtls_md_setup(&copy, kind, 0) == 0 && mbedtls_md_clone(&copy, digest) == 0 &&
              mbedtls_md_finish(&copy, out) == 0;
  mbedtls_md_free(&copy);
  return done ? mbedtls_md_get_size(kind) : 0;
}

static inline void tb_digest_end(tb_digest *digest) {
  mbedtls_md_free(digest);
}

#endif
