// SPDX-License-Identifier: BSD-3-Clause
// The backward pass: workers, layers from the last to the first, and the sums over parts of the batch.
#include <string.h>

#include "back.h"
#include "check.h"
#include "cpu.h"

// Gradients of the outputs of inner layers; two buffers by turns, sorted rows.
static rows_of inner_grads(const run *r, int64_t layer, int dir)
{
  const int64_t row = r->back_map.inner_stride * r->elem;
  char *base = r->space + r->back_map.inner + (layer & 1) * r->back_map.inner_bytes;
  return (rows_of){base + dir * r->model->spec.hidden_size * r->elem, r->plan->batch * row, row, 0, NULL};
}

static int64_t weight_count(const run *r, int64_t index)
{
  const fl_layer *layer = &r->model->layers[index];
  return layer->cell->gates * layer->units * (layer->inputs + layer->units);
}

// Weight gradients of one part, while there are several.
static char *part_gradients(const run *r, int64_t part, int64_t index)
{
  char *at = r->space + r->back_map.parts + part * r->back_map.part_bytes;
  for (int64_t i = 0; i < index; ++i) at += weight_count(r, i) * r->elem;
  return at;
}

static int run_layer(back_worker *b, int64_t layer, int dir)
{
  const run *r = b->w.r;
  const fl_back_io *io = r->back;
  const fl_spec *spec = &r->model->spec;
  const int last = layer == spec->num_layers - 1;
  back_segment s = {.index = layer * spec->directions + dir, .dir = dir, .add_dx = dir > 0};
  s.layer = &r->model->layers[s.index];
  s.x = layer == 0 ? fl_user_rows(r, io->x, io->x_t, io->x_b, 0) : fl_inner_rows(r, layer - 1, 0, 0);
  s.has_dy = !last || io->dy;
  s.has_dcells = last && io->dcells;
  s.has_dx = layer > 0 || io->dx;
  if (s.has_dy) s.dy = last ? fl_user_rows(r, io->dy, io->dy_t, io->dy_b, dir) : inner_grads(r, layer, dir);
  if (s.has_dcells) s.dcells = fl_user_rows(r, io->dcells, io->dcells_t, io->dcells_b, dir);
  if (s.has_dx)
    s.dx = layer > 0 ? inner_grads(r, layer - 1, 0) : fl_user_rows(r, io->dx, io->dx_t, io->dx_b, 0);
  if (io->gradients && r->plan->row_groups > 1) {
    s.dw_x = part_gradients(r, b->part, s.index);
    s.dw_h = (char *)s.dw_x + s.layer->cell->gates * s.layer->units * s.layer->inputs * r->elem;
  } else if (io->gradients) {
    s.dw_x = io->gradients[s.index].w_ih;
    s.dw_h = io->gradients[s.index].w_hh;
    s.add_dw = io->accumulate;
  }
  return fl_run_back_segment(b, &s);
}

static void run_worker(back_worker *b)
{
  const run *r = b->w.r;
  const fl_back_io *io = r->back;
  const fl_spec *spec = &r->model->spec;
  for (int64_t layer = spec->num_layers - 1; layer >= 0; --layer) {
    for (int dir = 0; dir < spec->directions; ++dir)
      if (run_layer(b, layer, dir)) return;
    if (layer > 0 && io->dropout > 0) {
      const rows_of rows = inner_grads(r, layer - 1, 0);
      const int64_t columns = spec->directions * spec->hidden_size, begin = fl_share(columns, b, b->unit);
      fl_drop(&b->w, &rows, layer - 1, 0, r->plan->steps, begin, fl_share(columns, b, b->unit + 1) - begin);
      fl_wait_for(&b->w, b->w.group);
    }
  }
  if (io->dx && io->lengths && b->unit == 0) {
    const rows_of rows = fl_user_rows(r, io->dx, io->dx_t, io->dx_b, 0);
    fl_zero_padding(&b->w, &rows, spec->input_size);
  }
}

