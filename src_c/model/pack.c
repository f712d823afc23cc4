// SPDX-License-Identifier: BSD-3-Clause
// Weights -> panels: for the forward pass (layout in kernels/product/tile.inc.h) with the activation's scale
// folded in, for the backward pass transposed (kernels/product/dgrad.inc.h).
#include <stdatomic.h>
#include <string.h>

#include "internal/check.h"
#include "internal/model.h"
#include "platform/team.h"

static const int64_t CACHED_WEIGHTS = 16 << 20;  // bytes that a last-level cache may hold
static const int64_t ALONE_WEIGHTS = 1 << 20;    // bytes that one thread packs sooner than a team wakes

// Bytes of what one stage of one direction's steps packs.
typedef struct stage_bytes {
  int64_t w_x, w_h, bias, bias_h;  // for the forward pass
  int64_t wt_x, wt_h;              // for the backward pass
} stage_bytes;

// The forward parts of the first stage stand first, those of the second one behind them, then the others.
typedef struct layout {
  stage_bytes first, second;
  int64_t peepholes, norms;
} layout;

static int64_t layer_inputs(const fastlstm_spec *spec, int64_t layer)
{
  return layer == 0 ? spec->input_size : spec->directions * fl_outputs(spec);
}

// `reader`: the stage that reads what this one puts out. Sums of a stage that reads no x start from zeros,
// and one panel of them is enough.
static stage_bytes bytes_of_stage(const fastlstm_spec *spec, const fl_layer *stage, const fl_layer *reader,
                                  int64_t lanes)
{
  const int64_t elem = fl_elem(spec->dtype);
  const int forward = (spec->passes & FASTLSTM_PASS_FORWARD) != 0,
            backward = (spec->passes & FASTLSTM_PASS_BACKWARD) != 0;
  const int64_t sums = forward ? fl_row_vectors(stage) * lanes : 0, zeros = forward ? FL_PANEL * lanes : 0;
  const int64_t rows = backward ? stage->cell->gates * stage->units : 0,
                read = backward ? reader->cell->gates * reader->units : 0;
  return (stage_bytes){.w_x = fl_round_up(stage->inputs * sums * elem, FASTLSTM_ALIGN),
                       .w_h = fl_round_up(stage->w_h.inputs * sums * elem, FASTLSTM_ALIGN),
                       .bias = fl_round_up((stage->inputs ? sums : zeros) * elem, FASTLSTM_ALIGN),
                       .bias_h = stage->cell->apart ? fl_round_up(sums * elem, FASTLSTM_ALIGN) : 0,
                       .wt_x = fl_round_up(rows * fl_round_up(stage->inputs, lanes) * elem, FASTLSTM_ALIGN),
                       .wt_h = fl_round_up(read * fl_round_up(stage->units, lanes) * elem, FASTLSTM_ALIGN)};
}

static layout layer_layout(const fastlstm_spec *spec, const fl_layer *first, const fl_layer *second,
                           int64_t lanes)
{
  layout part = {.first = bytes_of_stage(spec, first, second->cell ? second : first, lanes)};
  if (second->cell) part.second = bytes_of_stage(spec, second, first, lanes);
  if (spec->options.peepholes)
    part.peepholes =
        fl_round_up(FL_PEEPHOLES * fl_round_up(first->units, lanes) * fl_elem(spec->dtype), FASTLSTM_ALIGN);
  const int64_t rows_of_norms = first->kind == FL_NORMED_SUMS       ? FL_NORM_ROWS
                                : first->kind == FL_NORMED_SEPARATE ? FL_SEPARATE_ROWS
                                                                    : 0;
  const int64_t elem = fl_elem(spec->dtype);
  part.norms = rows_of_norms * fl_row_units(first->units, elem) * elem;
  return part;
}

static int64_t forward_bytes(stage_bytes part) { return part.w_x + part.w_h + part.bias + part.bias_h; }

static int64_t backward_bytes(stage_bytes part) { return part.wt_x + part.wt_h; }

