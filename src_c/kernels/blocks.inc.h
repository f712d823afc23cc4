// SPDX-License-Identifier: BSD-3-Clause
// The product of many rows and one panel, in memory. On machines whose caches beyond the first are slow,
// weights must be read seldom and asked for early:
//
// - A block of k is so short that its weights stay in the first-level cache while tile after tile of the rows
//   multiplies them; meanwhile each tile asks for its share of the weights that come next. Between
//   blocks the unfinished sums are in memory, which changes no bit of them.
// - A block that outgrows that cache asks for its own weights some inputs ahead of their use.
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
  int64_t own_ahead;   // inputs ahead of which a tile asks for the block's own weights
  const char *next;    // what is read after the block,
  int64_t next_bytes;  // and how much of it a tile asks for with each input
} block;

// The two kinds of requests are compile-time choices.
FL_INLINE void block_tile(const int rows, const int vectors, const int asks_own, const int asks_next,
                          const block *b, int64_t row)
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
  const char *next = b->next;
  for (int64_t k = 0; k < b->count; ++k) {
    if (asks_own) ask_ahead(b->w + (k + b->own_ahead) * vectors * VL, vectors);
    if (asks_next) __builtin_prefetch(next, 0, 2);
    if (asks_next) next += b->next_bytes;
    multiply_step(rows, vectors / 4, vectors % 4, acc, a, b->w, 0, k);
  }
  FL_UNROLL
  for (int v = 0; v < rows * vectors; ++v)
    vstore(b->to + (row + v / vectors) * 4 * VL + v % vectors * VL, acc[v]);
}

typedef void block_fn(const block *, int64_t);

#define FL_BLOCK(rows, vectors, own, next)                                        \
  static void block_##rows##_##vectors##_##own##next(const block *b, int64_t row) \
  {                                                                               \
    if ((rows) <= MAX_ROWS && (FL_ASKS(rows) || !((own) || (next))))              \
      block_tile(rows, vectors, own, next, b, row);                               \
  }
#define FL_BLOCK_ROWS(rows) \
  FL_BLOCK(rows, 1, 0, 0)   \
  FL_BLOCK(rows, 2, 0, 0)   \
  FL_BLOCK(rows, 4, 0, 0) FL_BLOCK(rows, 4, 1, 0) FL_BLOCK(rows, 4, 0, 1) FL_BLOCK(rows, 4, 1, 1)
FL_BLOCK_ROWS(1)
FL_BLOCK_ROWS(2)
FL_BLOCK_ROWS(3)
FL_BLOCK_ROWS(4)
FL_BLOCK_ROWS(5)
FL_BLOCK_ROWS(6)

#define FL_BLOCK_ENTRY(kind) \
  {block_1_##kind, block_2_##kind, block_3_##kind, block_4_##kind, block_5_##kind, block_6_##kind}
// [kind][rows - 1]. Kind: vectors / 2; of whole panels, + 1 asks for own weights, + 2 for the next.
static block_fn *const block_tiles[6][6] = {FL_BLOCK_ENTRY(1_00), FL_BLOCK_ENTRY(2_00), FL_BLOCK_ENTRY(4_00),
                                            FL_BLOCK_ENTRY(4_10), FL_BLOCK_ENTRY(4_01), FL_BLOCK_ENTRY(4_11)};

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

// to = from + the product of one panel, in blocks if the reading says so; `next` is read after that.
static void sum_in_blocks(const fl_layer *layer, const product *p, int64_t panel, int64_t rows,
                          const real *from, int64_t from_stride, real *to, const fl_reading *reading,
                          const real *next)
{
  const int vectors = panel < layer->full ? 4 : layer->tail;
  const int64_t tiles = tile_count(rows, MAX_ROWS), most = tiles > 1 ? reading->block : 0;
  const int64_t blocks = most && most < p->inputs ? (p->inputs + most - 1) / most : 1;
  const int asks = vectors < 4 ? 0 : (reading->ahead != 0) + 2 * (most != 0);
  for (int64_t i = 0; i < blocks; ++i) {
    block b = {.a = p->a,
               .from = from,
               .from_stride = from_stride,
               .to = to,
               .own_ahead = reading->ahead,
               .next_bytes = vectors * VL * (int64_t)sizeof(real) / tiles};
    const int64_t end = p->inputs * (i + 1) / blocks;
    b.begin = p->inputs * i / blocks;
    b.count = end - b.begin;
    b.w = panel_of(p, panel) + b.begin * vectors * VL;
    b.next = (const char *)(i + 1 < blocks ? b.w + b.count * vectors * VL : next);
    for (int64_t q = 0; q < tiles; ++q) {
      const int64_t row = rows * q / tiles, height = rows * (q + 1) / tiles - row;
      block_tiles[vectors / 2 + (FL_ASKS(height) ? asks : 0)][height - 1](&b, row);
      b.next += b.count * b.next_bytes;
    }
    from = to;
    from_stride = 4 * VL;
  }
}

#endif
