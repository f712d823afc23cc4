// SPDX-License-Identifier: BSD-3-Clause
// How tiles read weights: in blocks, with prefetches, from how many panels at a time.
#include "internal/plan.h"

// A block of weights fits the first-level cache if at most BLOCK_TILES tiles of rows use it, or if a panel
// takes more than 1 / PANEL_SHARE of the second level. For more tiles than that, the ends of short blocks
// cost more than the blocks gain, and a block is a whole panel.
enum { BLOCK_TILES = 2, PANEL_SHARE = 5 };

// Below twice the size of the first-level cache most weights of the step before are still there, so tiles of
// one row and of three keep taking two panels at a time. Above it they take one, which made such shapes 1.03
// to 1.08 times as fast on a Xeon with AMX.
enum { L1_MULTIPLE = 2 };

// Prefetch distance for weights in the last-level cache, in inputs: 4 KiB of AVX-512 weights, which is a
// page, at whose end a processor's own prefetcher stops. On a Xeon with AMX T20 B4 became 1.9 times as fast
// with 2048 hidden units, 1.3 with 1500 and 1.05 with 1024.
enum { PREFETCH_LLC = 32 };

static int outgrows(const fastlstm_model *model, int64_t panel_bytes)
{
  return model->caches.block_bytes && panel_bytes > model->caches.block_bytes;
}

fl_blocking fl_blocking_of(const fastlstm_model *model, int64_t rows, int64_t inputs, double bytes)
{
  const fl_kernels *k = model->kernels;
  const int64_t input_bytes = FL_PANEL * k->lanes * fl_elem(k->dtype);
  // Of vectors shorter than a cache line, a panel has too few sums.
  const int whole_lines = k->lanes * fl_elem(k->dtype) >= 64;
  fl_blocking blocking = {
      .distance = outgrows(model, inputs * input_bytes) ? FL_PREFETCH_NEAR : 0,
      .one_panel = whole_lines && model->caches.block_bytes && bytes > L1_MULTIPLE * model->caches.l1_bytes,
  };
  if (model->caches.whole_panels) blocking = (fl_blocking){0};
  if (!fl_beyond_l2(model, bytes)) return blocking;
  const double panels = PANEL_SHARE * (double)(inputs * input_bytes);
  const int short_blocks = rows <= BLOCK_TILES * k->tile_rows || panels > model->caches.l2_bytes;
  if (model->caches.whole_panels) {
    if (!short_blocks) blocking.block = INT64_MAX;
  } else if (rows <= k->tile_rows) {
    blocking.distance = PREFETCH_LLC;
  } else if (short_blocks) {
    blocking.distance = 0;
    blocking.block = model->caches.block_bytes / input_bytes;
  } else {
    blocking.block = INT64_MAX;
  }
  return blocking;
}

fl_dgrad_prefetch fl_dgrad_prefetch_of(const fastlstm_model *model, const fl_layer *reader, int64_t panels)
{
  const int64_t vectors = 2 * panels, lanes = model->kernels->lanes;
  const int64_t vector_bytes =  // of all k
      reader->cell->gates * reader->units * lanes * fl_elem(model->spec.dtype);
  if (model->caches.whole_panels) return FL_DGRAD_NO_PREFETCH;
  const int reasons =
      outgrows(model, 2 * vector_bytes) + fl_beyond_l2(model, (double)(vectors * vector_bytes));
  return reasons == 0   ? FL_DGRAD_NO_PREFETCH
         : reasons == 1 ? FL_DGRAD_PREFETCH_NEAR
                        : FL_DGRAD_PREFETCH_NEXT_PANEL;
}