static int64_t layout_bytes(layout part)
{
  return forward_bytes(part.first) + forward_bytes(part.second) + backward_bytes(part.first) +
         backward_bytes(part.second) + part.peepholes + part.norms;
}

// Of a model's head: itself and its layers.
static int64_t head_bytes(const fastlstm_spec *spec)
{
  const int64_t count = spec->num_layers * spec->directions * (fl_second_kind(spec) ? 2 : 1);
  return fl_round_up(sizeof(fastlstm_model), FASTLSTM_ALIGN) +
         fl_round_up(count * (int64_t)sizeof(fl_layer), FASTLSTM_ALIGN);
}

static fastlstm_status bytes_of(const fastlstm_spec *spec, size_t *bytes)
{
  const fl_kernels *kernels = fl_kernels_for(spec->isa, spec->dtype);
  const double inputs = (double)spec->input_size + 2.0 * (double)spec->hidden_size;
  const double about = (double)spec->num_layers * 2 * 4 * ((double)spec->hidden_size + 32) * 8 * 2 *
                       (inputs + (double)spec->hidden_size + 64);
  if (about > 4e18) return FASTLSTM_TOO_LARGE;  // a bound of all products below
  fl_layer first, second;
  int64_t total = head_bytes(spec);
  for (int64_t l = 0; l < spec->num_layers && l < 2; ++l) {  // all layers after the first are alike
    fl_make_stages(spec, layer_inputs(spec, l), kernels, &first, &second);
    const layout part = layer_layout(spec, &first, &second, kernels->lanes);
    total += spec->directions * layout_bytes(part) * (l == 0 ? 1 : spec->num_layers - 1);
  }
  *bytes = (size_t)total;
  return FASTLSTM_OK;
}

fastlstm_status fastlstm_model_bytes(const fastlstm_spec *given, size_t *bytes)
{
  fastlstm_spec spec;
  const fastlstm_status status = bytes ? fl_take_spec(given, &spec) : FASTLSTM_INVALID;
  return status == FASTLSTM_OK ? bytes_of(&spec, bytes) : status;
}

static int64_t panels_of(const fl_layer *layer) { return layer->full + (layer->remainder != 0); }

// Where one gate of one unit vector stands in a row of sums, in elements: of the last unit vector, gates may
// share vectors.
static int64_t gate_place(const fl_layer *layer, int64_t lanes, int64_t vector, int gate)
{
  const int64_t sums = layer->cell->sums, vectors = FL_PANEL / sums, panel = vector / vectors;
  if (layer->cell->apart) {
    const int narrow = layer->last < sums && (vector + 1) * lanes > layer->units;
    return vector * sums * lanes + gate * (narrow ? layer->last * lanes / FL_PANEL : lanes);
  }
  const int64_t step = panel == layer->full ? layer->remainder * lanes / sums : lanes;
  return panel * FL_PANEL * lanes + vector % vectors * sums * lanes + gate * step;
}

// What the threads of a packing share.
typedef struct packing {
  const fastlstm_model *model;
  const fastlstm_weights *weights;
  const fastlstm_peepholes *peepholes;
  const fastlstm_norms *norms;
  fastlstm_poll *poll;
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
    if (stop) atomic_store(&job->status, FASTLSTM_INTERRUPTED);
    job->polled = fl_now();
  }
  return atomic_load_explicit(&job->status, memory_order_relaxed) != FASTLSTM_OK;
}

