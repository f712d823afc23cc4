// SPDX-License-Identifier: BSD-3-Clause
// Kernels on jobs of any size: in slabs of rows and panels, between which the caller may stop the run.
// Panels and rows are independent of each other, so slabs change no bit.
#include "internal/run.h"

// A slab takes so many flops at most where the work can be divided: some 20 to 100 ms.
static const double SLAB_FLOPS = 2e9;
// The caller is asked before jobs of so many flops: of those, the clock's 20 ns are nothing.
static const double POLLED_FLOPS = 1e8;
// Rows of a slab at least: each reads the weights of its panels once more.
enum { SLAB_ROWS = 96 };
// Gate vectors of a slab of weight gradients at least, since each packs the inputs once more; rows at most.
enum { WGRAD_SLAB = 8, WGRAD_ROWS = 1 << 18 };

typedef struct slabs {
  int64_t rows, columns;  // of one
} slabs;

// How to cut `rows` by `columns` when one column of one row takes `flops`. Columns go by multiples of
// `multiple`.
static slabs cut(int64_t rows, int64_t columns, int64_t multiple, double flops)
{
  slabs s = {rows, columns};
  const double fit = SLAB_FLOPS / (flops * (double)(rows > 0 ? rows : 1));
  if (fit >= (double)columns) return s;
  s.columns = fit > (double)multiple ? (int64_t)fit / multiple * multiple : multiple;
  if (s.columns > columns) s.columns = columns;
  const double most = SLAB_FLOPS / (flops * (double)s.columns);
  if (fit < (double)s.columns && most < (double)rows) s.rows = most > SLAB_ROWS ? (int64_t)most : SLAB_ROWS;
  return s;
}

int64_t fl_slab_rows(int64_t rows, double flops) { return cut(rows, 1, 1, flops).rows; }

int fl_is_large(const worker *w, int64_t rows, int64_t inputs)
{
  const double lanes = w->r->model->kernels->lanes, panels = w->panel_end - w->panel_begin;
  return 2.0 * FL_PANEL * lanes * panels * (double)inputs * (double)rows > POLLED_FLOPS;
}

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

static const char *const *past(const void *const *rows, int64_t count)
{
  return rows ? (const char *const *)(rows + count) : NULL;
}

// Whether there is nothing to do any more; the caller may say so before large jobs.
static int stopped(const worker *w, double flops)
{
  if (flops > POLLED_FLOPS) return fl_polled(w);
  return atomic_load_explicit(&w->r->stop, memory_order_relaxed);
}

void fl_step_slabs(const worker *w, const fl_layer *layer, const fl_step *job)
{
  const fl_kernels *kernels = w->r->model->kernels;
  const int64_t elem = w->r->elem, lanes = kernels->lanes, panels = job->panel_end - job->panel_begin;
  const double flops =
      2.0 * FL_PANEL * (double)lanes * (double)(layer->w_h.inputs + (job->x ? layer->inputs : 0));
  if (fl_polled(w)) return;
  // Multiples of 6 split neither groups of two panels nor one of three (next_group in product/tile.inc.h).
  const int64_t multiple = layer->cell->row_sums ? panels
                           : job->rows <= 3      ? 6
                                                 : fl_bundle_panels(layer->cell);
  const slabs s = cut(job->rows, panels, multiple, flops);
  if (s.rows == job->rows && s.columns == panels) {
    kernels->step(layer, job);
    return;
  }
  const int64_t slabs_of_panels = fl_ceil_div(panels, s.columns);
  for (int64_t i = 0; i < slabs_of_panels; ++i) {
    const int64_t done = (job->descending ? slabs_of_panels - 1 - i : i) * s.columns;
    const int64_t count = least(s.columns, panels - done), begin = job->panel_begin + done;
    for (int64_t row = 0; row < job->rows && !fl_polled(w); row += s.rows) {
      fl_step part = *job;
      part.panel_begin = (int32_t)begin;
      part.panel_end = (int32_t)(begin + count);
      part.rows = least(s.rows, job->rows - row);
      part.x = (const void *const *)past(job->x, row);
      if (job->projected)
        part.projected = (const char *)job->projected + row * job->projected_row_stride * elem;
      part.h_prev = (const char *)job->h_prev + row * job->h_stride * elem;
      if (job->h_old) part.h_old = (const char *)job->h_old + row * job->h_stride * elem;
      part.h_next = (char *)job->h_next + row * job->h_stride * elem;
      if (job->c) part.c_prev = (const char *)job->c_prev + row * lanes * elem;
      if (job->c) part.c = (char *)job->c + row * lanes * elem;
      if (job->activations)
        part.activations = (char *)job->activations + row * layer->cell->activations * lanes * elem;
      part.y = job->y + row;
      if (job->cells) part.cells = job->cells + row;
      if (job->h_before) part.h_before = (const char *)job->h_before + row * job->h_stride * elem;
      if (job->h_whole) part.h_whole = (char *)job->h_whole + row * job->h_stride * elem;
      if (job->new_c) part.new_c = (char *)job->new_c + row * lanes * elem;
      if (job->new_h) part.new_h = (char *)job->new_h + row * job->h_stride * elem;
      part.noise_row += row;
      kernels->step(layer, &part);
    }
  }
}

