// SPDX-License-Identifier: BSD-3-Clause
// The library as a C program sees it: the public header and nothing else. One forward pass of an LSTM.
//
//   border_smoke ISA STEPS BATCH INPUTS UNITS < floats > floats
//
// in:   x (T, B, I), weight_ih (4H, I), weight_hh (4H, H), bias_ih (4H), bias_hh (4H)
// out:  y (T, B, H), h_n (B, H), c_n (B, H)
//
// Writes the threads of its plan, which asks for four, to stderr. Ends with the first status that is not
// FL_OK, or with 99 if something else is wrong.
#include <stdio.h>
#include <stdlib.h>

#include "fastlstm.h"

enum { FAILED = 99 };

static void check(fl_status status)
{
  if (status == FL_OK) return;
  fprintf(stderr, "%s\n", fl_status_text(status));
  exit(status);
}

static void *memory(size_t bytes)
{
  void *block = fl_alloc(bytes);
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
  fl_free(array);
}

static int64_t number(const char *text) { return strtol(text, NULL, 10); }

int main(int argc, char **argv)
{
  if (argc != 6 || fl_version() != FL_VERSION) return FAILED;
  const fl_isa isa = (fl_isa)number(argv[1]);
  const int64_t steps = number(argv[2]), batch = number(argv[3]), inputs = number(argv[4]),
                units = number(argv[5]);

  fl_spec spec = FL_SPEC_INIT;
  spec.input_size = inputs;
  spec.hidden_size = units;
  spec.num_layers = 1;
  spec.directions = 1;
  spec.isa = isa;
  spec.passes = FL_PASS_FORWARD;

  fl_io io = FL_IO_INIT;
  float *x = given(steps * batch * inputs);
  io.x = x;
  io.x_t = batch * inputs;
  io.x_b = inputs;
  float *w_ih = given(4 * units * inputs), *w_hh = given(4 * units * units);
  float *b_ih = given(4 * units), *b_hh = given(4 * units);
  const fl_weights weights = {w_ih, w_hh, b_ih, b_hh};

  size_t bytes = 0;
  check(fl_model_bytes(&spec, &bytes));
  void *packed = memory(bytes);
  fl_model *model = NULL;
  check(fl_model_pack(&spec, &weights, packed, 4, NULL, NULL, &model));
  fl_free(w_ih);
  fl_free(w_hh);
  fl_free(b_ih);
  fl_free(b_hh);

  fl_plan *plan = memory(fl_plan_bytes());
  check(fl_plan_make(model, FL_INFER, steps, batch, 4, plan));
  fprintf(stderr, "%d", (int)fl_plan_threads(plan));
  void *workspace = memory(fl_plan_workspace_bytes(plan));

  float *y = floats(steps * batch * units), *h_n = floats(batch * units), *c_n = floats(batch * units);
  io.y = y;
  io.y_t = batch * units;
  io.y_b = units;
  io.h_n = h_n;
  io.c_n = c_n;
  check(fl_forward(model, plan, &io, workspace));
  put(y, steps * batch * units);
  put(h_n, batch * units);
  put(c_n, batch * units);
  fl_free(x);
  fl_free(packed);
  fl_free(plan);
  fl_free(workspace);
  return 0;
}
