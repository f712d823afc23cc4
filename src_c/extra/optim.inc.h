// SPDX-License-Identifier: BSD-3-Clause
// The loops of optim.c for one `real`; NAME adds its suffix. Each function is compiled once for
// every instruction set of FL_CLONES, and the loader picks one.

FL_CLONES
static void NAME(sgd)(const fl_sgd *o, int64_t n, real *restrict p, const real *restrict g)
{
  const real lr = (real)o->lr, decay = (real)o->weight_decay;
  if (decay != 0)
    for (int64_t i = 0; i < n; ++i) p[i] = p[i] - lr * (g[i] + decay * p[i]);
  else
    for (int64_t i = 0; i < n; ++i) p[i] = p[i] - lr * g[i];
}

FL_CLONES
static void NAME(momentum)(const fl_sgd *o, int64_t n, real *restrict p, const real *restrict g,
                           real *restrict buffer)
{
  const real lr = (real)o->lr, decay = (real)o->weight_decay, momentum = (real)o->momentum;
  const real fresh = (real)(1 - o->dampening);
  const int decays = decay != 0, first = o->first != 0, nesterov = o->nesterov != 0;
  for (int64_t i = 0; i < n; ++i) {
    const real d = decays ? g[i] + decay * p[i] : g[i];
    const real b = first ? d : momentum * buffer[i] + fresh * d;
    const real move = nesterov ? d + momentum * b : b;
    buffer[i] = b;
    p[i] = p[i] - lr * move;
  }
}

// The hyperparameters of one step, as the loops need them.
typedef struct {
  real beta1, beta2, rest1, rest2;  // rest = 1 - beta
  real eps, decay, shrink;          // shrink: of decoupled decay, 1 without it
  real step_size, root;             // lr / (1 - beta1^t) and 1 / sqrt(1 - beta2^t)
} NAME(adam_rates);

FL_CLONES
static void NAME(adam)(const NAME(adam_rates) * rates, int64_t n, real *restrict p, const real *restrict g,
                       real *restrict m, real *restrict v)
{
  const NAME(adam_rates) r = *rates;
  for (int64_t i = 0; i < n; ++i) {
    const real d = r.decay != 0 ? g[i] + r.decay * p[i] : g[i];
    const real mean = r.beta1 * m[i] + r.rest1 * d;
    const real square = r.beta2 * v[i] + (r.rest2 * d) * d;
    m[i] = mean;
    v[i] = square;
    p[i] = p[i] * r.shrink - (r.step_size * mean) / (SQRT(square) * r.root + r.eps);
  }
}

FL_CLONES
static void NAME(amsgrad)(const NAME(adam_rates) * rates, int64_t n, real *restrict p, const real *restrict g,
                          real *restrict m, real *restrict v, real *restrict v_max)
{
  const NAME(adam_rates) r = *rates;
  for (int64_t i = 0; i < n; ++i) {
    const real d = r.decay != 0 ? g[i] + r.decay * p[i] : g[i];
    const real mean = r.beta1 * m[i] + r.rest1 * d;
    const real square = r.beta2 * v[i] + (r.rest2 * d) * d;
    // NaN in either wins, or a broken gradient would go unseen.
    const real largest = ((square > v_max[i]) | (square != square)) ? square : v_max[i];
    m[i] = mean;
    v[i] = square;
    v_max[i] = largest;
    p[i] = p[i] * r.shrink - (r.step_size * mean) / (SQRT(largest) * r.root + r.eps);
  }
}

static void NAME(adam_any)(const fl_adam *o, int64_t n, real *p, const real *g, real *m, real *v, real *v_max)
{
  const double left1 = 1 - power(o->beta1, o->step), left2 = 1 - power(o->beta2, o->step);
  const NAME(adam_rates) rates = {
      .beta1 = (real)o->beta1,
      .beta2 = (real)o->beta2,
      .rest1 = (real)(1 - o->beta1),
      .rest2 = (real)(1 - o->beta2),
      .eps = (real)o->eps,
      .decay = o->decoupled ? 0 : (real)o->weight_decay,
      .shrink = o->decoupled ? (real)(1 - o->lr * o->weight_decay) : 1,
      .step_size = (real)(o->lr / left1),
      .root = (real)(1 / sqrt(left2)),
  };
  if (v_max != NULL)
    NAME(amsgrad)(&rates, n, p, g, m, v, v_max);
  else
    NAME(adam)(&rates, n, p, g, m, v);
}

FL_CLONES
static double NAME(sum_squares)(int64_t n, const real *g)
{
  double sums[LANES] = {0};
  int64_t i = 0;
  for (; i + LANES <= n; i += LANES)
    for (int k = 0; k < LANES; ++k) sums[k] += (double)g[i + k] * (double)g[i + k];
  for (int k = 0; i + k < n; ++k) sums[k] += (double)g[i + k] * (double)g[i + k];
  for (int half = LANES / 2; half > 0; half /= 2)
    for (int k = 0; k < half; ++k) sums[k] += sums[k + half];
  return sums[0];
}

FL_CLONES
static void NAME(scale)(int64_t n, real *g, real factor)
{
  for (int64_t i = 0; i < n; ++i) g[i] *= factor;
}

FL_CLONES
static void NAME(clamp)(int64_t n, real *g, real limit)
{
  for (int64_t i = 0; i < n; ++i) {
    const real low = g[i] < -limit ? -limit : g[i];
    g[i] = low > limit ? limit : low;
  }
}
