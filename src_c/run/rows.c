// SPDX-License-Identifier: BSD-3-Clause
// Which row of the batch stands where.
#include <string.h>

#include "internal/run.h"

// ---- rows ----

int64_t fl_slice_begin(int64_t count, int64_t parts, int64_t part)
{
  const int64_t rest = count % parts;
  return part * (count / parts) + (part < rest ? part : rest);
}

// Sorts rows by falling length (counting sort, stable) and deals them to the row groups in turn.
void fl_order_rows(run *r, const int64_t *lengths)
{
  const int64_t batch = r->plan->batch, steps = r->plan->steps, groups = r->plan->row_groups;
  if (!lengths) {
    for (int64_t b = 0; b < batch; ++b) {
      r->order[b] = b;
      r->sorted_lengths[b] = steps;
    }
    return;
  }
  int64_t *start = r->counts;  // start[n]: rows of length n, and then, summed up, rows longer than n
  memset(start, 0, (size_t)(steps + 2) * sizeof *start);
  for (int64_t b = 0; b < batch; ++b) start[lengths[b]] += 1;
  for (int64_t n = steps, before = 0; n >= 0; --n) {
    const int64_t here = start[n];
    start[n] = before;
    before += here;
  }
  for (int64_t b = 0; b < batch; ++b) {
    const int64_t rank = start[lengths[b]]++;
    const int64_t row = fl_slice_begin(batch, groups, rank % groups) + rank / groups;
    r->order[row] = b;
    r->sorted_lengths[row] = lengths[b];
  }
}

int64_t fl_running(const worker *w, int64_t t, int64_t end)
{
  while (end > w->row_begin && w->r->sorted_lengths[end - 1] <= t) --end;
  return end;
}

// ---- state ----

static char *state_of(const run *r, int64_t layer_dir)
{
  return r->space + r->layout.state + layer_dir * r->layout.state_bytes;
}

static char *tape_of(const run *r, int64_t layer_dir)
{
  return r->tape + layer_dir * r->tape_layout.layer_dir_bytes;
}

char *fl_h_buffer(const run *r, int64_t layer_dir, int64_t t)
{
  if (r->tape) return tape_of(r, layer_dir) + r->tape_layout.h + (t + 1) * r->tape_layout.h_step;
  return state_of(r, layer_dir) + (t & 1) * r->layout.h_bytes;
}

char *fl_m_buffer(const run *r, int64_t layer_dir, int64_t t)
{
  if (r->tape) return tape_of(r, layer_dir) + r->tape_layout.m + t * r->tape_layout.h_step;
  return state_of(r, layer_dir) + 2 * r->layout.h_bytes + r->layout.c_bytes;
}

char *fl_whole_buffer(const run *r, int64_t layer_dir)
{
  return tape_of(r, layer_dir) + r->tape_layout.whole;
}

char *fl_new_c_buffer(const run *r, int64_t layer_dir, int64_t t)
{
  if (!r->tape || !(r->model->spec.options.zoneout_c > 0)) return NULL;
  return tape_of(r, layer_dir) + r->tape_layout.new_c + t * r->tape_layout.c_step;
}

char *fl_new_h_buffer(const run *r, int64_t layer_dir, int64_t t)
{
  const fastlstm_options *o = &r->model->spec.options;
  if (!r->tape || !fl_clips_before_noise(o) || !(o->zoneout_h > 0 || fl_masks_h(r))) return NULL;
  return tape_of(r, layer_dir) + r->tape_layout.new_h + t * r->tape_layout.h_step;
}

char *fl_c_buffer(const run *r, int64_t layer_dir, int64_t t)
{
  if (!r->model->cell->has_c) return NULL;
  if (r->tape) return tape_of(r, layer_dir) + r->tape_layout.c + (t + 1) * r->tape_layout.c_step;
  return state_of(r, layer_dir) + 2 * r->layout.h_bytes;
}

