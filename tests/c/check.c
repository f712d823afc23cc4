// SPDX-License-Identifier: BSD-3-Clause
#include "check.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { MOST_PRINTED = 20 };
static int64_t checks, failures;

void check_that(int ok, const char *file, int line, const char *format, ...)
{
  ++checks;
  if (ok || ++failures > MOST_PRINTED) return;
  printf("%s:%d: ", file, line);
  va_list arguments;
  va_start(arguments, format);
  vprintf(format, arguments);
  va_end(arguments);
  printf("\n");
  fflush(stdout);  // the next thing may be a crash
}

int check_result(const char *program)
{
  printf("%s: %lld checks, %lld failed\n", program, (long long)checks, (long long)failures);
  return failures != 0 || checks == 0;
}

int same_float(float a, float b) { return (a != a && b != b) || memcmp(&a, &b, sizeof a) == 0; }
int same_double(double a, double b) { return (a != a && b != b) || memcmp(&a, &b, sizeof a) == 0; }

uint64_t random_bits(uint64_t *state)
{
  uint64_t z = *state += 0x9e3779b97f4a7c15u;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 27) * 0x94d049bb133111ebu;
  return z ^ z >> 31;
}

int64_t random_between(uint64_t *state, int64_t least, int64_t most)
{
  return least + (int64_t)(random_bits(state) % (uint64_t)(most - least + 1));
}

double random_real(uint64_t *state) { return (double)(random_bits(state) >> 40) / (1 << 23) - 1; }

int random_chance(uint64_t *state, int percent) { return random_between(state, 0, 99) < percent; }
