// SPDX-License-Identifier: BSD-3-Clause
// The forward product in registers: sums of a few rows for one group of panels.
//
// Weights of K inputs for a layer of H units (packed by pack.c; VL = lanes of a vector). A panel has four
// vectors an input. Of an LSTM they are the gates of VL units, of an RNN four times VL units, of a GRU four
// of twelve vectors, the gates of four times VL units (docs/design/layouts.md):
//
//     LSTM    panel 0                   panel 1    ...      each cell one vector
//     k=0   | i i | f f | g g | o o |                       (i i = VL units of gate i)
//     k=1   | i i | f f | g g | o o |
//
//     RNN     panel 0                                    panel 1    ...
//     k=0   | units 0.. | VL.. | 2 VL.. | 3 VL.. |
//     k=1   | units 0.. | VL.. | 2 VL.. | 3 VL.. |
//
// The remainder panel, if few units are left, has one or two vectors an input; three make a whole panel:
//
//     LSTM, VL/2 units        LSTM, VL/4 units        RNN, 2 VL units             RNN, VL units
//     k=0   | i f | g o |     k=0   | i f g o |       k=0   | units | units |     k=0   | units |
//     k=1   | i f | g o |     k=1   | i f g o |       k=1   | units | units |     k=1   | units |
//
//   address(panel p, input k, vector v) = p * K * 4 VL + k * (vectors of the panel) * VL + v * VL
//
// A tile is `rows` rows by `full` whole panels and a remainder panel of `rest` vectors (0, 1, 2). These are
// compile-time constants of an instance. Bits of a row do not depend on them, since every sum runs over k in
// one order, in `chains` interleaved partial sums fixed by H alone.
#ifndef FL_TILE_H
#define FL_TILE_H

#define FL_UNROLL _Pragma("GCC unroll 64")

enum { FL_TILE_VECTORS = FL_PANEL * FL_TILE_PANELS + 2 };  // of the widest tile of one row

typedef const real *const *rows_in;

// How many tiles of at most `height` rows, of nearly equal height, `rows` make.
FL_INLINE int64_t tile_count(int64_t rows, int64_t height) { return (rows + height - 1) / height; }

FL_INLINE const real *panel_weight(const real *w, int64_t inputs, int full, int rest, int v, int64_t k)
{
  const int p = v / FL_PANEL;
  return p < full ? w + p * inputs * FL_PANEL * VL + k * FL_PANEL * VL + (v % FL_PANEL) * VL
                  : w + full * inputs * FL_PANEL * VL + k * rest * VL + (v - FL_PANEL * full) * VL;
}

// Whether the sums of a tile, an input's weights and one broadcast have registers of their own.
#define fits_registers(rows, nv) ((rows) * (nv) + (nv) + 1 <= FL_REGISTERS)

// acc[row][v] += a[row][k] * w[k][v] for one k.
FL_INLINE void multiply_input(const int rows, const int full, const int rest, vreal *acc, rows_in a,
                              const real *w, int64_t inputs, int64_t k)
{
  const int nv = FL_PANEL * full + rest;
  if (FL_HOLD_WEIGHTS && rows > 1 && fits_registers(rows, nv)) {
    vreal weight[FL_TILE_VECTORS];
    FL_UNROLL
    for (int v = 0; v < nv; ++v) weight[v] = vkeep(vload(panel_weight(w, inputs, full, rest, v, k)));
    FL_UNROLL
    for (int r = 0; r < rows; ++r) {
      const vreal x = vbroadcast(a[r][k]);
      FL_UNROLL
      for (int v = 0; v < nv; ++v) acc[r * nv + v] = vfma(x, weight[v], acc[r * nv + v]);
    }
  } else {
    vreal x[FL_TILE_ROWS];
    FL_UNROLL
    for (int r = 0; r < rows; ++r) x[r] = vbroadcast(a[r][k]);
    FL_UNROLL
    for (int v = 0; v < nv; ++v) {
      vreal weight = vload(panel_weight(w, inputs, full, rest, v, k));
      if (rows > 1) weight = vkeep(weight);
      FL_UNROLL
      for (int r = 0; r < rows; ++r) acc[r * nv + v] = vfma(x[r], weight, acc[r * nv + v]);
    }
  }
}

// Prefetches a later input's weights of one panel. The processor's own prefetcher is late for them.
FL_INLINE void prefetch_weights(const real *later, int vectors)
{
  const char *at = (const char *)later;
  FL_UNROLL
  for (int line = 0; line * 64 < vectors * VL * (int)sizeof(real); ++line)
    __builtin_prefetch(at + line * 64, 0, 3);
}

