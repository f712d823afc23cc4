// SPDX-License-Identifier: BSD-3-Clause
// The backward pass of one step, and products with transposed weights.
//
// Transposed weights of a layer (packed by pack.c), columns n = inputs of W_x or W_h, K = 4H:
//
//     panel 0      panel 1      ...  last panel, one vector if their number is odd
//   k=0 | n n |                        | n |
//   k=1 | n n |                        | n |
//   ...    each cell one vector
//
//   address(panel q, k, vector v) = q * K * 2 VL + k * (vectors of the panel) * VL + v * VL
//
// k runs through the gate gradients in the order they are kept in: panel p of VL units, gate i f g
// o, unit of the panel. A sum has one order, whatever the tile; so bits do not depend on the batch.
//
// A tile is `rows` rows by `nv` vectors: panels side by side when there are few rows. Many rows take the
// sum in blocks of k, whose gate gradients stay in the second-level cache while all panels pass by; between
// blocks the unfinished sums are in memory, which changes no bit of them.
#ifndef FL_BACK_H
#define FL_BACK_H

enum { BACK_ROWS = FL_ACCUMULATORS / 2, BACK_WIDE = 4 };

#define FL_BACK_FITS(rows, nv) ((rows) * (nv) <= FL_ACCUMULATORS)

// A block of k: vectors [begin, end) of gate gradients, of `all`. Weights that come from afar are asked for
// while the tiles before them multiply: each time a vector of gate gradients is used, so many lines from
// `ahead` on.
typedef struct back_block {
  int64_t begin, end, all;
  const char *ahead;
  int64_t lines;
  int asks;  // for weights that are used in a moment
} back_block;

// Every row's gate gradients of a block take so many bytes together.
enum { BACK_BYTES = 128 << 10 };

FL_INLINE int next_block(const fl_layer *layer, int64_t rows, back_block *block)
{
  const int64_t most = BACK_BYTES / (rows * VL * (int64_t)sizeof(real));
  block->all = 4 * ((layer->units + VL - 1) / VL);
  block->begin = block->end;
  block->end += most > 4 ? most : 4;
  if (block->end > block->all) block->end = block->all;
  return block->begin < block->end;
}

// acc[r][v] += sum over k of grads[k][r] * w[k][v]
FL_INLINE void back_multiply(const int rows, const int nv, vreal *acc, const fl_layer *layer,
                             const real *grads, int64_t stride, const real *w, const back_block *block)
{
  const int64_t inputs = 4 * layer->units, whole = block->all - 4, last = layer->units - whole / 4 * VL;
  const int64_t before =
      block->begin < whole ? block->begin * VL : whole * VL + (block->begin - whole) * last;
  w += before * (nv == 1 ? VL : 2 * VL);
  for (int64_t b = block->begin; b < block->end; ++b) {
    const int64_t count = b < whole ? VL : last;
    const real *a = grads + b * stride;
    for (int r = 0; r < rows; ++r)
      __builtin_prefetch(a + stride + r * VL, 0, 3);                     // too far apart to be guessed
    for (int64_t i = 0; 2 * rows >= BACK_ROWS && i < block->lines; ++i)  // of several tiles none is lower
      __builtin_prefetch(block->ahead + ((b - block->begin) * block->lines + i) * 64, 0, 2);
    for (int64_t j = 0; j < count; ++j, ++a, w += nv == 1 ? VL : 2 * VL) {
      vreal weight[2 * BACK_WIDE];
      if (2 * rows > BACK_ROWS && nv == 2 && block->asks) ask_ahead(w + FL_ASK_AHEAD * 2 * VL, 2);
      if (FL_ACCUMULATORS >= 24) {
        FL_UNROLL
        for (int v = 0; v < nv; ++v) {
          weight[v] = vload(w + (v / 2) * inputs * 2 * VL + (v % 2) * VL);
          if (rows > 1) weight[v] = vkeep(weight[v]);
        }
        FL_UNROLL
        for (int r = 0; r < rows; ++r) {
          const vreal x = vkeep(vset1(a[r * VL]));
          FL_UNROLL
          for (int v = 0; v < nv; ++v) acc[r * nv + v] = vfma(x, weight[v], acc[r * nv + v]);
        }
      } else {  // few registers
        FL_UNROLL
        for (int v = 0; v < nv && v < 2; ++v) weight[v] = vkeep(vload(w + v * VL));
        FL_UNROLL
        for (int r = 0; r < rows; ++r) {
          const vreal x = vkeep(vset1(a[r * VL]));
          FL_UNROLL
          for (int v = 0; v < nv; ++v) {
            const vreal one = v < 2 ? weight[v] : vload(w + (v / 2) * inputs * 2 * VL + (v % 2) * VL);
            acc[r * nv + v] = vfma(x, one, acc[r * nv + v]);
          }
        }
      }
    }
  }
}

