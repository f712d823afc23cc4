// SPDX-License-Identifier: BSD-3-Clause
// Where everything stands in workspaces and tapes.
#include <string.h>

#include "internal/check.h"
#include "internal/plan.h"
#include "platform/team.h"

static const int64_t CACHED_TAPE = 16 << 20;  // bytes that a last-level cache may hold until backward
static const double LARGEST = 1e18;           // bytes that offsets can still count

static int64_t take(double *total, double bytes)
{
  const double at = *total;
  *total += bytes + (FASTLSTM_ALIGN - 1);
  return at < 9e18 ? fl_round_up((int64_t)at, FASTLSTM_ALIGN) : 0;
}

static fl_common_layout take_common(double *total, const fastlstm_plan *plan)
{
  const double rows = 8 * (double)plan->batch;
  fl_common_layout layout = {.barriers = take(total, (double)sizeof(fl_barrier) * (plan->threads + 1))};
  layout.order = take(total, rows);
  layout.lengths = take(total, rows);
  layout.counts = take(total, 8 * ((double)plan->steps + 2));
  return layout;
}

// Elements between rows of h: rows a multiple of 4096 bytes apart would all fall into one set of the
// cache.
static int64_t h_stride(int64_t width, fastlstm_dtype dtype) { return width + 64 / fl_elem(dtype); }

static int64_t inner_stride(const fastlstm_spec *spec)
{
  return fl_round_up(spec->directions * fl_outputs(spec), 16) + 16;
}

int fl_run_layout_of(const fastlstm_model *model, const fastlstm_plan *plan, fl_run_layout *layout)
{
  const fastlstm_spec *spec = &model->spec;
  const double elem = (double)fl_elem(spec->dtype), batch = (double)plan->batch;
  const double lanes = model->kernels->lanes;
  const int64_t width = (int64_t)model->unit_vectors * model->kernels->lanes;
  const double rows_per_group = (double)fl_ceil_div(plan->batch, plan->row_groups);
  const int blas = spec->gemm_blas;
  memset(layout, 0, sizeof *layout);
  layout->h_stride = h_stride(width, spec->dtype);
  const int64_t outputs = spec->directions * model->outputs;
  layout->inner_stride = inner_stride(spec);
  const double h_bytes = batch * (double)layout->h_stride * elem;
  const double c_bytes = model->cell->has_c ? batch * (double)model->unit_vectors * lanes * elem : 0;
  const double projected =
      (double)plan->project_steps * batch * FL_PANEL * (double)model->x_panels * lanes * elem;
  const int activations = model->cell->second ? model->cell->activations : 0;  // that a second stage reads
  const double activations_bytes = activations * batch * (double)width * elem;
  double widest = (double)(spec->num_layers > 1 && outputs > spec->input_size ? outputs : spec->input_size);
  const double gathered = blas ? (double)plan->project_steps * rows_per_group * widest * elem : 0;
  const double pointers = (double)plan->project_steps * rows_per_group + 4 * rows_per_group;
  const int taped = plan->purpose != FASTLSTM_INFER;  // states and inner outputs are on the tape
  const double inner_steps = spec->directions == 2 ? (double)plan->steps : (double)plan->block_steps;
  const double inner =
      spec->num_layers > 1 && !taped ? inner_steps * batch * (double)layout->inner_stride * elem : 0;
  if (h_bytes > LARGEST || c_bytes > LARGEST || activations_bytes > LARGEST || projected > LARGEST ||
      gathered > LARGEST || pointers > LARGEST || inner > LARGEST || (double)plan->steps > LARGEST)
    return 0;
  layout->h_bytes = fl_round_up((int64_t)h_bytes, FASTLSTM_ALIGN);
  layout->c_bytes = fl_round_up((int64_t)c_bytes, FASTLSTM_ALIGN);
  layout->activations_bytes = fl_round_up((int64_t)activations_bytes, FASTLSTM_ALIGN);
  layout->state_bytes =
      (model->seconds ? 3 : 2) * layout->h_bytes + layout->c_bytes + layout->activations_bytes;
  layout->projected_bytes = fl_round_up((int64_t)projected, FASTLSTM_ALIGN);
  layout->gathered_bytes = fl_round_up((int64_t)gathered, FASTLSTM_ALIGN);
  layout->sums_bytes = fl_sums_rows(model->kernels, model->cell, model->caches.block_bytes > 0) * FL_PANEL *
                       (int64_t)lanes * fl_elem(spec->dtype);
  layout->row_sums = layout->sums_bytes;
  const int64_t most = model->kernels->blocked_rows, rows = fl_ceil_div(plan->batch, plan->row_groups);
  layout->sums_bytes += (rows < most ? rows : most) * model->cell->row_sums *
                        fl_row_units(spec->hidden_size, fl_elem(spec->dtype)) * fl_elem(spec->dtype);
  layout->pointer_count = fl_round_up((int64_t)pointers, FASTLSTM_ALIGN / 8);
  layout->inner_bytes = fl_round_up((int64_t)inner, FASTLSTM_ALIGN);

  double total = 0;
  const double threads = plan->threads;
  layout->common = take_common(&total, plan);
  layout->state =
      take(&total, taped ? 0 : (double)layout->state_bytes * (double)(spec->num_layers * spec->directions));
  layout->projected = take(&total, (double)layout->projected_bytes * plan->dir_groups);
  layout->gathered = take(&total, (double)layout->gathered_bytes);
  layout->sums = take(&total, (double)layout->sums_bytes * threads);
  layout->pointers = take(&total, 8 * (double)layout->pointer_count * threads);
  layout->inner = take(&total, 2 * (double)layout->inner_bytes);
  if (total > LARGEST) return 0;
  layout->total = (int64_t)total + FASTLSTM_ALIGN;
  return 1;
}

