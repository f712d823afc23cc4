// SPDX-License-Identifier: BSD-3-Clause
// The GRU cell that resets before the product, in two stages, forward and backward:
//
//   r, z = sigmoid(a_r, a_z)     m = r h                      from the sums of x and h
//   n = tanh(a_n)                h' = n + z (h - n)           from those of x and m
//
// Kept for the second stage and for the backward pass, besides h and m: r, z, n. The derivation is in
// fastlstm/reference/gru.py.
#ifndef FL_CELL_GRU_BEFORE_H
#define FL_CELL_GRU_BEFORE_H

// ---- forward ----

// One unit vector in some rows. `shared`: both gates share one vector.
FL_INLINE void gru_gates_of(const int shared, const fl_step *job, const real *z, int64_t z_row,
                            int64_t vector, int64_t row, int rows)
{
  const real *h_prev = (const real *)job->h_prev + row * job->h_stride + vector * VL;
  real *m = (real *)job->h_next + row * job->h_stride + vector * VL;
  real *kept = (real *)job->activations + 3 * (vector * job->c_stride + row * VL);
  for (int i = 0; i < rows; ++i, z += z_row, kept += 3 * VL) {
    const vreal sum = vload(z), r = gru_sigmoid(sum);
    vstore(kept, r);
    vstore(kept + VL, gru_sigmoid(shared ? vupper(sum) : vload(z + VL)));
    vstore(m + i * job->h_stride, vmul(r, vload(h_prev + i * job->h_stride)));
  }
}

static void FL_NAMED(gru_gates_forward)(const fl_layer *layer, const fl_step *job, real *z, int64_t z_row,
                                        int64_t panel, int64_t row, int rows)
{
  enum { VECTORS = FL_PANEL / 2 };  // unit vectors of a panel
  for (int64_t v = panel * VECTORS; v < (panel + 1) * VECTORS && v * VL < layer->units; ++v, z += 2 * VL) {
    if (panel == layer->full && layer->remainder == 1)
      gru_gates_of(1, job, z, z_row, v, row, rows);
    else
      gru_gates_of(0, job, z, z_row, v, row, rows);
  }
}

static void FL_NAMED(gru_candidate_forward)(const fl_layer *layer, const fl_step *job, real *z, int64_t z_row,
                                            int64_t panel, int64_t row, int rows)
{
  for (int r = 0; r < rows; ++r, z += z_row) {
    const int64_t start = (row + r) * job->h_stride;
    for (int64_t v = 0; v < FL_PANEL; ++v) {
      const int64_t vector = panel * FL_PANEL + v, unit = vector * VL, left = layer->units - unit;
      if (left <= 0) break;
      real *kept = (real *)job->activations + 3 * (vector * job->c_stride + (row + r) * VL);
      const vreal n = vtanh(vload(z + v * VL)), h = vload((const real *)job->h_old + start + unit);
      const vreal out = vfma(vload(kept + VL), vsub(h, n), n);
      vstore(kept + 2 * VL, n);
      vstore((real *)job->h_next + start + unit, out);
      store_units((real *)job->y[row + r] + unit, out, left < VL ? (int)left : VL);
    }
  }
}

// ---- backward ----

// From dh of h' to the gradients of a_n and a_z:
//
//   da_n = dh (1 - z) (1 - n^2)     da_z = dh (h - n) z (1 - z)
//
// What h gets beside the products is carried: dh z here, dm r in the other stage.
static void FL_NAMED(gru_candidate_backward)(const fl_layer *layer, const fl_back_step *job, const real *dh,
                                             int64_t dh_row, int64_t vector, int64_t row, int rows)
{
  const vreal one = vset1(1);
  const int64_t at = vector * job->c_stride + row * VL, unit = vector * VL;
  const real *kept = (const real *)job->activations + 3 * at;
  const real *h_prev = (const real *)job->h_prev + row * job->h_stride + unit;
  real *carry = (real *)job->carry + at, *bias = (real *)job->bias + 3 * vector * VL;
  real *now = (real *)job->now + vector * job->stride + row * VL;
  real *z_now = (real *)job->first + (2 * vector + 1) * job->stride + row * VL;
  vreal sum_z = vload(bias + VL), sum_n = vload(bias + 2 * VL);
  for (int i = 0; i < rows; ++i, kept += 3 * VL) {
    const vreal z = vload(kept + VL), n = vload(kept + 2 * VL);
    const vreal given = output_gradient(layer, job, vload(dh + i * dh_row), unit, row + i);
    const vreal total = vadd(given, vload(carry + i * VL));
    const vreal d_n = vmul(vmul(total, vsub(one, z)), vfma(vneg(n), n, one));
    const vreal d_z = vmul(vmul(total, vsub(vload(h_prev + i * job->h_stride), n)), vfma(vneg(z), z, z));
    vstore(carry + i * VL, vmul(total, z));
    vstore(now + i * VL, d_n);
    vstore(z_now + i * VL, d_z);
    sum_z = vadd(sum_z, d_z);
    sum_n = vadd(sum_n, d_n);
  }
  vstore(bias + VL, sum_z);
  vstore(bias + 2 * VL, sum_n);
}

// From dm of m = r h to the gradient of a_r: da_r = dm h r (1 - r).
static void FL_NAMED(gru_gates_backward)(const fl_layer *layer, const fl_back_step *job, const real *dm,
                                         int64_t dm_row, int64_t vector, int64_t row, int rows)
{
  (void)layer;
  const int64_t at = vector * job->c_stride + row * VL;
  const real *kept = (const real *)job->activations + 3 * at;
  const real *h_prev = (const real *)job->h_prev + row * job->h_stride + vector * VL;
  real *carry = (real *)job->carry + at, *bias = (real *)job->bias + 3 * vector * VL;
  real *now = (real *)job->now + 2 * vector * job->stride + row * VL;
  vreal sum = vload(bias);
  for (int i = 0; i < rows; ++i) {
    const vreal r = vload(kept + 3 * i * VL), d = vload(dm + i * dm_row);
    const vreal d_r = vmul(vmul(d, vload(h_prev + i * job->h_stride)), vfma(vneg(r), r, r));
    vstore(carry + i * VL, vfma(d, r, vload(carry + i * VL)));
    vstore(now + i * VL, d_r);
    sum = vadd(sum, d_r);
  }
  vstore(bias, sum);
}

static const cell_kernels FL_NAMED(gru_gates) = {.forward = FL_NAMED(gru_gates_forward),
                                                 .backward = FL_NAMED(gru_gates_backward)};
static const cell_kernels FL_NAMED(gru_candidate) = {.forward = FL_NAMED(gru_candidate_forward),
                                                     .backward = FL_NAMED(gru_candidate_backward)};

#endif
