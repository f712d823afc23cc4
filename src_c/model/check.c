// SPDX-License-Identifier: BSD-3-Clause
// What callers hand over, checked before anything is read through it. Arrays cannot be measured from here:
// only their places and what lengths say is looked at.
#include "internal/check.h"

#include <stddef.h>
#include <string.h>

#include "internal/binding.h"

static const int64_t LARGEST_SIZE = (INT64_C(1) << 31) - 1;
static const size_t LARGEST_STRUCT = 4096;  // bytes; a larger struct_size was never set

uint32_t fastlstm_version(void) { return FASTLSTM_VERSION; }

const char *fastlstm_status_text(fastlstm_status status)
{
  static const char *const texts[] = {
      [FASTLSTM_OK] = "done",
      [FASTLSTM_TOO_LARGE] = "a size overflows what can be addressed",
      [FASTLSTM_INTERRUPTED] = "stopped by the caller",
      [FASTLSTM_OUT_OF_RANGE] = "a finite weight is too large to be scaled",
      [FASTLSTM_INVALID] = "an argument is missing or out of its range",
      [FASTLSTM_UNSUPPORTED] = "this CPU lacks the instruction set",
      [FASTLSTM_UNALIGNED] = "memory is not aligned to FASTLSTM_ALIGN, or an array not to its elements",
      [FASTLSTM_NOT_PACKED] = "the model is not packed, or not for this pass",
      [FASTLSTM_OTHER_PLAN] = "the plan is of another model or for another pass",
      [FASTLSTM_UNKNOWN_FIELD] = "a field is set that only a newer version of this library knows",
  };
  return (unsigned)status < sizeof texts / sizeof *texts ? texts[status] : "unknown status";
}

static int within(int64_t value, int64_t least, int64_t most) { return value >= least && value <= most; }

static int unaligned(const void *memory, size_t to) { return (uintptr_t)memory % to != 0; }

// Of a structure that begins with its size, which was `first` bytes in its first version, and of which this
// library knows `known`.
static fastlstm_status check_struct(const void *given, size_t first, size_t known)
{
  if (!given) return FASTLSTM_INVALID;
  if (unaligned(given, _Alignof(size_t))) return FASTLSTM_UNALIGNED;
  const size_t size = *(const size_t *)given;
  if (size < first || size > LARGEST_STRUCT || size % _Alignof(size_t)) return FASTLSTM_INVALID;
  for (size_t i = known; i < size; ++i)
    if (((const char *)given)[i]) return FASTLSTM_UNKNOWN_FIELD;
  return FASTLSTM_OK;
}

// Such a structure, checked and copied: what an older caller does not know of is zero.
static fastlstm_status take_struct(const void *given, size_t first, size_t known, void *own)
{
  const fastlstm_status status = check_struct(given, first, known);
  if (status != FASTLSTM_OK) return status;
  const size_t size = *(const size_t *)given;
  memset(own, 0, known);
  memcpy(own, given, size < known ? size : known);
  *(size_t *)own = known;
  return FASTLSTM_OK;
}

fastlstm_status fl_take_spec(const fastlstm_spec *given, fastlstm_spec *spec)
{
  const fastlstm_status status = take_struct(given, offsetof(fastlstm_spec, proj_size), sizeof *spec, spec);
  if (status != FASTLSTM_OK) return status;
  if (!within(spec->isa, 0, FASTLSTM_ISA_COUNT - 1) || !within(spec->dtype, FASTLSTM_F32, FASTLSTM_F64) ||
      !within(spec->cell, FASTLSTM_LSTM, FASTLSTM_GRU_RESET_BEFORE) || spec->input_size < 1 ||
      spec->hidden_size < 1 || spec->num_layers < 1 || !within(spec->directions, 1, 2) ||
      !within(spec->passes, FASTLSTM_PASS_FORWARD, FASTLSTM_PASS_FORWARD | FASTLSTM_PASS_BACKWARD) ||
      !within(spec->gemm_blas, 0, fl_cell_of(spec->cell)->has_c) ||
      !within(spec->proj_size, 0, fl_cell_of(spec->cell)->has_c ? spec->hidden_size - 1 : 0) ||
      !fl_are_options(spec))
    return FASTLSTM_INVALID;
  // Hidden units by four gates by two directions stay within the largest size as well.
  if (spec->input_size > LARGEST_SIZE || spec->hidden_size > LARGEST_SIZE / 8 ||
      spec->num_layers > LARGEST_SIZE)
    return FASTLSTM_TOO_LARGE;
  return fastlstm_isa_available(spec->isa) ? FASTLSTM_OK : FASTLSTM_UNSUPPORTED;
}

