// SPDX-License-Identifier: BSD-3-Clause
// The LSTM with options and layer normalisation, backward, row by row. What the forward pass has kept are
// sums without their mean; their scales are computed from them once more, to the same bits.
#ifndef FL_CELL_LSTM_NORMED_BACK_H
#define FL_CELL_LSTM_NORMED_BACK_H

// The gradient of h that came through the step after, to where the first gate gradient of its unit will be.
static void FL_NAMED(normed_keep_gradients)(const fl_layer *layer, const fl_back_step *job, const real *dh,
                                            int64_t dh_row, int64_t vector, int64_t row, int rows)
{
  real *to = (real *)job->now + layer->cell->grads * vector * job->stride + row * VL;
  for (int r = 0; r < rows; ++r) vstore(to + r * VL, vload(dh + r * dh_row));
}

// What the steps of a row backwards work on: rows of `width` in fl_back_step.space.
typedef struct normed_back {
  const fl_layer *layer;
  const fl_back_step *job;
  norm_weights n;
  int64_t row, vectors;
  real *u;                // normalised sums: of i, f, g, o, or of x and then of h
  real *values, *slopes;  // of the activations of i, o, f, g and the output
  real *d;                // gradients of i, f, g, o
  real *u_c, *dc;
  real scales[4];  // of u: of each gate, or of x and of h
  real scale_c;
} normed_back;

enum { VALUE_I, VALUE_O, VALUE_F, VALUE_G, VALUE_C, VALUES };

FL_INLINE normed_back normed_back_of(const fl_layer *layer, const fl_back_step *job, int64_t row)
{
  normed_back b = {.layer = layer, .job = job, .n = norm_weights_of(layer), .row = row};
  const int64_t width = b.n.one.width;
  b.vectors = fl_unit_vectors(layer, VL);
  b.u = job->space;
  b.values = b.u + 8 * width;
  b.slopes = b.values + VALUES * width;
  b.d = b.slopes + VALUES * width;
  b.u_c = b.d + 4 * width;
  b.dc = b.u_c + width;
  return b;
}

FL_INLINE const real *c_of(const void *c, const normed_back *b, int64_t v)
{
  return (const real *)c + v * b->job->c_stride + b->row * VL;
}

FL_INLINE real *sums_of_unit(const normed_back *b, int64_t v)
{
  return (real *)b->job->bias + v * b->layer->cell->unit_sums * VL;
}

FL_INLINE void add_to(real *sum, vreal v) { vstore(sum, vadd(vload(sum), v)); }

// Behind the sums of biases and peepholes: of what normalises.
enum { SUMS_OF_NORMS = 4 + FL_PEEPHOLES };

// Normalised sums, from what the forward pass has kept.
FL_INLINE void read_normed(const int separate, normed_back *b)
{
  const int kinds = separate ? 8 : 4, together = separate ? 4 : 1;
  const norm_rows *rows = separate ? &b->n.four : &b->n.one;
  const int64_t width = b->n.one.width;
  const real *kept = (const real *)b->job->activations + kinds * b->row * VL;
  for (int64_t v = 0; v < b->vectors; ++v, kept += kinds * b->job->c_stride)
    for (int a = 0; a < kinds; ++a) vstore(b->u + a * width + v * VL, vload(kept + a * VL));
  for (int a = 0; a < kinds; a += together) {
    real *u = b->u + a * width;
    clear_padding(u, rows);
    const real scale = FL_NAMED(norm_scale)(u, rows, (real)b->layer->options->norm_epsilon);
    for (int64_t i = 0; i < together * width; i += VL) vstore(u + i, vmul(vload(u + i), vset1(scale)));
    b->scales[a / together] = scale;
  }
}

// What the activation of a gate takes, as the forward pass has it.
FL_INLINE vreal normed_sum(const int separate, const normed_back *b, int gate, int64_t v)
{
  const int64_t width = b->n.one.width, at = gate * width + v * VL;
  vreal z = vload(b->n.bias + at);
  if (separate) z = vfma(vload(b->u + 4 * width + at), vload(b->n.nh + at), z);
  z = vfma(vload(b->u + at), vload(b->n.n + at), z);
  const real *peepholes = separate && gate != 2 ? peepholes_of(b->layer, v) : 0;
  if (peepholes) {
    const void *c = gate == 3 ? b->job->c : b->job->c_prev;
    z = vfma(vload(peepholes + (gate == 3 ? 2 : gate) * VL), vload(c_of(c, b, v)), z);
  }
  return clipped(z, (real)b->layer->options->gate_clip);
}

