// SPDX-License-Identifier: BSD-3-Clause
// Where everything stands in a workspace, computed alike by the planner and the driver.
#ifndef FL_PLAN_H
#define FL_PLAN_H

#include "model.h"

//   workspace:  barriers | order, lengths, counts | h, c of every (layer, direction) |
//               projected gates of every concurrent direction | rows gathered for BLAS |
//               row pointers of every thread | outputs of inner layers (two, by turns)
typedef struct fl_map {
  // bytes from the workspace's start
  int64_t barriers, order, lengths, counts, state, gates, gathered, pointers, inner;
  int64_t h_stride;        // elements between rows of h
  int64_t h_bytes;         // one of the two h buffers of a (layer, direction)
  int64_t c_bytes;         // c of a (layer, direction)
  int64_t state_bytes;     // 2 h_bytes + c_bytes
  int64_t gates_bytes;     // of one concurrent direction
  int64_t gathered_bytes;  // of one thread
  int64_t pointer_count;   // of one thread
  int64_t inner_stride;    // elements between rows of an inner layer's output
  int64_t inner_bytes;     // one of the two
  int64_t total;
} fl_map;

// Returns 0 when a size overflows.
int fl_plan_map(const fl_model *model, const fl_plan *plan, fl_map *map);

#endif