static fastlstm_status check_peepholes(const fastlstm_spec *spec)
{
  if (!spec->options.peepholes) return FASTLSTM_OK;
  if (!spec->peepholes) return FASTLSTM_INVALID;
  if (unaligned(spec->peepholes, _Alignof(fastlstm_peepholes))) return FASTLSTM_UNALIGNED;
  const size_t elem = (size_t)fl_elem(spec->dtype);
  for (int64_t i = 0; i < spec->num_layers * spec->directions; ++i) {
    const fastlstm_peepholes *p = &spec->peepholes[i];
    if (!p->i || !p->f || !p->o) return FASTLSTM_INVALID;
    if (unaligned(p->i, elem) || unaligned(p->f, elem) || unaligned(p->o, elem)) return FASTLSTM_UNALIGNED;
  }
  return FASTLSTM_OK;
}

// Of what normalises, as a form has it; other pointers are not looked at.
static fastlstm_status check_norm(const fastlstm_spec *spec, const fastlstm_norms *n)
{
  const int sums = spec->options.layer_norm == FASTLSTM_NORM_SUMS;
  const void *const arrays[] = {sums ? n->n : n->nx, sums ? n->n : n->nh, sums ? n->n : n->nc,
                                sums ? n->n : n->bias_nc};
  for (int i = 0; i < 4; ++i) {
    if (!arrays[i]) return FASTLSTM_INVALID;
    if (unaligned(arrays[i], (size_t)fl_elem(spec->dtype))) return FASTLSTM_UNALIGNED;
  }
  return FASTLSTM_OK;
}

static fastlstm_status check_norms(const fastlstm_spec *spec)
{
  if (!spec->options.layer_norm) return FASTLSTM_OK;
  if (!spec->norms) return FASTLSTM_INVALID;
  if (unaligned(spec->norms, _Alignof(fastlstm_norms))) return FASTLSTM_UNALIGNED;
  fastlstm_status status = FASTLSTM_OK;
  for (int64_t i = 0; i < spec->num_layers * spec->directions && status == FASTLSTM_OK; ++i)
    status = check_norm(spec, &spec->norms[i]);
  return status;
}

fastlstm_status fl_check_weights(const fastlstm_spec *spec, const fastlstm_weights *weights,
                                 const void *memory)
{
  if (!weights || !memory) return FASTLSTM_INVALID;
  if (unaligned(memory, FASTLSTM_ALIGN) || unaligned(weights, _Alignof(fastlstm_weights)))
    return FASTLSTM_UNALIGNED;
  const size_t elem = (size_t)fl_elem(spec->dtype);
  const int64_t count = spec->num_layers * spec->directions;
  for (int64_t i = 0; i < (spec->proj_size ? 2 * count : count); ++i) {
    const fastlstm_weights *w = &weights[i];
    if (!w->w_ih || (!w->w_hh && i < count)) return FASTLSTM_INVALID;
    if (unaligned(w->w_ih, elem) || unaligned(w->w_hh, elem) || unaligned(w->b_ih, elem) ||
        unaligned(w->b_hh, elem))
      return FASTLSTM_UNALIGNED;
  }
  const fastlstm_status status = check_peepholes(spec);
  return status == FASTLSTM_OK ? check_norms(spec) : status;
}

fastlstm_status fl_check_extent(const fastlstm_spec *spec, fastlstm_purpose purpose, int64_t steps,
                                int64_t batch)
{
  if (!within(purpose, FASTLSTM_INFER, FASTLSTM_BACK) || steps < 0 || batch < 0) return FASTLSTM_INVALID;
  // An upper bound of all integers the planner forms: bytes of eight gates of all steps.
  const double bytes = 64.0 * (double)spec->hidden_size * (double)batch * (double)(steps > 0 ? steps : 1);
  return bytes > 4e18 ? FASTLSTM_TOO_LARGE : FASTLSTM_OK;
}

