// SPDX-License-Identifier: BSD-3-Clause
// The time loops of inference.
//
//   team -> worker (a direction, some rows, some panels)
//     block of steps -> layer -> segment:  project | step, step, step ... (barrier after each,
//                                          where workers share the hidden units)
//
// Rows are sorted by falling length, so that the rows still running at a step are the first ones.
// Worker slices take every n-th of them: each gets its share of the long ones.
#define _GNU_SOURCE
#include <string.h>

#include "cpu.h"
#include "plan.h"
#include "team.h"

// A team that spent so much of its time waiting for late threads has been held up.
static const double LATE_SHARE = 0.25, LATE_SECONDS = 2e-4;

typedef struct run {
  const fl_model *model;
  const fl_plan *plan;
  const fl_io *io;
  fl_map map;
  char *space;
  int64_t elem;
  int64_t *order;    // [B] sorted row -> place in the batch
  int64_t *lengths;  // [B] of sorted rows
  fl_barrier *team;  // all threads
  atomic_int stop;
  atomic_llong waited;  // nanoseconds that threads waited for late ones
  double finished;      // when thread 0 had done its part of a team's work
  double polled;        // when fl_io.poll was last called, by thread 0 only
} run;

typedef struct worker {
  run *r;
  int first_dir, last_dir;     // directions it runs
  int64_t row_begin, row_end;  // sorted rows
  int32_t panel_begin, panel_end;
  fl_barrier *group;  // workers that share its rows by hidden units, or NULL
  fl_barrier *team;   // NULL when alone
  int thread;
  char *gates, *gathered;
  char **x_at, **y_at, **cells_at, **project_at;  // row pointers
} worker;

static void wait_for(const worker *w, fl_barrier *barrier)
{
  if (!barrier) return;
  const int64_t waited = fl_barrier_wait(barrier);
  if (waited > 0) atomic_fetch_add(&w->r->waited, waited);
}

// ---- rows ----

static int64_t slice_begin(int64_t count, int64_t parts, int64_t part)
{
  const int64_t rest = count % parts;
  return part * (count / parts) + (part < rest ? part : rest);
}

// Sorts rows by falling length (counting sort, stable) and deals them to the row groups in turn.
static void order_rows(run *r)
{
  const int64_t batch = r->plan->batch, steps = r->plan->steps, groups = r->plan->row_groups;
  if (!r->io->lengths) {
    for (int64_t b = 0; b < batch; ++b) {
      r->order[b] = b;
      r->lengths[b] = steps;
    }
    return;
  }
  int64_t *start = (int64_t *)(r->space + r->map.counts);  // start[n]: rows longer than n
  memset(start, 0, (size_t)(steps + 2) * sizeof *start);
  for (int64_t b = 0; b < batch; ++b) start[r->io->lengths[b]] += 1;
  for (int64_t n = steps, before = 0; n >= 0; --n) {
    const int64_t here = start[n];
    start[n] = before;
    before += here;
  }
  for (int64_t b = 0; b < batch; ++b) {
    const int64_t rank = start[r->io->lengths[b]]++;
    const int64_t row = slice_begin(batch, groups, rank % groups) + rank / groups;
    r->order[row] = b;
    r->lengths[row] = r->io->lengths[b];
  }
}

static int64_t running(const worker *w, int64_t t, int64_t end)
{
  while (end > w->row_begin && w->r->lengths[end - 1] <= t) --end;
  return end;
}

// ---- state ----

static char *state_of(const run *r, int64_t index)
{
  return r->space + r->map.state + index * r->map.state_bytes;
}

static char *h_buffer(const run *r, int64_t index, int64_t t)
{
  return state_of(r, index) + (t & 1) * r->map.h_bytes;
}

static char *c_buffer(const run *r, int64_t index) { return state_of(r, index) + 2 * r->map.h_bytes; }

// Units of panel p: where they begin and how many there are.
static int64_t panel_units(const run *r, int32_t p, int64_t *begin)
{
  const int64_t lanes = r->model->kernels->lanes, units = r->model->spec.hidden_size;
  *begin = p * lanes;
  return units - *begin < lanes ? units - *begin : lanes;
}

