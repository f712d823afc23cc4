// SPDX-License-Identifier: BSD-3-Clause
// The table of kernels that one instruction set and one dtype provide. Strides are in elements.
#ifndef FL_KERNELS_H
#define FL_KERNELS_H

#include <stdint.h>

#include "../fastlstm.h"

// What a kernel must know about one direction of one layer.
typedef struct fl_layer {
  int64_t inputs;    // I of this layer
  int64_t units;     // H
  int32_t full;      // whole panels
  int32_t tail;      // vectors of the narrow last panel: 0 (none), 1 or 2
  int32_t chains;    // partial sums of the recurrent product, a function of H alone
  const void *w_x;   // packed input weights, see tile.inc.h
  const void *w_h;   // packed recurrent weights
  const void *bias;  // b_ih + b_hh, per panel [4 VL] (narrow: [tail VL])
} fl_layer;

// Input projection of `rows` rows for panels [panel_begin, panel_end).
typedef struct fl_project {
  const void *const *x;  // [rows] rows of `inputs` elements
  void *gates;           // row r of panel p at p * panel_stride + r * 4 VL
  int64_t panel_stride;
  int64_t rows;
  int32_t panel_begin, panel_end;
} fl_project;

// One time step of rows [row_begin, row_end) for panels [panel_begin, panel_end).
typedef struct fl_step {
  const void *const *x;  // [rows] input rows, or NULL where gates holds the projection
  const void *gates;     // projection of this step, or NULL
  int64_t gates_panel_stride, gates_row_stride;
  const void *h_prev;  // row r at r * h_stride; not h_next
  void *h_next;
  int64_t h_stride;
  void *c;  // [panel][row][VL], updated in place
  int64_t c_panel_stride;
  void *const *y;      // [rows] where h goes as well
  void *const *cells;  // [rows] where c goes as well, or NULL
  int64_t row_begin, row_end;
  int32_t panel_begin, panel_end;
  int32_t backwards;  // visit the panels from last to first (keeps a cache warm on odd steps)
} fl_step;

// Many steps of one row, all panels; only for layers of at most `sequence_vectors` vectors.
typedef struct fl_sequence {
  int64_t steps;
  const void *x;  // input of the first step, or NULL
  int64_t x_stride;
  const void *gates;  // projection when x is NULL, a row a step
  int64_t gates_panel_stride, gates_row_stride;
  void *h;  // [panels * VL] in and out
  void *c;  // [panels * VL] in and out (panel p at p * c_panel_stride)
  int64_t c_panel_stride;
  void *y;
  int64_t y_stride;
  void *cells;  // or NULL
  int64_t cells_stride;
} fl_sequence;

struct fl_kernels {
  fl_isa isa;
  fl_dtype dtype;
  int32_t lanes;             // VL
  int32_t max_rows;          // rows of the tallest tile
  int32_t sequence_vectors;  // largest row of `sequence`
  void (*project)(const fl_layer *, const fl_project *);
  void (*step)(const fl_layer *, const fl_step *);
  void (*sequence)(const fl_layer *, const fl_sequence *);
  double (*fma_flops)(int64_t repeats);                 // returns the flops done
  double (*read_all)(const void *data, int64_t bytes);  // returns a value that depends on all
};

extern const fl_kernels fl_kernels_generic_f32, fl_kernels_generic_f64;
#if defined(__x86_64__)
extern const fl_kernels fl_kernels_avx2_f32, fl_kernels_avx2_f64;
extern const fl_kernels fl_kernels_avx512_f32, fl_kernels_avx512_f64;
#endif

#endif
