// SPDX-License-Identifier: BSD-3-Clause
// Geometry of the tiles for about 16 vector registers, of which 12 hold sums: two fused multiply-adds a
// cycle with a latency of four need eight independent sums, and twelve reach more of the peak (1.17 times
// the flops on a Zen 3, by a public benchmark of instruction throughput). This is the only list of instances:
// a tile that does not stand here has no function, and its place in the tables is NULL.
#ifndef FL_SUMS12_H
#define FL_SUMS12_H

enum {
  FL_REGISTERS = 16,
  FL_SUMS = 12,
  FL_HOLD_WEIGHTS = 0,         // the rows' broadcasts stay in registers while an input's weights pass by
  FL_TILE_ROWS = 3,            // rows of the tallest tile
  FL_TILE_PANELS = 3,          // whole panels of the widest one
  FL_PERSISTENT_VECTORS = 12,  // of gates of the largest layer that the persistent kernel takes
  FL_DGRAD_ROWS = 6,           // rows of the tallest tile of transposed weights, a panel of two vectors wide
  FL_DGRAD_PANELS = 4,         // panels of two vectors of the widest one
  FL_WGRAD_VECTORS = 3,        // vectors of columns of a weight gradient's tile
};
#ifndef FL_WGRAD_LANES
#define FL_WGRAD_LANES 4  // gate rows of a weight gradient's tile; at most VL
#endif

// clang-format off
// Tiles of the forward product: T(rows, whole panels, vectors of the remainder panel, chains).
#define FL_TILES_OF_ONE_ROW(T)                                                                      \
  T(1, 0, 1, 1) T(1, 0, 2, 1) T(1, 1, 0, 1) T(1, 1, 1, 1) T(1, 1, 2, 1) T(1, 2, 0, 1) T(1, 2, 1, 1) \
  T(1, 2, 2, 1) T(1, 3, 0, 1)                                                                       \
  T(1, 0, 1, 2) T(1, 0, 2, 2) T(1, 1, 0, 2) T(1, 1, 1, 2) T(1, 1, 2, 2)
#define FL_TILES_OF_ROWS(T)                                                           \
  T(2, 0, 1, 1) T(2, 0, 2, 1) T(2, 1, 0, 1) T(3, 0, 1, 1) T(3, 0, 2, 1) T(3, 1, 0, 1)

// Rows of the tiles that prefetch weights: tiles of fewer rows are limited by loads.
#define FL_PREFETCHING_ROWS(T) T(2) T(3)

// Rows of the blocked product's tiles.
#define FL_BLOCKED_ROWS(T) T(1) T(2) T(3)

// Layers whose gates of one row fit in registers, for the persistent kernel: T(whole panels, vectors of the
// remainder panel, chains). With two chains the sums are twice as many.
#define FL_PERSISTENT(T)                                                       \
  T(0, 1, 1) T(0, 2, 1) T(1, 0, 1) T(1, 1, 1) T(1, 2, 1) T(2, 0, 1) T(2, 1, 1) \
  T(2, 2, 1) T(3, 0, 1)                                                        \
  T(0, 1, 2) T(0, 2, 2) T(1, 0, 2) T(1, 1, 2) T(1, 2, 2) T(2, 0, 2) T(2, 1, 2) \
  T(2, 2, 2) T(3, 0, 2)

// Likewise for one with three sums, by the vectors of its row of sums that hold any: all that fit.
#define FL_VECTORS_OF_ONE_ROW(T) T(1) T(2) T(3) T(4) T(5) T(6) T(7) T(8) T(9) T(10) T(11) T(12)

// Tiles of transposed weights: T(rows, vectors).
#define FL_DGRAD_TILES(T)                                                 \
  T(1, 1) T(1, 2) T(1, 4) T(1, 6) T(1, 8) T(2, 1) T(2, 2) T(2, 4) T(2, 6) \
  T(3, 1) T(3, 2) T(3, 4) T(4, 1) T(4, 2) T(5, 1) T(5, 2) T(6, 1) T(6, 2)
// clang-format on

#endif
