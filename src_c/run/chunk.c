// SPDX-License-Identifier: BSD-3-Clause
// One direction of one layer backwards, by one worker: steps from the last to the first, in chunks
// whose gate gradients become weight gradients and gradients of the inputs while they are in cache.
#include <string.h>

#include "internal/backward.h"

// Where a worker's share of `count` things begins.
int64_t fl_share(int64_t count, const back_worker *b, int64_t share) { return count * share / b->shares; }

// sum += from
void fl_add(const run *r, void *sum, const void *from, int64_t count)
{
  for (int64_t i = 0; i < count; ++i) {
    if (r->elem == 8)
      ((double *)sum)[i] += ((const double *)from)[i];
    else
      ((float *)sum)[i] += ((const float *)from)[i];
  }
}

// Bias gradients of a shard: of the chunk at hand, or the total.
char *fl_bias_sums(const run *r, int64_t shard, int64_t layer_dir, int total)
{
  const fastlstm_spec *spec = &r->model->spec;
  const int64_t place = shard * spec->num_layers * spec->directions + layer_dir;
  return r->space + r->back_layout.bias + (2 * place + total) * r->back_layout.bias_bytes;
}

static char *carry_of(const back_worker *b)
{
  const run *r = b->w.r;
  return r->space + r->back_layout.dc + b->w.row_begin * r->model->kernels->lanes * r->elem;
}

static char *dh_last(const back_worker *b)
{
  const run *r = b->w.r;
  return r->space + r->back_layout.dh_last + b->w.row_begin * r->back_layout.dh_stride * r->elem;
}

// What steps carry beside the products: the gradient of c, or part of that of h.
static int has_carry(const run *r) { return r->model->cell->has_c || r->model->cell->carries_h; }

// dh_n and dc_n, in the worker's unit vectors.
static void begin_rows(const back_worker *b, const back_segment *s, int64_t begin, int64_t end)
{
  const run *r = b->w.r;
  const int64_t lanes = r->model->kernels->lanes, batch = r->plan->batch;
  const int64_t units = r->model->spec.hidden_size, outputs = r->model->outputs;
  const size_t full = (size_t)(lanes * r->elem);
  int64_t unit;
  for (int64_t v = b->w.output_begin; v < b->w.output_end; ++v) {
    const size_t bytes = (size_t)(fl_vector_units(r, outputs, v, &unit) * r->elem);
    for (int64_t i = begin; i < end; ++i) {
      const int64_t from = ((s->layer_dir * batch + r->order[b->w.row_begin + i]) * outputs + unit) * r->elem;
      char *dh = dh_last(b) + (i * r->back_layout.dh_stride + unit) * r->elem;
      memset(dh, 0, full);
      if (r->back->dh_n) memcpy(dh, (const char *)r->back->dh_n + from, bytes);
    }
  }
  for (int64_t v = b->w.vector_begin; has_carry(r) && v < b->w.vector_end; ++v) {
    const size_t bytes = (size_t)(fl_vector_units(r, units, v, &unit) * r->elem);
    for (int64_t i = begin; i < end; ++i) {
      const int64_t from = ((s->layer_dir * batch + r->order[b->w.row_begin + i]) * units + unit) * r->elem;
      char *dc = carry_of(b) + (v * batch + i) * lanes * r->elem;
      memset(dc, 0, full);
      if (r->back->dc_n) memcpy(dc, (const char *)r->back->dc_n + from, bytes);
    }
  }
}

static void begin_segment(const back_worker *b, const back_segment *s)
{
  const worker *w = &b->w;
  const int64_t rows = w->row_end - w->row_begin;
  const int64_t sums =
      w->r->model->cell->unit_sums * w->r->model->kernels->lanes * w->r->elem;  // of a vector
  for (int64_t i = 0; i < rows && !fl_polled(w); i += FL_POLL_ROWS)
    begin_rows(b, s, i, i + FL_POLL_ROWS < rows ? i + FL_POLL_ROWS : rows);
  for (int64_t v = w->vector_begin; v < w->vector_end; ++v)
    for (int total = 0; total < 2; ++total)
      memset(fl_bias_sums(w->r, b->shard, s->layer_dir, total) + v * sums, 0, (size_t)sums);
}

