// SPDX-License-Identifier: BSD-3-Clause
// Checks at the border of the library; each function of fastlstm.h that can fail begins with them.
#ifndef FL_CHECK_H
#define FL_CHECK_H

#include "internal/model.h"

fl_status fl_check_spec(const fl_spec *spec);
fl_status fl_check_weights(const fl_spec *spec, const fl_weights *weights, const void *memory);
fl_status fl_check_extent(const fl_spec *spec, fl_purpose purpose, int64_t steps, int64_t batch);
fl_status fl_check_plan(const fl_model *model, fl_purpose purpose, int32_t threads, const fl_plan *plan);
fl_status fl_check_forward(const fl_model *model, const fl_plan *plan, const fl_io *io,
                           const void *workspace);
fl_status fl_check_backward(const fl_model *model, const fl_plan *plan, const fl_back_io *io,
                            const void *workspace);

#endif
