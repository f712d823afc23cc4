// SPDX-License-Identifier: BSD-3-Clause
// What callers hand over, checked before anything is read through it. Arrays cannot be measured from here:
// only their places and what lengths say is looked at.
#include "internal/check.h"

#include <stddef.h>

#include "internal/binding.h"

static const int64_t LARGEST_SIZE = (INT64_C(1) << 31) - 1;
static const size_t LARGEST_STRUCT = 4096;  // bytes: a larger one was never given its size

uint32_t fl_version(void) { return FL_VERSION; }

const char *fl_status_text(fl_status status)
{
  static const char *const texts[] = {
      [FL_OK] = "done",
      [FL_TOO_LARGE] = "a size overflows what can be addressed",
      [FL_INTERRUPTED] = "stopped by the caller",
      [FL_OUT_OF_RANGE] = "a finite weight is too large to be scaled",
      [FL_INVALID] = "an argument is missing or out of its range",
      [FL_UNSUPPORTED] = "this CPU lacks the instruction set",
      [FL_UNALIGNED] = "memory is not aligned to FL_ALIGN, or an array not to its elements",
      [FL_NOT_PACKED] = "the model is not packed, or not for this pass",
      [FL_OTHER_PLAN] = "the plan is of another model or for another pass",
      [FL_UNKNOWN_FIELD] = "a field is set that only a newer version of this library knows",
  };
  return (unsigned)status < sizeof texts / sizeof *texts ? texts[status] : "unknown status";
}

static int within(int64_t value, int64_t least, int64_t most) { return value >= least && value <= most; }

static int unaligned(const void *memory, size_t to) { return (uintptr_t)memory % to != 0; }

// Of a structure that begins with its size, of which this library knows `known` bytes. The day it grows, what
// an older caller gives is smaller, and has to be copied to where zeros follow.
static fl_status check_struct(const void *given, size_t known)
{
  if (!given) return FL_INVALID;
  const size_t size = *(const size_t *)given;
  if (size < known || size > LARGEST_STRUCT) return FL_INVALID;
  for (size_t i = known; i < size; ++i)
    if (((const char *)given)[i]) return FL_UNKNOWN_FIELD;
  return FL_OK;
}

fl_status fl_check_spec(const fl_spec *spec)
{
  const fl_status status = check_struct(spec, sizeof *spec);
  if (status != FL_OK) return status;
  if (!within(spec->isa, 0, FL_ISA_COUNT - 1) || !within(spec->dtype, FL_F32, FL_F64) ||
      !within(spec->cell, FL_LSTM, FL_RNN_RELU) || spec->input_size < 1 || spec->hidden_size < 1 ||
      spec->num_layers < 1 || !within(spec->directions, 1, 2) ||
      !within(spec->passes, FL_PASS_FORWARD, FL_PASS_FORWARD | FL_PASS_BACKWARD) ||
      !within(spec->gemm_blas, 0, spec->cell == FL_LSTM))
    return FL_INVALID;
  if (spec->input_size > LARGEST_SIZE || spec->hidden_size > LARGEST_SIZE / 8 ||
      spec->num_layers > LARGEST_SIZE)
    return FL_TOO_LARGE;
  return fl_isa_available(spec->isa) ? FL_OK : FL_UNSUPPORTED;
}

fl_status fl_check_weights(const fl_spec *spec, const fl_weights *weights, const void *memory)
{
  if (!weights || !memory) return FL_INVALID;
  if (unaligned(memory, FL_ALIGN)) return FL_UNALIGNED;
  const size_t elem = (size_t)fl_elem(spec->dtype);
  for (int64_t i = 0; i < spec->num_layers * spec->directions; ++i) {
    const fl_weights *w = &weights[i];
    if (!w->w_ih || !w->w_hh) return FL_INVALID;
    if (unaligned(w->w_ih, elem) || unaligned(w->w_hh, elem) || unaligned(w->b_ih, elem) ||
        unaligned(w->b_hh, elem))
      return FL_UNALIGNED;
  }
  return FL_OK;
}

fl_status fl_check_extent(const fl_spec *spec, fl_purpose purpose, int64_t steps, int64_t batch)
{
  if (!within(purpose, FL_INFER, FL_BACK) || steps < 0 || batch < 0) return FL_INVALID;
  // Bytes of eight gates of all steps: what the planner multiplies in integers stays below.
  const double bytes = 64.0 * (double)spec->hidden_size * (double)batch * (double)(steps > 0 ? steps : 1);
  return bytes > 4e18 ? FL_TOO_LARGE : FL_OK;
}

static fl_status check_model(const fl_model *model, fl_purpose purpose)
{
  if (!model) return FL_INVALID;
  if (unaligned(model, FL_ALIGN)) return FL_UNALIGNED;
  if (model->mark != FL_MODEL_MARK) return FL_NOT_PACKED;
  const int pass = purpose == FL_BACK ? FL_PASS_BACKWARD : FL_PASS_FORWARD;
  return model->spec.passes & pass ? FL_OK : FL_NOT_PACKED;
}

