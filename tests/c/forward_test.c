// SPDX-License-Identifier: BSD-3-Clause
// Forward kernels: project, step, persistent.
#include <math.h>
#include <string.h>

#include "kernels_support.h"

enum { GUARD = 3 };  // elements behind a row that nobody may write
static const real UNTOUCHED = (real)-7777;

// The library gives two chains to layers of 24 units at most; kernels have them for more.
static int32_t most_chains(const fl_kernels *kernels, int64_t units)
{
  return units <= 24 || units <= 3 * kernels->lanes + kernels->lanes / 2 ? FL_CHAINS : 1;
}

// ---- project ----

// The projection of one row, in the kernels' order.
static real projected_sum(const layer_case *c, const real *x, int64_t gate, int64_t unit)
{
  const real *w = c->w_x + (gate * c->units + unit) * c->inputs;
  real sum = c->bias[gate * c->units + unit];
  for (int64_t k = 0; k < c->inputs; ++k) sum = multiply_add(c->kernels, x[k], w[k], sum);
  return sum;
}

static real *project(const layer_case *c, real *x, int64_t rows, fl_blocking blocking)
{
  const int64_t width = FL_PANEL * c->lanes;
  real *out = TAKE(real, c->panels * rows * width);
  const fl_project job = {.x = (const void *const *)take_rows(x, rows, c->inputs),
                          .out = out,
                          .panel_stride = rows * width,
                          .rows = rows,
                          .panel_end = (int32_t)c->panels,
                          .blocking = blocking};
  c->kernels->project(&c->layer, &job);
  return out;
}

static void check_projection(const layer_case *c, int64_t rows, fl_blocking blocking)
{
  uint64_t state = 3;
  real *x = take_random(&state, rows * c->inputs, 1);
  const real *out = project(c, x, rows, blocking);
  int right = 1;
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t gate = 0; gate < c->gates; ++gate)
      for (int64_t unit = 0; unit < c->units; ++unit)
        right &=
            same(out[(panel_of(c, gate, unit) * rows + r) * FL_PANEL * c->lanes + column_of(c, gate, unit)],
                 projected_sum(c, x + r * c->inputs, gate, unit));
  CHECK(right, "project: %s %s, %d inputs, %d units, %d rows, block %d, distance %d",
        fastlstm_isa_name(c->kernels->isa), c->cell->name, (int)c->inputs, (int)c->units, (int)rows,
        (int)blocking.block, (int)blocking.distance);
}

void test_project(const fl_kernels *kernels, fastlstm_cell_kind kind)
{
  int at = 0;
  for (int64_t units; (units = next_units(kernels->lanes, &at)) > 0;) {
    for (int64_t rows = 1; rows <= 2 * kernels->tile_rows + 1; ++rows) {
      const layer_case c = make_layer(kernels, kind, 1 + (units + rows) % 11, units, 1, (uint64_t)units);
      check_projection(&c, rows, (fl_blocking){0});
      check_projection(&c, rows, (fl_blocking){.distance = FL_PREFETCH_NEAR});
      check_projection(&c, rows, (fl_blocking){.block = 3});
      check_projection(&c, rows, (fl_blocking){.block = 4, .distance = FL_PREFETCH_NEAR});
      release_all();
    }
  }
}

// ---- step ----

typedef struct forward_data {
  int64_t rows, h_stride, c_stride;
  real *x, *h_prev, *c_prev;
  real *h_old, *kept;  // of a second stage: h, and the activations that the first one has left
  const real *projected;
} forward_data;

// Whether it is one of the stages of a GRU that resets before the product: their activations are no option.
static int has_stages(const layer_case *c)
{
  return c->layer.kind == FASTLSTM_GRU_RESET_BEFORE || c->layer.kind == FL_CANDIDATE;
}

typedef struct forward_out {
  real *h, *c, *activations, *y, *cells;
} forward_out;

typedef struct forward_mode {
  int projected, distance, one_panel, descending, split, streaming, bare, in_place;
  int64_t block;
} forward_mode;

