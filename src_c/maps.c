// SPDX-License-Identifier: BSD-3-Clause
// Where everything stands in workspaces and tapes.
#include <string.h>

#include "check.h"
#include "plan.h"
#include "team.h"

static const int64_t CACHED_TAPE = 16 << 20;  // bytes that a last-level cache may hold until backward
static const double LARGEST = 1e18;           // bytes that offsets can still count

static int64_t take(double *total, double bytes)
{
  const double at = *total;
  *total += bytes + (FL_ALIGN - 1);
  return at < 9e18 ? fl_round_up((int64_t)at, FL_ALIGN) : 0;
}

static fl_common_map take_common(double *total, const fl_plan *plan)
{
  const double rows = 8 * (double)plan->batch;
  fl_common_map map = {.barriers = take(total, (double)sizeof(fl_barrier) * (plan->threads + 1))};
  map.order = take(total, rows);
  map.lengths = take(total, rows);
  map.counts = take(total, 8 * ((double)plan->steps + 2));
  return map;
}

// Elements between rows of h: rows a multiple of 4096 bytes apart would all fall into one set of the
// cache.
static int64_t h_stride(int64_t width, fl_dtype dtype) { return width + 64 / fl_elem(dtype); }

static int64_t inner_stride(const fl_spec *spec)
{
  return fl_round_up(spec->directions * spec->hidden_size, 16) + 16;
}

int fl_plan_map(const fl_model *model, const fl_plan *plan, fl_map *map)
{
  const fl_spec *spec = &model->spec;
  const double elem = (double)fl_elem(spec->dtype), batch = (double)plan->batch;
  const double lanes = model->kernels->lanes;
  const int64_t width = (int64_t)model->unit_vectors * model->kernels->lanes;
  const double rows_per_group = (double)fl_ceil_div(plan->batch, plan->row_groups);
  const int blas = spec->gemm_blas;
  memset(map, 0, sizeof *map);
  map->h_stride = h_stride(width, spec->dtype);
  const int64_t outputs = spec->directions * spec->hidden_size;
  map->inner_stride = inner_stride(spec);
  const double h_bytes = batch * (double)map->h_stride * elem;
  const double c_bytes = model->cell->has_c ? batch * (double)model->unit_vectors * lanes * elem : 0;
  const double projected = (double)plan->project_steps * batch;
  const double gates = projected * FL_PANEL * (double)model->panels * lanes * elem;
  double widest = (double)(spec->num_layers > 1 && outputs > spec->input_size ? outputs : spec->input_size);
  const double gathered = blas ? (double)plan->project_steps * rows_per_group * widest * elem : 0;
  const double pointers = (double)plan->project_steps * rows_per_group + 3 * rows_per_group;
  const int taped = plan->purpose != FL_INFER;  // states and inner outputs are on the tape
  const double inner_steps = spec->directions == 2 ? (double)plan->steps : (double)plan->block_steps;
  const double inner =
      spec->num_layers > 1 && !taped ? inner_steps * batch * (double)map->inner_stride * elem : 0;
  if (h_bytes > LARGEST || c_bytes > LARGEST || gates > LARGEST || gathered > LARGEST || pointers > LARGEST ||
      inner > LARGEST || (double)plan->steps > LARGEST)
    return 0;
  map->h_bytes = fl_round_up((int64_t)h_bytes, FL_ALIGN);
  map->c_bytes = fl_round_up((int64_t)c_bytes, FL_ALIGN);
  map->state_bytes = 2 * map->h_bytes + map->c_bytes;
  map->gates_bytes = fl_round_up((int64_t)gates, FL_ALIGN);
  map->gathered_bytes = fl_round_up((int64_t)gathered, FL_ALIGN);
  map->sums_bytes = model->caches.block_bytes
                        ? model->kernels->blocked_rows * FL_PANEL * (int64_t)lanes * fl_elem(spec->dtype)
                        : 0;
  map->pointer_count = fl_round_up((int64_t)pointers, FL_ALIGN / 8);
  map->inner_bytes = fl_round_up((int64_t)inner, FL_ALIGN);

  double total = 0;
  const double threads = plan->threads;
  map->common = take_common(&total, plan);
  map->state =
      take(&total, taped ? 0 : (double)map->state_bytes * (double)(spec->num_layers * spec->directions));
  map->gates = take(&total, (double)map->gates_bytes * plan->dir_groups);
  map->gathered = take(&total, (double)map->gathered_bytes);
  map->sums = take(&total, (double)map->sums_bytes * threads);
  map->pointers = take(&total, 8 * (double)map->pointer_count * threads);
  map->inner = take(&total, 2 * (double)map->inner_bytes);
  if (total > LARGEST) return 0;
  map->total = (int64_t)total + FL_ALIGN;
  return 1;
}