static fastlstm_status check_model(const fastlstm_model *model, fastlstm_purpose purpose)
{
  if (!model) return FASTLSTM_INVALID;
  if (unaligned(model, FASTLSTM_ALIGN)) return FASTLSTM_UNALIGNED;
  if (model->mark != FL_MODEL_MARK) return FASTLSTM_NOT_PACKED;
  const int pass = purpose == FASTLSTM_BACK ? FASTLSTM_PASS_BACKWARD : FASTLSTM_PASS_FORWARD;
  return model->spec.passes & pass ? FASTLSTM_OK : FASTLSTM_NOT_PACKED;
}

fastlstm_status fl_check_plan(const fastlstm_model *model, fastlstm_purpose purpose, int32_t threads,
                              const fastlstm_plan *plan)
{
  if (!plan || threads < 1 || !within(purpose, FASTLSTM_INFER, FASTLSTM_BACK)) return FASTLSTM_INVALID;
  return unaligned(plan, _Alignof(fastlstm_plan)) ? FASTLSTM_UNALIGNED : check_model(model, purpose);
}

static fastlstm_status check_lengths(const fastlstm_plan *plan, const int64_t *lengths, const int64_t *starts)
{
  if (starts && !lengths) return FASTLSTM_INVALID;
  if (unaligned(lengths, sizeof *lengths) || unaligned(starts, sizeof *starts)) return FASTLSTM_UNALIGNED;
  for (int64_t b = 0; lengths && b < plan->batch; ++b) {
    // A plan for no sequences has no steps, whatever the caller's arrays have.
    if (!within(lengths[b], 0, plan->steps)) return FASTLSTM_INVALID;
    if (starts && b > 0 && lengths[b] > lengths[b - 1]) return FASTLSTM_INVALID;
  }
  for (int64_t t = 0; starts && t < plan->steps; ++t)
    if (starts[t] < 0) return FASTLSTM_INVALID;
  return FASTLSTM_OK;
}

// What both passes are given. `back`: whether it is the backward pass.
static fastlstm_status check_run(const fastlstm_model *model, const fastlstm_plan *plan, int back,
                                 const void *tape, double dropout, int64_t noisy, const void *workspace)
{
  if (!plan || !workspace) return FASTLSTM_INVALID;
  if (unaligned(plan, _Alignof(fastlstm_plan)) || unaligned(workspace, FASTLSTM_ALIGN) ||
      unaligned(tape, FASTLSTM_ALIGN))
    return FASTLSTM_UNALIGNED;
  const fastlstm_status status = check_model(model, back ? FASTLSTM_BACK : FASTLSTM_INFER);
  if (status != FASTLSTM_OK) return status;
  if (plan->model != model || (plan->purpose == FASTLSTM_BACK) != back) return FASTLSTM_OTHER_PLAN;
  if ((plan->purpose == FASTLSTM_INFER) != !tape) return FASTLSTM_INVALID;
  if (!(dropout >= 0 && dropout <= 1) || !within(noisy, 0, 1)) return FASTLSTM_INVALID;
  if ((dropout > 0 || noisy) && !tape) return FASTLSTM_INVALID;
  return FASTLSTM_OK;
}

// Whether one of the arrays does not begin at an element.
static int any_unaligned(const fastlstm_model *model, const void *const *arrays, size_t count)
{
  uintptr_t bits = 0;
  for (size_t i = 0; i < count; ++i) bits |= (uintptr_t)arrays[i];
  return unaligned((const void *)bits, (size_t)fl_elem(model->spec.dtype));
}

#define COUNT(array) (sizeof(array) / sizeof *(array))

// Callers of older headers do not have the field. What they hand over is not copied: every step of a stream
// comes by here.
int64_t fl_is_noisy(const fastlstm_io *io) { return io->struct_size < sizeof *io ? 0 : io->noisy; }