// Values and slopes of all activations.
FL_INLINE void normed_activations(const int separate, normed_back *b)
{
  static const int place[4] = {VALUE_I, VALUE_F, VALUE_G, VALUE_O};
  const fastlstm_options *o = b->layer->options;
  const int64_t width = b->n.one.width;
  const int all = (int)(width / VL);
  const real limit = (real)o->gate_clip;
  real *shown = b->values + VALUE_C * width;
  for (int64_t v = 0; v < b->vectors; ++v) {
    for (int gate = 0; gate < 4; ++gate)
      vstore(b->values + place[gate] * width + v * VL, normed_sum(separate, b, gate, v));
    vstore((separate ? b->u_c : shown) + v * VL, vload(c_of(b->job->c, b, v)));
  }
  if (separate) {
    b->scale_c = FL_NAMED(norm_center)(b->u_c, &b->n.one, (real)o->norm_epsilon);
    for (int64_t u = 0; u < width; u += VL) {
      const vreal normed = vmul(vload(b->u_c + u), vset1(b->scale_c));
      vstore(b->u_c + u, normed);
      vstore(shown + u, vfma(normed, vload(b->n.nc + u), vload(b->n.bias_nc + u)));
    }
  }
  const norm_rows rows = {VALUES, b->layer->units, width};
  clear_padding(b->values, &rows);
  FL_NAMED(activate_with_slopes)(&o->gate, b->values, b->slopes, limit, (has_forget_gate(o) ? 3 : 2) * all);
  real *g = b->values + VALUE_G * width, *slopes_g = b->slopes + VALUE_G * width;
  FL_NAMED(activate_with_slopes)(&o->candidate, g, slopes_g, limit, all);
  if (drops_candidates(o, b->job->noise)) {
    const int64_t row = b->job->noise_row + b->row, units = b->layer->units;
    FL_NAMED(drop_units)(b->job->noise, FL_RECURRENT_DROPOUT, row, units, g);
    FL_NAMED(drop_units)(b->job->noise, FL_RECURRENT_DROPOUT, row, units, slopes_g);
  }
  FL_NAMED(activate_with_slopes)(&o->output, shown, b->slopes + VALUE_C * width, (real)INFINITY, all);
}

// From the gradient of a gate's z to that of its sums, by itself; sums those of bias and weight.
FL_INLINE void norm_gate_back(const normed_back *b, int gate)
{
  const int64_t width = b->n.one.width;
  real *d = b->d + gate * width;
  const real *u = b->u + gate * width, *weight = b->n.n + gate * width;
  for (int64_t v = 0; v < b->vectors; ++v) {
    const vreal dz = vload(d + v * VL);
    real *sums = sums_of_unit(b, v);
    add_to(sums + gate * VL, dz);
    vstore(sums + (SUMS_OF_NORMS + gate) * VL,
           vfma(dz, vload(u + v * VL), vload(sums + (SUMS_OF_NORMS + gate) * VL)));
    vstore(d + v * VL, vmul(dz, vload(weight + v * VL)));
  }
  FL_NAMED(norm_back)(d, u, b->scales[gate], &b->n.one);
}

// Likewise of the c that the output takes: from the gradient of what is shown to that of c, in b->dc.
FL_INLINE void norm_output_back(const normed_back *b)
{
  for (int64_t v = 0; v < b->vectors; ++v) {
    const vreal d = vload(b->dc + v * VL);
    real *sums = sums_of_unit(b, v) + (SUMS_OF_NORMS + 8) * VL;
    vstore(sums, vfma(d, vload(b->u_c + v * VL), vload(sums)));
    add_to(sums + VL, d);
    vstore(b->dc + v * VL, vmul(d, vload(b->n.nc + v * VL)));
  }
  FL_NAMED(norm_back)(b->dc, b->u_c, b->scale_c, &b->n.one);
}

