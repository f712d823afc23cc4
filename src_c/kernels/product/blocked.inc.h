// SPDX-License-Identifier: BSD-3-Clause
// The forward product of many rows and one panel, with its sums in memory. Where caches beyond the first are
// slow, weights must be read seldom and early:
//
// - A block of k is so short that its weights stay in the first-level cache while one tile of rows after the
//   other multiplies by them. Each tile prefetches its share of the weights that come next. Between blocks
//   the unfinished sums are in memory, which changes no bit of them.
// - A block that outgrows that cache has its own weights prefetched some inputs ahead of their use.
#ifndef FL_BLOCKED_H
#define FL_BLOCKED_H

// Rows of a step at a time: their sums pass through the first-level cache once a block.
enum { FL_BLOCKED_STEP_ROWS = 16 * FL_TILE_ROWS };

typedef struct block {
  rows_in a;
  int64_t begin, count;  // inputs it takes
  const real *w;         // weights of the first
  const real *from;      // sums so far, rows `from_stride` apart
  real *to;              // and with the block, rows 4 VL apart
  int64_t from_stride;
  int64_t distance;    // inputs ahead of which a tile prefetches the block's own weights
  const char *next;    // what is read after the block,
  int64_t next_bytes;  // and how much of it a tile prefetches with each input
} block;

// The two kinds of prefetches are compile-time choices.
FL_INLINE void blocked_tile(const int rows, const int vectors, const int prefetch_own,
                            const int prefetch_next, const block *b, int64_t row)
{
  vreal acc[FL_SUMS];
  FL_UNROLL
  for (int v = 0; v < rows * vectors; ++v)
    acc[v] = vload(b->from + (row + v / vectors) * b->from_stride + v % vectors * VL);
  const real *a[FL_TILE_ROWS];
  FL_UNROLL
  for (int r = 0; r < rows; ++r) {
    a[r] = b->a[row + r] + b->begin;
    __asm__("" : "+r"(a[r]));  // see multiply
  }
  const char *next = b->next;
  for (int64_t k = 0; k < b->count; ++k) {
    if (prefetch_own) prefetch_weights(b->w + (k + b->distance) * vectors * VL, vectors);
    if (prefetch_next) __builtin_prefetch(next, 0, 2);
    if (prefetch_next) next += b->next_bytes;
    multiply_input(rows, vectors / FL_PANEL, vectors % FL_PANEL, acc, a, b->w, 0, k);
  }
  FL_UNROLL
  for (int v = 0; v < rows * vectors; ++v)
    vstore(b->to + (row + v / vectors) * FL_PANEL * VL + v % vectors * VL, acc[v]);
}

typedef void blocked_fn(const block *, int64_t);

