// SPDX-License-Identifier: BSD-3-Clause
// What the kernel tests share. Compiled once for each dtype: FL_DOUBLE selects double.
#ifndef KERNELS_SUPPORT_H
#define KERNELS_SUPPORT_H

#include <stddef.h>

#include "check.h"
#include "fastlstm.h"
#include "internal/model.h"

#ifdef FL_DOUBLE
typedef double real;
#define DTYPE     FASTLSTM_F64
#define same      same_double
#define TOLERANCE 1e-14
#else
typedef float real;
#define DTYPE     FASTLSTM_F32
#define same      same_float
#define TOLERANCE 1e-5
#endif
typedef long double wide;

// Zeroed and aligned; freed by release_all.
void *take(int64_t count, size_t size);
#define TAKE(type, count) ((type *)take(count, sizeof(type)))
void release_all(void);

real *take_random(uint64_t *state, int64_t count, double scale);

// Pointers to `rows` rows that stand `stride` elements apart.
void **take_rows(real *first, int64_t rows, int64_t stride);

// a * b + c as the kernels' instruction set does it: rounded once, or of the generic one twice.
real multiply_add(const fl_kernels *kernels, real a, real b, real c);

// One direction of one layer with random weights, packed by the tests' own code: plainly, from the layouts'
// descriptions.
typedef struct layer_case {
  const fl_kernels *kernels;
  const fl_cell *cell;
  fl_layer layer;
  int64_t lanes, gates, units, inputs;
  int64_t unit_vectors, panels, columns;  // columns: panels of two unit vectors
  real *w_x, *w_h, *bias;  // (gates * H, inputs), (gates * H, H), (gates * H): scaled as packed
  real *bias_h;            // likewise, where the cell takes sums apart
  real *peepholes;         // (3, H) of FASTLSTM_LSTM_GENERAL, whose layers have these options
} layer_case;

layer_case make_layer(const fl_kernels *kernels, fastlstm_cell_kind kind, int64_t inputs, int64_t units,
                      int32_t chains, uint64_t seed);

// Of the general LSTM: peepholes, both clips, and usual activations.
extern const fastlstm_options TESTED_OPTIONS;

// Where a gate of a unit stands in its panel's row of sums; and the panel.
int64_t column_of(const layer_case *c, int64_t gate, int64_t unit);
int64_t panel_of(const layer_case *c, int64_t gate, int64_t unit);

// One of the products of the backward pass: with W_ih or with W_hh.
typedef struct product_side {
  int recurrent;
  const fl_gate_order *order;
  const real *w, *transposed;
  int64_t columns;
} product_side;
product_side side_of(const layer_case *c, int recurrent);

// Which of the vectors of gate gradients holds those of a unit's gate that a product takes.
int64_t gradient_vector(const layer_case *c, const product_side *side, int64_t gate, int64_t unit);

// Sizes of layers that have every kind of panel: `next_units` returns them one after another, then 0.
int64_t next_units(int64_t lanes, int *at);

// Calls the test with each cell, or stage of one, and kernels of each instruction set that this CPU has.
void for_each_cell(void (*test)(const fl_kernels *, fastlstm_cell_kind));

// Whether a result is what exact arithmetic says.
int is_near(real got, wide want);

void test_forward(const fl_kernels *kernels, fastlstm_cell_kind kind);
void test_persistent(const fl_kernels *kernels, fastlstm_cell_kind kind);
void test_project(const fl_kernels *kernels, fastlstm_cell_kind kind);
void test_back_step(const fl_kernels *kernels, fastlstm_cell_kind kind);
void test_dgrad(const fl_kernels *kernels, fastlstm_cell_kind kind);
void test_wgrad(const fl_kernels *kernels, fastlstm_cell_kind kind);
void test_data(const fl_kernels *kernels);  // pack, dropout, measurements

#endif