int fl_tape_layout_of(const fastlstm_spec *spec, int64_t steps, int64_t batch, fl_tape_layout *layout)
{
  const double elem = (double)fl_elem(spec->dtype), lanes = fl_kernels_for(spec->isa, spec->dtype)->lanes;
  const int64_t width = fl_round_up(spec->hidden_size, (int64_t)lanes);
  memset(layout, 0, sizeof *layout);
  layout->h_stride = h_stride(width, spec->dtype);
  layout->inner_stride = inner_stride(spec);
  const fl_cell *cell = fl_cell_of(fl_stage_of(spec));
  const double vector_step = (double)batch * (double)width * elem, c_step = cell->has_c ? vector_step : 0;
  const double h_step = (double)batch * (double)layout->h_stride * elem,
               m_step = fl_second_kind(spec) ? h_step : 0,
               whole = spec->options.variational_dropout > 0 ? h_step : 0,
               new_c = spec->options.zoneout_c > 0 ? c_step : 0,
               new_h = fl_clips_before_noise(&spec->options) ? h_step : 0;
  const double inner = (double)steps * (double)batch * (double)layout->inner_stride * elem;
  const double one =
      (cell->activations * vector_step + c_step + h_step + m_step + new_c + new_h) * ((double)steps + 1) +
      whole + 7 * FASTLSTM_ALIGN;
  layout->x_stride = fl_round_up(spec->input_size, 16) + 16;
  const double masked =
      spec->options.input_dropout > 0 ? (double)steps * (double)batch * (double)layout->x_stride * elem : 0;
  const double count = (double)(spec->num_layers * spec->directions);
  if (one * count + (inner + FASTLSTM_ALIGN) * (double)spec->num_layers + masked > LARGEST) return 0;
  layout->c_step = (int64_t)c_step;
  layout->activations_step = cell->activations * (int64_t)vector_step;
  layout->h_step = (int64_t)h_step;
  layout->c = fl_round_up(layout->activations_step * steps, FASTLSTM_ALIGN);
  layout->h = layout->c + fl_round_up(layout->c_step * (steps + 1), FASTLSTM_ALIGN);
  layout->m = layout->h + fl_round_up(layout->h_step * (steps + 1), FASTLSTM_ALIGN);
  layout->whole = layout->m + fl_round_up((int64_t)m_step * steps, FASTLSTM_ALIGN);
  layout->new_c = layout->whole + fl_round_up((int64_t)whole, FASTLSTM_ALIGN);
  layout->new_h = layout->new_c + fl_round_up((int64_t)new_c * steps, FASTLSTM_ALIGN);
  layout->layer_dir_bytes = layout->new_h + fl_round_up((int64_t)new_h * steps, FASTLSTM_ALIGN);
  layout->inner = layout->layer_dir_bytes * spec->num_layers * spec->directions;
  layout->inner_bytes = fl_round_up((int64_t)inner, FASTLSTM_ALIGN);
  layout->x = layout->inner + layout->inner_bytes * (spec->num_layers - 1);
  layout->total = layout->x + (int64_t)masked + FASTLSTM_ALIGN;
  layout->streaming = layout->total > CACHED_TAPE;
  return 1;
}

fastlstm_status fastlstm_tape_bytes(const fastlstm_spec *given, int64_t steps, int64_t batch, size_t *bytes)
{
  fastlstm_spec spec;
  fastlstm_status status = bytes ? fl_take_spec(given, &spec) : FASTLSTM_INVALID;
  if (status == FASTLSTM_OK) status = fl_check_extent(&spec, FASTLSTM_TRAIN, steps, batch);
  if (status != FASTLSTM_OK) return status;
  fl_tape_layout layout;
  if (!fl_tape_layout_of(&spec, steps, batch, &layout)) return FASTLSTM_TOO_LARGE;
  *bytes = (size_t)layout.total;
  return FASTLSTM_OK;
}

