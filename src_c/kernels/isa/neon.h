// SPDX-License-Identifier: BSD-3-Clause
// Vector operations on NEON (aarch64). FL_DOUBLE selects double, else float.
//
// A vector is a pair of 128-bit registers, so that it has the lanes of an AVX2 vector. Layouts and orders of
// summation follow from the lanes: results have AVX2's bits, forward and backward. (One difference remains,
// see fl_fp_enter in cpu.h.)
#ifndef FL_ISA_NEON_H
#define FL_ISA_NEON_H

// gcc would move all loads of weights ahead of the multiply-adds, and sums out of the registers to make room
// (on x86 it leaves them where they stand).
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("no-schedule-insns")
#endif

#include <arm_neon.h>
#include <stdint.h>

#include "sums12.h"  // pairs: of 32 registers 24 hold sums, three broadcasts, two a weight

#define FL_INLINE   static inline __attribute__((always_inline))
#define FL_ISA_NAME neon
#define FL_ISA_ID   FASTLSTM_ISA_NEON

#ifdef FL_DOUBLE
typedef double real;
typedef float64x2_t vhalf;
#define VL          4
#define FL_OP(name) v##name##q_f64
#else
typedef float real;
typedef float32x4_t vhalf;
#define VL          8
#define FL_OP(name) v##name##q_f32
#endif

enum { HALF_LANES = VL / 2 };
typedef struct vreal {
  vhalf a, b;  // the first lanes, the last lanes
} vreal;

FL_INLINE vhalf half_set1(real a)
{
#ifdef FL_DOUBLE
  return vdupq_n_f64(a);
#else
  return vdupq_n_f32(a);
#endif
}

FL_INLINE vreal vload(const real *p) { return (vreal){FL_OP(ld1)(p), FL_OP(ld1)(p + HALF_LANES)}; }
FL_INLINE vreal vloadu(const real *p) { return vload(p); }
FL_INLINE void vstore(real *p, vreal v)
{
  FL_OP(st1)(p, v.a);
  FL_OP(st1)(p + HALF_LANES, v.b);
}
// A plain store: whether a non-temporal one gains anything has not been measured on a real processor.
FL_INLINE void vstream(real *p, vreal v) { vstore(p, v); }
FL_INLINE void vstoreu(real *p, vreal v) { vstore(p, v); }

FL_INLINE vreal vset1(real a)
{
  const vhalf both = half_set1(a);
  return (vreal){both, both};
}

FL_INLINE vreal vadd(vreal a, vreal b) { return (vreal){FL_OP(add)(a.a, b.a), FL_OP(add)(a.b, b.b)}; }
FL_INLINE vreal vsub(vreal a, vreal b) { return (vreal){FL_OP(sub)(a.a, b.a), FL_OP(sub)(a.b, b.b)}; }
FL_INLINE vreal vmul(vreal a, vreal b) { return (vreal){FL_OP(mul)(a.a, b.a), FL_OP(mul)(a.b, b.b)}; }
FL_INLINE vreal vdiv(vreal a, vreal b) { return (vreal){FL_OP(div)(a.a, b.a), FL_OP(div)(a.b, b.b)}; }
FL_INLINE vreal vneg(vreal a) { return (vreal){FL_OP(neg)(a.a), FL_OP(neg)(a.b)}; }
FL_INLINE vreal vfma(vreal a, vreal b, vreal c)
{
  return (vreal){FL_OP(fma)(c.a, a.a, b.a), FL_OP(fma)(c.b, a.b, b.b)};
}

// A comparison with NaN is false: then, and for equal zeros, it is b. (fmin would give the number.)
FL_INLINE vhalf half_min(vhalf a, vhalf b) { return FL_OP(bsl)(FL_OP(clt)(a, b), a, b); }
FL_INLINE vhalf half_max(vhalf a, vhalf b) { return FL_OP(bsl)(FL_OP(cgt)(a, b), a, b); }
FL_INLINE vreal vmin(vreal a, vreal b) { return (vreal){half_min(a.a, b.a), half_min(a.b, b.b)}; }
FL_INLINE vreal vmax(vreal a, vreal b) { return (vreal){half_max(a.a, b.a), half_max(a.b, b.b)}; }

// Keeps a loaded value in its registers: gcc otherwise folds the load into every use.
FL_INLINE vreal vkeep(vreal v)
{
  __asm__("" : "+w"(v.a), "+w"(v.b));
  return v;
}

// a in all lanes, in a register of its own: both halves are the same one.
FL_INLINE vreal vbroadcast(real a)
{
  vhalf both = half_set1(a);
  __asm__("" : "+w"(both));
  return (vreal){both, both};
}

