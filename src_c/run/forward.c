// SPDX-License-Identifier: BSD-3-Clause
// The team, its workers, and the order in which they go through blocks, layers and directions.
#include <string.h>

#include "internal/check.h"
#include "platform/cpu.h"
#include "internal/run.h"

// All threads may leave after so many layers of a block at the latest, however short its steps are.
enum { LAYERS_A_POLL = 64 };

// Dropout of what a segment has put out, for the layer that reads it. Each worker drops what it wrote itself;
// h of the tape stays whole.
static void drop_outputs(const worker *w, const segment *s, fl_mask_kind kind, int64_t place, int64_t t_begin,
                         int64_t t_end)
{
  const run *r = w->r;
  const int64_t lanes = r->model->kernels->lanes, outputs = r->model->outputs;
  const int64_t begin = w->output_begin * lanes;
  const int64_t end = w->output_end * lanes < outputs ? w->output_end * lanes : outputs;
  const int64_t shift = s->dir * outputs;
  rows_of rows = s->y;
  rows.base -= shift * r->elem;
  if (!s->dir)
    fl_drop(w, &rows, kind, place, t_begin, t_end - t_begin, begin, end - begin);
  else if (t_end == r->plan->steps)  // its steps run against time: once all are there
    fl_drop(w, &rows, kind, place, 0, r->plan->steps, shift + begin, end - begin);
  fl_wait_for(w, w->group);
}

static void run_layer(const worker *w, int64_t layer, int dir, int64_t t_begin, int64_t t_end)
{
  const run *r = w->r;
  const fastlstm_io *io = r->io;
  const fastlstm_spec *spec = &r->model->spec;
  const int last = layer == spec->num_layers - 1;
  segment s = {
      .layer_dir = layer * spec->directions + dir, .dir = dir, .has_cells = last && io->cells != NULL};
  s.layer = &r->model->layers[s.layer_dir];
  s.x = layer > 0            ? fl_inner_rows(r, layer - 1, 0, t_begin)
        : fl_masks_inputs(r) ? fl_masked_inputs(r)
                             : fl_user_rows(r, io->x, io->x_t, io->x_b, 0);
  s.y = last ? fl_user_rows(r, io->y, io->y_t, io->y_b, dir * r->model->outputs)
             : fl_inner_rows(r, layer, dir, t_begin);
  if (s.has_cells) s.cells = fl_user_rows(r, io->cells, io->cells_t, io->cells_b, dir * spec->hidden_size);
  fl_run_segment(w, &s, t_begin, t_end);
  if (io->dropout > 0 && !last) drop_outputs(w, &s, FL_DROPOUT, layer, t_begin, t_end);
  if (fl_masks_inputs(r) && !last) drop_outputs(w, &s, FL_INPUT_DROPOUT, layer + 1, t_begin, t_end);
}

// Steps past the end of a sequence, in the columns of the worker's directions, `columns` each.
static void zero_padding(const worker *w, const void *base, int64_t t_stride, int64_t b_stride,
                         int64_t columns)
{
  const run *r = w->r;
  if (!base || !r->io->lengths || w->panel_begin != 0) return;
  for (int dir = w->first_dir; dir <= w->last_dir; ++dir) {
    const rows_of rows = fl_user_rows(r, base, t_stride, b_stride, dir * columns);
    fl_zero_padding(w, &rows, columns);
  }
}

// ---- workers ----

static void run_worker(const worker *w)
{
  const run *r = w->r;
  const fastlstm_spec *spec = &r->model->spec;
  const int64_t steps = r->plan->steps, block = r->plan->block_steps, layers = spec->num_layers;
  for (int64_t l = 0; l < layers; ++l)
    for (int dir = w->first_dir; dir <= w->last_dir; ++dir) fl_load_state(w, l * spec->directions + dir);
  if (fl_masks_inputs(r)) fl_mask_inputs(w);
  fl_wait_for(w, w->team);
  // One direction: a block of steps goes through all layers. Two: a layer needs all steps of the
  // one before it.
  const int64_t span = spec->directions == 1 ? block : steps;
  for (int64_t from = 0; from < steps; from += span) {
    const int64_t to = from + span < steps ? from + span : steps;
    for (int64_t l = 0; l < layers; ++l) {
      for (int dir = w->first_dir; dir <= w->last_dir; ++dir) {
        for (int64_t t = from; t < to; t += block) {
          if ((t > 0 || (l + 1) % LAYERS_A_POLL == 0) && fl_stopped(w)) return;
          run_layer(w, l, dir, t, t + block < to ? t + block : to);
        }
      }
      if (spec->directions == 2) fl_wait_for(w, w->team);
    }
  }
  if (atomic_load_explicit(&r->stop, memory_order_relaxed)) return;
  for (int64_t l = 0; l < layers; ++l)
    for (int dir = w->first_dir; dir <= w->last_dir; ++dir) fl_store_state(w, l * spec->directions + dir);
  zero_padding(w, r->io->y, r->io->y_t, r->io->y_b, r->model->outputs);
  zero_padding(w, r->io->cells, r->io->cells_t, r->io->cells_b, spec->hidden_size);
}

