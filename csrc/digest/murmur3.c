/* MurmurHash3 by Austin Appleby: x86_32, and x64_128. */
#include "digest/murmur3.h"

#include <string.h>

static uint64_t load(const unsigned char *bytes, size_t count) {
  uint64_t value = 0;
  for (size_t i = count; i > 0; i--) value = value << 8 | bytes[i - 1];
  return value;
}

static void store(unsigned char *out, uint64_t value, size_t count) {
  for (size_t i = 0; i < count; i++, value >>= 8) out[i] = (unsigned char)(value & 0xFF);
}

static uint32_t rotate32(uint32_t value, unsigned by) {
  return value << by | value >> (32 - by);
}

static uint64_t rotate64(uint64_t value, unsigned by) {
  return value << by | value >> (64 - by);
}

/* Mixes whole blocks and keeps the rest. `size`, of a block, is a power of two and at most 16. */
static inline void update(struct tb_murmur3 *murmur, const unsigned char *bytes, size_t count, size_t size,
                          void (*mix)(uint64_t *state, const unsigned char *block)) {
  size_t waiting = (size_t)murmur->length & (size - 1);
  murmur->length += count;
  if (waiting > 0) {
    size_t taken = size - waiting < count ? size - waiting : count;
    memcpy(murmur->block + waiting, bytes, taken);
    if (waiting + taken < size) return;
    mix(murmur->state, murmur->block);
    bytes += taken;
    count -= taken;
  }
  for (; count >= size; bytes += size, count -= size) mix(murmur->state, bytes);
  if (count > 0) memcpy(murmur->block, bytes, count);
}

static uint32_t scramble32(uint32_t k) {
  return rotate32(k * UINT32_C(0xcc9e2d51), 15) * UINT32_C(0x1b873593);
}

static void mix32(uint64_t *state, const unsigned char *block) {
  uint32_t h = (uint32_t)*state ^ scramble32((uint32_t)load(block, 4));
  *state = rotate32(h, 13) * 5 + UINT32_C(0xe6546b64);
}

void tb_murmur3_32_update(struct tb_murmur3 *murmur, const void *bytes, size_t count) {
  update(murmur, bytes, count, 4, mix32);
}

void tb_murmur3_32_result(const struct tb_murmur3 *murmur, unsigned char *out) {
  uint32_t h = (uint32_t)murmur->state[0];
  h ^= scramble32((uint32_t)load(murmur->block, (size_t)murmur->length & 3)); /* of nothing it is 0 */
  h ^= (uint32_t)murmur->length;
  h = (h ^ h >> 16) * UINT32_C(0x85ebca6b);
  h = (h ^ h >> 13) * UINT32_C(0xc2b2ae35);
  store(out, h ^ h >> 16, 4);
}

static uint64_t scramble64(uint64_t k, unsigned half) {
  static const uint64_t FACTORS[] = {UINT64_C(0x87c37b91114253d5), UINT64_C(0x4cf5ad432745937f)};
  return rotate64(k * FACTORS[half], half == 0 ? 31 : 33) * FACTORS[1 - half];
}

static void mix128(uint64_t *state, const unsigned char *block) {
  uint64_t h1 = state[0] ^ scramble64(load(block, 8), 0);
  state[0] = (rotate64(h1, 27) + state[1]) * 5 + 0x52dce729;
  uint64_t h2 = state[1] ^ scramble64(load(block + 8, 8), 1);
  state[1] = (rotate64(h2, 31) + state[0]) * 5 + 0x38495ab5;
}

void tb_murmur3_128_update(struct tb_murmur3 *murmur, const void *bytes, size_t count) {
  update(murmur, bytes, count, 16, mix128);
}

static uint64_t finish64(uint64_t h) {
  h = (h ^ h >> 33) * UINT64_C(0xff51afd7ed558ccd);
  h = (h ^ h >> 33) * UINT64_C(0xc4ceb9fe1a85ec53);
  return h ^ h >> 33;
}

void tb_murmur3_128_result(const struct tb_murmur3 *murmur, unsigned char *out) {
  size_t tail = (size_t)murmur->length & 15;
  uint64_t h1 = murmur->state[0] ^ scramble64(load(murmur->block, tail < 8 ? tail : 8), 0) ^ murmur->length;
  uint64_t h2 = murmur->state[1] ^ scramble64(load(murmur->block + 8, tail < 8 ? 0 : tail - 8), 1) ^ murmur->length;
  h1 += h2;
  h2 += h1;
  h1 = finish64(h1);
  h2 = finish64(h2);
  h1 += h2;
  h2 += h1;
  store(out, h1, 8);
  store(out + 8, h2, 8);
}