// From the gradients of all z to those of the sums of x and of h, which take the places of values and slopes.
FL_INLINE void norm_separately_back(const normed_back *b)
{
  const int64_t width = b->n.one.width;
  for (int gate = 0; gate < 4; ++gate) {
    for (int64_t v = 0; v < b->vectors; ++v) {
      const int64_t at = gate * width + v * VL;
      const vreal dz = vload(b->d + at);
      real *sums = sums_of_unit(b, v), *of_x = sums + (SUMS_OF_NORMS + gate) * VL, *of_h = of_x + 4 * VL;
      add_to(sums + gate * VL, dz);
      vstore(of_x, vfma(dz, vload(b->u + at), vload(of_x)));
      vstore(of_h, vfma(dz, vload(b->u + 4 * width + at), vload(of_h)));
      vstore(b->values + at, vmul(dz, vload(b->n.n + at)));
      vstore(b->slopes + at, vmul(dz, vload(b->n.nh + at)));
    }
  }
  FL_NAMED(norm_back)(b->values, b->u, b->scales[0], &b->n.four);
  FL_NAMED(norm_back)(b->slopes, b->u + 4 * width, b->scales[1], &b->n.four);
}

// Gradients of o and of what the output activation takes; then of c, but for o's peephole, in b->dc.
FL_INLINE void normed_output_back(const int separate, const normed_back *b)
{
  const fl_back_step *job = b->job;
  const int64_t width = b->n.one.width, apart = b->layer->cell->grads * job->stride;
  const double zoneout = b->layer->options->zoneout_c;
  const int noisy = h_has_noise(b->layer, job->noise);
  real held[NOISE_TILE * VL] __attribute__((aligned(64)));
  for (int64_t v = 0, u = 0; v < b->vectors; ++v, u += VL) {
    const real *recurrent = (const real *)job->now + v * apart + b->row * VL;
    const noise_tile tile = tile_of_row(v, b->vectors, b->row);
    if (noisy && v % NOISE_TILE == 0)
      FL_NAMED(take_h_gradients)(b->layer, job, recurrent, apart, 0, tile, b->dc + u);
    const vreal h = noisy ? vload(b->dc + u) : output_gradient(b->layer, job, vload(recurrent), u, b->row);
    const real *value = b->values + u, *slope = b->slopes + u;
    vstore(b->d + 3 * width + u,
           vmul(vmul(h, vload(value + VALUE_C * width)), vload(slope + VALUE_O * width)));
    vstore(b->dc + u, vmul(vmul(h, vload(value + VALUE_O * width)), vload(slope + VALUE_C * width)));
  }
  if (separate)
    norm_output_back(b);
  else
    norm_gate_back(b, 3);
  for (int64_t v = 0, u = 0; v < b->vectors; ++v, u += VL) {
    vreal dc = vload(c_of(job->carry, b, v));
    if (job->dc) dc = vadd(dc, load_columns(job->dc[b->row], u, b->layer->units));
    if (zoneout > 0) {
      const noise_tile tile = tile_of_row(v, b->vectors, b->row);
      if (v % NOISE_TILE == 0) held_part(job->noise, FL_ZONEOUT_C, zoneout, job->noise_row, tile, held);
      const vreal part = vload(held + v % NOISE_TILE * VL);
      vstore((real *)c_of(job->carry, b, v), vmul(part, dc));
      dc = vmul(vsub(vset1(1), part), dc);
    }
    vstore(b->dc + u, vadd(dc, vload(b->dc + u)));
  }
}

