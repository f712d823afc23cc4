// SPDX-License-Identifier: BSD-3-Clause
// What one core of this machine reaches, measured the way the kernels use it.
#define _GNU_SOURCE
#include <time.h>

#include "fastlstm.h"
#include "kernels/kernels.h"

static double now(void)
{
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

double fl_measure_fma(const fl_kernels *kernels, double seconds)
{
  double best = 0;
  for (const double end = now() + seconds; now() < end;) {
    const double start = now(), flops = kernels->fma_flops(200000), rate = flops / (now() - start);
    if (rate > best) best = rate;
  }
  return best;
}

double fl_measure_read(const fl_kernels *kernels, const void *data, int64_t bytes, double seconds)
{
  double best = 0;
  volatile double sink = 0;
  const int64_t repeats = bytes < (1 << 20) ? (1 << 20) / bytes : 1;
  for (const double end = now() + seconds; now() < end;) {
    const double start = now();
    for (int64_t i = 0; i < repeats; ++i) sink = sink + kernels->read_all(data, bytes);
    const double rate = (double)(bytes * repeats) / (now() - start);
    if (rate > best) best = rate;
  }
  return best;
}