#define FL_BLOCKED(rows, vectors, own, next)                                                  \
  static void FL_NAMED(blocked_##rows##_##vectors##_##own##next)(const block *b, int64_t row) \
  {                                                                                           \
    blocked_tile(rows, vectors, own, next, b, row);                                           \
  }
#define FL_BLOCKED_PLAIN(rows) FL_BLOCKED(rows, 1, 0, 0) FL_BLOCKED(rows, 2, 0, 0) FL_BLOCKED(rows, 4, 0, 0)
#define FL_BLOCKED_PREFETCHING(rows) \
  FL_BLOCKED(rows, 4, 1, 0) FL_BLOCKED(rows, 4, 0, 1) FL_BLOCKED(rows, 4, 1, 1)
FL_BLOCKED_ROWS(FL_BLOCKED_PLAIN)
FL_PREFETCHING_ROWS(FL_BLOCKED_PREFETCHING)

// Of a panel of 1, 2 or 4 vectors; whole panels with a prefetch of own weights, of the next ones, of both.
enum {
  FL_BLOCKED_1,
  FL_BLOCKED_2,
  FL_BLOCKED_4,
  FL_BLOCKED_OWN,
  FL_BLOCKED_NEXT,
  FL_BLOCKED_BOTH,
  FL_BLOCKED_KINDS
};

#define FL_BLOCKED_PLAIN_ENTRY(rows)                                                    \
  [FL_BLOCKED_1][(rows) - 1] = FL_NAMED(blocked_##rows##_1_00),                         \
                          [FL_BLOCKED_2][(rows) - 1] = FL_NAMED(blocked_##rows##_2_00), \
                          [FL_BLOCKED_4][(rows) - 1] = FL_NAMED(blocked_##rows##_4_00),
#define FL_BLOCKED_PREFETCHING_ENTRY(rows)                                                   \
  [FL_BLOCKED_OWN][(rows) - 1] = FL_NAMED(blocked_##rows##_4_10),                            \
                            [FL_BLOCKED_NEXT][(rows) - 1] = FL_NAMED(blocked_##rows##_4_01), \
                            [FL_BLOCKED_BOTH][(rows) - 1] = FL_NAMED(blocked_##rows##_4_11),
static blocked_fn *const blocked_tiles[FL_BLOCKED_KINDS][FL_TILE_ROWS] = {
    FL_BLOCKED_ROWS(FL_BLOCKED_PLAIN_ENTRY) FL_PREFETCHING_ROWS(FL_BLOCKED_PREFETCHING_ENTRY)};

// A matrix, and the rows that are multiplied by it.
typedef struct factors {
  rows_in a;
  const fl_matrix *w;
} factors;

FL_INLINE const real *panel_of(const factors *f, int64_t panel)
{
  return (const real *)f->w->data + panel * f->w->inputs * FL_PANEL * VL;
}

// to = from + the product of one panel, in blocks if the blocking says so; `next` is read after that.
static void FL_NAMED(sum_in_blocks)(const fl_layer *layer, const factors *f, int64_t panel, int64_t rows,
                                    const real *from, int64_t from_stride, real *to,
                                    const fl_blocking *blocking, const real *next)
{
  const int vectors = panel < layer->full ? FL_PANEL : layer->remainder;
  const int64_t tiles = tile_count(rows, FL_TILE_ROWS), most = tiles > 1 ? blocking->block : 0;
  const int64_t inputs = f->w->inputs, blocks = most && most < inputs ? (inputs + most - 1) / most : 1;
  const int plain = vectors == 1 ? FL_BLOCKED_1 : vectors == 2 ? FL_BLOCKED_2 : FL_BLOCKED_4;
  const int kind = vectors < FL_PANEL ? plain : FL_BLOCKED_4 + (blocking->distance != 0) + 2 * (most != 0);
  int64_t end = 0;
  for (int64_t i = 0; i < blocks; ++i) {
    block b = {.a = f->a,
               .begin = end,
               .from = from,
               .from_stride = from_stride,
               .to = to,
               .distance = blocking->distance,
               .next_bytes = vectors * VL * (int64_t)sizeof(real) / tiles};
    end = i + 1 < blocks ? inputs * (i + 1) / blocks : inputs;
    b.count = end - b.begin;
    b.w = panel_of(f, panel) + b.begin * vectors * VL;
    b.next = (const char *)(i + 1 < blocks ? b.w + b.count * vectors * VL : next);
    for (int64_t q = 0, row = 0, height; q < tiles; ++q, row += height) {
      height = (q + 1 < tiles ? rows * (q + 1) / tiles : rows) - row;
      blocked_fn *const prefetching = blocked_tiles[kind][height - 1];
      (prefetching ? prefetching : blocked_tiles[plain][height - 1])(&b, row);
      b.next += b.count * b.next_bytes;
    }
    from = to;
    from_stride = FL_PANEL * VL;
  }
}

// Input projection of many rows at once: sums = bias + W_ih x. It starts the sums that the step goes on with,
// so projecting ahead or inside the step gives the same bits.
static void FL_NAMED(project)(const fl_layer *layer, const fl_project *job)
{
  const factors x = {(rows_in)job->x, &layer->w_x};
  for (int p = job->panel_begin; p < job->panel_end; ++p) {
    const real *bias = (const real *)layer->bias + p * FL_PANEL * VL;
    real *out = (real *)job->out + p * job->panel_stride;
    const real *next = panel_of(&x, p + 1 < job->panel_end ? p + 1 : p);
    FL_NAMED(sum_in_blocks)(layer, &x, p, job->rows, bias, 0, out, &job->blocking, next);
  }
}

#endif
