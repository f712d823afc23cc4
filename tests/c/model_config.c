// SPDX-License-Identifier: BSD-3-Clause
#include "model_config.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "internal/binding.h"

static int has_c(const config *c)
{
  return c->spec.cell == FASTLSTM_LSTM || c->spec.cell == FASTLSTM_LSTM_GENERAL;
}

config make_config(int64_t index, fastlstm_cell_kind cell, int projected, fastlstm_norm_kind norm, int noise,
                   fastlstm_isa isa, fastlstm_dtype dtype)
{
  uint64_t state = (uint64_t)index * 1000003 + 17;
  config c = {.spec = {.struct_size = sizeof(fastlstm_spec),
                       .cell = cell,
                       .dtype = dtype,
                       .isa = isa,
                       .passes = FASTLSTM_PASS_FORWARD | FASTLSTM_PASS_BACKWARD}};
  const int64_t small = random_between(&state, 1, 24), middle = random_between(&state, 25, 70),
                large = random_between(&state, 71, 140), size = random_between(&state, 0, 9);
  c.spec.hidden_size = size < 4 ? small : size < 9 ? middle : large;
  c.spec.input_size = random_between(&state, 1, random_chance(&state, 70) ? 12 : 60);
  c.spec.num_layers = random_between(&state, 1, 3);
  c.spec.directions = (int32_t)random_between(&state, 1, 2);
  c.caches = random_chance(&state, 50) ? FL_CACHES_FAST : FL_CACHES_SLOW;
  c.steps = random_between(&state, 1, 9);
  c.batch = random_chance(&state, 25) ? 1 : random_between(&state, 2, random_chance(&state, 80) ? 14 : 70);
  c.threads = (int32_t)random_between(&state, 1, 3);
  c.dropout = random_chance(&state, 30) ? 0.4 : 0;
  c.seed = random_bits(&state);
  c.has_states = random_chance(&state, 60);
  c.has_cells = random_chance(&state, 30) && has_c(&c);
  c.has_lengths = random_chance(&state, 50);
  c.has_starts = c.has_lengths && random_chance(&state, 40);
  c.has_b_ih = random_chance(&state, 80);
  c.has_b_hh = random_chance(&state, 80);
  c.has_dcells = random_chance(&state, 30) && has_c(&c);
  c.has_dstates = random_chance(&state, 50);
  c.has_dx = random_chance(&state, 80);
  c.accumulate = random_chance(&state, 40);
  // Some models saturate, of some the products of gradients are denormal.
  const double tiny = dtype == FASTLSTM_F64 ? 1e-155 : 1e-21;
  c.weights = random_chance(&state, 10) ? 60 : 1;
  c.inputs = random_chance(&state, 10) ? tiny : 1;
  c.odd = random_chance(&state, 10) ? (int32_t)random_between(&state, 1, 2) : 0;
  if (projected && c.spec.hidden_size > 1)
    c.spec.proj_size = random_between(&state, 1, c.spec.hidden_size - 1);
  if (norm)
    c.spec.options = (fastlstm_options){.peepholes = 1,
                                        .gate_clip = 2.5,
                                        .cell_clip = 1.5,
                                        .proj_clip = c.spec.proj_size ? 0.5 : 0,
                                        .layer_norm = norm,
                                        .norm_epsilon = 1e-3};
  if (noise) {
    c.spec.options.zoneout_c = 0.3;
    c.spec.options.zoneout_h = 0.2;
    c.spec.options.recurrent_dropout = 0.25;
    c.spec.options.variational_dropout = 0.4;
    c.spec.options.input_dropout = 0.15;
    c.noisy = index % 2 == 0;
  }
  c.numbers = state;
  return c;
}

// ---- arrays ----

enum { MOST_BLOCKS = 256 };

// All memory of a run, to be freed together; and the hash of what came out.
typedef struct arrays {
  const config *c;
  uint64_t numbers;
  void *blocks[MOST_BLOCKS];
  int count;
  uint64_t hash;
} arrays;