// v, but zero in the lanes where a <= 0. A NaN in a lets v pass.
FL_INLINE vhalf half_zero_where_not_positive(vhalf v, vhalf a)
{
#ifdef FL_DOUBLE
  return vreinterpretq_f64_u64(vbicq_u64(vreinterpretq_u64_f64(v), vclezq_f64(a)));
#else
  return vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(v), vclezq_f32(a)));
#endif
}
FL_INLINE vreal vzero_where_not_positive(vreal v, vreal a)
{
  return (vreal){half_zero_where_not_positive(v.a, a.a), half_zero_where_not_positive(v.b, a.b)};
}

// The first n lanes of a half, zeros after them; n from 0 to all.
FL_INLINE vhalf half_load_first(const real *p, int n)
{
  vhalf v = half_set1(0);
  if (n >= HALF_LANES) return FL_OP(ld1)(p);
#ifdef FL_DOUBLE
  if (n == 1) v = vld1q_lane_f64(p, v, 0);
#else
  if (n > 0) v = vld1q_lane_f32(p, v, 0);
  if (n > 1) v = vld1q_lane_f32(p + 1, v, 1);
  if (n > 2) v = vld1q_lane_f32(p + 2, v, 2);
#endif
  return v;
}

FL_INLINE void half_store_first(real *p, vhalf v, int n)
{
  if (n >= HALF_LANES) {
    FL_OP(st1)(p, v);
    return;
  }
#ifdef FL_DOUBLE
  if (n == 1) vst1q_lane_f64(p, v, 0);
#else
  if (n > 0) vst1q_lane_f32(p, v, 0);
  if (n > 1) vst1q_lane_f32(p + 1, v, 1);
  if (n > 2) vst1q_lane_f32(p + 2, v, 2);
#endif
}

FL_INLINE vreal vload_first(const real *p, int n)
{
  const vhalf a = half_load_first(p, n);
  return (vreal){a, n > HALF_LANES ? half_load_first(p + HALF_LANES, n - HALF_LANES) : half_set1(0)};
}

FL_INLINE void vstore_first(real *p, vreal v, int n)
{
  half_store_first(p, v.a, n);
  if (n > HALF_LANES) half_store_first(p + HALF_LANES, v.b, n - HALF_LANES);
}

// t = n + r. Clamped to where 2^n is a normal number or exactly infinity; NaN passes.
FL_INLINE vhalf half_clamp(vhalf t)
{
#ifdef FL_DOUBLE
  const vhalf least = half_set1(-1022), most = half_set1(1024);
#else
  const vhalf least = half_set1(-126), most = half_set1(128);
#endif
  return half_min(most, half_max(least, t));
}

FL_INLINE vreal vsplit(vreal t, vreal *n)
{
  t = (vreal){half_clamp(t.a), half_clamp(t.b)};
  *n = (vreal){FL_OP(rndn)(t.a), FL_OP(rndn)(t.b)};
  return vsub(t, *n);
}

// 2^n for an integer n that vsplit gave: its bits. Any number where n is NaN, since p is NaN there, too.
FL_INLINE vhalf half_exp2(vhalf n)
{
#ifdef FL_DOUBLE
  return vreinterpretq_f64_s64(vshlq_n_s64(vaddq_s64(vcvtq_s64_f64(n), vdupq_n_s64(1023)), 52));
#else
  return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127)), 23));
#endif
}
FL_INLINE vreal vscale2(vreal p, vreal n) { return vmul(p, (vreal){half_exp2(n.a), half_exp2(n.b)}); }

// Lanes of a and b in turn: the first halves, the second halves.
FL_INLINE vreal vzip_low(vreal a, vreal b) { return (vreal){FL_OP(zip1)(a.a, b.a), FL_OP(zip2)(a.a, b.a)}; }
FL_INLINE vreal vzip_high(vreal a, vreal b) { return (vreal){FL_OP(zip1)(a.b, b.b), FL_OP(zip2)(a.b, b.b)}; }

// Upper half moved to the front.
FL_INLINE vreal vupper(vreal v) { return (vreal){v.b, v.b}; }

// Lanes [q * VL/4, (q + 1) * VL/4) moved to the front; the others are unspecified.
FL_INLINE vreal vquarter(vreal v, const int q)
{
  const vhalf half = q < 2 ? v.a : v.b, rotated = FL_OP(ext)(half, half, HALF_LANES / 2);
  const vhalf first = q % 2 ? rotated : half;
  return (vreal){first, first};
}

#endif
