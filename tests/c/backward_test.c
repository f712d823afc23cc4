// SPDX-License-Identifier: BSD-3-Clause
// The backward pass of one step.
#include <math.h>
#include <string.h>

#include "kernels_support.h"

typedef struct back_data {
  int64_t rows, stride, c_stride, h_stride;
  real *next, *dy, *dc, *dh_last, *activations, *h, *h_prev, *c, *c_prev, *carry, *bias;
} back_data;

typedef struct back_out {
  real *now, *carry, *bias;
  real *first;  // of a second stage: gate gradients of the first one, r and z
} back_out;

// What a job leaves out, and how it is done.
typedef struct back_mode {
  int no_next, no_given, descending, split, streaming, prefetch;
} back_mode;

// Gate gradients of lanes that no unit has must not be read: they are NaN.
static real *take_gradients(const layer_case *c, const back_data *d, uint64_t *state)
{
  const int64_t kept = c->cell->grads;
  real *grads = take_random(state, kept * c->unit_vectors * d->stride, 1);
  for (int64_t unit = c->units; unit < c->unit_vectors * c->lanes; ++unit)
    for (int64_t place = 0; place < kept; ++place)
      for (int64_t r = 0; r < d->rows; ++r)
        grads[(kept * (unit / c->lanes) + place) * d->stride + r * c->lanes + unit % c->lanes] = NAN;
  return grads;
}

static back_data make_data(const layer_case *c, int64_t rows, uint64_t seed)
{
  back_data d = {.rows = rows, .stride = rows * c->lanes, .c_stride = rows * c->lanes};
  const int64_t states = c->unit_vectors * d.c_stride;
  d.h_stride = c->unit_vectors * c->lanes;
  d.next = take_gradients(c, &d, &seed);
  d.dy = take_random(&seed, rows * c->units, 1);
  d.dc = take_random(&seed, rows * c->units, 1);
  d.dh_last = take_random(&seed, rows * d.h_stride, 1);
  d.activations = take_random(&seed, states * c->cell->activations, 0.99);
  d.h = take_random(&seed, rows * d.h_stride, 0.9);
  d.h_prev = take_random(&seed, rows * d.h_stride, 0.9);
  d.c = take_random(&seed, states, 2);
  d.c_prev = take_random(&seed, states, 2);
  d.carry = take_random(&seed, states, 1);
  d.bias = take_random(&seed, c->cell->unit_sums * c->unit_vectors * c->lanes, 1);
  return d;
}

static back_out make_out(const layer_case *c, const back_data *d)
{
  const int64_t states = c->unit_vectors * d->c_stride, kept = c->cell->grads * c->unit_vectors;
  const int64_t biases = c->cell->unit_sums * c->unit_vectors * c->lanes;
  const back_out out = {.now = TAKE(real, kept * d->stride),
                        .carry = TAKE(real, states),
                        .bias = TAKE(real, biases),
                        .first = TAKE(real, 2 * c->unit_vectors * d->stride)};
  memcpy(out.carry, d->carry, (size_t)states * sizeof(real));
  memcpy(out.bias, d->bias, (size_t)biases * sizeof(real));
  return out;
}

// Rows [first, first + rows).
static void run(const layer_case *c, const back_data *d, int64_t first, int64_t rows, back_mode mode,
                const back_out *out)
{
  const int64_t at = first * c->lanes;
  const int has_c = c->cell->has_c, carries = has_c || c->cell->carries_h, given = !mode.no_given;
  fl_back_step job = {
      .next = mode.no_next ? NULL : d->next + at,
      .now = out->now + at,
      .first = c->layer.kind == FL_CANDIDATE ? out->first + at : NULL,
      .stride = d->stride,
      .dy = given ? (const void *const *)take_rows(d->dy, d->rows, c->units) + first : NULL,
      .dc = given && has_c ? (const void *const *)take_rows(d->dc, d->rows, c->units) + first : NULL,
      .dh_last = given ? d->dh_last + first * d->h_stride : NULL,
      .dh_stride = d->h_stride,
      .activations = d->activations + c->cell->activations * at,
      .h = d->h + first * d->h_stride,
      .h_prev = d->h_prev + first * d->h_stride,
      .h_stride = d->h_stride,
      .c = has_c ? d->c + at : NULL,
      .c_prev = has_c ? d->c_prev + at : NULL,
      .carry = carries ? out->carry + at : NULL,
      .c_stride = d->c_stride,
      .bias = out->bias,
      .rows = rows,
      .descending = mode.descending,
      .streaming = mode.streaming,
      .prefetch = mode.prefetch};
  const int32_t middle = mode.split ? (int32_t)c->columns / 2 : 0;
  for (int part = middle > 0 ? 0 : 1; part < 2; ++part) {
    job.panel_begin = part ? middle : 0;
    job.panel_end = part ? (int32_t)c->columns : middle;
    c->kernels->back_step(&c->layer, &job);
  }
}

