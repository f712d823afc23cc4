// SPDX-License-Identifier: BSD-3-Clause
// Some steps of one direction of one layer, by one worker.
#include <string.h>

#include "internal/run.h"

// Of so many inputs, in the worker's panels.
static double weight_bytes(const worker *w, int64_t inputs)
{
  const run *r = w->r;
  return (double)(w->panel_end - w->panel_begin) * 4 * r->model->kernels->lanes * (double)(inputs * r->elem);
}

// Projects `steps` steps from t on; rows of later steps follow those of earlier ones.
static void project_ahead(const worker *w, const segment *s, int64_t t, int64_t steps, int64_t panel_stride)
{
  const run *r = w->r;
  int64_t count = 0, end = w->row_end;
  for (int64_t i = 0; i < steps; ++i) {
    end = fl_running(w, t + i, end);
    fl_place(w, &s->x, s->dir, t + i, 0, end - w->row_begin, w->project_at + count);
    count += end - w->row_begin;
  }
  if (count == 0) return;
  if (!r->model->spec.gemm_blas) {
    const fl_project job = {
        .x = (const void *const *)w->project_at,
        .gates = w->gates,
        .panel_stride = panel_stride,
        .rows = count,
        .panel_begin = w->panel_begin,
        .panel_end = w->panel_end,
        .reading = fl_reading_of(r->model, count, s->layer->inputs, weight_bytes(w, s->layer->inputs))};
    fl_project_slabs(w, s->layer, &job);
    return;
  }
  const int64_t lanes = r->model->kernels->lanes, row_width = r->model->vectors * lanes;
  const size_t row_bytes = (size_t)(s->layer->inputs * r->elem);
  for (int64_t i = 0; i < count; ++i) {
    memcpy(w->gathered + (size_t)i * row_bytes, w->project_at[i], row_bytes);
    memcpy(w->gates + i * row_width * r->elem, s->layer->bias, (size_t)(row_width * r->elem));
  }
  const int64_t slab = fl_slab_rows(count, 2.0 * (double)(row_width * s->layer->inputs));
  for (int64_t i = 0; i < count && !fl_polled(w); i += slab) {
    const int64_t part = slab < count - i ? slab : count - i;
    r->io->gemm(r->model->spec.dtype, part, row_width, s->layer->inputs, w->gathered + (size_t)i * row_bytes,
                s->layer->inputs, s->layer->w_x, row_width, w->gates + i * row_width * r->elem, row_width);
  }
}

