// SPDX-License-Identifier: BSD-3-Clause
// The LSTM cell with options, forward and backward: peepholes, clips, coupled gates or no forget gate,
// activations chosen at run time, and noise. The equations and their derivation are in
// fastlstm/reference/options.py and noise.py.
//
// Activations are called for all gates of some rows at a time. Kept for the backward pass besides h and c:
// what the gates' activations were applied to, clipped, as i, f, g, o.
#ifndef FL_CELL_LSTM_GENERAL_H
#define FL_CELL_LSTM_GENERAL_H

enum { GENERAL_ROWS = NOISE_ROWS };  // whose activations are computed together

FL_INLINE vreal clipped(vreal v, real limit) { return vmin(vset1(limit), vmax(vset1(-limit), v)); }

// Peepholes of a unit vector; NULL where there are none.
FL_INLINE const real *peepholes_of(const fl_layer *layer, int64_t vector)
{
  return layer->peepholes ? (const real *)layer->peepholes + vector * FL_PEEPHOLES * VL : 0;
}

// Whether f is a gate of its own.
FL_INLINE int has_forget_gate(const fastlstm_options *o) { return !o->coupled && !o->no_forget_gate; }

// f where it is no gate of its own.
FL_INLINE vreal fixed_forget(const fastlstm_options *o, vreal i)
{
  return o->coupled ? vsub(vset1(1), i) : vset1(1);
}

FL_INLINE int drops_candidates(const fastlstm_options *o, const fl_noise *noise)
{
  return noise && o->recurrent_dropout > 0;
}

// ---- forward ----

// The sums of one row's panel apart, into i[], f[], g[], o[] of the row; `apart` elements lie between them.
FL_INLINE void general_sums(const int vectors, const real *z, real *gates, int apart)
{
  vreal sums[4], gate[4];
  FL_UNROLL
  for (int v = 0; v < vectors; ++v) sums[v] = vload(z + v * VL);
  lstm_gates(vectors, sums, gate);
  FL_UNROLL
  for (int g = 0; g < 4; ++g) vstore(gates + g * apart, gate[g]);
}

