// SPDX-License-Identifier: BSD-3-Clause
// What one instruction set and one dtype provide, and the jobs that its kernels take. Strides are in
// elements.
//
// VL is the number of lanes of a vector. Hidden units stand in *unit vectors* of VL; weights of the forward
// pass in *panels* of FL_PANEL vectors an input (product/tile.inc.h): all sums of one unit vector where a
// cell has four (LSTM), four unit vectors where it has one (RNN), or four thirds of one where it has three
// (GRU): there three panels are a *bundle* of four unit vectors.
#ifndef FL_KERNELS_H
#define FL_KERNELS_H

#include <stdint.h>

#include "fastlstm.h"

typedef struct fl_kernels fl_kernels;

enum {
  FL_PANEL = 4,          // vectors of a whole panel
  FL_PEEPHOLES = 3,      // of a unit: i, f, o
  FL_CHAINS = 2,         // partial sums of the recurrent product at most
  FL_VECTOR_BYTES = 64,  // of the longest vector of any instruction set
};

// log2 e, of which gate scales and activations are made: bits depend on it.
#define FL_LOG2E 1.44269504088896340736

// Which gate gradients of a unit the products of the backward pass take, with the weights of x or of h: as
// many as there are gates, from place `first` on, and of which gates they are.
typedef struct fl_gate_order {
  int32_t first;
  int32_t gate[FL_PANEL];
} fl_gate_order;

// A cell, or a stage of its steps, as everything but its arithmetic sees it. No instruction set stands here.
typedef struct fl_cell {
  const char *name;
  int32_t gates;        // blocks of H rows in the weights and in their gradients
  int32_t sums;         // sums of a unit that a product leaves: 1, 3 or 4
  int32_t apart;        // sums of x and of h stay apart, each from its own bias; a step goes by bundles then
  int32_t has_c;        // it has a state c besides h
  int32_t carries_h;    // part of the gradient of h goes from step to step beside the products
  int32_t activations;  // activations of a unit that the backward pass needs besides the states
  int32_t grads;        // gate gradients of a unit that the backward pass keeps, `gates` or more
  int32_t unit_sums;    // sums over rows that it leaves for a unit: of those gradients or, with layer
                        // normalisation, of the biases; then of peepholes, then of what normalises
  int32_t row_sums;     // sums of a unit that are kept until all units of a row have theirs, which it takes
                        // together then: 0 (it takes them as they come), 4, or 8: of h, then of x
  int32_t second;       // the kind of the second stage that all its steps have, or 0
  int32_t first_gate;   // of a second stage: before its gates, the weights hold so many of the first one's
  fl_gate_order of_x, of_h;
  double scale[FL_PANEL];  // of a gate's weights and bias when packed
} fl_cell;

enum {
  FL_CELLS = 6,              // members of fastlstm_cell_kind
  FL_PROJECTION = FL_CELLS,  // the projection of a cell's output, laid out and run as a cell without memory
  FL_CANDIDATE,              // of a GRU that resets before the product: n and h, once r h is there
  FL_NORMED_SUMS,            // FASTLSTM_LSTM_GENERAL with a layer normalisation of this form
  FL_NORMED_SEPARATE,
  FL_STAGES,  // kinds of fl_layer
};

// A bundle is the smallest number of panels that holds whole unit vectors.
static inline int32_t fl_bundle_panels(const fl_cell *cell) { return FL_PANEL % cell->sums ? cell->sums : 1; }
static inline int32_t fl_bundle_vectors(const fl_cell *cell)
{
  return fl_bundle_panels(cell) * FL_PANEL / cell->sums;
}

// How a packed matrix stores its weights. The unblocked step and packing find their functions by it; the
// blocked product and the backward pass know FL_NATIVE only.
typedef enum {
  FL_NATIVE = 0,  // elements of the model's dtype, one input after another, no scales
  FL_FORMATS = 1
} fl_format;

typedef struct fl_matrix {
  const void *data;
  int64_t inputs;  // K, over which the product sums
  fl_format format;
  int32_t interleave;  // inputs that stand side by side within a column: 1 for FL_NATIVE
  const void *scales;  // of the columns, or NULL
} fl_matrix;

// Kinds of masks. A mask's counter ends with a word that has the kind above FL_MASK_BITS bits of what it is
// for: a layer, or, of what each direction has for itself, layer * directions + direction.
typedef enum {
  FL_DROPOUT = 0,  // between layers
  FL_ZONEOUT_C,
  FL_ZONEOUT_H,
  FL_RECURRENT_DROPOUT,
  FL_VARIATIONAL_DROPOUT,
  FL_INPUT_DROPOUT,
  FL_WEIGHT_DROP,
  FL_MASKS
} fl_mask_kind;
enum { FL_MASK_BITS = 29 };