// Gradient of a row's h, in exact arithmetic.
static wide output_gradient(const layer_case *c, const back_data *d, back_mode mode, int64_t r, int64_t unit)
{
  const product_side side = side_of(c, 1);
  wide sum = mode.no_given ? 0 : (wide)d->dy[r * c->units + unit] + d->dh_last[r * d->h_stride + unit];
  for (int64_t from = 0; from < c->units && !mode.no_next; ++from)
    for (int64_t gate = 0; gate < c->gates; ++gate)
      sum +=
          (wide)d->next[gradient_vector(c, &side, gate, from) * d->stride + r * c->lanes + from % c->lanes] *
          c->w_h[(gate * c->units + from) * c->units + unit];
  return sum;
}

// The general LSTM's gradients of one unit, from dh and dc; `kept` is what its activations were applied to.
static int is_general(const layer_case *c, const real *kept, int64_t unit, wide state, wide before, wide dh,
                      wide dc, const real *now, int64_t stride, real carry)
{
  const wide limit = TESTED_OPTIONS.gate_clip;
  const real *peepholes = c->peepholes + unit;
  wide gate[4], slope[4];
  for (int g = 0; g < 4; ++g) {
    const wide z = kept[g * c->lanes];
    gate[g] = g == 2 ? tanhl(z) : 1 / (1 + expl(-z));
    slope[g] = g == 2 ? 1 - gate[g] * gate[g] : gate[g] * (1 - gate[g]);
    if (fabsl(z) >= limit) slope[g] = 0;
  }
  const wide shown = tanhl(state), d_o = dh * shown * slope[3];
  dc += dh * gate[3] * (1 - shown * shown) + d_o * peepholes[2 * c->units];
  if (fabsl(state) >= TESTED_OPTIONS.cell_clip) dc = 0;
  const wide d_i = dc * gate[2] * slope[0], d_f = dc * before * slope[1];
  return is_near(now[0], d_i) && is_near(now[stride], d_f) &&
         is_near(now[2 * stride], dc * gate[0] * slope[2]) && is_near(now[3 * stride], d_o) &&
         is_near(carry, dc * gate[1] + d_i * peepholes[0] + d_f * peepholes[c->units]);
}

// Gradients of a unit of a GRU that resets before the product: of its first stage, whose m nothing but the
// product reads, or of its second one.
static int is_stage(const layer_case *c, const back_data *d, const back_out *out, int64_t r, int64_t unit,
                    wide product, wide dh)
{
  const int64_t vector = unit / c->lanes, lane = unit % c->lanes, column = r * c->lanes + lane;
  const int64_t state = vector * d->c_stride + r * c->lanes;
  const real *kept = d->activations + state * 3 + lane;
  const wide h_prev = d->h_prev[r * d->h_stride + unit], reset = kept[0], z = kept[c->lanes];
  const wide carry = d->carry[state + lane], n = kept[2 * c->lanes], total = dh + carry;
  if (c->layer.kind == FASTLSTM_GRU_RESET_BEFORE)
    return is_near(out->now[2 * vector * d->stride + column], product * h_prev * reset * (1 - reset)) &&
           is_near(out->carry[state + lane], carry + product * reset);
  return is_near(out->now[vector * d->stride + column], total * (1 - z) * (1 - n * n)) &&
         is_near(out->first[(2 * vector + 1) * d->stride + column], total * (h_prev - n) * z * (1 - z)) &&
         is_near(out->carry[state + lane], total * z);
}

