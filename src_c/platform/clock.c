// SPDX-License-Identifier: BSD-3-Clause
#define _GNU_SOURCE
#include <time.h>

#include "internal/binding.h"

double fl_now(void)
{
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
