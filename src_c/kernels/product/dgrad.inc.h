// SPDX-License-Identifier: BSD-3-Clause
// The products of the backward pass: gate gradients times transposed weights.
//
// Transposed weights of a layer (packed by pack.c), columns n = inputs of W_ih or W_hh, K = gates * H:
//
//     panel 0      panel 1      ...  last panel, one vector if their number is odd
//   k=0 | n n |                        | n |
//   k=1 | n n |                        | n |
//   ...    each cell one vector
//
//   address(panel q, k, vector v) = q * K * 2 VL + k * (vectors of the panel) * VL + v * VL
//
// k runs through the gate gradients in the order they are kept in: unit vector, gate, unit of the vector.
// With v = u / VL and n = min(VL, H - v * VL), k(unit u, g-th gate) = gates * VL * v + g * n + (u - v * VL),
// where gates are counted in the order that the cell's of_x or of_h says. A sum has one order, whatever the
// tile; so bits do not depend on the batch.
//
// A tile is `rows` rows by `nv` vectors: panels side by side when there are few rows. Many rows take the sum
// in blocks of k, whose gate gradients stay in the second-level cache while all panels pass by; between
// blocks the unfinished sums are in memory, which changes no bit of them.
#ifndef FL_DGRAD_H
#define FL_DGRAD_H

// A block of k: vectors [begin, end) of gate gradients, of `all` that the product takes; the first one is of
// the unit's gate `gate` and stands at `place` among those that are kept. Weights of a later panel are
// prefetched while tiles multiply by this one: with each vector of gate gradients, `lines` cache lines from
// `later` on.
typedef struct back_block {
  int64_t begin, end, all;
  int64_t gate, place;
  const char *later;
  int64_t lines;
  int prefetch;  // of weights that are used in a moment
} back_block;

// Bytes of gate gradients of a block, of all rows together: a quarter of a second-level cache of 512 KiB.
// Neither the machine it was chosen on nor a gain was recorded.
enum { FL_BACK_BLOCK_BYTES = 128 << 10 };

FL_INLINE int next_block(const fl_layer *layer, int64_t rows, back_block *block)
{
  const int64_t most = FL_BACK_BLOCK_BYTES / (rows * VL * (int64_t)sizeof(real));
  const int64_t gates = layer->cell->gates;
  block->all = gates * fl_unit_vectors(layer, VL);
  block->begin = block->end;
  if (block->begin) {
    block->gate = block->begin % gates;
    block->place = block->begin / gates * layer->cell->grads + block->gate;
  }
  block->end += most > 4 ? most : 4;
  if (block->end > block->all) block->end = block->all;
  return block->begin < block->end;
}

// Where a tile's sums stand, before and after: row r, vector v at r * row + v * vector.
typedef struct sums_at {
  real *at;
  int64_t row, vector;
} sums_at;

typedef struct dgrad_factors {
  const fl_layer *layer;
  const real *grads;  // of the tile's first row
  int64_t stride;
  const real *w;  // of the group's first panel
} dgrad_factors;