// Whether part of the gradient of h goes from step to step beside the products, in the place of dh_n.
static int carries_dh(const run *r) { return r->model->spec.options.zoneout_h > 0; }

// A stage of step t for rows [from, to) of the worker. `next`: gradients that the stage's reader had of these
// rows, of a last stage in step t + 1; or NULL where nothing has read them. `now`: where gate gradients of
// the step go, those of the second stage behind those of the first.
static void stage_rows(const back_worker *b, const back_segment *s, const fl_layer *stage, int64_t t,
                       int64_t from, int64_t to, const char *next, char *now)
{
  if (from >= to) return;
  const run *r = b->w.r;
  const int64_t lanes = r->model->kernels->lanes, vector_bytes = lanes * r->elem;
  const int64_t row = (b->w.row_begin + from) * vector_bytes;
  const int64_t h_row = (b->w.row_begin + from) * r->tape_layout.h_stride * r->elem;
  const int first = stage == s->layer, last = !stage->second, has_c = first && r->model->cell->has_c;
  const int carries = last && carries_dh(r);
  char *activations = fl_activations(r, s->layer_dir, t), *carried = carry_of(b);
  char *dh = dh_last(b) + from * r->back_layout.dh_stride * r->elem;
  const char *c = has_c ? fl_new_c_buffer(r, s->layer_dir, t) : NULL;
  const char *h = last ? fl_new_h_buffer(r, s->layer_dir, t) : NULL;
  if (!c && has_c) c = fl_c_buffer(r, s->layer_dir, t);
  if (!h) h = fl_h_buffer(r, s->layer_dir, t);
  fl_noise noise = fl_noise_of(&b->w, s->layer_dir, s->dir);
  noise.step = t;
  now += from * vector_bytes;
  const fl_back_step job = {
      .next = next ? next + from * vector_bytes : NULL,
      .now = first ? now : now + r->back_layout.second,
      .first = first ? NULL : now,
      .stride = r->back_layout.grads_stride,
      .dy = s->has_dy && last ? (const void *const *)(b->dy_now + from) : NULL,
      .dc = s->has_dcells && first ? (const void *const *)(b->dc_now + from) : NULL,
      .dh_last = next && !carries ? NULL : dh,
      .dh_stride = r->back_layout.dh_stride,
      .dh_carry = carries ? dh : NULL,
      .noise = r->noisy ? &noise : NULL,
      .noise_row = from,
      .activations = activations ? activations + r->model->cell->activations * row : NULL,
      .h = h + h_row,
      .h_prev = fl_h_buffer(r, s->layer_dir, t - 1) + h_row,
      .h_stride = r->tape_layout.h_stride,
      .c = has_c ? c + row : NULL,
      .c_prev = has_c ? fl_c_buffer(r, s->layer_dir, t - 1) + row : NULL,
      .carry = has_carry(r) ? carried + from * vector_bytes : NULL,
      .c_stride = r->plan->batch * lanes,
      .bias = fl_bias_sums(r, b->shard, s->layer_dir, 0),
      .rows = to - from,
      .panel_begin = last ? b->output_column_begin : b->column_begin,
      .panel_end = last ? b->output_column_end : b->column_end,
      .descending = (int32_t)(t & 1),
      .streaming = r->tape_layout.streaming && (first || stage->cell->activations),
      .prefetch = last ? b->output_prefetch : b->prefetch,
      .space = b->scratch,
  };
  fl_back_step_slabs(&b->w, stage, &job);
}

