// SPDX-License-Identifier: BSD-3-Clause
// The RNN cell of Elman, forward and backward: h = tanh(z) or relu(z). The derivatives need h alone.
#ifndef FL_CELL_RNN_H
#define FL_CELL_RNN_H

FL_INLINE void rnn_forward_of(const int relu, const fl_layer *layer, const fl_step *job, const real *z,
                              int64_t z_row, int64_t panel, int64_t row, int rows)
{
  const int64_t unit = panel * FL_PANEL * VL, left = layer->units - unit;
  for (int r = 0; r < rows; ++r, z += z_row) {
    real *h = (real *)job->h_next + (row + r) * job->h_stride + unit, *y = (real *)job->y[row + r] + unit;
    for (int v = 0; v < FL_PANEL && v * VL < left; ++v) {
      const vreal sum = vload(z + v * VL), out = relu ? vmax(vset1(0), sum) : vtanh(sum);
      const int64_t count = left - v * VL;
      vstore(h + v * VL, out);
      store_units(y + v * VL, out, count < VL ? (int)count : VL);
    }
  }
}

FL_INLINE void rnn_backward_of(const int relu, const fl_layer *layer, const fl_back_step *job, const real *dh,
                               int64_t dh_row, int64_t vector, int64_t row, int rows)
{
  const int64_t unit = vector * VL;
  const real *h = (const real *)job->h + row * job->h_stride + unit;
  real *bias = (real *)job->bias + vector * VL, *now = (real *)job->now + vector * job->stride + row * VL;
  vreal sum = vload(bias);
  for (int r = 0; r < rows; ++r) {
    const vreal total = output_gradient(layer, job, vload(dh + r * dh_row), unit, row + r);
    const vreal out = vload(h + r * job->h_stride);
    const vreal d = relu ? vzero_where_not_positive(total, out) : vmul(total, vfma(vneg(out), out, vset1(1)));
    vstore(now + r * VL, d);
    sum = vadd(sum, d);
  }
  vstore(bias, sum);
}

#define FL_RNN(name, relu)                                                                                \
  static void FL_NAMED(name##_forward)(const fl_layer *layer, const fl_step *job, real *z, int64_t z_row, \
                                       int64_t panel, int64_t row, int rows)                              \
  {                                                                                                       \
    rnn_forward_of(relu, layer, job, z, z_row, panel, row, rows);                                         \
  }                                                                                                       \
  static void FL_NAMED(name##_backward)(const fl_layer *layer, const fl_back_step *job, const real *dh,   \
                                        int64_t dh_row, int64_t vector, int64_t row, int rows)            \
  {                                                                                                       \
    rnn_backward_of(relu, layer, job, dh, dh_row, vector, row, rows);                                     \
  }                                                                                                       \
  static const cell_kernels FL_NAMED(name) = {.forward = FL_NAMED(name##_forward),                        \
                                              .backward = FL_NAMED(name##_backward)};
FL_RNN(rnn_tanh, 0)
FL_RNN(rnn_relu, 1)

#endif
