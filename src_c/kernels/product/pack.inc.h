// SPDX-License-Identifier: BSD-3-Clause
// Weights of one gate of one unit vector: scaled and with units side by side for the forward pass, and as
// they are for the products of the backward pass. Both in one reading.
#ifndef FL_PACK_H
#define FL_PACK_H

#include <math.h>

// VL vectors of VL lanes, transposed: each round zips the first half of the rows with the second.
FL_INLINE void transpose(vreal row[VL])
{
  FL_UNROLL
  for (int width = 1; width < VL; width *= 2) {
    vreal zipped[VL];
    FL_UNROLL
    for (int i = 0; i < VL / 2; ++i) {
      zipped[2 * i] = vzip_low(row[i], row[i + VL / 2]);
      zipped[2 * i + 1] = vzip_high(row[i], row[i + VL / 2]);
    }
    FL_UNROLL
    for (int i = 0; i < VL; ++i) row[i] = zipped[i];
  }
}

FL_INLINE void store_packed(real *to, vreal v, int streaming)
{
  if (streaming)
    vstream(to, v);
  else
    vstore(to, v);
}

// In blocks of VL inputs. Returns whether a finite weight is out of range: its product with the scale is not
// finite, and what would stand for it would be another number.
static int FL_NAMED(pack)(const fl_pack *job)
{
  const real *from = (const real *)job->w;
  real *to = job->out;
  const int64_t inputs = job->inputs, vectors = (inputs + VL - 1) / VL;
  const int rows = job->rows;
  // The scale in two parts: the product is rounded as if the scale were exact.
  const vreal high = vset1((real)job->scale), low = vset1((real)(job->scale - (double)(real)job->scale));
  vreal odd = vset1(0);  // becomes NaN where a product is not finite
  for (int64_t b = 0; b < vectors; ++b) {
    const int64_t k = b * VL, count = inputs - k < VL ? inputs - k : VL;
    vreal row[VL];
    FL_UNROLL
    for (int r = 0; r < VL; ++r) row[r] = r < rows ? load_columns(from + r * inputs, k, inputs) : vset1(0);
    if (job->transposed) {
      const int64_t width = b + 1 < vectors || b % 2 ? 2 * VL : VL;  // of the column panel
      real *transposed =
          (real *)job->transposed + b / 2 * job->transposed_rows * 2 * VL + job->first * width + b % 2 * VL;
      FL_UNROLL
      for (int r = 0; r < VL; ++r)
        if (r < rows) store_packed(transposed + r * width, row[r], job->streaming);
    }
    if (!to) continue;
    FL_UNROLL
    for (int r = 0; r < VL; ++r) {
      row[r] = vfma(row[r], high, vmul(row[r], low));
      odd = vfma(row[r], vset1(0), odd);
    }
    transpose(row);
    FL_UNROLL
    for (int j = 0; j < VL; ++j) {
      if (j >= count) continue;
      if (rows == VL && (uintptr_t)to % (VL * sizeof(real)) == 0 && job->stride % VL == 0)
        store_packed(to + (k + j) * job->stride, row[j], job->streaming);
      else
        store_units(to + (k + j) * job->stride, row[j], rows);
    }
  }
  real lanes[VL];
  vstoreu(lanes, odd);
  int plain = 1;
  for (int i = 0; i < VL; ++i) plain &= lanes[i] == 0;
  if (plain) return 0;
  int out_of_range = 0;
  for (int64_t k = 0; k < inputs; ++k) {
    for (int r = 0; r < rows; ++r) {
      const real w = from[r * inputs + k], scaled = (real)(job->scale * (double)w);
      out_of_range |= isfinite(w) && !isfinite(scaled);
      to[k * job->stride + r] = scaled;
    }
  }
  return out_of_range;
}

#endif