// to[r][v] = from[r][v] (zero if its place is NULL) + sum over the block's k of grads[k][r] * w[k][v]
FL_INLINE void dgrad_tile(const int rows, const int nv, const dgrad_factors *f, const back_block *block,
                          sums_at from, sums_at to)
{
  const int64_t gates = f->layer->cell->gates, k_total = gates * f->layer->units;
  const int64_t others = (f->layer->cell->grads - gates) * f->stride;  // of each unit vector, not taken
  const int64_t whole = block->all - gates, last = f->layer->units - whole / gates * VL;
  const int64_t before =
      block->begin < whole ? block->begin * VL : whole * VL + (block->begin - whole) * last;
  const real *w = f->w + before * (nv == 1 ? VL : 2 * VL);
  vreal acc[FL_SUMS];
  FL_UNROLL
  for (int v = 0; v < rows * nv; ++v)
    acc[v] = from.at ? vload(from.at + v / nv * from.row + v % nv * from.vector) : vset1(0);
  const real *at = f->grads + block->place * f->stride;
  int64_t gate = block->gate;
  for (int64_t b = block->begin; b < block->end; ++b) {
    const int64_t count = b < whole ? VL : last;
    const real *a = at;
    at += f->stride;
    if (++gate == gates) {
      gate = 0;
      at += others;
    }
    for (int r = 0; r < rows; ++r)
      __builtin_prefetch(at + r * VL, 0, 3);  // a stride too long for the processor's prefetcher
    // Where several tiles share a panel, each has half of the tallest one's rows at least.
    for (int64_t i = 0; 2 * rows >= FL_DGRAD_ROWS && i < block->lines; ++i)
      __builtin_prefetch(block->later + ((b - block->begin) * block->lines + i) * 64, 0, 2);
    for (int64_t j = 0; j < count; ++j, ++a, w += nv == 1 ? VL : 2 * VL) {
      vreal weight[2 * FL_DGRAD_PANELS];
      if (2 * rows > FL_DGRAD_ROWS && nv == 2 && block->prefetch)
        prefetch_weights(w + FL_PREFETCH_NEAR * 2 * VL, 2);
      if (FL_HOLD_WEIGHTS && fits_registers(rows, nv)) {
        FL_UNROLL
        for (int v = 0; v < nv; ++v) {
          weight[v] = vload(w + (v / 2) * k_total * 2 * VL + (v % 2) * VL);
          if (rows > 1) weight[v] = vkeep(weight[v]);
        }
        FL_UNROLL
        for (int r = 0; r < rows; ++r) {
          const vreal x = vbroadcast(a[r * VL]);
          FL_UNROLL
          for (int v = 0; v < nv; ++v) acc[r * nv + v] = vfma(x, weight[v], acc[r * nv + v]);
        }
      } else {  // the weights of the first panel stay, those of further ones pass by
        FL_UNROLL
        for (int v = 0; v < nv && v < 2; ++v) weight[v] = vkeep(vload(w + v * VL));
        FL_UNROLL
        for (int r = 0; r < rows; ++r) {
          const vreal x = vbroadcast(a[r * VL]);
          FL_UNROLL
          for (int v = 0; v < nv; ++v) {
            const vreal one = v < 2 ? weight[v] : vload(w + (v / 2) * k_total * 2 * VL + (v % 2) * VL);
            acc[r * nv + v] = vfma(x, one, acc[r * nv + v]);
          }
        }
      }
    }
  }
  FL_UNROLL
  for (int v = 0; v < rows * nv; ++v) vstore(to.at + v / nv * to.row + v % nv * to.vector, acc[v]);
}

// ---- instances ----

typedef void dgrad_fn(const dgrad_factors *, const back_block *, sums_at from, sums_at to);

#define FL_DGRAD(rows, nv)                                                                                 \
  _Static_assert((rows) * (nv) <= FL_SUMS && (nv) <= 2 * FL_DGRAD_PANELS, "a tile outgrows registers");    \
  static void FL_NAMED(dgrad_##rows##_##nv)(const dgrad_factors *f, const back_block *block, sums_at from, \
                                            sums_at to)                                                    \
  {                                                                                                        \
    dgrad_tile(rows, nv, f, block, from, to);                                                              \
  }
#define FL_DGRAD_ENTRY(rows, nv) [(rows) - 1][(nv) / 2] = FL_NAMED(dgrad_##rows##_##nv),
FL_DGRAD_TILES(FL_DGRAD)
// [rows - 1][panels of two vectors; 0: the last panel of one]
static dgrad_fn *const dgrad_tiles[FL_DGRAD_ROWS][FL_DGRAD_PANELS + 1] = {FL_DGRAD_TILES(FL_DGRAD_ENTRY)};

// ---- which tiles ----

// Walks column panels in groups, from either end: the fewer rows there are, the wider.
typedef struct column_walk {
  int64_t begin, end;  // panels of two vectors left
  int single;          // a panel of one vector is left behind them
  int descending, widest;
  int64_t panel;  // the group's first
  int wide;       // panels of two vectors in it, 0: the one of a single vector
} column_walk;

FL_INLINE column_walk walk_columns(int64_t columns, int64_t begin, int64_t end, int64_t rows, int descending)
{
  const int64_t vectors = (columns + VL - 1) / VL, tallest = rows < FL_DGRAD_ROWS ? rows : FL_DGRAD_ROWS;
  column_walk w = {.begin = begin, .end = end < vectors / 2 ? end : vectors / 2, .descending = descending};
  w.single = end > vectors / 2 && vectors % 2;
  w.widest = tallest > 0 ? (int)(FL_SUMS / (2 * tallest)) : 1;
  if (w.widest > FL_DGRAD_PANELS) w.widest = FL_DGRAD_PANELS;
  return w;
}

