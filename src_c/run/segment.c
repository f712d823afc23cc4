// SPDX-License-Identifier: BSD-3-Clause
// Some steps of one direction of one layer, by one worker.
#include <string.h>

#include "internal/run.h"

// Bytes of the weights of `inputs` inputs in `panels` panels.
static double bytes_of_panels(const run *r, int32_t panels, int64_t inputs)
{
  return (double)panels * FL_PANEL * r->model->kernels->lanes * (double)(inputs * r->elem);
}

// In the worker's panels.
static double weight_bytes(const worker *w, int64_t inputs)
{
  return bytes_of_panels(w->r, w->panel_end - w->panel_begin, inputs);
}

// In its panels of a second stage.
static double output_bytes(const worker *w, int64_t inputs)
{
  return bytes_of_panels(w->r, w->output_panel_end - w->output_panel_begin, inputs);
}

// Where its projected sums stand: in panels behind those of the first stage.
static char *projected_second(const worker *w, int64_t panel_stride)
{
  return w->projected + w->r->model->panels * panel_stride * w->r->elem;
}

// Projects `steps` steps from t on; rows of step t + 1 follow those of step t.
static void project_ahead(const worker *w, const segment *s, int64_t t, int64_t steps, int64_t panel_stride)
{
  const run *r = w->r;
  int64_t count = 0, end = w->row_end;
  for (int64_t i = 0; i < steps; ++i) {
    end = fl_running(w, t + i, end);
    fl_set_rows(w, &s->x, s->dir, t + i, 0, end - w->row_begin, w->project_at + count);
    count += end - w->row_begin;
  }
  if (count == 0) return;
  if (!r->model->spec.gemm_blas) {
    fl_project job = {
        .x = (const void *const *)w->project_at,
        .out = w->projected,
        .panel_stride = panel_stride,
        .rows = count,
        .panel_begin = w->panel_begin,
        .panel_end = w->panel_end,
        .blocking = fl_blocking_of(r->model, count, s->layer->inputs, weight_bytes(w, s->layer->inputs))};
    fl_project_slabs(w, s->layer, &job);
    const fl_layer *second = s->layer->second;
    if (!second || !second->inputs) return;
    job.out = projected_second(w, panel_stride);
    job.panel_begin = w->output_panel_begin;
    job.panel_end = w->output_panel_end;
    job.blocking = fl_blocking_of(r->model, count, second->inputs, output_bytes(w, second->inputs));
    fl_project_slabs(w, second, &job);
    return;
  }
  const int64_t lanes = r->model->kernels->lanes, row_width = r->model->vectors * lanes;
  const size_t row_bytes = (size_t)(s->layer->inputs * r->elem);
  for (int64_t i = 0; i < count; ++i) {
    memcpy(w->gathered + (size_t)i * row_bytes, w->project_at[i], row_bytes);
    memcpy(w->projected + i * row_width * r->elem, s->layer->bias, (size_t)(row_width * r->elem));
  }
  const int64_t slab = fl_slab_rows(count, 2.0 * (double)(row_width * s->layer->inputs));
  for (int64_t i = 0; i < count && !fl_polled(w); i += slab) {
    const int64_t part = slab < count - i ? slab : count - i;
    r->io->gemm(r->model->spec.dtype, part, row_width, s->layer->inputs, w->gathered + (size_t)i * row_bytes,
                s->layer->inputs, s->layer->w_x.data, row_width, w->projected + i * row_width * r->elem,
                row_width);
  }
}

// What the steps of a segment have in common.
typedef struct steps {
  const worker *w;
  const segment *s;
  int64_t rows;
  int64_t ahead;      // steps projected at a time, 0: the projection is part of the step
  int64_t row_bytes;  // of the worker's first row within a unit vector's block, in c and on the tape
  fl_step job;        // of every step; what differs, run_step sets
  fl_step second;     // likewise, of the second stage, if there is one
  fl_noise noise;     // of both, if the pass is noisy
  int has_noise;      // options of the layer have some, in this pass or in others
  int large;          // a step is so large that the caller must get chances to stop it
  int over;           // the run was stopped: nothing is computed any more, but workers of a group still meet
} steps;

static char *from_row(char *buffer, int64_t bytes) { return buffer ? buffer + bytes : NULL; }

