// SPDX-License-Identifier: BSD-3-Clause
// Weights of one gate of one panel, scaled and turned so that units lie side by side.
#ifndef FL_PACK_H
#define FL_PACK_H

#include <float.h>
#include <math.h>

// A finite weight stays finite when scaled, or 0 times it would be NaN.
FL_INLINE real scale_weight(real w, double scale)
{
#ifdef FL_DOUBLE
  const double limit = DBL_MAX, product = scale * w;
#else
  const double limit = FLT_MAX, product = scale * (double)w;
#endif
  return (real)(isfinite(w) && fabs(product) > limit ? copysign(limit, product) : product);
}

// Blocks of VL inputs: the rows they are read from and the lines they are written to stay in the
// first-level cache.
static void pack(const void *w, int64_t inputs, int rows, double scale, void *out, int64_t stride)
{
  const real *from = w;
  for (int64_t k = 0; k < inputs; k += VL) {
    const int count = inputs - k < VL ? (int)(inputs - k) : VL;
    for (int j = 0; j < count; ++j) {
      real *to = (real *)out + (k + j) * stride;
      for (int r = 0; r < rows; ++r) to[r] = scale_weight(from[r * inputs + k + j], scale);
    }
  }
}

#endif
