// SPDX-License-Identifier: BSD-3-Clause
// The LSTM cell, forward and backward.
//
//   i, f, o = sigmoid(z_i, z_f, z_o)     g = tanh(z_g)
//   c' = f c + i g                       h = o tanh(c')
//
// Kept for the backward pass besides h and c: i, f, g, o. The derivation is in fastlstm/reference/lstm.py.
#ifndef FL_CELL_LSTM_H
#define FL_CELL_LSTM_H

// ---- arithmetic ----
//
// The update has two halves, so that a caller with several cells can run the first half of all before the
// second of any: each half is one long chain of dependent operations. Divisions cost most of it, so a product
// of two activations takes one:
//
//   sigmoid(z) tanh(y) = (1 - b) / ((1 + a) (1 + b))   with a = 2^t of z, b = 2^t of y

// First half: from the pre-activations to c' = f c + i g, which is returned. gate becomes i, f, g as the tape
// keeps them, and 1 + 2^to for the second half. (Where i is 0, g may be anything finite: no gradient depends
// on it.)
FL_INLINE vreal lstm_state(vreal gate[4], vreal c)
{
  const vreal one = vset1(1);
  const vreal a = one_plus_exp2(gate[0]), b = vexp2_tanh(gate[2]), top = vsub(one, b);
  const vreal r = vdiv(one, vfma(a, b, a)), f = vdiv(one, vadd(one, vexp2(gate[1])));
  gate[0] = vmul(r, vadd(one, b));
  gate[1] = f;
  gate[2] = vmul(top, vmul(r, a));
  gate[3] = one_plus_exp2(gate[3]);
  return vfma(f, c, vmul(top, r));
}

// Second half: h = o tanh(c'), from d = 1 + 2^to; o for the tape.
FL_INLINE vreal lstm_output(vreal d, vreal c, vreal *o)
{
  const vreal one = vset1(1);
  const vreal e = vexp2_tanh(vmul(c, vset1((real)(-2 * FL_LOG2E)))), r = vdiv(one, vfma(d, e, d));
  *o = vmul(r, vadd(one, e));
  return vmul(vsub(one, e), r);
}

// From dh and dc of a cell's outputs to the gradients of its pre-activations, in `d`, and of the c that came
// in, which is returned:
//
//   total = dc_t      = dc + dh o (1 - tanh^2 c)
//   d[0]  = dz_i      = dc_t g i (1 - i)
//   d[1]  = dz_f      = dc_t c_prev f (1 - f)
//   d[2]  = dz_g      = dc_t i (1 - g^2)
//   d[3]  = dz_o      = dh tanh(c) o (1 - o)
//   returns dc_prev   = dc_t f
FL_INLINE vreal lstm_gradient(const real *activations, vreal c, vreal c_prev, vreal dh, vreal dc, vreal d[4])
{
  const vreal one = vset1(1);
  const vreal i = vload(activations), f = vload(activations + VL), g = vload(activations + 2 * VL),
              o = vload(activations + 3 * VL);
  const vreal e = vexp2(vmul(c, vset1((real)(-2 * FL_LOG2E))));
  const vreal tanh_c = vsub(vdiv(vset1(2), vadd(one, e)), one), through = vmul(dh, o);
  const vreal total = vadd(dc, vfma(vneg(vmul(through, tanh_c)), tanh_c, through));
  d[0] = vmul(vmul(total, g), vfma(vneg(i), i, i));
  d[1] = vmul(vmul(total, c_prev), vfma(vneg(f), f, f));
  d[2] = vmul(vmul(total, i), vfma(vneg(g), g, one));
  d[3] = vmul(vmul(dh, tanh_c), vfma(vneg(o), o, o));
  return vmul(total, f);
}

// ---- forward ----

