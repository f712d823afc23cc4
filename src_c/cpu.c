// SPDX-License-Identifier: BSD-3-Clause
// Which instruction sets can run here, and which kernels stand behind each.
#include "cpu.h"

#include "fastlstm.h"
#include "kernels/kernels.h"

static const char *const names[FL_ISA_COUNT] = {"generic", "avx2", "avx512"};

const char *fl_isa_name(fl_isa isa) { return (unsigned)isa < FL_ISA_COUNT ? names[isa] : "unknown"; }

int fl_isa_available(fl_isa isa)
{
  if (isa == FL_ISA_GENERIC) return 1;
#if defined(__x86_64__)
  // The builtins also check that the operating system saves the wide registers (XGETBV).
  __builtin_cpu_init();
  const int avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (isa == FL_ISA_AVX2) return avx2;
  if (isa == FL_ISA_AVX512)
    return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
#endif
  return 0;
}

fl_isa fl_isa_best(void)
{
  int isa = FL_ISA_COUNT - 1;
  while (!fl_isa_available((fl_isa)isa)) --isa;
  return (fl_isa)isa;
}

const fl_kernels *fl_kernels_for(fl_isa isa, fl_dtype dtype)
{
  static const fl_kernels *const tables[FL_ISA_COUNT][2] = {
      {&fl_kernels_generic_f32, &fl_kernels_generic_f64},
#if defined(__x86_64__)
      {&fl_kernels_avx2_f32, &fl_kernels_avx2_f64},
      {&fl_kernels_avx512_f32, &fl_kernels_avx512_f64},
#endif
  };
  return (unsigned)isa < FL_ISA_COUNT && fl_isa_available(isa) ? tables[isa][dtype] : NULL;
}

// Rounded from measurements: Zen 5 with its third level next to each core's, and a Xeon with AMX (family 6)
// whose third level is far away.
const fl_caches *fl_caches_of(int32_t kind)
{
  static const fl_caches near = {900e3, 200, 90, 0}, far = {2100e3, 180, 25, 32 << 10};
  int is_far = kind == FL_CACHES_FAR;
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (kind == FL_CACHES_OF_CPU) is_far = __builtin_cpu_is("intel");
#endif
  return is_far ? &far : &near;
}
