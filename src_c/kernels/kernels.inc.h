// SPDX-License-Identifier: BSD-3-Clause
// All kernels of one instruction set and dtype. Included once by each kernels_<isa>_<dtype>.c
// after its vector header; exports one constant table and nothing else.
#include "kernels.h"
#include "vmath.inc.h"
#include "tile.inc.h"
#include "blocks.inc.h"
#include "project.inc.h"
#include "step.inc.h"
#include "sequence.inc.h"
#include "back.inc.h"
#include "outer.inc.h"
#include "dropout.inc.h"
#include "pack.inc.h"
#include "measure.inc.h"

#define FL_CAT4_(a, b, c, d) a##b##c##d
#define FL_CAT4(a, b, c, d)  FL_CAT4_(a, b, c, d)
#ifdef FL_DOUBLE
#define FL_DTYPE_ID FL_F64
#define FL_TABLE    FL_CAT4(fl_kernels_, FL_ISA_NAME, _, f64)
#else
#define FL_DTYPE_ID FL_F32
#define FL_TABLE    FL_CAT4(fl_kernels_, FL_ISA_NAME, _, f32)
#endif

const fl_kernels FL_TABLE = {
    .isa = FL_ISA_ID,
    .dtype = FL_DTYPE_ID,
    .lanes = VL,
    .max_rows = MAX_ROWS,
    .sequence_vectors = FL_MAX_VECTORS < FL_ACCUMULATORS ? FL_MAX_VECTORS : FL_ACCUMULATORS,
    .sum_rows = SUM_ROWS,
    .project = project,
    .step = step,
    .sequence = sequence,
    .back_step = back_step,
    .back_product = back_product,
    .outer = outer,
    .dropout = dropout,
    .pack = pack,
    .fma_flops = fma_flops,
    .read_all = read_all,
};