// Step t of the worker's first `running` rows, of which `later` had the step after it.
static void run_step(const back_worker *b, const back_segment *s, int64_t t, int64_t later, int64_t running,
                     const char *next, char *now)
{
  const fl_layer *second = s->layer->second, *last = second ? second : s->layer;
  stage_rows(b, s, last, t, 0, later, next, now);
  stage_rows(b, s, last, t, later, running, NULL, now);
  if (!second) return;
  fl_wait_for(&b->w, b->w.group);
  stage_rows(b, s, s->layer, t, 0, running, now + b->w.r->back_layout.second, now);
}

// Weight gradients, bias gradients and input gradients of the rows of a chunk.
static void finish_chunk(const back_worker *b, const back_segment *s, int64_t rows, int add)
{
  const fl_layer *second = s->layer->second;
  const run *r = b->w.r;
  const fl_kernels *kernels = r->model->kernels;
  const int64_t gates = r->model->cell->gates, lanes = kernels->lanes;
  const int64_t vectors = gates * r->model->unit_vectors, sums = r->model->cell->unit_sums * lanes;
  if (s->dw_x) {
    fl_wgrad job = {.grads = b->grads,
                    .stride = r->back_layout.grads_stride,
                    .rows = rows,
                    .in = (const void *const *)b->h_at,
                    .columns = r->model->outputs,
                    .dw = s->dw_h,
                    .add = add,
                    .begin = (int32_t)fl_share(vectors, b, b->share),
                    .end = (int32_t)fl_share(vectors, b, b->share + 1),
                    .recurrent = 1,
                    .scratch = b->scratch};
    fl_wgrad_slabs(&b->w, s->layer, &job);
    job.in = (const void *const *)b->x_at;
    job.columns = s->layer->inputs;
    job.recurrent = 0;
    job.dw = s->dw_x;
    fl_wgrad_slabs(&b->w, s->layer, &job);
  }
  if (s->dw_x && second) {
    const int64_t outputs = r->model->output_vectors;  // one gate a unit
    fl_wgrad job = {.grads = b->grads + r->back_layout.second,
                    .stride = r->back_layout.grads_stride,
                    .rows = rows,
                    .in = (const void *const *)b->m_at,
                    .columns = s->layer->units,
                    .dw = s->dw_second_h,
                    .add = add,
                    .begin = (int32_t)fl_share(outputs, b, b->share),
                    .end = (int32_t)fl_share(outputs, b, b->share + 1),
                    .recurrent = 1,
                    .scratch = b->scratch};
    fl_wgrad_slabs(&b->w, second, &job);
    if (second->inputs) {
      job.in = (const void *const *)b->x_at;
      job.columns = second->inputs;
      job.recurrent = 0;
      job.dw = s->dw_second_x;
      fl_wgrad_slabs(&b->w, second, &job);
    }
  }
  for (int64_t v = b->w.vector_begin; v < b->w.vector_end; ++v) {
    const int64_t at = v * sums * r->elem;
    char *chunk = fl_bias_sums(r, b->shard, s->layer_dir, 0) + at;
    fl_add(r, fl_bias_sums(r, b->shard, s->layer_dir, 1) + at, chunk, sums);
    memset(chunk, 0, (size_t)(sums * r->elem));
  }
  if (s->has_dx) {
    const int64_t begin = fl_share(rows, b, b->share), inputs = s->layer->inputs;
    const int32_t panels = (int32_t)((inputs + 2 * lanes - 1) / (2 * lanes));
    fl_dgrad job = {.grads = b->grads + begin * lanes * r->elem,
                    .stride = r->back_layout.grads_stride,
                    .weights = s->layer->wt_x,
                    .columns = inputs,
                    .out = (void *const *)(b->dx_at + begin),
                    .add = s->add_dx,
                    .rows = fl_share(rows, b, b->share + 1) - begin,
                    .panel_begin = 0,
                    .panel_end = panels,
                    .prefetch = fl_dgrad_prefetch_of(r->model, s->layer, panels)};
    fl_dgrad_slabs(&b->w, s->layer, &job);
    if (second && second->inputs) {
      job.grads = (const char *)job.grads + r->back_layout.second;
      job.weights = second->wt_x;
      job.add = 1;
      job.prefetch = fl_dgrad_prefetch_of(r->model, second, panels);
      fl_dgrad_slabs(&b->w, second, &job);
    }
  }
}

