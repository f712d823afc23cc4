// SPDX-License-Identifier: BSD-3-Clause
// The GRU cell that resets after the product ("linear before reset"), forward and backward. x and h stand for
// the sums of their products, each with its own bias:
//
//   r, z = sigmoid(x_r + h_r, x_z + h_z)     n = tanh(x_n + r h_n)     h' = n + z (h - n)
//
// Kept for the backward pass besides h: r, z, n and h_n, the last times the scale of its weights. The
// derivation is in fastlstm/reference/gru.py.
#ifndef FL_CELL_GRU_H
#define FL_CELL_GRU_H

// ---- forward ----

// Sums r, z, n of one row from the `vectors` vectors that hold them; of the last unit vector, gates share
// vectors where it has few units.
FL_INLINE void gru_split(const int vectors, const vreal z[3], vreal sum[3])
{
  sum[0] = z[0];
  if (vectors == 3) {
    sum[1] = z[1];
    sum[2] = z[2];
  } else if (vectors == 2) {
    sum[1] = vupper(z[0]);
    sum[2] = z[1];
  } else {
    sum[1] = vquarter(z[0], 1);
    sum[2] = vquarter(z[0], 2);
  }
}

FL_INLINE void gru_sums(const int vectors, const real *row, const int64_t at[3], vreal sum[3])
{
  vreal z[3];
  for (int v = 0; v < vectors; ++v) z[v] = vload(row + at[v]);
  gru_split(vectors, z, sum);
}

FL_INLINE vreal gru_sigmoid(vreal t) { return vdiv(vset1(1), vadd(vset1(1), vexp2(t))); }

// One unit vector, the bundle's vector `first / 3`, in some rows.
FL_INLINE void gru_forward_of(const int vectors, const fl_layer *layer, const fl_step *job,
                              const bundle_sums *x, const bundle_sums *h, int first, int64_t vector,
                              int64_t row, int rows)
{
  const int64_t unit = vector * VL, left = layer->units - unit, state = vector * job->c_stride + row * VL;
  const int count = left < VL ? (int)left : VL;
  const real *h_prev = (const real *)job->h_prev + row * job->h_stride + unit;
  real *h_next = (real *)job->h_next + row * job->h_stride + unit;
  real *kept = job->activations ? (real *)job->activations + 4 * state : 0;
  int64_t at_x[3], at_h[3];
  for (int v = 0; v < vectors; ++v) {
    at_x[v] = (first + v) / FL_PANEL * x->panel + (first + v) % FL_PANEL * VL;
    at_h[v] = (first + v) / FL_PANEL * h->panel + (first + v) % FL_PANEL * VL;
  }
  for (int i = 0; i < rows; ++i) {
    vreal of_x[3], of_h[3];
    gru_sums(vectors, x->at + i * x->row, at_x, of_x);
    gru_sums(vectors, h->at + i * h->row, at_h, of_h);
    const vreal r = gru_sigmoid(vadd(of_x[0], of_h[0])), z = gru_sigmoid(vadd(of_x[1], of_h[1]));
    const vreal n = vtanh(vfma(r, of_h[2], of_x[2]));
    const vreal out = vfma(z, vsub(vload(h_prev + i * job->h_stride), n), n);
    if (kept) {
      save_activation(kept + 4 * i * VL, r, job->streaming);
      save_activation(kept + (4 * i + 1) * VL, z, job->streaming);
      save_activation(kept + (4 * i + 2) * VL, n, job->streaming);
      save_activation(kept + (4 * i + 3) * VL, of_h[2], job->streaming);
    }
    vstore(h_next + i * job->h_stride, out);
    store_units((real *)job->y[row + i] + unit, out, count);
  }
}

static void FL_NAMED(gru_forward)(const fl_layer *layer, const fl_step *job, const bundle_sums *x,
                                  const bundle_sums *h, int64_t vector, int count, int64_t row, int rows)
{
  for (int v = 0; v < count; ++v) {
    const int vectors = (vector + v + 1) * VL <= layer->units ? 3 : layer->last;
    if (vectors == 3)
      gru_forward_of(3, layer, job, x, h, 3 * v, vector + v, row, rows);
    else if (vectors == 2)
      gru_forward_of(2, layer, job, x, h, 3 * v, vector + v, row, rows);
    else
      gru_forward_of(1, layer, job, x, h, 3 * v, vector + v, row, rows);
  }
}

// ---- backward ----

// From dh of a cell's output to the gradients of its pre-activations, in the order in which they are kept:
//
//   dn               = dh (1 - z)
//   d[0]  = dx_n     = dn (1 - n^2)
//   d[1]  = dr       = dx_n h_n r (1 - r)
//   d[2]  = dz       = dh (h - n) z (1 - z)
//   d[3]  = dh_n     = dx_n r
//
// and what h gets beside the products, dh z, is the caller's.
FL_INLINE void gru_gradient(const real *activations, vreal h_prev, vreal dh, vreal d[4])
{
  const vreal one = vset1(1), r = vload(activations), z = vload(activations + VL),
              n = vload(activations + 2 * VL);
  const vreal h_n = vmul(vload(activations + 3 * VL), vset1((real)(-0.5 / FL_LOG2E)));
  d[0] = vmul(vmul(dh, vsub(one, z)), vfma(vneg(n), n, one));
  d[1] = vmul(vmul(d[0], h_n), vfma(vneg(r), r, r));
  d[2] = vmul(vmul(dh, vsub(h_prev, n)), vfma(vneg(z), z, z));
  d[3] = vmul(d[0], r);
}

