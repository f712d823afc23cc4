// SPDX-License-Identifier: BSD-3-Clause
// What the machine can do at most, for the benchmark's "share of the limit".
#ifndef FL_MEASURE_H
#define FL_MEASURE_H

// Independent multiply-adds in every accumulator; returns the number of flops done.
static double fma_flops(int64_t repeats)
{
  vreal acc[FL_ACCUMULATORS], a = vset1((real)0.999), b = vset1((real)1e-3);
  FL_UNROLL
  for (int v = 0; v < FL_ACCUMULATORS; ++v) acc[v] = vset1((real)(v + 1));
  for (int64_t i = 0; i < repeats; ++i) {
    FL_UNROLL
    for (int v = 0; v < FL_ACCUMULATORS; ++v) acc[v] = vkeep(vfma(acc[v], a, b));
  }
  vreal sum = acc[0];
  for (int v = 1; v < FL_ACCUMULATORS; ++v) sum = sum + acc[v];
  real lanes[VL] __attribute__((aligned(64)));
  vstore(lanes, sum);
  volatile real sink = lanes[0];  // else all of it would be dead code
  (void)sink;
  return 2.0 * VL * FL_ACCUMULATORS * (double)repeats;
}

FL_INLINE double read_each(const void *data, int64_t bytes, const int asks)
{
  const real *p = (const real *)data, *end = p + bytes / (int64_t)sizeof(real);
  vreal sum[8];
  FL_UNROLL
  for (int v = 0; v < 8; ++v) sum[v] = vset1(0);
  for (; p < end; p += 16 * VL) {
    FL_UNROLL
    for (int line = 0; asks && line < 16 * VL * (int)sizeof(real) / 64; ++line)
      __builtin_prefetch((const char *)p + 4096 + 64 * line, 0, 2);
    FL_UNROLL
    for (int v = 0; v < 16; ++v) sum[v % 8] = sum[v % 8] + vload(p + v * VL);
  }
  real lanes[VL] __attribute__((aligned(64)));
  vstore(lanes, ((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7])));
  double total = 0;
  for (int i = 0; i < VL; ++i) total += (double)lanes[i];
  return total;
}

// Reads every vector once; bytes a multiple of 16 vectors, data aligned to one. Or asks for what lies a page
// ahead, too, as kernels do whose weights come from afar.
static double read_all(const void *data, int64_t bytes, int asks)
{
  return asks ? read_each(data, bytes, 1) : read_each(data, bytes, 0);
}

#endif