// The next chunk takes the place of this one, but its first step needs the gate gradients of this one's
// last: they move behind the chunk.
static const char *keep_last_step(const back_worker *b, const char *last, int64_t rows)
{
  const run *r = b->w.r;
  const int64_t vector_bytes = r->model->kernels->lanes * r->elem,
                stride = r->back_layout.grads_stride * r->elem;
  const int64_t vectors = r->model->cell->grads * (int64_t)r->model->unit_vectors;
  char *kept = b->grads + r->plan->chunk_rows * vector_bytes;
  fl_wait_for(&b->w, b->w.group);  // nobody reads the chunk any more
  for (int64_t v = fl_share(vectors, b, b->share); v < fl_share(vectors, b, b->share + 1); ++v)
    memcpy(kept + v * stride, last + v * stride, (size_t)(rows * vector_bytes));
  fl_wait_for(&b->w, b->w.group);
  return kept;
}

// What noise makes of dh_0, in the worker's columns: of `rows` rows the product alone is there.
static void finish_dh_0(const back_worker *b, const back_segment *s, int64_t rows)
{
  const run *r = b->w.r;
  int64_t unit;
  for (int64_t v = b->w.output_begin; v < b->w.output_end; ++v) {
    const int64_t count = fl_vector_units(r, r->model->outputs, v, &unit);
    for (int64_t i = 0; i < rows; ++i) {
      if (fl_masks_h(r)) fl_drop_h(r, s->layer_dir, b->w.row_begin + i, unit, count, b->dy_now[i]);
      const char *held = dh_last(b) + (i * r->back_layout.dh_stride + unit) * r->elem;
      if (carries_dh(r)) fl_add(r, b->dy_now[i] + unit * r->elem, held, count);
    }
  }
}

// dh_0 and dc_0 from the first step's gate gradients, which `rows` rows have, and from what it carried; the
// others never ran.
static void end_segment(const back_worker *b, const back_segment *s, const char *grads, int64_t rows)
{
  const run *r = b->w.r;
  const fastlstm_back_io *io = r->back;
  const int carries_h = r->model->cell->carries_h;
  const int64_t lanes = r->model->kernels->lanes, batch = r->plan->batch;
  const int64_t units = r->model->spec.hidden_size, outputs = r->model->outputs;
  int64_t unit;
  for (int64_t i = 0; i < b->w.row_end - b->w.row_begin; ++i) {
    const int64_t place = s->layer_dir * batch + r->order[b->w.row_begin + i];
    for (int64_t v = b->w.vector_begin; io->dc_0 && v < b->w.vector_end; ++v) {
      const size_t bytes = (size_t)(fl_vector_units(r, units, v, &unit) * r->elem);
      memcpy((char *)io->dc_0 + (place * units + unit) * r->elem,
             carry_of(b) + (v * batch + i) * lanes * r->elem, bytes);
    }
    if (!io->dh_0) continue;
    b->dy_now[i] = (char *)io->dh_0 + place * outputs * r->elem;
    if (i < rows && !carries_h) continue;
    for (int64_t v = b->w.output_begin; v < b->w.output_end; ++v) {
      const size_t bytes = (size_t)(fl_vector_units(r, outputs, v, &unit) * r->elem);
      const char *from = i < rows ? carry_of(b) + (v * batch + i) * lanes * r->elem
                                  : dh_last(b) + (i * r->back_layout.dh_stride + unit) * r->elem;
      memcpy(b->dy_now[i] + unit * r->elem, from, bytes);
    }
  }
  if (!io->dh_0 || rows == 0) return;
  const fl_layer *writer = s->layer->second ? s->layer->second : s->layer;  // of h
  const fl_dgrad job = {.grads = grads,
                        .stride = r->back_layout.grads_stride,
                        .weights = writer->wt_h,
                        .recurrent = 1,
                        .columns = outputs,
                        .out = (void *const *)b->dy_now,
                        .add = carries_h,
                        .rows = rows,
                        .panel_begin = b->output_column_begin,
                        .panel_end = b->output_column_end,
                        .prefetch = b->output_prefetch};
  fl_dgrad_slabs(&b->w, s->layer, &job);
  if (carries_dh(r) || fl_masks_h(r)) finish_dh_0(b, s, rows);
}

