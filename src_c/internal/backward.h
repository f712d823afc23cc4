// SPDX-License-Identifier: BSD-3-Clause
// What a worker of the backward pass has for itself. Private to run/backward.c and run/chunk.c.
//
// A worker takes one shard of the batch, or, where there is only one shard, a share of everything:
// column panels of the recurrent product, gate rows of the weight gradients, rows of dx.
#ifndef FL_BACKWARD_H
#define FL_BACKWARD_H

#include "internal/run.h"

typedef struct back_worker {
  worker w;  // rows, unit vectors, barriers
  int64_t shard;
  int32_t share, shares;                           // which share of its shard, of how many
  int32_t column_begin, column_end;                // panels of two vectors of hidden units
  int32_t output_column_begin, output_column_end;  // likewise of h
  int32_t prefetch, output_prefetch;               // of their weights, an fl_dgrad_prefetch
  char *grads;  // gate gradients of a chunk; behind them, one step of the chunk before
  char *scratch;
  char **x_at, **h_at, **m_at, **dx_at;        // rows of the chunk
  char **x_now, **dx_now, **dy_now, **dc_now;  // rows of a step
} back_worker;

typedef struct back_segment {
  const fl_layer *layer;
  int64_t layer_dir;  // layer * directions + direction
  int dir;
  rows_of x, dy, dcells, dx;
  int has_dy, has_dcells, has_dx, add_dx;
  void *dw_x, *dw_h;                // or NULL
  void *dw_second_x, *dw_second_h;  // of the second stage, if there is one
  int add_dw;
} back_segment;

// chunk.c
int64_t fl_share(int64_t count, const back_worker *b, int64_t share);
void fl_add(const run *r, void *sum, const void *from, int64_t count);
char *fl_bias_sums(const run *r, int64_t shard, int64_t layer_dir, int total);
int fl_run_back_segment(back_worker *b, const back_segment *s);  // returns whether it was stopped

#endif
