// SPDX-License-Identifier: BSD-3-Clause
// How states come in and go out.
#include <string.h>

#include "internal/run.h"

// The h that step 0 reads stands where step -1 would have put it.
static void load_rows(const worker *w, int64_t layer_dir, int64_t begin, int64_t end)
{
  const run *r = w->r;
  const int64_t lanes = r->model->kernels->lanes, batch = r->plan->batch, full = lanes * r->elem;
  const int64_t units = r->model->spec.hidden_size, outputs = r->model->outputs;
  char *c_buffer = fl_c_buffer(r, layer_dir, -1);
  int64_t unit;
  for (int32_t v = w->output_begin; v < w->output_end; ++v) {
    const int64_t bytes = fl_vector_units(r, outputs, v, &unit) * r->elem;
    for (int64_t row = begin; row < end; ++row) {
      char *h = fl_h_buffer(r, layer_dir, -1) + (row * r->layout.h_stride + unit) * r->elem;
      const int64_t from = ((layer_dir * batch + r->order[row]) * outputs + unit) * r->elem;
      memset(h, 0, (size_t)full);
      if (r->io->h_0) memcpy(h, (const char *)r->io->h_0 + from, (size_t)bytes);
      if (!fl_masks_h(r)) continue;
      memcpy(fl_whole_buffer(r, layer_dir) + (row * r->layout.h_stride + unit) * r->elem, h, (size_t)full);
      fl_drop_h(r, layer_dir, row, unit, bytes / r->elem, h - unit * r->elem);
    }
  }
  for (int32_t v = w->vector_begin; c_buffer && v < w->vector_end; ++v) {
    const int64_t bytes = fl_vector_units(r, units, v, &unit) * r->elem;
    for (int64_t row = begin; row < end; ++row) {
      const int64_t from = ((layer_dir * batch + r->order[row]) * units + unit) * r->elem;
      char *c = c_buffer + (v * batch + row) * full;
      memset(c, 0, (size_t)full);
      if (r->io->c_0) memcpy(c, (const char *)r->io->c_0 + from, (size_t)bytes);
    }
  }
}

void fl_load_state(const worker *w, int64_t layer_dir)
{
  for (int64_t row = w->row_begin; row < w->row_end && !fl_polled(w); row += FL_POLL_ROWS)
    load_rows(w, layer_dir, row, row + FL_POLL_ROWS < w->row_end ? row + FL_POLL_ROWS : w->row_end);
}

void fl_store_state(const worker *w, int64_t layer_dir)
{
  const run *r = w->r;
  const int64_t lanes = r->model->kernels->lanes, batch = r->plan->batch;
  const int64_t units = r->model->spec.hidden_size, outputs = r->model->outputs;
  int64_t unit;
  for (int32_t v = w->output_begin; r->io->h_n && v < w->output_end; ++v) {
    const int64_t bytes = fl_vector_units(r, outputs, v, &unit) * r->elem;
    for (int64_t row = w->row_begin; row < w->row_end; ++row) {
      const int64_t last = r->sorted_lengths[row] - 1,
                    to = ((layer_dir * batch + r->order[row]) * outputs + unit) * r->elem;
      const char *rows = fl_masks_h(r) ? fl_whole_buffer(r, layer_dir) : fl_h_buffer(r, layer_dir, last);
      const char *h = rows + (row * r->layout.h_stride + unit) * r->elem;
      memcpy((char *)r->io->h_n + to, h, (size_t)bytes);
    }
  }
  for (int32_t v = w->vector_begin; r->io->c_n && v < w->vector_end; ++v) {
    const int64_t bytes = fl_vector_units(r, units, v, &unit) * r->elem;
    for (int64_t row = w->row_begin; row < w->row_end; ++row) {
      const int64_t last = r->sorted_lengths[row] - 1,
                    to = ((layer_dir * batch + r->order[row]) * units + unit) * r->elem;
      const char *c = fl_c_buffer(r, layer_dir, last) + (v * batch + row) * lanes * r->elem;
      memcpy((char *)r->io->c_n + to, c, (size_t)bytes);
    }
  }
}
