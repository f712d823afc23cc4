// SPDX-License-Identifier: BSD-3-Clause
// Noise of training passes in a step: masks of dropout and zoneout, and what they do to h. The formulas are
// in fastlstm/reference/noise.py. Where no pass is noisy, zoneout takes what is expected of its masks.
#ifndef FL_NOISE_H
#define FL_NOISE_H

enum { NOISE_ROWS = 6, NOISE_GROUPS = (VL + 3) / 4 };  // rows that are taken together; groups of words of one

// The counter's word for the step, which masks of a whole sequence do not have.
FL_INLINE uint32_t noise_time(const fl_noise *noise, int kind, int64_t row)
{
  if (kind == FL_VARIATIONAL_DROPOUT) return 0;
  return (uint32_t)(noise->reverse ? noise->lengths[row] - 1 - noise->step : noise->step);
}

// Values of a mask for the units of the vector that begins at `unit`: of some rows, VL apart.
static void FL_NAMED(draw)(const fl_noise *noise, int kind, int64_t unit, int64_t row, int rows, real *out)
{
  const fl_mask *mask = &noise->masks[kind];
  const real kept = (real)mask->kept, dropped = (real)mask->dropped;
  uint32_t words[4][NOISE_ROWS * NOISE_GROUPS];
  for (int j = 0; j < rows * NOISE_GROUPS; ++j) {
    const int64_t r = row + j / NOISE_GROUPS;
    words[0][j] = (uint32_t)(unit / 4 + j % NOISE_GROUPS);
    words[1][j] = noise_time(noise, kind, r);
    words[2][j] = (uint32_t)noise->rows[r];
    words[3][j] = (uint32_t)kind << FL_MASK_BITS | noise->place;
  }
  philox_rounds(noise->key, rows * NOISE_GROUPS, words[0], words[1], words[2], words[3]);
  for (int r = 0; r < rows; ++r) {
    for (int lane = 0; lane < VL; ++lane) {
      const int word = (int)(unit % 4) + lane;
      const uint32_t number = words[word % 4][r * NOISE_GROUPS + word / 4] >> 8;
      out[r * VL + lane] = number >= mask->threshold ? kept : dropped;
    }
  }
}

// Multiplies a row of units by a mask of dropout.
static void FL_NAMED(drop_units)(const fl_noise *noise, int kind, int64_t row, int64_t units, real *at)
{
  const fl_mask *mask = &noise->masks[kind];
  const fl_dropout job = {.counter = {noise_time(noise, kind, row), (uint32_t)noise->rows[row],
                                      (uint32_t)kind << FL_MASK_BITS | noise->place},
                          .key = {noise->key[0], noise->key[1]},
                          .threshold = mask->threshold,
                          .scale = mask->kept};
  FL_NAMED(dropout)(&job, 0, units, at);
}

// Of zoneout, which has probability p, likewise.
FL_INLINE void held_part(const fl_noise *noise, int kind, double p, int64_t unit, int64_t row, int rows,
                         real *out)
{
  if (noise)
    FL_NAMED(draw)(noise, kind, unit, row, rows, out);
  else
    for (int r = 0; r < rows; ++r) vstore(out + r * VL, vset1((real)p));
}

// held * before + (1 - held) * after
FL_INLINE vreal zoned_out(vreal held, vreal before, vreal after)
{
  return vfma(held, before, vmul(vsub(vset1(1), held), after));
}

// Whether this layer makes h, and h goes through noise.
FL_INLINE int h_has_noise(const fl_layer *layer, const fl_noise *noise)
{
  const fastlstm_options *o = layer->options;
  return o && !layer->projection && (o->zoneout_h > 0 || (noise && o->variational_dropout > 0));
}

// New h of some rows and the units of a vector, at h, VL apart, to where they go.
static void FL_NAMED(put_h)(const fl_layer *layer, const fl_step *job, const real *h, int64_t vector,
                            int64_t row, int rows)
{
  const double p = layer->options->zoneout_h;
  const int64_t unit = vector * VL, left = layer->units - unit;
  const int count = left < VL ? (int)left : VL;
  real held[NOISE_ROWS * VL] __attribute__((aligned(64)));
  real mask[NOISE_ROWS * VL] __attribute__((aligned(64)));
  if (p > 0) held_part(job->noise, FL_ZONEOUT_H, p, unit, job->noise_row + row, rows, held);
  if (job->h_whole)
    FL_NAMED(draw)(job->noise, FL_VARIATIONAL_DROPOUT, unit, job->noise_row + row, rows, mask);
  for (int r = 0; r < rows; ++r) {
    const int64_t at = (row + r) * job->h_stride + unit;
    vreal v = vload(h + r * VL);
    if (job->new_h) vstore((real *)job->new_h + at, v);
    if (p > 0) v = zoned_out(vload(held + r * VL), vload((const real *)job->h_before + at), v);
    store_units((real *)job->y[row + r] + unit, v, count);
    if (job->h_whole) {
      vstore((real *)job->h_whole + at, v);
      v = vmul(v, vload(mask + r * VL));
    }
    vstore((real *)job->h_next + at, v);
  }
}

// Gradients of what `put_h` was given, VL apart, from those of the product that read h, at dh, and all others
// of h.
static void FL_NAMED(take_h_gradients)(const fl_layer *layer, const fl_back_step *job, const real *dh,
                                       int64_t dh_row, int64_t vector, int64_t row, int rows, real *out)
{
  const double p = layer->options->zoneout_h;
  const int masked = job->noise && layer->options->variational_dropout > 0;
  const int64_t unit = vector * VL;
  real held[NOISE_ROWS * VL] __attribute__((aligned(64)));
  real mask[NOISE_ROWS * VL] __attribute__((aligned(64)));
  if (p > 0) held_part(job->noise, FL_ZONEOUT_H, p, unit, job->noise_row + row, rows, held);
  if (masked) FL_NAMED(draw)(job->noise, FL_VARIATIONAL_DROPOUT, unit, job->noise_row + row, rows, mask);
  for (int r = 0; r < rows; ++r) {
    vreal d = vload(dh + r * dh_row);
    if (masked) d = vmul(d, vload(mask + r * VL));
    d = output_gradient(layer, job, d, unit, row + r);
    if (p > 0) {
      const vreal part = vload(held + r * VL);
      vstore((real *)job->dh_carry + (row + r) * job->dh_stride + unit, vmul(part, d));
      d = vmul(vsub(vset1(1), part), d);
    }
    vstore(out + r * VL, d);
  }
}

#endif
