// SPDX-License-Identifier: BSD-3-Clause
// Noise of training passes in a step: masks of dropout and zoneout, and what they do to h. The formulas are
// in fastlstm/reference/noise.py. Where no pass is noisy, zoneout takes what is expected of its masks.
#ifndef FL_NOISE_H
#define FL_NOISE_H

// What is drawn at a time: some rows of some unit vectors, NOISE_TILE vectors at most, rows within vectors.
// Value r of vector v stands at (v * rows + r) * VL.
enum { NOISE_TILE = 6, NOISE_ROWS = NOISE_TILE, NOISE_GROUPS = (VL + 3) / 4 };  // groups of words of a vector

typedef struct noise_tile {
  int64_t vector, row;  // the first ones; the row counts from the job's first
  int vectors, rows;
} noise_tile;

// The counter's word for the step, which masks of a whole sequence do not have.
FL_INLINE uint32_t noise_time(const fl_noise *noise, int kind, int64_t row)
{
  if (kind == FL_VARIATIONAL_DROPOUT) return 0;
  return (uint32_t)(noise->reverse ? noise->lengths[row] - 1 - noise->step : noise->step);
}

// Values of a mask. The noise's row `first` is the job's first.
static void FL_NAMED(draw)(const fl_noise *noise, int kind, int64_t first, noise_tile t, real *out)
{
  const fl_mask *mask = &noise->masks[kind];
  const real kept = (real)mask->kept, dropped = (real)mask->dropped;
  const int count = t.vectors * t.rows, part = (int)(t.vector * VL % 4);  // VL may be half a group
  uint32_t words[4][NOISE_TILE * NOISE_GROUPS];
  for (int i = 0, v = 0; v < t.vectors; ++v) {
    for (int r = 0; r < t.rows; ++r) {
      const int64_t row = first + t.row + r;
      for (int group = 0; group < NOISE_GROUPS; ++group, ++i) {
        words[0][i] = (uint32_t)((t.vector + v) * VL / 4 + group);
        words[1][i] = noise_time(noise, kind, row);
        words[2][i] = (uint32_t)noise->rows[row];
        words[3][i] = (uint32_t)kind << FL_MASK_BITS | noise->place;
      }
    }
  }
  philox_rounds(noise->key, count * NOISE_GROUPS, words[0], words[1], words[2], words[3]);
  for (int i = 0; i < count; ++i) {
    const int skipped = (part + i / t.rows * VL) % 4;
    for (int lane = 0; lane < VL; ++lane) {
      const int word = skipped + lane;
      const uint32_t number = words[word % 4][i * NOISE_GROUPS + word / 4] >> 8;
      out[i * VL + lane] = number >= mask->threshold ? kept : dropped;
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
FL_INLINE void held_part(const fl_noise *noise, int kind, double p, int64_t first, noise_tile t, real *out)
{
  if (noise)
    FL_NAMED(draw)(noise, kind, first, t, out);
  else
    for (int i = 0; i < t.vectors * t.rows; ++i) vstore(out + i * VL, vset1((real)p));
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
  return o && !layer->second && (o->zoneout_h > 0 || (noise && o->variational_dropout > 0));
}

// New h, at h, to where it goes.
static void FL_NAMED(put_h)(const fl_layer *layer, const fl_step *job, const real *h, noise_tile t)
{
  const double p = layer->options->zoneout_h;
  real held[NOISE_TILE * VL] __attribute__((aligned(64)));
  real mask[NOISE_TILE * VL] __attribute__((aligned(64)));
  if (p > 0) held_part(job->noise, FL_ZONEOUT_H, p, job->noise_row, t, held);
  if (job->h_whole) FL_NAMED(draw)(job->noise, FL_VARIATIONAL_DROPOUT, job->noise_row, t, mask);
  for (int i = 0; i < t.vectors * t.rows; ++i) {
    const int64_t row = t.row + i % t.rows, unit = (t.vector + i / t.rows) * VL, left = layer->units - unit;
    const int64_t at = row * job->h_stride + unit;
    vreal v = vload(h + i * VL);
    if (job->new_h) vstore((real *)job->new_h + at, v);
    if (p > 0) v = zoned_out(vload(held + i * VL), vload((const real *)job->h_before + at), v);
    store_units((real *)job->y[row] + unit, v, left < VL ? (int)left : VL);
    if (job->h_whole) {
      vstore((real *)job->h_whole + at, v);
      v = vmul(v, vload(mask + i * VL));
    }
    vstore((real *)job->h_next + at, v);
  }
}

// Gradients of what `put_h` was given, to `out`, from those of the product that read h, those of row r of
// vector v at dh + v * dh_vector + r * dh_row, and all others of h.
static void FL_NAMED(take_h_gradients)(const fl_layer *layer, const fl_back_step *job, const real *dh,
                                       int64_t dh_vector, int64_t dh_row, noise_tile t, real *out)
{
  const double p = layer->options->zoneout_h;
  const int masked = job->noise && layer->options->variational_dropout > 0;
  real held[NOISE_TILE * VL] __attribute__((aligned(64)));
  real mask[NOISE_TILE * VL] __attribute__((aligned(64)));
  if (p > 0) held_part(job->noise, FL_ZONEOUT_H, p, job->noise_row, t, held);
  if (masked) FL_NAMED(draw)(job->noise, FL_VARIATIONAL_DROPOUT, job->noise_row, t, mask);
  for (int i = 0; i < t.vectors * t.rows; ++i) {
    const int64_t row = t.row + i % t.rows, unit = (t.vector + i / t.rows) * VL;
    vreal d = vload(dh + i / t.rows * dh_vector + i % t.rows * dh_row);
    if (masked) d = vmul(d, vload(mask + i * VL));
    d = output_gradient(layer, job, d, unit, row);
    if (p > 0) {
      const vreal part = vload(held + i * VL);
      vstore((real *)job->dh_carry + row * job->dh_stride + unit, vmul(part, d));
      d = vmul(vsub(vset1(1), part), d);
    }
    vstore(out + i * VL, d);
  }
}

// Vectors [vector, vector + NOISE_TILE), as many as there are, of one row.
FL_INLINE noise_tile tile_of_row(int64_t vector, int64_t vectors, int64_t row)
{
  const int64_t left = vectors - vector;
  return (noise_tile){vector, row, left < NOISE_TILE ? (int)left : NOISE_TILE, 1};
}

#endif