static forward_data make_data(const layer_case *c, int64_t rows, uint64_t seed)
{
  const int64_t h_stride = c->unit_vectors * c->lanes, c_stride = rows * c->lanes;
  return (forward_data){.rows = rows,
                        .h_stride = h_stride,
                        .c_stride = c_stride,
                        .x = take_random(&seed, rows * c->inputs, 1),
                        .h_prev = take_random(&seed, rows * h_stride, 1),
                        .c_prev = take_random(&seed, c->unit_vectors * c_stride, 2),
                        .h_old = take_random(&seed, rows * h_stride, 1),
                        .kept = take_random(&seed, c->cell->activations * c->unit_vectors * c_stride, 1)};
}

static real *take_untouched(int64_t count)
{
  real *block = TAKE(real, count);
  for (int64_t i = 0; i < count; ++i) block[i] = UNTOUCHED;
  return block;
}

static forward_out make_out(const layer_case *c, const forward_data *d)
{
  const int64_t activations = c->cell->activations * c->unit_vectors * d->c_stride;
  real *kept = take_untouched(activations);
  if (c->layer.kind == FL_CANDIDATE) memcpy(kept, d->kept, (size_t)activations * sizeof(real));
  return (forward_out){.h = take_untouched(d->rows * d->h_stride),
                       .c = take_untouched(c->unit_vectors * d->c_stride),
                       .activations = kept,
                       .y = take_untouched(d->rows * (c->units + GUARD)),
                       .cells = take_untouched(d->rows * (c->units + GUARD))};
}

// Steps rows [first, first + rows).
static void run_step(const layer_case *c, const forward_data *d, int64_t first, int64_t rows,
                     forward_mode mode, const forward_out *out)
{
  const int64_t lanes = c->lanes, width = FL_PANEL * lanes, has_c = c->cell->has_c;
  const int64_t c_at = first * lanes;
  if (mode.in_place) memcpy(out->c, d->c_prev, (size_t)(c->unit_vectors * d->c_stride) * sizeof(real));
  fl_step job = {
      .x = mode.projected ? NULL : (const void *const *)take_rows(d->x, d->rows, c->inputs) + first,
      .projected = mode.projected ? d->projected + first * width : NULL,
      .projected_panel_stride = d->rows * width,
      .projected_row_stride = width,
      .h_prev = d->h_prev + first * d->h_stride,
      .h_old = d->h_old + first * d->h_stride,
      .h_next = out->h + first * d->h_stride,
      .h_stride = d->h_stride,
      .c_prev = !has_c          ? NULL
                : mode.in_place ? out->c + c_at
                                : d->c_prev + c_at,
      .c = has_c ? out->c + c_at : NULL,
      .c_stride = d->c_stride,
      .activations = (mode.bare && !has_stages(c)) || !c->cell->activations
                         ? NULL
                         : out->activations + c->cell->activations * c_at,
      .streaming = mode.streaming,
      .y = take_rows(out->y, d->rows, c->units + GUARD) + first,
      .cells = mode.bare || !has_c ? NULL : take_rows(out->cells, d->rows, c->units + GUARD) + first,
      .rows = rows,
      .descending = mode.descending,
      .blocking = {.block = mode.block, .distance = mode.distance, .one_panel = mode.one_panel},
      .sums = TAKE(real, fl_sums_rows(c->kernels, c->cell, mode.block > 0) * width)};
  const int32_t bundle = fl_bundle_panels(c->cell);
  const int32_t middle = mode.split ? (int32_t)c->panels / 2 / bundle * bundle : 0;
  for (int part = middle > 0 ? 0 : 1; part < 2; ++part) {
    job.panel_begin = part ? middle : 0;
    job.panel_end = part ? (int32_t)c->panels : middle;
    c->kernels->step(&c->layer, &job);
  }
}

static wide sigmoid(wide t) { return 1 / (1 + exp2l(t)); }
static wide tanh_of(wide t) { return (1 - exp2l(t)) / (1 + exp2l(t)); }

