// SPDX-License-Identifier: BSD-3-Clause
// The stages of a layer's steps, before they have weights: how their units stand in panels, and what their
// products read.
#include "internal/model.h"

// The recurrent sum of a small layer runs in two chains, else one row could not hide the latency
// of its multiply-adds. A function of H alone: it fixes the order of summation everywhere.
static int32_t chains_of(int64_t units) { return units <= 24 ? 2 : 1; }

// Units into panels. What is left over gets a remainder panel where that saves products: where the gates of
// the units fit into one vector or two, or the vectors of units of a cell with one sum are one or two, or
// the vectors that are left of one with three.
static void divide_units(fl_layer *layer, int32_t kind, int64_t units, const fl_kernels *kernels)
{
  const int64_t lanes = kernels->lanes;
  layer->cell = fl_cell_of(kind);
  layer->kind = kind;
  layer->units = units;
  layer->chains = layer->cell->apart ? 1 : chains_of(units);
  if (layer->cell->apart) {
    const int64_t left = units % lanes, sums = layer->cell->sums;
    layer->last = left == 0                      ? (int32_t)sums
                  : FL_PANEL * left <= lanes     ? 1
                  : FL_PANEL * left <= 2 * lanes ? 2
                                                 : 3;
    const int64_t all = sums * (fl_ceil_div(units, lanes) - 1) + layer->last;
    layer->full = (int32_t)(all / FL_PANEL) + (all % FL_PANEL > 2);
    layer->remainder = all % FL_PANEL > 2 ? 0 : (int32_t)(all % FL_PANEL);
    return;
  }
  const int64_t panel = lanes * FL_PANEL / layer->cell->sums, rest = units % panel;
  const int64_t vectors = fl_ceil_div(rest * layer->cell->sums, lanes);  // that the sums of the rest fill
  layer->full = (int32_t)(units / panel) + (vectors > 2);
  layer->remainder = vectors > 2 ? 0 : (int32_t)vectors;
}

int64_t fl_row_vectors(const fl_layer *layer) { return FL_PANEL * (int64_t)layer->full + layer->remainder; }

void fl_make_stages(const fastlstm_spec *spec, int64_t inputs, const fl_kernels *kernels, fl_layer *first,
                    fl_layer *second)
{
  const int32_t kind = fl_second_kind(spec);
  const fl_matrix native = {.format = FL_NATIVE, .interleave = 1};
  *first = (fl_layer){.inputs = inputs, .w_x = native, .w_h = native};
  *second = (fl_layer){.w_x = native, .w_h = native};
  first->w_x.inputs = inputs;
  first->w_h.inputs = fl_outputs(spec);
  divide_units(first, fl_stage_of(spec), spec->hidden_size, kernels);
  if (!kind) return;
  second->inputs = second->w_x.inputs = kind == FL_PROJECTION ? 0 : inputs;
  second->w_h.inputs = spec->hidden_size;
  divide_units(second, kind, fl_outputs(spec), kernels);
}