static int64_t gates_of(const config *c)
{
  const int gru = c->spec.cell == FASTLSTM_GRU || c->spec.cell == FASTLSTM_GRU_RESET_BEFORE;
  return has_c(c) ? 4 : gru ? 3 : 1;
}

// Width of h.
static int64_t outputs_of(const config *c)
{
  return c->spec.proj_size ? c->spec.proj_size : c->spec.hidden_size;
}

static size_t elem(const config *c) { return c->spec.dtype == FASTLSTM_F64 ? 8 : 4; }

static void *zeros(arrays *a, size_t bytes)
{
  const size_t rounded = (bytes + FASTLSTM_ALIGN) / FASTLSTM_ALIGN * FASTLSTM_ALIGN;
  void *block = fastlstm_alloc(rounded);
  CHECK(block && a->count < MOST_BLOCKS, "no memory");
  if (!block || a->count == MOST_BLOCKS) exit(1);
  a->blocks[a->count++] = block;
  return memset(block, 0, rounded);
}

static void fill(arrays *a, void *to, int64_t count, double scale)
{
  for (int64_t i = 0; i < count; ++i) {
    const double number = scale * random_real(&a->numbers);
    if (a->c->spec.dtype == FASTLSTM_F64)
      ((double *)to)[i] = number;
    else
      ((float *)to)[i] = (float)number;
  }
}

static void *filled(arrays *a, int64_t count, double scale)
{
  void *block = zeros(a, (size_t)count * elem(a->c));
  fill(a, block, count, scale);
  return block;
}

static void mix(arrays *a, uint64_t bits)
{
  a->hash = (a->hash ^ bits) * 0x9e3779b97f4a7c15u;
  a->hash ^= a->hash >> 29;
}

// The sign and the payload of a NaN depend on the machine.
static void hash(arrays *a, const void *data, int64_t count)
{
  for (int64_t i = 0; data && i < count; ++i) {
    uint64_t bits = 0;
    memcpy(&bits, (const char *)data + (size_t)i * elem(a->c), elem(a->c));
    const double number =
        a->c->spec.dtype == FASTLSTM_F64 ? ((const double *)data)[i] : ((const float *)data)[i];
    mix(a, number == number ? bits : 1);
  }
}

// ---- a run ----

typedef struct shapes {
  int64_t rows;  // steps of all sequences that the arrays hold
  int64_t inputs, outputs, cells, h_states, c_states;
  int64_t *lengths, *starts;
} shapes;

static shapes make_shapes(arrays *a)
{
  const config *c = a->c;
  shapes s = {.rows = c->steps * c->batch};
  s.inputs = c->spec.input_size;
  s.outputs = c->spec.directions * outputs_of(c);
  s.cells = c->spec.directions * c->spec.hidden_size;
  s.h_states = c->spec.num_layers * c->batch * s.outputs;
  s.c_states = c->spec.num_layers * c->batch * s.cells;
  if (!c->has_lengths) return s;
  s.lengths = zeros(a, (size_t)c->batch * sizeof *s.lengths);
  int64_t longest = c->steps;
  for (int64_t b = 0; b < c->batch; ++b) {
    s.lengths[b] = random_between(&a->numbers, c->has_starts ? 1 : 0, longest);
    if (c->has_starts) longest = s.lengths[b];  // they do not rise
  }
  if (!c->has_starts) return s;
  s.lengths[0] = c->steps;
  s.starts = zeros(a, (size_t)c->steps * sizeof *s.starts);
  s.rows = 0;
  for (int64_t t = 0; t < c->steps; ++t) {
    s.starts[t] = s.rows;
    for (int64_t b = 0; b < c->batch; ++b) s.rows += s.lengths[b] > t;
  }
  return s;
}

// Peepholes and norms of all layers, or gradients of them, as the options want them; else nothing.
typedef struct extras {
  fastlstm_peephole_gradients *peepholes;
  fastlstm_norm_gradients *norms;
} extras;

