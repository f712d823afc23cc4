// SPDX-License-Identifier: BSD-3-Clause
// One time step, forward and backward: a product leaves the sums of some rows of a panel, a cell follows.
#ifndef FL_STEP_H
#define FL_STEP_H

// ---- forward ----

// One step of at most FL_BLOCKED_STEP_ROWS rows, with its sums in blocks.
static void FL_NAMED(step_in_blocks)(const fl_layer *layer, const fl_step *job, int64_t first, int64_t rows)
{
  const cell_kernels *cell = cell_table[layer->kind];
  const real *h_rows[FL_BLOCKED_STEP_ROWS];
  for (int64_t r = 0; r < rows; ++r) h_rows[r] = (const real *)job->h_prev + (first + r) * job->h_stride;
  const factors x = {job->projected ? 0 : (rows_in)job->x + first, &layer->w_x};
  const factors h = {h_rows, &layer->w_h};
  const factors *start = job->projected ? &h : &x;
  const int count = job->panel_end - job->panel_begin;
  for (int i = 0; i < count; ++i) {
    const int p = job->descending ? job->panel_end - 1 - i : job->panel_begin + i;
    const int next = i + 1 == count ? p : job->descending ? p - 1 : p + 1;
    const real *from = (const real *)layer->bias + p * FL_PANEL * VL;
    int64_t from_stride = 0;
    if (job->projected) {
      from =
          (const real *)job->projected + p * job->projected_panel_stride + first * job->projected_row_stride;
      from_stride = job->projected_row_stride;
    } else {
      FL_NAMED(sum_in_blocks)(layer, &x, p, rows, from, 0, job->sums, &job->blocking, panel_of(&h, p));
      from = job->sums;
      from_stride = FL_PANEL * VL;
    }
    FL_NAMED(sum_in_blocks)(layer, &h, p, rows, from, from_stride, job->sums, &job->blocking,
                            panel_of(start, next));
    cell->forward(layer, job, job->sums, FL_PANEL * VL, p, first, (int)rows);
  }
}

// Sums and cells of `rows` rows for one group of panels, in one function where cell and tile are fused.
FL_INLINE void step_group(const cell_kernels *cell, const product_kernels *product, const fl_layer *layer,
                          const fl_step *job, const panel_walk *walk, int prefetching, int64_t row,
                          int64_t rows, real *z)
{
  const int prefetch = prefetching && walk->full == 1 && walk->rest == 0 && product->prefetching[rows - 1];
  fused_fn *const fused = prefetch ? cell->fused_prefetching[rows - 1]
                                   : cell->fused[layer->chains - 1][rows - 1][walk->full][walk->rest];
  if (fused) {
    fused(layer, job, walk->panel, row);
    return;
  }
  product_fn *const tile = prefetch ? product->prefetching[rows - 1]
                                    : product->tile[layer->chains - 1][rows - 1][walk->full][walk->rest];
  const int64_t z_row = (FL_PANEL * walk->full + walk->rest) * VL;
  tile(layer, job, walk->panel, row, z);
  for (int p = 0; p < walk->full + (walk->rest > 0); ++p)
    cell->forward(layer, job, z + p * FL_PANEL * VL, z_row, walk->panel + p, row, (int)rows);
}

static void FL_NAMED(step_in_rows)(const fl_layer *layer, const fl_step *job);

static void FL_NAMED(step)(const fl_layer *layer, const fl_step *job)
{
  const cell_kernels *cell = cell_table[layer->kind];
  const product_kernels *product = &products[layer->w_h.format];
  if (layer->cell->apart) {
    FL_NAMED(step_apart)(layer, job);
    return;
  }
  if (layer->cell->row_sums && !job->only_sums) {
    FL_NAMED(step_in_rows)(layer, job);
    return;
  }
  const int64_t height = FL_TILE_ROWS / layer->chains, tiles = tile_count(job->rows, height);
  if (job->blocking.block && tiles > 1 && layer->chains == 1) {
    const int64_t parts = tile_count(job->rows, FL_BLOCKED_STEP_ROWS);
    for (int64_t p = 0; p < parts; ++p) {
      const int64_t first = job->rows * p / parts;
      FL_NAMED(step_in_blocks)(layer, job, first, job->rows * (p + 1) / parts - first);
    }
    return;
  }
  const int64_t tallest = job->rows < height ? job->rows : height;
  const int prefetching = job->blocking.distance > 0 && layer->chains == 1;
  real z[FL_SUMS * VL] __attribute__((aligned(64)));
  panel_walk walk = walk_panels(layer, job->panel_begin, job->panel_end, job->descending);
  while (next_group(&walk, product, tallest, layer->chains, job->blocking.one_panel)) {
    if (tiles == 1) {  // spares one row its divisions
      step_group(cell, product, layer, job, &walk, prefetching, 0, job->rows, z);
      continue;
    }
    for (int64_t q = 0; q < tiles; ++q) {
      const int64_t row = job->rows * q / tiles, rows = job->rows * (q + 1) / tiles - row;
      step_group(cell, product, layer, job, &walk, prefetching, row, rows, z);
    }
  }
}

