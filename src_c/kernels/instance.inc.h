// SPDX-License-Identifier: BSD-3-Clause
// All kernels of one instruction set and dtype. Included once by each kernels_<isa>_<dtype>.c after its
// vector header; exports one constant table and nothing else. Names of functions end in instruction set and
// dtype, so that profilers and debuggers tell them apart.
#include "kernels.h"

#define FL_CAT_(a, b)  a##b
#define FL_CAT(a, b)   FL_CAT_(a, b)
#define FL_JOIN_(a, b) a##_##b
#define FL_JOIN(a, b)  FL_JOIN_(a, b)
#ifdef FL_DOUBLE
#define FL_DTYPE_ID FASTLSTM_F64
#define FL_SUFFIX   FL_JOIN(FL_ISA_NAME, f64)
#else
#define FL_DTYPE_ID FASTLSTM_F32
#define FL_SUFFIX   FL_JOIN(FL_ISA_NAME, f32)
#endif
#define FL_NAMED(name) FL_JOIN(name, FL_SUFFIX)
#define FL_TABLE       FL_CAT(fl_kernels_, FL_SUFFIX)

_Static_assert(VL * sizeof(real) <= FL_VECTOR_BYTES, "a vector is longer than FL_VECTOR_BYTES");

#include "vmath.inc.h"
#include "columns.inc.h"
#include "product/tile.inc.h"
#include "product/blocked.inc.h"
#include "product/dgrad.inc.h"
#include "product/wgrad.inc.h"
#include "product/pack.inc.h"
#include "activations.inc.h"
#include "normalization.inc.h"
#include "dropout.inc.h"
#include "cells/cell.inc.h"
#include "noise.inc.h"
#include "cells/lstm.inc.h"
#include "cells/lstm_general.inc.h"
#include "cells/lstm_normed.inc.h"
#include "cells/lstm_normed_back.inc.h"
#include "cells/rnn.inc.h"
#include "cells/gru.inc.h"
#include "cells/gru_before.inc.h"
#include "cells/projection.inc.h"

// [fl_layer.kind]
static const cell_kernels *const cell_table[FL_STAGES] = {
    [FASTLSTM_LSTM] = &FL_NAMED(lstm),
    [FASTLSTM_RNN_TANH] = &FL_NAMED(rnn_tanh),
    [FASTLSTM_RNN_RELU] = &FL_NAMED(rnn_relu),
    [FASTLSTM_GRU] = &FL_NAMED(gru),
    [FASTLSTM_LSTM_GENERAL] = &FL_NAMED(lstm_general),
    [FASTLSTM_GRU_RESET_BEFORE] = &FL_NAMED(gru_gates),
    [FL_PROJECTION] = &FL_NAMED(projection),
    [FL_CANDIDATE] = &FL_NAMED(gru_candidate),
    [FL_NORMED_SUMS] = &FL_NAMED(lstm_normed),
    [FL_NORMED_SEPARATE] = &FL_NAMED(lstm_separate),
};

#include "apart.inc.h"
#include "step.inc.h"
#include "measure.inc.h"

const fl_kernels FL_TABLE = {
    .isa = FL_ISA_ID,
    .dtype = FL_DTYPE_ID,
    .lanes = VL,
    .tile_rows = FL_TILE_ROWS,
    .persistent_vectors = FL_PERSISTENT_VECTORS,
    .blocked_rows = FL_BLOCKED_STEP_ROWS,
    .project = FL_NAMED(project),
    .step = FL_NAMED(step),
    .persistent = {[FASTLSTM_LSTM] = FL_NAMED(lstm_persistent), [FASTLSTM_GRU] = FL_NAMED(gru_persistent)},
    .back_step = FL_NAMED(back_step),
    .dgrad = FL_NAMED(dgrad),
    .wgrad = FL_NAMED(wgrad),
    .dropout = FL_NAMED(dropout),
    .pack = {[FL_NATIVE] = FL_NAMED(pack)},
    .fma_flops = FL_NAMED(fma_flops),
    .read_all = FL_NAMED(read_all),
};

#if defined(FL_TARGET_PUSHED)
#pragma clang attribute pop
#endif
