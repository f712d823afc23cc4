// SPDX-License-Identifier: BSD-3-Clause
// The cell's arithmetic. Weights are packed with the factor -log2(e) (gates i, f, o) or
// -2 log2(e) (gate g), so a pre-activation z arrives as t and exp(-z) or exp(-2z) is 2^t.
//
//   sigmoid(z) = 1 / (1 + 2^t)          tanh(z) = (1 - 2^t) / (1 + 2^t)
//
// Error bounds, asserted by tests/numerics/test_accuracy.py (absolute, against exact arithmetic):
//   float32: polynomial 1e-7 relative, sigmoid 1.1e-7, tanh 2.2e-7
//   float64: polynomial 4e-18 before rounding, sigmoid 2e-16, tanh 4e-16
#ifndef FL_VMATH_H
#define FL_VMATH_H

#include <float.h>

#define FL_LOG2E 1.44269504088896340736

// 2^r for |r| <= 1/2, minimax with the constant term fixed at 1 so that 2^0 is exact. Estrin.
FL_INLINE vreal exp2_fraction(vreal r)
{
  const vreal r2 = r * r;
#ifdef FL_DOUBLE
  const vreal p01 = vfma(vset1(0.69314718055994532582), r, vset1(1.0));
  const vreal p23 = vfma(vset1(0.055504108664820082161), r, vset1(0.24022650695910131294));
  const vreal p45 = vfma(vset1(0.001333355814677483183), r, vset1(0.0096181291075941091739));
  const vreal p67 = vfma(vset1(1.5252733492952172398e-5), r, vset1(1.5403530457123798094e-4));
  const vreal p89 = vfma(vset1(1.017819963673937534e-7), r, vset1(1.3215435277182487043e-6));
  const vreal pab = vfma(vset1(4.4347624353030386285e-10), r, vset1(7.0737840388824470227e-9));
  const vreal r4 = r2 * r2;
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

// The cell update in two halves, so that a caller with several cells can run the first half of
// all before the second of any: each half is one long chain of dependent operations. Divisions cost
// most of it, so a product of two activations takes one:
//
//   sigmoid(z) tanh(y) = (1 - b) / ((1 + a) (1 + b))   with a = 2^t of z, b = 2^t of y
//
// b stops where tanh is -1 to the last bit, and 1 + a at the largest number, so that nothing becomes
// infinity times zero; the quotient is 0 there.
#ifdef FL_DOUBLE
#define FL_MOST_TANH 60
#define FL_LARGEST   DBL_MAX
#else
#define FL_MOST_TANH 30
#define FL_LARGEST   FLT_MAX
#endif

FL_INLINE vreal vexp2_tanh(vreal t) { return vexp2(vmin(vset1(FL_MOST_TANH), t)); }
FL_INLINE vreal one_plus_exp2(vreal t) { return vmin(vset1(FL_LARGEST), vset1(1) + vexp2(t)); }

// First half: from the pre-activations to c' = f c + i g, which is returned. gate becomes i, f, g as the
// tape keeps them, and 1 + 2^to for the second half. (Where i is 0, g may be anything finite: no gradient
// depends on it.)
FL_INLINE vreal cell_state(vreal gate[4], vreal c)
{
  const vreal one = vset1(1);
  const vreal a = one_plus_exp2(gate[0]), b = vexp2_tanh(gate[2]), top = one - b;
  const vreal r = one / vfma(a, b, a), f = one / (one + vexp2(gate[1]));
  gate[0] = r * (one + b);
  gate[1] = f;
  gate[2] = top * (r * a);
  gate[3] = one_plus_exp2(gate[3]);
  return vfma(f, c, top * r);
}

// Second half: h = o tanh(c'), from d = 1 + 2^to; o for the tape.
FL_INLINE vreal cell_output(vreal d, vreal c, vreal *o)
{
  const vreal one = vset1(1);
  const vreal e = vexp2_tanh(c * vset1((real)(-2 * FL_LOG2E))), r = one / vfma(d, e, d);
  *o = r * (one + e);
  return (one - e) * r;
}

FL_INLINE vreal cell_tanh(vreal c)
{
  return vset1(2) / (vset1(1) + vexp2(c * vset1((real)(-2 * FL_LOG2E)))) - vset1(1);
}

// A gate for the backward pass. A long tape goes past the caches, which it would only sweep clean.
FL_INLINE void cell_save(real *saved, vreal v, int far)
{
  if (far)
    vstore_far(saved, v);
  else
    vstore(saved, v);
}

// Backward of the cell: from dh and dc of its outputs to the gradients of the pre-activations, in
// `d`, and of the c that came in, which is returned. The derivation is in fastlstm/reference.py.
FL_INLINE vreal cell_backward(const real *saved, vreal c, vreal c_prev, vreal dh, vreal dc, vreal d[4])
{
  const vreal one = vset1(1);
  const vreal i = vload(saved), f = vload(saved + VL), g = vload(saved + 2 * VL), o = vload(saved + 3 * VL);
  const vreal tanh_c = cell_tanh(c), through = dh * o;
  const vreal total = dc + vfma(-(through * tanh_c), tanh_c, through);
  d[0] = total * g * vfma(-i, i, i);
  d[1] = total * c_prev * vfma(-f, f, f);
  d[2] = total * i * vfma(-g, g, one);
  d[3] = dh * tanh_c * vfma(-o, o, o);
  return total * f;
}

#endif
