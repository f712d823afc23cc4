// SPDX-License-Identifier: BSD-3-Clause
// The LSTM with options and layer normalisation, forward, row by row: the statistics need all units of a row.
// The equations are in fastlstm/reference/options.py, normalization.py and noise.py.
//
// Kept for the backward pass besides h and c: sums without their mean, as i, f, g, o; where those of x and
// of h are normalised separately, the four of x and then the four of h.
#ifndef FL_CELL_LSTM_NORMED_H
#define FL_CELL_LSTM_NORMED_H

// What fl_pack_norms has packed. Of one form, `n` multiplies the sums, of the other those of x.
typedef struct norm_weights {
  norm_rows one, four;  // shapes: of one row, of the four gates' together
  const real *bias, *n, *nh, *nc, *bias_nc;
} norm_weights;

FL_INLINE norm_weights norm_weights_of(const fl_layer *layer)
{
  const int64_t width = fl_row_units(layer->units, sizeof(real));
  const real *at = layer->norms;
  return (norm_weights){.one = {1, layer->units, width},
                        .four = {4, layer->units, width},
                        .bias = at,
                        .n = at + 4 * width,
                        .nh = at + 8 * width,
                        .nc = at + 12 * width,
                        .bias_nc = at + 13 * width};
}

// Sums of some rows of a panel, to where those of their other panels stand.
static void FL_NAMED(normed_keep_sums)(const fl_layer *layer, const fl_step *job, real *z, int64_t z_row,
                                       int64_t panel, int64_t row, int rows)
{
  const int64_t width = fl_row_units(layer->units, sizeof(real)), all = layer->cell->row_sums * width;
  const int vectors = panel < layer->full ? FL_PANEL : layer->remainder;
  real *to = (real *)job->row_sums + row * all + panel * VL;
  for (int r = 0; r < rows; ++r, z += z_row, to += all) {
    if (vectors == 4)
      general_sums(4, z, to, (int)width);
    else if (vectors == 2)
      general_sums(2, z, to, (int)width);
    else
      general_sums(1, z, to, (int)width);
  }
}

// Adds a peephole, 0 to 2 of i, f, o, times c to a row of sums. c is `c_stride` elements a vector apart.
FL_INLINE void add_peephole(const fl_layer *layer, int which, const real *c, int64_t c_stride, real *z)
{
  for (int64_t v = 0; v < fl_unit_vectors(layer, VL); ++v)
    vstore(z + v * VL,
           vfma(vload(peepholes_of(layer, v) + which * VL), vload(c + v * c_stride), vload(z + v * VL)));
}

// Activations of a row on the tape; NULL without one.
typedef struct kept_row {
  real *at;
  int64_t stride;  // between unit vectors
  int streaming;
} kept_row;

FL_INLINE void keep_row(const kept_row *kept, int place, const real *z, int64_t vectors)
{
  for (int64_t v = 0; kept->at && v < vectors; ++v)
    save_activation(kept->at + v * kept->stride + place * VL, vload(z + v * VL), kept->streaming);
}

// One gate's sums to what its activation takes, by itself.
FL_INLINE void norm_gate(const fl_layer *layer, const norm_weights *n, int gate, const kept_row *kept,
                         real *z)
{
  const fastlstm_options *o = layer->options;
  const real scale = FL_NAMED(norm_center)(z, &n->one, (real)o->norm_epsilon);
  const real *weight = n->n + gate * n->one.width, *bias = n->bias + gate * n->one.width;
  keep_row(kept, gate, z, fl_unit_vectors(layer, VL));
  for (int64_t u = 0; u < n->one.width; u += VL) {
    const vreal normed = vmul(vload(z + u), vset1(scale));
    vstore(z + u, clipped(vfma(normed, vload(weight + u), vload(bias + u)), (real)o->gate_clip));
  }
}

// The sums of x, to those of all gates, without peepholes and clips; those of h lose their mean.
FL_INLINE void norm_separately(const fl_layer *layer, const norm_weights *n, const kept_row *kept, real *x,
                               real *h)
{
  const int64_t width = n->one.width, vectors = fl_unit_vectors(layer, VL);
  const real epsilon = (real)layer->options->norm_epsilon;
  const vreal of_x = vset1(FL_NAMED(norm_center)(x, &n->four, epsilon));
  const vreal of_h = vset1(FL_NAMED(norm_center)(h, &n->four, epsilon));
  for (int gate = 0; gate < 4; ++gate) {
    keep_row(kept, gate, x + gate * width, vectors);
    keep_row(kept, 4 + gate, h + gate * width, vectors);
  }
  for (int64_t u = 0; u < 4 * width; u += VL) {
    const vreal z = vfma(vmul(vload(h + u), of_h), vload(n->nh + u), vload(n->bias + u));
    vstore(x + u, vfma(vmul(vload(x + u), of_x), vload(n->n + u), z));
  }
}

FL_INLINE void clip_row(real *z, int64_t width, real limit)
{
  for (int64_t u = 0; u < width; u += VL) vstore(z + u, clipped(vload(z + u), limit));
}

