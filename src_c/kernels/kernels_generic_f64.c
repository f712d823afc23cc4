// SPDX-License-Identifier: BSD-3-Clause
#define FL_DOUBLE
#include "vec_generic.h"
#include "kernels.inc.h"
