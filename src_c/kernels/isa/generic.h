// SPDX-License-Identifier: BSD-3-Clause
// Vector operations in portable C: 16-byte vectors of the compiler's extension, which every
// target lowers to what it has. No fused multiply-add: a product is rounded before it is added.
#ifndef FL_ISA_GENERIC_H
#define FL_ISA_GENERIC_H

#include <stdint.h>
#include <string.h>

#ifdef FL_DOUBLE
#define FL_WGRAD_LANES 2  // of vectors of two lanes
#endif
#include "sums12.h"

#define FL_INLINE   static inline __attribute__((always_inline))
#define FL_ISA_NAME generic
#define FL_ISA_ID   FASTLSTM_ISA_GENERIC

#ifdef FL_DOUBLE
typedef double real;
typedef int64_t bits;
#define VL          2
#define FL_MAGIC    0x1.8p52
#define FL_MANTISSA 52
#define FL_BIAS     1023
#define FL_T_MIN    (-1022)
#define FL_T_MAX    1024
#else
typedef float real;
typedef int32_t bits;
#define VL          4
#define FL_MAGIC    0x1.8p23f
#define FL_MANTISSA 23
#define FL_BIAS     127
#define FL_T_MIN    (-126)
#define FL_T_MAX    128
#endif
typedef real vreal __attribute__((vector_size(16)));
typedef bits vbits __attribute__((vector_size(16)));
typedef real vreal_u __attribute__((vector_size(16), aligned(sizeof(real)), may_alias));
typedef real vreal_a __attribute__((vector_size(16), may_alias));

FL_INLINE vreal vload(const real *p) { return *(const vreal_a *)p; }
FL_INLINE vreal vloadu(const real *p) { return *(const vreal_u *)p; }
FL_INLINE void vstore(real *p, vreal v) { *(vreal_a *)p = v; }
FL_INLINE void vstream(real *p, vreal v) { vstore(p, v); }
FL_INLINE void vstoreu(real *p, vreal v) { *(vreal_u *)p = v; }
FL_INLINE vreal vset1(real a) { return a - (vreal){0}; }
FL_INLINE vreal vfma(vreal a, vreal b, vreal c) { return a * b + c; }
#include "operators.h"
FL_INLINE vreal vkeep(vreal v) { return v; }
FL_INLINE vreal vbroadcast(real a) { return vset1(a); }

FL_INLINE void vstore_first(real *p, vreal v, int n)
{
  real lanes[VL];
  memcpy(lanes, &v, sizeof lanes);
  for (int i = 0; i < n; ++i) p[i] = lanes[i];
}

FL_INLINE vreal vload_first(const real *p, int n)
{
  real lanes[VL] = {0};
  for (int i = 0; i < n; ++i) lanes[i] = p[i];
  return vloadu(lanes);
}

FL_INLINE vreal vselect(vbits mask, vreal yes, vreal no)
{
  return (vreal)(((vbits)yes & mask) | ((vbits)no & ~mask));
}

// b if either is NaN.
FL_INLINE vreal vmin(vreal a, vreal b) { return vselect(a < b, a, b); }

FL_INLINE vreal vmax(vreal a, vreal b) { return vselect(a > b, a, b); }

// v, but zero in the lanes where a <= 0. A NaN in a lets v pass.
FL_INLINE vreal vzero_where_not_positive(vreal v, vreal a) { return vselect(a <= vset1(0), vset1(0), v); }

// As in avx2.h; comparisons are false for NaN, so NaN passes.
FL_INLINE vreal vsplit(vreal t, vreal *n)
{
  t = vselect(t < vset1(FL_T_MIN), vset1(FL_T_MIN), t);
  t = vselect(t > vset1(FL_T_MAX), vset1(FL_T_MAX), t);
  *n = (t + vset1(FL_MAGIC)) - vset1(FL_MAGIC);
  return t - *n;
}

FL_INLINE vreal vscale2(vreal p, vreal n)
{
  const vbits i = (vbits)(n + vset1(FL_MAGIC));
  return p * (vreal)((i + FL_BIAS) << FL_MANTISSA);
}

// Lanes of a and b in turn: the first halves, the second halves.
#ifdef FL_DOUBLE
FL_INLINE vreal vzip_low(vreal a, vreal b) { return (vreal){a[0], b[0]}; }
FL_INLINE vreal vzip_high(vreal a, vreal b) { return (vreal){a[1], b[1]}; }
#else
FL_INLINE vreal vzip_low(vreal a, vreal b) { return (vreal){a[0], b[0], a[1], b[1]}; }
FL_INLINE vreal vzip_high(vreal a, vreal b) { return (vreal){a[2], b[2], a[3], b[3]}; }
#endif

#ifdef FL_DOUBLE
FL_INLINE vreal vupper(vreal v) { return (vreal){v[1], v[1]}; }
FL_INLINE vreal vquarter(vreal v, const int q)
{
  (void)q;  // a quarter of two lanes does not exist: remainder panels of one vector are not made
  return v;
}
#else
FL_INLINE vreal vupper(vreal v) { return (vreal){v[2], v[3], v[2], v[3]}; }
FL_INLINE vreal vquarter(vreal v, const int q) { return (vreal){v[q], v[q], v[q], v[q]}; }
#endif

#endif
