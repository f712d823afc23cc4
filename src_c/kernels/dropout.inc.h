// SPDX-License-Identifier: BSD-3-Clause
// Inverted dropout from a counter-based generator: every element's number follows from its place
// alone, so forward and backward, and any number of threads, see one mask.
//
// Philox4x32-10: J. Salmon, M. Moraes, R. Dror and D. Shaw, "Parallel random numbers: as easy as
// 1, 2, 3", SC 2011.
#ifndef FL_DROPOUT_H
#define FL_DROPOUT_H

enum { DROPOUT_GROUPS = 16 };  // groups of four words made at a time, for the compiler to vectorise

// Of `groups` counters, each word in an array of its own, which become random words.
FL_INLINE void philox_rounds(const uint32_t key[2], const int groups, uint32_t *w0, uint32_t *w1,
                             uint32_t *w2, uint32_t *w3)
{
  uint32_t k0 = key[0], k1 = key[1];
  for (int round = 0; round < 10; ++round) {
    for (int j = 0; j < groups; ++j) {
      const uint64_t a = (uint64_t)w0[j] * 0xD2511F53u, b = (uint64_t)w2[j] * 0xCD9E8D57u;
      w0[j] = (uint32_t)(b >> 32) ^ w1[j] ^ k0;
      w1[j] = (uint32_t)b;
      w2[j] = (uint32_t)(a >> 32) ^ w3[j] ^ k1;
      w3[j] = (uint32_t)a;
    }
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
}

// Words of groups first .. first + DROPOUT_GROUPS: word w of group j at words[w][j].
static void FL_NAMED(philox)(const fl_dropout *job, uint32_t first, uint32_t words[4][DROPOUT_GROUPS])
{
  for (uint32_t j = 0; j < DROPOUT_GROUPS; ++j) {
    words[0][j] = first + j;
    words[1][j] = job->counter[0];
    words[2][j] = job->counter[1];
    words[3][j] = job->counter[2];
  }
  philox_rounds(job->key, DROPOUT_GROUPS, words[0], words[1], words[2], words[3]);
}

// Columns [first, first + count) of a row.
static void FL_NAMED(dropout)(const fl_dropout *job, int64_t first, int64_t count, void *row)
{
  real *at = row;
  const real scale = (real)job->scale;
  uint32_t words[4][DROPOUT_GROUPS];
  for (int64_t k = first; k < first + count;) {
    const int64_t base = k / 4 / DROPOUT_GROUPS * DROPOUT_GROUPS, end = 4 * (base + DROPOUT_GROUPS);
    FL_NAMED(philox)(job, (uint32_t)base, words);
    for (; k < end && k < first + count; ++k)
      at[k] *= words[k % 4][k / 4 - base] >> 8 >= job->threshold ? scale : 0;
  }
}

#endif