static extras make_extras(arrays *a, double scale)
{
  const config *c = a->c;
  const int64_t layers = c->spec.num_layers * c->spec.directions, units = c->spec.hidden_size;
  extras e = {0};
  if (c->spec.options.peepholes) e.peepholes = zeros(a, (size_t)layers * sizeof *e.peepholes);
  if (c->spec.options.layer_norm) e.norms = zeros(a, (size_t)layers * sizeof *e.norms);
  for (int64_t i = 0; i < layers; ++i) {
    if (e.peepholes)
      e.peepholes[i] = (fastlstm_peephole_gradients){filled(a, units, scale), filled(a, units, scale),
                                                     filled(a, units, scale)};
    if (c->spec.options.layer_norm == FASTLSTM_NORM_SUMS) e.norms[i].n = filled(a, 4 * units, scale);
    if (c->spec.options.layer_norm == FASTLSTM_NORM_SEPARATE)
      e.norms[i] = (fastlstm_norm_gradients){.nx = filled(a, 4 * units, scale),
                                             .nh = filled(a, 4 * units, scale),
                                             .nc = filled(a, units, scale),
                                             .bias_nc = filled(a, units, scale)};
  }
  return e;
}

static void hash_extras(arrays *a, const extras *e)
{
  const int64_t layers = a->c->spec.num_layers * a->c->spec.directions, units = a->c->spec.hidden_size;
  for (int64_t i = 0; i < layers; ++i) {
    if (e->peepholes) {
      hash(a, e->peepholes[i].i, units);
      hash(a, e->peepholes[i].f, units);
      hash(a, e->peepholes[i].o, units);
    }
    if (e->norms) {
      hash(a, e->norms[i].n, 4 * units);
      hash(a, e->norms[i].nx, 4 * units);
      hash(a, e->norms[i].nh, 4 * units);
      hash(a, e->norms[i].nc, units);
      hash(a, e->norms[i].bias_nc, units);
    }
  }
}

static fastlstm_model *make_model(arrays *a)
{
  const config *c = a->c;
  const int64_t layers = c->spec.num_layers * c->spec.directions, units = c->spec.hidden_size;
  const int64_t gate_rows = gates_of(c) * units;
  fastlstm_weights *weights = zeros(a, 2 * (size_t)layers * sizeof *weights);
  for (int64_t i = 0; i < layers; ++i) {
    const int64_t inputs = i < c->spec.directions ? c->spec.input_size : c->spec.directions * outputs_of(c);
    weights[i].w_ih = filled(a, gate_rows * inputs, 0.5 * c->weights);
    weights[i].w_hh = filled(a, gate_rows * outputs_of(c), 0.3 * c->weights);
    weights[i].b_ih = c->has_b_ih ? filled(a, gate_rows, 0.5) : NULL;
    weights[i].b_hh = c->has_b_hh ? filled(a, gate_rows, 0.5) : NULL;
    if (c->spec.proj_size) weights[layers + i].w_ih = filled(a, outputs_of(c) * units, 0.5 * c->weights);
  }
  size_t bytes = 0;
  fastlstm_model *model = NULL;
  const extras e = make_extras(a, 0.9);
  fastlstm_spec spec = c->spec;
  spec.peepholes = (const fastlstm_peepholes *)e.peepholes;
  spec.norms = (const fastlstm_norms *)e.norms;
  CHECK(fastlstm_model_bytes(&spec, &bytes) == FASTLSTM_OK, "no size of a model");
  const fastlstm_status status =
      fastlstm_model_pack(&spec, weights, zeros(a, bytes), c->threads, NULL, NULL, &model);
  CHECK(status == FASTLSTM_OK, "packing: %s", fastlstm_status_text(status));
  if (!model) exit(1);
  fl_model_assume_caches(model, (fl_cache_kind)c->caches);
  return model;
}