// The whole product in `chains` partial sums: chain j takes k = j, j + chains, ... They run side by side, or,
// where their sums outgrow the registers, one after the other: a persistent kernel of 18 to 24 units became
// 1.09 to 1.22 times as fast by that (AVX2, float32, Zen 5). A tile that prefetches weights, `distance`
// inputs ahead of their use, is of one panel.
FL_INLINE void multiply(const int rows, const int full, const int rest, const int chains, const int prefetch,
                        int64_t distance, vreal *acc, rows_in a_rows, const real *w, int64_t inputs)
{
  const int n = rows * (FL_PANEL * full + rest);
  const real *a[FL_TILE_ROWS];
  FL_UNROLL
  for (int r = 0; r < rows; ++r) {
    a[r] = a_rows[r];
    __asm__("" : "+r"(a[r]));  // else gcc counts rows from each other and runs out of registers
  }
  if (n * chains > FL_SUMS) {
    FL_UNROLL
    for (int j = 0; j < chains; ++j)
      for (int64_t k = j; k < inputs; k += chains)
        multiply_input(rows, full, rest, acc + j * n, a, w, inputs, k);
    return;
  }
  int64_t k = 0;
  for (; k + chains <= inputs; k += chains) {
    if (prefetch) prefetch_weights(w + (k + distance) * FL_PANEL * VL, FL_PANEL);
    FL_UNROLL
    for (int j = 0; j < chains; ++j) multiply_input(rows, full, rest, acc + j * n, a, w, inputs, k + j);
  }
  if (chains > 1 && k < inputs) multiply_input(rows, full, rest, acc, a, w, inputs, k);
}

// Joins the chains into acc[0 .. n).
FL_INLINE void join_chains(const int n, const int chains, vreal *acc)
{
  if (chains == 2) {
    FL_UNROLL
    for (int v = 0; v < n; ++v) acc[v] = vadd(acc[v], acc[n + v]);
  }
}

// Sums of a step: the projection, or the bias and the product with x, and then the product with h.
FL_INLINE void sum_tile(const int rows, const int full, const int rest, const int chains, const int prefetch,
                        const fl_layer *layer, const fl_step *job, int64_t panel, int64_t row, vreal *acc)
{
  const int nv = FL_PANEL * full + rest, n = rows * nv;
  // The first chain starts from the bias or from the projection, the others from zero.
  if (job->projected) {
    FL_UNROLL
    for (int r = 0; r < rows; ++r) {
      const real *from = (const real *)job->projected + panel * job->projected_panel_stride +
                         (row + r) * job->projected_row_stride;
      FL_UNROLL
      for (int v = 0; v < nv; ++v)
        acc[r * nv + v] = vload(from + (v / FL_PANEL) * job->projected_panel_stride + (v % FL_PANEL) * VL);
    }
  } else {
    const real *bias = (const real *)layer->bias + panel * FL_PANEL * VL;
    FL_UNROLL
    for (int v = 0; v < n; ++v) acc[v] = vload(bias + (v % nv) * VL);
    const real *w = (const real *)layer->w_x.data + panel * layer->inputs * FL_PANEL * VL;
    multiply(rows, full, rest, 1, prefetch, job->blocking.distance, acc, (rows_in)job->x + row, w,
             layer->inputs);
  }
  FL_UNROLL
  for (int v = n; v < n * chains; ++v) acc[v] = vset1(0);
  const real *h[FL_TILE_ROWS];
  FL_UNROLL
  for (int r = 0; r < rows; ++r) h[r] = (const real *)job->h_prev + (row + r) * job->h_stride;
  const real *w = (const real *)layer->w_h.data + panel * layer->w_h.inputs * FL_PANEL * VL;
  multiply(rows, full, rest, chains, prefetch, job->blocking.distance, acc, h, w, layer->w_h.inputs);
  join_chains(n, chains, acc);
}

// ---- instances: sums of a tile into z[row][vector] ----

typedef void product_fn(const fl_layer *, const fl_step *, int64_t panel, int64_t row, real *z);

FL_INLINE void product_tile(const int rows, const int full, const int rest, const int chains,
                            const int prefetch, const fl_layer *layer, const fl_step *job, int64_t panel,
                            int64_t row, real *z)
{
  vreal acc[FL_SUMS];
  sum_tile(rows, full, rest, chains, prefetch, layer, job, panel, row, acc);
  FL_UNROLL
  for (int v = 0; v < rows * (FL_PANEL * full + rest); ++v) vstore(z + v * VL, acc[v]);
}