static wide clip(wide v, wide limit) { return v > limit ? limit : v < -limit ? -limit : v; }

// The general LSTM's cell in exact arithmetic, from its sums, which become what it keeps; c, and h.
static wide general_cell(const layer_case *c, int64_t unit, wide t[FL_PANEL], wide c_prev, wide *state)
{
  const real *peepholes = c->peepholes + unit;
  t[0] = clip(t[0] + peepholes[0] * c_prev, TESTED_OPTIONS.gate_clip);
  t[1] = clip(t[1] + peepholes[c->units] * c_prev, TESTED_OPTIONS.gate_clip);
  t[2] = clip(t[2], TESTED_OPTIONS.gate_clip);
  const wide added = tanhl(t[2]) / (1 + expl(-t[0]));
  *state = clip(c_prev / (1 + expl(-t[1])) + added, TESTED_OPTIONS.cell_clip);
  t[3] = clip(t[3] + peepholes[2 * c->units] * *state, TESTED_OPTIONS.gate_clip);
  return tanhl(*state) / (1 + expl(-t[3]));
}

// Of a stage of a GRU that resets before the product, likewise, from its sums: what its output is, m or h.
static wide stage_output(const layer_case *c, wide h_prev, wide h_old, const wide t[FL_PANEL],
                         const real *kept, int *right)
{
  if (c->layer.kind == FASTLSTM_GRU_RESET_BEFORE) {
    *right &= is_near(kept[0], sigmoid(t[0])) && is_near(kept[c->lanes], sigmoid(t[1]));
    return sigmoid(t[0]) * h_prev;
  }
  const wide n = tanh_of(t[0]);
  *right &= is_near(kept[2 * c->lanes], n);
  return n + kept[c->lanes] * (h_old - n);
}

// One row's step in exact arithmetic: pre-activations as the packed weights give them, then the cell.
static int is_exact(const layer_case *c, const forward_data *d, const forward_out *out, int64_t r)
{
  int right = 1;
  for (int64_t unit = 0; unit < c->units; ++unit) {
    wide t[FL_PANEL], of_h[FL_PANEL];
    for (int64_t gate = 0; gate < c->gates; ++gate) {
      const int64_t row = gate * c->units + unit;
      t[gate] = c->bias[row];
      of_h[gate] = c->bias_h ? c->bias_h[row] : 0;
      for (int64_t k = 0; k < c->inputs; ++k)
        t[gate] += (wide)d->x[r * c->inputs + k] * c->w_x[row * c->inputs + k];
      for (int64_t k = 0; k < c->units; ++k)
        of_h[gate] += (wide)d->h_prev[r * d->h_stride + k] * c->w_h[row * c->units + k];
      if (c->layer.kind != FASTLSTM_GRU || gate < 2) t[gate] += of_h[gate];
    }
    const int64_t at = unit / c->lanes * d->c_stride + r * c->lanes + unit % c->lanes;
    const int64_t activations = (at - unit % c->lanes) * c->cell->activations + unit % c->lanes;
    wide h;
    if (c->cell->has_c) {
      wide kept[4] = {sigmoid(t[0]), sigmoid(t[1]), tanh_of(t[2]), sigmoid(t[3])};
      wide state = kept[1] * d->c_prev[at] + kept[0] * kept[2];
      h = kept[3] * tanhl(state);
      if (c->layer.kind == FASTLSTM_LSTM_GENERAL) {
        memcpy(kept, t, sizeof kept);
        h = general_cell(c, unit, kept, d->c_prev[at], &state);
      }
      right &= is_near(out->c[at], state) && is_near(out->cells[r * (c->units + GUARD) + unit], state);
      for (int gate = 0; gate < 4; ++gate)
        right &= is_near(out->activations[activations + gate * c->lanes], kept[gate]);
    } else if (c->layer.kind == FASTLSTM_GRU) {
      const wide reset = sigmoid(t[0]), z = sigmoid(t[1]), n = tanh_of(t[2] + reset * of_h[2]);
      const wide kept[4] = {reset, z, n, of_h[2]};
      h = (1 - z) * n + z * d->h_prev[r * d->h_stride + unit];
      for (int gate = 0; gate < 4; ++gate)
        right &= is_near(out->activations[activations + gate * c->lanes], kept[gate]);
    } else if (has_stages(c)) {
      const int64_t place = r * d->h_stride + unit;
      h = stage_output(c, d->h_prev[place], d->h_old[place], t, out->activations + activations, &right);
    } else {
      h = c->layer.kind == FASTLSTM_RNN_TANH ? tanh_of(t[0]) : t[0] > 0 ? t[0] : 0;
    }
    right &= is_near(out->h[r * d->h_stride + unit], h);
    if (c->layer.kind != FASTLSTM_GRU_RESET_BEFORE)  // which has no output yet
      right &= is_near(out->y[r * (c->units + GUARD) + unit], h);
  }
  for (int i = 0; i < GUARD; ++i) right &= out->y[r * (c->units + GUARD) + c->units + i] == UNTOUCHED;
  return right;
}

