// SPDX-License-Identifier: BSD-3-Clause
// The backward pass: workers, layers from the last to the first, and the sums over shards of the batch.
#include <string.h>

#include "internal/backward.h"
#include "internal/check.h"
#include "platform/cpu.h"

// Gradients of the outputs of inner layers; two buffers by turns, sorted rows.
static rows_of inner_grads(const run *r, int64_t layer, int dir)
{
  const int64_t row = r->back_layout.inner_stride * r->elem;
  char *base = r->space + r->back_layout.inner + (layer & 1) * r->back_layout.inner_bytes;
  return (rows_of){base + dir * r->model->outputs * r->elem, r->plan->batch * row, row, 0, NULL};
}

// Elements of the weights of one layer and direction: those that read x, those that read h, a projection.
typedef struct weight_counts {
  int64_t x, h, m;
} weight_counts;

static weight_counts count_weights(const run *r, int64_t layer_dir)
{
  const fl_layer *layer = &r->model->layers[layer_dir];
  const int64_t rows = fl_weight_gates(layer->cell) * layer->units;
  return (weight_counts){rows * layer->inputs, rows * r->model->outputs,
                         r->model->spec.proj_size * layer->units};
}

// Weight gradients of one shard, where there are several shards.
static char *shard_gradients(const run *r, int64_t shard, int64_t layer_dir)
{
  char *at = r->space + r->back_layout.shards + shard * r->back_layout.shard_bytes;
  for (int64_t i = 0; i < layer_dir; ++i) {
    const weight_counts counts = count_weights(r, i);
    at += (counts.x + counts.h + counts.m) * r->elem;
  }
  return at;
}

static int run_layer(back_worker *b, int64_t layer, int dir)
{
  const run *r = b->w.r;
  const fastlstm_back_io *io = r->back;
  const fastlstm_spec *spec = &r->model->spec;
  const int last = layer == spec->num_layers - 1;
  back_segment s = {.layer_dir = layer * spec->directions + dir, .dir = dir, .add_dx = dir > 0};
  s.layer = &r->model->layers[s.layer_dir];
  s.x = layer > 0            ? fl_inner_rows(r, layer - 1, 0, 0)
        : fl_masks_inputs(r) ? fl_masked_inputs(r)
                             : fl_user_rows(r, io->x, io->x_t, io->x_b, 0);
  s.has_dy = !last || io->dy;
  s.has_dcells = last && io->dcells;
  s.has_dx = layer > 0 || io->dx;
  if (s.has_dy)
    s.dy = last ? fl_user_rows(r, io->dy, io->dy_t, io->dy_b, dir * r->model->outputs)
                : inner_grads(r, layer, dir);
  if (s.has_dcells)
    s.dcells = fl_user_rows(r, io->dcells, io->dcells_t, io->dcells_b, dir * spec->hidden_size);
  if (s.has_dx)
    s.dx = layer > 0 ? inner_grads(r, layer - 1, 0) : fl_user_rows(r, io->dx, io->dx_t, io->dx_b, 0);
  if (io->gradients && r->plan->row_groups > 1) {
    s.dw_x = shard_gradients(r, b->shard, s.layer_dir);
    const weight_counts counts = count_weights(r, s.layer_dir);
    s.dw_h = (char *)s.dw_x + counts.x * r->elem;
    s.dw_second_h = (char *)s.dw_h + counts.h * r->elem;
  } else if (io->gradients) {
    s.dw_x = io->gradients[s.layer_dir].w_ih;
    s.dw_h = io->gradients[s.layer_dir].w_hh;
    if (spec->proj_size)
      s.dw_second_h = io->gradients[spec->num_layers * spec->directions + s.layer_dir].w_ih;
    s.add_dw = io->accumulate;
  }
  const fl_layer *second = s.layer->second;
  if (io->gradients && second && second->inputs) {  // its rows follow those of the first stage
    const int64_t rows = second->cell->first_gate * second->units;
    s.dw_second_x = (char *)s.dw_x + rows * second->inputs * r->elem;
    s.dw_second_h = (char *)s.dw_h + rows * second->w_h.inputs * r->elem;
  }
  return fl_run_back_segment(b, &s);
}

