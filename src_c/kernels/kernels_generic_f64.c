// SPDX-License-Identifier: BSD-3-Clause
#define FL_DOUBLE
#include "isa/generic.h"
#include "instance.inc.h"
