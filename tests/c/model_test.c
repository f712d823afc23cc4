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

enum { FAMILIES = 3, COLUMNS = 2 * FAMILIES, CELLS = 10 };
static const char *const HEADER =
    "# cell, index, then for float32 and for float64: generic, avx2 = neon, avx512\n";

static const struct {
  const char *name;
  fastlstm_cell_kind kind;
  int projected;
  int64_t configs;
  fastlstm_norm_kind norm;
  int noise;
} CELL[CELLS] = {
    {"lstm", FASTLSTM_LSTM, 0, 120, 0, 0},
    {"rnn_tanh", FASTLSTM_RNN_TANH, 0, 40, 0, 0},
    {"rnn_relu", FASTLSTM_RNN_RELU, 0, 40, 0, 0},
    {"gru", FASTLSTM_GRU, 0, 60, 0, 0},
    {"lstmp", FASTLSTM_LSTM, 1, 40, 0, 0},
    {"gru_before", FASTLSTM_GRU_RESET_BEFORE, 0, 40, 0, 0},
    {"normed", FASTLSTM_LSTM_GENERAL, 1, 24, FASTLSTM_NORM_SUMS, 0},
    {"separate", FASTLSTM_LSTM_GENERAL, 0, 24, FASTLSTM_NORM_SEPARATE, 0},
    {"noisy", FASTLSTM_LSTM_GENERAL, 1, 24, 0, 1},
    {"noisy_separate", FASTLSTM_LSTM_GENERAL, 1, 12, FASTLSTM_NORM_SEPARATE, 1},
};

static fastlstm_isa isa_of(int family)
{
  if (family == 0) return FASTLSTM_ISA_GENERIC;
  if (family == 2) return FASTLSTM_ISA_AVX512;
  return fastlstm_isa_available(FASTLSTM_ISA_NEON) ? FASTLSTM_ISA_NEON : FASTLSTM_ISA_AVX2;
}

static uint64_t bits_of(int cell, int64_t index, int column)
{
  const config c =
      make_config(index, CELL[cell].kind, CELL[cell].projected, CELL[cell].norm, CELL[cell].noise,
                  isa_of(column % FAMILIES), (fastlstm_dtype)(column / FAMILIES));
  return run_config(&c);
}

static int write_bits(void)
{
  printf("%s", HEADER);
  for (int family = 0; family < FAMILIES; ++family) {
    if (fastlstm_isa_available(isa_of(family))) continue;
    fprintf(stderr, "this machine lacks %s\n", fastlstm_isa_name(isa_of(family)));
    return 1;
  }
  for (int cell = 0; cell < CELLS; ++cell) {
    for (int64_t index = 0; index < CELL[cell].configs; ++index) {
      printf("%s %" PRId64, CELL[cell].name, index);
      for (int column = 0; column < COLUMNS; ++column) printf(" %016" PRIx64, bits_of(cell, index, column));
      printf("\n");
    }
  }
  return 0;
}

static void compare_line(const char *line, int cell, int64_t index)
{
  char name[16] = "";
  int64_t at = -1;
  uint64_t want[COLUMNS];
  const int read =
      sscanf(line, "%15s %" SCNd64 " %" SCNx64 " %" SCNx64 " %" SCNx64 " %" SCNx64 " %" SCNx64 " %" SCNx64,
             name, &at, &want[0], &want[1], &want[2], &want[3], &want[4], &want[5]);
  const int expected = read == 2 + COLUMNS && at == index && strcmp(name, CELL[cell].name) == 0;
  CHECK(expected, "not the line of %s %" PRId64 ": %s", CELL[cell].name, index, line);
  for (int column = 0; expected && column < COLUMNS; ++column) {
    const fastlstm_isa isa = isa_of(column % FAMILIES);
    if (!fastlstm_isa_available(isa)) continue;
    CHECK(bits_of(cell, index, column) == want[column], "%s, float%d: other bits of %s %" PRId64,
          fastlstm_isa_name(isa), column < FAMILIES ? 32 : 64, CELL[cell].name, index);
  }
}

static int compare_all(const char *path)
{
  FILE *file = fopen(path, "r");
  if (!file) {
    fprintf(stderr, "%s cannot be read\n", path);
    return 1;
  }
  char line[256];
  CHECK(fgets(line, sizeof line, file) && strcmp(line, HEADER) == 0, "another kind of file");
  for (int cell = 0; cell < CELLS; ++cell)
    for (int64_t index = 0; index < CELL[cell].configs; ++index)
      compare_line(fgets(line, sizeof line, file) ? line : "no line", cell, index);
  CHECK(!fgets(line, sizeof line, file), "more lines than configurations");
  fclose(file);
  return check_result("model");
}

int main(int argc, char **argv)
{
  if (argc == 2 && strcmp(argv[1], "--write") == 0) return write_bits();
  if (argc == 2) return compare_all(argv[1]);
  fprintf(stderr, "usage: %s bits.txt | --write\n", argv[0]);
  return 2;
}
