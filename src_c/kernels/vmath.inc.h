// SPDX-License-Identifier: BSD-3-Clause
// Activations. Weights are packed with the factor -log2(e) (of a sigmoid) or -2 log2(e) (of a tanh), so a
// pre-activation z arrives as t, and exp(-z) or exp(-2 z) is 2^t.
//
//   sigmoid(z) = 1 / (1 + 2^t)          tanh(z) = (1 - 2^t) / (1 + 2^t)
//
// Error bounds, asserted by tests/numerics/test_accuracy.py (absolute, against exact arithmetic):
//   float32: polynomial 1e-7 relative, sigmoid 1.1e-7, tanh 2.2e-7
//   float64: polynomial 4e-18 before rounding, sigmoid 2e-16, tanh 4e-16
#ifndef FL_VMATH_H
#define FL_VMATH_H

#include <float.h>

// 2^r for |r| <= 1/2, minimax with the constant term fixed at 1 so that 2^0 is exact. Estrin.
FL_INLINE vreal exp2_fraction(vreal r)
{
  const vreal r2 = vmul(r, r);
#ifdef FL_DOUBLE
  const vreal p01 = vfma(vset1(0.69314718055994532582), r, vset1(1.0));
  const vreal p23 = vfma(vset1(0.055504108664820082161), r, vset1(0.24022650695910131294));
  const vreal p45 = vfma(vset1(0.001333355814677483183), r, vset1(0.0096181291075941091739));
  const vreal p67 = vfma(vset1(1.5252733492952172398e-5), r, vset1(1.5403530457123798094e-4));
  const vreal p89 = vfma(vset1(1.017819963673937534e-7), r, vset1(1.3215435277182487043e-6));
  const vreal pab = vfma(vset1(4.4347624353030386285e-10), r, vset1(7.0737840388824470227e-9));
  const vreal r4 = vmul(r2, r2);
  const vreal p03 = vfma(p23, r2, p01);
  const vreal p47 = vfma(p67, r2, p45);
  const vreal p8b = vfma(pab, r2, p89);
  return vfma(vfma(p8b, r4, p47), r4, p03);
#else
  const vreal p01 = vfma(vset1(0.6931470036506653f), r, vset1(1.0f));
  const vreal p23 = vfma(vset1(0.0555071085691452f), r, vset1(0.24022246897220612f));
  const vreal p45 = vfma(vset1(0.0013269521296024323f), r, vset1(0.009671291336417198f));
  return vfma(vfma(p45, r2, p23), r2, p01);
#endif
}

FL_INLINE vreal vexp2(vreal t)
{
  vreal n;
  const vreal r = vsplit(t, &n);
  return vscale2(exp2_fraction(r), n);
}

// Where tanh is -1 to the last bit the exponential stops growing, and 1 + 2^t stops at the largest number, so
// that nothing becomes infinity times zero.
#ifdef FL_DOUBLE
#define FL_MOST_TANH 60
#define FL_LARGEST   DBL_MAX
#else
#define FL_MOST_TANH 30
#define FL_LARGEST   FLT_MAX
#endif

FL_INLINE vreal vexp2_tanh(vreal t) { return vexp2(vmin(vset1(FL_MOST_TANH), t)); }
FL_INLINE vreal one_plus_exp2(vreal t) { return vmin(vset1(FL_LARGEST), vadd(vset1(1), vexp2(t))); }

// tanh from t = -2 log2(e) z.
FL_INLINE vreal vtanh(vreal t)
{
  const vreal b = vexp2_tanh(t);
  return vdiv(vsub(vset1(1), b), vadd(vset1(1), b));
}

// An activation for the backward pass. A tape that outgrows the caches is written past them: it would only
// sweep them clean.
FL_INLINE void save_activation(real *to, vreal v, int streaming)
{
  if (streaming)
    vstream(to, v);
  else
    vstore(to, v);
}

#endif
