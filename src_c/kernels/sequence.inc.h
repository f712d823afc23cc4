// SPDX-License-Identifier: BSD-3-Clause
// Many steps of one row for a layer so small that all its gates fit in registers: no call, no
// dispatch and no trip of c to memory between steps. The same sums as the step kernel.
#ifndef FL_SEQUENCE_H
#define FL_SEQUENCE_H

FL_INLINE void sequence_run(const int full, const int tail, const int chains, const fl_layer *layer,
                            const fl_sequence *job)
{
  const int nv = 4 * full + tail, panels = full + (tail > 0);
  const real *x = (const real *)job->x, *gates = (const real *)job->gates;
  real *h = (real *)job->h, *y = (real *)job->y, *cells = (real *)job->cells;
  const real *bias = (const real *)layer->bias;
  const real *w_x = (const real *)layer->w_x, *w_h = (const real *)layer->w_h;
  const int last = (int)(layer->units - (panels - 1) * VL);
  vreal c[4], d[4];
  FL_UNROLL
  for (int p = 0; p < panels; ++p) c[p] = vload((const real *)job->c + p * job->c_panel_stride);

  for (int64_t t = 0; t < job->steps; ++t) {
    vreal acc[2 * FL_MAX_VECTORS];
    const real *start = x ? bias : gates;
    const int64_t panel_stride = x ? 4 * VL : job->gates_panel_stride;
    const int64_t at = x ? 0 : t * job->gates_row_stride;
    FL_UNROLL
    for (int v = 0; v < nv; ++v) acc[v] = vload(start + (v / 4) * panel_stride + at + (v % 4) * VL);
    if (x) {
      const real *row = x + t * job->x_stride;
      multiply(1, full, tail, 1, 0, 0, acc, &row, w_x, layer->inputs);
    }
    FL_UNROLL
    for (int v = nv; v < nv * chains; ++v) acc[v] = vset1(0);
    const real *h_row = h;
    multiply(1, full, tail, chains, 0, 0, acc, &h_row, w_h, layer->units);
    join_chains(nv, chains, acc);
    FL_UNROLL
    for (int p = 0; p < panels; ++p) {
      vreal gate[4];
      split_gates(p < full ? 4 : tail, acc + 4 * p, gate);
      c[p] = cell_state(gate, c[p]);
      d[p] = gate[3];
    }
    FL_UNROLL
    for (int p = 0; p < panels; ++p) {
      vreal o;
      const vreal out = cell_output(d[p], c[p], &o);
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
  for (int p = 0; p < panels; ++p) vstore((real *)job->c + p * job->c_panel_stride, c[p]);
}

typedef void sequence_fn(const fl_layer *, const fl_sequence *);

#define FL_SEQUENCE(full, tail, chains)                                                          \
  static void sequence_##full##_##tail##_##chains(const fl_layer *layer, const fl_sequence *job) \
  {                                                                                              \
    if (FL_FITS(1, full, tail, 1)) sequence_run(full, tail, chains, layer, job);                 \
  }
// clang-format off
#define FL_SEQUENCES(chains)                                                          \
  FL_SEQUENCE(0, 1, chains) FL_SEQUENCE(0, 2, chains) FL_SEQUENCE(1, 0, chains)       \
  FL_SEQUENCE(1, 1, chains) FL_SEQUENCE(1, 2, chains) FL_SEQUENCE(2, 0, chains)       \
  FL_SEQUENCE(2, 1, chains) FL_SEQUENCE(2, 2, chains) FL_SEQUENCE(3, 0, chains)       \
  FL_SEQUENCE(3, 1, chains) FL_SEQUENCE(3, 2, chains)
FL_SEQUENCES(1)
FL_SEQUENCES(2)

#define FL_SEQUENCE_ENTRY(s)                                                          \
  {                                                                                   \
    {0, sequence_0_1_##s, sequence_0_2_##s},                                          \
    {sequence_1_0_##s, sequence_1_1_##s, sequence_1_2_##s},                           \
    {sequence_2_0_##s, sequence_2_1_##s, sequence_2_2_##s},                           \
    {sequence_3_0_##s, sequence_3_1_##s, sequence_3_2_##s},                           \
  }
// [chains - 1][full][tail]
static sequence_fn *const sequences[2][4][3] = {FL_SEQUENCE_ENTRY(1), FL_SEQUENCE_ENTRY(2)};
// clang-format on

static void sequence(const fl_layer *layer, const fl_sequence *job)
{
  sequences[layer->chains - 1][layer->full][layer->tail](layer, job);
}

#endif