static int is_exact(const layer_case *c, const back_data *d, back_mode mode, int64_t r, const back_out *out)
{
  int right = 1;
  for (int64_t unit = 0; unit < c->units; ++unit) {
    const int64_t vector = unit / c->lanes, lane = unit % c->lanes;
    const int64_t state = vector * d->c_stride + r * c->lanes;
    const real *now = out->now + c->cell->grads * vector * d->stride + r * c->lanes + lane;
    const wide dh = output_gradient(c, d, mode, r, unit);
    if (c->layer.kind == FASTLSTM_LSTM) {
      const real *kept = d->activations + state * 4 + lane;
      const wide i = kept[0], f = kept[c->lanes], g = kept[2 * c->lanes], o = kept[3 * c->lanes];
      const wide tanh_c = tanhl(d->c[state + lane]), given = mode.no_given ? 0 : d->dc[r * c->units + unit];
      const wide dc = d->carry[state + lane] + given + dh * o * (1 - tanh_c * tanh_c);
      right &= is_near(now[0], dc * g * i * (1 - i));
      right &= is_near(now[d->stride], dc * d->c_prev[state + lane] * f * (1 - f));
      right &= is_near(now[2 * d->stride], dc * i * (1 - g * g));
      right &= is_near(now[3 * d->stride], dh * tanh_c * o * (1 - o));
      right &= is_near(out->carry[state + lane], dc * f);
    } else if (c->cell->has_c) {
      const wide given = mode.no_given ? 0 : d->dc[r * c->units + unit];
      right &=
          is_general(c, d->activations + state * 4 + lane, unit, d->c[state + lane], d->c_prev[state + lane],
                     dh, d->carry[state + lane] + given, now, d->stride, out->carry[state + lane]);
    } else if (c->layer.kind == FASTLSTM_GRU) {
      const real *kept = d->activations + state * 4 + lane;
      const wide reset = kept[0], z = kept[c->lanes], n = kept[2 * c->lanes];
      const wide of_h = kept[3 * c->lanes] / c->cell->scale[2];
      const wide total = dh + d->carry[state + lane], dn = total * (1 - z) * (1 - n * n);
      right &= is_near(now[0], dn);
      right &= is_near(now[d->stride], dn * of_h * reset * (1 - reset));
      right &= is_near(now[2 * d->stride], total * (d->h_prev[r * d->h_stride + unit] - n) * z * (1 - z));
      right &= is_near(now[3 * d->stride], dn * reset);
      right &= is_near(out->carry[state + lane], total * z);
    } else if (c->cell->carries_h) {
      const back_mode alone = {.no_next = mode.no_next, .no_given = 1};
      right &= is_stage(c, d, out, r, unit, output_gradient(c, d, alone, r, unit), dh);
    } else {
      const wide h = d->h[r * d->h_stride + unit];
      right &= is_near(now[0], c->layer.kind == FASTLSTM_RNN_TANH ? dh * (1 - h * h) : h > 0 ? dh : 0);
    }
  }
  return right;
}

// The sum for gate `place` of a GRU that resets before the product, of which each stage has its own.
static real stage_sum(const layer_case *c, const back_data *d, int64_t rows, const back_out *out,
                      int64_t vector, int64_t lane, int64_t place, real sum)
{
  const int first = c->layer.kind == FASTLSTM_GRU_RESET_BEFORE;
  if (first != (place == 0)) return sum;
  const real *grads = first        ? out->now + 2 * vector * d->stride
                      : place == 1 ? out->first + (2 * vector + 1) * d->stride
                                   : out->now + vector * d->stride;
  for (int64_t r = 0; r < rows; ++r) sum += grads[r * c->lanes + lane];
  return sum;
}

// The sums for the biases and the peepholes, row after row.
static int has_sums(const layer_case *c, const back_data *d, int64_t rows, const back_out *out)
{
  static const int gate_of[] = {0, 1, 3};  // that a peephole feeds
  int right = 1;
  for (int64_t unit = 0; unit < c->units; ++unit) {
    const int64_t vector = unit / c->lanes, lane = unit % c->lanes;
    for (int64_t place = 0; place < c->cell->unit_sums; ++place) {
      const int64_t at = (c->cell->unit_sums * vector + place) * c->lanes + lane,
                    hole = place - c->cell->grads;
      const int64_t gate = hole < 0 ? place : gate_of[hole];
      real sum = d->bias[at];
      if (c->layer.kind == FASTLSTM_GRU_RESET_BEFORE || c->layer.kind == FL_CANDIDATE) {
        right &= same(out->bias[at], stage_sum(c, d, rows, out, vector, lane, place, sum));
        continue;
      }
      for (int64_t r = 0; r < rows; ++r) {
        const real grad = out->now[(c->cell->grads * vector + gate) * d->stride + r * c->lanes + lane];
        const int64_t state = vector * d->c_stride + r * c->lanes + lane;
        if (hole < 0)
          sum += grad;
        else
          sum = multiply_add(c->kernels, grad, (hole < 2 ? d->c_prev : d->c)[state], sum);
      }
      right &= same(out->bias[at], sum);
    }
  }
  return right;
}

