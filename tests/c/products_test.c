// SPDX-License-Identifier: BSD-3-Clause
// Products with transposed weights, and weight gradients, bit for bit: each sum has one order.
#include <math.h>

#include "kernels_support.h"

enum { GUARD = 3 };  // elements behind a row that nobody may write
static const real UNTOUCHED = (real)-7777;

// Gate gradients of rows that stand VL apart; lanes that no unit has are NaN, for nobody may read them.
static real *take_gradients(const layer_case *c, int64_t rows, uint64_t *state)
{
  const int64_t vectors = c->cell->grads * c->unit_vectors;
  real *grads = take_random(state, vectors * rows * c->lanes, 1);
  for (int64_t i = 0; i < vectors * rows * c->lanes; ++i) {
    const int64_t vector = i / (rows * c->lanes);
    if (vector / c->cell->grads * c->lanes + i % c->lanes >= c->units) grads[i] = NAN;
  }
  return grads;
}

static real gradient(const layer_case *c, const product_side *side, const real *grads, int64_t rows,
                     int64_t r, int64_t gate, int64_t unit)
{
  return grads[(gradient_vector(c, side, gate, unit) * rows + r) * c->lanes + unit % c->lanes];
}

// ---- dgrad ----

static real dgrad_sum(const layer_case *c, const product_side *side, const real *grads, int64_t rows,
                      int64_t r, int64_t column, real sum)
{
  for (int64_t first = 0; first < c->units; first += c->lanes)
    for (int64_t turn = 0; turn < c->gates; ++turn)
      for (int64_t unit = first; unit < first + c->lanes && unit < c->units; ++unit) {
        const int64_t gate = side->order->gate[turn];
        sum = multiply_add(c->kernels, gradient(c, side, grads, rows, r, gate, unit),
                           side->w[(gate * c->units + unit) * side->columns + column], sum);
      }
  return sum;
}

static void check_dgrad(const layer_case *c, int recurrent, int64_t rows, int prefetch, int add, int split)
{
  const product_side side = side_of(c, recurrent);
  uint64_t state = (uint64_t)(rows + 100 * side.columns);
  const int64_t row = side.columns + GUARD, columns = (side.columns + 2 * c->lanes - 1) / (2 * c->lanes);
  const real *grads = take_gradients(c, rows, &state);
  real *out = take_random(&state, rows * row, 1), *want = TAKE(real, rows * row);
  for (int64_t i = 0; i < rows * row; ++i) {
    if (i % row >= side.columns) out[i] = UNTOUCHED;
    want[i] = i % row >= side.columns ? UNTOUCHED
                                      : dgrad_sum(c, &side, grads, rows, i / row, i % row, add ? out[i] : 0);
  }
  fl_dgrad job = {.grads = grads,
                  .stride = rows * c->lanes,
                  .weights = side.transposed,
                  .recurrent = recurrent,
                  .columns = side.columns,
                  .out = take_rows(out, rows, row),
                  .add = add,
                  .rows = rows,
                  .prefetch = prefetch};
  const int32_t middle = split ? (int32_t)columns / 2 : 0;
  for (int part = middle > 0 ? 0 : 1; part < 2; ++part) {
    job.panel_begin = part ? middle : 0;
    job.panel_end = part ? (int32_t)columns : middle;
    c->kernels->dgrad(&c->layer, &job);
  }
  int right = 1;
  for (int64_t i = 0; i < rows * row; ++i) right &= same(out[i], want[i]);
  CHECK(right, "dgrad: %s %s, %d units, %d columns, %d rows, prefetch %d, add %d",
        fastlstm_isa_name(c->kernels->isa), c->cell->name, (int)c->units, (int)side.columns, (int)rows,
        prefetch, add);
}

