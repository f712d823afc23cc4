// SPDX-License-Identifier: BSD-3-Clause
// One time step: recurrent product (and input product, if not projected before) and cell update
// of a tile, while its gates are in registers. Gates never reach memory beyond a small buffer.
#ifndef FL_STEP_H
#define FL_STEP_H

// Where one panel of the tile's rows keeps its state and puts its output: element strides, rows
// numbered from the tile's first.
typedef struct step_out {
  const real *c_prev;
  real *c, *h, *saved;
  int far;
  int64_t h_stride;
  void *const *y, *const *cells;
  int64_t unit;  // of the panel's first lane
  int count;     // units in the panel
} step_out;

FL_INLINE void store_units(real *to, vreal v, int count)
{
  if (count == VL)
    vstoreu(to, v);
  else
    vstore_first(to, v, count);
}

// First half of one row's panel: c, and the output gate in place of the gates.
FL_INLINE void step_state(const int vectors, real *z, const step_out *out, int r)
{
  vreal at[4], gate[4];
  FL_UNROLL
  for (int v = 0; v < vectors; ++v) at[v] = vload(z + v * VL);
  split_gates(vectors, at, gate);
  vstore(out->c + r * VL, cell_state(gate, vload(out->c_prev + r * VL)));
  vstore(z, gate[3]);
  if (out->saved) {
    FL_UNROLL
    for (int v = 0; v < 3; ++v) cell_save(out->saved + (4 * r + v) * VL, gate[v], out->far);
  }
}

// Second half: h, and the way out.
FL_INLINE void step_output(const real *z, const step_out *out, int r)
{
  vreal o;
  const vreal c = vload(out->c + r * VL), h = cell_output(vload(z), c, &o);
  if (out->saved) cell_save(out->saved + (4 * r + 3) * VL, o, out->far);
  vstore(out->h + r * out->h_stride, h);
  store_units((real *)out->y[r] + out->unit, h, out->count);
  if (out->cells) store_units((real *)out->cells[r] + out->unit, c, out->count);
}

FL_INLINE void step_panel(const int rows, const int vectors, const int nv, const fl_layer *layer,
                          const fl_step *job, real *z, int64_t panel, int64_t row)
{
  const int64_t left = layer->units - panel * VL;
  const step_out out = {
      .c_prev = (const real *)job->c_prev + panel * job->c_panel_stride + row * VL,
      .c = (real *)job->c + panel * job->c_panel_stride + row * VL,
      .saved = job->saved ? (real *)job->saved + 4 * (panel * job->c_panel_stride + row * VL) : 0,
      .far = job->far,
      .h = (real *)job->h_next + row * job->h_stride + panel * VL,
      .h_stride = job->h_stride,
      .y = job->y + row,
      .cells = job->cells ? job->cells + row : 0,
      .unit = panel * VL,
      .count = left < VL ? (int)left : VL,
  };
  for (int r = 0; r < rows; ++r) step_state(vectors, z + r * nv * VL, &out, r);
  for (int r = 0; r < rows; ++r) step_output(z + r * nv * VL, &out, r);
}

FL_INLINE void step_tile(const int rows, const int full, const int tail, const int chains, const int asks,
                         const fl_layer *layer, const fl_step *job, int64_t panel, int64_t row)
{
  const int nv = 4 * full + tail, n = rows * nv;
  vreal acc[FL_ACCUMULATORS];
  // The first chain starts from the bias or from the projection, the others from zero.
  if (job->gates) {
    FL_UNROLL
    for (int r = 0; r < rows; ++r) {
      const real *gates =
          (const real *)job->gates + panel * job->gates_panel_stride + (row + r) * job->gates_row_stride;
      FL_UNROLL
      for (int v = 0; v < nv; ++v)
        acc[r * nv + v] = vload(gates + (v / 4) * job->gates_panel_stride + (v % 4) * VL);
    }
  } else {
    const real *bias = (const real *)layer->bias + panel * 4 * VL;
    FL_UNROLL
    for (int v = 0; v < n; ++v) acc[v] = vload(bias + (v % nv) * VL);
    const real *w = (const real *)layer->w_x + panel * layer->inputs * 4 * VL;
    multiply(rows, full, tail, 1, asks, job->reading.ahead, acc, (rows_in)job->x + row, w, layer->inputs);
  }
  FL_UNROLL
  for (int v = n; v < n * chains; ++v) acc[v] = vset1(0);
  const real *h[6];
  FL_UNROLL
  for (int r = 0; r < rows; ++r) h[r] = (const real *)job->h_prev + (row + r) * job->h_stride;
  const real *w = (const real *)layer->w_h + panel * layer->units * 4 * VL;
  multiply(rows, full, tail, chains, asks, job->reading.ahead, acc, h, w, layer->units);
  join_chains(n, chains, acc);

  real z[FL_ACCUMULATORS * VL] __attribute__((aligned(64)));
  FL_UNROLL
  for (int v = 0; v < n; ++v) vstore(z + v * VL, acc[v]);
  for (int p = 0; p < full; ++p) step_panel(rows, 4, nv, layer, job, z + 4 * p * VL, panel + p, row);
  if (tail) step_panel(rows, tail, nv, layer, job, z + 4 * full * VL, panel + full, row);
}

