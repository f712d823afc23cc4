// SPDX-License-Identifier: BSD-3-Clause
// What one core of this machine reaches, measured the way the kernels use it.
#include "internal/binding.h"
#include "kernels/kernels.h"

double fl_measure_fma(const fl_kernels *kernels, double seconds)
{
  double best = 0;
  for (const double end = fl_now() + seconds; fl_now() < end;) {
    const double start = fl_now(), flops = kernels->fma_flops(200000), rate = flops / (fl_now() - start);
    if (rate > best) best = rate;
  }
  return best;
}

double fl_measure_read(const fl_kernels *kernels, const void *data, int64_t bytes, double seconds)
{
  double best = 0;
  volatile double sink = 0;
  int prefetch = 0;
  const int64_t repeats = bytes < (1 << 20) ? (1 << 20) / bytes : 1;
  for (const double end = fl_now() + seconds; fl_now() < end;) {
    const double start = fl_now();
    for (int64_t i = 0; i < repeats; ++i) sink = sink + kernels->read_all(data, bytes, prefetch);
    prefetch = !prefetch;
    const double rate = (double)(bytes * repeats) / (fl_now() - start);
    if (rate > best) best = rate;
  }
  return best;
}
