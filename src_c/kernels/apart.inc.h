// SPDX-License-Identifier: BSD-3-Clause
// One time step forward of a cell that takes the sums of x and of h apart: for some rows and a bundle of
// panels, the product with x (unless it was projected ahead), the product with h, and the cell.
//
// Each sum starts from its own bias and runs over k in one order, in one chain, whatever the tile.
#ifndef FL_APART_H
#define FL_APART_H

// ---- tiles: both products of some rows and panels, with their sums in registers ----

typedef struct apart_product {
  const fl_layer *layer;
  rows_in x, h;       // x: NULL if it was projected ahead
  real *to_x, *to_h;  // rows 4 VL apart, panels `to_panel`
  int64_t to_panel;
} apart_product;

FL_INLINE void apart_sums(const int rows, const int full, const int rest, const real *bias, rows_in a,
                          const real *w, int64_t inputs, real *to, int64_t to_panel)
{
  const int nv = FL_PANEL * full + rest;
  vreal acc[FL_SUMS];
  FL_UNROLL
  for (int v = 0; v < rows * nv; ++v) acc[v] = vload(bias + v % nv * VL);
  multiply(rows, full, rest, 1, 0, 0, acc, a, w, inputs);
  FL_UNROLL
  for (int v = 0; v < rows * nv; ++v)
    vstore(to + v % nv / FL_PANEL * to_panel + v / nv * FL_PANEL * VL + v % nv % FL_PANEL * VL, acc[v]);
}

// Panels from `panel` on, which are those from `at` on of the bundle.
FL_INLINE void apart_tile(const int rows, const int full, const int rest, const apart_product *p,
                          int64_t panel, int64_t at, int64_t row)
{
  const fl_layer *layer = p->layer;
  const int64_t width = FL_PANEL * VL, to = at * p->to_panel + row * width;
  if (p->x)
    apart_sums(rows, full, rest, (const real *)layer->bias + panel * width, p->x + row,
               (const real *)layer->w_x.data + panel * layer->inputs * width, layer->inputs, p->to_x + to,
               p->to_panel);
  apart_sums(rows, full, rest, (const real *)layer->bias_h + panel * width, p->h + row,
             (const real *)layer->w_h.data + panel * layer->units * width, layer->units, p->to_h + to,
             p->to_panel);
}

typedef void apart_fn(const apart_product *, int64_t panel, int64_t at, int64_t row);

// One panel has four sums a row, so few that one row takes all panels of a bundle at a time, whatever they
// are: else it could not hide the latency of its multiply-adds.
#define FL_APART_BUNDLES(T) T(1, 1, 1) T(1, 1, 2) T(1, 2, 0) T(1, 2, 1) T(1, 2, 2) T(1, 3, 0)
#define FL_APART(rows, full, rest)                                                                        \
  _Static_assert((rows) * (FL_PANEL * (full) + (rest)) <= FL_SUMS && (full) <= FL_TILE_PANELS, "a tile"); \
  static void FL_NAMED(apart_##rows##_##full##_##rest)(const apart_product *p, int64_t panel, int64_t at, \
                                                       int64_t row)                                       \
  {                                                                                                       \
    apart_tile(rows, full, rest, p, panel, at, row);                                                      \
  }
#define FL_APART_ROWS(rows)              FL_APART(rows, 0, 1) FL_APART(rows, 0, 2) FL_APART(rows, 1, 0)
#define FL_APART_ENTRY(rows, full, rest) [(rows) - 1][full][rest] = FL_NAMED(apart_##rows##_##full##_##rest),
#define FL_APART_ROWS_ENTRY(rows) \
  FL_APART_ENTRY(rows, 0, 1) FL_APART_ENTRY(rows, 0, 2) FL_APART_ENTRY(rows, 1, 0)
FL_BLOCKED_ROWS(FL_APART_ROWS)
FL_APART_BUNDLES(FL_APART)
static apart_fn *const apart_tiles[FL_TILE_ROWS][FL_TILE_PANELS + 1][3] = {
    FL_BLOCKED_ROWS(FL_APART_ROWS_ENTRY) FL_APART_BUNDLES(FL_APART_ENTRY)};