// Vectors i, f, g, o of a panel from its sums; in a remainder panel several gates share a vector.
FL_INLINE void lstm_gates(const int vectors, const vreal *z, vreal *gate)
{
  if (vectors == 4) {
    FL_UNROLL
    for (int g = 0; g < 4; ++g) gate[g] = z[g];
  } else if (vectors == 2) {
    gate[0] = z[0];
    gate[1] = vupper(z[0]);
    gate[2] = z[1];
    gate[3] = vupper(z[1]);
  } else {
    gate[0] = z[0];
    gate[1] = vquarter(z[0], 1);
    gate[2] = vquarter(z[0], 2);
    gate[3] = vquarter(z[0], 3);
  }
}

// Where one panel of the tile's rows keeps its state and puts its output; rows count from the tile's first.
typedef struct lstm_panel {
  const real *c_prev;
  real *c, *h, *activations;
  int streaming;
  int64_t h_stride;
  void *const *y, *const *cells;
  int64_t unit;  // of the panel's first lane
  int count;     // units in the panel
} lstm_panel;

// First half of one row's panel: c, and the output gate in place of the sums.
FL_INLINE void lstm_state_of(const int vectors, real *z, const lstm_panel *p, int r)
{
  vreal sums[4], gate[4];
  FL_UNROLL
  for (int v = 0; v < vectors; ++v) sums[v] = vload(z + v * VL);
  lstm_gates(vectors, sums, gate);
  vstore(p->c + r * VL, lstm_state(gate, vload(p->c_prev + r * VL)));
  vstore(z, gate[3]);
  if (p->activations) {
    FL_UNROLL
    for (int v = 0; v < 3; ++v) save_activation(p->activations + (4 * r + v) * VL, gate[v], p->streaming);
  }
}

// Second half: h, and the way out.
FL_INLINE void lstm_output_of(const real *z, const lstm_panel *p, int r)
{
  vreal o;
  const vreal c = vload(p->c + r * VL), h = lstm_output(vload(z), c, &o);
  if (p->activations) save_activation(p->activations + (4 * r + 3) * VL, o, p->streaming);
  vstore(p->h + r * p->h_stride, h);
  store_units((real *)p->y[r] + p->unit, h, p->count);
  if (p->cells) store_units((real *)p->cells[r] + p->unit, c, p->count);
}

FL_INLINE void lstm_forward_of(const int rows, const int vectors, const int64_t z_row, const fl_layer *layer,
                               const fl_step *job, real *z, int64_t panel, int64_t row)
{
  const int64_t left = layer->units - panel * VL, first = panel * job->c_stride + row * VL;
  const lstm_panel p = {
      .c_prev = (const real *)job->c_prev + first,
      .c = (real *)job->c + first,
      .activations = job->activations ? (real *)job->activations + 4 * first : 0,
      .streaming = job->streaming,
      .h = (real *)job->h_next + row * job->h_stride + panel * VL,
      .h_stride = job->h_stride,
      .y = job->y + row,
      .cells = job->cells ? job->cells + row : 0,
      .unit = panel * VL,
      .count = left < VL ? (int)left : VL,
  };
  for (int r = 0; r < rows; ++r) lstm_state_of(vectors, z + r * z_row, &p, r);
  for (int r = 0; r < rows; ++r) lstm_output_of(z + r * z_row, &p, r);
}

static void FL_NAMED(lstm_forward)(const fl_layer *layer, const fl_step *job, real *z, int64_t z_row,
                                   int64_t panel, int64_t row, int rows)
{
  if (panel < layer->full)
    lstm_forward_of(rows, 4, z_row, layer, job, z, panel, row);
  else if (layer->remainder == 2)
    lstm_forward_of(rows, 2, z_row, layer, job, z, panel, row);
  else
    lstm_forward_of(rows, 1, z_row, layer, job, z, panel, row);
}

// ---- fused tiles: product and cell in one function ----
//
// An LSTM's cell takes as long as 40 inputs of the product, so sums that need not pass a call count. On a Zen
// 5, one thread, the zoo without fused tiles but for one row ran at 0.993 of the speed with them in the
// median, single models of few rows at 0.96; they take 0.27 MB of the library's 1.97 (decision 19).

