// SPDX-License-Identifier: BSD-3-Clause
// Kernels that move data: packing, dropout, and the measurements of the machine.
#include <float.h>
#include <math.h>
#include <string.h>

#include "kernels_support.h"

#ifdef FL_DOUBLE
#define LARGEST DBL_MAX
#define NEXT    nextafter
#else
#define LARGEST FLT_MAX
#define NEXT    nextafterf
#endif
static const real UNTOUCHED = (real)-7777;
static const double SCALE = -1.44269504088896340736;

// ---- pack ----

static real *take_untouched(int64_t count)
{
  real *block = TAKE(real, count);
  for (int64_t i = 0; i < count; ++i) block[i] = UNTOUCHED;
  return block;
}

// Width of the column panel that holds a column.
static int64_t panel_width(int64_t column, int64_t inputs, int64_t lanes)
{
  const int64_t vectors = (inputs + lanes - 1) / lanes, panel = column / (2 * lanes);
  return (2 * panel + 2 <= vectors ? 2 : 1) * lanes;
}

// Products are rounded as if the scale were exact; those of the generic instruction set twice.
static int is_packed(const fl_kernels *kernels, const fl_pack *job, const real *out, int64_t count)
{
  const wide most = kernels->isa == FASTLSTM_ISA_GENERIC ? 1.01L : 0.501L;  // units in the last place
  int right = 1;
  for (int64_t at = 0; at < count; ++at) {
    const int64_t k = at / job->stride, r = at % job->stride;
    if (k >= job->inputs || r >= job->rows) {
      right &= out[at] == UNTOUCHED;
      continue;
    }
    const wide want = (wide)((const real *)job->w)[r * job->inputs + k] * (wide)SCALE;
    right &= fabsl(out[at] - want) <= most * fabsl((wide)NEXT(out[at], 9) - out[at]);
  }
  return right;
}

static int is_transposed(const fl_pack *job, const real *out, int64_t lanes)
{
  int right = 1;
  for (int64_t r = 0; r < job->rows; ++r) {
    for (int64_t k = 0; k < job->inputs; ++k) {
      const int64_t width = panel_width(k, job->inputs, lanes);
      const int64_t at =
          k / (2 * lanes) * job->transposed_rows * 2 * lanes + (job->first + r) * width + k % (2 * lanes);
      right &= same(out[at], ((const real *)job->w)[r * job->inputs + k]);
    }
  }
  return right;
}

static void check_pack(const fl_kernels *kernels, int32_t rows, int64_t inputs, int64_t stride, int streaming)
{
  uint64_t state = (uint64_t)(rows + inputs);
  const int64_t lanes = kernels->lanes, before = 3, behind = 2;  // rows of other packings
  const int64_t all = before + rows + behind, padded = (inputs + lanes - 1) / lanes * lanes;
  real *out = take_untouched((inputs + 1) * stride), *transposed = take_untouched(all * padded);
  fl_pack job = {.w = take_random(&state, rows * inputs, 1),
                 .inputs = inputs,
                 .rows = rows,
                 .scale = SCALE,
                 .out = out,
                 .stride = stride,
                 .transposed = transposed,
                 .first = before,
                 .transposed_rows = all,
                 .streaming = streaming};
  const int status = kernels->pack[FL_NATIVE](&job);
  CHECK(status == 0 && is_packed(kernels, &job, out, (inputs + 1) * stride) &&
            is_transposed(&job, transposed, lanes),
        "pack: %s, %d rows, %d inputs, stride %d", fastlstm_isa_name(kernels->isa), (int)rows, (int)inputs,
        (int)stride);
  // Rows of others stay as they are: there are so many untouched elements as they have.
  int64_t untouched = 0;
  for (int64_t i = 0; i < all * padded; ++i) untouched += transposed[i] == UNTOUCHED;
  CHECK(untouched == (before + behind) * padded, "pack: %s writes over other rows",
        fastlstm_isa_name(kernels->isa));
  // One of the two alone.
  real *again = take_untouched((inputs + 1) * stride), *transposed_again = take_untouched(all * padded);
  fl_pack alone = job;
  alone.out = again;
  alone.transposed = NULL;
  kernels->pack[FL_NATIVE](&alone);
  alone.out = NULL;
  alone.transposed = transposed_again;
  kernels->pack[FL_NATIVE](&alone);
  CHECK(memcmp(again, out, (size_t)((inputs + 1) * stride) * sizeof(real)) == 0 &&
            memcmp(transposed_again, transposed, (size_t)(all * padded) * sizeof(real)) == 0,
        "pack: %s: one output depends on the other", fastlstm_isa_name(kernels->isa));
}