FL_INLINE vreal load_columns(const real *row, int64_t column, int64_t columns)
{
  return columns - column >= VL ? vloadu(row + column) : vload_first(row + column, (int)(columns - column));
}

// What the tape holds of the cells of one panel comes from far away: asked for before the product, it is
// there after it.
FL_INLINE void prefetch_cells(const int rows, const fl_back_step *job, int64_t panel, int64_t row)
{
  const int64_t first = panel * job->c_panel_stride + row * VL;
  const real *saved = (const real *)job->saved + 4 * first;
  const real *c = (const real *)job->c + first, *c_prev = (const real *)job->c_prev + first;
  for (int r = 0; r < rows; ++r) {
    FL_UNROLL
    for (int g = 0; g < 4; ++g) __builtin_prefetch(saved + (4 * r + g) * VL, 0, 3);
    __builtin_prefetch(c + r * VL, 0, 3);
    __builtin_prefetch(c_prev + r * VL, 0, 3);
    if (job->dy) __builtin_prefetch((const real *)job->dy[row + r] + panel * VL, 0, 3);
  }
}

// The cells of one panel, after the product has given what comes from the next step.
FL_INLINE void back_cells(const int rows, const int nv, const fl_layer *layer, const fl_back_step *job,
                          const real *dh, int64_t panel, int64_t row)
{
  const int64_t first = panel * job->c_panel_stride + row * VL, unit = panel * VL;
  const real *saved = (const real *)job->saved + 4 * first;
  const real *c = (const real *)job->c + first, *c_prev = (const real *)job->c_prev + first;
  real *carry = (real *)job->dc_carry + first, *bias = (real *)job->bias + panel * 4 * VL;
  real *now = (real *)job->now + 4 * panel * job->stride + row * VL;
  vreal sum[4], d[4];
  FL_UNROLL
  for (int g = 0; g < 4; ++g) sum[g] = vload(bias + g * VL);
  for (int r = 0; r < rows; ++r) {
    vreal h = vload(dh + r * nv * VL), dc = vload(carry + r * VL);
    if (job->dy) h = h + load_columns(job->dy[row + r], unit, layer->units);
    if (job->dh_last) h = h + vload((const real *)job->dh_last + (row + r) * job->dh_stride + unit);
    if (job->dc) dc = dc + load_columns(job->dc[row + r], unit, layer->units);
    dc = cell_backward(saved + r * 4 * VL, vload(c + r * VL), vload(c_prev + r * VL), h, dc, d);
    vstore(carry + r * VL, dc);
    FL_UNROLL
    for (int g = 0; g < 4; ++g) {
      vstore(now + g * job->stride + r * VL, d[g]);
      sum[g] = sum[g] + d[g];
    }
  }
  FL_UNROLL
  for (int g = 0; g < 4; ++g) vstore(bias + g * VL, sum[g]);
}

FL_INLINE void back_step_tile(const int rows, const int nv, const fl_layer *layer, const fl_back_step *job,
                              int64_t panel, int64_t row, const back_block *block)
{
  const int64_t apart = 4 * job->stride;  // unfinished sums stand where the gradients of gate i will
  real *sums = (real *)job->now + 2 * panel * apart + row * VL;
  vreal acc[FL_ACCUMULATORS];
  FL_UNROLL
  for (int v = 0; v < rows * nv; ++v)
    acc[v] = block->begin ? vload(sums + v % nv * apart + v / nv * VL) : vset1(0);
  if (job->next) {
    const int cells = job->far && block->end == block->all;
    for (int v = 0; v < nv && cells; ++v) prefetch_cells(rows, job, 2 * panel + v, row);
    const real *w = (const real *)layer->t_h + panel * 4 * layer->units * 2 * VL;
    back_multiply(rows, nv, acc, layer, (const real *)job->next + row * VL, job->stride, w, block);
    if (block->end < block->all) {
      FL_UNROLL
      for (int v = 0; v < rows * nv; ++v) vstore(sums + v % nv * apart + v / nv * VL, acc[v]);
      return;
    }
  }
  real dh[FL_ACCUMULATORS * VL] __attribute__((aligned(64)));
  FL_UNROLL
  for (int v = 0; v < rows * nv; ++v) vstore(dh + v * VL, acc[v]);
  for (int v = 0; v < nv; ++v) back_cells(rows, nv, layer, job, dh + v * VL, 2 * panel + v, row);
}

