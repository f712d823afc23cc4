// SPDX-License-Identifier: BSD-3-Clause
// Every kernel of the table of each instruction set that this CPU has, against scalar code: a product's sums
// bit for bit, a cell's results against exact arithmetic; and the promise that no tile, prefetch or order of
// panels changes a bit.
#include "kernels_support.h"

int main(void)
{
  for_each_cell(test_project);
  for_each_cell(test_forward);
  for_each_cell(test_persistent);
  for_each_cell(test_back_step);
  for_each_cell(test_dgrad);
  for_each_cell(test_wgrad);
  for (int isa = 0; isa < FASTLSTM_ISA_COUNT; ++isa) {
    const fl_kernels *kernels = fl_kernels_for((fastlstm_isa)isa, DTYPE);
    if (kernels) test_data(kernels);
  }
  return check_result(DTYPE == FASTLSTM_F64 ? "kernels, float64" : "kernels, float32");
}
