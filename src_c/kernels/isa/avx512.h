// SPDX-License-Identifier: BSD-3-Clause
// Vector operations on AVX-512 (F, DQ, VL, BW). FL_DOUBLE selects double, else float.
#ifndef FL_ISA_AVX512_H
#define FL_ISA_AVX512_H

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma"))), \
                             apply_to = function)
#define FL_TARGET_PUSHED  // popped at the end of instance.inc.h
#else
#pragma GCC target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma")
#endif

#include <immintrin.h>
#include <stdint.h>

#include "sums24.h"

#define FL_INLINE   static inline __attribute__((always_inline))
#define FL_ISA_NAME avx512
#define FL_ISA_ID   FASTLSTM_ISA_AVX512

#ifdef FL_DOUBLE
typedef double real;
typedef __m512d vreal;
#define VL          8
#define FL_OP(name) _mm512_##name##_pd
#define FL_MASK(n)  ((__mmask8)((1u << (n)) - 1))
#else
typedef float real;
typedef __m512 vreal;
#define VL          16
#define FL_OP(name) _mm512_##name##_ps
#define FL_MASK(n)  ((__mmask16)((1u << (n)) - 1))
#endif

FL_INLINE vreal vload(const real *p) { return FL_OP(load)(p); }
FL_INLINE vreal vloadu(const real *p) { return FL_OP(loadu)(p); }
FL_INLINE void vstore(real *p, vreal v) { FL_OP(store)(p, v); }
FL_INLINE void vstream(real *p, vreal v) { FL_OP(stream)(p, v); }  // past the caches
FL_INLINE void vstoreu(real *p, vreal v) { FL_OP(storeu)(p, v); }
FL_INLINE void vstore_first(real *p, vreal v, int n) { FL_OP(mask_storeu)(p, FL_MASK(n), v); }
// The first n lanes, zeros after them.
FL_INLINE vreal vload_first(const real *p, int n) { return FL_OP(maskz_loadu)(FL_MASK(n), p); }
FL_INLINE vreal vset1(real a) { return FL_OP(set1)(a); }
#include "operators.h"
FL_INLINE vreal vmin(vreal a, vreal b) { return FL_OP(min)(a, b); }  // b if either is NaN
FL_INLINE vreal vmax(vreal a, vreal b) { return FL_OP(max)(a, b); }  // b if either is NaN
FL_INLINE vreal vfma(vreal a, vreal b, vreal c) { return FL_OP(fmadd)(a, b, c); }

// Keeps a loaded value in a register: gcc otherwise folds the load into every use.
FL_INLINE vreal vkeep(vreal v)
{
  __asm__("" : "+v"(v));
  return v;
}

// a in all lanes, in a register of its own.
FL_INLINE vreal vbroadcast(real a) { return vkeep(vset1(a)); }

// v, but zero in the lanes where a <= 0. A NaN in a lets v pass.
FL_INLINE vreal vzero_where_not_positive(vreal v, vreal a)
{
#ifdef FL_DOUBLE
  return _mm512_maskz_mov_pd(_mm512_cmp_pd_mask(a, _mm512_setzero_pd(), _CMP_NLE_UQ), v);
#else
  return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(a, _mm512_setzero_ps(), _CMP_NLE_UQ), v);
#endif
}

// t = n + r with n integral, |r| <= 1/2. For an infinite t, r is NaN; vscale2 then goes by n alone.
FL_INLINE vreal vsplit(vreal t, vreal *n)
{
  *n = FL_OP(roundscale)(t, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  return t - *n;
}

// p * 2^n, overflowing to infinity and underflowing to zero. By definition infinity and zero for
// infinite n, even where p is NaN.
FL_INLINE vreal vscale2(vreal p, vreal n) { return FL_OP(scalef)(p, n); }

// Lanes of a and b in turn: the first halves, the second halves.
FL_INLINE vreal vzip_low(vreal a, vreal b)
{
#ifdef FL_DOUBLE
  return _mm512_permutex2var_pd(a, _mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11), b);
#else
  return _mm512_permutex2var_ps(a, _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23),
                                b);
#endif
}
FL_INLINE vreal vzip_high(vreal a, vreal b)
{
#ifdef FL_DOUBLE
  return _mm512_permutex2var_pd(a, _mm512_setr_epi64(4, 12, 5, 13, 6, 14, 7, 15), b);
#else
  return _mm512_permutex2var_ps(
      a, _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31), b);
#endif
}

// Lanes [q * VL/4, (q + 1) * VL/4) moved to the front; the others are unspecified.
#define vquarter(v, q) (FL_QUARTER((v), (q)))
#ifdef FL_DOUBLE
#define FL_QUARTER(v, q) _mm512_shuffle_f64x2(v, v, q)
#else
#define FL_QUARTER(v, q) _mm512_shuffle_f32x4(v, v, q)
#endif
// Upper half moved to the front.
FL_INLINE vreal vupper(vreal v) { return FL_QUARTER(v, 0x4e); }

#endif