FL_INLINE void back_product_tile(const int rows, const int nv, const fl_layer *layer,
                                 const fl_back_product *job, int64_t panel, int64_t row,
                                 const back_block *block)
{
  const int64_t column = 2 * panel * VL, left = job->columns - column;
  const int add = job->add || block->begin;
  vreal acc[FL_ACCUMULATORS];
  FL_UNROLL
  for (int v = 0; v < rows * nv; ++v)
    acc[v] = add ? load_columns((const real *)job->out[row + v / nv] + column, v % nv * VL, left) : vset1(0);
  const real *w = (const real *)job->weights + panel * 4 * layer->units * 2 * VL;
  back_multiply(rows, nv, acc, layer, (const real *)job->grads + row * VL, job->stride, w, block);
  FL_UNROLL
  for (int v = 0; v < rows * nv; ++v) {
    const int64_t rest = left - v % nv * VL;
    store_units((real *)job->out[row + v / nv] + column + v % nv * VL, acc[v], rest < VL ? (int)rest : VL);
  }
}

typedef void back_step_fn(const fl_layer *, const fl_back_step *, int64_t, int64_t, const back_block *);
typedef void back_product_fn(const fl_layer *, const fl_back_product *, int64_t, int64_t, const back_block *);

// clang-format off
#define FL_BACK(rows, nv)                                                                                  \
  static void back_step_##rows##_##nv(const fl_layer *layer, const fl_back_step *job, int64_t panel,       \
                                      int64_t row, const back_block *block)                                \
  {                                                                                                        \
    if (FL_BACK_FITS(rows, nv)) back_step_tile(rows, nv, layer, job, panel, row, block);                   \
  }                                                                                                        \
  static void back_product_##rows##_##nv(const fl_layer *layer, const fl_back_product *job, int64_t panel, \
                                         int64_t row, const back_block *block)                             \
  {                                                                                                        \
    if (FL_BACK_FITS(rows, nv)) back_product_tile(rows, nv, layer, job, panel, row, block);                \
  }
#define FL_BACK_FEW(rows)  FL_BACK(rows, 1) FL_BACK(rows, 2) FL_BACK(rows, 4) FL_BACK(rows, 6) FL_BACK(rows, 8)
#define FL_BACK_MANY(rows) FL_BACK(rows, 1) FL_BACK(rows, 2)
FL_BACK_FEW(1) FL_BACK_FEW(2) FL_BACK_FEW(3)
FL_BACK_MANY(4) FL_BACK(4, 4) FL_BACK(4, 6)
FL_BACK_MANY(5) FL_BACK(5, 4)
FL_BACK_MANY(6) FL_BACK(6, 4)
FL_BACK_MANY(7) FL_BACK_MANY(8) FL_BACK_MANY(9) FL_BACK_MANY(10) FL_BACK_MANY(11) FL_BACK_MANY(12)

