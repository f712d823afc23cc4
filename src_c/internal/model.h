// SPDX-License-Identifier: BSD-3-Clause
// A packed model as plan/ and run/ see it.
#ifndef FL_MODEL_H
#define FL_MODEL_H

#include "fastlstm.h"
#include "internal/binding.h"
#include "platform/cpu.h"
#include "kernels/kernels.h"

// cells.c
const fl_cell *fl_cell_of(int32_t kind);         // of an fl_layer
int32_t fl_stage_of(const fastlstm_spec *spec);  // the kind of its layers, and of the first stage of a step
int32_t fl_second_kind(const fastlstm_spec *spec);  // of the second stage of its steps, 0: there is none
int64_t fl_weight_gates(const fl_cell *cell);       // blocks of H rows in the weights, of both stages

struct fastlstm_model {
  uint64_t mark;  // FL_MODEL_MARK once it is packed
  fastlstm_spec spec;
  const fl_cell *cell;
  const fl_kernels *kernels;
  fl_caches caches;
  int32_t panels;                         // of a layer, the remainder panel included
  int32_t vectors;                        // of a row of sums: 4 * full + remainder
  int32_t unit_vectors;                   // of H
  int64_t outputs;                        // width of h: H, or P where it is projected
  int32_t output_panels, output_vectors;  // likewise; of the second stage of a step, if there is one
  int32_t x_panels;                       // that x goes into, of both stages
  int64_t weight_bytes;
  fl_layer *layers;   // [layer * directions + direction]
  fl_layer *seconds;  // second stages, likewise, or NULL
};

#define FL_MODEL_MARK UINT64_C(0x4c54534c74736166)  // "fastLSTL"; memory never packed holds it by chance only

// stages.c: the stages of a layer's steps; `second` has no cell where there is none. Weights are not there
// yet.
void fl_make_stages(const fastlstm_spec *spec, int64_t inputs, const fl_kernels *kernels, fl_layer *first,
                    fl_layer *second);
int64_t fl_row_vectors(const fl_layer *layer);  // of a row of sums

// options.c: of the general LSTM, with `peepholes` and `norms` of a layer laid out already; names what
// FASTLSTM_USUAL is, and makes no clip an infinite one
void fl_pack_peepholes(const fl_layer *layer, const fastlstm_peepholes *p, int64_t lanes, int64_t elem);
void fl_pack_norms(const fl_layer *layer, const fastlstm_norms *n, const fastlstm_weights *w, int64_t elem);
void fl_spell_out(fastlstm_options *options);
int fl_has_noise(const fastlstm_options *options);
int fl_clips_before_noise(const fastlstm_options *options);  // h, of a projection

static inline int64_t fl_elem(fastlstm_dtype dtype) { return dtype == FASTLSTM_F64 ? 8 : 4; }

// Width of h: P of an LSTM with a projection, else H.
static inline int64_t fl_outputs(const fastlstm_spec *spec)
{
  return spec->proj_size ? spec->proj_size : spec->hidden_size;
}

// Whether one row of a layer may run in the cell's persistent kernel.
static inline int fl_is_persistent(const fastlstm_model *model)
{
  return !model->seconds && model->kernels->persistent[model->spec.cell] &&
         model->vectors <= model->kernels->persistent_vectors;
}

// Whether inputs must be projected ahead: by BLAS, or because a step takes sums of x apart from those of h.
static inline int fl_needs_ahead(const fastlstm_model *model)
{
  return model->spec.gemm_blas || model->cell->row_sums > FL_PANEL;
}

static inline int64_t fl_ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

static inline int64_t fl_round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

#endif