// Elements whose number of 24 bits is at least `threshold` are `kept`, others `dropped`.
typedef struct fl_mask {
  uint32_t threshold;
  double kept, dropped;
} fl_mask;

// What the masks of a step of some rows follow from.
typedef struct fl_noise {
  const fl_mask *masks;  // [FL_MASKS]
  uint32_t key[2];
  uint32_t place;  // layer * directions + direction
  int32_t reverse;
  int64_t step;            // in the direction's order
  const int64_t *rows;     // [rows] their places in the batch
  const int64_t *lengths;  // [rows]
} fl_noise;

// What a kernel must know about one direction of one layer.
typedef struct fl_layer {
  const fl_cell *cell;
  int32_t kind;        // of the cell, a fastlstm_cell_kind; or another stage
  int64_t inputs;      // I of this layer; 0: it reads no x
  int64_t units;       // H; of a projection P
  int32_t full;        // whole panels
  int32_t remainder;   // vectors of the remainder panel: 0 (there is none), 1 or 2
  int32_t last;        // of a cell whose sums stay apart: vectors of the sums of the last unit vector, 1 to 3
  int32_t chains;      // partial sums of the recurrent product, a function of H alone
  fl_matrix w_x, w_h;  // input and recurrent weights, see product/tile.inc.h
  const void *bias;    // (b_ih + b_hh) times the gate scale, laid out as a row of sums
  const void *bias_h;  // where sums stay apart: b_hh likewise, and `bias` is of b_ih alone; else NULL
  const fastlstm_options *options;  // of FASTLSTM_LSTM_GENERAL and its projection, after fl_spell_out
  const void *peepholes;            // [unit vector][i, f, o][VL], or NULL
  const void *norms;                // biases and what normalises, in rows of fl_row_units, or NULL
  const void *wt_x, *wt_h;          // transposed weights for the backward pass, see product/dgrad.inc.h
  // Of a layer whose steps have two stages, each with a product. The first one leaves m, of which `second`
  // makes h once all units are there: its h_prev is m, and its w_h what m is multiplied by. A projection is
  // h = W_hr m; of a GRU that resets before the product m is r h. Backward, the gradient of m comes from the
  // gradients of the second stage's gates, and that of h from those of the first stage's in the step after:
  // wt_h belongs to what reads a layer's output, `reader`.
  const struct fl_layer *second;  // or NULL
  const struct fl_layer *reader;  // or NULL: the layer itself, in the step after
} fl_layer;

static inline const fl_layer *fl_reader(const fl_layer *layer)
{
  return layer->reader ? layer->reader : layer;
}

static inline int64_t fl_unit_vectors(const fl_layer *layer, int64_t lanes)
{
  return (layer->units + lanes - 1) / lanes;
}

// Units of a row that has room for its units, in whole cache lines.
static inline int64_t fl_row_units(int64_t units, int64_t elem)
{
  const int64_t line = 64 / elem;
  return (units + line - 1) / line * line;
}

// How tiles read weights. No field changes a result.
typedef struct fl_blocking {
  int64_t block;      // inputs that all rows take before the next ones, see product/blocked.inc.h; 0: all
  int32_t distance;   // inputs between a weight's prefetch and its use; 0: tiles do not prefetch
  int32_t one_panel;  // tiles of one row and of three take one panel at a time, too
} fl_blocking;

// Prefetch distance for weights in the second-level cache, in inputs. On a Xeon with AMX it gained 1.02
// to 1.06 times on layers whose panels outgrow the first-level cache.
enum { FL_PREFETCH_NEAR = 6 };

// Input projection of `rows` rows for panels [panel_begin, panel_end).
typedef struct fl_project {
  const void *const *x;  // [rows] rows of `inputs` elements
  void *out;             // sums: row r of panel p at p * panel_stride + r * 4 VL
  int64_t panel_stride;
  int64_t rows;
  int32_t panel_begin, panel_end;
  fl_blocking blocking;
} fl_project;