// Unit vectors [begin, end) of w (gates * H, inputs) -> out, for the forward pass, and transposed, for the
// backward pass, its gates in `order`; each may be NULL. Element (input k, column j of panel p) goes to
// out + p * 4 * lanes * inputs + k * (vectors of the panel) * lanes + j, or, if merged, to out + k * (vectors
// of a row) * lanes + p * 4 * lanes + j.
static void pack_matrix(packing *p, int thread, const fl_layer *layer, const void *w, int64_t inputs,
                        int merged, char *out, char *transposed, const fl_gate_order *order, int64_t begin,
                        int64_t end)
{
  const fastlstm_model *model = p->model;
  const fl_kernels *kernels = model->kernels;
  const int64_t lanes = kernels->lanes, elem = fl_elem(kernels->dtype), gates = layer->cell->gates;
  fl_pack job = {.inputs = inputs, .transposed = transposed, .transposed_rows = gates * layer->units};
  job.streaming = model->weight_bytes > CACHED_WEIGHTS;
  for (int64_t vector = begin; vector < end && !ended(p, thread); ++vector) {
    const int64_t left = layer->units - vector * lanes;
    job.rows = (int32_t)(left < lanes ? left : lanes);
    for (int i = 0; i < gates; ++i) {
      const int gate = order->gate[i];
      const int64_t place = gate_place(layer, lanes, vector, gate), panel = place / (FL_PANEL * lanes);
      const int64_t start = panel * FL_PANEL * lanes;  // of the panel in a row of sums
      job.stride = (merged                ? fl_row_vectors(layer)
                    : panel < layer->full ? FL_PANEL
                                          : layer->remainder) *
                   lanes;
      job.w = (const char *)w + (gate * layer->units + vector * lanes) * inputs * elem;
      job.scale = layer->cell->scale[gate];
      if (out) job.out = out + (merged ? place : start * inputs + place - start) * elem;
      job.first = gates * vector * lanes + i * job.rows;
      if (kernels->pack[layer->w_x.format](&job)) atomic_store(&p->status, FASTLSTM_OUT_OF_RANGE);
    }
  }
}

// The sum of two biases, each of which may be NULL.
static void pack_bias(packing *p, const fl_layer *layer, const void *a, const void *b, char *out)
{
  const fl_kernels *kernels = p->model->kernels;
  const int64_t lanes = kernels->lanes, elem = fl_elem(kernels->dtype);
  for (int64_t vector = 0; vector * lanes < layer->units; ++vector) {
    const int64_t left = layer->units - vector * lanes, count = left < lanes ? left : lanes;
    for (int gate = 0; gate < layer->cell->gates; ++gate) {
      const int64_t first = gate * layer->units + vector * lanes;
      char sums[FL_VECTOR_BYTES] __attribute__((aligned(FASTLSTM_ALIGN)));
      for (int64_t i = 0; i < count; ++i) {
        if (kernels->dtype == FASTLSTM_F64)
          ((double *)sums)[i] =
              (a ? ((const double *)a)[first + i] : 0) + (b ? ((const double *)b)[first + i] : 0);
        else
          ((float *)sums)[i] =
              (a ? ((const float *)a)[first + i] : 0) + (b ? ((const float *)b)[first + i] : 0);
      }
      const fl_pack job = {.w = sums,
                           .inputs = 1,
                           .rows = (int32_t)count,
                           .scale = layer->cell->scale[gate],
                           .out = out + gate_place(layer, lanes, vector, gate) * elem,
                           .stride = lanes};
      if (kernels->pack[FL_NATIVE](&job)) atomic_store(&p->status, FASTLSTM_OUT_OF_RANGE);
    }
  }
}

// Of a second stage: a projection's stand behind all others, those of another among the first stage's.
static fastlstm_weights weights_of_second(const fastlstm_spec *spec, const fl_layer *second,
                                          const fastlstm_weights *w, const fastlstm_weights *behind)
{
  if (second->kind == FL_PROJECTION) return (fastlstm_weights){.w_hh = behind->w_ih};
  const int64_t rows = second->cell->first_gate * second->units, elem = fl_elem(spec->dtype);
  return (fastlstm_weights){.w_ih = (const char *)w->w_ih + rows * second->inputs * elem,
                            .w_hh = (const char *)w->w_hh + rows * second->w_h.inputs * elem,
                            .b_ih = w->b_ih ? (const char *)w->b_ih + rows * elem : NULL,
                            .b_hh = w->b_hh ? (const char *)w->b_hh + rows * elem : NULL};
}

