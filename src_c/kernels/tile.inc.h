// SPDX-License-Identifier: BSD-3-Clause
// The register tile: gates of a few rows for one group of panels.
//
// Weights of K inputs for a layer of H units (packed by pack.c; VL = lanes of a vector):
//
//     panel 0             panel 1         ...  last panel, narrow if the rest of H is small
//   k=0 | i i | f f | g g | o o |                 | i f | g o |   (2 vectors, VL/2 units)
//   k=1 | i i | f f | g g | o o |                 | i f g o   |   (1 vector,  VL/4 units)
//   ...    each cell one vector
//
//   address(panel p, input k, vector v) = p * K * 4 VL + k * (vectors of the panel) * VL + v * VL
//
// A tile is `rows` rows by `full` whole panels and a narrow one of `tail` vectors (0, 1, 2). All
// of these are compile-time constants of an instance; bits of a row do not depend on them, since
// every sum runs over k in one order, in `chains` interleaved partial sums fixed by H alone.
#ifndef FL_TILE_H
#define FL_TILE_H

#define FL_UNROLL      _Pragma("GCC unroll 64")
#define FL_MAX_VECTORS 14  // vectors in a row of the widest tile: 3 panels and a tail

// Rows of the tallest tile of one panel.
enum { MAX_ROWS = FL_ACCUMULATORS / 4 };

// Whether an instance keeps all its sums in registers; the others are compiled to nothing.
#define FL_FITS(rows, full, tail, chains) ((rows) * (4 * (full) + (tail)) * (chains) <= FL_ACCUMULATORS)

typedef const real *const *rows_in;

// Cuts `rows` into tiles of nearly equal height, at most `height` each.
FL_INLINE int64_t tile_count(int64_t rows, int64_t height) { return (rows + height - 1) / height; }

// Walks a range of panels in groups, from either end. A group is `full` whole panels from
// `panel` on, and the narrow panel too if `tail` is not 0.
typedef struct panel_walk {
  int begin, end;  // whole panels left
  int narrow;      // vectors of the narrow panel if it is left, else 0
  int backwards;
  int panel, full, tail;  // the group
} panel_walk;

FL_INLINE panel_walk walk_panels(const fl_layer *layer, int begin, int end, int backwards)
{
  panel_walk w = {.begin = begin, .end = end < layer->full ? end : layer->full, .backwards = backwards};
  w.narrow = end > layer->full ? layer->tail : 0;
  return w;
}

// One row needs two panels at a time to have enough independent sums; so do two and three rows
// to read weights at full speed. More rows fill the registers with one panel. Where the second-level cache
// is the limit, panels side by side are read slower than one after another (not so for two rows).
// The narrow panel is the last one, so it joins the last group, or the first when walking backwards.
FL_INLINE int next_group(panel_walk *w, int64_t rows, int chains, int one_panel)
{
  const int left = w->end - w->begin;
  if (left == 0 && w->narrow == 0) return 0;
  int full = rows == 1 && left == 3 ? 3 : rows <= 3 ? 2 : 1;
  if (one_panel && rows != 2) full = 1;
  if (full > left) full = left;
  while (full > 1 && !FL_FITS(rows, full, 0, chains)) --full;
  int tail = 0;
  if (w->narrow && (w->backwards || full == left)) {
    if (full == 0 || (rows == 1 && FL_FITS(1, full, w->narrow, chains))) {
      tail = w->narrow;
    } else if (w->backwards) {
      tail = w->narrow;
      full = 0;
    }
  }
  if (tail) w->narrow = 0;
  w->full = full;
  w->tail = tail;
  w->panel = w->backwards ? w->end - full : w->begin;
  if (w->backwards)
    w->end -= full;
  else
    w->begin += full;
  return 1;
}

FL_INLINE const real *panel_weight(const real *w, int64_t inputs, int full, int tail, int v, int64_t k)
{
  const int p = v / 4;
  return p < full ? w + p * inputs * 4 * VL + k * 4 * VL + (v % 4) * VL
                  : w + full * inputs * 4 * VL + k * tail * VL + (v - 4 * full) * VL;
}

