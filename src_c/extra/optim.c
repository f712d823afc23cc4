// SPDX-License-Identifier: BSD-3-Clause
// Plain loops that the compiler vectorises for each instruction set. These updates wait for
// memory, not for arithmetic, so nothing is won by kernels written by hand.
#include "extra/optim.h"

#include <math.h>

#include "platform/cpu.h"

#ifdef __clang__
#pragma STDC FP_CONTRACT OFF  // gcc is told by its flag
#endif

// Picking a version at load time needs glibc's indirect functions. A sanitized build has the
// plain version only: its resolvers would run before the sanitizer is ready.
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(__SANITIZE_ADDRESS__)
#define FL_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define FL_CLONES
#endif

enum { LANES = 16 };

// By squaring: the C library's pow may differ in the last bit from one CPU to another.
static double power(double base, int64_t exponent)
{
  double result = 1;
  for (; exponent > 0; exponent >>= 1) {
    if (exponent & 1) result *= base;
    base *= base;
  }
  return result;
}

#define real    float
#define NAME(x) x##_f32
#define SQRT    sqrtf
#include "extra/optim.inc.h"
#undef real
#undef NAME
#undef SQRT

#define real    double
#define NAME(x) x##_f64
#define SQRT    sqrt
#include "extra/optim.inc.h"
#undef real
#undef NAME
#undef SQRT

void fl_sgd_step(const fl_sgd *options, fastlstm_dtype dtype, int64_t n, void *p, const void *g, void *buffer)
{
  const uint32_t saved = fl_fp_enter();
  if (dtype == FASTLSTM_F64 && buffer != NULL)
    momentum_f64(options, n, p, g, buffer);
  else if (dtype == FASTLSTM_F64)
    sgd_f64(options, n, p, g);
  else if (buffer != NULL)
    momentum_f32(options, n, p, g, buffer);
  else
    sgd_f32(options, n, p, g);
  fl_fp_leave(saved);
}

void fl_adam_step(const fl_adam *options, fastlstm_dtype dtype, int64_t n, void *p, const void *g, void *m,
                  void *v, void *v_max)
{
  const uint32_t saved = fl_fp_enter();
  if (dtype == FASTLSTM_F64)
    adam_any_f64(options, n, p, g, m, v, v_max);
  else
    adam_any_f32(options, n, p, g, m, v, v_max);
  fl_fp_leave(saved);
}

double fl_sum_squares(fastlstm_dtype dtype, int64_t n, const void *g)
{
  const uint32_t saved = fl_fp_nearest();
  const double sum = dtype == FASTLSTM_F64 ? sum_squares_f64(n, g) : sum_squares_f32(n, g);
  fl_fp_leave(saved);
  return sum;
}

void fl_scale(fastlstm_dtype dtype, int64_t n, void *g, double factor)
{
  const uint32_t saved = fl_fp_nearest();
  if (dtype == FASTLSTM_F64)
    scale_f64(n, g, factor);
  else
    scale_f32(n, g, (float)factor);
  fl_fp_leave(saved);
}

void fl_clamp(fastlstm_dtype dtype, int64_t n, void *g, double limit)
{
  if (dtype == FASTLSTM_F64)
    clamp_f64(n, g, limit);
  else
    clamp_f32(n, g, (float)limit);
}
