// SPDX-License-Identifier: BSD-3-Clause
// The hash with vectors of WORDS words. The caller defines NAME, WORDS and TARGET.
typedef uint64_t NAME(words) __attribute__((vector_size(8 * WORDS)));

TARGET static uint64_t NAME(hash)(const unsigned char *data, size_t bytes, uint64_t seed)
{
  enum { VECTORS = LANES / WORDS };
  NAME(words) h[VECTORS], word;
  for (int lane = 0; lane < LANES; ++lane)
    h[lane / WORDS][lane % WORDS] = (seed ^ (uint64_t)(lane + 1) * ODD) + bytes;
  size_t at = 0;
  for (; bytes - at >= STRIPE; at += STRIPE) {
    for (int v = 0; v < VECTORS; ++v) {
      memcpy(&word, data + at + (size_t)v * sizeof word, sizeof word);
      h[v] = STEP(h[v], word);
    }
  }
  if (at < bytes) {  // zeros fill up the last words; `bytes` above tells them from data
    unsigned char rest[STRIPE] = {0};
    memcpy(rest, data + at, bytes - at);
    for (int v = 0; v < VECTORS; ++v) {
      memcpy(&word, rest + (size_t)v * sizeof word, sizeof word);
      h[v] = STEP(h[v], word);
    }
  }
  uint64_t lanes[LANES];
  memcpy(lanes, h, sizeof lanes);
  return fold(lanes, seed);
}
