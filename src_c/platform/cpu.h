// SPDX-License-Identifier: BSD-3-Clause
#ifndef FL_CPU_H
#define FL_CPU_H

#include <stdint.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

// What the planner knows of the caches. Sizes are of weights that stay there, in bytes, less than the cache;
// that of the third level, which others share, is all of it.
typedef struct fl_caches {
  double l1_bytes, l2_bytes, l3_bytes;
  // bytes a nanosecond that one thread reads from the second level, the last one and memory
  double l2_rate, llc_rate, memory_rate;
  int64_t block_bytes;   // of a panel's weights that tiles take at a time; 0: all of them
  int32_t whole_panels;  // no shorter block than a panel gains anything, nor does any other prefetch
} fl_caches;
fl_caches fl_caches_of(int32_t kind);  // an fl_cache_kind

#if defined(__aarch64__)
// The control register of floating point: bit 24 flushes denormal operands and results to zero, bits 22 and
// 23 say how to round, 8 to 12 and 15 trap.
enum { FL_FPCR_FLUSH = 1 << 24, FL_FPCR_ROUNDING = 3 << 22, FL_FPCR_TRAPS = 0x9f00 };

static inline uint32_t fl_fpcr(void)
{
  uint64_t value;
  __asm__ volatile("mrs %0, fpcr" : "=r"(value));
  return (uint32_t)value;  // the upper half is reserved
}

static inline void fl_set_fpcr(uint32_t value)
{
  __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)value) : "memory");
}
#endif

// Flush denormals to zero while kernels run: they would cost a hundred cycles each and are far
// below the promised error. The caller's mode comes back afterwards.
//
// Arm finds a result tiny before it is rounded, x86 afterwards: a result that rounds up to the smallest
// normal number is zero on Arm and that number on x86. Nothing else in the two modes differs but the
// signs and payloads of NaN.
static inline uint32_t fl_fp_enter(void)
{
#if defined(__x86_64__)
  const uint32_t saved = _mm_getcsr();
  _mm_setcsr(0x1f80u | 0x8040u);  // all exceptions masked, round to nearest, FTZ, DAZ
  return saved;
#elif defined(__aarch64__)
  const uint32_t saved = fl_fpcr();
  fl_set_fpcr(FL_FPCR_FLUSH);
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
#elif defined(__aarch64__)
  const uint32_t saved = fl_fpcr();
  fl_set_fpcr(saved & ~(uint32_t)(FL_FPCR_ROUNDING | FL_FPCR_TRAPS));
  return saved;
#else
  return 0;
#endif
}

static inline void fl_fp_leave(uint32_t saved)
{
#if defined(__x86_64__)
  _mm_setcsr(saved);
#elif defined(__aarch64__)
  fl_set_fpcr(saved);
#else
  (void)saved;
#endif
}

static inline void fl_pause(void)
{
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

#endif
