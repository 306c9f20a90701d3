/* Murmur3 with seed 0, fed piece by piece. */
#ifndef TB_MURMUR3_H
#define TB_MURMUR3_H

#include <stddef.h>
#include <stdint.h>

/* The bytes taken in are all in `state` but for the last `length` % block size, which wait in `block`. */
struct tb_murmur3 {
  uint64_t state[2];
  uint64_t length;
  unsigned char block[16];
};

/* All zeros is the beginning of both. */
void tb_murmur3_32_update(struct tb_murmur3 *murmur, const void *bytes, size_t count);
void tb_murmur3_128_update(struct tb_murmur3 *murmur, const void *bytes, size_t count);

/* The hash so far, little-endian: 4 and 16 bytes. More may be taken in afterwards. */
void tb_murmur3_32_result(const struct tb_murmur3 *murmur, unsigned char *out);
void tb_murmur3_128_result(const struct tb_murmur3 *murmur, unsigned char *out);

#endif