static fl_step job_of_steps(const worker *w, const segment *s, int64_t ahead)
{
  const run *r = w->r;
  const int64_t lanes = r->model->kernels->lanes, rows = w->row_end - w->row_begin;
  const int64_t inputs = r->model->outputs + (ahead ? 0 : s->layer->inputs);
  const int blas = r->model->spec.gemm_blas;  // one row of its projection holds all panels
  return (fl_step){
      .x = ahead ? NULL : (const void *const *)w->x_at,
      .projected_row_stride = blas ? r->model->vectors * lanes : FL_PANEL * lanes,
      .projected_panel_stride = blas ? FL_PANEL * lanes : ahead * rows * FL_PANEL * lanes,
      .h_stride = r->layout.h_stride,
      .c_stride = r->plan->batch * lanes,
      .streaming = r->tape_layout.streaming,
      .y = (void *const *)(s->layer->second ? w->m_at : w->y_at),
      .cells = s->has_cells ? (void *const *)w->cells_at : NULL,
      .panel_begin = w->panel_begin,
      .panel_end = w->panel_end,
      .blocking = fl_blocking_of(r->model, rows, inputs, weight_bytes(w, inputs)),
      .sums = w->sums,
      .row_sums = w->sums + r->layout.row_sums,
  };
}

// Without x the sums start from zeros, which the bias is then.
static fl_step job_of_second(const worker *w, const segment *s, int64_t ahead, const fl_step *first)
{
  const run *r = w->r;
  const fl_layer *second = s->layer->second;
  if (!second) return (fl_step){0};
  const int64_t rows = w->row_end - w->row_begin, inputs = s->layer->units + (ahead ? 0 : second->inputs);
  fl_step job = {
      .projected = second->bias,
      .h_stride = r->layout.h_stride,
      .c_stride = first->c_stride,
      .y = (void *const *)w->y_at,
      .panel_begin = w->output_panel_begin,
      .panel_end = w->output_panel_end,
      .blocking = fl_blocking_of(r->model, rows, inputs, output_bytes(w, inputs)),
      .sums = w->sums,
  };
  if (second->inputs) {
    job.x = first->x;
    job.projected = NULL;
    job.projected_row_stride = first->projected_row_stride;
    job.projected_panel_stride = first->projected_panel_stride;
  }
  return job;
}

// What else a layer reads and writes where its h goes through noise or zoneout. `job` is the one that makes
// h, and `before` the buffer that h of step t - 1 went to.
static void set_noise(steps *common, fl_step *job, const char *before, int64_t t)
{
  const worker *w = common->w;
  const run *r = w->r;
  const int64_t h_row = w->row_begin * r->layout.h_stride * r->elem;
  job->h_before = before;
  job->new_h = from_row(fl_new_h_buffer(r, common->s->layer_dir, t), h_row);
  common->job.new_c = from_row(fl_new_c_buffer(r, common->s->layer_dir, t), common->row_bytes);
  if (!r->noisy) return;
  common->noise.step = t;
  common->job.noise = common->second.noise = &common->noise;
  if (fl_masks_h(r)) job->h_before = job->h_whole = fl_whole_buffer(r, common->s->layer_dir) + h_row;
}

static void run_job(const steps *common, const fl_layer *layer, const fl_step *job)
{
  if (job->rows == 0 || common->over) return;
  if (common->large)
    fl_step_slabs(common->w, layer, job);
  else
    common->w->r->model->kernels->step(layer, job);
}

// The second stage of a step, from the first one's job and from m, which all workers of these rows have left
// by now.
static void run_second(steps *common, const fl_step *first, int64_t done, char *h)
{
  const worker *w = common->w;
  fl_step *job = &common->second;
  if (first->projected && common->s->layer->second->inputs)
    job->projected =
        projected_second(w, job->projected_panel_stride) + done * job->projected_row_stride * w->r->elem;
  job->h_prev = first->h_next;
  job->h_old = first->h_prev;
  job->h_next = h;
  job->activations = first->activations;
  job->rows = first->rows;
  job->descending = first->descending;
  fl_wait_for(w, w->group);
  run_job(common, common->s->layer->second, job);
}

// Step t of the rows that still run, up to `end`, whose projection is `done` rows from the start. Returns how
// many rows those are.
static int64_t run_step(steps *common, int64_t t, int64_t end, int64_t done)
{
  const worker *w = common->w;
  const run *r = w->r;
  const fl_cell *cell = r->model->cell;
  const int64_t layer_dir = common->s->layer_dir, h_row = w->row_begin * r->layout.h_stride * r->elem;
  fl_step *job = &common->job;
  if (common->ahead) job->projected = w->projected + done * job->projected_row_stride * r->elem;
  job->h_prev = fl_h_buffer(r, layer_dir, t - 1) + h_row;
  job->h_next = fl_h_buffer(r, layer_dir, t) + h_row;
  char *h = job->h_next;
  const fl_layer *second = common->s->layer->second;
  if (common->has_noise) set_noise(common, second ? &common->second : job, job->h_prev, t);
  if (second) {  // what the first stage puts out is m, and goes no further
    job->h_next = fl_m_buffer(r, layer_dir, t) + h_row;
    for (int64_t i = 0; i < end - w->row_begin; ++i)
      w->m_at[i] = (char *)job->h_next + i * job->h_stride * r->elem;
  }
  if (cell->has_c) {
    job->c_prev = fl_c_buffer(r, layer_dir, t - 1) + common->row_bytes;
    job->c = fl_c_buffer(r, layer_dir, t) + common->row_bytes;
  }
  job->activations = from_row(fl_activations(r, layer_dir, t), cell->activations * common->row_bytes);
  job->rows = end - w->row_begin;
  job->descending = (int32_t)(t & 1);
  run_job(common, common->s->layer, job);
  if (second) run_second(common, job, done, h);
  return job->rows;
}