// Infinity and NaN may be packed; a finite weight whose product is not may not.
static void check_range(const fl_kernels *kernels)
{
  const int64_t lanes = kernels->lanes, inputs = lanes + 1;
  const real odd[] = {INFINITY, -INFINITY, NAN, LARGEST, -LARGEST, (real)(LARGEST * 0.6)};
  for (size_t i = 0; i < sizeof odd / sizeof *odd; ++i) {
    for (int64_t at = 0; at < lanes * inputs; at += 1 + at % 3) {
      real *w = TAKE(real, lanes * inputs), *out = TAKE(real, lanes * inputs);
      w[at] = odd[i];
      const fl_pack job = {
          .w = w, .inputs = inputs, .rows = (int32_t)lanes, .scale = SCALE, .out = out, .stride = lanes};
      const real packed = (kernels->pack[FL_NATIVE](&job), out[at % inputs * lanes + at / inputs]);
      const int refused = kernels->pack[FL_NATIVE](&job), over = odd[i] == LARGEST || odd[i] == -LARGEST;
      CHECK(refused == over, "pack: %s takes or refuses %g", fastlstm_isa_name(kernels->isa), (double)odd[i]);
      if (!over)
        CHECK(same(packed, (real)(odd[i] * SCALE)), "pack: %g becomes %g", (double)odd[i], (double)packed);
    }
    release_all();
  }
}

static void test_pack(const fl_kernels *kernels)
{
  const int64_t lanes = kernels->lanes;
  for (int32_t rows = 1; rows <= lanes; ++rows) {
    for (int64_t inputs = 1; inputs <= 5 * lanes; inputs += inputs < 2 * lanes ? 1 : lanes - 1) {
      check_pack(kernels, rows, inputs, 4 * lanes, 0);
      check_pack(kernels, rows, inputs, 4 * lanes, 1);
      check_pack(kernels, rows, inputs, lanes + 1, 1);  // not aligned
      release_all();
    }
  }
  check_range(kernels);
}

// ---- dropout ----

// Philox4x32-10, as its paper gives it.
static void philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4])
{
  uint32_t k0 = key[0], k1 = key[1];
  memcpy(out, counter, 4 * sizeof *out);
  for (int round = 0; round < 10; ++round, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) {
    const uint64_t a = (uint64_t)0xD2511F53u * out[0], b = (uint64_t)0xCD9E8D57u * out[2];
    const uint32_t next[4] = {(uint32_t)(b >> 32) ^ out[1] ^ k0, (uint32_t)b,
                              (uint32_t)(a >> 32) ^ out[3] ^ k1, (uint32_t)a};
    memcpy(out, next, sizeof next);
  }
}

static void check_dropout(const fl_kernels *kernels, int64_t first, int64_t count, uint32_t threshold)
{
  enum { COLUMNS = 400 };
  const fl_dropout job = {{7, 8, 9}, {10, 11}, threshold, 1.25};
  uint64_t state = 4;
  real *row = take_random(&state, COLUMNS, 1), *want = TAKE(real, COLUMNS);
  for (int64_t k = 0; k < COLUMNS; ++k) {
    const uint32_t counter[4] = {(uint32_t)(k / 4), 7, 8, 9};
    uint32_t words[4];
    philox(counter, job.key, words);
    const int inside = k >= first && k < first + count, stays = words[k % 4] >> 8 >= threshold;
    want[k] = !inside ? row[k] : row[k] * (real)(stays ? 1.25 : 0);
  }
  kernels->dropout(&job, first, count, row);
  int right = 1;
  for (int64_t k = 0; k < COLUMNS; ++k) right &= same(row[k], want[k]);
  CHECK(right, "dropout: %s, columns %d to %d, threshold %u", fastlstm_isa_name(kernels->isa), (int)first,
        (int)(first + count), threshold);
}

static void test_dropout(const fl_kernels *kernels)
{
  const uint32_t zeros[4] = {0}, known[4] = {0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u};
  uint32_t words[4];
  philox(zeros, zeros, words);
  CHECK(memcmp(words, known, sizeof known) == 0, "the generator is not the published one");
  for (int64_t first = 0; first < 130; first += 13)
    for (int64_t count = 0; count <= 260; count += 1 + count / 3)
      check_dropout(kernels, first, count, first % 2 ? 1u << 23 : 5000000);
  philox((const uint32_t[4]){0, 7, 8, 9}, (const uint32_t[2]){10, 11}, words);  // as in check_dropout
  check_dropout(kernels, 0, 4, words[0] >> 8);        // an element on the threshold stays,
  check_dropout(kernels, 0, 4, (words[0] >> 8) + 1);  // one below it does not
  check_dropout(kernels, 0, 400, 0);
  check_dropout(kernels, 0, 400, 1u << 24);
  release_all();
}

// ---- measurements ----

static void test_measurements(const fl_kernels *kernels)
{
  const double flops = kernels->fma_flops(10);
  CHECK(flops > 0 && flops == 10 * kernels->fma_flops(1) && fmod(flops, 20.0 * kernels->lanes) == 0,
        "fma_flops: %s says %g", fastlstm_isa_name(kernels->isa), flops);
  const int64_t count = 7 * 16 * kernels->lanes, bytes = count * (int64_t)sizeof(real);
  real *data = TAKE(real, count);
  for (int64_t i = 0; i < count; ++i) data[i] = (real)(i % 64);
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += (double)data[i];
  for (int prefetch = 0; prefetch < 2; ++prefetch)
    CHECK(kernels->read_all(data, bytes, prefetch) == sum, "read_all: %s leaves something out",
          fastlstm_isa_name(kernels->isa));
  release_all();
}

void test_data(const fl_kernels *kernels)
{
  test_pack(kernels);
  test_dropout(kernels);
  test_measurements(kernels);
}