int fl_tape_plan(const fl_spec *spec, int64_t steps, int64_t batch, fl_tape_map *map)
{
  const double elem = (double)fl_elem(spec->dtype), lanes = fl_kernels_for(spec->isa, spec->dtype)->lanes;
  const int64_t width = fl_round_up(spec->hidden_size, (int64_t)lanes);
  memset(map, 0, sizeof *map);
  map->h_stride = h_stride(width, spec->dtype);
  map->inner_stride = inner_stride(spec);
  const fl_cell *cell = fl_cell_of(spec->cell);
  const double vector_step = (double)batch * (double)width * elem, c_step = cell->has_c ? vector_step : 0;
  const double h_step = (double)batch * (double)map->h_stride * elem;
  const double inner = (double)steps * (double)batch * (double)map->inner_stride * elem;
  const double one = (cell->saved * vector_step + c_step + h_step) * ((double)steps + 1) + 3 * FL_ALIGN;
  const double count = (double)(spec->num_layers * spec->directions);
  if (one * count + (inner + FL_ALIGN) * (double)spec->num_layers > LARGEST) return 0;
  map->c_step = (int64_t)c_step;
  map->saved_step = cell->saved * (int64_t)vector_step;
  map->h_step = (int64_t)h_step;
  map->c = fl_round_up(map->saved_step * steps, FL_ALIGN);
  map->h = map->c + fl_round_up(map->c_step * (steps + 1), FL_ALIGN);
  map->index_bytes = map->h + fl_round_up(map->h_step * (steps + 1), FL_ALIGN);
  map->inner = map->index_bytes * spec->num_layers * spec->directions;
  map->inner_bytes = fl_round_up((int64_t)inner, FL_ALIGN);
  map->total = map->inner + map->inner_bytes * (spec->num_layers - 1) + FL_ALIGN;
  map->streaming = map->total > CACHED_TAPE;
  return 1;
}

fl_status fl_tape_bytes(const fl_spec *spec, int64_t steps, int64_t batch, size_t *bytes)
{
  fl_status status = bytes ? fl_check_spec(spec) : FL_INVALID;
  if (status == FL_OK) status = fl_check_extent(spec, FL_TRAIN, steps, batch);
  if (status != FL_OK) return status;
  fl_tape_map map;
  if (!fl_tape_plan(spec, steps, batch, &map)) return FL_TOO_LARGE;
  *bytes = (size_t)map.total;
  return FL_OK;
}

int fl_back_plan_map(const fl_model *model, const fl_plan *plan, fl_back_map *map)
{
  const fl_spec *spec = &model->spec;
  const double elem = (double)fl_elem(spec->dtype), batch = (double)plan->batch;
  const int64_t lanes = model->kernels->lanes, vectors = model->unit_vectors, gates = model->cell->gates;
  const double vector = (double)lanes * elem, chunk = (double)plan->chunk_rows;
  const double teams = plan->unit_groups > 1 ? 1 : plan->threads;  // that work apart from each other
  const double rows = (double)fl_ceil_div(plan->batch, plan->row_groups);
  const int64_t outputs = spec->directions * spec->hidden_size;
  const double inner =
      spec->num_layers > 1 ? (double)plan->steps * batch * (double)inner_stride(spec) * elem : 0;
  double weights = 0;  // weight gradients of a part
  for (int64_t l = 0; l < spec->num_layers && l < 2; ++l) {
    const double inputs = (double)(l == 0 ? spec->input_size : outputs);
    weights += (double)(gates * outputs) * (inputs + (double)spec->hidden_size) *
               (l == 0 ? 1 : (double)(spec->num_layers - 1));
  }
  memset(map, 0, sizeof *map);
  map->inner_stride = inner_stride(spec);
  map->dh_stride = vectors * lanes;
  // A chunk, and a step. An odd number of vectors, so that rows of different gates fall into different sets
  // of the cache.
  const double grads_rows = chunk + rows + 1;
  const double grads = (double)(gates * vectors) * (grads_rows + 1) * vector;
  if (grads > LARGEST || inner > LARGEST || batch * (double)vectors * vector > LARGEST ||
      weights * elem > LARGEST || chunk * FL_WGRAD_SCRATCH * vector > LARGEST)
    return 0;
  map->grads_stride = ((int64_t)grads_rows | 1) * lanes;
  map->grads_bytes = fl_round_up(gates * vectors * map->grads_stride * (int64_t)elem, FL_ALIGN);
  map->scratch_bytes = fl_round_up((int64_t)(chunk * FL_WGRAD_SCRATCH * vector), FL_ALIGN);
  map->pointer_count = fl_round_up((int64_t)(3 * chunk + 4 * rows), FL_ALIGN / 8);
  map->inner_bytes = fl_round_up((int64_t)inner, FL_ALIGN);
  map->bias_bytes = fl_round_up((int64_t)((double)(gates * vectors) * vector), FL_ALIGN);
  map->part_bytes = plan->row_groups > 1 ? fl_round_up((int64_t)(weights * elem), FL_ALIGN) : 0;

  const double threads = plan->threads, parts = plan->row_groups;
  const double indices = (double)(spec->num_layers * spec->directions);
  double total = 0;
  map->common = take_common(&total, plan);
  map->dc = take(&total, model->cell->has_c ? batch * (double)vectors * vector : 0);
  map->dh_last = take(&total, batch * (double)map->dh_stride * elem);
  map->bias = take(&total, 2 * (double)map->bias_bytes * parts * indices);
  map->grads = take(&total, (double)map->grads_bytes * teams);
  map->scratch = take(&total, (double)map->scratch_bytes * threads);
  map->pointers = take(&total, 8 * (double)map->pointer_count * threads);
  map->parts = take(&total, (double)map->part_bytes * parts);
  map->inner = take(&total, 2 * (double)map->inner_bytes);
  if (total > LARGEST) return 0;
  map->total = (int64_t)total + FL_ALIGN;
  return 1;
}
