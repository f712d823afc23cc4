// SPDX-License-Identifier: BSD-3-Clause
#ifndef FL_CPU_H
#define FL_CPU_H

#include <stdint.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

// What must be known of the caches: weights that stay in the second level, bytes a nanosecond that one thread
// reads from there and from beyond, and weights of a panel that tiles take at a time (0: all).
typedef struct fl_caches {
  double l2_bytes, l2_rate, llc_rate;
  int64_t block_bytes;
} fl_caches;
fl_caches fl_caches_of(int32_t kind);  // an fl_cache_kind

// Flush denormals to zero while kernels run: they would cost a hundred cycles each and are far
// below the promised error. The caller's mode comes back afterwards.
static inline uint32_t fl_fp_enter(void)
{
#if defined(__x86_64__)
  const uint32_t saved = _mm_getcsr();
  _mm_setcsr(0x1f80u | 0x8040u);  // all exceptions masked, round to nearest, FTZ, DAZ
  return saved;
#else
  return 0;
#endif
}

// Around sums and scalings outside of the kernels: they round to nearest, and trap on nothing, whatever the
// caller's mode; denormals are treated as the caller has it.
static inline uint32_t fl_fp_nearest(void)
{
#if defined(__x86_64__)
  const uint32_t saved = _mm_getcsr();
  _mm_setcsr((saved & ~0x6000u) | 0x1f80u);
  return saved;
#else
  return 0;
#endif
}

static inline void fl_fp_leave(uint32_t saved)
{
#if defined(__x86_64__)
  _mm_setcsr(saved);
#else
  (void)saved;
#endif
}

static inline void fl_pause(void)
{
#if defined(__x86_64__)
  _mm_pause();
#endif
}

#endif