// One time step of some rows for panels [panel_begin, panel_end).
typedef struct fl_step {
  const void *const *x;   // [rows] input rows, or NULL where the projection is given
  const void *projected;  // projection of this step, or NULL
  int64_t projected_panel_stride, projected_row_stride;
  const void *h_prev;  // row r at r * h_stride; not h_next. Of a second stage, m
  const void *h_old;   // of a second stage: h of the step before, likewise
  void *h_next;
  int64_t h_stride;
  const void *c_prev;  // [unit vector][row][VL]; of a cell without c, NULL as c is
  void *c;             // likewise; may be c_prev
  int64_t c_stride;    // between unit vectors, of c and of `activations` (there times cell->activations)
  // [unit vector][row][cell->activations][VL] for the backward pass, and for a second stage; NULL where
  // neither is to be
  void *activations;
  int32_t streaming;   // the tape is written past the caches
  void *const *y;      // [rows] where h goes as well
  void *const *cells;  // [rows] where c goes as well, or NULL
  int64_t rows;
  int32_t panel_begin, panel_end;
  int32_t descending;  // visit the panels from last to first: on odd steps the cache holds the last ones
  fl_blocking blocking;
  void *sums;  // room for fl_sums_rows rows of 4 VL, or NULL if that is 0
  // Of a cell with row_sums: room for all sums of min(rows, blocked_rows) rows, [row][sum][fl_row_units].
  void *row_sums;
  int32_t only_sums;  // and the job is to put them there
  // Of a layer with options that makes h. Zoneout of h reads h of the step before; where dropout changes what
  // the next product reads, h_next gets that, and h_whole, in and out, all of h. Rows as those of h_prev.
  const void *h_before;
  void *h_whole;
  // With a tape, for the backward pass, or NULL: c before zoneout, laid out as c; h before noise, if it is
  // clipped.
  void *new_c, *new_h;
  const fl_noise *noise;  // or NULL: the pass is not noisy
  int64_t noise_row;      // which of the noise's rows the first row is
} fl_step;

// Many steps of one row, all panels; only for layers of at most `persistent_vectors` vectors.
typedef struct fl_persistent {
  int64_t steps;
  const void *x;  // input of the first step, or NULL
  int64_t x_stride;
  const void *projected;  // the projection when x is NULL, a row a step
  int64_t projected_panel_stride, projected_row_stride;
  void *h;  // [unit vector][VL] in and out
  void *c;  // [unit vector], c_stride apart, in and out
  int64_t c_stride;
  void *y;
  int64_t y_stride;
  void *cells;  // or NULL
  int64_t cells_stride;
} fl_persistent;

// Gradients of pre-activations ("gate gradients") stand as vectors: vector v = grads * unit vector + place of
// row r at v * stride + r * VL, where places are as fl_cell says. Rows of a chunk of steps follow each other.

// One time step backwards of rows [0, rows) for column panels [panel_begin, panel_end), which are panels of
// two unit vectors.
typedef struct fl_back_step {
  const void *next;       // gate gradients of the step after this one, or NULL: it has none of these rows
  void *now;              // where those of this step go
  void *first;            // of a second stage: where those of the first stage go
  int64_t stride;         // of all
  const void *const *dy;  // [rows] gradients of h, or NULL for zeros
  const void *const *dc;  // [rows] gradients of c, or NULL for zeros
  const void *dh_last;    // [rows] more gradients of h, at r * dh_stride, or NULL
  int64_t dh_stride;
  const void *activations;  // as in fl_step
  // Of this step and of the one before, row r at r * h_stride. h and c are those before noise where the
  // forward pass has kept them.
  const void *h, *h_prev;
  int64_t h_stride;
  const void *c, *c_prev;  // [unit vector][row][VL], or NULL
  // [unit vector][row][VL] what steps hand back to each other beside the products: the gradient of c, or a
  // part of that of h; NULL for a cell that has neither.
  void *carry;
  int64_t c_stride;
  void *bias;  // [unit vector][cell->unit_sums][VL] sums over rows
  int64_t rows;
  int32_t panel_begin, panel_end;
  int32_t descending;
  int32_t streaming;  // the tape was written past the caches, and is prefetched
  int32_t prefetch;   // of weights, an fl_dgrad_prefetch
  void *space;        // of a cell with row_sums: room for FL_NORM_SPACE rows of fl_row_units
  void *dh_carry;     // with zoneout of h: what goes to h of the step before; may be dh_last
  const fl_noise *noise;
  int64_t noise_row;  // as in fl_step
} fl_back_step;

enum {
  FL_NORM_ROWS = 8,       // fl_layer.norms of FL_NORMED_SUMS: biases, weights, of i, f, g, o each
  FL_SEPARATE_ROWS = 14,  // of FL_NORMED_SEPARATE: biases, weights of x, weights of h, weight and bias of c
  FL_NORM_SPACE = 24,
};

typedef enum {
  FL_DGRAD_NO_PREFETCH = 0,
  FL_DGRAD_PREFETCH_NEAR = 1,        // an input's weights, FL_PREFETCH_NEAR inputs ahead
  FL_DGRAD_PREFETCH_NEXT_PANEL = 2,  // and those of the next panel, while tiles multiply by this one
} fl_dgrad_prefetch;

