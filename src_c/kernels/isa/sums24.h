// SPDX-License-Identifier: BSD-3-Clause
// Geometry of the tiles for 32 vector registers, of which 24 hold sums and the rest weights and broadcasts.
// This is the only list of instances: a tile that does not stand here has no function, and its place in the
// tables is NULL. What each name means is said in sums12.h.
#ifndef FL_SUMS24_H
#define FL_SUMS24_H

enum {
  FL_REGISTERS = 32,
  FL_SUMS = 24,
  FL_HOLD_WEIGHTS = 1,  // an input's weights stay in registers while the rows' broadcasts pass by
  FL_TILE_ROWS = 6,
  FL_TILE_PANELS = 3,
  FL_PERSISTENT_VECTORS = 14,
  FL_DGRAD_ROWS = 12,
  FL_DGRAD_PANELS = 4,
  FL_WGRAD_VECTORS = 3,
};
#define FL_WGRAD_LANES 8

// clang-format off
#define FL_TILES_OF_ONE_ROW(T)                                                                      \
  T(1, 0, 1, 1) T(1, 0, 2, 1) T(1, 1, 0, 1) T(1, 1, 1, 1) T(1, 1, 2, 1) T(1, 2, 0, 1) T(1, 2, 1, 1) \
  T(1, 2, 2, 1) T(1, 3, 0, 1) T(1, 3, 1, 1) T(1, 3, 2, 1)                                           \
  T(1, 0, 1, 2) T(1, 0, 2, 2) T(1, 1, 0, 2) T(1, 1, 1, 2) T(1, 1, 2, 2) T(1, 2, 0, 2) T(1, 2, 1, 2) \
  T(1, 2, 2, 2) T(1, 3, 0, 2)
#define FL_TILES_OF_ROWS(T)                                                           \
  T(2, 0, 1, 1) T(2, 0, 2, 1) T(2, 1, 0, 1) T(2, 2, 0, 1)                             \
  T(3, 0, 1, 1) T(3, 0, 2, 1) T(3, 1, 0, 1) T(3, 2, 0, 1)                             \
  T(4, 0, 1, 1) T(4, 0, 2, 1) T(4, 1, 0, 1) T(5, 0, 1, 1) T(5, 0, 2, 1) T(5, 1, 0, 1) \
  T(6, 0, 1, 1) T(6, 0, 2, 1) T(6, 1, 0, 1) T(2, 0, 1, 2) T(2, 0, 2, 2) T(2, 1, 0, 2) \
  T(3, 0, 1, 2) T(3, 0, 2, 2) T(3, 1, 0, 2)

#define FL_PREFETCHING_ROWS(T) T(3) T(4) T(5) T(6)
#define FL_BLOCKED_ROWS(T)     T(1) T(2) T(3) T(4) T(5) T(6)

#define FL_PERSISTENT(T)                                                       \
  T(0, 1, 1) T(0, 2, 1) T(1, 0, 1) T(1, 1, 1) T(1, 2, 1) T(2, 0, 1) T(2, 1, 1) \
  T(2, 2, 1) T(3, 0, 1) T(3, 1, 1) T(3, 2, 1)                                  \
  T(0, 1, 2) T(0, 2, 2) T(1, 0, 2) T(1, 1, 2) T(1, 2, 2) T(2, 0, 2) T(2, 1, 2) \
  T(2, 2, 2) T(3, 0, 2) T(3, 1, 2) T(3, 2, 2)

#define FL_VECTORS_OF_ONE_ROW(T)                                                    \
  T(1) T(2) T(3) T(4) T(5) T(6) T(7) T(8) T(9) T(10) T(11) T(12) T(13) T(14)

#define FL_DGRAD_TILES(T)                                                         \
  T(1, 1) T(1, 2) T(1, 4) T(1, 6) T(1, 8) T(2, 1) T(2, 2) T(2, 4) T(2, 6) T(2, 8) \
  T(3, 1) T(3, 2) T(3, 4) T(3, 6) T(3, 8) T(4, 1) T(4, 2) T(4, 4) T(4, 6)         \
  T(5, 1) T(5, 2) T(5, 4) T(6, 1) T(6, 2) T(6, 4) T(7, 1) T(7, 2) T(8, 1) T(8, 2) \
  T(9, 1) T(9, 2) T(10, 1) T(10, 2) T(11, 1) T(11, 2) T(12, 1) T(12, 2)
// clang-format on

#endif