char *fl_activations(const run *r, int64_t layer_dir, int64_t t)
{
  if (!r->model->cell->activations) return NULL;
  if (r->tape) return tape_of(r, layer_dir) + t * r->tape_layout.activations_step;
  return r->layout.activations_bytes
             ? state_of(r, layer_dir) + r->layout.state_bytes - r->layout.activations_bytes
             : NULL;
}

int64_t fl_vector_units(const run *r, int64_t units, int64_t v, int64_t *begin)
{
  const int64_t lanes = r->model->kernels->lanes;
  *begin = v * lanes;
  return units - *begin < lanes ? units - *begin : lanes;
}

// ---- where a layer reads and writes ----

rows_of fl_user_rows(const run *r, const void *base, int64_t t, int64_t b, int64_t first_column)
{
  const int64_t *starts = r->io ? r->io->starts : r->back->starts;
  return (rows_of){(char *)base + first_column * r->elem, t * r->elem, b * r->elem, 1, starts};
}

// Output of an inner layer. Without a tape and with one direction, the buffer holds the steps of one
// block only.
rows_of fl_inner_rows(const run *r, int64_t layer, int dir, int64_t block)
{
  const int64_t shift = dir * r->model->outputs * r->elem;
  if (r->tape) {
    const int64_t row = r->tape_layout.inner_stride * r->elem;
    char *base = r->tape + r->tape_layout.inner + layer * r->tape_layout.inner_bytes;
    return (rows_of){base + shift, r->plan->batch * row, row, 0, NULL};
  }
  const int64_t row = r->layout.inner_stride * r->elem, step = r->plan->batch * row;
  char *base = r->space + r->layout.inner + (layer & 1) * r->layout.inner_bytes;
  const int64_t skip = r->model->spec.directions == 1 ? block * step : 0;
  return (rows_of){base - skip + shift, step, row, 0, NULL};
}

char *fl_row_at(const run *r, const rows_of *rows, int64_t row, int64_t time)
{
  const int64_t b = rows->by_batch ? r->order[row] : row;
  const int64_t step = rows->starts ? rows->starts[time] * rows->row_bytes : time * rows->t_bytes;
  return (char *)((uintptr_t)rows->base + (uintptr_t)(step + b * rows->row_bytes));
}

// Pointers of the worker's rows [from, to) for step t of a direction. Those that have ended by then mean
// nothing.
void fl_set_rows(const worker *w, const rows_of *rows, int dir, int64_t t, int64_t from, int64_t to,
                 char **at)
{
  const run *r = w->r;
  for (int64_t i = from; i < to; ++i) {
    const int64_t row = w->row_begin + i;
    if (rows->starts && r->sorted_lengths[row] <= t) return;  // lengths fall within a group
    at[i] = fl_row_at(r, rows, row, dir ? r->sorted_lengths[row] - 1 - t : t);
  }
}

// Moves the pointers of the worker's first `count` rows to step t, which is `steps` further on.
void fl_advance_rows(const worker *w, const rows_of *rows, int dir, int64_t t, int64_t steps, int64_t count,
                     char **at)
{
  if (rows->starts) {
    fl_set_rows(w, rows, dir, t, 0, count, at);
    return;
  }
  const uintptr_t bytes = (uintptr_t)((dir ? -steps : steps) * rows->t_bytes);
  for (int64_t i = 0; i < count; ++i) at[i] = (char *)((uintptr_t)at[i] + bytes);
}

// Steps past the end of the worker's sequences, if there is room for them.
void fl_zero_padding(const worker *w, const rows_of *rows, int64_t columns)
{
  const run *r = w->r;
  if (rows->starts) return;
  for (int64_t row = w->row_begin; row < w->row_end; ++row)
    for (int64_t t = r->sorted_lengths[row]; t < r->plan->steps; ++t)
      memset(fl_row_at(r, rows, row, t), 0, (size_t)(columns * r->elem));
}
