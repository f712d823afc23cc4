// SPDX-License-Identifier: BSD-3-Clause
// What every C test needs: checks that are counted, and random numbers that are the same everywhere.
#ifndef CHECK_H
#define CHECK_H

#include <stddef.h>
#include <stdint.h>

// Counts a check, and says where it failed and, like printf, why; only the first failures are printed.
void check_that(int ok, const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
#define CHECK(condition, ...) check_that(condition, __FILE__, __LINE__, __VA_ARGS__)

// What a program's main returns: not 0 if a check failed or none was made.
int check_result(const char *program);

// Whether two numbers have the same bits, or are both NaN.
int same_float(float a, float b);
int same_double(double a, double b);

// Random numbers from a seed of 64 bits (splitmix64).
uint64_t random_bits(uint64_t *state);
int64_t random_between(uint64_t *state, int64_t least, int64_t most);  // both may come
double random_real(uint64_t *state);                                   // -1 to 1, of 24 bits
int random_chance(uint64_t *state, int percent);

#endif
