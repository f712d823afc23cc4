// SPDX-License-Identifier: BSD-3-Clause
// What callers hand over, checked before anything is read through it. Arrays cannot be measured from here:
// only their places and what lengths say is looked at.
#include "check.h"

static const int64_t LARGEST_SIZE = (INT64_C(1) << 31) - 1;

const char *fl_status_text(fl_status status)
{
  static const char *const texts[] = {
      [FL_OK] = "done",
      [FL_TOO_LARGE] = "a size overflows what can be addressed",
      [FL_INTERRUPTED] = "stopped by the caller",
      [FL_OUT_OF_RANGE] = "a finite weight is too large to be scaled",
      [FL_INVALID] = "an argument is missing or out of its range",
      [FL_UNSUPPORTED] = "this CPU lacks the instruction set",
      [FL_UNALIGNED] = "memory is not aligned to FL_ALIGN",
      [FL_NOT_PACKED] = "the model is not packed for this pass",
      [FL_OTHER_PLAN] = "the plan is of another model or for another pass",
  };
  return (unsigned)status < sizeof texts / sizeof *texts ? texts[status] : "unknown status";
}

static int within(int64_t value, int64_t least, int64_t most) { return value >= least && value <= most; }

static int unaligned(const void *memory) { return (uintptr_t)memory % FL_ALIGN != 0; }

fl_status fl_check_spec(const fl_spec *spec)
{
  if (!spec || !within(spec->isa, 0, FL_ISA_COUNT - 1) || !within(spec->dtype, FL_F32, FL_F64) ||
      spec->input_size < 1 || spec->hidden_size < 1 || spec->num_layers < 1 ||
      !within(spec->directions, 1, 2) || spec->cell != FL_LSTM ||
      !within(spec->passes, FL_PASS_FORWARD, FL_PASS_FORWARD | FL_PASS_BACKWARD) ||
      !within(spec->gemm_blas, 0, 1) || !within(spec->caches, FL_CACHES_OF_CPU, FL_CACHES_FAR))
    return FL_INVALID;
  if (spec->input_size > LARGEST_SIZE || spec->hidden_size > LARGEST_SIZE / 8 ||
      spec->num_layers > LARGEST_SIZE)
    return FL_TOO_LARGE;
  return fl_isa_available(spec->isa) ? FL_OK : FL_UNSUPPORTED;
}

fl_status fl_check_weights(const fl_spec *spec, const fl_weights *weights, const void *memory)
{
  if (!weights || !memory) return FL_INVALID;
  for (int64_t i = 0; i < spec->num_layers * spec->directions; ++i)
    if (!weights[i].w_ih || !weights[i].w_hh) return FL_INVALID;
  return unaligned(memory) ? FL_UNALIGNED : FL_OK;
}

fl_status fl_check_extent(const fl_spec *spec, fl_purpose purpose, int64_t steps, int64_t batch)
{
  if (!within(purpose, FL_INFER, FL_BACK) || steps < 0 || batch < 0) return FL_INVALID;
  // Bytes of eight gates of all steps: what the planner multiplies in integers stays below.
  const double bytes = 64.0 * (double)spec->hidden_size * (double)batch * (double)(steps > 0 ? steps : 1);
  return bytes > 4e18 ? FL_TOO_LARGE : FL_OK;
}

fl_status fl_check_passes(const fl_model *model, fl_purpose purpose)
{
  const int pass = purpose == FL_BACK ? FL_PASS_BACKWARD : FL_PASS_FORWARD;
  return model->spec.passes & pass ? FL_OK : FL_NOT_PACKED;
}

static fl_status check_lengths(const fl_plan *plan, const int64_t *lengths, const int64_t *starts)
{
  if (starts && !lengths) return FL_INVALID;
  for (int64_t b = 0; lengths && b < plan->batch; ++b) {
    // A plan for no sequences has no steps, whatever the caller's arrays have.
    if (!within(lengths[b], 0, plan->steps)) return FL_INVALID;
    if (starts && b > 0 && lengths[b] > lengths[b - 1]) return FL_INVALID;
  }
  return FL_OK;
}

fl_status fl_check_run(const fl_model *model, const fl_plan *plan, int back, const int64_t *lengths,
                       const int64_t *starts, const void *tape, const void *workspace)
{
  if (!model || !plan || !workspace) return FL_INVALID;
  if (plan->model != model || (plan->purpose == FL_BACK) != back) return FL_OTHER_PLAN;
  if ((plan->purpose == FL_INFER) != !tape) return FL_INVALID;
  if (unaligned(workspace) || unaligned(tape)) return FL_UNALIGNED;
  return check_lengths(plan, lengths, starts);
}

int fl_is_missing(const fl_plan *plan, const void *array)
{
  return !array && plan->steps > 0 && plan->batch > 0;
}