// Dropout of what a layer reads, of its gradients: each of those that share the rows takes some columns.
static void drop_gradients(const back_worker *b, int64_t layer)
{
  const run *r = b->w.r;
  const fastlstm_back_io *io = r->back;
  const fastlstm_spec *spec = &r->model->spec;
  const rows_of rows =
      layer > 0 ? inner_grads(r, layer - 1, 0) : fl_user_rows(r, io->dx, io->dx_t, io->dx_b, 0);
  const int64_t columns = layer > 0 ? spec->directions * r->model->outputs : spec->input_size;
  const int64_t begin = fl_share(columns, b, b->share), count = fl_share(columns, b, b->share + 1) - begin;
  if (layer > 0 && io->dropout > 0)
    fl_drop(&b->w, &rows, FL_DROPOUT, layer - 1, 0, r->plan->steps, begin, count);
  if (fl_masks_inputs(r)) fl_drop(&b->w, &rows, FL_INPUT_DROPOUT, layer, 0, r->plan->steps, begin, count);
  fl_wait_for(&b->w, b->w.group);
}

static void run_worker(back_worker *b)
{
  const run *r = b->w.r;
  const fastlstm_back_io *io = r->back;
  const fastlstm_spec *spec = &r->model->spec;
  for (int64_t layer = spec->num_layers - 1; layer >= 0; --layer) {
    for (int dir = 0; dir < spec->directions; ++dir)
      if (run_layer(b, layer, dir)) return;
    if (layer > 0 ? io->dropout > 0 || fl_masks_inputs(r) : io->dx && fl_masks_inputs(r))
      drop_gradients(b, layer);
  }
  if (io->dx && io->lengths && b->share == 0) {
    const rows_of rows = fl_user_rows(r, io->dx, io->dx_t, io->dx_b, 0);
    fl_zero_padding(&b->w, &rows, spec->input_size);
  }
}

static int32_t least(int32_t a, int32_t b) { return a < b ? a : b; }

static void start_worker(run *r, int64_t shard, int32_t share, int32_t shares, int thread)
{
  const fastlstm_plan *p = r->plan;
  const fl_back_layout *map = &r->back_layout;
  const int32_t columns = (r->model->unit_vectors + 1) / 2, outputs = (r->model->output_vectors + 1) / 2;
  back_worker b = {.shard = shard, .share = share, .shares = shares};
  b.column_begin = (int32_t)fl_share(columns, &b, share);
  b.column_end = (int32_t)fl_share(columns, &b, share + 1);
  b.output_column_begin = (int32_t)fl_share(outputs, &b, share);
  b.output_column_end = (int32_t)fl_share(outputs, &b, share + 1);
  const fl_layer *layer = &r->model->layers[0];  // all are alike in what their outputs go to
  b.prefetch = fl_dgrad_prefetch_of(r->model, fl_reader(layer), b.column_end - b.column_begin);
  b.output_prefetch = fl_dgrad_prefetch_of(r->model, layer, b.output_column_end - b.output_column_begin);
  b.w = (worker){.r = r, .thread = thread};
  b.w.row_begin = fl_slice_begin(p->batch, p->row_groups, shard);
  b.w.row_end = fl_slice_begin(p->batch, p->row_groups, shard + 1);
  b.w.vector_begin = 2 * b.column_begin;
  b.w.vector_end = least(2 * b.column_end, r->model->unit_vectors);
  b.w.output_begin = 2 * b.output_column_begin;
  b.w.output_end = least(2 * b.output_column_end, r->model->output_vectors);
  b.w.team = b.w.group = shares > 1 ? r->team : NULL;
  const int64_t team = shares > 1 ? 0 : thread, rows = b.w.row_end - b.w.row_begin;
  b.grads = r->space + map->grads + team * map->grads_bytes;
  b.scratch = r->space + map->scratch + thread * map->scratch_bytes;
  b.x_at = (char **)(r->space + map->pointers) + thread * map->pointer_count;
  b.h_at = b.x_at + p->chunk_rows;
  b.m_at = b.h_at + p->chunk_rows;
  b.dx_at = b.m_at + p->chunk_rows;
  b.x_now = b.dx_at + p->chunk_rows;
  b.dx_now = b.x_now + rows;
  b.dy_now = b.dx_now + rows;
  b.dc_now = b.dy_now + rows;
  run_worker(&b);
}

