// SPDX-License-Identifier: BSD-3-Clause
// The projection of an LSTM's output, as the last part of its step: h = W_hr m. The product is all there is
// to compute; what it leaves goes to h and to y, clipped if there is a clip. Backward, what comes back to h
// is kept, zero where the clip bites, for the products that make gradients of m and of W_hr from it.
#ifndef FL_CELL_PROJECTION_H
#define FL_CELL_PROJECTION_H

// Where h goes through noise: a vector of units of some rows at a time.
static void FL_NAMED(noisy_projection)(const fl_layer *layer, const fl_step *job, const real *z,
                                       int64_t z_row, int64_t panel, int64_t row, int rows)
{
  const real limit = (real)layer->options->proj_clip;
  real h[NOISE_ROWS * VL] __attribute__((aligned(64)));
  for (int64_t v = panel * FL_PANEL; v < (panel + 1) * FL_PANEL && v * VL < layer->units; ++v) {
    const real *sums = z + (v - panel * FL_PANEL) * VL;
    for (int first = 0; first < rows; first += NOISE_ROWS) {
      const int count = rows - first < NOISE_ROWS ? rows - first : NOISE_ROWS;
      for (int r = 0; r < count; ++r) vstore(h + r * VL, clipped(vload(sums + (first + r) * z_row), limit));
      FL_NAMED(put_h)(layer, job, h, (noise_tile){v, row + first, 1, count});
    }
  }
}

static void FL_NAMED(projection_forward)(const fl_layer *layer, const fl_step *job, real *z, int64_t z_row,
                                         int64_t panel, int64_t row, int rows)
{
  const int64_t unit = panel * FL_PANEL * VL, left = layer->units - unit;
  const real limit = (real)layer->options->proj_clip;
  if (h_has_noise(layer, job->noise)) {
    FL_NAMED(noisy_projection)(layer, job, z, z_row, panel, row, rows);
    return;
  }
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
  const int noisy = h_has_noise(layer, job->noise);
  for (int r = 0; noisy && r < rows; r += NOISE_ROWS) {
    const int count = rows - r < NOISE_ROWS ? rows - r : NOISE_ROWS;
    const noise_tile tile = {vector, row + r, 1, count};
    FL_NAMED(take_h_gradients)(layer, job, dh + r * dh_row, 0, dh_row, tile, now + r * VL);
  }
  for (int r = 0; r < rows; ++r) {
    const vreal h = vload((const real *)job->h + (row + r) * job->h_stride + vector * VL);
    const vreal all = noisy ? vload(now + r * VL)
                            : output_gradient(layer, job, vload(dh + r * dh_row), vector * VL, row + r);
    vstore(now + r * VL, vzero_where_not_positive(all, vsub(vset1(limit), absolute(h))));
  }
}

static const cell_kernels FL_NAMED(projection) = {.forward = FL_NAMED(projection_forward),
                                                  .backward = FL_NAMED(projection_backward)};

#endif