// A plan, and the workspace of its runs.
typedef struct planned {
  fastlstm_plan *plan;
  void *workspace;
} planned;

static planned make_plan(arrays *a, const fastlstm_model *model, fastlstm_purpose purpose)
{
  const config *c = a->c;
  planned p = {.plan = zeros(a, fastlstm_plan_bytes())};
  const fastlstm_status status = fastlstm_plan_make(model, purpose, c->steps, c->batch, c->threads, p.plan);
  CHECK(status == FASTLSTM_OK, "planning %d: %s", (int)purpose, fastlstm_status_text(status));
  p.workspace = zeros(a, fastlstm_plan_workspace_bytes(p.plan));
  return p;
}

static void run_forward(arrays *a, const fastlstm_model *model, const shapes *s, const void *x,
                        const fastlstm_io *given, fastlstm_purpose purpose, void *tape)
{
  const config *c = a->c;
  const planned p = make_plan(a, model, purpose);
  fastlstm_io io = *given;
  io.x = x;
  io.y = zeros(a, (size_t)(s->rows * s->outputs) * elem(c));
  io.cells = c->has_cells ? zeros(a, (size_t)(s->rows * s->cells) * elem(c)) : NULL;
  io.h_n = zeros(a, (size_t)s->h_states * elem(c));
  io.c_n = has_c(c) ? zeros(a, (size_t)s->c_states * elem(c)) : NULL;
  io.tape = tape;
  io.dropout = tape ? c->dropout : 0;
  io.noisy = tape && c->noisy;
  const fastlstm_status status = fastlstm_forward(model, p.plan, &io, p.workspace);
  CHECK(status == FASTLSTM_OK, "forward: %s", fastlstm_status_text(status));
  a->hash = 1;
  hash(a, io.y, s->rows * s->outputs);
  hash(a, io.cells, s->rows * s->cells);
  hash(a, io.h_n, s->h_states);
  hash(a, io.c_n, s->c_states);
}

static void run_backward(arrays *a, const fastlstm_model *model, const shapes *s, const void *x,
                         const fastlstm_io *given, const void *tape)
{
  const config *c = a->c;
  const int64_t layers = c->spec.num_layers * c->spec.directions, units = c->spec.hidden_size;
  const int64_t gate_rows = gates_of(c) * units;
  const planned p = make_plan(a, model, FASTLSTM_BACK);
  fastlstm_gradients *gradients = zeros(a, 2 * (size_t)layers * sizeof *gradients);
  const int64_t inner = c->spec.directions * outputs_of(c);
  for (int64_t i = 0; i < layers; ++i) {
    gradients[i].w_ih = filled(a, gate_rows * (i < c->spec.directions ? c->spec.input_size : inner), 0.5);
    gradients[i].w_hh = filled(a, gate_rows * outputs_of(c), 0.5);
    gradients[i].b_ih = c->has_b_ih ? filled(a, gate_rows, 0.5) : NULL;
    gradients[i].b_hh = c->has_b_hh ? filled(a, gate_rows, 0.5) : NULL;
    if (c->spec.proj_size) gradients[layers + i].w_ih = filled(a, outputs_of(c) * units, 0.5);
  }
  const extras e = make_extras(a, 0.5);
  fastlstm_back_io io = {.struct_size = sizeof(fastlstm_back_io),
                         .tape = tape,
                         .x = x,
                         .x_t = given->x_t,
                         .x_b = given->x_b,
                         .lengths = s->lengths,
                         .starts = s->starts,
                         .dy = filled(a, s->rows * s->outputs, c->inputs),
                         .dy_t = given->y_t,
                         .dy_b = given->y_b,
                         .dcells = c->has_dcells ? filled(a, s->rows * s->cells, c->inputs) : NULL,
                         .dcells_t = given->cells_t,
                         .dcells_b = given->cells_b,
                         .dh_n = c->has_dstates ? filled(a, s->h_states, c->inputs) : NULL,
                         .dc_n = c->has_dstates && has_c(c) ? filled(a, s->c_states, c->inputs) : NULL,
                         .dx = c->has_dx ? filled(a, s->rows * s->inputs, 1) : NULL,
                         .dx_t = given->x_t,
                         .dx_b = given->x_b,
                         .dh_0 = c->has_states ? filled(a, s->h_states, 1) : NULL,
                         .dc_0 = c->has_states && has_c(c) ? filled(a, s->c_states, 1) : NULL,
                         .gradients = gradients,
                         .accumulate = c->accumulate,
                         .dropout = c->dropout,
                         .seed = c->seed,
                         .peepholes = e.peepholes,
                         .norms = e.norms,
                         .noisy = c->noisy};
  const fastlstm_status status = fastlstm_backward(model, p.plan, &io, p.workspace);
  CHECK(status == FASTLSTM_OK, "backward: %s", fastlstm_status_text(status));
  hash(a, io.dx, s->rows * s->inputs);
  hash(a, io.dh_0, s->h_states);
  hash(a, io.dc_0, s->c_states);
  for (int64_t i = 0; i < layers; ++i) {
    hash(a, gradients[i].w_ih, gate_rows * (i < c->spec.directions ? c->spec.input_size : inner));
    hash(a, gradients[i].w_hh, gate_rows * outputs_of(c));
    hash(a, gradients[i].b_ih, gate_rows);
    hash(a, gradients[i].b_hh, gate_rows);
    hash(a, gradients[layers + i].w_ih, outputs_of(c) * units);
  }
  hash_extras(a, &e);
}