// A thread's share: some unit vectors of every layer. It rounds to nearest, whatever the caller does.
static void pack_share(void *arg, int thread, int threads)
{
  packing *job = arg;
  const fastlstm_spec *spec = &job->model->spec;
  const int forward = (spec->passes & FASTLSTM_PASS_FORWARD) != 0,
            backward = (spec->passes & FASTLSTM_PASS_BACKWARD) != 0;
  const uint32_t mode = fl_fp_nearest();
  if (thread == 0) job->fp_mode = mode;
  const int64_t layers = spec->num_layers * spec->directions;
  for (int64_t i = 0; i < layers && !ended(job, thread); ++i) {
    const fl_layer *layer = &job->model->layers[i];
    const fastlstm_weights *w = &job->weights[i];
    const int64_t vectors = job->model->unit_vectors;
    const int64_t begin = vectors * thread / threads, end = vectors * (thread + 1) / threads;
    pack_matrix(job, thread, layer, w->w_ih, layer->inputs, spec->gemm_blas,
                forward ? (char *)layer->w_x.data : NULL, backward ? (char *)layer->wt_x : NULL,
                &layer->cell->of_x, begin, end);
    const fl_layer *second = layer->second, *writer = second ? second : layer;  // of what w_hh reads
    pack_matrix(job, thread, layer, w->w_hh, job->model->outputs, 0, forward ? (char *)layer->w_h.data : NULL,
                backward ? (char *)writer->wt_h : NULL, &layer->cell->of_h, begin, end);
    fastlstm_weights of_second = {0};
    if (second) {
      const int64_t outputs = job->model->output_vectors;
      const int64_t from = outputs * thread / threads, to = outputs * (thread + 1) / threads;
      of_second = weights_of_second(spec, second, w, &w[layers]);
      if (of_second.w_ih)
        pack_matrix(job, thread, second, of_second.w_ih, second->inputs, 0,
                    forward ? (char *)second->w_x.data : NULL, backward ? (char *)second->wt_x : NULL,
                    &second->cell->of_x, from, to);
      pack_matrix(job, thread, second, of_second.w_hh, layer->units, 0,
                  forward ? (char *)second->w_h.data : NULL, backward ? (char *)layer->wt_h : NULL,
                  &second->cell->of_h, from, to);
    }
    if (thread != 0) continue;
    if (layer->peepholes)
      fl_pack_peepholes(layer, &job->peepholes[i], job->model->kernels->lanes, fl_elem(spec->dtype));
    if (layer->norms) fl_pack_norms(layer, &job->norms[i], w, fl_elem(spec->dtype));
    if (!forward || layer->norms) continue;
    pack_bias(job, layer, w->b_ih, layer->cell->apart ? NULL : w->b_hh, (char *)layer->bias);
    if (layer->cell->apart) pack_bias(job, layer, NULL, w->b_hh, (char *)layer->bias_h);
    if (second && second->inputs)
      pack_bias(job, second, of_second.b_ih, of_second.b_hh, (char *)second->bias);
  }
  fl_fp_leave(mode);
}

// Where the parts of a stage stand. Zeros stand where no weight will: in columns of padding, and where there
// is no bias.
static void place_stage(fl_layer *stage, stage_bytes part, int64_t lanes, char *forward, char *backward)
{
  stage->w_x.data = forward;
  stage->w_h.data = forward + part.w_x;
  stage->bias = (const char *)stage->w_h.data + part.w_h;
  stage->bias_h = stage->cell->apart ? (const char *)stage->bias + part.bias : NULL;
  stage->wt_x = backward;
  stage->wt_h = backward + part.wt_x;
  if (!stage->inputs) memset((char *)stage->bias, 0, (size_t)part.bias);
  if (fl_row_vectors(stage) * lanes != stage->cell->sums * stage->units)
    memset(forward, 0, (size_t)forward_bytes(part));
}