fastlstm_status fl_check_forward(const fastlstm_model *model, const fastlstm_plan *plan,
                                 const fastlstm_io *io, const void *workspace)
{
  fastlstm_status status = check_struct(io, offsetof(fastlstm_io, noisy), sizeof *io);
  if (status == FASTLSTM_OK)
    status = check_run(model, plan, 0, io->tape, io->dropout, fl_is_noisy(io), workspace);
  if (status == FASTLSTM_OK) status = check_lengths(plan, io->lengths, io->starts);
  if (status != FASTLSTM_OK) return status;
  if (plan->steps > 0 && plan->batch > 0 && (!io->x || !io->y)) return FASTLSTM_INVALID;
  if (model->spec.gemm_blas && !io->gemm) return FASTLSTM_INVALID;
  if (!model->cell->has_c && (io->cells || io->c_0 || io->c_n)) return FASTLSTM_INVALID;
  const void *const arrays[] = {io->x, io->y, io->cells, io->h_0, io->c_0, io->h_n, io->c_n};
  return any_unaligned(model, arrays, COUNT(arrays)) ? FASTLSTM_UNALIGNED : FASTLSTM_OK;
}

// Of the peepholes, whose gradients are wanted together with the others.
static fastlstm_status check_peephole_gradients(const fastlstm_model *model, const fastlstm_back_io *io)
{
  const int wanted = model->spec.options.peepholes && io->gradients;
  if (wanted != !!io->peepholes) return FASTLSTM_INVALID;
  if (unaligned(io->peepholes, _Alignof(fastlstm_peephole_gradients))) return FASTLSTM_UNALIGNED;
  const int64_t count = wanted ? model->spec.num_layers * model->spec.directions : 0;
  for (int64_t i = 0; i < count; ++i) {
    const fastlstm_peephole_gradients *g = &io->peepholes[i];
    if (!g->i || !g->f || !g->o) return FASTLSTM_INVALID;
    const void *const outs[] = {g->i, g->f, g->o};
    if (any_unaligned(model, outs, COUNT(outs))) return FASTLSTM_UNALIGNED;
  }
  return FASTLSTM_OK;
}

static fastlstm_status check_norm_gradients(const fastlstm_model *model, const fastlstm_back_io *io)
{
  const int wanted = model->spec.options.layer_norm && io->gradients;
  if (wanted != !!io->norms) return FASTLSTM_INVALID;
  if (unaligned(io->norms, _Alignof(fastlstm_norm_gradients))) return FASTLSTM_UNALIGNED;
  const int64_t count = wanted ? model->spec.num_layers * model->spec.directions : 0;
  fastlstm_status status = FASTLSTM_OK;
  for (int64_t i = 0; i < count && status == FASTLSTM_OK; ++i) {
    const fastlstm_norm_gradients *g = &io->norms[i];
    status = check_norm(&model->spec, &(fastlstm_norms){g->n, g->nx, g->nh, g->nc, g->bias_nc});
  }
  return status;
}

fastlstm_status fl_take_backward(const fastlstm_model *model, const fastlstm_plan *plan,
                                 const fastlstm_back_io *given, const void *workspace, fastlstm_back_io *io)
{
  fastlstm_status status = take_struct(given, offsetof(fastlstm_back_io, peepholes), sizeof *io, io);
  if (status == FASTLSTM_OK) status = check_run(model, plan, 1, io->tape, io->dropout, io->noisy, workspace);
  if (status == FASTLSTM_OK) status = check_lengths(plan, io->lengths, io->starts);
  if (status != FASTLSTM_OK) return status;
  if (plan->steps > 0 && plan->batch > 0 && !io->x) return FASTLSTM_INVALID;
  if (!model->cell->has_c && (io->dcells || io->dc_n || io->dc_0)) return FASTLSTM_INVALID;
  const void *const arrays[] = {io->x, io->dy, io->dcells, io->dh_n, io->dc_n, io->dx, io->dh_0, io->dc_0};
  if (any_unaligned(model, arrays, COUNT(arrays))) return FASTLSTM_UNALIGNED;
  if (unaligned(io->gradients, _Alignof(fastlstm_gradients))) return FASTLSTM_UNALIGNED;
  const int64_t count = io->gradients ? model->spec.num_layers * model->spec.directions : 0;
  for (int64_t i = 0; i < (model->spec.proj_size ? 2 * count : count); ++i) {
    const fastlstm_gradients *g = &io->gradients[i];
    if (!g->w_ih || (!g->w_hh && i < count)) return FASTLSTM_INVALID;
    const void *const outs[] = {g->w_ih, g->w_hh, g->b_ih, g->b_hh};
    if (any_unaligned(model, outs, COUNT(outs))) return FASTLSTM_UNALIGNED;
  }
  status = check_peephole_gradients(model, io);
  return status == FASTLSTM_OK ? check_norm_gradients(model, io) : status;
}