void fl_run_segment(const worker *w, const segment *s, int64_t t_begin, int64_t t_end)
{
  const run *r = w->r;
  const fl_kernels *kernels = r->model->kernels;
  const int64_t rows = w->row_end - w->row_begin, lanes = kernels->lanes, elem = r->elem;
  const int64_t ahead = r->plan->project_steps;
  const int blas = r->model->spec.gemm_blas;
  const int64_t gates_row = blas ? r->model->vectors * lanes : 4 * lanes;
  const int64_t gates_panel = blas ? 4 * lanes : ahead * rows * 4 * lanes;
  const int64_t x_bytes = s->dir ? -s->x.t_bytes : s->x.t_bytes;
  const int64_t y_bytes = s->dir ? -s->y.t_bytes : s->y.t_bytes;
  const int64_t cells_bytes = s->dir ? -s->cells.t_bytes : s->cells.t_bytes;
  const int alone = rows == 1 && !w->group && !r->tape && !s->y.starts && !s->x.starts &&
                    r->model->vectors <= kernels->sequence_vectors;
  const int64_t inputs = s->layer->units + (ahead ? 0 : s->layer->inputs);
  const fl_reading reading = fl_reading_of(r->model, rows, inputs, weight_bytes(w, inputs));
  const int large = fl_is_large(w, rows, inputs);
  const int64_t c_stride = r->plan->batch * lanes, c_row = w->row_begin * lanes * elem;

  const int over = fl_polled(w);  // nothing is computed any more, but workers of a group still meet
  if (over && !w->group) return;
  if (!ahead) fl_place(w, &s->x, s->dir, t_begin, 0, rows, w->x_at);
  fl_place(w, &s->y, s->dir, t_begin, 0, rows, w->y_at);
  if (s->has_cells) fl_place(w, &s->cells, s->dir, t_begin, 0, rows, w->cells_at);
  int64_t end = w->row_end;
  for (int64_t t = t_begin; t < t_end;) {
    const int64_t steps = ahead && ahead < t_end - t ? ahead : t_end - t;
    if (ahead && !over) project_ahead(w, s, t, steps, gates_panel);
    int64_t done = 0;  // rows of the projection used up
    if (alone) {
      const int64_t left = r->lengths[w->row_begin] - t, count = left < steps ? left : steps;
      if (count > 0) {
        // h leaves in the buffer that the next step reads: the parity of the last step.
        char *h = fl_h_buffer(r, s->index, t + count - 1) + w->row_begin * r->map.h_stride * elem;
        const char *h_prev = fl_h_buffer(r, s->index, t - 1) + w->row_begin * r->map.h_stride * elem;
        if (h != h_prev) memcpy(h, h_prev, (size_t)(r->model->panels * lanes * elem));
        const fl_sequence job = {.steps = count,
                                 .x = ahead ? NULL : w->x_at[0],
                                 .x_stride = x_bytes / elem,
                                 .gates = w->gates,
                                 .gates_panel_stride = gates_panel,
                                 .gates_row_stride = gates_row,
                                 .h = h,
                                 .c = fl_c_buffer(r, s->index, t) + c_row,
                                 .c_panel_stride = c_stride,
                                 .y = w->y_at[0],
                                 .y_stride = y_bytes / elem,
                                 .cells = s->has_cells ? w->cells_at[0] : NULL,
                                 .cells_stride = cells_bytes / elem};
        kernels->sequence(s->layer, &job);
      }
      t += steps;
    }
    for (int64_t i = 0; i < (alone ? 0 : steps); ++i, ++t) {
      end = fl_running(w, t, end);
      char *saved = fl_saved(r, s->index, t);
      const fl_step job = {.x = ahead ? NULL : (const void *const *)w->x_at,
                           .gates = ahead ? w->gates + done * gates_row * elem : NULL,
                           .gates_panel_stride = gates_panel,
                           .gates_row_stride = gates_row,
                           .h_prev = fl_h_buffer(r, s->index, t - 1) + w->row_begin * r->map.h_stride * elem,
                           .h_next = fl_h_buffer(r, s->index, t) + w->row_begin * r->map.h_stride * elem,
                           .h_stride = r->map.h_stride,
                           .c_prev = fl_c_buffer(r, s->index, t - 1) + c_row,
                           .c = fl_c_buffer(r, s->index, t) + c_row,
                           .c_panel_stride = c_stride,
                           .saved = saved ? saved + 4 * c_row : NULL,
                           .far = r->tape_map.far,
                           .y = (void *const *)w->y_at,
                           .cells = s->has_cells ? (void *const *)w->cells_at : NULL,
                           .rows = end - w->row_begin,
                           .panel_begin = w->panel_begin,
                           .panel_end = w->panel_end,
                           .backwards = (int32_t)(t & 1),
                           .reading = reading,
                           .sums = w->sums};
      if (job.rows > 0 && !over) {
        if (large)
          fl_step_slabs(w, s->layer, &job);
        else
          kernels->step(s->layer, &job);
      }
      done += job.rows;
      if (!ahead) fl_follow(w, &s->x, s->dir, t + 1, 1, rows, w->x_at);
      fl_follow(w, &s->y, s->dir, t + 1, 1, rows, w->y_at);
      if (s->has_cells) fl_follow(w, &s->cells, s->dir, t + 1, 1, rows, w->cells_at);
      fl_wait_for(w, w->group);
    }
    if (alone) {
      if (!ahead) fl_follow(w, &s->x, s->dir, t, steps, rows, w->x_at);
      fl_follow(w, &s->y, s->dir, t, steps, rows, w->y_at);
      if (s->has_cells) fl_follow(w, &s->cells, s->dir, t, steps, rows, w->cells_at);
    }
  }
}