int fl_back_layout_of(const fastlstm_model *model, const fastlstm_plan *plan, fl_back_layout *layout)
{
  const fastlstm_spec *spec = &model->spec;
  const double elem = (double)fl_elem(spec->dtype), batch = (double)plan->batch;
  const int64_t lanes = model->kernels->lanes, vectors = model->unit_vectors;
  const int64_t gates = fl_weight_gates(model->cell);
  // Of the gradients that are kept of a row: of the gates, and of the second stage, which keeps one of a
  // unit.
  const int64_t of_gates = model->cell->grads * vectors;
  const int64_t kept = of_gates + (model->seconds ? model->output_vectors : 0);
  const double vector_bytes = (double)lanes * elem, chunk = (double)plan->chunk_rows;
  const double teams = plan->unit_groups > 1 ? 1 : plan->threads;  // that work apart from each other
  const double rows = (double)fl_ceil_div(plan->batch, plan->row_groups);
  const int64_t outputs = spec->directions * model->outputs, units = spec->directions * spec->hidden_size;
  const double inner =
      spec->num_layers > 1 ? (double)plan->steps * batch * (double)inner_stride(spec) * elem : 0;
  double weights = 0;  // weight gradients of a shard
  for (int64_t l = 0; l < spec->num_layers && l < 2; ++l) {
    const double inputs = (double)(l == 0 ? spec->input_size : outputs);
    weights += ((double)(gates * units) * (inputs + (double)model->outputs) +
                (double)units * (double)spec->proj_size) *
               (l == 0 ? 1 : (double)(spec->num_layers - 1));
  }
  memset(layout, 0, sizeof *layout);
  layout->inner_stride = inner_stride(spec);
  layout->dh_stride = vectors * lanes;
  // Columns of gate gradients: a chunk's rows and one step's; odd, so that rows of different gates fall into
  // different sets of the cache.
  const double grads_rows = chunk + rows + 1;
  const double grads = (double)kept * (grads_rows + 1) * vector_bytes;
  if (grads > LARGEST || inner > LARGEST || batch * (double)vectors * vector_bytes > LARGEST ||
      weights * elem > LARGEST || chunk * FL_WGRAD_SCRATCH * vector_bytes > LARGEST)
    return 0;
  layout->grads_stride = ((int64_t)grads_rows | 1) * lanes;
  layout->second = of_gates * layout->grads_stride * (int64_t)elem;
  layout->grads_bytes = fl_round_up(kept * layout->grads_stride * (int64_t)elem, FASTLSTM_ALIGN);
  layout->scratch_bytes = fl_round_up((int64_t)(chunk * FL_WGRAD_SCRATCH * vector_bytes), FASTLSTM_ALIGN);
  const int64_t space =
      FL_NORM_SPACE * fl_row_units(spec->hidden_size, fl_elem(spec->dtype)) * fl_elem(spec->dtype);
  if (model->cell->row_sums && space > layout->scratch_bytes) layout->scratch_bytes = space;
  layout->pointer_count = fl_round_up((int64_t)(4 * chunk + 4 * rows), FASTLSTM_ALIGN / 8);
  layout->inner_bytes = fl_round_up((int64_t)inner, FASTLSTM_ALIGN);
  layout->bias_bytes =
      fl_round_up((int64_t)((double)(model->cell->unit_sums * vectors) * vector_bytes), FASTLSTM_ALIGN);
  layout->shard_bytes = plan->row_groups > 1 ? fl_round_up((int64_t)(weights * elem), FASTLSTM_ALIGN) : 0;

  const double threads = plan->threads, shards = plan->row_groups;
  const double layer_dirs = (double)(spec->num_layers * spec->directions);
  double total = 0;
  layout->common = take_common(&total, plan);
  const int carries = model->cell->has_c || model->cell->carries_h;
  layout->dc = take(&total, carries ? batch * (double)vectors * vector_bytes : 0);
  layout->dh_last = take(&total, batch * (double)layout->dh_stride * elem);
  layout->bias = take(&total, 2 * (double)layout->bias_bytes * shards * layer_dirs);
  layout->grads = take(&total, (double)layout->grads_bytes * teams);
  layout->scratch = take(&total, (double)layout->scratch_bytes * threads);
  layout->pointers = take(&total, 8 * (double)layout->pointer_count * threads);
  layout->shards = take(&total, (double)layout->shard_bytes * shards);
  layout->inner = take(&total, 2 * (double)layout->inner_bytes);
  if (total > LARGEST) return 0;
  layout->total = (int64_t)total + FASTLSTM_ALIGN;
  return 1;
}
