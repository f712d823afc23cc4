// SPDX-License-Identifier: BSD-3-Clause
// One time step forward of a cell that takes the sums of x and of h apart: for some rows and a bundle of
// panels, the product with x (unless it was projected ahead), the product with h, and the cell.
//
// Each sum starts from its own bias and runs over k in one order, in one chain, whatever the tile.
#ifndef FL_APART_H
#define FL_APART_H

// ---- one row: all panels of a bundle at a time ----
//
// One panel has four sums, too few to hide the latency of their multiply-adds.

typedef struct bundle_product {
  const real *from;  // sums so far, panels `from_panel` apart
  int64_t from_panel;
  const real *a;  // the row
  const real *w;  // of the bundle's first panel
  int64_t inputs;
  real *to;  // and with the product, panels 4 VL apart
} bundle_product;

// Of `full` whole panels and a remainder panel of `rest` vectors.
FL_INLINE void bundle_tile(const int full, const int rest, const bundle_product *g)
{
  const int nv = FL_PANEL * full + rest;
  vreal acc[FL_TILE_VECTORS];
  FL_UNROLL
  for (int v = 0; v < nv; ++v) acc[v] = vload(g->from + v / FL_PANEL * g->from_panel + v % FL_PANEL * VL);
  multiply(1, full, rest, 1, 0, 0, acc, &g->a, g->w, g->inputs);
  FL_UNROLL
  for (int v = 0; v < nv; ++v) vstore(g->to + v * VL, acc[v]);
}

typedef void bundle_fn(const bundle_product *);

// Whatever a bundle of three panels or its remainder may be.
#define FL_BUNDLES(T) T(0, 1) T(0, 2) T(1, 0) T(1, 1) T(1, 2) T(2, 0) T(2, 1) T(2, 2) T(3, 0)
#define FL_BUNDLE(full, rest)                                                                             \
  _Static_assert(FL_PANEL * (full) + (rest) <= FL_SUMS && (full) <= FL_TILE_PANELS, "bundle of one row"); \
  static void FL_NAMED(bundle_##full##_##rest)(const bundle_product *g) { bundle_tile(full, rest, g); }
#define FL_BUNDLE_ENTRY(full, rest) [full][rest] = FL_NAMED(bundle_##full##_##rest),
FL_BUNDLES(FL_BUNDLE)
static bundle_fn *const bundle_tiles[FL_TILE_PANELS + 1][3] = {FL_BUNDLES(FL_BUNDLE_ENTRY)};

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
  if (rows == 1 && !job->blocking.one_panel) {
    const int rest = panel + count > layer->full ? layer->remainder : 0;
    bundle_fn *const tile = bundle_tiles[count - (rest > 0)][rest];
    const bundle_product of_x = {bias_x,        width, job->projected ? 0 : x.a[0], panel_of(&x, panel),
                                 layer->inputs, to_x};
    const bundle_product of_h = {bias_h, width, h_rows[0], panel_of(&h, panel), layer->units, to_h};
    if (!job->projected) tile(&of_x);
    tile(&of_h);
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
    const int64_t tall = FL_APART_TILES * FL_TILE_ROWS * (count == bundle ? 1 : bundle / count);
    const int64_t most = job->blocking.block ? FL_BLOCKED_STEP_ROWS : tall;
    const int64_t parts =
        job->rows <= most ? 1 : tile_count(job->rows, most);  // spares one row its divisions
    for (int64_t part = 0, first = 0, end; part < parts; ++part, first = end) {
      end = part + 1 < parts ? job->rows * (part + 1) / parts : job->rows;
      const int next = part + 1 < parts || i + 1 == bundles ? panel : job->panel_begin + after * bundle;
      FL_NAMED(step_bundle_apart)(layer, job, panel, count, first, end - first, next);
    }
  }
}

#endif