// out[r] (+)= gate gradients of row r times the weights (units of the layer by `columns`).
typedef struct fl_dgrad {
  const void *grads;
  int64_t stride;
  const void *weights;  // wt_x or wt_h
  int32_t recurrent;    // they are wt_h
  int64_t columns;      // I or H
  void *const *out;     // [rows]
  int32_t add;
  int64_t rows;
  int32_t panel_begin, panel_end;
  int32_t prefetch;  // an fl_dgrad_prefetch
} fl_dgrad;

// Weight gradients: dw (gates * H, columns) (+)= gate gradients^T times the rows of `in`, for the vectors
// [begin, end) of those gate gradients that the product takes.
typedef struct fl_wgrad {
  const void *grads;
  int64_t stride;
  int64_t rows;
  const void *const *in;  // [rows] of `columns` elements
  int64_t columns;
  void *dw;
  int32_t add;
  int32_t begin, end;
  int32_t recurrent;  // of W_hh, `in` is of h
  void *scratch;      // rows * FL_WGRAD_SCRATCH vectors
} fl_wgrad;

enum { FL_WGRAD_SCRATCH = 12 };  // vectors of `in` that are packed at a time

// Inverted dropout in place: element k of a row stays, times `scale`, if its number, word k % 4 of
// Philox4x32-10 at the counter (k / 4, counter), is at least `threshold`; else it becomes 0.
typedef struct fl_dropout {
  uint32_t counter[3], key[2];
  uint32_t threshold;  // of 24 bits; 2^24 drops all
  double scale;
} fl_dropout;

// Packs up to VL rows of a weight matrix: those of one gate of one unit vector. Returns whether a weight is
// out of range (FASTLSTM_OUT_OF_RANGE).
typedef struct fl_pack {
  const void *w;  // [rows] of `inputs` elements
  int64_t inputs;
  int32_t rows;
  double scale;
  void *out;  // for the forward pass, see product/tile.inc.h: w[r][k] * scale at k * stride + r; or NULL
  int64_t stride;
  void *transposed;  // see product/dgrad.inc.h: row r of these is k = first + r of transposed_rows; or NULL
  int64_t first, transposed_rows;
  int32_t streaming;  // the model outgrows the caches and is written past them
} fl_pack;

typedef int fl_pack_fn(const fl_pack *);
typedef void fl_persistent_fn(const fl_layer *, const fl_persistent *);

struct fl_kernels {
  fastlstm_isa isa;
  fastlstm_dtype dtype;
  int32_t lanes;               // VL
  int32_t tile_rows;           // rows of the tallest tile
  int32_t persistent_vectors;  // vectors of gates of the largest layer that `persistent` takes
  int32_t blocked_rows;        // rows of a step that takes its sums in blocks, at a time
  void (*project)(const fl_layer *, const fl_project *);
  void (*step)(const fl_layer *, const fl_step *);
  fl_persistent_fn *persistent[FL_CELLS];  // NULL: the cell has none
  void (*back_step)(const fl_layer *, const fl_back_step *);
  void (*dgrad)(const fl_layer *, const fl_dgrad *);
  void (*wgrad)(const fl_layer *, const fl_wgrad *);
  void (*dropout)(const fl_dropout *, int64_t first, int64_t count, void *row);
  fl_pack_fn *pack[FL_FORMATS];
  double (*fma_flops)(int64_t repeats);                               // returns the flops done
  double (*read_all)(const void *data, int64_t bytes, int prefetch);  // a value that depends on all
};

// Tiles of rows of a step whose sums stay apart, at a time: the sums of two tiles of a bundle stay in a
// first-level cache (with AVX-512 18 of its 32 or 48 KiB) until the cell takes them.
enum { FL_APART_TILES = 2 };

// Rows of 4 VL that fl_step.sums has room for. `blocks`: whether a step may take its sums in blocks.
static inline int64_t fl_sums_rows(const fl_kernels *kernels, const fl_cell *cell, int blocks)
{
  const int64_t rows = blocks ? kernels->blocked_rows : cell->apart ? FL_APART_TILES * kernels->tile_rows : 0;
  return cell->apart ? 2 * fl_bundle_panels(cell) * rows : rows;
}

extern const fl_kernels fl_kernels_generic_f32, fl_kernels_generic_f64;
#if defined(__x86_64__)
extern const fl_kernels fl_kernels_avx2_f32, fl_kernels_avx2_f64;
extern const fl_kernels fl_kernels_avx512_f32, fl_kernels_avx512_f64;
#elif defined(__aarch64__)
extern const fl_kernels fl_kernels_neon_f32, fl_kernels_neon_f64;
#endif

#endif
