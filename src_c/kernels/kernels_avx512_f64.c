// SPDX-License-Identifier: BSD-3-Clause
#include "kernels.h"
#if defined(__x86_64__)
#define FL_DOUBLE
#include "isa/avx512.h"
#include "instance.inc.h"
#endif