void fl_project_slabs(const worker *w, const fl_layer *layer, const fl_project *job)
{
  const fl_kernels *kernels = w->r->model->kernels;
  const int64_t lanes = kernels->lanes, panels = job->panel_end - job->panel_begin;
  const slabs s = cut(job->rows, panels, 1, 2.0 * FL_PANEL * (double)(lanes * layer->inputs));
  for (int64_t done = 0; done < panels; done += s.columns) {
    for (int64_t row = 0; row < job->rows && !fl_polled(w); row += s.rows) {
      fl_project part = *job;
      part.panel_begin = (int32_t)(job->panel_begin + done);
      part.panel_end = (int32_t)(part.panel_begin + least(s.columns, panels - done));
      part.rows = least(s.rows, job->rows - row);
      part.x = (const void *const *)past(job->x, row);
      part.out = (char *)job->out + row * FL_PANEL * lanes * w->r->elem;
      kernels->project(layer, &part);
    }
  }
}

void fl_back_step_slabs(const worker *w, const fl_layer *layer, const fl_back_step *job)
{
  const fl_kernels *kernels = w->r->model->kernels;
  const int64_t elem = w->r->elem, lanes = kernels->lanes, panels = job->panel_end - job->panel_begin;
  const fl_layer *reader = fl_reader(layer);
  const double flops = 4.0 * reader->cell->gates * (double)lanes * (double)(job->next ? reader->units : 1);
  if (stopped(w, flops * (double)(job->rows * panels))) return;
  const slabs s = cut(job->rows, panels, layer->cell->row_sums ? panels : 1, flops);
  for (int64_t done = 0; done < panels; done += s.columns) {
    const int64_t count = least(s.columns, panels - done);
    const int64_t begin = job->descending ? job->panel_end - done - count : job->panel_begin + done;
    for (int64_t row = 0; row < job->rows; row += s.rows) {
      fl_back_step part = *job;
      const int64_t row_bytes = row * lanes * elem;  // of the part's first row within a unit vector's block
      part.panel_begin = (int32_t)begin;
      part.panel_end = (int32_t)(begin + count);
      part.rows = least(s.rows, job->rows - row);
      if (job->next) part.next = (const char *)job->next + row_bytes;
      part.now = (char *)job->now + row_bytes;
      if (job->first) part.first = (char *)job->first + row_bytes;
      part.dy = (const void *const *)past(job->dy, row);
      part.dc = (const void *const *)past(job->dc, row);
      if (job->dh_last) part.dh_last = (const char *)job->dh_last + row * job->dh_stride * elem;
      if (job->activations)
        part.activations = (const char *)job->activations + layer->cell->activations * row_bytes;
      part.h = (const char *)job->h + row * job->h_stride * elem;
      part.h_prev = (const char *)job->h_prev + row * job->h_stride * elem;
      if (job->c) part.c = (const char *)job->c + row_bytes;
      if (job->c) part.c_prev = (const char *)job->c_prev + row_bytes;
      if (job->dh_carry) part.dh_carry = (char *)job->dh_carry + row * job->dh_stride * elem;
      part.noise_row += row;
      if (job->carry) part.carry = (char *)job->carry + row_bytes;
      kernels->back_step(layer, &part);
      if (part.rows < job->rows && fl_polled(w)) return;
    }
  }
}

void fl_dgrad_slabs(const worker *w, const fl_layer *layer, const fl_dgrad *job)
{
  const fl_kernels *kernels = w->r->model->kernels;
  const double flops = 2.0 * layer->cell->gates * (double)(layer->units * job->columns);
  const slabs s = cut(job->rows, 1, 1, flops);
  const int64_t rows = s.rows < job->rows ? fl_round_up(s.rows, SLAB_ROWS) : s.rows;
  if (stopped(w, flops * (double)job->rows)) return;
  for (int64_t row = 0; row < job->rows; row += rows) {
    fl_dgrad part = *job;
    part.rows = least(rows, job->rows - row);
    part.grads = (const char *)job->grads + row * kernels->lanes * w->r->elem;
    part.out = job->out + row;
    kernels->dgrad(layer, &part);
    if (part.rows < job->rows && fl_polled(w)) return;
  }
}

// The sum over more than WGRAD_ROWS rows is one of sums, whatever the threads.
void fl_wgrad_slabs(const worker *w, const fl_layer *layer, const fl_wgrad *job)
{
  const fl_kernels *kernels = w->r->model->kernels;
  const int64_t lanes = kernels->lanes;
  const double flops = 2.0 * (double)(lanes * job->columns);
  if (stopped(w, flops * (double)(job->rows * (job->end - job->begin)))) return;
  for (int64_t row = 0; row < job->rows; row += WGRAD_ROWS) {
    fl_wgrad rows = *job;
    rows.rows = least(WGRAD_ROWS, job->rows - row);
    rows.grads = (const char *)job->grads + row * lanes * w->r->elem;
    rows.in = job->in + row;
    rows.add = job->add || row > 0;
    const slabs s = cut(rows.rows, job->end - job->begin, WGRAD_SLAB, flops);
    for (int64_t vector = job->begin; vector < job->end; vector += s.columns) {
      fl_wgrad part = rows;
      part.begin = (int32_t)vector;
      part.end = (int32_t)least(vector + s.columns, job->end);
      kernels->wgrad(layer, &part);
      if (part.end < job->end && fl_polled(w)) return;
    }
  }
}
