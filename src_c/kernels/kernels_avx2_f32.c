// SPDX-License-Identifier: BSD-3-Clause
#include "kernels.h"
#if defined(__x86_64__)
#include "isa/avx2.h"
#include "instance.inc.h"
#endif