static void FL_NAMED(apart_in_tiles)(const apart_product *p, int panel, int count, int64_t rows,
                                     int one_panel)
{
  const int rest = panel + count > p->layer->full ? p->layer->remainder : 0;
  if (rows == 1 && !one_panel) {
    apart_tiles[0][count - (rest > 0)][rest](p, panel, 0, 0);
    return;
  }
  const int64_t tiles = tile_count(rows, FL_TILE_ROWS);
  for (int at = 0; at < count; ++at) {
    const int last = at + 1 == count ? rest : 0;
    for (int64_t q = 0, row = 0, end; q < tiles; ++q, row = end) {
      end = q + 1 < tiles ? rows * (q + 1) / tiles : rows;
      apart_tiles[end - row - 1][last == 0][last](p, panel + at, at, row);
    }
  }
}

// ---- any rows ----

// Some rows, at most FL_BLOCKED_STEP_ROWS, and one bundle: panels [panel, panel + count). The panel `next` is
// read after them.
static void FL_NAMED(step_bundle_apart)(const fl_layer *layer, const fl_step *job, int panel, int count,
                                        int64_t first, int64_t rows, int next)
{
  const real *h_rows[FL_BLOCKED_STEP_ROWS];
  for (int64_t r = 0; r < rows; ++r) h_rows[r] = (const real *)job->h_prev + (first + r) * job->h_stride;
  const factors h = {h_rows, &layer->w_h};
  const factors x = {job->projected ? 0 : (rows_in)job->x + first, &layer->w_x};
  const int64_t width = FL_PANEL * VL, panel_sums = rows * width;
  const real *bias_x = (const real *)layer->bias + panel * width;
  const real *bias_h = (const real *)layer->bias_h + panel * width;
  real *to_h = job->sums, *to_x = to_h + count * panel_sums;
  bundle_sums sums_x = {to_x, panel_sums, width};
  const bundle_sums sums_h = {to_h, panel_sums, width};
  if (job->projected)
    sums_x = (bundle_sums){(const real *)job->projected + panel * job->projected_panel_stride +
                               first * job->projected_row_stride,
                           job->projected_panel_stride, job->projected_row_stride};
  if (rows == 1 || (!job->blocking.block && !job->blocking.distance)) {
    const apart_product product = {layer, job->projected ? 0 : x.a, h.a, to_x, to_h, panel_sums};
    FL_NAMED(apart_in_tiles)(&product, panel, count, rows, job->blocking.one_panel);
  } else {
    for (int p = 0; p < count;
         ++p, bias_x += width, bias_h += width, to_x += panel_sums, to_h += panel_sums) {
      const int later = p + 1 < count ? panel + p + 1 : next;
      if (!job->projected)
        FL_NAMED(sum_in_blocks)(layer, &x, panel + p, rows, bias_x, 0, to_x, &job->blocking,
                                panel_of(&h, panel + p));
      FL_NAMED(sum_in_blocks)(layer, &h, panel + p, rows, bias_h, 0, to_h, &job->blocking,
                              panel_of(job->projected ? &h : &x, later));
    }
  }
  const int64_t vector = panel * FL_PANEL / layer->cell->sums, left = fl_unit_vectors(layer, VL) - vector;
  const int vectors = fl_bundle_vectors(layer->cell);
  cell_table[layer->kind]->forward_apart(layer, job, &sums_x, &sums_h, vector,
                                         left < vectors ? (int)left : vectors, first, (int)rows);
}

static void FL_NAMED(step_apart)(const fl_layer *layer, const fl_step *job)
{
  const int bundle = fl_bundle_panels(layer->cell), panels = job->panel_end - job->panel_begin;
  const int bundles = (panels + bundle - 1) / bundle;
  for (int i = 0; i < bundles; ++i) {
    const int at = job->descending ? bundles - 1 - i : i, after = job->descending ? at - 1 : at + 1;
    const int panel = job->panel_begin + at * bundle, left = job->panel_end - panel;
    const int count = left < bundle ? left : bundle;
    // The fewer panels there are, the more rows have sums that stay in a first-level cache.
    const int tiles = count == bundle ? FL_APART_TILES : FL_APART_TILES * bundle / count;
    const int64_t most = job->blocking.block ? FL_BLOCKED_STEP_ROWS : tiles * FL_TILE_ROWS;
    const int64_t parts = job->rows <= most ? 1 : tile_count(job->rows, most);  // few rows: no division
    for (int64_t part = 0, first = 0, end; part < parts; ++part, first = end) {
      end = part + 1 < parts ? job->rows * (part + 1) / parts : job->rows;
      const int next = part + 1 < parts || i + 1 == bundles ? panel : job->panel_begin + after * bundle;
      FL_NAMED(step_bundle_apart)(layer, job, panel, count, first, end - first, next);
    }
  }
}

#endif
