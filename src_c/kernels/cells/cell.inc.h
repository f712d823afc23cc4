// SPDX-License-Identifier: BSD-3-Clause
// What every cell provides, and what they share.
#ifndef FL_CELL_H
#define FL_CELL_H

// A tile of product and cell in one function, for a cell that gains from keeping sums in registers.
typedef void fused_fn(const fl_layer *, const fl_step *, int64_t panel, int64_t row);

// Sums of one product, of x or of h, of a cell that takes them apart: vector v of a bundle's sums of row r
// stands at v / FL_PANEL * panel + r * row + v % FL_PANEL * VL.
typedef struct bundle_sums {
  const real *at;
  int64_t panel, row;
} bundle_sums;

typedef struct cell_kernels {
  // From the sums of `rows` rows of a panel, at z[r * z_row + vector * VL], to states, output and what the
  // backward pass needs. z may be overwritten.
  void (*forward)(const fl_layer *, const fl_step *, real *z, int64_t z_row, int64_t panel, int64_t row,
                  int rows);
  // Likewise of a cell that takes the sums of x and of h apart, from those of the unit vectors [vector,
  // vector + count), whose rows stand from `row` on. `forward` is NULL then.
  void (*forward_apart)(const fl_layer *, const fl_step *, const bundle_sums *x, const bundle_sums *h,
                        int64_t vector, int count, int64_t row, int rows);
  // Of a cell with row_sums, for which `forward` only keeps sums, and `backward` only recurrent gradients of
  // h: the rest, of rows [row, row + rows), whose sums stand at the start of job->row_sums, and of all rows.
  void (*forward_rows)(const fl_layer *, const fl_step *, int64_t row, int rows);
  void (*backward_rows)(const fl_layer *, const fl_back_step *);
  // From the recurrent gradients of `rows` rows of a unit vector, at dh[r * dh_row], to gate gradients and
  // the sums of those of the biases.
  void (*backward)(const fl_layer *, const fl_back_step *, const real *dh, int64_t dh_row, int64_t vector,
                   int64_t row, int rows);
  // Indexed as those of product_kernels; NULL: not fused.
  fused_fn *fused[FL_CHAINS][FL_TILE_ROWS][FL_TILE_PANELS + 1][3];
  fused_fn *fused_prefetching[FL_TILE_ROWS];
} cell_kernels;

// The gradient of a row's h: what came through the next step, and what the caller gave.
FL_INLINE vreal output_gradient(const fl_layer *layer, const fl_back_step *job, vreal recurrent, int64_t unit,
                                int64_t row)
{
  vreal dh = recurrent;
  if (job->dy) dh = vadd(dh, load_columns(job->dy[row], unit, layer->units));
  if (job->dh_last) dh = vadd(dh, vload((const real *)job->dh_last + row * job->dh_stride + unit));
  return dh;
}

#endif