FL_INLINE void lstm_tile(const int rows, const int full, const int rest, const int chains, const int prefetch,
                         const fl_layer *layer, const fl_step *job, int64_t panel, int64_t row)
{
  const int nv = FL_PANEL * full + rest;
  real z[FL_SUMS * VL] __attribute__((aligned(64)));
  product_tile(rows, full, rest, chains, prefetch, layer, job, panel, row, z);
  for (int p = 0; p < full; ++p)
    lstm_forward_of(rows, 4, nv * VL, layer, job, z + FL_PANEL * p * VL, panel + p, row);
  if (rest) lstm_forward_of(rows, rest, nv * VL, layer, job, z + FL_PANEL * full * VL, panel + full, row);
}

#define FL_LSTM_TILE(rows, full, rest, chains)                               \
  static void FL_NAMED(lstm_tile_##rows##_##full##_##rest##_##chains)(       \
      const fl_layer *layer, const fl_step *job, int64_t panel, int64_t row) \
  {                                                                          \
    lstm_tile(rows, full, rest, chains, 0, layer, job, panel, row);          \
  }
#define FL_LSTM_PREFETCHING_TILE(rows)                                                          \
  static void FL_NAMED(lstm_tile_prefetching_##rows)(const fl_layer *layer, const fl_step *job, \
                                                     int64_t panel, int64_t row)                \
  {                                                                                             \
    lstm_tile(rows, 1, 0, 1, 1, layer, job, panel, row);                                        \
  }