// The h that step 0 reads stands where step -1 would have put it.
static void load_state(const worker *w, int64_t index)
{
  const run *r = w->r;
  const int64_t lanes = r->model->kernels->lanes, batch = r->plan->batch, units = r->model->spec.hidden_size;
  for (int32_t p = w->panel_begin; p < w->panel_end; ++p) {
    int64_t unit;
    const int64_t bytes = panel_units(r, p, &unit) * r->elem, full = lanes * r->elem;
    for (int64_t row = w->row_begin; row < w->row_end; ++row) {
      char *h = h_buffer(r, index, -1) + (row * r->map.h_stride + unit) * r->elem;
      char *c = c_buffer(r, index) + (p * batch + row) * full;
      const int64_t from = ((index * batch + r->order[row]) * units + unit) * r->elem;
      memset(h, 0, (size_t)full);
      memset(c, 0, (size_t)full);
      if (r->io->h_0) memcpy(h, (const char *)r->io->h_0 + from, (size_t)bytes);
      if (r->io->c_0) memcpy(c, (const char *)r->io->c_0 + from, (size_t)bytes);
    }
  }
}

static void store_state(const worker *w, int64_t index)
{
  const run *r = w->r;
  const int64_t lanes = r->model->kernels->lanes, batch = r->plan->batch, units = r->model->spec.hidden_size;
  for (int32_t p = w->panel_begin; p < w->panel_end; ++p) {
    int64_t unit;
    const int64_t bytes = panel_units(r, p, &unit) * r->elem;
    for (int64_t row = w->row_begin; row < w->row_end; ++row) {
      const char *h = h_buffer(r, index, r->lengths[row] - 1) + (row * r->map.h_stride + unit) * r->elem;
      const char *c = c_buffer(r, index) + (p * batch + row) * lanes * r->elem;
      const int64_t to = ((index * batch + r->order[row]) * units + unit) * r->elem;
      if (r->io->h_n) memcpy((char *)r->io->h_n + to, h, (size_t)bytes);
      if (r->io->c_n) memcpy((char *)r->io->c_n + to, c, (size_t)bytes);
    }
  }
}

// ---- where a layer reads and writes ----

// Rows of an array of steps: row (t, b) at base + t * t_bytes + b * row_bytes.
typedef struct rows_of {
  char *base;
  int64_t t_bytes, row_bytes;
  int by_batch;  // b is the place in the batch, else the sorted row
} rows_of;

static rows_of user_rows(const run *r, const void *base, int64_t t, int64_t b, int dir)
{
  const int64_t shift = dir * r->model->spec.hidden_size * r->elem;
  return (rows_of){(char *)base + shift, t * r->elem, b * r->elem, 1};
}

// Output of an inner layer. With one direction the buffer holds the steps of one block only.
static rows_of inner_rows(const run *r, int64_t layer, int dir, int64_t block)
{
  const int64_t row = r->map.inner_stride * r->elem, step = r->plan->batch * row;
  char *base = r->space + r->map.inner + (layer & 1) * r->map.inner_bytes;
  const int64_t skip = r->model->spec.directions == 1 ? block * step : 0;
  return (rows_of){base - skip + dir * r->model->spec.hidden_size * r->elem, step, row, 0};
}

// Pointers of the worker's rows for step t of a direction; each next step is one add further on.
static void place(const worker *w, const rows_of *rows, int dir, int64_t t, char **at)
{
  const run *r = w->r;
  for (int64_t row = w->row_begin; row < w->row_end; ++row) {
    const int64_t time = dir ? r->lengths[row] - 1 - t : t;
    const int64_t b = rows->by_batch ? r->order[row] : row;
    at[row - w->row_begin] =
        (char *)((uintptr_t)rows->base + (uintptr_t)(time * rows->t_bytes + b * rows->row_bytes));
  }
}

static void advance(char **at, int64_t count, int64_t bytes)
{
  for (int64_t i = 0; i < count; ++i) at[i] = (char *)((uintptr_t)at[i] + (uintptr_t)bytes);
}

// ---- segments ----

typedef struct segment {
  const fl_layer *layer;
  int64_t index;  // layer * directions + direction
  int dir;
  rows_of x, y, cells;
  int has_cells;
} segment;

