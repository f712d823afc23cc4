// SPDX-License-Identifier: BSD-3-Clause
// Bits of whole models. bits.txt holds a hash of all outputs and gradients of each of many random
// configurations, for every family of instruction sets and both dtypes: sets whose vectors are equally long
// and whose multiply-adds are fused have the same bits, so NEON (here or in qemu) has those that AVX2 had
// when the file was written. What this machine lacks is left out.
//
//   model bits.txt      compare
//   model --write       print the file; on a machine with AVX2 and AVX-512. Results may change only on
//   purpose.
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "check.h"
#include "model_config.h"

enum { CONFIGS = 120, FAMILIES = 3, COLUMNS = 2 * FAMILIES };
static const char *const HEADER =
    "# index, then for float32 and float64 each: generic, avx2 = neon, avx512\n";

static fl_isa isa_of(int family)
{
  if (family == 0) return FL_ISA_GENERIC;
  if (family == 2) return FL_ISA_AVX512;
  return fl_isa_available(FL_ISA_NEON) ? FL_ISA_NEON : FL_ISA_AVX2;
}

static int write_bits(void)
{
  printf("%s", HEADER);
  for (int family = 0; family < FAMILIES; ++family) {
    if (fl_isa_available(isa_of(family))) continue;
    fprintf(stderr, "this machine lacks %s\n", fl_isa_name(isa_of(family)));
    return 1;
  }
  for (int64_t index = 0; index < CONFIGS; ++index) {
    printf("%" PRId64, index);
    for (int column = 0; column < COLUMNS; ++column) {
      const config c = make_config(index, isa_of(column % FAMILIES), (fl_dtype)(column / FAMILIES));
      printf(" %016" PRIx64, run_config(&c));
    }
    printf("\n");
  }
  return 0;
}

static void compare(int64_t index, int column, uint64_t want)
{
  const fl_isa isa = isa_of(column % FAMILIES);
  if (!fl_isa_available(isa)) return;
  const config c = make_config(index, isa, (fl_dtype)(column / FAMILIES));
  CHECK(run_config(&c) == want, "%s, float%d: other bits of configuration %" PRId64, fl_isa_name(isa),
        column < FAMILIES ? 32 : 64, index);
}

static int compare_all(const char *path)
{
  FILE *file = fopen(path, "r");
  if (!file) {
    fprintf(stderr, "%s cannot be read\n", path);
    return 1;
  }
  char line[256];
  int64_t count = 0;
  while (fgets(line, sizeof line, file)) {
    if (line[0] == '#') continue;
    int64_t index = -1;
    uint64_t want[COLUMNS];
    const int read =
        sscanf(line, "%" SCNd64 " %" SCNx64 " %" SCNx64 " %" SCNx64 " %" SCNx64 " %" SCNx64 " %" SCNx64,
               &index, &want[0], &want[1], &want[2], &want[3], &want[4], &want[5]);
    CHECK(read == 1 + COLUMNS && index == count, "no line of bits: %s", line);
    for (int column = 0; column < COLUMNS; ++column) compare(index, column, want[column]);
    ++count;
  }
  fclose(file);
  CHECK(count == CONFIGS, "%s has %" PRId64 " configurations", path, count);
  return check_result("model");
}

int main(int argc, char **argv)
{
  if (argc == 2 && strcmp(argv[1], "--write") == 0) return write_bits();
  if (argc == 2) return compare_all(argv[1]);
  fprintf(stderr, "usage: %s bits.txt | --write\n", argv[0]);
  return 2;
}