typedef void step_fn(const fl_layer *, const fl_step *, int64_t, int64_t);

#define FL_STEP(rows, full, tail, chains)                                                                  \
  static void step_##rows##_##full##_##tail##_##chains(const fl_layer *layer, const fl_step *job,          \
                                                       int64_t panel, int64_t row)                         \
  {                                                                                                        \
    if (FL_FITS(rows, full, tail, chains)) step_tile(rows, full, tail, chains, 0, layer, job, panel, row); \
  }
// clang-format off
#define FL_STEP_ONE(chains)                                                           \
  FL_STEP(1, 0, 1, chains) FL_STEP(1, 0, 2, chains) FL_STEP(1, 1, 0, chains)          \
  FL_STEP(1, 1, 1, chains) FL_STEP(1, 1, 2, chains) FL_STEP(1, 2, 0, chains)          \
  FL_STEP(1, 2, 1, chains) FL_STEP(1, 2, 2, chains) FL_STEP(1, 3, 0, chains)          \
  FL_STEP(1, 3, 1, chains) FL_STEP(1, 3, 2, chains)
#define FL_STEP_FEW(rows, chains)                                                     \
  FL_STEP(rows, 0, 1, chains) FL_STEP(rows, 0, 2, chains) FL_STEP(rows, 1, 0, chains) \
  FL_STEP(rows, 2, 0, chains)
#define FL_STEP_MANY(rows)                                                            \
  FL_STEP(rows, 0, 1, 1) FL_STEP(rows, 0, 2, 1) FL_STEP(rows, 1, 0, 1)
FL_STEP_ONE(1)
FL_STEP_FEW(2, 1)
FL_STEP_FEW(3, 1)
FL_STEP_MANY(4)
FL_STEP_MANY(5)
FL_STEP_MANY(6)
FL_STEP_ONE(2)
FL_STEP_FEW(2, 2)
FL_STEP_FEW(3, 2)

#define FL_STEP_ASKS(rows)                                                            \
  static void step_asks_##rows(const fl_layer *layer, const fl_step *job,             \
                               int64_t panel, int64_t row)                            \
  {                                                                                   \
    if (FL_ASKS(rows)) step_tile(rows, 1, 0, 1, 1, layer, job, panel, row);           \
  }
FL_STEP_ASKS(2)
FL_STEP_ASKS(3)
FL_STEP_ASKS(4)
FL_STEP_ASKS(5)
FL_STEP_ASKS(6)
// [rows - 1]: tiles of one whole panel that ask for weights
static step_fn *const step_asks[6] = {
    0, step_asks_2, step_asks_3, step_asks_4, step_asks_5, step_asks_6,
};

