// SPDX-License-Identifier: BSD-3-Clause
#include "kernels_support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_BLOCKS = 4096 };
static void *blocks[MOST_BLOCKS];
static int block_count;

void *take(int64_t count, size_t size)
{
  const size_t bytes = (size_t)(count > 0 ? count : 1) * size;
  void *block = NULL;
  if (block_count == MOST_BLOCKS || posix_memalign(&block, FASTLSTM_ALIGN, bytes) != 0) {
    printf("no memory\n");
    exit(1);
  }
  blocks[block_count++] = block;
  return memset(block, 0, bytes);
}

void release_all(void)
{
  while (block_count > 0) free(blocks[--block_count]);
}

real *take_random(uint64_t *state, int64_t count, double scale)
{
  real *block = TAKE(real, count);
  for (int64_t i = 0; i < count; ++i) block[i] = (real)(scale * random_real(state));
  return block;
}

void **take_rows(real *first, int64_t rows, int64_t stride)
{
  void **at = TAKE(void *, rows);
  for (int64_t r = 0; r < rows; ++r) at[r] = first + r * stride;
  return at;
}

real multiply_add(const fl_kernels *kernels, real a, real b, real c)
{
  if (kernels->isa == FASTLSTM_ISA_GENERIC) return (real)(a * b) + c;
#ifdef FL_DOUBLE
  return fma(a, b, c);
#else
  return fmaf(a, b, c);
#endif
}

static int64_t panel_vectors(const layer_case *c, int64_t panel)
{
  return panel < c->layer.full ? FL_PANEL : c->layer.remainder;
}

// Where a gate of a unit stands in a row of the sums of all panels.
static int64_t place_of(const layer_case *c, int64_t gate, int64_t unit)
{
  const int64_t vector = unit / c->lanes, lane = unit % c->lanes, left = c->units - vector * c->lanes;
  if (c->cell->sums == 1) return unit;
  if (c->cell->sums == 3) {
    const int64_t step = 4 * left <= c->lanes ? c->lanes / 4 : 2 * left <= c->lanes ? c->lanes / 2 : c->lanes;
    return 3 * vector * c->lanes + gate * step + lane;
  }
  const int64_t sums = c->cell->sums, vectors = panel_vectors(c, vector * sums / FL_PANEL);
  const int64_t step = vectors < FL_PANEL ? vectors * c->lanes / sums : c->lanes;
  return vector * sums * c->lanes + gate * step + lane;
}

int64_t panel_of(const layer_case *c, int64_t gate, int64_t unit)
{
  return place_of(c, gate, unit) / (FL_PANEL * c->lanes);
}

int64_t column_of(const layer_case *c, int64_t gate, int64_t unit)
{
  return place_of(c, gate, unit) % (FL_PANEL * c->lanes);
}

product_side side_of(const layer_case *c, int recurrent)
{
  return recurrent ? (product_side){1, &c->cell->of_h, c->w_h, c->layer.wt_h, c->units}
                   : (product_side){0, &c->cell->of_x, c->w_x, c->layer.wt_x, c->inputs};
}

// Which of the gates, in the order that a product takes them in, is this one.
static int64_t turn_of(const fl_gate_order *order, int64_t gate)
{
  int64_t turn = 0;
  while (order->gate[turn] != gate) ++turn;
  return turn;
}

int64_t gradient_vector(const layer_case *c, const product_side *side, int64_t gate, int64_t unit)
{
  return c->cell->grads * (unit / c->lanes) + side->order->first + turn_of(side->order, gate);
}

// The place of a transposed weight of `columns` columns: of a unit's gate, and a column.
static int64_t transposed_place(const layer_case *c, int64_t gate, int64_t unit, int64_t columns,
                                int64_t column)
{
  const int64_t vector = unit / c->lanes, left = c->units - vector * c->lanes;
  const int64_t together = left < c->lanes ? left : c->lanes;  // units of the vector
  const int64_t k = c->gates * vector * c->lanes + gate * together + unit % c->lanes;
  const int64_t panel = column / (2 * c->lanes), vectors = (columns + c->lanes - 1) / c->lanes;
  const int64_t width = 2 * panel + 2 <= vectors ? 2 * c->lanes : c->lanes;
  return panel * c->gates * c->units * 2 * c->lanes + k * width + column % (2 * c->lanes);
}

static void pack_forward(const layer_case *c, const real *w, int64_t inputs, real *out)
{
  for (int64_t gate = 0; gate < c->gates; ++gate) {
    for (int64_t unit = 0; unit < c->units; ++unit) {
      const int64_t panel = panel_of(c, gate, unit), row = panel_vectors(c, panel) * c->lanes;
      real *at = out + panel * FL_PANEL * c->lanes * inputs + column_of(c, gate, unit);
      for (int64_t k = 0; k < inputs; ++k) at[k * row] = w[(gate * c->units + unit) * inputs + k];
    }
  }
}

static const real *pack_transposed(const layer_case *c, const real *w, int64_t inputs,
                                   const fl_gate_order *order)
{
  const int64_t vectors = (inputs + c->lanes - 1) / c->lanes;
  real *out = TAKE(real, c->gates * c->units * vectors * c->lanes);
  for (int64_t gate = 0; gate < c->gates; ++gate)
    for (int64_t unit = 0; unit < c->units; ++unit)
      for (int64_t k = 0; k < inputs; ++k)
        out[transposed_place(c, turn_of(order, gate), unit, inputs, k)] =
            w[(gate * c->units + unit) * inputs + k];
  return out;
}

