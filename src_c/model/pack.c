// SPDX-License-Identifier: BSD-3-Clause
// Weights -> panels: for the forward pass (layout in kernels/tile.inc.h) with the activation's scale
// folded in, for the backward pass transposed (kernels/back.inc.h).
#include <stdatomic.h>
#include <string.h>

#include "internal/check.h"
#include "internal/model.h"
#include "platform/team.h"

#define LOG2E 1.44269504088896340736

static const int64_t CACHED_WEIGHTS = 16 << 20;  // bytes that a last-level cache may hold
static const int64_t ALONE_WEIGHTS = 1 << 20;    // bytes that one thread packs sooner than a team wakes

// The recurrent sum of a small layer runs in two chains, else one row could not hide the latency
// of its multiply-adds. A function of H alone: it fixes the order of summation everywhere.
static int32_t chains_of(int64_t units) { return units <= 24 ? 2 : 1; }

static void divide_units(fl_layer *layer, int64_t units, const fl_kernels *kernels)
{
  const int64_t lanes = kernels->lanes, rest = units % lanes;
  layer->units = units;
  layer->chains = chains_of(units);
  layer->full = (int32_t)(units / lanes);
  layer->tail = rest == 0 ? 0 : rest * 4 <= lanes ? 1 : rest * 2 <= lanes ? 2 : 0;
  if (rest != 0 && layer->tail == 0) layer->full += 1;
}

typedef struct layout {
  int64_t w_x, w_h, bias, t_x, t_h;  // bytes of one direction's parts
} layout;

static int64_t layer_inputs(const fl_spec *spec, int64_t layer)
{
  return layer == 0 ? spec->input_size : spec->directions * spec->hidden_size;
}

static layout layer_layout(const fl_spec *spec, const fl_layer *layer, int64_t inputs, int64_t lanes)
{
  const int64_t elem = fl_elem(spec->dtype);
  const int64_t gates = spec->passes & FL_PASS_FORWARD ? (4 * (int64_t)layer->full + layer->tail) * lanes : 0;
  const int64_t rows = spec->passes & FL_PASS_BACKWARD ? 4 * layer->units : 0;
  return (layout){fl_round_up(inputs * gates * elem, FL_ALIGN),
                  fl_round_up(layer->units * gates * elem, FL_ALIGN), fl_round_up(gates * elem, FL_ALIGN),
                  fl_round_up(rows * fl_round_up(inputs, lanes) * elem, FL_ALIGN),
                  fl_round_up(rows * fl_round_up(layer->units, lanes) * elem, FL_ALIGN)};
}

static int64_t layout_bytes(layout part) { return part.w_x + part.w_h + part.bias + part.t_x + part.t_h; }

fl_status fl_model_bytes(const fl_spec *spec, size_t *bytes)
{
  const fl_status status = bytes ? fl_check_spec(spec) : FL_INVALID;
  if (status != FL_OK) return status;
  const fl_kernels *kernels = fl_kernels_for(spec->isa, spec->dtype);
  const double inputs = (double)spec->input_size + 2.0 * (double)spec->hidden_size;
  const double about = (double)spec->num_layers * 2 * 4 * ((double)spec->hidden_size + 32) * 8 * 2 *
                       (inputs + (double)spec->hidden_size + 64);
  if (about > 4e18) return FL_TOO_LARGE;  // a bound of all products below
  fl_layer layer = {0};
  divide_units(&layer, spec->hidden_size, kernels);
  const int64_t count = spec->num_layers * spec->directions;
  int64_t total =
      fl_round_up(sizeof(fl_model), FL_ALIGN) + fl_round_up(count * (int64_t)sizeof(fl_layer), FL_ALIGN);
  for (int64_t l = 0; l < spec->num_layers && l < 2; ++l) {  // all layers after the first are alike
    const layout part = layer_layout(spec, &layer, layer_inputs(spec, l), kernels->lanes);
    total += spec->directions * layout_bytes(part) * (l == 0 ? 1 : spec->num_layers - 1);
  }
  *bytes = (size_t)total;
  return FL_OK;
}

static double gate_scale(int gate) { return gate == 2 ? -2 * LOG2E : -LOG2E; }