static void FL_NAMED(general_rows)(const fl_layer *layer, const fl_step *job, const real *z, int64_t z_row,
                                   int64_t panel, int64_t row, int rows)
{
  const fastlstm_options *o = layer->options;
  const real limit = (real)o->gate_clip, cell_limit = (real)o->cell_clip;
  const int64_t first = panel * job->c_stride + row * VL, unit = panel * VL, left = layer->units - unit;
  const int vectors = panel < layer->full ? FL_PANEL : layer->remainder, apart = rows * VL;
  const int count = left < VL ? (int)left : VL;
  const real *peepholes = peepholes_of(layer, panel), *c_prev = (const real *)job->c_prev + first;
  real *c = (real *)job->c + first;
  real *new_c = job->new_c ? (real *)job->new_c + first : 0;
  real *kept = job->activations ? (real *)job->activations + 4 * first : 0;
  real gates[4 * GENERAL_ROWS * VL] __attribute__((aligned(64)));
  real *gate_i = gates, *gate_f = gates + apart, *gate_g = gates + 2 * apart, *gate_o = gates + 3 * apart;

  for (int r = 0; r < rows; ++r, z += z_row) {
    if (vectors == 4)
      general_sums(4, z, gates + r * VL, apart);
    else if (vectors == 2)
      general_sums(2, z, gates + r * VL, apart);
    else
      general_sums(1, z, gates + r * VL, apart);
  }
  for (int r = 0; r < rows; ++r) {
    vreal z_i = vload(gate_i + r * VL), z_f = vload(gate_f + r * VL), z_g = vload(gate_g + r * VL);
    if (peepholes) {
      const vreal before = vload(c_prev + r * VL);
      z_i = vfma(vload(peepholes), before, z_i);
      z_f = vfma(vload(peepholes + VL), before, z_f);
    }
    z_i = clipped(z_i, limit);
    z_f = clipped(z_f, limit);
    z_g = clipped(z_g, limit);
    vstore(gate_i + r * VL, z_i);
    vstore(gate_f + r * VL, z_f);
    vstore(gate_g + r * VL, z_g);
    if (!kept) continue;
    save_activation(kept + 4 * r * VL, z_i, job->streaming);
    save_activation(kept + (4 * r + 1) * VL, z_f, job->streaming);
    save_activation(kept + (4 * r + 2) * VL, z_g, job->streaming);
  }
  FL_NAMED(activate)(&o->gate, gate_i, has_forget_gate(o) ? 2 * rows : rows);
  FL_NAMED(activate)(&o->candidate, gate_g, rows);
  const noise_tile tile = {panel, row, 1, rows};
  real held[GENERAL_ROWS * VL] __attribute__((aligned(64)));
  if (drops_candidates(o, job->noise)) {
    FL_NAMED(draw)(job->noise, FL_RECURRENT_DROPOUT, job->noise_row, tile, held);
    for (int r = 0; r < rows; ++r)
      vstore(gate_g + r * VL, vmul(vload(gate_g + r * VL), vload(held + r * VL)));
  }
  if (o->zoneout_c > 0) held_part(job->noise, FL_ZONEOUT_C, o->zoneout_c, job->noise_row, tile, held);
  for (int r = 0; r < rows; ++r) {
    const vreal i = vload(gate_i + r * VL), g = vload(gate_g + r * VL);
    const vreal f = has_forget_gate(o) ? vload(gate_f + r * VL) : fixed_forget(o, i);
    const vreal before = vload(c_prev + r * VL);
    const vreal state = clipped(vfma(f, before, vmul(i, g)), cell_limit);
    vreal z_o = vload(gate_o + r * VL);
    if (peepholes) z_o = vfma(vload(peepholes + 2 * VL), state, z_o);
    z_o = clipped(z_o, limit);
    if (new_c) vstore(new_c + r * VL, state);
    vstore(c + r * VL, o->zoneout_c > 0 ? zoned_out(vload(held + r * VL), before, state) : state);
    vstore(gate_o + r * VL, z_o);
    vstore(gate_g + r * VL, state);
    if (kept) save_activation(kept + (4 * r + 3) * VL, z_o, job->streaming);
  }
  FL_NAMED(activate)(&o->gate, gate_o, rows);
  FL_NAMED(activate)(&o->output, gate_g, rows);
  const int noisy = h_has_noise(layer, job->noise);
  for (int r = 0; r < rows; ++r) {
    const vreal h = vmul(vload(gate_o + r * VL), vload(gate_g + r * VL));
    if (noisy) {
      vstore(gate_o + r * VL, h);
    } else {
      vstore((real *)job->h_next + (row + r) * job->h_stride + unit, h);
      store_units((real *)job->y[row + r] + unit, h, count);
    }
    if (job->cells) store_units((real *)job->cells[row + r] + unit, vload(c + r * VL), count);
  }
  if (noisy) FL_NAMED(put_h)(layer, job, gate_o, tile);
}

static void FL_NAMED(general_forward)(const fl_layer *layer, const fl_step *job, real *z, int64_t z_row,
                                      int64_t panel, int64_t row, int rows)
{
  for (int r = 0; r < rows; r += GENERAL_ROWS) {
    const int part = rows - r < GENERAL_ROWS ? rows - r : GENERAL_ROWS;
    FL_NAMED(general_rows)(layer, job, z + r * z_row, z_row, panel, row + r, part);
  }
}

// ---- backward ----

