// SPDX-License-Identifier: BSD-3-Clause
// A content hash at the speed of memory: did these weights change since they were packed?
//
// 32 lanes of 64 bits take 256 bytes at a time. Each step of a lane is a bijection of the lane for a
// given word and of the word for a given lane, so a change of one word always changes its lane, and
// every later step keeps it changed. Multiplying carries differences up, the shift brings them down
// to where they are carried up again; it comes first, for the highest bits, signs of floats,
// are not carried anywhere by themselves and would cancel those of a later word. 29, unlike 32, does
// not put the signs of two floats in a word upon each other. The lanes start different and are folded
// one after another by the same step, so what moves is seen too.
#include <string.h>

#include "internal/binding.h"

#define ODD 0x9e3779b97f4a7c15u  // 2^64 / golden ratio: bits without a pattern

enum { LANES = 32, STRIPE = 8 * LANES };

#define STEP(h, word) ((((h) ^ (word)) ^ ((h) ^ (word)) >> 29) * ODD)

// Eight sums of four, which do not wait for each other, and then those.
__attribute__((always_inline)) static inline uint64_t fold(const uint64_t *lanes, uint64_t seed)
{
  uint64_t sums[8] = {0}, result = seed;
  for (int lane = 0; lane < LANES; lane += 8)
    for (int i = 0; i < 8; ++i) sums[i] = STEP(sums[i], lanes[lane + i]);
  for (int i = 0; i < 8; ++i) result = STEP(result, sums[i]);
  result ^= result >> 32;
  result *= ODD;
  return result ^ result >> 29;
}

#define NAME(x) x##_plain
#define WORDS   1
#define TARGET
#include "extra/hash.inc.h"
#undef NAME
#undef WORDS
#undef TARGET

#if defined(__x86_64__)
#define NAME(x) x##_avx2
#define WORDS   4
#define TARGET  __attribute__((target("avx2")))
#include "extra/hash.inc.h"
#undef NAME
#undef WORDS
#undef TARGET

#define NAME(x) x##_avx512
#define WORDS   8
#define TARGET  __attribute__((target("avx512f,avx512dq")))
#include "extra/hash.inc.h"
#undef NAME
#undef WORDS
#undef TARGET
#endif

uint64_t fl_hash(fastlstm_isa isa, const void *data, size_t bytes, uint64_t seed)
{
#if defined(__x86_64__)
  if (isa == FASTLSTM_ISA_AVX512) return hash_avx512(data, bytes, seed);
  if (isa == FASTLSTM_ISA_AVX2) return hash_avx2(data, bytes, seed);
#endif
  (void)isa;
  return hash_plain(data, bytes, seed);
}