// acc[row][v] += a[row][k] * w[k][v] for one k
FL_INLINE void multiply_step(const int rows, const int full, const int tail, vreal *acc, rows_in a,
                             const real *w, int64_t inputs, int64_t k)
{
  const int nv = 4 * full + tail;
  vreal weight[FL_MAX_VECTORS];
  if (FL_ACCUMULATORS >= 24 && rows > 1) {
    FL_UNROLL
    for (int v = 0; v < nv; ++v) weight[v] = vkeep(vload(panel_weight(w, inputs, full, tail, v, k)));
    FL_UNROLL
    for (int r = 0; r < rows; ++r) {
      const vreal x = vkeep(vset1(a[r][k]));
      FL_UNROLL
      for (int v = 0; v < nv; ++v) acc[r * nv + v] = vfma(x, weight[v], acc[r * nv + v]);
    }
  } else {  // few registers: the broadcasts stay, the weights pass by
    vreal x[6];
    FL_UNROLL
    for (int r = 0; r < rows; ++r) x[r] = vkeep(vset1(a[r][k]));
    FL_UNROLL
    for (int v = 0; v < nv; ++v) {
      vreal one = vload(panel_weight(w, inputs, full, tail, v, k));
      if (rows > 1) one = vkeep(one);
      FL_UNROLL
      for (int r = 0; r < rows; ++r) acc[r * nv + v] = vfma(x[r], one, acc[r * nv + v]);
    }
  }
}

// Asks for a later input's weights of one panel: the processor's own guess is late.
FL_INLINE void ask_ahead(const real *later, int vectors)
{
  const char *at = (const char *)later;
  FL_UNROLL
  for (int line = 0; line * 64 < vectors * VL * (int)sizeof(real); ++line)
    __builtin_prefetch(at + line * 64, 0, 3);
}
#define FL_ASKS(rows) (2 * (rows) >= MAX_ROWS && (rows) <= MAX_ROWS)  // lower tiles are busy loading

// The whole product, `chains` partial sums side by side: chain j takes k = j, j + chains, ... A tile that
// `asks` for weights, so many inputs ahead, is of one panel.
FL_INLINE void multiply(const int rows, const int full, const int tail, const int chains, const int asks,
                        int64_t ahead, vreal *acc, rows_in a_rows, const real *w, int64_t inputs)
{
  const int n = rows * (4 * full + tail);
  const real *a[6];
  FL_UNROLL
  for (int r = 0; r < rows; ++r) {
    a[r] = a_rows[r];
    __asm__("" : "+r"(a[r]));  // else gcc counts rows from each other and runs out of registers
  }
  int64_t k = 0;
  for (; k + chains <= inputs; k += chains) {
    if (asks) ask_ahead(w + (k + ahead) * 4 * VL, 4);
    FL_UNROLL
    for (int j = 0; j < chains; ++j) multiply_step(rows, full, tail, acc + j * n, a, w, inputs, k + j);
  }
  if (chains > 1 && k < inputs) multiply_step(rows, full, tail, acc, a, w, inputs, k);
}

// Joins the chains into acc[0 .. n).
FL_INLINE void join_chains(const int n, const int chains, vreal *acc)
{
  if (chains == 2) {
    FL_UNROLL
    for (int v = 0; v < n; ++v) acc[v] = acc[v] + acc[n + v];
  }
}

// Vectors i, f, g, o of a panel from its accumulators; a narrow panel has several in one vector.
FL_INLINE void split_gates(const int vectors, const vreal *z, vreal *gate)
{
  if (vectors == 4) {
    FL_UNROLL
    for (int g = 0; g < 4; ++g) gate[g] = z[g];
  } else if (vectors == 2) {
    gate[0] = z[0];
    gate[1] = vupper(z[0]);
    gate[2] = z[1];
    gate[3] = vupper(z[1]);
  } else {
    gate[0] = z[0];
    gate[1] = vquarter(z[0], 1);
    gate[2] = vquarter(z[0], 2);
    gate[3] = vquarter(z[0], 3);
  }
}

#endif
