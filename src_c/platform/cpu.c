// SPDX-License-Identifier: BSD-3-Clause
// Which instruction sets can run here, and which kernels stand behind each.
#include "platform/cpu.h"

#include <stdatomic.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "internal/binding.h"
#include "kernels/kernels.h"

static const char *const names[FASTLSTM_ISA_COUNT] = {"generic", "avx2", "avx512", "neon"};

const char *fastlstm_isa_name(fastlstm_isa isa)
{
  return (unsigned)isa < FASTLSTM_ISA_COUNT ? names[isa] : "unknown";
}

int fastlstm_isa_available(fastlstm_isa isa)
{
  if (isa == FASTLSTM_ISA_GENERIC) return 1;
#if defined(__x86_64__)
  // The builtins also check that the operating system saves the wide registers (XGETBV).
  __builtin_cpu_init();
  const int avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (isa == FASTLSTM_ISA_AVX2) return avx2;
  if (isa == FASTLSTM_ISA_AVX512)
    return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
#elif defined(__aarch64__)
  if (isa == FASTLSTM_ISA_NEON) return 1;  // part of the base instruction set
#endif
  return 0;
}

const fl_kernels *fl_kernels_for(fastlstm_isa isa, fastlstm_dtype dtype)
{
  static const fl_kernels *const tables[FASTLSTM_ISA_COUNT][2] = {
      [FASTLSTM_ISA_GENERIC] = {&fl_kernels_generic_f32, &fl_kernels_generic_f64},
#if defined(__x86_64__)
      [FASTLSTM_ISA_AVX2] = {&fl_kernels_avx2_f32, &fl_kernels_avx2_f64},
      [FASTLSTM_ISA_AVX512] = {&fl_kernels_avx512_f32, &fl_kernels_avx512_f64},
#elif defined(__aarch64__)
      [FASTLSTM_ISA_NEON] = {&fl_kernels_neon_f32, &fl_kernels_neon_f64},
#endif
  };
  return (unsigned)isa < FASTLSTM_ISA_COUNT && fastlstm_isa_available(isa) ? tables[isa][dtype] : NULL;
}

// Bytes of the caches that serve a core's data, by level, as the processor tells them. Asking takes long in a
// virtual machine, so it is done once.
enum { LEVELS = 3 };
static int64_t cache_size(int level)
{
  static atomic_llong known[LEVELS] = {-1, -1, -1};
  int64_t size = atomic_load_explicit(&known[level - 1], memory_order_relaxed);
  if (size >= 0) return size;
  int64_t sizes[LEVELS] = {0};
#if defined(__x86_64__)
  unsigned a, b, c, d;
  const unsigned leaf = __builtin_cpu_is("intel") ? 4 : 0x8000001d;
  for (unsigned i = 0; i < 16 && __get_cpuid_count(leaf, i, &a, &b, &c, &d) && (a & 31) != 0; ++i) {
    const int64_t ways = (b >> 22) + 1, parts = (b >> 12 & 0x3ff) + 1, line = (b & 0xfff) + 1;
    const unsigned kind = a & 31, at = a >> 5 & 7;
    const int holds_data = kind == 1 || kind == 3;  // data, or data and instructions
    if (holds_data && at >= 1 && at <= LEVELS) sizes[at - 1] = ways * parts * line * ((int64_t)c + 1);
  }
#endif
  for (int i = 0; i < LEVELS; ++i) atomic_store_explicit(&known[i], sizes[i], memory_order_relaxed);
  return sizes[level - 1];
}

fl_cache_sizes fl_cache_sizes_of_cpu(void)
{
#if defined(__x86_64__)
  __builtin_cpu_init();
#endif
  return (fl_cache_sizes){cache_size(1), cache_size(2), cache_size(3)};
}

// The kind of a processor's caches, by its vendor and family.
static fl_cache_kind kind_of_cpu(void)
{
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_is("intel")) return FL_CACHES_SLOW;
  if (__builtin_cpu_is("amdfam19h") && !__builtin_cpu_supports("avx512f")) return FL_CACHES_MIDDLE;
#endif
  return FL_CACHES_FAST;
}

// Three kinds of machines, rounded from measurements of one thread; rates in bytes a nanosecond.
// - Fast: a Zen 5, whose last level gives 118 and whose second one holds 1 MiB. Also all that nobody
// measured.
// - Slow: a Xeon with AMX, whose last level gives 30; 2 MiB. All of Intel's. Blocks of weights are two thirds
//   of its first level.
// - Middle: a Zen 3, whose last level gives 19 to 67; 512 KiB. Two shapes were measured there with blocks of
//   whole panels (T100 B30 H256, T26 B64 I512 H256: up to 1.2 times as fast); short blocks lost (H 1150).
// Of other machines, sizes are what CPUID says and rates those of the same kind.
fl_caches fl_caches_of(int32_t kind)
{
  static const struct {
    fl_caches caches;
    double l1, l2;  // bytes of the machine that was measured
  } known[] = {
      [FL_CACHES_FAST] = {{40e3, 900e3, 32 << 20, 200, 90, 45, 0, 0}, 48 << 10, 1 << 20},
      [FL_CACHES_SLOW] = {{40e3, 2100e3, 480 << 20, 180, 25, 15, 32 << 10, 0}, 48 << 10, 2 << 20},
      [FL_CACHES_MIDDLE] = {{27e3, 450e3, 32 << 20, 97, 40, 12, 21 << 10, 1}, 32 << 10, 512 << 10},
  };
  const int of_cpu = kind == FL_CACHES_OF_CPU;
  const int at = of_cpu ? (int)kind_of_cpu() : kind;
  fl_caches caches = known[at].caches;
  if (!of_cpu) return caches;
  const double first = (double)cache_size(1), second = (double)cache_size(2), third = (double)cache_size(3);
  if (first > 0) caches.l1_bytes *= first / known[at].l1;
  if (first > 0) caches.block_bytes = (int64_t)((double)caches.block_bytes * first / known[at].l1);
  if (second > 0) caches.l2_bytes *= second / known[at].l2;
  if (third > 0) caches.l3_bytes = third;
  return caches;
}