// A step of a cell that takes all sums of a row together: the sums of some rows, then the cell.
static void FL_NAMED(step_in_rows)(const fl_layer *layer, const fl_step *job)
{
  const int64_t parts = tile_count(job->rows, FL_BLOCKED_STEP_ROWS);
  for (int64_t p = 0; p < parts; ++p) {
    const int64_t first = job->rows * p / parts, end = job->rows * (p + 1) / parts;
    fl_step part = *job;
    part.only_sums = 1;
    part.rows = end - first;
    part.h_prev = (const real *)job->h_prev + first * job->h_stride;
    if (layer->cell->row_sums > FL_PANEL) {  // those of h alone
      part.projected = layer->bias;          // zeros
      part.projected_panel_stride = FL_PANEL * VL;
      part.projected_row_stride = 0;
    } else if (job->projected) {
      part.projected = (const real *)job->projected + first * job->projected_row_stride;
    } else {
      part.x = job->x + first;
    }
    FL_NAMED(step)(layer, &part);
    cell_table[layer->kind]->forward_rows(layer, job, first, (int)part.rows);
  }
}

// ---- backward ----

// What the tape holds of a unit vector's cells, prefetched before a product so that it is there after it: a
// tape that was written past the caches comes from memory.
FL_INLINE void prefetch_tape(const int rows, const fl_layer *layer, const fl_back_step *job, int64_t vector,
                             int64_t row)
{
  const int activations = layer->cell->activations;
  const int64_t first = vector * job->c_stride + row * VL;
  for (int r = 0; r < rows; ++r) {
    for (int g = 0; g < activations; ++g)
      __builtin_prefetch((const real *)job->activations + activations * first + (activations * r + g) * VL, 0,
                         3);
    if (job->c) __builtin_prefetch((const real *)job->c + first + r * VL, 0, 3);
    if (job->c) __builtin_prefetch((const real *)job->c_prev + first + r * VL, 0, 3);
    if (job->dy) __builtin_prefetch((const real *)job->dy[row + r] + vector * VL, 0, 3);
  }
}

// One group of column panels for the rows of one tile.
static void FL_NAMED(back_step_group)(const fl_layer *layer, const fl_back_step *job, const column_walk *walk,
                                      const back_block *block, int64_t row, int rows)
{
  const cell_kernels *cell = cell_table[layer->kind];
  const fl_layer *reader = fl_reader(layer);
  const int nv = walk->wide ? 2 * walk->wide : 1;
  const int64_t vector = 2 * walk->panel, apart = layer->cell->grads * job->stride;
  real z[FL_SUMS * VL] __attribute__((aligned(64)));
  const sums_at dh = {z, nv * VL, VL};
  if (job->next) {
    const int ends = block->end == block->all;
    // Unfinished sums stand where the first gate gradients will.
    const sums_at sums = {(real *)job->now + vector * apart + row * VL, VL, apart};
    for (int v = 0; v < nv && job->streaming && ends; ++v) prefetch_tape(rows, layer, job, vector + v, row);
    const int64_t first = reader->cell->of_h.first * job->stride + row * VL;
    const dgrad_factors f = {reader, (const real *)job->next + first, job->stride,
                             column_weights(reader, layer->wt_h, walk->panel)};
    dgrad_tiles[rows - 1][walk->wide](&f, block, block->begin ? sums : (sums_at){0}, ends ? dh : sums);
    if (!ends) return;
  } else {
    for (int v = 0; v < rows * nv; ++v) vstore(z + v * VL, vset1(0));
  }
  for (int v = 0; v < nv; ++v) cell->backward(layer, job, z + v * VL, dh.row, vector + v, row, rows);
}

static void FL_NAMED(back_step)(const fl_layer *layer, const fl_back_step *job)
{
  const int64_t tiles = tile_count(job->rows, FL_DGRAD_ROWS);
  const fl_layer *reader = fl_reader(layer);
  back_block block = {0};
  while (next_block(reader, job->rows, &block)) {
    if (!job->next) block.end = block.all;
    column_walk walk =
        walk_columns(layer->units, job->panel_begin, job->panel_end, job->rows, job->descending);
    while (next_columns(&walk)) {
      for (int64_t q = 0; q < tiles; ++q) {
        const int64_t row = job->rows * q / tiles, end = job->rows * (q + 1) / tiles;
        share_prefetch(&block, reader, layer->wt_h, &walk, job->next ? job->prefetch : 0, q, tiles);
        FL_NAMED(back_step_group)(layer, job, &walk, &block, row, (int)(end - row));
      }
    }
  }
  if (layer->cell->row_sums) cell_table[layer->kind]->backward_rows(layer, job);
}

#endif