static int have_same_bits(const layer_case *c, const back_data *d, int64_t rows, const back_out *a,
                          const back_out *b)
{
  int right = 1;
  for (int64_t unit = 0; unit < c->units; ++unit) {
    const int64_t vector = unit / c->lanes, lane = unit % c->lanes;
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t state = vector * d->c_stride + r * c->lanes + lane;
      for (int64_t place = 0; place < c->cell->grads; ++place) {
        const int64_t at = (c->cell->grads * vector + place) * d->stride + r * c->lanes + lane;
        const int is_other = c->layer.kind == FASTLSTM_GRU_RESET_BEFORE && place == 1;  // the second stage's
        right &= is_other || same(a->now[at], b->now[at]);
      }
      const int64_t z_at = (2 * vector + 1) * d->stride + r * c->lanes + lane;
      right &= same(a->first[z_at], b->first[z_at]);
      right &= same(a->carry[state], b->carry[state]);
    }
  }
  return right;
}

static const back_mode HOW[] = {{.prefetch = FL_DGRAD_NO_PREFETCH},
                                {.prefetch = FL_DGRAD_PREFETCH_NEAR},
                                {.prefetch = FL_DGRAD_PREFETCH_NEXT_PANEL},
                                {.descending = 1, .streaming = 1},
                                {.split = 1, .descending = 1, .prefetch = FL_DGRAD_PREFETCH_NEXT_PANEL}};

static void check_rows(const layer_case *c, const back_data *d, back_mode what, int64_t rows,
                       const back_out *alone)
{
  for (size_t i = 0; i < sizeof HOW / sizeof *HOW; ++i) {
    back_mode mode = HOW[i];
    mode.no_next = what.no_next;
    mode.no_given = what.no_given;
    const back_out out = make_out(c, d);
    run(c, d, 0, rows, mode, &out);
    CHECK(have_same_bits(c, d, rows, alone, &out) && has_sums(c, d, rows, &out),
          "back_step: %s %s, %d units, %d rows: mode %d differs from one row at a time",
          fastlstm_isa_name(c->kernels->isa), c->cell->name, (int)c->units, (int)rows, (int)i);
  }
}

static void check_back_step(const layer_case *c, int64_t rows, int64_t least)
{
  const back_data d = make_data(c, rows, (uint64_t)(c->units + 7 * rows));
  const back_mode whats[] = {{0}, {.no_next = 1}, {.no_given = 1}};
  for (size_t i = 0; i < sizeof whats / sizeof *whats; ++i) {
    const back_out alone = make_out(c, &d);
    int exact = 1;
    for (int64_t r = 0; r < rows; ++r) {
      run(c, &d, r, 1, whats[i], &alone);
      exact &= is_exact(c, &d, whats[i], r, &alone);
    }
    CHECK(exact, "back_step: %s %s, %d units, what %d: wrong", fastlstm_isa_name(c->kernels->isa),
          c->cell->name, (int)c->units, (int)i);
    for (int64_t n = least; n <= rows; ++n) check_rows(c, &d, whats[i], n, &alone);
  }
}

void test_back_step(const fl_kernels *kernels, fastlstm_cell_kind kind)
{
  const int64_t tallest = 2 * kernels->tile_rows;
  int at = 0;
  for (int64_t units; (units = next_units(kernels->lanes, &at)) > 0;) {
    const layer_case c = make_layer(kernels, kind, 1, units, 1, (uint64_t)units);
    check_back_step(&c, tallest + 1 + units % 2, units % 3 ? tallest : 1);
    release_all();
  }
  // So many rows that the sum is taken in blocks.
  const int gated = fl_cell_of(kind)->gates > 1;
  const layer_case c = make_layer(kernels, kind, 1, gated ? 45 : 90, 1, 3);
  const int64_t rows = gated ? 300 : 500;
  const back_data d = make_data(&c, rows, 8);
  const back_out alone = make_out(&c, &d);
  for (int64_t r = 0; r < rows; ++r) run(&c, &d, r, 1, (back_mode){0}, &alone);
  check_rows(&c, &d, (back_mode){0}, rows, &alone);
  release_all();
}
