// SPDX-License-Identifier: BSD-3-Clause
// Weight gradients: the sum over many rows of (gate gradient of a row) x (input of that row).
//
// The inputs of some columns are packed, row after row; the gate gradients of a vector of units
// stay in the first-level cache meanwhile. Rows are summed in their order from zero, and the sum is
// added to what was there: chunks of rows make sums of sums, which round less.
#ifndef FL_WGRAD_H
#define FL_WGRAD_H

// A tile is FL_WGRAD_LANES gate rows (lanes of a vector of gate gradients) by up to FL_WGRAD_VECTORS vectors
// of columns.
_Static_assert(FL_WGRAD_LANES <= VL, "a tile of weight gradients takes lanes that no vector has");
_Static_assert(FL_WGRAD_LANES *FL_WGRAD_VECTORS <= FL_SUMS, "a tile of weight gradients outgrows registers");

FL_INLINE void wgrad_tile(const int nv, const real *grads, const real *in, int64_t rows, real *dw,
                          int64_t columns, int lanes, int64_t left, int add)
{
  vreal acc[FL_WGRAD_LANES * FL_WGRAD_VECTORS];
  FL_UNROLL
  for (int v = 0; v < FL_WGRAD_LANES * nv; ++v) acc[v] = vset1(0);
  for (int m = 0; m < lanes; ++m)  // there by the end of the sum
    for (int v = 0; v < nv; ++v) __builtin_prefetch(dw + m * columns + v * VL, 1, 3);
  for (int64_t k = 0; k < rows; ++k, grads += VL, in += nv * VL) {
    vreal x[FL_WGRAD_VECTORS];
    FL_UNROLL
    for (int v = 0; v < nv; ++v) x[v] = vkeep(vload(in + v * VL));
    FL_UNROLL
    for (int m = 0; m < FL_WGRAD_LANES; ++m) {
      const vreal d = vbroadcast(grads[m]);
      FL_UNROLL
      for (int v = 0; v < nv; ++v) acc[m * nv + v] = vfma(d, x[v], acc[m * nv + v]);
    }
  }
  real sums[FL_WGRAD_LANES * FL_WGRAD_VECTORS * VL] __attribute__((aligned(64)));
  FL_UNROLL
  for (int v = 0; v < FL_WGRAD_LANES * nv; ++v) vstore(sums + v * VL, acc[v]);
  for (int m = 0; m < lanes; ++m, dw += columns) {
    for (int v = 0; v < nv; ++v) {
      const int64_t count = left - v * VL;
      vreal sum = vload(sums + (m * nv + v) * VL);
      if (add) sum = vadd(load_columns(dw, v * VL, left), sum);
      store_units(dw + v * VL, sum, count < VL ? (int)count : VL);
    }
  }
}

typedef void wgrad_fn(const real *, const real *, int64_t, real *, int64_t, int, int64_t, int);
#define FL_WGRAD(nv)                                                                          \
  static void FL_NAMED(wgrad_##nv)(const real *grads, const real *in, int64_t rows, real *dw, \
                                   int64_t columns, int lanes, int64_t left, int add)         \
  {                                                                                           \
    wgrad_tile(nv, grads, in, rows, dw, columns, lanes, left, add);                           \
  }
FL_WGRAD(1)
FL_WGRAD(2)
FL_WGRAD(3)
static wgrad_fn *const wgrad_tiles[FL_WGRAD_VECTORS] = {FL_NAMED(wgrad_1), FL_NAMED(wgrad_2),
                                                        FL_NAMED(wgrad_3)};

// The first vector of group i when `count` of them are cut into groups of nearly equal size.
FL_INLINE int64_t group_begin(int64_t count, int64_t i)
{
  return count * i / tile_count(count, FL_WGRAD_VECTORS);
}

// Vectors [first, first + count) of every row's columns, in groups, each [row][vector].
FL_INLINE void pack_columns(const fl_wgrad *job, int64_t first, int64_t count, real *out)
{
  for (int64_t i = 0; group_begin(count, i) < count; ++i) {
    const int64_t begin = first + group_begin(count, i), nv = first + group_begin(count, i + 1) - begin;
    for (int64_t k = 0; k < job->rows; ++k, out += nv * VL) {
      const real *row = job->in[k];
      if (k + 16 < job->rows) {
        const real *later = (const real *)job->in[k + 16] + begin * VL;
        for (int64_t v = 0; v < nv; ++v) __builtin_prefetch(later + v * VL, 0, 3);
      }
      for (int64_t v = 0; v < nv; ++v)
        vstore(out + v * VL, load_columns(row, (begin + v) * VL, job->columns));
    }
  }
}

static void FL_NAMED(wgrad)(const fl_layer *layer, const fl_wgrad *job)
{
  const int64_t vectors = (job->columns + VL - 1) / VL, gates = layer->cell->gates;
  const fl_gate_order *order = job->recurrent ? &layer->cell->of_h : &layer->cell->of_x;
  for (int64_t first = 0; first < vectors; first += FL_WGRAD_SCRATCH) {
    const int64_t count = vectors - first < FL_WGRAD_SCRATCH ? vectors - first : FL_WGRAD_SCRATCH;
    pack_columns(job, first, count, job->scratch);
    for (int64_t b = job->begin; b < job->end; ++b) {
      const int64_t unit = b / gates * VL, units = layer->units - unit, gate = order->gate[b % gates];
      const int64_t place = b / gates * layer->cell->grads + order->first + b % gates;
      const int count_lanes = units < VL ? (int)units : VL;
      for (int m = 0; m < count_lanes; m += FL_WGRAD_LANES) {
        const real *grads = (const real *)job->grads + place * job->stride + m, *in = job->scratch;
        real *dw = (real *)job->dw + (gate * layer->units + unit + m) * job->columns;
        const int lanes = count_lanes - m < FL_WGRAD_LANES ? count_lanes - m : FL_WGRAD_LANES;
        for (int64_t i = 0; group_begin(count, i) < count; ++i) {
          const int64_t v = group_begin(count, i), nv = group_begin(count, i + 1) - v;
          const int64_t column = (first + v) * VL;
          wgrad_tiles[nv - 1](grads, in, job->rows, dw + column, job->columns, lanes, job->columns - column,
                              job->add);
          in += job->rows * nv * VL;
        }
      }
    }
  }
}

#endif
