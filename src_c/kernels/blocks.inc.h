// SPDX-License-Identifier: BSD-3-Clause
// Sums of many rows in blocks of k, for machines whose caches beyond the first are slow: there weights must
// be read seldom and asked for early.
//
// A block's weights, of one panel, stay in the first-level cache while tile after tile of the rows multiplies
// them; meanwhile each tile asks for its share of the weights that come next. Between blocks the unfinished
// sums are in memory, which changes no bit of them.
#ifndef FL_BLOCKS_H
#define FL_BLOCKS_H

// Rows of a step at a time: their sums pass through the first-level cache once a block.
enum { SUM_ROWS = 16 * MAX_ROWS };

typedef struct block {
  rows_in a;
  int64_t begin, count;  // inputs it takes
  const real *w;         // weights of the first
  const real *from;      // sums so far, rows `from_stride` apart
  real *to;              // and with the block, rows 4 VL apart
  int64_t from_stride;
  const char *ahead;   // what is read next,
  int64_t ahead_step;  // and how much of it a tile asks for with each input
} block;

FL_INLINE void block_tile(const int rows, const int vectors, const block *b, int64_t row)
{
  vreal acc[FL_ACCUMULATORS];
  FL_UNROLL
  for (int v = 0; v < rows * vectors; ++v)
    acc[v] = vload(b->from + (row + v / vectors) * b->from_stride + v % vectors * VL);
  const real *a[MAX_ROWS];
  FL_UNROLL
  for (int r = 0; r < rows; ++r) {
    a[r] = b->a[row + r] + b->begin;
    __asm__("" : "+r"(a[r]));  // see multiply
  }
  const char *ahead = b->ahead;
  for (int64_t k = 0; k < b->count; ++k) {
    __builtin_prefetch(ahead, 0, 2);
    ahead += b->ahead_step;
    multiply_step(rows, vectors / 4, vectors % 4, acc, a, b->w, 0, k);
  }
  FL_UNROLL
  for (int v = 0; v < rows * vectors; ++v)
    vstore(b->to + (row + v / vectors) * 4 * VL + v % vectors * VL, acc[v]);
}

typedef void block_fn(const block *, int64_t);

#define FL_BLOCK(rows, vectors)                                     \
  static void block_##rows##_##vectors(const block *b, int64_t row) \
  {                                                                 \
    if ((rows) <= MAX_ROWS) block_tile(rows, vectors, b, row);      \
  }
#define FL_BLOCK_ROWS(rows) FL_BLOCK(rows, 1) FL_BLOCK(rows, 2) FL_BLOCK(rows, 4)
FL_BLOCK_ROWS(1)
FL_BLOCK_ROWS(2)
FL_BLOCK_ROWS(3)
FL_BLOCK_ROWS(4)
FL_BLOCK_ROWS(5)
FL_BLOCK_ROWS(6)

#define FL_BLOCK_ENTRY(rows) {block_##rows##_1, block_##rows##_2, block_##rows##_4}
// [rows - 1][vectors / 2]
static block_fn *const block_tiles[6][3] = {
    FL_BLOCK_ENTRY(1), FL_BLOCK_ENTRY(2), FL_BLOCK_ENTRY(3),
    FL_BLOCK_ENTRY(4), FL_BLOCK_ENTRY(5), FL_BLOCK_ENTRY(6),
};

// A matrix of `inputs` inputs, and the rows that are multiplied by it.
typedef struct product {
  rows_in a;
  const void *w;
  int64_t inputs;
} product;

FL_INLINE const real *panel_of(const product *p, int64_t panel)
{
  return (const real *)p->w + panel * p->inputs * 4 * VL;
}

// to = from + the product of one panel, in blocks of `most` inputs at most; `next` is read after that.
static void sum_in_blocks(const fl_layer *layer, const product *p, int64_t panel, int64_t rows,
                          const real *from, int64_t from_stride, real *to, int64_t most, const real *next)
{
  const int vectors = panel < layer->full ? 4 : layer->tail;
  const int64_t blocks = p->inputs > most ? (p->inputs + most - 1) / most : 1,
                tiles = tile_count(rows, MAX_ROWS);
  const int64_t step = vectors * VL * (int64_t)sizeof(real) / tiles;
  for (int64_t i = 0; i < blocks; ++i) {
    block b = {.a = p->a, .from = from, .from_stride = from_stride, .to = to, .ahead_step = step};
    const int64_t end = p->inputs * (i + 1) / blocks;
    b.begin = p->inputs * i / blocks;
    b.count = end - b.begin;
    b.w = panel_of(p, panel) + b.begin * vectors * VL;
    b.ahead = (const char *)(i + 1 < blocks ? b.w + b.count * vectors * VL : next);
    for (int64_t q = 0; q < tiles; ++q) {
      const int64_t row = rows * q / tiles, height = rows * (q + 1) / tiles - row;
      block_tiles[height - 1][vectors / 2](&b, row);
      b.ahead += b.count * step;
    }
    from = to;
    from_stride = 4 * VL;
  }
}

#endif
