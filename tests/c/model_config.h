// SPDX-License-Identifier: BSD-3-Clause
// Random models, inputs and options, from a seed: the same on every machine.
#ifndef MODEL_CONFIG_H
#define MODEL_CONFIG_H

#include "fastlstm.h"

typedef struct config {
  fastlstm_spec spec;
  int64_t steps, batch;
  int32_t threads;
  int32_t caches;  // an fl_cache_kind
  double dropout;
  uint64_t seed;  // of the masks
  int noisy;
  int has_states, has_cells, has_lengths, has_starts, has_b_ih, has_b_hh, has_dcells, has_dstates, has_dx;
  int accumulate;
  double weights, inputs;  // scales of the weights, and of inputs and gradients
  int odd;                 // 1: an input is infinite, 2: one is NaN
  uint64_t numbers;        // state of the random numbers that fill the arrays
} config;

// `projected`: with a projection, where there is more than one unit. `norm`: of the general LSTM, which has
// peepholes and clips then. `noise`: all of its options, random in half of the models, else as at inference.
config make_config(int64_t index, fastlstm_cell_kind cell, int projected, fastlstm_norm_kind norm, int noise,
                   fastlstm_isa isa, fastlstm_dtype dtype);

// Runs forward without and with a tape, and backward, and returns 64 bits that depend on all bits of all
// outputs and gradients. Checks on the way that each step succeeds and that a tape changes no output.
uint64_t run_config(const config *c);

#endif