#define FL_BACK_TABLE(name)                                                           \
  {                                                                                   \
    {name##_1_1, name##_1_2, name##_1_4, name##_1_6, name##_1_8},                     \
    {name##_2_1, name##_2_2, name##_2_4, name##_2_6, name##_2_8},                     \
    {name##_3_1, name##_3_2, name##_3_4, name##_3_6, name##_3_8},                     \
    {name##_4_1, name##_4_2, name##_4_4, name##_4_6},                                 \
    {name##_5_1, name##_5_2, name##_5_4},                                             \
    {name##_6_1, name##_6_2, name##_6_4},                                             \
    {name##_7_1, name##_7_2}, {name##_8_1, name##_8_2}, {name##_9_1, name##_9_2},     \
    {name##_10_1, name##_10_2}, {name##_11_1, name##_11_2}, {name##_12_1, name##_12_2}, \
  }
    // clang-format on
    // [rows - 1][panels of two vectors, 0: a panel of one]
    static back_step_fn *const back_step_tiles[12][BACK_WIDE + 1] = FL_BACK_TABLE(back_step);
static back_product_fn *const back_product_tiles[12][BACK_WIDE + 1] = FL_BACK_TABLE(back_product);

// Walks column panels in groups, from either end: the wider, the fewer rows there are.
typedef struct column_walk {
  int64_t begin, end;  // panels of two vectors left
  int narrow;          // a panel of one vector is left behind them
  int backwards, widest;
  int64_t panel;  // the group's first
  int wide;       // panels of two vectors in it, 0: the narrow one
} column_walk;

FL_INLINE column_walk walk_columns(int64_t columns, int64_t begin, int64_t end, int64_t rows, int backwards)
{
  const int64_t vectors = (columns + VL - 1) / VL, tallest = rows < BACK_ROWS ? rows : BACK_ROWS;
  column_walk w = {.begin = begin, .end = end < vectors / 2 ? end : vectors / 2, .backwards = backwards};
  w.narrow = end > vectors / 2 && vectors % 2;
  w.widest = tallest > 0 ? (int)(FL_ACCUMULATORS / (2 * tallest)) : 1;
  if (w.widest > BACK_WIDE) w.widest = BACK_WIDE;
  return w;
}

FL_INLINE int next_columns(column_walk *w)
{
  const int64_t left = w->end - w->begin;
  if (left <= 0 && !w->narrow) return 0;
  if (w->narrow && (w->backwards || left <= 0)) {
    w->narrow = 0;
    w->wide = 0;
    w->panel = w->end;
    return 1;
  }
  w->wide = left < w->widest ? (int)left : w->widest;
  w->panel = w->backwards ? w->end - w->wide : w->begin;
  if (w->backwards)
    w->end -= w->wide;
  else
    w->begin += w->wide;
  return 1;
}

// What tile `tile` of `tiles` asks for: its share of the weights of the next group, which is one panel where
// rows fill several tiles.
FL_INLINE void share_ahead(back_block *block, const fl_layer *layer, const void *weights,
                           const column_walk *walk, int asks, int64_t tile, int64_t tiles)
{
  const int64_t row = 2 * VL * (int64_t)sizeof(real), panel_bytes = 4 * layer->units * row;
  const int64_t panel = walk->backwards ? walk->panel - 1 : walk->panel + walk->wide;
  block->asks = asks;
  block->lines = asks > 1 && tiles > 1 && walk->begin < walk->end ? tile_count(VL * row / 64, tiles) : 0;
  block->ahead = (const char *)weights + panel * panel_bytes + block->begin * VL * row +
                 tile * (block->end - block->begin) * block->lines * 64;
}

static void back_step(const fl_layer *layer, const fl_back_step *job)
{
  const int64_t tiles = tile_count(job->rows, BACK_ROWS);
  back_block block = {0};
  while (next_block(layer, job->rows, &block)) {
    if (!job->next) block.end = block.all;
    column_walk walk =
        walk_columns(layer->units, job->panel_begin, job->panel_end, job->rows, job->backwards);
    while (next_columns(&walk)) {
      for (int64_t q = 0; q < tiles; ++q) {
        const int64_t row = job->rows * q / tiles, end = job->rows * (q + 1) / tiles;
        share_ahead(&block, layer, layer->t_h, &walk, job->next ? job->asks : 0, q, tiles);
        back_step_tiles[end - row - 1][walk.wide](layer, job, walk.panel, row, &block);
      }
    }
  }
}

static void back_product(const fl_layer *layer, const fl_back_product *job)
{
  enum { GROUP = 8 * BACK_ROWS };
  for (int64_t first = 0; first < job->rows; first += GROUP) {
    const int64_t rows = job->rows - first < GROUP ? job->rows - first : GROUP;
    const int64_t tiles = tile_count(rows, BACK_ROWS);
    back_block block = {0};
    while (next_block(layer, rows, &block)) {
      column_walk walk = walk_columns(job->columns, job->panel_begin, job->panel_end, rows, 0);
      while (next_columns(&walk)) {
        for (int64_t q = 0; q < tiles; ++q) {
          const int64_t row = first + rows * q / tiles, end = first + rows * (q + 1) / tiles;
          share_ahead(&block, layer, job->weights, &walk, job->asks, q, tiles);
          back_product_tiles[end - row - 1][walk.wide](layer, job, walk.panel, row, &block);
        }
      }
    }
  }
}

#endif
