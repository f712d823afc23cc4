// SPDX-License-Identifier: BSD-3-Clause
#include "isa/generic.h"
#include "instance.inc.h"
