// SPDX-License-Identifier: BSD-3-Clause
// Where everything stands in a workspace. A forward run takes it from its plan, a backward run computes it
// once more.
#ifndef FL_PLAN_H
#define FL_PLAN_H

#include "internal/model.h"

// What every workspace begins with; bytes from its start.
typedef struct fl_common_layout {
  int64_t barriers;                // [threads + 1]
  int64_t order, lengths, counts;  // see run
} fl_common_layout;

//   workspace:  barriers | order, lengths, counts | h, c, m of every (layer, direction) |
//               projected sums of every concurrent direction | rows gathered for BLAS |
//               unfinished sums, those of whole rows and row pointers of every thread |
//               outputs of inner layers (two, by turns)
typedef struct fl_run_layout {
  fl_common_layout common;
  // bytes from the workspace's start
  int64_t state, projected, gathered, sums, pointers, inner;
  int64_t h_stride;           // elements between rows of h
  int64_t h_bytes;            // one of the two h buffers of a (layer, direction), and m of two stages
  int64_t c_bytes;            // c of a (layer, direction)
  int64_t activations_bytes;  // of a step, where a second stage reads them and there is no tape
  int64_t state_bytes;        // 2 h_bytes + c_bytes (+ h_bytes + activations_bytes)
  int64_t projected_bytes;    // of one concurrent direction
  int64_t gathered_bytes;
  int64_t sums_bytes;     // of one thread
  int64_t row_sums;       // from the start of these: sums of whole rows, if the cell takes them
  int64_t pointer_count;  // of one thread
  int64_t inner_stride;   // elements between rows of an inner layer's output
  int64_t inner_bytes;    // one of the two
  int64_t total;
} fl_run_layout;

//   tape:  for each (layer, direction), steps in the direction's own order:
//              activations [T][unit vector][B][activations of a unit][VL] | c [T + 1][unit vector][B][VL] |
//              h [T + 1][B][h_stride] | m [T][B][h_stride], if there are two stages |
//              all of h [B][h_stride], if products read part of it |
//              c before zoneout [T][unit vector][B][VL], if there is some |
//              h before noise [T][B][h_stride], if there is some and it is clipped
//          outputs of inner layers after dropout [T][B][inner_stride], steps in the order of time |
//          x after dropout [T][B][x_stride], if it has some
//
// Slot 0 of c and h holds the initial state. Rows stand as in run.h; what is past a sequence's end
// is never written nor read.
typedef struct fl_tape_layout {
  int64_t activations_step, c_step, h_step;  // bytes of a step
  int64_t c, h, m, whole, new_c, new_h;      // bytes from the start of a (layer, direction)
  int64_t layer_dir_bytes;                   // of a (layer, direction)
  int64_t inner, inner_bytes;
  int64_t x;
  int64_t h_stride, inner_stride, x_stride;  // elements
  int64_t total;
  int32_t streaming;  // it outgrows the caches, so it is written past them
} fl_tape_layout;

//   workspace of a backward pass:  barriers | order, lengths, counts | dc, or what else is carried from step
//       to step beside the products | dh_n of every row | sums of bias gradients: of the chunk, of all | gate
//       gradients of a chunk and a step, those of a second stage behind them | inputs packed for weight
//       gradients | row pointers of every thread | weight gradients of every shard | gradients of inner
//       layers' outputs (two, by turns)
typedef struct fl_back_layout {
  fl_common_layout common;
  // bytes from the workspace's start
  int64_t dc, dh_last, bias, grads, scratch, pointers, shards, inner;
  int64_t dh_stride, grads_stride, inner_stride;  // elements
  int64_t grads_bytes;                            // of one chunk
  int64_t second;         // those of the second stage, from the start of gate gradients
  int64_t scratch_bytes;  // of one thread
  int64_t pointer_count;  // of one thread
  int64_t bias_bytes;     // of one (layer, direction) of one shard: one of the two sums
  int64_t shard_bytes;    // of one shard; 0 where there is only one
  int64_t inner_bytes;
  int64_t total;
} fl_back_layout;

// Whether weights of so many bytes outgrow the second-level cache, and what lies behind it is so slow that it
// counts.
static inline int fl_beyond_l2(const fastlstm_model *model, double bytes)
{
  return model->caches.block_bytes && bytes > model->caches.l2_bytes;
}

// blocking.c
// How `rows` rows read weights in the forward pass: each sum takes `inputs` of them, all sums take `bytes`.
fl_blocking fl_blocking_of(const fastlstm_model *model, int64_t rows, int64_t inputs, double bytes);
// How the backward pass reads `panels` column panels whose sums are over the gradients of `reader`'s gates.
fl_dgrad_prefetch fl_dgrad_prefetch_of(const fastlstm_model *model, const fl_layer *reader, int64_t panels);

// layout.c; these return 0 when a size overflows.
int fl_run_layout_of(const fastlstm_model *model, const fastlstm_plan *plan, fl_run_layout *layout);
int fl_tape_layout_of(const fastlstm_spec *spec, int64_t steps, int64_t batch, fl_tape_layout *layout);
int fl_back_layout_of(const fastlstm_model *model, const fastlstm_plan *plan, fl_back_layout *layout);

#endif