// The new c from i, f and g; before zoneout into `shown` as well. Behind the last unit it is zero.
FL_INLINE void normed_state(const fl_layer *layer, const fl_step *job, const real *gates, int64_t width,
                            int64_t row, real *shown)
{
  const fastlstm_options *o = layer->options;
  const real limit = (real)o->cell_clip;
  const int64_t c_stride = job->c_stride;
  const real *c_prev = (const real *)job->c_prev + row * VL;
  real *c = (real *)job->c + row * VL, *new_c = job->new_c ? (real *)job->new_c + row * VL : 0;
  const int64_t vectors = fl_unit_vectors(layer, VL);
  real held[NOISE_TILE * VL] __attribute__((aligned(64)));
  for (int64_t v = 0, u = 0; u < layer->units; ++v, u += VL) {
    const vreal i = vload(gates + u), g = vload(gates + 2 * width + u);
    const vreal f = has_forget_gate(o) ? vload(gates + width + u) : fixed_forget(o, i);
    const vreal before = vload(c_prev + v * c_stride);
    vstore(shown + u, clipped(vfma(f, before, vmul(i, g)), limit));
    const vreal state = load_columns(shown, u, layer->units);
    vstore(shown + u, state);
    vstore(c + v * c_stride, state);
    if (new_c) vstore(new_c + v * c_stride, state);
    if (o->zoneout_c > 0) {
      if (v % NOISE_TILE == 0)
        held_part(job->noise, FL_ZONEOUT_C, o->zoneout_c, job->noise_row, tile_of_row(v, vectors, row), held);
      vstore(c + v * c_stride, zoned_out(vload(held + v % NOISE_TILE * VL), before, state));
    }
  }
}

// One row, from its sums: i, f, g and o, or those of h and then those of x. `row` counts from the job's
// first.
FL_INLINE void normed_row(const int separate, const fl_layer *layer, const fl_step *job, real *sums,
                          int64_t row)
{
  const fastlstm_options *o = layer->options;
  const norm_weights n = norm_weights_of(layer);
  const int64_t width = n.one.width, stride = job->c_stride;
  const int all = (int)(width / VL);
  const real *c_prev = (const real *)job->c_prev + row * VL;
  const real *c = (const real *)job->c + row * VL;
  real *z = separate ? sums + 4 * width : sums;
  real *z_i = z, *z_f = z + width, *z_g = z + 2 * width, *z_o = z + 3 * width;
  const int kinds = separate ? 8 : 4;
  const kept_row kept = {job->activations ? (real *)job->activations + kinds * row * VL : 0, kinds * stride,
                         job->streaming};

  if (separate) norm_separately(layer, &n, &kept, z, sums);
  if (layer->peepholes) {
    add_peephole(layer, 0, c_prev, stride, z_i);
    add_peephole(layer, 1, c_prev, stride, z_f);
  }
  if (separate) {
    clip_row(z, 3 * width, (real)o->gate_clip);
  } else {
    for (int gate = 0; gate < 3; ++gate) norm_gate(layer, &n, gate, &kept, z + gate * width);
  }
  FL_NAMED(activate)(&o->gate, z_i, has_forget_gate(o) ? 2 * all : all);
  FL_NAMED(activate)(&o->candidate, z_g, all);
  if (drops_candidates(o, job->noise))
    FL_NAMED(drop_units)(job->noise, FL_RECURRENT_DROPOUT, job->noise_row + row, layer->units, z_g);
  normed_state(layer, job, z, width, row, z_g);
  if (layer->peepholes) add_peephole(layer, 2, z_g, VL, z_o);
  if (separate) {
    clip_row(z_o, width, (real)o->gate_clip);
    const vreal scale = vset1(FL_NAMED(norm_center)(z_g, &n.one, (real)o->norm_epsilon));
    for (int64_t u = 0; u < width; u += VL)
      vstore(z_g + u, vfma(vmul(vload(z_g + u), scale), vload(n.nc + u), vload(n.bias_nc + u)));
  } else {
    norm_gate(layer, &n, 3, &kept, z_o);
  }
  FL_NAMED(activate)(&o->gate, z_o, all);
  FL_NAMED(activate)(&o->output, z_g, all);
  const int noisy = h_has_noise(layer, job->noise);
  real *h_next = (real *)job->h_next + row * job->h_stride, *y = (real *)job->y[row];
  for (int64_t v = 0, u = 0; u < layer->units; ++v, u += VL) {
    const int count = layer->units - u < VL ? (int)(layer->units - u) : VL;
    const vreal h = vmul(vload(z_o + u), vload(z_g + u));
    if (noisy) {
      vstore(z_o + u, h);
    } else {
      vstore(h_next + u, h);
      store_units(y + u, h, count);
    }
    if (job->cells) store_units((real *)job->cells[row] + u, vload(c + v * stride), count);
  }
  const int64_t vectors = fl_unit_vectors(layer, VL);
  for (int64_t v = 0; noisy && v < vectors; v += NOISE_TILE)
    FL_NAMED(put_h)(layer, job, z_o + v * VL, tile_of_row(v, vectors, row));
}

static void FL_NAMED(normed_forward)(const fl_layer *layer, const fl_step *job, int64_t row, int rows)
{
  const int64_t width = fl_row_units(layer->units, sizeof(real));
  real *z = job->row_sums;
  for (int r = 0; r < rows; ++r, z += 4 * width) normed_row(0, layer, job, z, row + r);
}

static void FL_NAMED(separate_forward)(const fl_layer *layer, const fl_step *job, int64_t row, int rows)
{
  const int64_t width = fl_row_units(layer->units, sizeof(real));
  // The sums of x, to where those of h seem to stand to normed_keep_sums: behind them.
  fl_step of_x = *job;
  of_x.row_sums = (real *)job->row_sums + 4 * width;
  for (int64_t p = 0; p < fl_unit_vectors(layer, VL); ++p) {
    real *from = (real *)job->projected + p * job->projected_panel_stride + row * job->projected_row_stride;
    FL_NAMED(normed_keep_sums)(layer, &of_x, from, job->projected_row_stride, p, 0, rows);
  }
  real *z = job->row_sums;
  for (int r = 0; r < rows; ++r, z += 8 * width) normed_row(1, layer, job, z, row + r);
}

#endif