// The worker of one place in the plan's grid, or of a whole row group when `alone`.
static void start_worker(run *r, int dir, int row, int share, int thread, int alone)
{
  const fastlstm_plan *p = r->plan;
  const int shares = alone ? 1 : p->unit_groups, by_dir = !alone && p->dir_groups == 2;
  worker w = {.r = r, .thread = thread};
  w.first_dir = by_dir ? dir : 0;
  w.last_dir = by_dir ? dir : r->model->spec.directions - 1;
  w.row_begin = fl_slice_begin(p->batch, p->row_groups, row);
  w.row_end = fl_slice_begin(p->batch, p->row_groups, row + 1);
  const int64_t bundle = fl_bundle_panels(r->model->cell), vectors = fl_bundle_vectors(r->model->cell);
  const int64_t bundles = fl_ceil_div(r->model->panels, bundle);
  const int64_t begin = bundles * share / shares, end = bundles * (share + 1) / shares;
  w.panel_begin = (int32_t)(begin * bundle);
  w.panel_end = end < bundles ? (int32_t)(end * bundle) : r->model->panels;
  w.vector_begin = (int32_t)(begin * vectors);
  w.vector_end = end < bundles ? (int32_t)(end * vectors) : r->model->unit_vectors;
  w.output_begin = w.vector_begin;
  w.output_end = w.vector_end;
  if (r->model->seconds) {
    const int64_t panels = r->model->output_panels;
    w.output_panel_begin = (int32_t)(panels * share / shares);
    w.output_panel_end = (int32_t)(panels * (share + 1) / shares);
    w.output_begin = w.output_panel_begin * FL_PANEL;
    w.output_end = w.output_panel_end < panels ? w.output_panel_end * FL_PANEL : r->model->output_vectors;
  }
  w.team = alone ? NULL : r->team;
  w.group = shares > 1 ? r->team + 1 + dir * p->row_groups + row : NULL;
  const int64_t before =
      p->project_steps * w.row_begin * FL_PANEL * r->model->x_panels * r->model->kernels->lanes;
  w.projected =
      r->space + r->layout.projected + (by_dir ? dir * r->layout.projected_bytes : 0) + before * r->elem;
  w.gathered = r->space + r->layout.gathered;
  w.sums = r->space + r->layout.sums + thread * r->layout.sums_bytes;
  const int64_t count = w.row_end - w.row_begin;
  w.x_at = (char **)(r->space + r->layout.pointers) + thread * r->layout.pointer_count;
  w.y_at = w.x_at + count;
  w.cells_at = w.y_at + count;
  w.m_at = w.cells_at + count;
  w.project_at = w.m_at + count;
  run_worker(&w);
}

static void team_body(void *arg, int thread, int threads)
{
  run *r = arg;
  const fastlstm_plan *p = r->plan;
  const uint32_t mode = fl_fp_enter();
  if (thread == 0) r->fp_mode = mode;
  if (threads == p->threads && threads > 1 && threads == p->dir_groups * p->row_groups * p->unit_groups) {
    const int share = thread % p->unit_groups, group = thread / p->unit_groups;
    start_worker(r, group / p->row_groups, group % p->row_groups, share, thread, 0);
  } else {
    // Parts of the batch in turn; also if there is no team, or fewer threads came than were planned.
    for (int row = thread; row < p->row_groups; row += threads) start_worker(r, 0, row, 0, thread, 1);
  }
  if (thread == 0 && p->threads > 1) r->finished = fl_now();
  fl_fp_leave(mode);
}

fastlstm_status fastlstm_forward(const fastlstm_model *model, const fastlstm_plan *plan,
                                 const fastlstm_io *io, void *workspace)
{
  const fastlstm_status status = fl_check_forward(model, plan, io, workspace);
  if (status != FASTLSTM_OK) return status;
  run r = {.model = model,
           .plan = plan,
           .io = io,
           .space = workspace,
           .elem = fl_elem(model->spec.dtype),
           .poll = io->poll,
           .poll_arg = io->poll_arg};
  memcpy(&r.layout, plan->layout, sizeof r.layout);
  if (plan->purpose == FASTLSTM_TRAIN) {
    fl_tape_layout_of(&model->spec, plan->steps, plan->batch, &r.tape_layout);
    r.tape = io->tape;
    fl_set_masks(&r, io->dropout, io->seed, fl_is_noisy(io));
  }
  fl_run_team(&r, &r.layout.common, io->lengths, team_body, io->straggled);
  return atomic_load(&r.stop) ? FASTLSTM_INTERRUPTED : FASTLSTM_OK;
}
