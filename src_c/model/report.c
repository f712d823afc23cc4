// SPDX-License-Identifier: BSD-3-Clause
// What our own binding asks of a packed model, and what its tests pretend.
#include "internal/model.h"

void fl_model_assume_caches(fastlstm_model *model, fl_cache_kind kind) { model->caches = fl_caches_of(kind); }

fl_panels fl_model_panels(const fastlstm_model *model)
{
  const fl_layer *layer = &model->layers[0];
  const int32_t lanes = model->kernels->lanes, sums = layer->cell->sums;
  if (layer->cell->apart) {
    const int32_t units = lanes * fl_bundle_vectors(layer->cell), rest = (int32_t)(layer->units % units);
    const int32_t whole = (rest - 1) / lanes * lanes;  // of the rest, in unit vectors before the last one
    const int32_t room = whole + (layer->last == sums ? lanes : layer->last * lanes / FL_PANEL);
    return (fl_panels){.lanes = lanes,
                       .bundle = fl_bundle_panels(layer->cell),
                       .full = (int32_t)(layer->units / units),
                       .units = units,
                       .remainder = rest ? whole / lanes * sums + layer->last : 0,
                       .rest = rest ? room : 0,
                       .chains = layer->chains};
  }
  return (fl_panels){.lanes = lanes,
                     .bundle = 1,
                     .full = layer->full,
                     .units = lanes * FL_PANEL / sums,
                     .remainder = layer->remainder,
                     .rest = lanes * layer->remainder / sums,
                     .chains = layer->chains};
}