// Moves the row pointers of the worker to step t, `count` steps further on.
static void advance(const steps *common, int64_t t, int64_t count)
{
  const worker *w = common->w;
  const segment *s = common->s;
  if (!common->ahead) fl_advance_rows(w, &s->x, s->dir, t, count, common->rows, w->x_at);
  fl_advance_rows(w, &s->y, s->dir, t, count, common->rows, w->y_at);
  if (s->has_cells) fl_advance_rows(w, &s->cells, s->dir, t, count, common->rows, w->cells_at);
}

// Up to `count` steps from t on of a worker's only row, in the cell's persistent kernel.
static void run_persistent(const steps *common, int64_t t, int64_t count)
{
  const worker *w = common->w;
  const segment *s = common->s;
  const run *r = w->r;
  const int64_t elem = r->elem, left = r->sorted_lengths[w->row_begin] - t,
                steps = left < count ? left : count;
  if (steps <= 0) return;
  // The kernel has one buffer of h. It must be the one that the step after the last one reads.
  char *h = fl_h_buffer(r, s->layer_dir, t + steps - 1) + w->row_begin * r->layout.h_stride * elem;
  const char *h_prev = fl_h_buffer(r, s->layer_dir, t - 1) + w->row_begin * r->layout.h_stride * elem;
  if (h != h_prev) memcpy(h, h_prev, (size_t)(r->model->unit_vectors * r->model->kernels->lanes * elem));
  const fl_persistent job = {
      .steps = steps,
      .x = common->ahead ? NULL : w->x_at[0],
      .x_stride = (s->dir ? -s->x.t_bytes : s->x.t_bytes) / elem,
      .projected = w->projected,
      .projected_panel_stride = common->job.projected_panel_stride,
      .projected_row_stride = common->job.projected_row_stride,
      .h = h,
      .c = from_row(fl_c_buffer(r, s->layer_dir, t), common->row_bytes),
      .c_stride = r->plan->batch * r->model->kernels->lanes,
      .y = w->y_at[0],
      .y_stride = (s->dir ? -s->y.t_bytes : s->y.t_bytes) / elem,
      .cells = s->has_cells ? w->cells_at[0] : NULL,
      .cells_stride = (s->dir ? -s->cells.t_bytes : s->cells.t_bytes) / elem,
  };
  r->model->kernels->persistent[r->model->spec.cell](s->layer, &job);
}

void fl_run_segment(const worker *w, const segment *s, int64_t t_begin, int64_t t_end)
{
  const run *r = w->r;
  const int64_t lanes = r->model->kernels->lanes, ahead = r->plan->project_steps;
  const int64_t rows = w->row_end - w->row_begin;
  steps common = {
      .w = w,
      .s = s,
      .rows = rows,
      .ahead = ahead,
      .row_bytes = w->row_begin * lanes * r->elem,
      .job = job_of_steps(w, s, ahead),
      .noise = fl_noise_of(w, s->layer_dir, s->dir),
      .has_noise = fl_has_noise(&r->model->spec.options),
      .large = fl_is_large(w, rows, r->model->outputs + (ahead ? 0 : s->layer->inputs)),
      .over = fl_polled(w),
  };
  common.second = job_of_second(w, s, ahead, &common.job);
  const int alone =
      rows == 1 && !w->group && !r->tape && !s->y.starts && !s->x.starts && fl_is_persistent(r->model);
  if (common.over && !w->group) return;
  if (!ahead) fl_set_rows(w, &s->x, s->dir, t_begin, 0, rows, w->x_at);
  fl_set_rows(w, &s->y, s->dir, t_begin, 0, rows, w->y_at);
  if (s->has_cells) fl_set_rows(w, &s->cells, s->dir, t_begin, 0, rows, w->cells_at);
  int64_t end = w->row_end;
  for (int64_t t = t_begin; t < t_end;) {
    const int64_t count = ahead && ahead < t_end - t ? ahead : t_end - t;
    if (ahead && !common.over) project_ahead(w, s, t, count, common.job.projected_panel_stride);
    if (alone) {
      run_persistent(&common, t, count);
      t += count;
      advance(&common, t, count);
      continue;
    }
    int64_t done = 0;  // rows of the projection used up
    for (const int64_t last = t + count; t < last; ++t) {
      end = fl_running(w, t, end);
      done += run_step(&common, t, end, done);
      advance(&common, t + 1, 1);
      fl_wait_for(w, w->group);
    }
  }
}
