// SPDX-License-Identifier: BSD-3-Clause
// Weights -> panels (layout in kernels/tile.inc.h), with the activation's scale folded in.
#include <float.h>
#include <math.h>
#include <string.h>

#include "model.h"

#define LOG2E 1.44269504088896340736

// The recurrent sum of a small layer runs in two chains, else one row could not hide the latency
// of its multiply-adds. A function of H alone: it fixes the order of summation everywhere.
static int32_t chains_of(int64_t units) { return units <= 24 ? 2 : 1; }

static void divide_units(fl_layer *layer, int64_t units, int64_t lanes)
{
  const int64_t rest = units % lanes;
  layer->units = units;
  layer->chains = chains_of(units);
  layer->full = (int32_t)(units / lanes);
  layer->tail = rest == 0 ? 0 : rest * 4 <= lanes ? 1 : rest * 2 <= lanes ? 2 : 0;
  if (rest != 0 && layer->tail == 0) layer->full += 1;
}

typedef struct layout {
  int64_t w_x, w_h, bias;  // bytes of one direction's parts
} layout;

static int64_t layer_inputs(const fl_spec *spec, int64_t layer)
{
  return layer == 0 ? spec->input_size : spec->directions * spec->hidden_size;
}

static layout layer_layout(const fl_layer *layer, int64_t inputs, int64_t lanes, int64_t elem)
{
  const int64_t gates = (4 * (int64_t)layer->full + layer->tail) * lanes;
  return (layout){fl_round_up(inputs * gates * elem, FL_ALIGN),
                  fl_round_up(layer->units * gates * elem, FL_ALIGN), fl_round_up(gates * elem, FL_ALIGN)};
}

fl_status fl_model_bytes(const fl_spec *spec, size_t *bytes)
{
  const fl_kernels *kernels = fl_kernels_for(spec->isa, spec->dtype);
  const int64_t limit = INT64_C(1) << 31;  // of each size; their products are checked in floating point
  const double inputs = (double)spec->input_size + 2.0 * (double)spec->hidden_size;
  const double about = (double)spec->num_layers * 2 * 4 * ((double)spec->hidden_size + 32) * 8 *
                       (inputs + (double)spec->hidden_size + 64);
  if (spec->input_size >= limit || spec->hidden_size >= limit / 8 || spec->num_layers >= limit ||
      about > 4e18)
    return FL_TOO_LARGE;
  fl_layer layer = {0};
  divide_units(&layer, spec->hidden_size, kernels->lanes);
  const int64_t elem = fl_elem(spec->dtype), count = spec->num_layers * spec->directions;
  int64_t total =
      fl_round_up(sizeof(fl_model), FL_ALIGN) + fl_round_up(count * (int64_t)sizeof(fl_layer), FL_ALIGN);
  for (int64_t l = 0; l < spec->num_layers && l < 2; ++l) {  // all layers after the first are alike
    const layout part = layer_layout(&layer, layer_inputs(spec, l), kernels->lanes, elem);
    total += spec->directions * (part.w_x + part.w_h + part.bias) * (l == 0 ? 1 : spec->num_layers - 1);
  }
  *bytes = (size_t)total;
  return FL_OK;
}

static double read_real(const void *array, int64_t i, fl_dtype dtype)
{
  return dtype == FL_F64 ? ((const double *)array)[i] : (double)((const float *)array)[i];
}

// Stores scale * value, saturated: a finite weight stays finite, or 0 times it would be NaN.
static void write_scaled(void *array, int64_t i, fl_dtype dtype, double scale, double value)
{
  const double limit = dtype == FL_F64 ? DBL_MAX : (double)FLT_MAX, product = scale * value;
  const double kept = isfinite(value) && fabs(product) > limit ? copysign(limit, product) : product;
  if (dtype == FL_F64)
    ((double *)array)[i] = kept;
  else
    ((float *)array)[i] = (float)kept;
}

// Where the gates of unit u stand in a row of gates: element of gate 0, and the step to the next gate.
static int64_t gate_column(const fl_layer *layer, int64_t lanes, int64_t unit, int64_t *step)
{
  const int64_t panel = unit / lanes;
  *step = panel < layer->full ? lanes : layer->tail * lanes / 4;
  return panel * 4 * lanes + unit % lanes;
}