const fastlstm_options TESTED_OPTIONS = {.peepholes = 1,
                                         .gate_clip = 1.5,
                                         .cell_clip = 2,
                                         .gate = {.kind = FASTLSTM_SIGMOID},
                                         .candidate = {.kind = FASTLSTM_TANH},
                                         .output = {.kind = FASTLSTM_TANH}};

static const real *pack_peepholes(const layer_case *c)
{
  real *out = TAKE(real, 3 * c->unit_vectors * c->lanes);
  for (int64_t gate = 0; gate < 3; ++gate)
    for (int64_t unit = 0; unit < c->units; ++unit)
      out[(3 * (unit / c->lanes) + gate) * c->lanes + unit % c->lanes] = c->peepholes[gate * c->units + unit];
  return out;
}

static real *pack_bias(const layer_case *c, const real *bias, int64_t row)
{
  real *out = TAKE(real, row);
  for (int64_t gate = 0; gate < c->gates; ++gate)
    for (int64_t unit = 0; unit < c->units; ++unit)
      out[place_of(c, gate, unit)] = bias[gate * c->units + unit];
  return out;
}

// Vectors of a row of sums of all panels.
static int64_t sum_vectors(const layer_case *c)
{
  const int64_t whole = c->units / c->lanes, rest = c->units % c->lanes;
  if (c->cell->sums == 3)
    return 3 * whole + (rest == 0 ? 0 : 4 * rest <= c->lanes ? 1 : 2 * rest <= c->lanes ? 2 : 3);
  const int64_t panel = c->lanes * FL_PANEL / c->cell->sums, left = c->units % panel;
  return c->units / panel * FL_PANEL + (left * c->cell->sums + c->lanes - 1) / c->lanes;
}

layer_case make_layer(const fl_kernels *kernels, fastlstm_cell_kind kind, int64_t inputs, int64_t units,
                      int32_t chains, uint64_t seed)
{
  const fl_cell *cell = fl_cell_of(kind);
  layer_case c = {.kernels = kernels, .cell = cell, .lanes = kernels->lanes, .gates = cell->gates};
  c.units = units;
  c.inputs = inputs;
  const int64_t vectors = sum_vectors(&c);
  fl_layer *layer = &c.layer;
  *layer = (fl_layer){.cell = cell, .kind = kind, .inputs = inputs, .units = units, .chains = chains};
  layer->full = (int32_t)(vectors / FL_PANEL + (vectors % FL_PANEL > 2));
  layer->remainder = vectors % FL_PANEL > 2 ? 0 : (int32_t)(vectors % FL_PANEL);
  if (cell->apart) layer->last = (int32_t)(vectors - 3 * ((units - 1) / c.lanes));
  c.unit_vectors = (units + c.lanes - 1) / c.lanes;
  c.panels = layer->full + (layer->remainder > 0);
  c.columns = (c.unit_vectors + 1) / 2;
  c.w_x = take_random(&seed, c.gates * units * inputs, 0.6);
  c.w_h = take_random(&seed, c.gates * units * units, 0.4);
  c.bias = take_random(&seed, c.gates * units, 0.5);
  const int64_t row = (FL_PANEL * (int64_t)layer->full + layer->remainder) * c.lanes;
  real *w_x = TAKE(real, row * inputs), *w_h = TAKE(real, row * units);
  pack_forward(&c, c.w_x, inputs, w_x);
  pack_forward(&c, c.w_h, units, w_h);
  layer->w_x = (fl_matrix){.data = w_x, .inputs = inputs, .interleave = 1};
  layer->w_h = (fl_matrix){.data = w_h, .inputs = units, .interleave = 1};
  layer->bias = pack_bias(&c, c.bias, row);
  if (cell->apart) {
    c.bias_h = take_random(&seed, c.gates * units, 0.5);
    layer->bias_h = pack_bias(&c, c.bias_h, row);
  }
  layer->wt_x = pack_transposed(&c, c.w_x, inputs, &cell->of_x);
  layer->wt_h = pack_transposed(&c, c.w_h, units, &cell->of_h);
  if (kind != FASTLSTM_LSTM_GENERAL) return c;
  c.peepholes = take_random(&seed, 3 * units, 0.5);
  layer->peepholes = pack_peepholes(&c);
  layer->options = &TESTED_OPTIONS;
  return c;
}

int64_t next_units(int64_t lanes, int *at)
{
  enum { PARTS = 6 };
  // Nothing, a little, a quarter, a half and most of a vector more than some whole vectors.
  const int64_t parts[PARTS] = {0, 1, lanes / 4, lanes / 2, lanes / 2 + 1, lanes - 1};
  const int64_t vectors[] = {0, 1, 2, 3, 4, 5, 7, 9};
  for (; *at < PARTS * (int)(sizeof vectors / sizeof *vectors); ++*at) {
    const int part = *at % PARTS;
    const int64_t units = vectors[*at / PARTS] * lanes + parts[part];
    int seen = units == 0;
    for (int i = 0; i < part; ++i) seen |= parts[i] == parts[part];
    if (seen) continue;
    ++*at;
    return units;
  }
  return 0;
}

void for_each_cell(void (*test)(const fl_kernels *, fastlstm_cell_kind))
{
  for (int isa = 0; isa < FASTLSTM_ISA_COUNT; ++isa) {
    const fl_kernels *kernels = fl_kernels_for((fastlstm_isa)isa, DTYPE);
    for (int kind = 0; kernels && kind < FL_STAGES; ++kind)
      if (kind < FL_CELLS || kind == FL_CANDIDATE) test(kernels, (fastlstm_cell_kind)kind);
  }
}

int is_near(real got, wide want)
{
  const wide off = (wide)got - want;
  return fabsl(off) <= (wide)TOLERANCE * (1 + fabsl(want));
}