// Gradients of i, f and g; c's for the step before but for the peepholes of i and f, in b->dc.
FL_INLINE void normed_state_back(const normed_back *b)
{
  const fastlstm_options *o = b->layer->options;
  const fl_back_step *job = b->job;
  const int64_t width = b->n.one.width;
  const int own = has_forget_gate(o);
  for (int64_t v = 0, u = 0; v < b->vectors; ++v, u += VL) {
    const real *value = b->values + u, *slope = b->slopes + u, *peepholes = peepholes_of(b->layer, v);
    const vreal i = vload(value + VALUE_I * width), g = vload(value + VALUE_G * width);
    const vreal before = vload(c_of(job->c_prev, b, v)), after = vload(c_of(job->c, b, v));
    vreal dc = vload(b->dc + u);
    if (peepholes) {
      const vreal d_o = vload(b->d + 3 * width + u);
      real *sum = sums_of_unit(b, v) + 6 * VL;
      dc = vfma(d_o, vload(peepholes + 2 * VL), dc);
      vstore(sum, vfma(d_o, after, vload(sum)));
    }
    dc = vzero_where_not_positive(dc, vsub(vset1((real)o->cell_clip), absolute(after)));
    vstore(b->d + 2 * width + u, vmul(vmul(dc, i), vload(slope + VALUE_G * width)));
    vstore(b->d + width + u, own ? vmul(vmul(dc, before), vload(slope + VALUE_F * width)) : vset1(0));
    vstore(b->d + u, vmul(vmul(dc, o->coupled ? vsub(g, before) : g), vload(slope + VALUE_I * width)));
    vstore(b->dc + u, vmul(dc, own ? vload(value + VALUE_F * width) : fixed_forget(o, i)));
  }
}

FL_INLINE void normed_row_back(const int separate, const fl_layer *layer, const fl_back_step *job,
                               int64_t row)
{
  normed_back b = normed_back_of(layer, job, row);
  const int64_t width = b.n.one.width;
  read_normed(separate, &b);
  normed_activations(separate, &b);
  normed_output_back(separate, &b);
  normed_state_back(&b);
  for (int gate = 0; !separate && gate < 3; ++gate) norm_gate_back(&b, gate);
  for (int64_t v = 0, u = 0; v < b.vectors; ++v, u += VL) {
    const real *peepholes = peepholes_of(layer, v);
    vreal dc = vload(b.dc + u);
    if (peepholes) {
      const vreal d_i = vload(b.d + u), d_f = vload(b.d + width + u),
                  before = vload(c_of(job->c_prev, &b, v));
      real *sums = sums_of_unit(&b, v) + 4 * VL;
      dc = vfma(d_f, vload(peepholes + VL), vfma(d_i, vload(peepholes), dc));
      vstore(sums, vfma(d_i, before, vload(sums)));
      vstore(sums + VL, vfma(d_f, before, vload(sums + VL)));
    }
    real *carry = (real *)c_of(job->carry, &b, v);
    vstore(carry, layer->options->zoneout_c > 0 ? vadd(dc, vload(carry)) : dc);
  }
  if (separate) norm_separately_back(&b);
  const int grads = separate ? 8 : 4;
  for (int64_t v = 0; v < b.vectors; ++v) {
    real *now = (real *)job->now + v * grads * job->stride + row * VL;
    for (int gate = 0; gate < 4; ++gate, now += job->stride) {
      const int64_t at = gate * width + v * VL;
      vstore(now, vload((separate ? b.values : b.d) + at));
      if (separate) vstore(now + 4 * job->stride, vload(b.slopes + at));
    }
  }
}

static void FL_NAMED(normed_backward)(const fl_layer *layer, const fl_back_step *job)
{
  for (int64_t row = 0; row < job->rows; ++row) normed_row_back(0, layer, job, row);
}

static void FL_NAMED(separate_backward)(const fl_layer *layer, const fl_back_step *job)
{
  for (int64_t row = 0; row < job->rows; ++row) normed_row_back(1, layer, job, row);
}

static const cell_kernels FL_NAMED(lstm_normed) = {.forward = FL_NAMED(normed_keep_sums),
                                                   .forward_rows = FL_NAMED(normed_forward),
                                                   .backward = FL_NAMED(normed_keep_gradients),
                                                   .backward_rows = FL_NAMED(normed_backward)};

static const cell_kernels FL_NAMED(lstm_separate) = {.forward = FL_NAMED(normed_keep_sums),
                                                     .forward_rows = FL_NAMED(separate_forward),
                                                     .backward = FL_NAMED(normed_keep_gradients),
                                                     .backward_rows = FL_NAMED(separate_backward)};

#endif
