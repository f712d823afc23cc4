// SPDX-License-Identifier: BSD-3-Clause
// Runs the vector tests of every instruction set that this CPU has, and tests the modes of floating point.
#include <fenv.h>
#include <float.h>
#include <stdio.h>

#include "check.h"
#include "platform/cpu.h"
#include "fastlstm.h"

void vectors_generic_f32(void);
void vectors_generic_f64(void);
#if defined(__x86_64__)
void vectors_avx2_f32(void);
void vectors_avx2_f64(void);
void vectors_avx512_f32(void);
void vectors_avx512_f64(void);
#elif defined(__aarch64__)
void vectors_neon_f32(void);
void vectors_neon_f64(void);
#endif

static volatile float smallest = FLT_MIN, one = 1, third_of_ulp = FLT_EPSILON / 3;

static int flushes(void)
{
  const volatile float half = smallest / 2;
  return half == 0;
}

// Kernels flush denormals, round to nearest, and give the caller's mode back, whatever it is.
static void check_modes(void)
{
  CHECK(!flushes(), "denormals are flushed from the start");
  const uint32_t plain = fl_fp_enter();
  CHECK(flushes(), "denormals are not flushed");
  const uint32_t within = fl_fp_enter();
  fl_fp_leave(within);
  CHECK(flushes(), "the inner call does not give the outer one's mode back");
  const uint32_t nearest = fl_fp_nearest();
  CHECK(flushes(), "fl_fp_nearest changes how denormals are treated");
  fl_fp_leave(nearest);
  fl_fp_leave(plain);
  CHECK(!flushes(), "the caller's mode does not come back");

  fesetround(FE_UPWARD);
  CHECK(one + third_of_ulp > 1, "the mode does not take effect");
  uint32_t upward = fl_fp_enter();
  CHECK(one + third_of_ulp == 1, "fl_fp_enter leaves the rounding");
  fl_fp_leave(upward);
  CHECK(one + third_of_ulp > 1, "the caller's rounding does not come back");
  upward = fl_fp_nearest();
  CHECK(one + third_of_ulp == 1 && !flushes(), "fl_fp_nearest does not round to nearest, or flushes");
  fl_fp_leave(upward);
  CHECK(fegetround() == FE_UPWARD, "the caller's rounding does not come back");
  fesetround(FE_TONEAREST);
}

static void run(fastlstm_isa isa, void (*f32)(void), void (*f64)(void))
{
  printf("%s%s\n", fastlstm_isa_name(isa), fastlstm_isa_available(isa) ? "" : ": not here");
  if (!fastlstm_isa_available(isa)) return;
  f32();
  f64();
}

int main(void)
{
  check_modes();
  run(FASTLSTM_ISA_GENERIC, vectors_generic_f32, vectors_generic_f64);
#if defined(__x86_64__)
  run(FASTLSTM_ISA_AVX2, vectors_avx2_f32, vectors_avx2_f64);
  run(FASTLSTM_ISA_AVX512, vectors_avx512_f32, vectors_avx512_f64);
#elif defined(__aarch64__)
  run(FASTLSTM_ISA_NEON, vectors_neon_f32, vectors_neon_f64);
#endif
  return check_result("vectors");
}
