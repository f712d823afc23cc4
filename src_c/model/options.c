// SPDX-License-Identifier: BSD-3-Clause
// Options of the general LSTM: what callers may hand over, and how peepholes and what normalises are packed.
#include <float.h>
#include <math.h>
#include <string.h>

#include "internal/check.h"

static const double LARGEST_FACTOR = 1e30;  // alpha or beta, which float32 must hold, times 2 log2 e too

static int is_flag(int32_t value) { return value == 0 || value == 1; }

// Comparisons with NaN are false.
static int is_activation(const fastlstm_activation *a)
{
  return (uint32_t)a->kind < FASTLSTM_ACTIVATION_COUNT && fabs(a->alpha) <= LARGEST_FACTOR &&
         fabs(a->beta) <= LARGEST_FACTOR;
}

static int is_clip(double limit) { return limit >= 0 && isfinite(limit); }

// An epsilon that kernels flush to zero would let 0 / 0 happen.
static int is_norm(const fastlstm_options *o)
{
  if ((uint32_t)o->layer_norm >= FASTLSTM_NORM_COUNT) return 0;
  return o->layer_norm ? o->norm_epsilon >= FLT_MIN && o->norm_epsilon <= LARGEST_FACTOR
                       : o->norm_epsilon == 0;
}

static int is_probability(double p) { return p >= 0 && p <= 1; }

// Layers and directions are counted in the bits of a mask's counter below its kind.
static int is_noise(const fastlstm_spec *spec)
{
  const fastlstm_options *o = &spec->options;
  return is_probability(o->zoneout_c) && is_probability(o->zoneout_h) &&
         is_probability(o->recurrent_dropout) && is_probability(o->variational_dropout) &&
         is_probability(o->input_dropout) &&
         (!fl_has_noise(o) || spec->num_layers <= (INT64_C(1) << FL_MASK_BITS) / 2);
}

int fl_has_noise(const fastlstm_options *o)
{
  return o->zoneout_c > 0 || o->zoneout_h > 0 || o->recurrent_dropout > 0 || o->variational_dropout > 0 ||
         o->input_dropout > 0;
}

// Both before and after fl_spell_out.
int fl_clips_before_noise(const fastlstm_options *o)
{
  return o->proj_clip > 0 && isfinite(o->proj_clip) && (o->zoneout_h > 0 || o->variational_dropout > 0);
}

int fl_are_options(const fastlstm_spec *spec)
{
  const fastlstm_options *o = &spec->options;
  if (!is_noise(spec)) return 0;
  if (spec->cell != FASTLSTM_LSTM_GENERAL)
    return !(o->peepholes || o->coupled || o->no_forget_gate || o->gate_clip != 0 || o->cell_clip != 0 ||
             o->gate.kind || o->candidate.kind || o->output.kind || o->proj_clip != 0 || o->layer_norm ||
             o->norm_epsilon != 0 || spec->peepholes || spec->norms || fl_has_noise(o));
  return is_flag(o->peepholes) && is_flag(o->coupled) && is_flag(o->no_forget_gate) &&
         !(o->coupled && o->no_forget_gate) && is_clip(o->gate_clip) && is_clip(o->cell_clip) &&
         is_activation(&o->gate) && is_activation(&o->candidate) && is_activation(&o->output) &&
         (o->peepholes || !spec->peepholes) && is_clip(o->proj_clip) &&
         (o->proj_clip == 0 || spec->proj_size) && is_norm(o) && (o->layer_norm || !spec->norms);
}

static void name_activation(fastlstm_activation *a, fastlstm_activation_kind usual)
{
  if (a->kind == FASTLSTM_USUAL) a->kind = usual;
}

// A clip that is no normal number would count as 0 in kernels, which flush: there is no clip only where the
// caller has said 0.
static void name_clip(double *limit)
{
  if (*limit == 0) *limit = INFINITY;
}

void fl_spell_out(fastlstm_options *options)
{
  name_clip(&options->gate_clip);
  name_clip(&options->cell_clip);
  name_clip(&options->proj_clip);
  name_activation(&options->gate, FASTLSTM_SIGMOID);
  name_activation(&options->candidate, FASTLSTM_TANH);
  name_activation(&options->output, FASTLSTM_TANH);
}

// As vectors of units, zeros behind the last one.
void fl_pack_peepholes(const fl_layer *layer, const fastlstm_peepholes *p, int64_t lanes, int64_t elem)
{
  const char *const from[FL_PEEPHOLES] = {p->i, p->f, p->o};
  const int64_t bytes = layer->units * elem, vector = lanes * elem;
  char *out = (char *)layer->peepholes;
  for (int64_t at = 0; at < bytes; at += vector) {
    const int64_t count = bytes - at < vector ? bytes - at : vector;
    for (int i = 0; i < FL_PEEPHOLES; ++i, out += vector) {
      memset(out, 0, (size_t)vector);
      memcpy(out, from[i] + at, (size_t)count);
    }
  }
}

// `parts` rows of units, zeros behind the last one of each. Returns where the next ones go.
static char *pack_rows(const fl_layer *layer, const void *from, int parts, int64_t elem, char *out)
{
  const int64_t bytes = layer->units * elem, row = fl_row_units(layer->units, elem) * elem;
  for (int i = 0; i < parts; ++i, out += row) {
    memset(out + bytes, 0, (size_t)(row - bytes));
    memcpy(out, (const char *)from + i * bytes, (size_t)bytes);
  }
  return out;
}

static void add_bias(const void *bias, int64_t count, int64_t elem, char *out)
{
  for (int64_t i = 0; bias && i < count; ++i) {
    if (elem == 8)
      ((double *)out)[i] += ((const double *)bias)[i];
    else
      ((float *)out)[i] += ((const float *)bias)[i];
  }
}

void fl_pack_norms(const fl_layer *layer, const fastlstm_norms *n, const fastlstm_weights *w, int64_t elem)
{
  const int64_t units = layer->units, row = fl_row_units(units, elem) * elem;
  char *out = (char *)layer->norms;
  memset(out, 0, (size_t)(FL_PANEL * row));
  for (int gate = 0; gate < FL_PANEL; ++gate, out += row) {
    add_bias(w->b_ih ? (const char *)w->b_ih + gate * units * elem : NULL, units, elem, out);
    add_bias(w->b_hh ? (const char *)w->b_hh + gate * units * elem : NULL, units, elem, out);
  }
  if (layer->kind == FL_NORMED_SUMS) {
    pack_rows(layer, n->n, FL_PANEL, elem, out);
    return;
  }
  out = pack_rows(layer, n->nx, FL_PANEL, elem, out);
  out = pack_rows(layer, n->nh, FL_PANEL, elem, out);
  out = pack_rows(layer, n->nc, 1, elem, out);
  pack_rows(layer, n->bias_nc, 1, elem, out);
}
