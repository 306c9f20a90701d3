/* Murmur3 with seed 0, fed piece by piece. */
#ifndef TB_MURMUR3_H
#define TB_MURMUR3_H

#include <stddef.h>
#include <stdint.h>

/* All bytes so far are in `state`, except the last `length` % block size ones, which wait in `block`. */
struct tb_murmur3 {
  uint64_t state[2];
  uint64_t length;
  unsigned char block[16];
};

/* Both begin with a struct of zeros. */
void tb_murmur3_32_update(struct tb_murmur3 *murmur, const void *bytes, size_t count);
void tb_murmur3_128_update(struct tb_murmur3 *murmur, const void *bytes, size_t count);

/* The hash of the bytes so far, little-endian: 4 and 16 bytes. More can be added afterwards. */
void tb_murmur3_32_result(const struct tb_murmur3 *murmur, unsigned char *out);
void tb_murmur3_128_result(const struct tb_murmur3 *murmur, unsigned char *out);

#endif
