// SPDX-License-Identifier: BSD-3-Clause
// The cells, as data. Their equations are in kernels/cells/, a file for each; this is what packing, planning
// and the time loops must know of them.
#include "internal/model.h"

// A sigmoid is 1 / (1 + 2^t) with t = -log2(e) z, a tanh (1 - 2^t) / (1 + 2^t) with t = -2 log2(e) z. The
// factors are folded into weights and biases, so that the kernels need no multiplication. (Leaving them out
// made nothing more exact and cost 5 % on layers where activations count, on Zen 5.)
#define SIGMOID (-FL_LOG2E)
#define TANH    (-2 * FL_LOG2E)

#define IN_ORDER .of_x = {0, {0, 1, 2, 3}}, .of_h = {0, {0, 1, 2, 3}}
#define LSTM     .gates = 4, .sums = 4, .has_c = 1, .activations = 4, .grads = 4, IN_ORDER
#define ONE_GATE .gates = 1, .sums = 1, .grads = 1, IN_ORDER

static const fl_cell cell_kinds[FL_STAGES] = {
    [FASTLSTM_LSTM] = {LSTM, .name = "LSTM", .unit_sums = 4, .scale = {SIGMOID, SIGMOID, TANH, SIGMOID}},
    // Its activations scale by themselves. Behind the gate gradients, what three peepholes add is summed.
    [FASTLSTM_LSTM_GENERAL] = {LSTM, .name = "LSTM (general)", .unit_sums = 4 + FL_PEEPHOLES,
                               .scale = {1, 1, 1, 1}},
    [FASTLSTM_RNN_TANH] = {ONE_GATE, .name = "RNN (tanh)", .unit_sums = 1, .scale = {TANH}},
    [FASTLSTM_RNN_RELU] = {ONE_GATE, .name = "RNN (relu)", .unit_sums = 1, .scale = {1}},
    [FL_PROJECTION] = {ONE_GATE, .name = "projection", .unit_sums = 1, .scale = {1}},
    // The gradient of the candidate n with respect to x is not the one with respect to h, which r has
    // multiplied. Kept in the order n of x, r, z, n of h, each product takes three that follow each other.
    [FASTLSTM_GRU] = {.name = "GRU",
                      .gates = 3,
                      .sums = 3,
                      .apart = 1,
                      .carries_h = 1,
                      .activations = 4,
                      .grads = 4,
                      .unit_sums = 4,
                      .of_x = {0, {2, 0, 1}},
                      .of_h = {1, {0, 1, 2}},
                      .scale = {SIGMOID, SIGMOID, TANH}},
    // r and z, then n. Both stages keep activations, and sum gradients of biases, side by side: r, z, n.
    [FASTLSTM_GRU_RESET_BEFORE] = {.name = "GRU (reset before)",
                                   .gates = 2,
                                   .sums = 2,
                                   .carries_h = 1,
                                   .activations = 3,
                                   .grads = 2,
                                   .unit_sums = 3,
                                   .second = FL_CANDIDATE,
                                   IN_ORDER,
                                   .scale = {SIGMOID, SIGMOID}},
    [FL_CANDIDATE] = {ONE_GATE, .name = "candidate", .carries_h = 1, .activations = 3, .unit_sums = 3,
                      .first_gate = 2, .scale = {TANH}},
    // As the general LSTM; behind the peepholes' stand the sums of weight_n. The tape has sums without their
    // mean.
    [FL_NORMED_SUMS] = {LSTM, .name = "LSTM (normed)", .unit_sums = 4 + FL_PEEPHOLES + 4, .row_sums = 4,
                        .scale = {1, 1, 1, 1}},
    // The sums of x and those of h have gradients of their own.
    [FL_NORMED_SEPARATE] = {.name = "LSTM (normed separately)",
                            .gates = 4,
                            .sums = 4,
                            .has_c = 1,
                            .activations = 8,
                            .grads = 8,
                            .unit_sums = 4 + FL_PEEPHOLES + 8 + 2,
                            .row_sums = 8,
                            .of_x = {0, {0, 1, 2, 3}},
                            .of_h = {4, {0, 1, 2, 3}},
                            .scale = {1, 1, 1, 1}},
};

const fl_cell *fl_cell_of(int32_t kind) { return &cell_kinds[kind]; }

int32_t fl_second_kind(const fastlstm_spec *spec)
{
  return spec->proj_size ? FL_PROJECTION : fl_cell_of(spec->cell)->second;
}

int64_t fl_weight_gates(const fl_cell *cell)
{
  return cell->gates + (cell->second ? fl_cell_of(cell->second)->gates : 0);
}

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