fl_status fl_check_plan(const fl_model *model, fl_purpose purpose, int32_t threads, const fl_plan *plan)
{
  if (!plan || threads < 1 || !within(purpose, FL_INFER, FL_BACK)) return FL_INVALID;
  return unaligned(plan, _Alignof(fl_plan)) ? FL_UNALIGNED : check_model(model, purpose);
}

static fl_status check_lengths(const fl_plan *plan, const int64_t *lengths, const int64_t *starts)
{
  if (starts && !lengths) return FL_INVALID;
  if (unaligned(lengths, sizeof *lengths) || unaligned(starts, sizeof *starts)) return FL_UNALIGNED;
  for (int64_t b = 0; lengths && b < plan->batch; ++b) {
    // A plan for no sequences has no steps, whatever the caller's arrays have.
    if (!within(lengths[b], 0, plan->steps)) return FL_INVALID;
    if (starts && b > 0 && lengths[b] > lengths[b - 1]) return FL_INVALID;
  }
  for (int64_t t = 0; starts && t < plan->steps; ++t)
    if (starts[t] < 0) return FL_INVALID;
  return FL_OK;
}

// What both passes are given. `back`: whether it is the backward pass.
static fl_status check_run(const fl_model *model, const fl_plan *plan, int back, const void *tape,
                           double dropout, const void *workspace)
{
  if (!plan || !workspace) return FL_INVALID;
  if (unaligned(plan, _Alignof(fl_plan)) || unaligned(workspace, FL_ALIGN) || unaligned(tape, FL_ALIGN))
    return FL_UNALIGNED;
  const fl_status status = check_model(model, back ? FL_BACK : FL_INFER);
  if (status != FL_OK) return status;
  if (plan->model != model || (plan->purpose == FL_BACK) != back) return FL_OTHER_PLAN;
  if ((plan->purpose == FL_INFER) != !tape) return FL_INVALID;
  if (!(dropout >= 0 && dropout <= 1) || (dropout > 0 && !tape)) return FL_INVALID;
  return FL_OK;
}

// Whether one of the arrays does not begin at an element.
static int any_unaligned(const fl_model *model, const void *const *arrays, size_t count)
{
  uintptr_t bits = 0;
  for (size_t i = 0; i < count; ++i) bits |= (uintptr_t)arrays[i];
  return unaligned((const void *)bits, (size_t)fl_elem(model->spec.dtype));
}

#define COUNT(array) (sizeof(array) / sizeof *(array))

fl_status fl_check_forward(const fl_model *model, const fl_plan *plan, const fl_io *io, const void *workspace)
{
  fl_status status = check_struct(io, sizeof *io);
  if (status == FL_OK) status = check_run(model, plan, 0, io->tape, io->dropout, workspace);
  if (status == FL_OK) status = check_lengths(plan, io->lengths, io->starts);
  if (status != FL_OK) return status;
  if (plan->steps > 0 && plan->batch > 0 && (!io->x || !io->y)) return FL_INVALID;
  if (model->spec.gemm_blas && !io->gemm) return FL_INVALID;
  if (!model->cell->has_c && (io->cells || io->c_0 || io->c_n)) return FL_INVALID;
  const void *const arrays[] = {io->x, io->y, io->cells, io->h_0, io->c_0, io->h_n, io->c_n};
  return any_unaligned(model, arrays, COUNT(arrays)) ? FL_UNALIGNED : FL_OK;
}

fl_status fl_check_backward(const fl_model *model, const fl_plan *plan, const fl_back_io *io,
                            const void *workspace)
{
  fl_status status = check_struct(io, sizeof *io);
  if (status == FL_OK) status = check_run(model, plan, 1, io->tape, io->dropout, workspace);
  if (status == FL_OK) status = check_lengths(plan, io->lengths, io->starts);
  if (status != FL_OK) return status;
  if (plan->steps > 0 && plan->batch > 0 && !io->x) return FL_INVALID;
  if (!model->cell->has_c && (io->dcells || io->dc_n || io->dc_0)) return FL_INVALID;
  const void *const arrays[] = {io->x, io->dy, io->dcells, io->dh_n, io->dc_n, io->dx, io->dh_0, io->dc_0};
  if (any_unaligned(model, arrays, COUNT(arrays))) return FL_UNALIGNED;
  const int64_t count = io->gradients ? model->spec.num_layers * model->spec.directions : 0;
  for (int64_t i = 0; i < count; ++i) {
    const fl_gradients *g = &io->gradients[i];
    if (!g->w_ih || !g->w_hh) return FL_INVALID;
    const void *const outs[] = {g->w_ih, g->w_hh, g->b_ih, g->b_hh};
    if (any_unaligned(model, outs, COUNT(outs))) return FL_UNALIGNED;
  }
  return FL_OK;
}
