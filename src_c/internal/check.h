// SPDX-License-Identifier: BSD-3-Clause
// Checks at the border of the library; each function of fastlstm.h that can fail begins with them.
#ifndef FL_CHECK_H
#define FL_CHECK_H

#include "internal/model.h"

// Checks a structure and copies it to where zeros stand for what an older caller's header does not have.
fastlstm_status fl_take_spec(const fastlstm_spec *given, fastlstm_spec *spec);
fastlstm_status fl_take_backward(const fastlstm_model *model, const fastlstm_plan *plan,
                                 const fastlstm_back_io *given, const void *workspace, fastlstm_back_io *io);
int fl_are_options(const fastlstm_spec *spec);  // options.c: whether options and cell are possible
fastlstm_status fl_check_weights(const fastlstm_spec *spec, const fastlstm_weights *weights,
                                 const void *memory);
fastlstm_status fl_check_extent(const fastlstm_spec *spec, fastlstm_purpose purpose, int64_t steps,
                                int64_t batch);
fastlstm_status fl_check_plan(const fastlstm_model *model, fastlstm_purpose purpose, int32_t threads,
                              const fastlstm_plan *plan);
int64_t fl_is_noisy(const fastlstm_io *io);
fastlstm_status fl_check_forward(const fastlstm_model *model, const fastlstm_plan *plan,
                                 const fastlstm_io *io, const void *workspace);

#endif