static void team_body(void *arg, int thread, int threads)
{
  run *r = arg;
  const fastlstm_plan *p = r->plan;
  const uint32_t mode = fl_fp_enter();
  if (thread == 0) r->fp_mode = mode;
  if (threads == p->threads && p->unit_groups > 1) {
    start_worker(r, 0, thread, p->unit_groups, thread);
  } else {
    // Shards of the batch in turn; also if fewer threads came than were planned.
    for (int shard = thread; shard < p->row_groups; shard += threads) start_worker(r, shard, 0, 1, thread);
  }
  if (thread == 0 && p->threads > 1) r->finished = fl_now();
  fl_fp_leave(mode);
}

// out (+)= the sum of what the shards have at `in`, in their order. Strides and counts in elements.
static void sum_shards(const run *r, const char *in, int64_t shard_bytes, int64_t count, void *out, int add)
{
  if (!add) memset(out, 0, (size_t)(count * r->elem));
  for (int shard = 0; shard < r->plan->row_groups; ++shard) fl_add(r, out, in + shard * shard_bytes, count);
}

// Gradients of one bias, or NULL, for `count` units from `unit` on, from those of the shards at `in`.
static void gather_bias(const run *r, const char *in, const fl_layer *layer, const fl_gate_order *order,
                        int64_t unit, int64_t count, void *out)
{
  const int64_t lanes = r->model->kernels->lanes,
                layer_dirs = r->model->spec.num_layers * r->model->spec.directions;
  for (int i = 0; out && i < layer->cell->gates; ++i) {
    const int64_t before = layer->cell->first_gate;
    char *to = (char *)out + ((before + order->gate[i]) * layer->units + unit) * r->elem;
    sum_shards(r, in + (before + order->first + i) * lanes * r->elem,
               2 * r->back_layout.bias_bytes * layer_dirs, count, to, r->back->accumulate);
  }
}

// Gradients of the peepholes, likewise.
static void gather_peepholes(const run *r, const char *in, int64_t layer_dir, int64_t unit, int64_t count)
{
  const fastlstm_peephole_gradients *out = &r->back->peepholes[layer_dir];
  void *const to[] = {out->i, out->f, out->o};
  const int64_t layer_dirs = r->model->spec.num_layers * r->model->spec.directions;
  for (int i = 0; i < FL_PEEPHOLES; ++i)
    sum_shards(r, in + i * r->model->kernels->lanes * r->elem, 2 * r->back_layout.bias_bytes * layer_dirs,
               count, (char *)to[i] + unit * r->elem, r->back->accumulate);
}

// `parts` gradients of what normalises, likewise.
static void gather_norm(const run *r, const char *in, int parts, const fl_layer *layer, int64_t unit,
                        int64_t count, void *out)
{
  const int64_t layer_dirs = r->model->spec.num_layers * r->model->spec.directions;
  for (int i = 0; i < parts; ++i)
    sum_shards(r, in + i * r->model->kernels->lanes * r->elem, 2 * r->back_layout.bias_bytes * layer_dirs,
               count, (char *)out + (i * layer->units + unit) * r->elem, r->back->accumulate);
}

