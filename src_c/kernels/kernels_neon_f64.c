// SPDX-License-Identifier: BSD-3-Clause
#include "kernels.h"
#if defined(__aarch64__)
#define FL_DOUBLE
#include "isa/neon.h"
#include "instance.inc.h"
#endif