static void start_worker(run *r, int64_t part, int32_t unit, int32_t units, int thread)
{
  const fl_plan *p = r->plan;
  const fl_back_map *map = &r->back_map;
  const int32_t columns = (r->model->unit_vectors + 1) / 2;
  back_worker b = {.part = part, .unit = unit, .units = units};
  b.column_begin = (int32_t)fl_share(columns, &b, unit);
  b.column_end = (int32_t)fl_share(columns, &b, unit + 1);
  b.prefetch = fl_dgrad_prefetch_of(r->model, b.column_end - b.column_begin);
  b.w = (worker){.r = r, .thread = thread};
  b.w.row_begin = fl_slice_begin(p->batch, p->row_groups, part);
  b.w.row_end = fl_slice_begin(p->batch, p->row_groups, part + 1);
  b.w.vector_begin = 2 * b.column_begin;
  b.w.vector_end = 2 * b.column_end < r->model->unit_vectors ? 2 * b.column_end : r->model->unit_vectors;
  b.w.team = b.w.group = units > 1 ? r->team : NULL;
  const int64_t team = units > 1 ? 0 : thread, rows = b.w.row_end - b.w.row_begin;
  b.grads = r->space + map->grads + team * map->grads_bytes;
  b.scratch = r->space + map->scratch + thread * map->scratch_bytes;
  b.x_at = (char **)(r->space + map->pointers) + thread * map->pointer_count;
  b.h_at = b.x_at + p->chunk_rows;
  b.dx_at = b.h_at + p->chunk_rows;
  b.x_now = b.dx_at + p->chunk_rows;
  b.dx_now = b.x_now + rows;
  b.dy_now = b.dx_now + rows;
  b.dc_now = b.dy_now + rows;
  run_worker(&b);
}

static void team_body(void *arg, int thread, int threads)
{
  run *r = arg;
  const fl_plan *p = r->plan;
  const uint32_t mode = fl_fp_enter();
  if (thread == 0) r->fp_mode = mode;
  if (threads == p->threads && p->unit_groups > 1) {
    start_worker(r, 0, thread, p->unit_groups, thread);
  } else {
    // Parts of the batch in turn; also if fewer threads came than were planned.
    for (int part = thread; part < p->row_groups; part += threads) start_worker(r, part, 0, 1, thread);
  }
  if (thread == 0 && p->threads > 1) r->finished = fl_now();
  fl_fp_leave(mode);
}

// out (+)= the sum of what the parts have at `in`, in their order. Strides and counts in elements.
static void sum_parts(const run *r, const char *in, int64_t part_bytes, int64_t count, void *out, int add)
{
  if (!add) memset(out, 0, (size_t)(count * r->elem));
  for (int part = 0; part < r->plan->row_groups; ++part) fl_add(r, out, in + part * part_bytes, count);
}

// Gradients of the weights, if parts have their own, and of the biases.
static void gather_gradients(const run *r)
{
  const fl_spec *spec = &r->model->spec;
  const int64_t indices = spec->num_layers * spec->directions, lanes = r->model->kernels->lanes;
  for (int64_t index = 0; index < indices; ++index) {
    const fl_layer *layer = &r->model->layers[index];
    const fl_gradients *out = &r->back->gradients[index];
    if (r->plan->row_groups > 1) {
      const int64_t inputs = layer->cell->gates * layer->units * layer->inputs;
      const char *in = part_gradients(r, 0, index);
      sum_parts(r, in, r->back_map.part_bytes, inputs, out->w_ih, r->back->accumulate);
      sum_parts(r, in + inputs * r->elem, r->back_map.part_bytes,
                layer->cell->gates * layer->units * layer->units, out->w_hh, r->back->accumulate);
    }
    for (int64_t unit = 0; unit < layer->units; unit += lanes) {
      const int64_t count = layer->units - unit < lanes ? layer->units - unit : lanes;
      for (int gate = 0; gate < layer->cell->gates; ++gate) {
        const char *in = fl_bias_sums(r, 0, index, 1) + (layer->cell->gates * unit + gate * lanes) * r->elem;
        const int64_t to = (gate * layer->units + unit) * r->elem,
                      apart = 2 * r->back_map.bias_bytes * indices;
        if (out->b_ih) sum_parts(r, in, apart, count, (char *)out->b_ih + to, r->back->accumulate);
        if (out->b_hh) sum_parts(r, in, apart, count, (char *)out->b_hh + to, r->back->accumulate);
      }
    }
  }
}

fl_status fl_backward(const fl_model *model, const fl_plan *plan, const fl_back_io *io, void *workspace)
{
  const fl_status status =
      io ? fl_check_run(model, plan, 1, io->lengths, io->starts, io->tape, workspace) : FL_INVALID;
  if (status != FL_OK) return status;
  if (fl_is_missing(plan, io->x)) return FL_INVALID;
  if (!model->cell->has_c && (io->dcells || io->dc_n || io->dc_0)) return FL_INVALID;
  run r = {.model = model,
           .plan = plan,
           .back = io,
           .space = workspace,
           .tape = (char *)io->tape,
           .elem = fl_elem(model->spec.dtype),
           .poll = io->poll,
           .poll_arg = io->poll_arg};
  fl_back_plan_map(model, plan, &r.back_map);
  fl_tape_plan(&model->spec, plan->steps, plan->batch, &r.tape_map);
  fl_run_team(&r, &r.back_map.common, io->lengths, team_body, io->late);
  if (atomic_load(&r.stop)) return FL_INTERRUPTED;
  const uint32_t mode = fl_fp_nearest();
  if (io->gradients) gather_gradients(&r);
  fl_fp_leave(mode);
  return FL_OK;
}
