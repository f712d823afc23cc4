// SPDX-License-Identifier: BSD-3-Clause
// Dropout of what layers read, and what else a pass with masks does outside of the steps.
#include <string.h>

#include "internal/run.h"

// Of probability p: what it keeps is divided by 1 - p.
static fl_mask mask_of_dropout(double p)
{
  const double least = p * 16777216.0;
  return (fl_mask){.threshold = (uint32_t)least + ((double)(uint32_t)least < least),
                   .kept = p < 1 ? 1 / (1 - p) : 0};
}

static fl_mask mask_of_zoneout(double p)
{
  return (fl_mask){.threshold = mask_of_dropout(p).threshold, .dropped = 1};
}

void fl_set_masks(run *r, double dropout, uint64_t seed, int64_t noisy)
{
  const fastlstm_options *o = &r->model->spec.options;
  r->key[0] = (uint32_t)seed;
  r->key[1] = (uint32_t)(seed >> 32);
  r->masks[FL_DROPOUT] = mask_of_dropout(dropout);
  r->noisy = noisy && fl_has_noise(o);
  if (!r->noisy) return;
  r->masks[FL_ZONEOUT_C] = mask_of_zoneout(o->zoneout_c);
  r->masks[FL_ZONEOUT_H] = mask_of_zoneout(o->zoneout_h);
  r->masks[FL_RECURRENT_DROPOUT] = mask_of_dropout(o->recurrent_dropout);
  r->masks[FL_VARIATIONAL_DROPOUT] = mask_of_dropout(o->variational_dropout);
  r->masks[FL_INPUT_DROPOUT] = mask_of_dropout(o->input_dropout);
}

static fl_dropout dropout_of(const run *r, fl_mask_kind kind, int64_t place)
{
  return (fl_dropout){.key = {r->key[0], r->key[1]},
                      .counter = {0, 0, (uint32_t)kind << FL_MASK_BITS | (uint32_t)place},
                      .threshold = r->masks[kind].threshold,
                      .scale = r->masks[kind].kept};
}

// Applies dropout to `count` steps from time t on, for the worker's rows and some columns. All steps of a row
// have one mask if it is that of inputs.
void fl_drop(const worker *w, const rows_of *rows, fl_mask_kind kind, int64_t place, int64_t t, int64_t count,
             int64_t first, int64_t columns)
{
  const run *r = w->r;
  fl_dropout job = dropout_of(r, kind, place);
  for (int64_t time = t; time < t + count; ++time) {
    for (int64_t row = w->row_begin; row < w->row_end && r->sorted_lengths[row] > time; ++row) {
      job.counter[0] = kind == FL_INPUT_DROPOUT ? 0 : (uint32_t)time;
      job.counter[1] = (uint32_t)r->order[row];
      r->model->kernels->dropout(&job, first, columns, fl_row_at(r, rows, row, time));
    }
  }
}

// The part of h that the next step's product reads, in the columns [first, first + count) of a row.
void fl_drop_h(const run *r, int64_t layer_dir, int64_t row, int64_t first, int64_t count, void *h)
{
  fl_dropout job = dropout_of(r, FL_VARIATIONAL_DROPOUT, layer_dir);
  job.counter[1] = (uint32_t)r->order[row];
  r->model->kernels->dropout(&job, first, count, h);
}

fl_noise fl_noise_of(const worker *w, int64_t layer_dir, int dir)
{
  const run *r = w->r;
  return (fl_noise){.masks = r->masks,
                    .key = {r->key[0], r->key[1]},
                    .place = (uint32_t)layer_dir,
                    .reverse = dir,
                    .rows = r->order + w->row_begin,
                    .lengths = r->sorted_lengths + w->row_begin};
}

// Where layer 0 reads its inputs from, if they have dropout, which the caller's must not see.
rows_of fl_masked_inputs(const run *r)
{
  const int64_t row = r->tape_layout.x_stride * r->elem;
  return (rows_of){r->tape + r->tape_layout.x, r->plan->batch * row, row, 0, NULL};
}

void fl_mask_inputs(const worker *w)
{
  const run *r = w->r;
  const fastlstm_io *io = r->io;
  const int64_t columns = r->model->spec.input_size;
  if (w->first_dir != 0 || w->panel_begin != 0) return;  // one of those that share the rows
  const rows_of from = fl_user_rows(r, io->x, io->x_t, io->x_b, 0), to = fl_masked_inputs(r);
  for (int64_t t = 0; t < r->plan->steps && !fl_polled(w); ++t) {
    for (int64_t row = w->row_begin; row < w->row_end && r->sorted_lengths[row] > t; ++row)
      memcpy(fl_row_at(r, &to, row, t), fl_row_at(r, &from, row, t), (size_t)(columns * r->elem));
    fl_drop(w, &to, FL_INPUT_DROPOUT, 0, t, 1, 0, columns);
  }
}

void fl_drop_weights(const fl_kernels *kernels, void *weights, int64_t rows, int64_t columns, double p,
                     uint64_t seed, int64_t place)
{
  const fl_mask mask = mask_of_dropout(p);
  fl_dropout job = {.key = {(uint32_t)seed, (uint32_t)(seed >> 32)},
                    .counter = {0, 0, (uint32_t)FL_WEIGHT_DROP << FL_MASK_BITS | (uint32_t)place},
                    .threshold = mask.threshold,
                    .scale = mask.kept};
  for (int64_t row = 0; row < rows; ++row) {
    job.counter[0] = (uint32_t)row;
    kernels->dropout(&job, 0, columns, (char *)weights + row * columns * fl_elem(kernels->dtype));
  }
}
