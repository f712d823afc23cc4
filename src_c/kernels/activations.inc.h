// SPDX-License-Identifier: BSD-3-Clause
// Activations that are chosen at run time, on arrays of vectors, with their slopes: the kind is looked at
// once an array. The formulas are in fastlstm/reference/activations.py. Unlike those in vmath.inc.h they take
// z itself, and scale it by -log2(e) and the like in one more rounding.
//
// Error bounds (absolute, against exact arithmetic, u the unit roundoff): sigmoid and tanh as in vmath.inc.h
// and 0.23 u and 0.45 u for the scaling, since z sigmoid'(z) and z tanh'(z) are no larger; e^z for z <= 0
// 1e-7 (float64: 2e-16) and 0.37 u; softplus that of e^-|z|, and of the series below.
#ifndef FL_ACTIVATIONS_H
#define FL_ACTIVATIONS_H

FL_INLINE vreal absolute(vreal v) { return vmax(v, vneg(v)); }

// `above` where z > 0 or NaN, else `below`. Both finite.
FL_INLINE vreal where_positive(vreal z, vreal above, vreal below)
{
  return vadd(vzero_where_not_positive(above, z), vsub(below, vzero_where_not_positive(below, z)));
}

FL_INLINE vreal vexp(vreal z) { return vexp2(vmul(z, vset1((real)FL_LOG2E))); }
FL_INLINE vreal sigmoid_of(vreal z)
{
  return vdiv(vset1(1), vadd(vset1(1), vexp2(vmul(z, vset1((real)-FL_LOG2E)))));
}
FL_INLINE vreal tanh_of(vreal z, double beta) { return vtanh(vmul(z, vset1((real)(-2 * FL_LOG2E * beta)))); }

// log(1 + u) for 0 <= u <= 1, as 2 artanh(s) with s = u / (2 + u) <= 1/3, whose series ends where what is
// left is below 2 s^(2 n + 3) / (2 n + 3) * 9/8: float32 (n = 7) 1e-9, float64 (n = 16) 2e-18.
FL_INLINE vreal log_one_plus(vreal u)
{
#ifdef FL_DOUBLE
  enum { LAST = 16 };
#else
  enum { LAST = 7 };
#endif
  const vreal s = vdiv(u, vadd(vset1(2), u)), q = vmul(s, s);
  vreal p = vset1((real)(1.0 / (2 * LAST + 1)));
  FL_UNROLL
  for (int k = LAST - 1; k >= 0; --k) p = vfma(p, q, vset1((real)(1.0 / (2 * k + 1))));
  return vmul(vadd(s, s), p);
}

// Replaces `count` vectors z at v by f(z). `slopes`: f'(z), or 0 where |z| >= limit; NULL: they are not
// wanted.
FL_INLINE void activate_all(const fastlstm_activation *a, real *v, real *slopes, real limit, int count)
{
  const vreal zero = vset1(0), one = vset1(1), alpha = vset1((real)a->alpha), beta = vset1((real)a->beta);
#define FL_ACTIVATION(kind, value, slope)                                                                    \
  case kind:                                                                                                 \
    for (int i = 0; i < count; ++i) {                                                                        \
      const vreal z = vload(v + i * VL), f = value;                                                          \
      vstore(v + i * VL, f);                                                                                 \
      if (slopes) vstore(slopes + i * VL, vzero_where_not_positive(slope, vsub(vset1(limit), absolute(z)))); \
    }                                                                                                        \
    break;
  switch (a->kind) {
    FL_ACTIVATION(FASTLSTM_SIGMOID, sigmoid_of(z), vfma(vneg(f), f, f))
    FL_ACTIVATION(FASTLSTM_TANH, tanh_of(z, 1), vfma(vneg(f), f, one))
    FL_ACTIVATION(FASTLSTM_HARD_SIGMOID, vmax(zero, vmin(one, vfma(alpha, z, beta))),
                  vzero_where_not_positive(vzero_where_not_positive(alpha, f), vsub(one, f)))
    FL_ACTIVATION(FASTLSTM_RELU, vmax(zero, z), vzero_where_not_positive(one, z))
    FL_ACTIVATION(FASTLSTM_LEAKY_RELU, vfma(alpha, vmin(zero, z), vmax(zero, z)),
                  where_positive(z, one, alpha))
    FL_ACTIVATION(FASTLSTM_THRESHOLDED_RELU, vzero_where_not_positive(z, vsub(z, alpha)),
                  vzero_where_not_positive(one, vsub(z, alpha)))
    FL_ACTIVATION(FASTLSTM_ELU, vfma(alpha, vsub(vexp(vmin(zero, z)), one), vmax(zero, z)),
                  where_positive(z, one, vmul(alpha, vexp(vmin(zero, z)))))
    FL_ACTIVATION(FASTLSTM_SOFTSIGN, vdiv(z, vadd(one, absolute(z))),
                  vdiv(one, vmul(vadd(one, absolute(z)), vadd(one, absolute(z)))))
    FL_ACTIVATION(FASTLSTM_SOFTPLUS, vadd(log_one_plus(vexp(vneg(absolute(z)))), vmax(zero, z)),
                  sigmoid_of(z))
    FL_ACTIVATION(FASTLSTM_SCALED_TANH, vmul(alpha, tanh_of(z, a->beta)),
                  vmul(alpha, vmul(beta, vfma(vneg(tanh_of(z, a->beta)), tanh_of(z, a->beta), one))))
    FL_ACTIVATION(FASTLSTM_AFFINE, vfma(alpha, z, beta), alpha)
    FL_ACTIVATION(FASTLSTM_LINEAR, z, one)
    default:
      break;  // FASTLSTM_USUAL has a name by now
  }
#undef FL_ACTIVATION
}

static void FL_NAMED(activate)(const fastlstm_activation *a, real *v, int count)
{
  activate_all(a, v, 0, 0, count);
}

static void FL_NAMED(activate_with_slopes)(const fastlstm_activation *a, real *v, real *slopes, real limit,
                                           int count)
{
  activate_all(a, v, slopes, limit, count);
}

#endif