// Projects `steps` steps from t on; rows of later steps follow those of earlier ones.
static void project_ahead(const worker *w, const segment *s, int64_t t, int64_t steps, int64_t panel_stride)
{
  const run *r = w->r;
  const int64_t x_bytes = s->dir ? -s->x.t_bytes : s->x.t_bytes;
  int64_t count = 0, end = w->row_end;
  for (int64_t i = 0; i < steps; ++i) {
    end = running(w, t + i, end);
    for (int64_t row = w->row_begin; row < end; ++row)
      w->project_at[count++] = (char *)((uintptr_t)w->x_at[row - w->row_begin] + (uintptr_t)(i * x_bytes));
  }
  if (count == 0) return;
  if (!r->model->spec.gemm_blas) {
    const fl_project job = {.x = (const void *const *)w->project_at,
                            .gates = w->gates,
                            .panel_stride = panel_stride,
                            .rows = count,
                            .panel_begin = w->panel_begin,
                            .panel_end = w->panel_end};
    r->model->kernels->project(s->layer, &job);
    return;
  }
  const int64_t lanes = r->model->kernels->lanes, row_width = r->model->vectors * lanes;
  const int64_t first = w->panel_begin * 4 * lanes;
  const int64_t last = w->panel_end * 4 * lanes < row_width ? w->panel_end * 4 * lanes : row_width;
  const size_t row_bytes = (size_t)(s->layer->inputs * r->elem);
  for (int64_t i = 0; i < count; ++i) {
    memcpy(w->gathered + (size_t)i * row_bytes, w->project_at[i], row_bytes);
    memcpy(w->gates + (i * row_width + first) * r->elem, (const char *)s->layer->bias + first * r->elem,
           (size_t)((last - first) * r->elem));
  }
  r->io->gemm(r->model->spec.dtype, count, last - first, s->layer->inputs, w->gathered, s->layer->inputs,
              (const char *)s->layer->w_x + first * r->elem, row_width, w->gates + first * r->elem,
              row_width);
}