static int have_same_bits(const layer_case *c, const forward_data *d, const forward_out *a,
                          const forward_out *b, int64_t rows, int bare)
{
  const int64_t row = c->units + GUARD, has_c = c->cell->has_c;
  int right = 1;
  for (int64_t i = 0; i < rows * row; ++i) right &= same(a->y[i], b->y[i]);
  for (int64_t i = 0; i < rows * row && has_c && !bare; ++i) right &= same(a->cells[i], b->cells[i]);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t unit = 0; unit < c->units; ++unit) {
      const int64_t lane = unit % c->lanes, at = unit / c->lanes * d->c_stride + r * c->lanes;
      right &= same(a->h[r * d->h_stride + unit], b->h[r * d->h_stride + unit]);
      if (has_c) right &= same(a->c[at + lane], b->c[at + lane]);
      for (int64_t s = 0; s < c->cell->activations && !bare; ++s) {
        const int64_t activations = at * c->cell->activations + s * c->lanes + lane;
        right &= same(a->activations[activations], b->activations[activations]);
      }
    }
  }
  return right;
}

static const forward_mode MODES[] = {{0},
                                     {.projected = 1},
                                     {.distance = FL_PREFETCH_NEAR},
                                     {.one_panel = 1},
                                     {.descending = 1},
                                     {.descending = 1, .projected = 1, .one_panel = 1, .distance = 2},
                                     {.split = 1, .streaming = 1},
                                     {.bare = 1, .in_place = 1},
                                     {.block = 3},
                                     {.block = 7, .distance = FL_PREFETCH_NEAR, .descending = 1},
                                     {.block = 5, .projected = 1, .split = 1}};

static void check_modes(const layer_case *c, const forward_data *d, const forward_out *alone, int64_t rows)
{
  for (size_t i = 0; i < sizeof MODES / sizeof *MODES; ++i) {
    const forward_out out = make_out(c, d);
    run_step(c, d, 0, rows, MODES[i], &out);
    CHECK(have_same_bits(c, d, alone, &out, rows, MODES[i].bare),
          "step: %s %s, %d units, %d chains, %d rows: mode %d differs from one row at a time",
          fastlstm_isa_name(c->kernels->isa), c->cell->name, (int)c->units, (int)c->layer.chains, (int)rows,
          (int)i);
  }
}

static void check_step(const layer_case *c, int64_t rows, int64_t least)
{
  forward_data d = make_data(c, rows, (uint64_t)(c->units * 31 + rows));
  d.projected = project(c, d.x, rows, (fl_blocking){0});
  const forward_out alone = make_out(c, &d);
  int exact = 1;
  for (int64_t r = 0; r < rows; ++r) {
    run_step(c, &d, r, 1, (forward_mode){0}, &alone);
    exact &= is_exact(c, &d, &alone, r);
  }
  CHECK(exact, "step: %s %s, %d inputs, %d units, %d chains: wrong", fastlstm_isa_name(c->kernels->isa),
        c->cell->name, (int)c->inputs, (int)c->units, (int)c->layer.chains);
  for (int64_t n = least; n <= rows; ++n) check_modes(c, &d, &alone, n);
}

