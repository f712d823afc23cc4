// SPDX-License-Identifier: BSD-3-Clause
// Input projection of many rows at once: gates = bias + x W_x. It starts the sums that the step
// kernel goes on with, so projecting first or inside the step gives the same bits.
#ifndef FL_PROJECT_H
#define FL_PROJECT_H

static void project(const fl_layer *layer, const fl_project *job)
{
  const product x = {(rows_in)job->x, layer->w_x, layer->inputs};
  for (int p = job->panel_begin; p < job->panel_end; ++p) {
    const real *bias = (const real *)layer->bias + p * 4 * VL;
    real *gates = (real *)job->gates + p * job->panel_stride;
    const real *next = panel_of(&x, p + 1 < job->panel_end ? p + 1 : p);
    sum_in_blocks(layer, &x, p, job->rows, bias, 0, gates, &job->reading, next);
  }
}

#endif