// Elements between the gates of a panel, in a row of gates.
static int64_t gate_step(const fl_layer *layer, int64_t lanes, int64_t panel)
{
  return panel < layer->full ? lanes : layer->tail * lanes / 4;
}

static int64_t panels_of(const fl_layer *layer) { return layer->full + (layer->tail != 0); }

// What the threads of a packing share.
typedef struct packing {
  const fl_model *model;
  const fl_weights *weights;
  fl_poll *poll;
  void *poll_arg;
  double polled;     // when poll was last called, by thread 0
  uint32_t fp_mode;  // thread 0's own
  atomic_int status;
} packing;

// Whether packing ends here: it was stopped, or some weight is out of range.
static int ended(packing *job, int thread)
{
  if (job->poll && thread == 0 && fl_now() - job->polled > FL_POLL_SECONDS) {
    fl_fp_leave(job->fp_mode);  // the caller's code runs in there
    const int stop = job->poll(job->poll_arg);
    fl_fp_nearest();
    if (stop) atomic_store(&job->status, FL_INTERRUPTED);
    job->polled = fl_now();
  }
  return atomic_load_explicit(&job->status, memory_order_relaxed) != FL_OK;
}

// Panels [begin, end) of w (4H, inputs) -> out, for the forward pass, and turned, for the backward pass;
// each may be NULL.
// Element (input k, column j of panel p) goes to out + p * panel_stride + k * row + j.
static void pack_matrix(packing *p, int thread, const fl_layer *layer, const void *w, int64_t inputs,
                        int merged, char *out, char *turned, int64_t begin, int64_t end)
{
  const fl_model *model = p->model;
  const fl_kernels *kernels = model->kernels;
  const int64_t lanes = kernels->lanes, elem = fl_elem(kernels->dtype);
  const int64_t vectors = 4 * (int64_t)layer->full + layer->tail;
  fl_pack job = {.inputs = inputs, .turned = turned, .turned_rows = 4 * layer->units};
  job.far = model->weight_bytes > CACHED_WEIGHTS;
  for (int64_t panel = begin; panel < end && !ended(p, thread); ++panel) {
    const int64_t step = gate_step(layer, lanes, panel), left = layer->units - panel * lanes;
    const int64_t first = panel * 4 * lanes * (merged ? 1 : inputs);
    job.rows = (int32_t)(left < lanes ? left : lanes);
    job.stride = merged ? vectors * lanes : 4 * step;
    for (int gate = 0; gate < 4; ++gate) {
      job.w = (const char *)w + (gate * layer->units + panel * lanes) * inputs * elem;
      job.scale = gate_scale(gate);
      if (out) job.out = out + (first + gate * step) * elem;
      job.first = 4 * panel * lanes + gate * job.rows;
      if (kernels->pack(&job)) atomic_store(&p->status, FL_OUT_OF_RANGE);
    }
  }
}

static void pack_bias(packing *p, const fl_layer *layer, const fl_weights *w, char *out)
{
  const fl_kernels *kernels = p->model->kernels;
  const int64_t lanes = kernels->lanes, elem = fl_elem(kernels->dtype);
  for (int64_t panel = 0; panel < panels_of(layer); ++panel) {
    const int64_t left = layer->units - panel * lanes, count = left < lanes ? left : lanes;
    for (int gate = 0; gate < 4; ++gate) {
      const int64_t first = gate * layer->units + panel * lanes;
      char sums[64] __attribute__((aligned(64)));  // a vector
      for (int64_t i = 0; i < count; ++i) {
        if (kernels->dtype == FL_F64)
          ((double *)sums)[i] = (w->b_ih ? ((const double *)w->b_ih)[first + i] : 0) +
                                (w->b_hh ? ((const double *)w->b_hh)[first + i] : 0);
        else
          ((float *)sums)[i] = (w->b_ih ? ((const float *)w->b_ih)[first + i] : 0) +
                               (w->b_hh ? ((const float *)w->b_hh)[first + i] : 0);
      }
      const int64_t at = panel * 4 * lanes + gate * gate_step(layer, lanes, panel);
      const fl_pack job = {.w = sums,
                           .inputs = 1,
                           .rows = (int32_t)count,
                           .scale = gate_scale(gate),
                           .out = out + at * elem,
                           .stride = lanes};
      if (kernels->pack(&job)) atomic_store(&p->status, FL_OUT_OF_RANGE);
    }
  }
}