// w (4H, inputs) -> out. Element (input k, column j of panel p) at p * panel_stride + k * row + j.
static void pack_matrix(const fl_layer *layer, int64_t lanes, fl_dtype dtype, const void *w, int64_t inputs,
                        int merged, void *out)
{
  const int64_t vectors = 4 * (int64_t)layer->full + layer->tail;
  for (int64_t unit = 0; unit < layer->units; ++unit) {
    int64_t gate_step;
    const int64_t panel = unit / lanes, column = gate_column(layer, lanes, unit, &gate_step);
    const int64_t width = panel < layer->full ? 4 * lanes : layer->tail * lanes;
    for (int gate = 0; gate < 4; ++gate) {
      const double scale = gate == 2 ? -2 * LOG2E : -LOG2E;
      const int64_t source = (gate * layer->units + unit) * inputs;
      const int64_t row = merged ? vectors * lanes : width;
      int64_t at = merged ? column + gate * gate_step
                          : panel * inputs * 4 * lanes + column % (4 * lanes) + gate * gate_step;
      for (int64_t k = 0; k < inputs; ++k, at += row)
        write_scaled(out, at, dtype, scale, read_real(w, source + k, dtype));
    }
  }
}

static void pack_bias(const fl_layer *layer, int64_t lanes, fl_dtype dtype, const fl_weights *w, void *out)
{
  for (int64_t unit = 0; unit < layer->units; ++unit) {
    int64_t gate_step;
    const int64_t column = gate_column(layer, lanes, unit, &gate_step);
    for (int gate = 0; gate < 4; ++gate) {
      const int64_t i = gate * layer->units + unit;
      const double sum =
          (w->b_ih ? read_real(w->b_ih, i, dtype) : 0) + (w->b_hh ? read_real(w->b_hh, i, dtype) : 0);
      write_scaled(out, column + gate * gate_step, dtype, gate == 2 ? -2 * LOG2E : -LOG2E, sum);
    }
  }
}

fl_model *fl_model_pack(const fl_spec *spec, const fl_weights *weights, void *memory)
{
  const int64_t elem = fl_elem(spec->dtype), count = spec->num_layers * spec->directions;
  char *at = memory;
  fl_model *model = (fl_model *)at;
  at += fl_round_up(sizeof(fl_model), FL_ALIGN);
  model->spec = *spec;
  model->kernels = fl_kernels_for(spec->isa, spec->dtype);
  model->layers = (fl_layer *)at;
  at += fl_round_up(count * (int64_t)sizeof(fl_layer), FL_ALIGN);
  const char *first = at;
  const int64_t lanes = model->kernels->lanes;
  for (int64_t i = 0; i < count; ++i) {
    fl_layer *layer = &model->layers[i];
    layer->inputs = layer_inputs(spec, i / spec->directions);
    divide_units(layer, spec->hidden_size, lanes);
    const layout part = layer_layout(layer, layer->inputs, lanes, elem);
    memset(at, 0, (size_t)(part.w_x + part.w_h + part.bias));  // columns of padding
    layer->w_x = at;
    layer->w_h = at + part.w_x;
    layer->bias = at + part.w_x + part.w_h;
    pack_matrix(layer, lanes, spec->dtype, weights[i].w_ih, layer->inputs, spec->gemm_blas, at);
    pack_matrix(layer, lanes, spec->dtype, weights[i].w_hh, layer->units, 0, at + part.w_x);
    pack_bias(layer, lanes, spec->dtype, &weights[i], at + part.w_x + part.w_h);
    at += part.w_x + part.w_h + part.bias;
  }
  model->panels = model->layers[0].full + (model->layers[0].tail != 0);
  model->vectors = 4 * model->layers[0].full + model->layers[0].tail;
  model->weight_bytes = at - first;
  return model;
}

fl_panels fl_model_panels(const fl_model *model)
{
  const fl_layer *layer = &model->layers[0];
  return (fl_panels){model->kernels->lanes, layer->full, layer->tail, layer->chains};
}
