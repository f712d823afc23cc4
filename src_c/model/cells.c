// SPDX-License-Identifier: BSD-3-Clause
// The cells, as data. Their equations are in kernels/cells/, a file for each; this is what packing, planning
// and the time loops must know of them.
#include "internal/model.h"

// A sigmoid is 1 / (1 + 2^t) with t = -log2(e) z, a tanh (1 - 2^t) / (1 + 2^t) with t = -2 log2(e) z. The
// factors are folded into weights and biases, so that the kernels need no multiplication. (Leaving them out
// made nothing more exact and cost 5 % on layers where activations count, on Zen 5.)
#define SIGMOID (-FL_LOG2E)
#define TANH    (-2 * FL_LOG2E)

#define IN_ORDER {0, {0, 1, 2, 3}}

static const fl_cell cell_kinds[FL_STAGES] = {
    [FASTLSTM_LSTM] = {.name = "LSTM",
                       .gates = 4,
                       .sums = 4,
                       .has_c = 1,
                       .activations = 4,
                       .unit_sums = 4,
                       .phases = 1,
                       .grads = 4,
                       .of_x = IN_ORDER,
                       .of_h = IN_ORDER,
                       .scale = {SIGMOID, SIGMOID, TANH, SIGMOID}},
    [FASTLSTM_RNN_TANH] = {.name = "RNN (tanh)",
                           .gates = 1,
                           .sums = 1,
                           .phases = 1,
                           .grads = 1,
                           .unit_sums = 1,
                           .of_x = IN_ORDER,
                           .of_h = IN_ORDER,
                           .scale = {TANH}},
    [FASTLSTM_RNN_RELU] = {.name = "RNN (relu)",
                           .gates = 1,
                           .sums = 1,
                           .phases = 1,
                           .grads = 1,
                           .unit_sums = 1,
                           .of_x = IN_ORDER,
                           .of_h = IN_ORDER,
                           .scale = {1}},
    // The gradient of the candidate n with respect to x is not the one with respect to h, which r has
    // multiplied. Kept in the order n of x, r, z, n of h, each product takes three that follow each other.
    [FASTLSTM_GRU] = {.name = "GRU",
                      .gates = 3,
                      .sums = 3,
                      .apart = 1,
                      .carries_h = 1,
                      .activations = 4,
                      .phases = 1,
                      .grads = 4,
                      .unit_sums = 4,
                      .of_x = {0, {2, 0, 1}},
                      .of_h = {1, {0, 1, 2}},
                      .scale = {SIGMOID, SIGMOID, TANH}},
    // Its activations scale by themselves. Behind the gate gradients, what three peepholes add is summed.
    [FASTLSTM_LSTM_GENERAL] = {.name = "LSTM (general)",
                               .gates = 4,
                               .sums = 4,
                               .has_c = 1,
                               .activations = 4,
                               .phases = 1,
                               .grads = 4,
                               .unit_sums = 4 + FL_PEEPHOLES,
                               .of_x = IN_ORDER,
                               .of_h = IN_ORDER,
                               .scale = {1, 1, 1, 1}},
    // As the general LSTM; behind the peepholes' stand the sums of weight_n. The tape has sums without their
    // mean.
    [FL_NORMED_SUMS] = {.name = "LSTM (normed)",
                        .gates = 4,
                        .sums = 4,
                        .has_c = 1,
                        .activations = 4,
                        .phases = 1,
                        .grads = 4,
                        .unit_sums = 4 + FL_PEEPHOLES + 4,
                        .row_sums = 4,
                        .of_x = IN_ORDER,
                        .of_h = IN_ORDER,
                        .scale = {1, 1, 1, 1}},
    // The sums of x and those of h have gradients of their own.
    [FL_NORMED_SEPARATE] = {.name = "LSTM (normed separately)",
                            .gates = 4,
                            .sums = 4,
                            .has_c = 1,
                            .activations = 8,
                            .phases = 1,
                            .grads = 8,
                            .unit_sums = 4 + FL_PEEPHOLES + 8 + 2,
                            .row_sums = 8,
                            .of_x = IN_ORDER,
                            .of_h = {4, {0, 1, 2, 3}},
                            .scale = {1, 1, 1, 1}},
    [FL_PROJECTION] = {.name = "projection",
                       .gates = 1,
                       .sums = 1,
                       .phases = 1,
                       .grads = 1,
                       .unit_sums = 1,
                       .of_x = IN_ORDER,
                       .of_h = IN_ORDER,
                       .scale = {1}},
};

const fl_cell *fl_cell_of(int32_t kind) { return &cell_kinds[kind]; }

int32_t fl_stage_of(const fastlstm_spec *spec)
{
  switch (spec->options.layer_norm) {
    case FASTLSTM_NORM_SUMS:
      return FL_NORMED_SUMS;
    case FASTLSTM_NORM_SEPARATE:
      return FL_NORMED_SEPARATE;
    default:
      return spec->cell;
  }
}
