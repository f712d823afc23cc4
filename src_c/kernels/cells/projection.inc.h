// SPDX-License-Identifier: BSD-3-Clause
// The projection of an LSTM's output, as the last part of its step: h = W_hr m. The product is all there is
// to compute; what it leaves goes to h and to y, clipped if there is a clip. Backward, what comes back to h
// is kept, zero where the clip bites, for the products that make gradients of m and of W_hr from it.
#ifndef FL_CELL_PROJECTION_H
#define FL_CELL_PROJECTION_H

static void FL_NAMED(projection_forward)(const fl_layer *layer, const fl_step *job, real *z, int64_t z_row,
                                         int64_t panel, int64_t row, int rows)
{
  const int64_t unit = panel * FL_PANEL * VL, left = layer->units - unit;
  const real limit = (real)layer->options->proj_clip;
  for (int r = 0; r < rows; ++r, z += z_row) {
    real *h = (real *)job->h_next + (row + r) * job->h_stride + unit, *y = (real *)job->y[row + r] + unit;
    for (int v = 0; v < FL_PANEL && v * VL < left; ++v) {
      const vreal sum = clipped(vload(z + v * VL), limit);
      const int64_t count = left - v * VL;
      vstore(h + v * VL, sum);
      store_units(y + v * VL, sum, count < VL ? (int)count : VL);
    }
  }
}

static void FL_NAMED(projection_backward)(const fl_layer *layer, const fl_back_step *job, const real *dh,
                                          int64_t dh_row, int64_t vector, int64_t row, int rows)
{
  real *now = (real *)job->now + vector * job->stride + row * VL;
  const real limit = (real)layer->options->proj_clip;
  for (int r = 0; r < rows; ++r) {
    const vreal h = vload((const real *)job->h + (row + r) * job->h_stride + vector * VL);
    const vreal all = output_gradient(layer, job, vload(dh + r * dh_row), vector * VL, row + r);
    vstore(now + r * VL, vzero_where_not_positive(all, vsub(vset1(limit), absolute(h))));
  }
}

static const cell_kernels FL_NAMED(projection) = {.forward = FL_NAMED(projection_forward),
                                                  .backward = FL_NAMED(projection_backward)};

#endif