uint64_t run_config(const config *c)
{
  arrays a = {.c = c, .numbers = c->numbers};
  const shapes s = make_shapes(&a);
  const fastlstm_model *model = make_model(&a);
  void *x = filled(&a, s.rows * s.inputs, c->inputs);
  if (c->odd && s.rows > 0) {
    const double number = c->odd == 1 ? INFINITY : NAN;
    if (c->spec.dtype == FASTLSTM_F64)
      ((double *)x)[s.rows / 2 * s.inputs] = number;
    else
      ((float *)x)[s.rows / 2 * s.inputs] = (float)number;
  }
  // Steps before rows, except that half of the whole batches are rows before steps.
  const int by_row = !s.starts && c->seed % 2;
  const fastlstm_io io = {.struct_size = sizeof(fastlstm_io),
                          .x_t = by_row ? s.inputs : c->batch * s.inputs,
                          .x_b = by_row ? c->steps * s.inputs : s.inputs,
                          .y_t = by_row ? s.outputs : c->batch * s.outputs,
                          .y_b = by_row ? c->steps * s.outputs : s.outputs,
                          .cells_t = by_row ? s.cells : c->batch * s.cells,
                          .cells_b = by_row ? c->steps * s.cells : s.cells,
                          .h_0 = c->has_states ? filled(&a, s.h_states, 0.9) : NULL,
                          .c_0 = c->has_states && has_c(c) ? filled(&a, s.c_states, 2) : NULL,
                          .lengths = s.lengths,
                          .starts = s.starts,
                          .seed = c->seed};
  run_forward(&a, model, &s, x, &io, FASTLSTM_INFER, NULL);
  const uint64_t inferred = a.hash;
  size_t bytes = 0;
  CHECK(fastlstm_tape_bytes(&c->spec, c->steps, c->batch, &bytes) == FASTLSTM_OK, "no size of a tape");
  void *tape = zeros(&a, bytes);
  run_forward(&a, model, &s, x, &io, FASTLSTM_TRAIN, tape);
  CHECK(c->dropout > 0 || c->noisy || a.hash == inferred, "a tape changes outputs");
  run_backward(&a, model, &s, x, &io, tape);
  mix(&a, inferred);
  while (a.count > 0) fastlstm_free(a.blocks[--a.count]);
  return a.hash;
}