void test_dgrad(const fl_kernels *kernels, fastlstm_cell_kind kind)
{
  const int64_t lanes = kernels->lanes, tallest = 2 * kernels->tile_rows;
  const int64_t columns[] = {1,         lanes,     lanes + 1, 2 * lanes, 5 * lanes - 1, 6 * lanes + 1,
                             8 * lanes, 11 * lanes};
  for (size_t i = 0; i < sizeof columns / sizeof *columns; ++i) {
    for (int64_t rows = 1; rows <= 2 * tallest + 1; ++rows) {
      const int64_t units = 1 + (3 * rows + columns[i]) % (2 * lanes);
      const layer_case c = make_layer(kernels, kind, columns[i], units, 1, (uint64_t)rows);
      check_dgrad(&c, 0, rows, FL_DGRAD_NO_PREFETCH, 0, 0);
      check_dgrad(&c, 0, rows, (int)(rows % 2) + 1, 1, rows % 3 == 0);
      check_dgrad(&c, 1, rows, FL_DGRAD_NO_PREFETCH, rows % 2, 0);
      release_all();
    }
  }
  // So many rows and units that the sum is taken in blocks, and rows in groups.
  const layer_case c = make_layer(kernels, kind, lanes + 1, fl_cell_of(kind)->gates > 1 ? 200 : 500, 1, 3);
  check_dgrad(&c, 0, 8 * tallest + 3, FL_DGRAD_PREFETCH_NEXT_PANEL, 1, 0);
  check_dgrad(&c, 0, 8 * tallest, FL_DGRAD_NO_PREFETCH, 0, 0);
  release_all();
}

// ---- wgrad ----

static void check_wgrad(const layer_case *c, int recurrent, int64_t rows, int add, int32_t begin, int32_t end)
{
  const product_side side = side_of(c, recurrent);
  uint64_t state = (uint64_t)(rows + 100 * c->inputs);
  const real *grads = take_gradients(c, rows, &state);
  real *in = take_random(&state, rows * (c->inputs + GUARD), 1);
  real *dw = take_random(&state, c->gates * c->units * c->inputs, 1);
  real *want = TAKE(real, c->gates * c->units * c->inputs);
  for (int64_t i = 0; i < rows; ++i)  // what stands behind a row is not part of it
    for (int64_t k = 0; k < GUARD; ++k) in[i * (c->inputs + GUARD) + c->inputs + k] = NAN;
  for (int64_t gate = 0; gate < c->gates; ++gate) {
    for (int64_t unit = 0; unit < c->units; ++unit) {
      const int64_t kept = gradient_vector(c, &side, gate, unit);
      const int64_t vector = kept - unit / c->lanes * (c->cell->grads - c->gates) - side.order->first;
      for (int64_t k = 0; k < c->inputs; ++k) {
        const int64_t at = (gate * c->units + unit) * c->inputs + k;
        real sum = 0;
        for (int64_t r = 0; r < rows; ++r)
          sum = multiply_add(c->kernels, gradient(c, &side, grads, rows, r, gate, unit),
                             in[r * (c->inputs + GUARD) + k], sum);
        want[at] = vector < begin || vector >= end ? dw[at] : add ? dw[at] + sum : sum;
      }
    }
  }
  const fl_wgrad job = {.grads = grads,
                        .stride = rows * c->lanes,
                        .rows = rows,
                        .in = (const void *const *)take_rows(in, rows, c->inputs + GUARD),
                        .columns = c->inputs,
                        .dw = dw,
                        .add = add,
                        .begin = begin,
                        .end = end,
                        .recurrent = recurrent,
                        .scratch = TAKE(real, rows * FL_WGRAD_SCRATCH * c->lanes)};
  c->kernels->wgrad(&c->layer, &job);
  int right = 1;
  for (int64_t i = 0; i < c->gates * c->units * c->inputs; ++i) right &= same(dw[i], want[i]);
  CHECK(right, "wgrad: %s %s, %d units, %d columns, %d rows, add %d", fastlstm_isa_name(c->kernels->isa),
        c->cell->name, (int)c->units, (int)c->inputs, (int)rows, add);
}

void test_wgrad(const fl_kernels *kernels, fastlstm_cell_kind kind)
{
  const int64_t lanes = kernels->lanes;
  int at = 0;
  for (int64_t units; (units = next_units(lanes, &at)) > 0 && units <= 3 * lanes;) {
    const int64_t columns[] = {1, lanes + 1, 3 * lanes, 4 * lanes - 1, (FL_WGRAD_SCRATCH + 1) * lanes + 1};
    for (size_t i = 0; i < sizeof columns / sizeof *columns; ++i) {
      const layer_case c = make_layer(kernels, kind, columns[i], units, 1, (uint64_t)units);
      const int32_t vectors = (int32_t)(c.gates * c.unit_vectors);
      check_wgrad(&c, 0, 1 + units % 4, 0, 0, vectors);
      check_wgrad(&c, 1, 33, 1, 0, vectors);
      check_wgrad(&c, 0, 5, 0, vectors / 2, vectors);
      release_all();
    }
  }
}