FL_INLINE int next_columns(column_walk *w)
{
  const int64_t left = w->end - w->begin;
  if (left <= 0 && !w->single) return 0;
  if (w->single && (w->descending || left <= 0)) {
    w->single = 0;
    w->wide = 0;
    w->panel = w->end;
    return 1;
  }
  w->wide = left < w->widest ? (int)left : w->widest;
  w->panel = w->descending ? w->end - w->wide : w->begin;
  if (w->descending)
    w->end -= w->wide;
  else
    w->begin += w->wide;
  return 1;
}

FL_INLINE const real *column_weights(const fl_layer *layer, const void *weights, int64_t panel)
{
  return (const real *)weights + panel * layer->cell->gates * layer->units * 2 * VL;
}

// What tile `tile` of `tiles` prefetches: its share of the weights of the next group, which is one panel
// where rows fill several tiles.
FL_INLINE void share_prefetch(back_block *block, const fl_layer *layer, const void *weights,
                              const column_walk *walk, int prefetch, int64_t tile, int64_t tiles)
{
  const int64_t row = 2 * VL * (int64_t)sizeof(real);
  const int64_t panel = walk->descending ? walk->panel - 1 : walk->panel + walk->wide;
  block->prefetch = prefetch != FL_DGRAD_NO_PREFETCH;
  block->lines = prefetch == FL_DGRAD_PREFETCH_NEXT_PANEL && tiles > 1 && walk->begin < walk->end
                     ? tile_count(VL * row / 64, tiles)
                     : 0;
  block->later = (const char *)column_weights(layer, weights, panel) + block->begin * VL * row +
                 tile * (block->end - block->begin) * block->lines * 64;
}

// One tile of the gradients of a layer's inputs, by way of a small buffer: columns end anywhere.
FL_INLINE void dgrad_columns(const int nv, const fl_layer *layer, const fl_dgrad *job,
                             const column_walk *walk, const back_block *block, int64_t row, int rows)
{
  const int64_t column = 2 * walk->panel * VL, left = job->columns - column;
  const int add = job->add || block->begin;
  real z[FL_SUMS * VL] __attribute__((aligned(64)));
  const sums_at at = {z, nv * VL, VL};
  for (int r = 0; add && r < rows; ++r) {
    const real *out = (const real *)job->out[row + r] + column;
    FL_UNROLL
    for (int v = 0; v < nv; ++v) vstore(z + (r * nv + v) * VL, load_columns(out, v * VL, left));
  }
  const fl_gate_order *order = job->recurrent ? &layer->cell->of_h : &layer->cell->of_x;
  const dgrad_factors f = {layer, (const real *)job->grads + order->first * job->stride + row * VL,
                           job->stride, column_weights(layer, job->weights, walk->panel)};
  dgrad_tiles[rows - 1][walk->wide](&f, block, add ? at : (sums_at){0}, at);
  for (int r = 0; r < rows; ++r) {
    real *out = (real *)job->out[row + r] + column;
    FL_UNROLL
    for (int v = 0; v < nv; ++v) {
      const int64_t rest = left - v * VL;
      store_units(out + v * VL, vload(z + (r * nv + v) * VL), rest < VL ? (int)rest : VL);
    }
  }
}

static void FL_NAMED(dgrad_group)(const fl_layer *layer, const fl_dgrad *job, const column_walk *walk,
                                  const back_block *block, int64_t row, int rows)
{
  if (walk->wide == 0)
    dgrad_columns(1, layer, job, walk, block, row, rows);
  else if (walk->wide == 1)
    dgrad_columns(2, layer, job, walk, block, row, rows);
  else
    dgrad_columns(2 * walk->wide, layer, job, walk, block, row, rows);
}

static void FL_NAMED(dgrad)(const fl_layer *layer, const fl_dgrad *job)
{
  enum { GROUP = 8 * FL_DGRAD_ROWS };
  for (int64_t first = 0; first < job->rows; first += GROUP) {
    const int64_t rows = job->rows - first < GROUP ? job->rows - first : GROUP;
    const int64_t tiles = tile_count(rows, FL_DGRAD_ROWS);
    back_block block = {0};
    while (next_block(layer, rows, &block)) {
      column_walk walk = walk_columns(job->columns, job->panel_begin, job->panel_end, rows, 0);
      while (next_columns(&walk)) {
        for (int64_t q = 0; q < tiles; ++q) {
          const int64_t row = first + rows * q / tiles, end = first + rows * (q + 1) / tiles;
          share_prefetch(&block, layer, job->weights, &walk, job->prefetch, q, tiles);
          FL_NAMED(dgrad_group)(layer, job, &walk, &block, row, (int)(end - row));
        }
      }
    }
  }
}

#endif