#define FL_LSTM_TILE_ENTRY(rows, full, rest, chains) \
  [(chains) - 1][(rows) - 1][full][rest] = FL_NAMED(lstm_tile_##rows##_##full##_##rest##_##chains),
#define FL_LSTM_PREFETCHING_TILE_ENTRY(rows) [(rows) - 1] = FL_NAMED(lstm_tile_prefetching_##rows),
FL_TILES(FL_LSTM_TILE)
FL_PREFETCHING_ROWS(FL_LSTM_PREFETCHING_TILE)

// ---- backward ----

static void FL_NAMED(lstm_backward)(const fl_layer *layer, const fl_back_step *job, const real *dh,
                                    int64_t dh_row, int64_t vector, int64_t row, int rows)
{
  const int64_t first = vector * job->c_stride + row * VL, unit = vector * VL;
  const real *activations = (const real *)job->activations + 4 * first;
  const real *c = (const real *)job->c + first, *c_prev = (const real *)job->c_prev + first;
  real *carry = (real *)job->carry + first, *bias = (real *)job->bias + vector * 4 * VL;
  real *now = (real *)job->now + 4 * vector * job->stride + row * VL;
  vreal sum[4], d[4];
  FL_UNROLL
  for (int g = 0; g < 4; ++g) sum[g] = vload(bias + g * VL);
  for (int r = 0; r < rows; ++r) {
    const vreal h = output_gradient(layer, job, vload(dh + r * dh_row), unit, row + r);
    vreal dc = vload(carry + r * VL);
    if (job->dc) dc = vadd(dc, load_columns(job->dc[row + r], unit, layer->units));
    dc = lstm_gradient(activations + r * 4 * VL, vload(c + r * VL), vload(c_prev + r * VL), h, dc, d);
    vstore(carry + r * VL, dc);
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
// Many steps of one row for a layer so small that all its gates fit in registers: no call, no dispatch and no
// trip of c to memory between steps. The same sums as the tiles. Where two chains are more sums than
// registers, they run one after the other. Panels in groups that fit lost by their further loops of few
// inputs: 0.90 to 0.99 of the speed (AVX2, H 16 to 20; AVX-512, float64, H 18 to 24; Zen 5), and gained at H
// 24 alone.

FL_INLINE void lstm_persist(const int full, const int rest, const int chains, const fl_layer *layer,
                            const fl_persistent *job)
{
  enum { PANELS = FL_TILE_PANELS + 1 };
  const int nv = FL_PANEL * full + rest, panels = full + (rest > 0);
  const real *x = (const real *)job->x, *projected = (const real *)job->projected;
  real *h = (real *)job->h, *y = (real *)job->y, *cells = (real *)job->cells;
  const real *bias = (const real *)layer->bias;
  const real *w_x = (const real *)layer->w_x.data, *w_h = (const real *)layer->w_h.data;
  const int last = (int)(layer->units - (panels - 1) * VL);
  vreal c[PANELS], d[PANELS];
  FL_UNROLL
  for (int p = 0; p < panels; ++p) c[p] = vload((const real *)job->c + p * job->c_stride);

  for (int64_t t = 0; t < job->steps; ++t) {
    vreal acc[FL_CHAINS * FL_TILE_VECTORS];
    const real *start = x ? bias : projected;
    const int64_t panel_stride = x ? FL_PANEL * VL : job->projected_panel_stride;
    const int64_t at = x ? 0 : t * job->projected_row_stride;
    FL_UNROLL
    for (int v = 0; v < nv; ++v)
      acc[v] = vload(start + (v / FL_PANEL) * panel_stride + at + (v % FL_PANEL) * VL);
    if (x) {
      const real *row = x + t * job->x_stride;
      multiply(1, full, rest, 1, 0, 0, acc, &row, w_x, layer->inputs);
    }
    FL_UNROLL
    for (int v = nv; v < nv * chains; ++v) acc[v] = vset1(0);
    const real *h_row = h;
    multiply(1, full, rest, chains, 0, 0, acc, &h_row, w_h, layer->units);
    join_chains(nv, chains, acc);
    FL_UNROLL
    for (int p = 0; p < panels; ++p) {
      vreal gate[4];
      lstm_gates(p < full ? 4 : rest, acc + FL_PANEL * p, gate);
      c[p] = lstm_state(gate, c[p]);
      d[p] = gate[3];
    }
    FL_UNROLL
    for (int p = 0; p < panels; ++p) {
      vreal o;
      const vreal out = lstm_output(d[p], c[p], &o);
      vstore(h + p * VL, out);
      if (p < panels - 1 || last == VL) {
        vstoreu(y + p * VL, out);
        if (cells) vstoreu(cells + p * VL, c[p]);
      } else {
        vstore_first(y + p * VL, out, last);
        if (cells) vstore_first(cells + p * VL, c[p], last);
      }
    }
    y += job->y_stride;
    if (cells) cells += job->cells_stride;
  }
  FL_UNROLL
  for (int p = 0; p < panels; ++p) vstore((real *)job->c + p * job->c_stride, c[p]);
}

#define FL_LSTM_PERSISTENT(full, rest, chains)                                               \
  static void FL_NAMED(lstm_persistent_##full##_##rest##_##chains)(const fl_layer *layer,    \
                                                                   const fl_persistent *job) \
  {                                                                                          \
    lstm_persist(full, rest, chains, layer, job);                                            \
  }
#define FL_LSTM_PERSISTENT_ENTRY(full, rest, chains) \
  [(chains) - 1][full][rest] = FL_NAMED(lstm_persistent_##full##_##rest##_##chains),
FL_PERSISTENT(FL_LSTM_PERSISTENT)
// [chains - 1][full][rest]
static fl_persistent_fn *const lstm_persistents[FL_CHAINS][FL_TILE_PANELS + 1][3] = {
    FL_PERSISTENT(FL_LSTM_PERSISTENT_ENTRY)};

static void FL_NAMED(lstm_persistent)(const fl_layer *layer, const fl_persistent *job)
{
  lstm_persistents[layer->chains - 1][layer->full][layer->remainder](layer, job);
}

static const cell_kernels FL_NAMED(lstm) = {
    .forward = FL_NAMED(lstm_forward),
    .backward = FL_NAMED(lstm_backward),
    .fused = {FL_TILES(FL_LSTM_TILE_ENTRY)},
    .fused_prefetching = {FL_PREFETCHING_ROWS(FL_LSTM_PREFETCHING_TILE_ENTRY)},
};

#endif
