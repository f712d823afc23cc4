// SPDX-License-Identifier: BSD-3-Clause
// The cells, as data. Their equations are in kernels/cells/, a file for each; this is what packing, planning
// and the time loops must know of them.
#include "internal/model.h"

// A sigmoid is 1 / (1 + 2^t) with t = -log2(e) z, a tanh (1 - 2^t) / (1 + 2^t) with t = -2 log2(e) z. The
// factors are folded into weights and biases, so that the kernels need no multiplication. (Leaving them out
// made nothing more exact and cost 5 % on layers where activations count, on Zen 5.)
#define SIGMOID (-FL_LOG2E)
#define TANH    (-2 * FL_LOG2E)

static const fl_cell cell_kinds[FL_STAGES] = {
    [FASTLSTM_LSTM] = {.name = "LSTM",
                       .gates = 4,
                       .sums = 4,
                       .has_c = 1,
                       .activations = 4,
                       .phases = 1,
                       .scale = {SIGMOID, SIGMOID, TANH, SIGMOID}},
    [FASTLSTM_RNN_TANH] = {.name = "RNN (tanh)", .gates = 1, .sums = 1, .phases = 1, .scale = {TANH}},
    [FASTLSTM_RNN_RELU] = {.name = "RNN (relu)", .gates = 1, .sums = 1, .phases = 1, .scale = {1}},
    [FL_PROJECTION] = {.name = "projection", .gates = 1, .sums = 1, .phases = 1, .scale = {1}},
};

const fl_cell *fl_cell_of(int32_t kind) { return &cell_kinds[kind]; }