#define FL_PRODUCT(rows, full, rest, chains)                                                                \
  _Static_assert((rows) * (FL_PANEL * (full) + (rest)) * (chains) <= FL_SUMS, "a tile outgrows registers"); \
  static void FL_NAMED(product_##rows##_##full##_##rest##_##chains)(                                        \
      const fl_layer *layer, const fl_step *job, int64_t panel, int64_t row, real *z)                       \
  {                                                                                                         \
    product_tile(rows, full, rest, chains, 0, layer, job, panel, row, z);                                   \
  }
#define FL_PREFETCHING_PRODUCT(rows)                                                                         \
  static void FL_NAMED(product_prefetching_##rows)(const fl_layer *layer, const fl_step *job, int64_t panel, \
                                                   int64_t row, real *z)                                     \
  {                                                                                                          \
    product_tile(rows, 1, 0, 1, 1, layer, job, panel, row, z);                                               \
  }
#define FL_PRODUCT_ENTRY(rows, full, rest, chains) \
  [(chains) - 1][(rows) - 1][full][rest] = FL_NAMED(product_##rows##_##full##_##rest##_##chains),
#define FL_PREFETCHING_PRODUCT_ENTRY(rows) [(rows) - 1] = FL_NAMED(product_prefetching_##rows),

#define FL_TILES(T) FL_TILES_OF_ONE_ROW(T) FL_TILES_OF_ROWS(T)

FL_TILES(FL_PRODUCT)
FL_PREFETCHING_ROWS(FL_PREFETCHING_PRODUCT)

typedef struct product_kernels {
  product_fn *tile[FL_CHAINS][FL_TILE_ROWS][FL_TILE_PANELS + 1][3];  // [chains - 1][rows - 1][full][rest]
  product_fn *prefetching[FL_TILE_ROWS];                             // [rows - 1], of one whole panel
} product_kernels;

static const product_kernels products[FL_FORMATS] = {
    [FL_NATIVE] = {.tile = {FL_TILES(FL_PRODUCT_ENTRY)},
                   .prefetching = {FL_PREFETCHING_ROWS(FL_PREFETCHING_PRODUCT_ENTRY)}},
};

// ---- which tiles ----

// Walks a range of panels in groups, from either end. A group is `full` whole panels from `panel` on, and the
// remainder panel too if `rest` is not 0.
typedef struct panel_walk {
  int begin, end;  // whole panels left
  int remainder;   // vectors of the remainder panel if it is left, else 0
  int descending;
  int panel, full, rest;  // the group
} panel_walk;

FL_INLINE panel_walk walk_panels(const fl_layer *layer, int begin, int end, int descending)
{
  panel_walk w = {.begin = begin, .end = end < layer->full ? end : layer->full, .descending = descending};
  w.remainder = end > layer->full ? layer->remainder : 0;
  return w;
}

// One row needs two panels at a time to have enough independent sums; so do two and three rows to read
// weights at full speed. More rows fill the registers with one panel. Where the second-level cache is the
// limit, one stream of weights is read faster than two (not so for two rows). The remainder panel is the last
// one, so it joins the last group, or the first when walking down.
FL_INLINE int next_group(panel_walk *w, const product_kernels *product, int64_t rows, int chains,
                         int one_panel)
{
  const int left = w->end - w->begin;
  product_fn *const(*of_rows)[3] = product->tile[chains - 1][rows - 1];
  if (left == 0 && w->remainder == 0) return 0;
  int full = rows == 1 && left == 3 ? 3 : rows <= 3 ? 2 : 1;
  if (one_panel && rows != 2) full = 1;
  if (full > left) full = left;
  while (full > 1 && !of_rows[full][0]) --full;
  int rest = 0;
  if (w->remainder && (w->descending || full == left)) {
    if (full == 0 || (rows == 1 && of_rows[full][w->remainder])) {
      rest = w->remainder;
    } else if (w->descending) {
      rest = w->remainder;
      full = 0;
    }
  }
  if (rest) w->remainder = 0;
  w->full = full;
  w->rest = rest;
  w->panel = w->descending ? w->end - full : w->begin;
  if (w->descending)
    w->end -= full;
  else
    w->begin += full;
  return 1;
}

#endif
