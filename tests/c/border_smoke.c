// SPDX-License-Identifier: BSD-3-Clause
// The library as a C program sees it: the public header and nothing else. One forward pass of an LSTM.
//
//   border_smoke ISA STEPS BATCH INPUTS UNITS < floats > floats
//
// in:   x (T, B, I), weight_ih (4H, I), weight_hh (4H, H), bias_ih (4H), bias_hh (4H)
// out:  y (T, B, H), h_n (B, H), c_n (B, H)
//
// Writes the threads of its plan, which asks for four, to stderr. Ends with the first status that is not
// FASTLSTM_OK, or with 99 if something else is wrong.
#include <stdio.h>
#include <stdlib.h>

#include "fastlstm.h"

enum { FAILED = 99 };

static void check(fastlstm_status status)
{
  if (status == FASTLSTM_OK) return;
  fprintf(stderr, "%s\n", fastlstm_status_text(status));
  exit(status);
}

static void *memory(size_t bytes)
{
  void *block = fastlstm_alloc(bytes);
  if (!block) exit(FAILED);
  return block;
}

static float *floats(int64_t count) { return memory((size_t)count * sizeof(float)); }

static float *given(int64_t count)
{
  float *array = floats(count);
  if (fread(array, sizeof(float), (size_t)count, stdin) != (size_t)count) exit(FAILED);
  return array;
}

static void put(float *array, int64_t count)
{
  if (fwrite(array, sizeof(float), (size_t)count, stdout) != (size_t)count) exit(FAILED);
  fastlstm_free(array);
}

static int64_t number(const char *text) { return strtol(text, NULL, 10); }

int main(int argc, char **argv)
{
  if (argc != 6 || fastlstm_version() != FASTLSTM_VERSION) return FAILED;
  const fastlstm_isa isa = (fastlstm_isa)number(argv[1]);
  const int64_t steps = number(argv[2]), batch = number(argv[3]), inputs = number(argv[4]),
                units = number(argv[5]);

  fastlstm_spec spec = FASTLSTM_SPEC_INIT;
  spec.input_size = inputs;
  spec.hidden_size = units;
  spec.num_layers = 1;
  spec.directions = 1;
  spec.isa = isa;
  spec.passes = FASTLSTM_PASS_FORWARD;

  fastlstm_io io = FASTLSTM_IO_INIT;
  float *x = given(steps * batch * inputs);
  io.x = x;
  io.x_t = batch * inputs;
  io.x_b = inputs;
  float *w_ih = given(4 * units * inputs), *w_hh = given(4 * units * units);
  float *b_ih = given(4 * units), *b_hh = given(4 * units);
  const fastlstm_weights weights = {w_ih, w_hh, b_ih, b_hh};

  size_t bytes = 0;
  check(fastlstm_model_bytes(&spec, &bytes));
  void *packed = memory(bytes);
  fastlstm_model *model = NULL;
  check(fastlstm_model_pack(&spec, &weights, packed, 4, NULL, NULL, &model));
  fastlstm_free(w_ih);
  fastlstm_free(w_hh);
  fastlstm_free(b_ih);
  fastlstm_free(b_hh);

  fastlstm_plan *plan = memory(fastlstm_plan_bytes());
  check(fastlstm_plan_make(model, FASTLSTM_INFER, steps, batch, 4, plan));
  fprintf(stderr, "%d", (int)fastlstm_plan_threads(plan));
  void *workspace = memory(fastlstm_plan_workspace_bytes(plan));

  float *y = floats(steps * batch * units), *h_n = floats(batch * units), *c_n = floats(batch * units);
  io.y = y;
  io.y_t = batch * units;
  io.y_b = units;
  io.h_n = h_n;
  io.c_n = c_n;
  check(fastlstm_forward(model, plan, &io, workspace));
  put(y, steps * batch * units);
  put(h_n, batch * units);
  put(c_n, batch * units);
  fastlstm_free(x);
  fastlstm_free(packed);
  fastlstm_free(plan);
  fastlstm_free(workspace);
  return 0;
}