// Without a single step there is nothing to sum.
static void clear_gradients(const back_worker *b, const back_segment *s)
{
  const run *r = b->w.r;
  if (!s->dw_x || s->add_dw || b->share != 0) return;
  const int64_t rows = fl_weight_gates(s->layer->cell) * s->layer->units;
  memset(s->dw_x, 0, (size_t)(rows * s->layer->inputs * r->elem));
  memset(s->dw_h, 0, (size_t)(rows * r->model->outputs * r->elem));
  if (r->model->spec.proj_size)
    memset(s->dw_second_h, 0, (size_t)(r->model->outputs * s->layer->units * r->elem));
}

// Row pointers from step t + 1, which had `before` rows, to step t, and a copy of them for the chunk.
static void advance(const worker *w, const rows_of *rows, int dir, int64_t t, int64_t before, int64_t running,
                    char **now, char **copy)
{
  fl_advance_rows(w, rows, dir, t, -1, before, now);
  fl_set_rows(w, rows, dir, t, before, running, now);
  if (copy) memcpy(copy, now, (size_t)running * sizeof *now);
}

int fl_run_back_segment(back_worker *b, const back_segment *s)
{
  const run *r = b->w.r;
  const worker *w = &b->w;
  const int64_t rows = w->row_end - w->row_begin, vector_bytes = r->model->kernels->lanes * r->elem;
  const int64_t h_row = r->tape_layout.h_stride * r->elem;
  const char *next = NULL;
  int64_t running = 0, next_rows = 0, t = r->plan->steps - 1;
  int add = s->add_dw;
  begin_segment(b, s);
  while (t >= 0) {
    if (fl_stopped(w)) return 1;
    int64_t chunk = 0;
    for (; t >= 0; --t) {
      while (running < rows && r->sorted_lengths[w->row_begin + running] > t) ++running;
      if (chunk + running > r->plan->chunk_rows) break;
      if (running == 0) continue;
      char *now = b->grads + chunk * vector_bytes,
           *h = fl_h_buffer(r, s->layer_dir, t - 1) + w->row_begin * h_row;
      for (int64_t i = 0; i < running; ++i) b->h_at[chunk + i] = h + i * h_row;
      if (s->layer->second) {
        char *m = fl_m_buffer(r, s->layer_dir, t) + w->row_begin * h_row;
        for (int64_t i = 0; i < running; ++i) b->m_at[chunk + i] = m + i * h_row;
      }
      advance(w, &s->x, s->dir, t, next_rows, running, b->x_now, b->x_at + chunk);
      if (s->has_dx) advance(w, &s->dx, s->dir, t, next_rows, running, b->dx_now, b->dx_at + chunk);
      if (s->has_dy) advance(w, &s->dy, s->dir, t, next_rows, running, b->dy_now, NULL);
      if (s->has_dcells) advance(w, &s->dcells, s->dir, t, next_rows, running, b->dc_now, NULL);
      run_step(b, s, t, next_rows, running, next, now);
      fl_wait_for(w, w->group);
      next = now;
      next_rows = running;
      chunk += running;
    }
    if (chunk > 0) {
      finish_chunk(b, s, chunk, add);
      add = 1;
    }
    if (t >= 0 && chunk > 0) next = keep_last_step(b, next, next_rows);
  }
  if (next_rows == 0) clear_gradients(b, s);
  end_segment(b, s, next, next_rows);
  fl_wait_for(w, w->group);  // dx of all rows, for the other direction and the layer before
  return 0;
}