#define FL_ONE_ENTRY(s)                                                               \
  {                                                                                   \
    {0, step_1_0_1_##s, step_1_0_2_##s},                                              \
    {step_1_1_0_##s, step_1_1_1_##s, step_1_1_2_##s},                                 \
    {step_1_2_0_##s, step_1_2_1_##s, step_1_2_2_##s},                                 \
    {step_1_3_0_##s, step_1_3_1_##s, step_1_3_2_##s},                                 \
  }
#define FL_FEW_ENTRY(rows, s)                                                         \
  {                                                                                   \
    {0, step_##rows##_0_1_##s, step_##rows##_0_2_##s},                                \
    {step_##rows##_1_0_##s},                                                          \
    {step_##rows##_2_0_##s},                                                          \
  }
#define FL_MANY_ENTRY(rows)                                                           \
  {                                                                                   \
    {0, step_##rows##_0_1_1, step_##rows##_0_2_1},                                    \
    {step_##rows##_1_0_1},                                                            \
  }
// [chains - 1][rows - 1][full][tail]
static step_fn *const step_tiles[2][6][4][3] = {
    {FL_ONE_ENTRY(1), FL_FEW_ENTRY(2, 1), FL_FEW_ENTRY(3, 1), FL_MANY_ENTRY(4),
     FL_MANY_ENTRY(5), FL_MANY_ENTRY(6)},
    {FL_ONE_ENTRY(2), FL_FEW_ENTRY(2, 2), FL_FEW_ENTRY(3, 2)},
};
// clang-format on

// A step of at most SUM_ROWS rows, with its sums in blocks.
static void step_in_blocks(const fl_layer *layer, const fl_step *job, int64_t first, int64_t rows)
{
  const real *h_rows[SUM_ROWS];
  for (int64_t r = 0; r < rows; ++r) h_rows[r] = (const real *)job->h_prev + (first + r) * job->h_stride;
  const product x = {job->gates ? 0 : (rows_in)job->x + first, layer->w_x, layer->inputs};
  const product h = {h_rows, layer->w_h, layer->units};
  const product *start = job->gates ? &h : &x;
  const int count = job->panel_end - job->panel_begin;
  for (int i = 0; i < count; ++i) {
    const int p = job->backwards ? job->panel_end - 1 - i : job->panel_begin + i;
    const int next = i + 1 == count ? p : job->backwards ? p - 1 : p + 1;
    const real *from = (const real *)layer->bias + p * 4 * VL;
    int64_t from_stride = 0;
    if (job->gates) {
      from = (const real *)job->gates + p * job->gates_panel_stride + first * job->gates_row_stride;
      from_stride = job->gates_row_stride;
    } else {
      sum_in_blocks(layer, &x, p, rows, from, from_stride, job->sums, &job->reading, panel_of(&h, p));
      from = job->sums;
      from_stride = 4 * VL;
    }
    sum_in_blocks(layer, &h, p, rows, from, from_stride, job->sums, &job->reading, panel_of(start, next));
    const int vectors = p < layer->full ? 4 : layer->tail;
    if (vectors == 4) step_panel((int)rows, 4, 4, layer, job, job->sums, p, first);
    if (vectors == 2) step_panel((int)rows, 2, 4, layer, job, job->sums, p, first);
    if (vectors == 1) step_panel((int)rows, 1, 4, layer, job, job->sums, p, first);
  }
}

static void step(const fl_layer *layer, const fl_step *job)
{
  const int64_t height = MAX_ROWS / layer->chains, tiles = tile_count(job->rows, height);
  if (job->reading.block && tiles > 1 && layer->chains == 1) {
    const int64_t parts = tile_count(job->rows, SUM_ROWS);
    for (int64_t p = 0; p < parts; ++p) {
      const int64_t first = job->rows * p / parts;
      step_in_blocks(layer, job, first, job->rows * (p + 1) / parts - first);
    }
    return;
  }
  const int64_t tallest = job->rows < height ? job->rows : height;
  const int asking = job->reading.ahead > 0 && layer->chains == 1;
  panel_walk walk = walk_panels(layer, job->panel_begin, job->panel_end, job->backwards);
  while (next_group(&walk, tallest, layer->chains, job->reading.one_panel)) {
    for (int64_t q = 0; q < tiles; ++q) {
      const int64_t row = job->rows * q / tiles, count = job->rows * (q + 1) / tiles - row;
      const int asks = asking && FL_ASKS(count) && walk.full == 1 && walk.tail == 0;
      step_fn *const tile =
          asks ? step_asks[count - 1] : step_tiles[layer->chains - 1][count - 1][walk.full][walk.tail];
      tile(layer, job, walk.panel, row);
    }
  }
}

#endif
