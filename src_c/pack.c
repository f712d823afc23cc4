// SPDX-License-Identifier: BSD-3-Clause
// Weights -> panels: for the forward pass (layout in kernels/tile.inc.h) with the activation's scale
// folded in, for the backward pass transposed (kernels/back.inc.h).
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
  const fl_kernels *kernels = fl_kernels_for(spec->isa, spec->dtype);
  const int64_t limit = INT64_C(1) << 31;  // of each size; their products are checked in floating point
  const double inputs = (double)spec->input_size + 2.0 * (double)spec->hidden_size;
  const double about = (double)spec->num_layers * 2 * 4 * ((double)spec->hidden_size + 32) * 8 * 2 *
                       (inputs + (double)spec->hidden_size + 64);
  if (spec->input_size >= limit || spec->hidden_size >= limit / 8 || spec->num_layers >= limit ||
      about > 4e18)
    return FL_TOO_LARGE;
  fl_layer layer = {0};
  divide_units(&layer, spec->hidden_size, kernels->lanes);
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

// w (4H, inputs) -> out. Element (input k, column j of panel p) at p * panel_stride + k * row + j.
static void pack_matrix(const fl_kernels *kernels, const fl_layer *layer, const void *w, int64_t inputs,
                        int merged, void *out)
{
  const int64_t lanes = kernels->lanes, elem = fl_elem(kernels->dtype);
  const int64_t vectors = 4 * (int64_t)layer->full + layer->tail;
  for (int64_t panel = 0; panel < panels_of(layer); ++panel) {
    const int64_t step = gate_step(layer, lanes, panel), left = layer->units - panel * lanes;
    const int64_t row = merged ? vectors * lanes : 4 * step,
                  first = panel * 4 * lanes * (merged ? 1 : inputs);
    for (int gate = 0; gate < 4; ++gate)
      kernels->pack((const char *)w + (gate * layer->units + panel * lanes) * inputs * elem, inputs,
                    (int)(left < lanes ? left : lanes), gate_scale(gate),
                    (char *)out + (first + gate * step) * elem, row);
  }
}

static void pack_bias(const fl_kernels *kernels, const fl_layer *layer, const fl_weights *w, void *out)
{
  const int64_t lanes = kernels->lanes;
  for (int64_t unit = 0; unit < layer->units; ++unit) {
    const int64_t panel = unit / lanes;
    for (int gate = 0; gate < 4; ++gate) {
      const int64_t i = gate * layer->units + unit;
      const int64_t at = panel * 4 * lanes + unit % lanes + gate * gate_step(layer, lanes, panel);
      // Summed in the array's own type: the rounding that the reference would do.
      if (kernels->dtype == FL_F64) {
        const double sum =
            (w->b_ih ? ((const double *)w->b_ih)[i] : 0) + (w->b_hh ? ((const double *)w->b_hh)[i] : 0);
        kernels->pack(&sum, 1, 1, gate_scale(gate), (double *)out + at, 1);
      } else {
        const float sum =
            (w->b_ih ? ((const float *)w->b_ih)[i] : 0) + (w->b_hh ? ((const float *)w->b_hh)[i] : 0);
        kernels->pack(&sum, 1, 1, gate_scale(gate), (float *)out + at, 1);
      }
    }
  }
}

// w (4H, columns) -> panels of two vectors of columns; rows in the order of the gate gradients.
static void pack_transposed(const fl_kernels *kernels, const fl_layer *layer, const char *w, int64_t columns,
                            char *out)
{
  const int64_t lanes = kernels->lanes, elem = fl_elem(kernels->dtype), units = layer->units;
  for (int64_t column = 0; column < columns; column += 2 * lanes) {
    const int64_t left = columns - column, width = left > lanes ? 2 * lanes : lanes;
    const size_t bytes = (size_t)((left < width ? left : width) * elem);
    for (int64_t unit = 0; unit < units; unit += lanes) {
      const int64_t end = unit + lanes < units ? unit + lanes : units;
      for (int gate = 0; gate < 4; ++gate) {
        for (int64_t u = unit; u < end; ++u, out += width * elem) {
          memcpy(out, w + ((gate * units + u) * columns + column) * elem, bytes);
          if (left < width) memset(out + bytes, 0, (size_t)(width * elem) - bytes);
        }
      }
    }
  }
}

fl_model *fl_model_pack(const fl_spec *spec, const fl_weights *weights, void *memory)
{
  const int64_t count = spec->num_layers * spec->directions;
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
    const layout part = layer_layout(spec, layer, layer->inputs, lanes);
    layer->w_x = at;
    layer->w_h = (char *)layer->w_x + part.w_x;
    layer->bias = (char *)layer->w_h + part.w_h;
    layer->t_x = (char *)layer->bias + part.bias;
    layer->t_h = (char *)layer->t_x + part.t_x;
    if (spec->passes & FL_PASS_FORWARD) {
      if (layer->units % lanes)
        memset(at, 0, (size_t)(part.w_x + part.w_h + part.bias));  // columns of padding
      pack_matrix(model->kernels, layer, weights[i].w_ih, layer->inputs, spec->gemm_blas, (char *)layer->w_x);
      pack_matrix(model->kernels, layer, weights[i].w_hh, layer->units, 0, (char *)layer->w_h);
      pack_bias(model->kernels, layer, &weights[i], (char *)layer->bias);
    }
    if (spec->passes & FL_PASS_BACKWARD) {
      pack_transposed(model->kernels, layer, weights[i].w_ih, layer->inputs, (char *)layer->t_x);
      pack_transposed(model->kernels, layer, weights[i].w_hh, layer->units, (char *)layer->t_h);
    }
    at += layout_bytes(part);
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
