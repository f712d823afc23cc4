// SPDX-License-Identifier: BSD-3-Clause
// Vector operations on AVX2 + FMA. FL_DOUBLE selects double, else float.
#ifndef FL_ISA_AVX2_H
#define FL_ISA_AVX2_H

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#define FL_TARGET_PUSHED  // popped at the end of instance.inc.h
#else
#pragma GCC target("avx2,fma")
#endif

#include <immintrin.h>
#include <stdint.h>

#include "sums12.h"

#define FL_INLINE   static inline __attribute__((always_inline))
#define FL_ISA_NAME avx2
#define FL_ISA_ID   FASTLSTM_ISA_AVX2

#ifdef FL_DOUBLE
typedef double real;
typedef __m256d vreal;
#define VL          4
#define FL_OP(name) _mm256_##name##_pd
#else
typedef float real;
typedef __m256 vreal;
#define VL          8
#define FL_OP(name) _mm256_##name##_ps
#endif

FL_INLINE vreal vload(const real *p) { return FL_OP(load)(p); }
FL_INLINE vreal vloadu(const real *p) { return FL_OP(loadu)(p); }
FL_INLINE void vstore(real *p, vreal v) { FL_OP(store)(p, v); }
FL_INLINE void vstream(real *p, vreal v) { FL_OP(stream)(p, v); }  // past the caches
FL_INLINE void vstoreu(real *p, vreal v) { FL_OP(storeu)(p, v); }
FL_INLINE vreal vset1(real a) { return FL_OP(set1)(a); }
#include "operators.h"
FL_INLINE vreal vmin(vreal a, vreal b) { return FL_OP(min)(a, b); }  // b if either is NaN
FL_INLINE vreal vmax(vreal a, vreal b) { return FL_OP(max)(a, b); }  // b if either is NaN
FL_INLINE vreal vfma(vreal a, vreal b, vreal c) { return FL_OP(fmadd)(a, b, c); }

FL_INLINE vreal vkeep(vreal v)
{
  __asm__("" : "+x"(v));
  return v;
}

// a in all lanes, in a register of its own.
FL_INLINE vreal vbroadcast(real a) { return vkeep(vset1(a)); }

// v, but zero in the lanes where a <= 0. A NaN in a lets v pass.
FL_INLINE vreal vzero_where_not_positive(vreal v, vreal a)
{
  return FL_OP (and)(FL_OP(cmp)(a, FL_OP(setzero)(), _CMP_NLE_UQ), v);
}

FL_INLINE __m256i first_lanes(int n)
{
#ifdef FL_DOUBLE
  return _mm256_cmpgt_epi64(_mm256_set1_epi64x(n), _mm256_setr_epi64x(0, 1, 2, 3));
#else
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
#endif
}

FL_INLINE void vstore_first(real *p, vreal v, int n) { FL_OP(maskstore)(p, first_lanes(n), v); }
FL_INLINE vreal vload_first(const real *p, int n) { return FL_OP(maskload)(p, first_lanes(n)); }

// t = n + r. Clamped to where 2^n is a normal number or exactly infinity; min and max
// return their second operand when one is NaN, so NaN passes.
FL_INLINE vreal vsplit(vreal t, vreal *n)
{
#ifdef FL_DOUBLE
  t = FL_OP(min)(vset1(1024), FL_OP(max)(vset1(-1022), t));
#else
  t = FL_OP(min)(vset1(128), FL_OP(max)(vset1(-126), t));
#endif
  *n = FL_OP(round)(t, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  return t - *n;
}

FL_INLINE vreal vscale2(vreal p, vreal n)
{
#ifdef FL_DOUBLE
  // n + 1.5 * 2^52 carries the integer in its low bits.
  const __m256i i = _mm256_castpd_si256(n + vset1(0x1.8p52));
  const __m256i e = _mm256_slli_epi64(_mm256_add_epi64(i, _mm256_set1_epi64x(1023)), 52);
  return p * _mm256_castsi256_pd(e);
#else
  const __m256i i = _mm256_cvtps_epi32(n);
  const __m256i e = _mm256_slli_epi32(_mm256_add_epi32(i, _mm256_set1_epi32(127)), 23);
  return p * _mm256_castsi256_ps(e);
#endif
}

// Lanes of a and b in turn: the first halves, the second halves.
FL_INLINE vreal vzip_low(vreal a, vreal b)
{
  return FL_OP(permute2f128)(FL_OP(unpacklo)(a, b), FL_OP(unpackhi)(a, b), 0x20);
}
FL_INLINE vreal vzip_high(vreal a, vreal b)
{
  return FL_OP(permute2f128)(FL_OP(unpacklo)(a, b), FL_OP(unpackhi)(a, b), 0x31);
}

FL_INLINE vreal vupper(vreal v) { return FL_OP(permute2f128)(v, v, 0x11); }

FL_INLINE vreal vquarter(vreal v, const int q)
{
#ifdef FL_DOUBLE
  return q == 0 ? v : q == 1 ? FL_OP(permute)(v, 1) : q == 2 ? vupper(v) : FL_OP(permute)(vupper(v), 1);
#else
  return q == 0 ? v : q == 1 ? FL_OP(permute)(v, 0x4e) : q == 2 ? vupper(v) : FL_OP(permute)(vupper(v), 0x4e);
#endif
}

#endif