void test_forward(const fl_kernels *kernels, fastlstm_cell_kind kind)
{
  int at = 0;
  for (int64_t units; (units = next_units(kernels->lanes, &at)) > 0;) {
    const int32_t most = fl_cell_of(kind)->apart ? 1 : most_chains(kernels, units);
    for (int32_t chains = 1; chains <= most; ++chains) {
      const layer_case c = make_layer(kernels, kind, 1 + units % 13, units, chains, (uint64_t)units);
      check_step(&c, 2 * kernels->tile_rows + 1, 1);
      release_all();
    }
  }
  // More rows than a step takes in blocks at a time.
  const layer_case c = make_layer(kernels, kind, 9, 26, 1, 5);
  check_step(&c, kernels->blocked_rows + 5, kernels->blocked_rows + 5);
  release_all();
}

// ---- persistent ----

static void check_persistent(const layer_case *c, int projected)
{
  enum { STEPS = 4 };
  uint64_t state = 11;
  const int64_t width = FL_PANEL * c->lanes, row = c->units + GUARD;
  forward_data d = make_data(c, 1, 17);
  real *x = take_random(&state, STEPS * c->inputs, 1);
  const real *sums = project(c, x, STEPS, (fl_blocking){0});
  real *h = TAKE(real, d.h_stride), *state_c = TAKE(real, c->unit_vectors * c->lanes);
  memcpy(h, d.h_prev, (size_t)d.h_stride * sizeof(real));
  memcpy(state_c, d.c_prev, (size_t)(c->unit_vectors * c->lanes) * sizeof(real));
  real *y = take_untouched(STEPS * row), *cells = take_untouched(STEPS * row);
  const fl_persistent job = {.steps = STEPS,
                             .x = projected ? NULL : x,
                             .x_stride = c->inputs,
                             .projected = sums,
                             .projected_panel_stride = STEPS * width,
                             .projected_row_stride = width,
                             .h = h,
                             .c = state_c,
                             .c_stride = d.c_stride,
                             .y = y,
                             .y_stride = row,
                             .cells = cells,
                             .cells_stride = row};
  c->kernels->persistent[c->layer.kind](&c->layer, &job);
  int right = 1;
  for (int64_t t = 0; t < STEPS; ++t) {
    const forward_out out = make_out(c, &d);
    d.x = x + t * c->inputs;
    run_step(c, &d, 0, 1, (forward_mode){0}, &out);
    for (int64_t i = 0; i < row; ++i)
      right &= same(out.y[i], y[t * row + i]) && same(out.cells[i], cells[t * row + i]);
    d.h_prev = out.h;
    d.c_prev = out.c;
  }
  for (int64_t unit = 0; unit < c->units; ++unit)
    right &= same(h[unit], d.h_prev[unit]) && (!c->cell->has_c || same(state_c[unit], d.c_prev[unit]));
  CHECK(right, "persistent: %s %s, %d units, %d chains, projected %d: differs from steps",
        fastlstm_isa_name(c->kernels->isa), c->cell->name, (int)c->units, (int)c->layer.chains, projected);
}

void test_persistent(const fl_kernels *kernels, fastlstm_cell_kind kind)
{
  int at = 0;
  if ((int)kind >= FL_CELLS || !kernels->persistent[kind]) return;
  for (int64_t units; (units = next_units(kernels->lanes, &at)) > 0;) {
    const int32_t most = fl_cell_of(kind)->apart ? 1 : most_chains(kernels, units);
    for (int32_t chains = 1; chains <= most; ++chains) {
      const layer_case c = make_layer(kernels, kind, 1 + units % 5, units, chains, (uint64_t)units);
      if (FL_PANEL * c.layer.full + c.layer.remainder <= kernels->persistent_vectors) {
        check_persistent(&c, 0);
        check_persistent(&c, 1);
      }
      release_all();
    }
  }
}
