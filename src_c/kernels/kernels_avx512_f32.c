// SPDX-License-Identifier: BSD-3-Clause
#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma"))), \
                             apply_to = function)
#else
#pragma GCC target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma")
#endif
#include "vec_avx512.h"
#include "kernels.inc.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#else
typedef int fl_not_for_this_machine;  // an empty file is not C
#endif
