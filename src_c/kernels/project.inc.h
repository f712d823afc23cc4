// SPDX-License-Identifier: BSD-3-Clause
// Input projection of many rows at once: gates = bias + x W_x. It starts the sums that the step
// kernel goes on with, so projecting first or inside the step gives the same bits.
#ifndef FL_PROJECT_H
#define FL_PROJECT_H

FL_INLINE void project_tile(const int rows, const int full, const int tail, const fl_layer *layer,
                            const fl_project *job, int64_t panel, int64_t row)
{
  const int nv = 4 * full + tail;
  const real *w = (const real *)layer->w_x + panel * layer->inputs * 4 * VL;
  const real *bias = (const real *)layer->bias + panel * 4 * VL;
  vreal acc[FL_ACCUMULATORS];
  FL_UNROLL
  for (int r = 0; r < rows; ++r) {
    FL_UNROLL
    for (int v = 0; v < nv; ++v) acc[r * nv + v] = vload(bias + v * VL);
  }
  multiply(rows, full, tail, 1, acc, (rows_in)job->x + row, w, layer->inputs);
  real *gates = (real *)job->gates + panel * job->panel_stride + row * 4 * VL;
  FL_UNROLL
  for (int r = 0; r < rows; ++r) {
    FL_UNROLL
    for (int v = 0; v < nv; ++v) vstore(gates + r * 4 * VL + v * VL, acc[r * nv + v]);
  }
}

typedef void project_fn(const fl_layer *, const fl_project *, int64_t, int64_t);

#define FL_PROJECT(rows, full, tail)                                                                        \
  static void project_##rows##_##full##_##tail(const fl_layer *layer, const fl_project *job, int64_t panel, \
                                               int64_t row)                                                 \
  {                                                                                                         \
    if (FL_FITS(rows, full, tail, 1)) project_tile(rows, full, tail, layer, job, panel, row);               \
  }
#define FL_PROJECT_ROWS(rows) FL_PROJECT(rows, 1, 0) FL_PROJECT(rows, 0, 1) FL_PROJECT(rows, 0, 2)
FL_PROJECT_ROWS(1)
FL_PROJECT_ROWS(2)
FL_PROJECT_ROWS(3)
FL_PROJECT_ROWS(4)
FL_PROJECT_ROWS(5)
FL_PROJECT_ROWS(6)

#define FL_PROJECT_ENTRY(rows) {project_##rows##_1_0, project_##rows##_0_1, project_##rows##_0_2}
static project_fn *const project_tiles[6][3] = {
    FL_PROJECT_ENTRY(1), FL_PROJECT_ENTRY(2), FL_PROJECT_ENTRY(3),
    FL_PROJECT_ENTRY(4), FL_PROJECT_ENTRY(5), FL_PROJECT_ENTRY(6),
};

static void project(const fl_layer *layer, const fl_project *job)
{
  const int64_t tiles = tile_count(job->rows, MAX_ROWS);
  for (int p = job->panel_begin; p < job->panel_end; ++p) {
    const int kind = p < layer->full ? 0 : layer->tail;
    if (job->block && tiles > 1) {
      const product x = {(rows_in)job->x, layer->w_x, layer->inputs};
      sum_in_blocks(layer, &x, p, job->rows, (const real *)layer->bias + p * 4 * VL, 0,
                    (real *)job->gates + p * job->panel_stride, job->block, panel_of(&x, p + 1));
      continue;
    }
    for (int64_t q = 0; q < tiles; ++q) {
      const int64_t row = job->rows * q / tiles, end = job->rows * (q + 1) / tiles;
      project_tiles[end - row - 1][kind](layer, job, p, row);
    }
  }
}

#endif
