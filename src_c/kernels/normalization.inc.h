// SPDX-License-Identifier: BSD-3-Clause
// Layer normalisation of rows of units, forward and backward; the formulas are in
// fastlstm/reference/normalization.py. A row is fl_row_units wide; `parts` rows that follow each other are
// normalised together.
//
// A sum runs in as many partial sums as a cache line holds numbers, whatever the vectors: unit u of a row
// goes to sum u % NORM_LANES, row after row. Then their upper half is added to their lower half until one is
// left. What stands behind the last unit of a row is zero meanwhile, and changes no sum.
#ifndef FL_NORMALIZATION_H
#define FL_NORMALIZATION_H

enum { NORM_LANES = 64 / sizeof(real), NORM_VECTORS = NORM_LANES / VL };

typedef struct norm_rows {
  int parts;
  int64_t units, width;
} norm_rows;

FL_INLINE int64_t norm_length(const norm_rows *rows) { return rows->parts * rows->width; }
FL_INLINE real norm_count(const norm_rows *rows) { return (real)(rows->parts * rows->units); }

// Zeros behind the last unit of each row.
FL_INLINE void clear_padding(real *v, const norm_rows *rows)
{
  const int64_t units = rows->units;
  for (int p = 0; p < rows->parts; ++p, v += rows->width)
    for (int64_t u = units / VL * VL; u < rows->width; u += VL)
      vstore(v + u, u < units ? vload_first(v + u, (int)(units - u)) : vset1(0));
}

FL_INLINE real join_sums(const vreal *sums)
{
  real lanes[NORM_LANES] __attribute__((aligned(64)));
  FL_UNROLL
  for (int j = 0; j < NORM_VECTORS; ++j) vstore(lanes + j * VL, sums[j]);
  FL_UNROLL
  for (int half = NORM_LANES / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  return lanes[0];
}

FL_INLINE real sum_of(const real *v, int64_t length)
{
  vreal sums[NORM_VECTORS];
  FL_UNROLL
  for (int j = 0; j < NORM_VECTORS; ++j) sums[j] = vset1(0);
  for (int64_t i = 0; i < length; i += NORM_LANES) {
    FL_UNROLL
    for (int j = 0; j < NORM_VECTORS; ++j) sums[j] = vadd(sums[j], vload(v + i + j * VL));
  }
  return join_sums(sums);
}

FL_INLINE real sum_of_products(const real *v, const real *w, int64_t length)
{
  vreal sums[NORM_VECTORS];
  FL_UNROLL
  for (int j = 0; j < NORM_VECTORS; ++j) sums[j] = vset1(0);
  for (int64_t i = 0; i < length; i += NORM_LANES) {
    FL_UNROLL
    for (int j = 0; j < NORM_VECTORS; ++j)
      sums[j] = vfma(vload(v + i + j * VL), vload(w + i + j * VL), sums[j]);
  }
  return join_sums(sums);
}

// 1 / sqrt(variance + epsilon) of rows that have no mean any more, nor anything behind their last units.
static real FL_NAMED(norm_scale)(const real *v, const norm_rows *rows, real epsilon)
{
  const real variance = sum_of_products(v, v, norm_length(rows)) / norm_count(rows);
#ifdef FL_DOUBLE
  return 1 / __builtin_sqrt(variance + epsilon);
#else
  return 1 / __builtin_sqrtf(variance + epsilon);
#endif
}

// Takes the mean away; returns norm_scale.
static real FL_NAMED(norm_center)(real *v, const norm_rows *rows, real epsilon)
{
  clear_padding(v, rows);
  const int64_t length = norm_length(rows);
  const vreal mean = vset1(sum_of(v, length) / norm_count(rows));
  for (int64_t i = 0; i < length; i += VL) vstore(v + i, vsub(vload(v + i), mean));
  clear_padding(v, rows);
  return FL_NAMED(norm_scale)(v, rows, epsilon);
}

// Gradients of normalised rows u to those of what was normalised, in place: r (d - mean(d) - u mean(d u)).
static void FL_NAMED(norm_back)(real *d, const real *u, real scale, const norm_rows *rows)
{
  clear_padding(d, rows);
  const int64_t length = norm_length(rows);
  const vreal mean = vset1(sum_of(d, length) / norm_count(rows));
  const vreal slope = vset1(sum_of_products(d, u, length) / norm_count(rows)), r = vset1(scale);
  for (int64_t i = 0; i < length; i += VL)
    vstore(d + i, vmul(r, vfma(vneg(vload(u + i)), slope, vsub(vload(d + i), mean))));
}

#endif
