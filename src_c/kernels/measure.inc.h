// SPDX-License-Identifier: BSD-3-Clause
// What the machine can do at most, for the benchmark's "share of the limit".
#ifndef FL_MEASURE_H
#define FL_MEASURE_H

// Independent multiply-adds in every accumulator; returns the number of flops done.
static double FL_NAMED(fma_flops)(int64_t repeats)
{
  vreal acc[FL_SUMS], a = vset1((real)0.999), b = vset1((real)1e-3);
  FL_UNROLL
  for (int v = 0; v < FL_SUMS; ++v) acc[v] = vset1((real)(v + 1));
  for (int64_t i = 0; i < repeats; ++i) {
    FL_UNROLL
    for (int v = 0; v < FL_SUMS; ++v) acc[v] = vkeep(vfma(a, b, acc[v]));  // NEON adds onto a register
  }
  vreal sum = acc[0];
  FL_UNROLL
  for (int v = 1; v < FL_SUMS; ++v) sum = vadd(sum, acc[v]);
  real lanes[VL] __attribute__((aligned(64)));
  vstore(lanes, sum);
  volatile real sink = lanes[0];  // else all of it would be dead code
  (void)sink;
  return 2.0 * VL * FL_SUMS * (double)repeats;
}

FL_INLINE double read_each(const void *data, int64_t bytes, const int prefetch)
{
  const real *p = (const real *)data, *end = p + bytes / (int64_t)sizeof(real);
  vreal sum[8];
  FL_UNROLL
  for (int v = 0; v < 8; ++v) sum[v] = vset1(0);
  for (; p < end; p += 16 * VL) {
    FL_UNROLL
    for (int line = 0; prefetch && line < 16 * VL * (int)sizeof(real) / 64; ++line)
      __builtin_prefetch((const char *)p + 4096 + 64 * line, 0, 2);
    FL_UNROLL
    for (int v = 0; v < 16; ++v) sum[v % 8] = vadd(sum[v % 8], vload(p + v * VL));
  }
  real lanes[VL] __attribute__((aligned(64)));
  for (int n = 4; n > 0; n /= 2)
    for (int v = 0; v < n; ++v) sum[v] = vadd(sum[v], sum[v + n]);
  vstore(lanes, sum[0]);
  double total = 0;
  for (int i = 0; i < VL; ++i) total += (double)lanes[i];
  return total;
}

// Reads every vector once; bytes a multiple of 16 vectors, data aligned to one. With `prefetch`, a page ahead
// of its use, as tiles do whose weights come from the last-level cache.
static double FL_NAMED(read_all)(const void *data, int64_t bytes, int prefetch)
{
  return prefetch ? read_each(data, bytes, 1) : read_each(data, bytes, 0);
}

#endif
