// SPDX-License-Identifier: BSD-3-Clause
#include "vec_generic.h"
#include "kernels.inc.h"