static void run_segment(const worker *w, const segment *s, int64_t t_begin, int64_t t_end)
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
  const int alone = rows == 1 && !w->group && r->model->vectors <= kernels->sequence_vectors;
  const int64_t c_stride = r->plan->batch * lanes;
  char *c = c_buffer(r, s->index) + w->row_begin * lanes * elem;

  place(w, &s->x, s->dir, t_begin, w->x_at);
  place(w, &s->y, s->dir, t_begin, w->y_at);
  if (s->has_cells) place(w, &s->cells, s->dir, t_begin, w->cells_at);
  int64_t end = w->row_end;
  for (int64_t t = t_begin; t < t_end;) {
    const int64_t steps = ahead && ahead < t_end - t ? ahead : t_end - t;
    if (ahead) project_ahead(w, s, t, steps, gates_panel);
    int64_t done = 0;  // rows of the projection used up
    if (alone) {
      const int64_t left = r->lengths[w->row_begin] - t, count = left < steps ? left : steps;
      if (count > 0) {
        // h leaves in the buffer that the next step reads: the parity of the last step.
        char *h = h_buffer(r, s->index, t + count - 1) + w->row_begin * r->map.h_stride * elem;
        const char *h_prev = h_buffer(r, s->index, t - 1) + w->row_begin * r->map.h_stride * elem;
        if (h != h_prev) memcpy(h, h_prev, (size_t)(r->model->panels * lanes * elem));
        const fl_sequence job = {.steps = count,
                                 .x = ahead ? NULL : w->x_at[0],
                                 .x_stride = x_bytes / elem,
                                 .gates = w->gates,
                                 .gates_panel_stride = gates_panel,
                                 .gates_row_stride = gates_row,
                                 .h = h,
                                 .c = c,
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
      end = running(w, t, end);
      const fl_step job = {.x = ahead ? NULL : (const void *const *)w->x_at,
                           .gates = ahead ? w->gates + done * gates_row * elem : NULL,
                           .gates_panel_stride = gates_panel,
                           .gates_row_stride = gates_row,
                           .h_prev = h_buffer(r, s->index, t - 1) + w->row_begin * r->map.h_stride * elem,
                           .h_next = h_buffer(r, s->index, t) + w->row_begin * r->map.h_stride * elem,
                           .h_stride = r->map.h_stride,
                           .c = c,
                           .c_panel_stride = c_stride,
                           .y = (void *const *)w->y_at,
                           .cells = s->has_cells ? (void *const *)w->cells_at : NULL,
                           .row_begin = 0,
                           .row_end = end - w->row_begin,
                           .panel_begin = w->panel_begin,
                           .panel_end = w->panel_end,
                           .backwards = (int32_t)(t & 1)};
      if (job.row_end > 0) kernels->step(s->layer, &job);
      done += job.row_end;
      advance(w->x_at, rows, ahead ? 0 : x_bytes);
      advance(w->y_at, rows, y_bytes);
      if (s->has_cells) advance(w->cells_at, rows, cells_bytes);
      wait_for(w, w->group);
    }
    if (alone || ahead) advance(w->x_at, rows, steps * x_bytes);
    if (alone) {
      advance(w->y_at, rows, steps * y_bytes);
      if (s->has_cells) advance(w->cells_at, rows, steps * cells_bytes);
    }
  }
}

static void run_layer(const worker *w, int64_t layer, int dir, int64_t t_begin, int64_t t_end)
{
  const run *r = w->r;
  const fl_io *io = r->io;
  const fl_spec *spec = &r->model->spec;
  const int last = layer == spec->num_layers - 1;
  segment s = {.index = layer * spec->directions + dir, .dir = dir, .has_cells = last && io->cells != NULL};
  s.layer = &r->model->layers[s.index];
  s.x = layer == 0 ? user_rows(r, io->x, io->x_t, io->x_b, 0) : inner_rows(r, layer - 1, 0, t_begin);
  s.y = last ? user_rows(r, io->y, io->y_t, io->y_b, dir) : inner_rows(r, layer, dir, t_begin);
  if (s.has_cells) s.cells = user_rows(r, io->cells, io->cells_t, io->cells_b, dir);
  run_segment(w, &s, t_begin, t_end);
}

// Steps past the end of a sequence, in the columns of the worker's directions.
static void zero_padding(const worker *w, const void *base, int64_t t_stride, int64_t b_stride)
{
  const run *r = w->r;
  if (!base || !r->io->lengths || w->panel_begin != 0) return;
  for (int dir = w->first_dir; dir <= w->last_dir; ++dir) {
    const rows_of rows = user_rows(r, base, t_stride, b_stride, dir);
    for (int64_t row = w->row_begin; row < w->row_end; ++row)
      for (int64_t t = r->lengths[row]; t < r->plan->steps; ++t)
        memset(rows.base + t * rows.t_bytes + r->order[row] * rows.row_bytes, 0,
               (size_t)(r->model->spec.hidden_size * r->elem));
  }
}

// ---- workers ----

// Lets the caller interrupt between blocks; returns whether to stop. All threads agree.
static int stopped(const worker *w)
{
  run *r = w->r;
  if (!r->io->poll) return 0;
  if (w->thread == 0 && fl_now() - r->polled > 0.05) {
    if (r->io->poll(r->io->poll_arg)) atomic_store(&r->stop, 1);
    r->polled = fl_now();
  }
  wait_for(w, w->team);
  const int stop = atomic_load(&r->stop);
  wait_for(w, w->team);  // nobody polls again before all have looked
  return stop;
}

static void run_worker(const worker *w)
{
  const run *r = w->r;
  const fl_spec *spec = &r->model->spec;
  const int64_t steps = r->plan->steps, block = r->plan->block_steps, layers = spec->num_layers;
  for (int64_t l = 0; l < layers; ++l)
    for (int dir = w->first_dir; dir <= w->last_dir; ++dir) load_state(w, l * spec->directions + dir);
  wait_for(w, w->team);
  // One direction: a block of steps goes through all layers. Two: a layer needs all steps of the
  // one before it.
  const int64_t span = spec->directions == 1 ? block : steps;
  for (int64_t from = 0; from < steps; from += span) {
    const int64_t to = from + span < steps ? from + span : steps;
    for (int64_t l = 0; l < layers; ++l) {
      for (int dir = w->first_dir; dir <= w->last_dir; ++dir) {
        for (int64_t t = from; t < to; t += block) {
          if (t > 0 && stopped(w)) return;
          run_layer(w, l, dir, t, t + block < to ? t + block : to);
        }
      }
      if (spec->directions == 2) wait_for(w, w->team);
    }
  }
  for (int64_t l = 0; l < layers; ++l)
    for (int dir = w->first_dir; dir <= w->last_dir; ++dir) store_state(w, l * spec->directions + dir);
  zero_padding(w, r->io->y, r->io->y_t, r->io->y_b);
  zero_padding(w, r->io->cells, r->io->cells_t, r->io->cells_b);
}

// The worker of one place in the plan's grid, or of a whole row group when `alone`.
static void start_worker(run *r, int dir, int row, int unit, int thread, int alone)
{
  const fl_plan *p = r->plan;
  const int units = alone ? 1 : p->unit_groups, by_dir = !alone && p->dir_groups == 2;
  worker w = {.r = r, .thread = thread};
  w.first_dir = by_dir ? dir : 0;
  w.last_dir = by_dir ? dir : r->model->spec.directions - 1;
  w.row_begin = slice_begin(p->batch, p->row_groups, row);
  w.row_end = slice_begin(p->batch, p->row_groups, row + 1);
  w.panel_begin = (int32_t)((int64_t)r->model->panels * unit / units);
  w.panel_end = (int32_t)((int64_t)r->model->panels * (unit + 1) / units);
  w.team = alone ? NULL : r->team;
  w.group = units > 1 ? r->team + 1 + dir * p->row_groups + row : NULL;
  const int64_t before = p->project_steps * w.row_begin * 4 * r->model->panels * r->model->kernels->lanes;
  w.gates = r->space + r->map.gates + (by_dir ? dir * r->map.gates_bytes : 0) + before * r->elem;
  w.gathered = r->space + r->map.gathered + thread * r->map.gathered_bytes;
  const int64_t count = w.row_end - w.row_begin;
  w.x_at = (char **)(r->space + r->map.pointers) + thread * r->map.pointer_count;
  w.y_at = w.x_at + count;
  w.cells_at = w.y_at + count;
  w.project_at = w.cells_at + count;
  run_worker(&w);
}

static void team_body(void *arg, int thread, int threads)
{
  run *r = arg;
  const fl_plan *p = r->plan;
  const uint32_t mode = fl_fp_enter();
  if (threads == p->threads && threads > 1) {
    const int unit = thread % p->unit_groups, group = thread / p->unit_groups;
    start_worker(r, group / p->row_groups, group % p->row_groups, unit, thread, 0);
    if (thread == 0) r->finished = fl_now();
  } else if (thread == 0) {
    // No team, or a run-time that gave fewer threads than planned: the caller does it all.
    for (int row = 0; row < p->row_groups; ++row) start_worker(r, 0, row, 0, 0, 1);
  }
  fl_fp_leave(mode);
}

fl_status fl_forward(const fl_model *model, const fl_plan *plan, const fl_io *io, void *workspace)
{
  run r = {.model = model, .plan = plan, .io = io, .space = workspace, .elem = fl_elem(model->spec.dtype)};
  fl_plan_map(model, plan, &r.map);
  r.order = (int64_t *)(r.space + r.map.order);
  r.lengths = (int64_t *)(r.space + r.map.lengths);
  r.team = (fl_barrier *)(r.space + r.map.barriers);
  atomic_init(&r.stop, 0);
  atomic_init(&r.waited, 0);
  order_rows(&r);
  if (io->poll) r.polled = fl_now();
  if (plan->threads > 1) {
    fl_barrier_init(&r.team[0], plan->threads);
    for (int g = 0; g < plan->threads; ++g) fl_barrier_init(&r.team[1 + g], plan->unit_groups);
  }
  const double start = plan->threads > 1 ? fl_now() : 0;
  r.finished = 0;
  fl_team_run(plan->threads, team_body, &r);
  if (io->late && r.finished != 0) {
    const double end = fl_now(), waited = 1e-9 * (double)atomic_load(&r.waited) + (end - r.finished);
    *io->late = waited > LATE_SECONDS && waited > LATE_SHARE * (end - start);
  }
  return atomic_load(&r.stop) ? FL_INTERRUPTED : FL_OK;
}
