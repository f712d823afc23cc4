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
  const void *t_x;   // transposed weights for the backward pass, see back.inc.h
  const void *t_h;
} fl_layer;

// Inputs ahead of which tiles ask for weights in the second-level cache.
enum { FL_ASK_AHEAD = 6 };

// How tiles read weights. Of no effect on results.
typedef struct fl_reading {
  int64_t block;      // inputs that many rows take at a time, see blocks.inc.h; 0: all
  int32_t ahead;      // inputs ahead of which tiles ask for weights; 0: they do not
  int32_t one_panel;  // also one row and three take a single panel at a time
} fl_reading;

// Input projection of `rows` rows for panels [panel_begin, panel_end).
typedef struct fl_project {
  const void *const *x;  // [rows] rows of `inputs` elements
  void *gates;           // row r of panel p at p * panel_stride + r * 4 VL
  int64_t panel_stride;
  int64_t rows;
  int32_t panel_begin, panel_end;
  fl_reading reading;
} fl_project;

// One time step of some rows for panels [panel_begin, panel_end).
typedef struct fl_step {
  const void *const *x;  // [rows] input rows, or NULL where gates holds the projection
  const void *gates;     // projection of this step, or NULL
  int64_t gates_panel_stride, gates_row_stride;
  const void *h_prev;  // row r at r * h_stride; not h_next
  void *h_next;
  int64_t h_stride;
  const void *c_prev;  // [panel][row][VL]
  void *c;             // likewise; may be c_prev
  int64_t c_panel_stride;
  void *saved;     // [panel][row][4 VL] gates for the backward pass, panel stride 4 c_panel_stride; or NULL
  int32_t far;     // the tape is too long for the caches
  void *const *y;  // [rows] where h goes as well
  void *const *cells;  // [rows] where c goes as well, or NULL
  int64_t rows;
  int32_t panel_begin, panel_end;
  int32_t backwards;  // visit the panels from last to first (keeps a cache warm on odd steps)
  fl_reading reading;
  void *sums;  // room for `sum_rows` rows of 4 VL, if there is a block
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

// Gate gradients: vector v = 4 panel + gate of row r at v * stride + r * VL. Rows of a chunk of steps
// stand one after another.
typedef struct fl_gate_grads {
  void *at;
  int64_t stride;
} fl_gate_grads;

// One time step backwards of rows [0, rows) for column panels [panel_begin, panel_end).
typedef struct fl_back_step {
  const void *next;       // gate gradients of the step after this one, or NULL: it has none of these rows
  void *now;              // where those of this step go
  int64_t stride;         // of both, see fl_gate_grads
  const void *const *dy;  // [rows] gradients of h, or NULL for zeros
  const void *const *dc;  // [rows] gradients of c, or NULL for zeros
  const void *dh_last;    // [rows] more gradients of h, at r * dh_stride, or NULL
  int64_t dh_stride;
  const void *saved;       // [panel][row][4 VL], panel stride 4 c_panel_stride
  const void *c, *c_prev;  // [panel][row][VL]
  void *dc_carry;          // [panel][row][VL] gradient of c that steps hand back to each other
  int64_t c_panel_stride;
  void *bias;  // [panel][4 VL] sums of the gate gradients
  int64_t rows;
  int32_t panel_begin, panel_end;
  int32_t backwards;
  int32_t far;   // the tape is too long for the caches
  int32_t asks;  // for weights before they are used: 0 no, 1 a little, 2 also for the next panel's
} fl_back_step;

// out[r] (+)= gate gradients of row r times the weights (units of the layer by `columns`).
typedef struct fl_back_product {
  const void *grads;
  int64_t stride;
  const void *weights;  // t_x or t_h
  int64_t columns;      // I or H
  void *const *out;     // [rows]
  int32_t add;
  int64_t rows;
  int32_t panel_begin, panel_end;
  int32_t asks;  // see fl_back_step
} fl_back_product;

// Weight gradients: dw (4H, columns) (+)= gate gradients^T times the rows of `in`, for the gate
// vectors [begin, end).
typedef struct fl_outer {
  const void *grads;
  int64_t stride;
  int64_t rows;
  const void *const *in;  // [rows] of `columns` elements
  int64_t columns;
  void *dw;
  int32_t add;
  int32_t begin, end;
  void *scratch;  // rows * FL_OUTER_SCRATCH vectors
} fl_outer;

enum { FL_OUTER_SCRATCH = 12 };  // vectors of `in` that are packed at a time

// Inverted dropout in place: element k of a row stays, times `scale`, if its number, word k % 4 of
// Philox4x32-10 at the counter (k / 4, counter), is at least `threshold`; else it becomes 0.
typedef struct fl_dropout {
  uint32_t counter[3], key[2];
  uint32_t threshold;  // of 24 bits; 2^24 drops all
  double scale;
} fl_dropout;

// Packs up to VL rows of a weight matrix: those of one gate of one panel. Returns whether a weight is out of
// range (FL_OUT_OF_RANGE).
typedef struct fl_pack {
  const void *w;  // [rows] of `inputs` elements
  int64_t inputs;
  int32_t rows;
  double scale;
  void *out;  // for the forward pass, see tile.inc.h: w[r][k] * scale at k * stride + r; or NULL
  int64_t stride;
  void *turned;  // transposed weights, see back.inc.h, in which these rows are k = first ...; or NULL
  int64_t first, turned_rows;
  int32_t far;  // too much for the caches
} fl_pack;

struct fl_kernels {
  fl_isa isa;
  fl_dtype dtype;
  int32_t lanes;             // VL
  int32_t max_rows;          // rows of the tallest tile
  int32_t sequence_vectors;  // largest row of `sequence`
  int32_t sum_rows;          // see fl_step
  void (*project)(const fl_layer *, const fl_project *);
  void (*step)(const fl_layer *, const fl_step *);
  void (*sequence)(const fl_layer *, const fl_sequence *);
  void (*back_step)(const fl_layer *, const fl_back_step *);
  void (*back_product)(const fl_layer *, const fl_back_product *);
  void (*outer)(const fl_layer *, const fl_outer *);
  void (*dropout)(const fl_dropout *, int64_t first, int64_t count, void *row);
  int (*pack)(const fl_pack *);
  double (*fma_flops)(int64_t repeats);                           // returns the flops done
  double (*read_all)(const void *data, int64_t bytes, int asks);  // returns a value that depends on all
};

extern const fl_kernels fl_kernels_generic_f32, fl_kernels_generic_f64;
#if defined(__x86_64__)
extern const fl_kernels fl_kernels_avx2_f32, fl_kernels_avx2_f64;
extern const fl_kernels fl_kernels_avx512_f32, fl_kernels_avx512_f64;
#elif defined(__aarch64__)
extern const fl_kernels fl_kernels_neon_f32, fl_kernels_neon_f64;
#endif

#endif
