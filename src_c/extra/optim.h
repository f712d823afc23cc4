// SPDX-License-Identifier: BSD-3-Clause
// fastlstm's optimisers: each updates one array in place in one pass over the memory.
//
// Arrays hold n contiguous `real`s: float for FASTLSTM_F32, double for FASTLSTM_F64, aligned to their type.
// They belong to the caller, no two of one call overlap, nothing is kept and nothing allocated.
// Hyperparameters are doubles; what does not change from element to element (bias corrections,
// 1 - beta) is worked out in double and then rounded once to `real`. Element by element every
// operation is one IEEE operation in `real`, in the order in which optim.inc.h writes them:
// the bits depend on neither length, alignment nor CPU. Only denormals, which the steps flush to
// zero on x86, may differ on a CPU that does not.
#ifndef FL_OPTIM_H
#define FL_OPTIM_H

#include <stdint.h>

#include "fastlstm.h"

// d = g + weight_decay p;  b = momentum b + (1 - dampening) d, in the first step b = d;
// p -= lr b, with Nesterov p -= lr (d + momentum b). Without momentum there is no b: p -= lr d.
typedef struct fl_sgd {
  double lr, momentum, dampening, weight_decay;
  int32_t nesterov;
  int32_t first;  // buffer holds nothing yet
} fl_sgd;

// buffer: b, or NULL without momentum
void fl_sgd_step(const fl_sgd *options, fastlstm_dtype dtype, int64_t n, void *p, const void *g,
                 void *buffer);

// Algorithm 1 of Kingma & Ba 2015, with L2 decay (d = g + weight_decay p takes the place of g) or
// the decoupled decay of Loshchilov & Hutter 2019 (first p *= 1 - lr weight_decay):
//   m = beta1 m + (1 - beta1) d       v = beta2 v + (1 - beta2) d^2
//   p -= lr / (1 - beta1^step) m / (sqrt(v) / sqrt(1 - beta2^step) + eps)
typedef struct fl_adam {
  double lr, beta1, beta2, eps, weight_decay;
  int32_t decoupled;
  int64_t step;  // from 1
} fl_adam;

// m, v: the moments, zero before the first step; v_max: the largest v so far, which then takes
// v's place in the last line (AMSGrad of Reddi et al. 2018), or NULL
void fl_adam_step(const fl_adam *options, fastlstm_dtype dtype, int64_t n, void *p, const void *g, void *m,
                  void *v, void *v_max);

// Sum of squares in double, in one order: element i goes to partial sum i mod 16 (of a tail as
// well), and these are added in pairs 8, 4, 2 and 1 apart.
double fl_sum_squares(fastlstm_dtype dtype, int64_t n, const void *g);

void fl_scale(fastlstm_dtype dtype, int64_t n, void *g, double factor);
void fl_clamp(fastlstm_dtype dtype, int64_t n, void *g, double limit);  // to [-limit, limit]; NaN stays

#endif