static void FL_NAMED(gru_backward)(const fl_layer *layer, const fl_back_step *job, const real *dh,
                                   int64_t dh_row, int64_t vector, int64_t row, int rows)
{
  const int64_t first = vector * job->c_stride + row * VL, unit = vector * VL;
  const real *activations = (const real *)job->activations + 4 * first;
  const real *h_prev = (const real *)job->h_prev + row * job->h_stride + unit;
  real *carry = (real *)job->carry + first, *bias = (real *)job->bias + vector * 4 * VL;
  real *now = (real *)job->now + 4 * vector * job->stride + row * VL;
  vreal sum[4], d[4];
  FL_UNROLL
  for (int g = 0; g < 4; ++g) sum[g] = vload(bias + g * VL);
  for (int r = 0; r < rows; ++r) {
    const vreal given = output_gradient(layer, job, vload(dh + r * dh_row), unit, row + r);
    const vreal total = vadd(given, vload(carry + r * VL));
    gru_gradient(activations + r * 4 * VL, vload(h_prev + r * job->h_stride), total, d);
    vstore(carry + r * VL, vmul(total, vload(activations + (r * 4 + 1) * VL)));
    FL_UNROLL
    for (int g = 0; g < 4; ++g) {
      vstore(now + g * job->stride + r * VL, d[g]);
      sum[g] = vadd(sum[g], d[g]);
    }
  }
  FL_UNROLL
  for (int g = 0; g < 4; ++g) vstore(bias + g * VL, sum[g]);
}

// ---- persistent kernel ----
//
// Many steps of one row of a layer so small that the sums of its h fit in registers, as the LSTM's
// (lstm.inc.h): no call, no dispatch, and no trip of sums to memory. `all`: vectors of a row of sums that
// hold any.

FL_INLINE void gru_persist(const int all, const fl_layer *layer, const fl_persistent *job)
{
  const int rest = all % FL_PANEL > 2 ? 0 : all % FL_PANEL, full = (all - rest + FL_PANEL - 1) / FL_PANEL;
  const int nv = FL_PANEL * full + rest, units = (all + 2) / 3, last = all - 3 * (units - 1);
  const real *x = (const real *)job->x, *projected = (const real *)job->projected;
  real *h = (real *)job->h, *y = (real *)job->y;
  const real *bias = (const real *)layer->bias, *bias_h = (const real *)layer->bias_h;
  const real *w_x = (const real *)layer->w_x.data, *w_h = (const real *)layer->w_h.data;
  const int count = (int)(layer->units - (units - 1) * VL);  // of the last unit vector
  vreal state[(FL_PERSISTENT_VECTORS + 2) / 3];
  FL_UNROLL
  for (int u = 0; u < units; ++u) state[u] = vload(h + u * VL);

  for (int64_t t = 0; t < job->steps; ++t) {
    vreal of_x[FL_TILE_VECTORS], of_h[FL_TILE_VECTORS];
    const real *start = x ? bias : projected;
    const int64_t panel_stride = x ? FL_PANEL * VL : job->projected_panel_stride;
    const int64_t at = x ? 0 : t * job->projected_row_stride;
    FL_UNROLL
    for (int v = 0; v < nv; ++v)
      of_x[v] = vload(start + (v / FL_PANEL) * panel_stride + at + (v % FL_PANEL) * VL);
    if (x) {
      const real *row = x + t * job->x_stride;
      multiply(1, full, rest, 1, 0, 0, of_x, &row, w_x, layer->inputs);
    }
    FL_UNROLL
    for (int v = 0; v < nv; ++v) of_h[v] = vload(bias_h + v * VL);
    const real *h_row = h;
    multiply(1, full, rest, 1, 0, 0, of_h, &h_row, w_h, layer->units);
    FL_UNROLL
    for (int u = 0; u < units; ++u) {
      vreal a[3], b[3];
      gru_split(u + 1 < units ? 3 : last, of_x + 3 * u, a);
      gru_split(u + 1 < units ? 3 : last, of_h + 3 * u, b);
      const vreal r = gru_sigmoid(vadd(a[0], b[0])), z = gru_sigmoid(vadd(a[1], b[1]));
      const vreal n = vtanh(vfma(r, b[2], a[2]));
      state[u] = vfma(z, vsub(state[u], n), n);
    }
    FL_UNROLL
    for (int u = 0; u < units; ++u) {
      vstore(h + u * VL, state[u]);
      if (u < units - 1 || count == VL)
        vstoreu(y + u * VL, state[u]);
      else
        vstore_first(y + u * VL, state[u], count);
    }
    y += job->y_stride;
  }
}

#define FL_GRU_PERSISTENT(all)                                                                \
  static void FL_NAMED(gru_persistent_##all)(const fl_layer *layer, const fl_persistent *job) \
  {                                                                                           \
    gru_persist(all, layer, job);                                                             \
  }
#define FL_GRU_PERSISTENT_ENTRY(all) [all] = FL_NAMED(gru_persistent_##all),
FL_VECTORS_OF_ONE_ROW(FL_GRU_PERSISTENT)
static fl_persistent_fn *const gru_persistents[FL_PERSISTENT_VECTORS + 1] = {
    FL_VECTORS_OF_ONE_ROW(FL_GRU_PERSISTENT_ENTRY)};

static void FL_NAMED(gru_persistent)(const fl_layer *layer, const fl_persistent *job)
{
  gru_persistents[3 * (fl_unit_vectors(layer, VL) - 1) + layer->last](layer, job);
}

static const cell_kernels FL_NAMED(gru) = {.forward_apart = FL_NAMED(gru_forward),
                                           .backward = FL_NAMED(gru_backward)};

#endif