// The head of a model, with all that is known before its weights are packed. Padding is zero then.
static fastlstm_model *lay_out(const fastlstm_spec *spec, void *memory, size_t bytes)
{
  const int64_t count = spec->num_layers * spec->directions, head = head_bytes(spec);
  fastlstm_model *model = memory;
  model->mark = 0;
  model->spec = *spec;
  model->spec.peepholes = NULL;  // the caller's
  model->spec.norms = NULL;
  fl_spell_out(&model->spec.options);
  model->cell = fl_cell_of(fl_stage_of(spec));
  model->kernels = fl_kernels_for(spec->isa, spec->dtype);
  model->caches = fl_caches_of(FL_CACHES_OF_CPU);
  model->layers = (fl_layer *)((char *)memory + fl_round_up(sizeof(fastlstm_model), FASTLSTM_ALIGN));
  model->seconds = fl_second_kind(spec) ? model->layers + count : NULL;
  model->weight_bytes = (int64_t)bytes - head;
  model->outputs = fl_outputs(spec);
  const int64_t lanes = model->kernels->lanes;
  char *at = (char *)memory + head;
  for (int64_t i = 0; i < count; ++i) {
    fl_layer *layer = &model->layers[i], second;
    fl_make_stages(spec, layer_inputs(spec, i / spec->directions), model->kernels, layer, &second);
    const layout part = layer_layout(spec, layer, &second, lanes);
    char *behind = at + forward_bytes(part.first), *backward = behind + forward_bytes(part.second);
    place_stage(layer, part.first, lanes, at, backward);
    layer->options = &model->spec.options;
    if (part.peepholes) layer->peepholes = at + layout_bytes(part) - part.norms - part.peepholes;
    if (part.norms) layer->norms = at + layout_bytes(part) - part.norms;
    if (part.norms) memset((char *)layer->bias, 0, (size_t)part.first.bias);  // no bias is normalised
    if (model->seconds) {
      place_stage(&second, part.second, lanes, behind, backward + backward_bytes(part.first));
      second.options = layer->options;
      second.reader = layer;
      model->seconds[i] = second;
      layer->second = layer->reader = &model->seconds[i];
    }
    at += layout_bytes(part);
  }
  const fl_layer *writer = model->seconds ? model->seconds : model->layers;
  model->panels = (int32_t)panels_of(&model->layers[0]);
  model->vectors = (int32_t)fl_row_vectors(&model->layers[0]);
  model->unit_vectors = (int32_t)fl_ceil_div(spec->hidden_size, lanes);
  model->output_panels = (int32_t)panels_of(writer);
  model->x_panels = model->panels + (model->seconds && writer->inputs ? model->output_panels : 0);
  model->output_vectors = (int32_t)fl_ceil_div(model->outputs, lanes);
  return model;
}

fastlstm_status fastlstm_model_pack(const fastlstm_spec *given, const fastlstm_weights *weights, void *memory,
                                    int32_t threads, fastlstm_poll *poll, void *poll_arg,
                                    fastlstm_model **packed)
{
  size_t bytes = 0;
  if (!packed) return FASTLSTM_INVALID;
  *packed = NULL;
  if (threads < 1) return FASTLSTM_INVALID;
  fastlstm_spec spec;
  fastlstm_status status = fl_take_spec(given, &spec);
  if (status == FASTLSTM_OK) status = bytes_of(&spec, &bytes);
  if (status == FASTLSTM_OK) status = fl_check_weights(&spec, weights, memory);
  if (status != FASTLSTM_OK) return status;
  fastlstm_model *model = lay_out(&spec, memory, bytes);
  packing job = {.model = model,
                 .weights = weights,
                 .peepholes = spec.peepholes,
                 .norms = spec.norms,
                 .poll = poll,
                 .poll_arg = poll_arg,
                 .polled = poll ? fl_now() : 0};
  atomic_init(&job.status, FASTLSTM_OK);
  fl_team_run(model->weight_bytes < ALONE_WEIGHTS ? 1 : threads, pack_share, &job);
  status = (fastlstm_status)atomic_load(&job.status);
  if (status != FASTLSTM_OK) return status;
  model->mark = FL_MODEL_MARK;
  *packed = model;
  return FASTLSTM_OK;
}
