// SPDX-License-Identifier: BSD-3-Clause
// The cell's arithmetic. Weights are packed with the factor -log2(e) (gates i, f, o) or
// -2 log2(e) (gate g), so a pre-activation z arrives as t and exp(-z) or exp(-2z) is 2^t.
//
//   sigmoid(z) = 1 / (1 + 2^t)          tanh(z) = 2 / (1 + 2^t) - 1
//
// Error bounds, asserted by tests/test_accuracy.py (absolute, against exact arithmetic):
//   float32: polynomial 1e-7 relative, sigmoid 1.1e-7, tanh 2.2e-7
//   float64: polynomial 4e-18 before rounding, sigmoid 2e-16, tanh 4e-16
#ifndef FL_VMATH_H
#define FL_VMATH_H

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
// all before the second of any: each half is one long chain of dependent operations.
//
// First half: i, f, q = 2 / (1 + 2^tg) = 1 + g, and o in place of the pre-activations; then
// c' = f c + i g, where i g = i q - i, so that only the last operation of each sum waits for a
// division.
FL_INLINE void cell_gates(vreal gate[4])
{
  const vreal one = vset1(1), two = vset1(2);
  gate[0] = one / (one + vexp2(gate[0]));
  gate[1] = one / (one + vexp2(gate[1]));
  gate[2] = two / (one + vexp2(gate[2]));
  gate[3] = one / (one + vexp2(gate[3]));
}

FL_INLINE vreal cell_state(const vreal gate[4], vreal c)
{
  return vfma(gate[0], gate[2], vfma(gate[1], c, -gate[0]));
}

// Second half: h = o tanh(c').
FL_INLINE vreal cell_output(vreal o, vreal c)
{
  const vreal one = vset1(1), two = vset1(2);
  return (two * o) / (one + vexp2(c * vset1((real)(-2 * FL_LOG2E)))) - o;
}

FL_INLINE vreal cell_tanh(vreal c)
{
  return vset1(2) / (vset1(1) + vexp2(c * vset1((real)(-2 * FL_LOG2E)))) - vset1(1);
}

// What backward keeps of a row's panel: i, f, g, o after activation. A long tape goes past the caches,
// which it would only sweep clean.
FL_INLINE void cell_save(real *saved, const vreal gate[4], int far)
{
  const vreal g = gate[2] - vset1(1);
  if (far) {
    vstore_far(saved, gate[0]);
    vstore_far(saved + VL, gate[1]);
    vstore_far(saved + 2 * VL, g);
    vstore_far(saved + 3 * VL, gate[3]);
  } else {
    vstore(saved, gate[0]);
    vstore(saved + VL, gate[1]);
    vstore(saved + 2 * VL, g);
    vstore(saved + 3 * VL, gate[3]);
  }
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