static void gather_norms(const run *r, const char *in, const fl_layer *layer, int64_t layer_dir, int64_t unit,
                         int64_t count)
{
  const fastlstm_norm_gradients *out = &r->back->norms[layer_dir];
  const int64_t vector_bytes = r->model->kernels->lanes * r->elem;
  if (layer->kind == FL_NORMED_SUMS) {
    gather_norm(r, in, 4, layer, unit, count, out->n);
    return;
  }
  gather_norm(r, in, 4, layer, unit, count, out->nx);
  gather_norm(r, in + 4 * vector_bytes, 4, layer, unit, count, out->nh);
  gather_norm(r, in + 8 * vector_bytes, 1, layer, unit, count, out->nc);
  gather_norm(r, in + 9 * vector_bytes, 1, layer, unit, count, out->bias_nc);
}

// Gradients of the weights, if shards have their own, and of the biases.
static void gather_gradients(const run *r)
{
  const fastlstm_spec *spec = &r->model->spec;
  const int64_t layer_dirs = spec->num_layers * spec->directions, lanes = r->model->kernels->lanes;
  for (int64_t layer_dir = 0; layer_dir < layer_dirs; ++layer_dir) {
    const fl_layer *layer = &r->model->layers[layer_dir];
    const fastlstm_gradients *out = &r->back->gradients[layer_dir];
    if (r->plan->row_groups > 1) {
      const weight_counts counts = count_weights(r, layer_dir);
      const int64_t apart = r->back_layout.shard_bytes;
      const char *in = shard_gradients(r, 0, layer_dir);
      sum_shards(r, in, apart, counts.x, out->w_ih, r->back->accumulate);
      in += counts.x * r->elem;
      sum_shards(r, in, apart, counts.h, out->w_hh, r->back->accumulate);
      in += counts.h * r->elem;
      if (spec->proj_size) sum_shards(r, in, apart, counts.m, out[layer_dirs].w_ih, r->back->accumulate);
    }
    for (int64_t unit = 0; unit < layer->units; unit += lanes) {
      const int64_t count = layer->units - unit < lanes ? layer->units - unit : lanes;
      const char *in = fl_bias_sums(r, 0, layer_dir, 1) + layer->cell->unit_sums * unit * r->elem;
      gather_bias(r, in, layer, &layer->cell->of_x, unit, count, out->b_ih);
      // Where sums are normalised, biases come after that, and have the same gradients.
      const fl_gate_order *of_h = layer->norms ? &layer->cell->of_x : &layer->cell->of_h;
      gather_bias(r, in, layer, of_h, unit, count, out->b_hh);
      if (layer->second && layer->second->inputs) {
        gather_bias(r, in, layer->second, &layer->second->cell->of_x, unit, count, out->b_ih);
        gather_bias(r, in, layer->second, &layer->second->cell->of_h, unit, count, out->b_hh);
      }
      in += layer->cell->gates * lanes * r->elem;
      if (layer->peepholes) gather_peepholes(r, in, layer_dir, unit, count);
      if (layer->norms) gather_norms(r, in + FL_PEEPHOLES * lanes * r->elem, layer, layer_dir, unit, count);
    }
  }
}

fastlstm_status fastlstm_backward(const fastlstm_model *model, const fastlstm_plan *plan,
                                  const fastlstm_back_io *given, void *workspace)
{
  fastlstm_back_io taken;
  const fastlstm_back_io *const io = &taken;
  const fastlstm_status status = fl_take_backward(model, plan, given, workspace, &taken);
  if (status != FASTLSTM_OK) return status;
  run r = {.model = model,
           .plan = plan,
           .back = io,
           .space = workspace,
           .tape = (char *)io->tape,
           .elem = fl_elem(model->spec.dtype),
           .poll = io->poll,
           .poll_arg = io->poll_arg};
  fl_back_layout_of(model, plan, &r.back_layout);
  fl_tape_layout_of(&model->spec, plan->steps, plan->batch, &r.tape_layout);
  fl_set_masks(&r, io->dropout, io->seed, io->noisy);
  fl_run_team(&r, &r.back_layout.common, io->lengths, team_body, io->straggled);
  if (atomic_load(&r.stop)) return FASTLSTM_INTERRUPTED;
  const uint32_t mode = fl_fp_nearest();
  if (io->gradients) gather_gradients(&r);
  fl_fp_leave(mode);
  return FASTLSTM_OK;
}
