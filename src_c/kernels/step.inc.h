// SPDX-License-Identifier: BSD-3-Clause
// One time step: recurrent product (and input product, if not projected before) and cell update
// of a tile, while its gates are in registers. Gates never reach memory beyond a small buffer.
#ifndef FL_STEP_H
#define FL_STEP_H

// Activations of one row's panel, and its way out.
FL_INLINE void step_cells(const int vectors, const vreal *z, const fl_layer *layer, const fl_step *job,
                          int64_t panel, int64_t row)
{
  vreal gate[4];
  split_gates(vectors, z, gate);
  real *c_at = (real *)job->c + panel * job->c_panel_stride + row * VL;
  vreal c = vload(c_at);
  const vreal h = cell_update(gate[0], gate[1], gate[2], gate[3], &c);
  vstore(c_at, c);
  vstore((real *)job->h_next + row * job->h_stride + panel * VL, h);
  const int64_t left = layer->units - panel * VL;
  real *y = (real *)job->y[row] + panel * VL;
  if (left >= VL)
    vstoreu(y, h);
  else
    vstore_first(y, h, (int)left);
  if (job->cells) {
    real *cells = (real *)job->cells[row] + panel * VL;
    if (left >= VL)
      vstoreu(cells, c);
    else
      vstore_first(cells, c, (int)left);
  }
}

FL_INLINE void step_tile(const int rows, const int full, const int tail, const int chains,
                         const fl_layer *layer, const fl_step *job, int64_t panel, int64_t row)
{
  const int nv = 4 * full + tail, n = rows * nv;
  vreal acc[FL_ACCUMULATORS];
  // The first chain starts from the bias or from the projection, the others from zero.
  const real *start = job->gates ? (const real *)job->gates + panel * job->gates_panel_stride
                                 : (const real *)layer->bias + panel * 4 * VL;
  const int64_t panel_stride = job->gates ? job->gates_panel_stride : 4 * VL;
  const int64_t row_stride = job->gates ? job->gates_row_stride : 0;
  FL_UNROLL
  for (int r = 0; r < rows; ++r) {
    FL_UNROLL
    for (int v = 0; v < nv; ++v) {
      const real *at = start + (v / 4) * panel_stride + (row + r) * row_stride;
      acc[r * nv + v] = vload(at + (v % 4) * VL);
    }
  }
  if (!job->gates) {
    const real *w = (const real *)layer->w_x + panel * layer->inputs * 4 * VL;
    multiply(rows, full, tail, 1, acc, (rows_in)job->x + row, w, layer->inputs);
  }
  FL_UNROLL
  for (int v = n; v < n * chains; ++v) acc[v] = vset1(0);
  const real *h[6];
  FL_UNROLL
  for (int r = 0; r < rows; ++r) h[r] = (const real *)job->h_prev + (row + r) * job->h_stride;
  const real *w = (const real *)layer->w_h + panel * layer->units * 4 * VL;
  multiply(rows, full, tail, chains, acc, h, w, layer->units);
  join_chains(n, chains, acc);

  vreal buffer[FL_ACCUMULATORS];
  FL_UNROLL
  for (int v = 0; v < n; ++v) buffer[v] = acc[v];
  for (int r = 0; r < rows; ++r) {
    for (int p = 0; p < full; ++p) step_cells(4, buffer + r * nv + 4 * p, layer, job, panel + p, row + r);
    if (tail) step_cells(tail, buffer + r * nv + 4 * full, layer, job, panel + full, row + r);
  }
}

typedef void step_fn(const fl_layer *, const fl_step *, int64_t, int64_t);

#define FL_STEP(rows, full, tail, chains)                                                         \
  static void step_##rows##_##full##_##tail##_##chains(const fl_layer *layer, const fl_step *job, \
                                                       int64_t panel, int64_t row)                \
  {                                                                                               \
    if (FL_FITS(rows, full, tail, chains))                                                        \
      step_tile(rows, full, tail, chains, layer, job, panel, row);                                \
  }
#define FL_STEP_ONE(chains)                                                                       \
  FL_STEP(1, 0, 1, chains) FL_STEP(1, 0, 2, chains) FL_STEP(1, 1, 0, chains)                      \
  FL_STEP(1, 1, 1, chains) FL_STEP(1, 1, 2, chains) FL_STEP(1, 2, 0, chains)                      \
  FL_STEP(1, 2, 1, chains) FL_STEP(1, 2, 2, chains) FL_STEP(1, 3, 0, chains)                      \
  FL_STEP(1, 3, 1, chains) FL_STEP(1, 3, 2, chains)
#define FL_STEP_FEW(rows, chains)                                                                 \
  FL_STEP(rows, 0, 1, chains) FL_STEP(rows, 0, 2, chains) FL_STEP(rows, 1, 0, chains)             \
  FL_STEP(rows, 2, 0, chains)
#define FL_STEP_MANY(rows)                                                                        \
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

#define FL_ONE_ENTRY(s)                                                                           \
  {                                                                                               \
    {0, step_1_0_1_##s, step_1_0_2_##s}, {step_1_1_0_##s, step_1_1_1_##s, step_1_1_2_##s},        \
    {step_1_2_0_##s, step_1_2_1_##s, step_1_2_2_##s},                                             \
    {step_1_3_0_##s, step_1_3_1_##s, step_1_3_2_##s},                                             \
  }
#define FL_FEW_ENTRY(rows, s)                                                                     \
  {                                                                                               \
    {0, step_##rows##_0_1_##s, step_##rows##_0_2_##s}, {step_##rows##_1_0_##s},                   \
    {step_##rows##_2_0_##s},                                                                      \
  }
#define FL_MANY_ENTRY(rows)                                                                       \
  {                                                                                               \
    {0, step_##rows##_0_1_1, step_##rows##_0_2_1}, {step_##rows##_1_0_1},                         \
  }
// [chains - 1][rows - 1][full][tail]
static step_fn *const step_tiles[2][6][4][3] = {
    {FL_ONE_ENTRY(1), FL_FEW_ENTRY(2, 1), FL_FEW_ENTRY(3, 1), FL_MANY_ENTRY(4), FL_MANY_ENTRY(5),
     FL_MANY_ENTRY(6)},
    {FL_ONE_ENTRY(2), FL_FEW_ENTRY(2, 2), FL_FEW_ENTRY(3, 2)},
};

static void step(const fl_layer *layer, const fl_step *job)
{
  const int64_t rows = job->row_end - job->row_begin;
  const int64_t height = MAX_ROWS / layer->chains, tiles = tile_count(rows, height);
  const int64_t tallest = rows < height ? rows : height;
  panel_walk walk = walk_panels(layer, job->panel_begin, job->panel_end, job->backwards);
  while (next_group(&walk, tallest, layer->chains)) {
    for (int64_t q = 0; q < tiles; ++q) {
      const int64_t row = job->row_begin + rows * q / tiles;
      const int64_t end = job->row_begin + rows * (q + 1) / tiles;
      step_tiles[layer->chains - 1][end - row - 1][walk.full][walk.tail](layer, job, walk.panel, row);
    }
  }
}

#endif
