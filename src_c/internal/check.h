// SPDX-License-Identifier: BSD-3-Clause
// Checks at the border of the library; each function of fastlstm.h that can fail begins with them.
#ifndef FL_CHECK_H
#define FL_CHECK_H

#include "internal/model.h"

fl_status fl_check_spec(const fl_spec *spec);
fl_status fl_check_weights(const fl_spec *spec, const fl_weights *weights, const void *memory);
fl_status fl_check_extent(const fl_spec *spec, fl_purpose purpose, int64_t steps, int64_t batch);
fl_status fl_check_passes(const fl_model *model, fl_purpose purpose);
fl_status fl_check_run(const fl_model *model, const fl_plan *plan, int back, const int64_t *lengths,
                       const int64_t *starts, const void *tape, const void *workspace);
int fl_is_missing(const fl_plan *plan, const void *array);  // though the run has steps to read or write

#endif
