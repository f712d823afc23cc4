// SPDX-License-Identifier: BSD-3-Clause
#if defined(__aarch64__)
#include "isa/neon.h"
#include "kernels.inc.h"
#else
typedef int fl_not_for_this_machine;  // an empty file is not C
#endif