static void FL_NAMED(general_back_rows)(const fl_layer *layer, const fl_back_step *job, const real *dh,
                                        int64_t dh_row, int64_t vector, int64_t row, int rows)
{
  const fastlstm_options *o = layer->options;
  const real limit = (real)o->gate_clip, cell_limit = (real)o->cell_clip;
  const int own = has_forget_gate(o), apart = rows * VL;
  const int64_t first = vector * job->c_stride + row * VL, unit = vector * VL;
  const real *kept = (const real *)job->activations + 4 * first, *peepholes = peepholes_of(layer, vector);
  const real *c = (const real *)job->c + first, *c_prev = (const real *)job->c_prev + first;
  real *carry = (real *)job->carry + first, *sums = (real *)job->bias + vector * (4 + FL_PEEPHOLES) * VL;
  real *now = (real *)job->now + 4 * vector * job->stride + row * VL;
  // The gates one after another, f last, which may be none; then candidate and output. Values, and slopes.
  enum { I, O, F, G, C, ALL };
  real values[ALL * GENERAL_ROWS * VL] __attribute__((aligned(64)));
  real slopes[ALL * GENERAL_ROWS * VL] __attribute__((aligned(64)));
  real of_h[GENERAL_ROWS * VL] __attribute__((aligned(64)));
  real held[GENERAL_ROWS * VL] __attribute__((aligned(64)));
  const noise_tile tile = {vector, row, 1, rows};
  const int noisy = h_has_noise(layer, job->noise), zoned = o->zoneout_c > 0;

  for (int r = 0; r < rows; ++r) {
    vstore(values + I * apart + r * VL, vload(kept + 4 * r * VL));
    vstore(values + F * apart + r * VL, vload(kept + (4 * r + 1) * VL));
    vstore(values + G * apart + r * VL, vload(kept + (4 * r + 2) * VL));
    vstore(values + O * apart + r * VL, vload(kept + (4 * r + 3) * VL));
    vstore(values + C * apart + r * VL, vload(c + r * VL));
  }
  FL_NAMED(activate_with_slopes)(&o->gate, values, slopes, limit, (own ? 3 : 2) * rows);
  FL_NAMED(activate_with_slopes)(&o->candidate, values + G * apart, slopes + G * apart, limit, rows);
  if (drops_candidates(o, job->noise)) {
    FL_NAMED(draw)(job->noise, FL_RECURRENT_DROPOUT, job->noise_row, tile, held);
    for (int r = 0; r < rows; ++r) {
      real *g = values + G * apart + r * VL, *slope = slopes + G * apart + r * VL;
      vstore(g, vmul(vload(g), vload(held + r * VL)));
      vstore(slope, vmul(vload(slope), vload(held + r * VL)));
    }
  }
  if (zoned) held_part(job->noise, FL_ZONEOUT_C, o->zoneout_c, job->noise_row, tile, held);
  if (noisy) FL_NAMED(take_h_gradients)(layer, job, dh, 0, dh_row, tile, of_h);
  FL_NAMED(activate_with_slopes)(&o->output, values + C * apart, slopes + C * apart, (real)INFINITY, rows);

  for (int r = 0; r < rows; ++r) {
    const real *value = values + r * VL, *slope = slopes + r * VL;
    const vreal i = vload(value + I * apart), g = vload(value + G * apart);
    const vreal before = vload(c_prev + r * VL), after = vload(c + r * VL);
    const vreal h =
        noisy ? vload(of_h + r * VL) : output_gradient(layer, job, vload(dh + r * dh_row), unit, row + r);
    vreal dc = vload(carry + r * VL), of_before = vset1(0), d[4];
    if (job->dc) dc = vadd(dc, load_columns(job->dc[row + r], unit, layer->units));
    if (zoned) {
      const vreal part = vload(held + r * VL);
      of_before = vmul(part, dc);
      dc = vmul(vsub(vset1(1), part), dc);
    }
    d[3] = vmul(vmul(h, vload(value + C * apart)), vload(slope + O * apart));
    dc = vfma(vmul(h, vload(value + O * apart)), vload(slope + C * apart), dc);
    if (peepholes) dc = vfma(d[3], vload(peepholes + 2 * VL), dc);
    dc = vzero_where_not_positive(dc, vsub(vset1(cell_limit), absolute(after)));
    d[2] = vmul(vmul(dc, i), vload(slope + G * apart));
    d[1] = own ? vmul(vmul(dc, before), vload(slope + F * apart)) : vset1(0);
    d[0] = vmul(vmul(dc, o->coupled ? vsub(g, before) : g), vload(slope + I * apart));
    dc = vmul(dc, own ? vload(value + F * apart) : fixed_forget(o, i));
    if (peepholes) {
      dc = vfma(d[1], vload(peepholes + VL), vfma(d[0], vload(peepholes), dc));
      vstore(sums + 4 * VL, vfma(d[0], before, vload(sums + 4 * VL)));
      vstore(sums + 5 * VL, vfma(d[1], before, vload(sums + 5 * VL)));
      vstore(sums + 6 * VL, vfma(d[3], after, vload(sums + 6 * VL)));
    }
    vstore(carry + r * VL, zoned ? vadd(dc, of_before) : dc);
    FL_UNROLL
    for (int n = 0; n < 4; ++n) {
      vstore(now + n * job->stride + r * VL, d[n]);
      vstore(sums + n * VL, vadd(vload(sums + n * VL), d[n]));
    }
  }
}

static void FL_NAMED(general_backward)(const fl_layer *layer, const fl_back_step *job, const real *dh,
                                       int64_t dh_row, int64_t vector, int64_t row, int rows)
{
  for (int r = 0; r < rows; r += GENERAL_ROWS) {
    const int part = rows - r < GENERAL_ROWS ? rows - r : GENERAL_ROWS;
    FL_NAMED(general_back_rows)(layer, job, dh + r * dh_row, dh_row, vector, row + r, part);
  }
}

static const cell_kernels FL_NAMED(lstm_general) = {.forward = FL_NAMED(general_forward),
                                                    .backward = FL_NAMED(general_backward)};

#endif