// A thread's share: some panels of every layer. It rounds to nearest, whatever the caller does.
static void pack_share(void *arg, int thread, int threads)
{
  packing *job = arg;
  const fl_spec *spec = &job->model->spec;
  const int ahead = (spec->passes & FL_PASS_FORWARD) != 0, back = (spec->passes & FL_PASS_BACKWARD) != 0;
  const uint32_t mode = fl_fp_nearest();
  if (thread == 0) job->fp_mode = mode;
  for (int64_t i = 0; i < spec->num_layers * spec->directions && !ended(job, thread); ++i) {
    const fl_layer *layer = &job->model->layers[i];
    const fl_weights *w = &job->weights[i];
    const int64_t begin = panels_of(layer) * thread / threads,
                  end = panels_of(layer) * (thread + 1) / threads;
    pack_matrix(job, thread, layer, w->w_ih, layer->inputs, spec->gemm_blas,
                ahead ? (char *)layer->w_x : NULL, back ? (char *)layer->t_x : NULL, begin, end);
    pack_matrix(job, thread, layer, w->w_hh, layer->units, 0, ahead ? (char *)layer->w_h : NULL,
                back ? (char *)layer->t_h : NULL, begin, end);
    if (ahead && thread == 0) pack_bias(job, layer, w, (char *)layer->bias);
  }
  fl_fp_leave(mode);
}

fl_status fl_model_pack(const fl_spec *spec, const fl_weights *weights, void *memory, int32_t threads,
                        fl_poll *poll, void *poll_arg, fl_model **packed)
{
  size_t bytes = 0;
  if (!packed || threads < 1) return FL_INVALID;
  *packed = NULL;
  fl_status status = fl_model_bytes(spec, &bytes);
  if (status == FL_OK) status = fl_check_weights(spec, weights, memory);
  if (status != FL_OK) return status;
  const int64_t count = spec->num_layers * spec->directions;
  char *at = memory;
  fl_model *model = (fl_model *)at;
  at += fl_round_up(sizeof(fl_model), FL_ALIGN);
  model->mark = 0;
  model->spec = *spec;
  model->kernels = fl_kernels_for(spec->isa, spec->dtype);
  model->caches = fl_caches_of(FL_CACHES_OF_CPU);
  model->layers = (fl_layer *)at;
  at += fl_round_up(count * (int64_t)sizeof(fl_layer), FL_ALIGN);
  model->weight_bytes = (int64_t)bytes - (at - (char *)memory);
  const int64_t lanes = model->kernels->lanes;
  for (int64_t i = 0; i < count; ++i) {
    fl_layer *layer = &model->layers[i];
    layer->inputs = layer_inputs(spec, i / spec->directions);
    divide_units(layer, spec->hidden_size, model->kernels);
    const layout part = layer_layout(spec, layer, layer->inputs, lanes);
    layer->w_x = at;
    layer->w_h = (char *)layer->w_x + part.w_x;
    layer->bias = (char *)layer->w_h + part.w_h;
    layer->t_x = (char *)layer->bias + part.bias;
    layer->t_h = (char *)layer->t_x + part.t_x;
    if (layer->units % lanes) memset(at, 0, (size_t)(part.w_x + part.w_h + part.bias));  // columns of padding
    at += layout_bytes(part);
  }
  model->panels = model->layers[0].full + (model->layers[0].tail != 0);
  model->vectors = 4 * model->layers[0].full + model->layers[0].tail;
  packing job = {
      .model = model, .weights = weights, .poll = poll, .poll_arg = poll_arg, .polled = poll ? fl_now() : 0};
  atomic_init(&job.status, FL_OK);
  fl_team_run(model->weight_bytes < ALONE_WEIGHTS ? 1 : threads, pack_share, &job);
  status = (fl_status)atomic_load(&job.status);
  if (status != FL_OK) return status;
  model->mark = FL_MODEL_MARK;
  *packed = model;
  return FL_OK;
}

void fl_model_assume_caches(fl_model *model, fl_cache_kind kind) { model->caches = fl_caches_of(kind); }

fl_panels fl_model_panels(const fl_model *model)
{
  const fl_layer *layer = &model->layers[0];
  return (fl_panels){model->kernels->lanes, layer->full, layer->tail, layer->chains};
}
