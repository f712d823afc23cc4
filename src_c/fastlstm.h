// SPDX-License-Identifier: BSD-3-Clause
// fastlstm's C interface: shapes, strides, aliasing, ownership and lifetime of every pointer.
//
//   fl_spec  --fl_model_bytes/fl_model_pack-->  fl_model   packed weights, immutable
//   fl_model + T, B, threads  --fl_plan_make-->  fl_plan   how the work is split, immutable
//   fl_model + fl_plan + fl_io + workspace  --fl_forward-->  outputs, and a tape if one is given
//   fl_model + fl_plan + fl_back_io (with the tape) + workspace  --fl_backward-->  gradients
//
// The library never allocates: the caller gives memory for a model (fl_model_bytes) and a
// workspace for a run (fl_plan.workspace_bytes) and a tape (fl_tape_bytes), all aligned to FL_ALIGN. fl_alloc
// and fl_free are there for callers without an allocator of their own. A model and a plan may be used by any
// number of threads at once, a workspace by one run at a time. Nothing is kept between runs.
//
// Every function that gives a status checks what it is handed (check.c): pointers that must not be NULL,
// ranges, alignment, lengths, and that a plan is the model's. How long arrays are it cannot see.
//
// Arrays hold `real`s: float for FL_F32, double for FL_F64. Strides count elements, not bytes.
#ifndef FASTLSTM_H
#define FASTLSTM_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// What this header declares is all that a shared library shows.
#if defined(__GNUC__)
#pragma GCC visibility push(default)
#endif

#define FL_ALIGN 64

typedef enum { FL_F32 = 0, FL_F64 = 1 } fl_dtype;
typedef enum { FL_PASS_FORWARD = 1, FL_PASS_BACKWARD = 2 } fl_pass;
typedef enum { FL_CACHES_OF_CPU = 0, FL_CACHES_NEAR = 1, FL_CACHES_FAR = 2 } fl_cache_kind;
typedef enum { FL_ISA_GENERIC = 0, FL_ISA_AVX2 = 1, FL_ISA_AVX512 = 2, FL_ISA_COUNT = 3 } fl_isa;
typedef enum { FL_LSTM = 0, FL_RNN_TANH = 1, FL_RNN_RELU = 2 } fl_cell;
typedef enum {
  FL_OK = 0,
  FL_TOO_LARGE = 1,     // a size overflows what can be addressed
  FL_INTERRUPTED = 2,   // poll asked to stop; outputs are incomplete
  FL_OUT_OF_RANGE = 3,  // a finite weight whose product with the activation's scale is not
  FL_INVALID = 4,       // an argument is NULL where it must not be, or out of its range
  FL_UNSUPPORTED = 5,   // this CPU lacks the instruction set
  FL_UNALIGNED = 6,     // memory for a model, a workspace or a tape is not aligned to FL_ALIGN
  FL_NOT_PACKED = 7,    // the model is not packed for this pass
  FL_OTHER_PLAN = 8,    // the plan is of another model or for another pass
} fl_status;

const char *fl_status_text(fl_status status);  // what it means, in a few words (check.c)

typedef struct fl_kernels fl_kernels;  // see kernels/kernels.h
typedef struct fl_model fl_model;      // see model.h

// ---- instruction sets (cpu.c) ----
const char *fl_isa_name(fl_isa isa);
int fl_isa_available(fl_isa isa);  // the CPU has it and the operating system saves its registers
const fl_kernels *fl_kernels_for(fl_isa isa, fl_dtype dtype);  // NULL if not available

// ---- memory (memory.c) ----
void *fl_alloc(size_t bytes);  // aligned to FL_ALIGN, large blocks on huge pages; NULL if there is none
void fl_free(void *memory, size_t bytes);

// ---- content (hash.c) ----
// 64 bits that say whether memory changed: not against an adversary, but any changed word of 8 bytes
// changes them but for a chance near 2^-64. The same for every isa, which must be available here.
uint64_t fl_hash(fl_isa isa, const void *data, size_t bytes, uint64_t seed);

// Called by the calling thread now and then; not 0 stops what it is doing.
typedef int fl_poll(void *arg);

// ---- model (pack.c) ----
typedef struct fl_spec {
  int64_t input_size, hidden_size, num_layers;
  int32_t directions;  // 1 or 2
  fl_dtype dtype;
  fl_isa isa;
  int32_t gemm_blas;  // input weights laid out for one BLAS call instead of our kernels
  int32_t passes;     // what the weights are packed for: FL_PASS_FORWARD, FL_PASS_BACKWARD or both
  int32_t caches;     // what the last-level cache is taken to be, of no effect on results: FL_CACHES_...
  fl_cell cell;
} fl_spec;

// Weights of one direction of one layer, row-major, gates i f g o; only read while packing.
typedef struct fl_weights {
  const void *w_ih;  // (4H, I), I = input_size in layer 0, else directions * H
  const void *w_hh;  // (4H, H)
  const void *b_ih;  // (4H) or NULL
  const void *b_hh;  // (4H) or NULL
} fl_weights;

fl_status fl_model_bytes(const fl_spec *spec, size_t *bytes);
// weights[layer * directions + direction]; the model lives in memory, which must outlive it, and is *model
// if all went well. threads: at most so many; they make no difference to the model. poll, poll_arg: as in
// fl_io. For the forward pass finite weights must be below 1 / (2 log2 e) of the largest `real` (of gate g,
// twice that of the others): FL_OUT_OF_RANGE else.
fl_status fl_model_pack(const fl_spec *spec, const fl_weights *weights, void *memory, int32_t threads,
                        fl_poll *poll, void *poll_arg, fl_model **model);

// How a layer's hidden units are cut into panels (kernels/tile.inc.h), for reports.
typedef struct fl_panels {
  int32_t lanes;   // units of a whole panel
  int32_t full;    // whole panels
  int32_t tail;    // vectors of the narrow last panel: 0 (none), 1 or 2
  int32_t chains;  // partial sums of the recurrent product
} fl_panels;
fl_panels fl_model_panels(const fl_model *model);

// ---- plan (plan.c) ----
typedef enum {
  FL_INFER = 0,  // forward, nothing kept
  FL_TRAIN = 1,  // forward onto a tape
  FL_BACK = 2,   // backward from a tape
} fl_purpose;

typedef struct fl_plan {
  const fl_model *model;  // that it is a plan for
  fl_purpose purpose;
  int64_t steps, batch;
  int32_t threads;     // of the team, 1 for a call without one
  int32_t dir_groups;  // 2: the directions run side by side
  // Parts of the batch that run without barriers. For FL_INFER one a thread; else their number is a
  // function of the shapes alone, since gradients are summed part by part, and threads take turns.
  int32_t row_groups;
  int32_t unit_groups;    // threads that share a row group by hidden units (one barrier a step)
  int64_t project_steps;  // steps projected ahead of the recurrence; 0: projection inside the step
  int64_t block_steps;    // steps of one layer before the next one (or the next poll) has its turn
  int64_t chunk_rows;     // FL_BACK: rows whose gate gradients are turned into weight gradients at a time
  size_t workspace_bytes;
} fl_plan;

// threads: at most so many; the plan may take fewer where more would be slower.
fl_status fl_plan_make(const fl_model *model, fl_purpose purpose, int64_t steps, int64_t batch,
                       int32_t threads, fl_plan *plan);

// What a forward pass must keep for the backward pass, whatever the threads of either. Contents are
// private; they hold for this spec and these sizes.
fl_status fl_tape_bytes(const fl_spec *spec, int64_t steps, int64_t batch, size_t *bytes);

// ---- run (forward.c) ----
// C[rows, n] += A[rows, k] B[k, n], row-major with leading dimensions lda, ldb, ldc.
typedef void fl_gemm(fl_dtype dtype, int64_t rows, int64_t n, int64_t k, const void *a, int64_t lda,
                     const void *b, int64_t ldb, void *c, int64_t ldc);

typedef struct fl_io {
  const void *x;  // (T, B, I): element (t, b, k) at t * x_t + b * x_b + k
  int64_t x_t, x_b;
  void *y;  // (T, B, D H) likewise; overlaps no input. Steps past a sequence's end become zero.
  int64_t y_t, y_b;
  void *cells;  // c of every step of the last layer, shaped as y, or NULL
  int64_t cells_t, cells_b;
  const void *h_0, *c_0;   // (L D, B, H) contiguous, or NULL for zeros
  void *h_n, *c_n;         // (L D, B, H) contiguous, or NULL; may be h_0 and c_0 themselves
  const int64_t *lengths;  // (B), each 0 .. T, or NULL: all T
  // (T), or NULL. Given, x, y and cells hold only the steps that there are: (t, b) is their row
  // starts[t] + b. Lengths are given then and do not rise; x_t, y_t and cells_t mean nothing.
  const int64_t *starts;
  fl_gemm *gemm;  // for a model with gemm_blas, else unused
  fl_poll *poll;  // or NULL
  void *poll_arg;
  void *tape;      // written for fl_backward under a plan for FL_TRAIN, else NULL
  double dropout;  // probability for outputs of layers but the last; 0 without a tape
  uint64_t seed;   // of the dropout masks
  // Out, or NULL: set to 1 if a thread of the team came so late that others waited long. Another
  // process holds its core; the caller had better take one thread for a while.
  int32_t *late;
} fl_io;

fl_status fl_forward(const fl_model *model, const fl_plan *plan, const fl_io *io, void *workspace);

// ---- backward (backward.c) ----
// Gradients of one direction of one layer, contiguous, shaped as fl_weights.
typedef struct fl_gradients {
  void *w_ih, *w_hh;
  void *b_ih, *b_hh;  // both get the same; each may be NULL
} fl_gradients;

typedef struct fl_back_io {
  const void *tape;  // from a forward pass over the same x, lengths, dropout and seed
  const void *x;     // as in fl_io
  int64_t x_t, x_b;
  const int64_t *lengths;  // as in fl_io
  const int64_t *starts;   // as in fl_io; for dy, dcells and dx as well
  const void *dy;          // (T, B, D H) gradient of y, or NULL for zeros; padding is not read
  int64_t dy_t, dy_b;
  const void *dcells;  // (T, B, D H) gradient of all c of the last layer, or NULL
  int64_t dcells_t, dcells_b;
  const void *dh_n, *dc_n;  // (L D, B, H) contiguous, or NULL for zeros
  void *dx;                 // (T, B, I) out, or NULL; padding becomes zero
  int64_t dx_t, dx_b;
  void *dh_0, *dc_0;              // (L D, B, H) contiguous out, or NULL
  const fl_gradients *gradients;  // [layer * directions + direction] out, or NULL
  int32_t accumulate;             // add to gradients instead of overwriting them
  double dropout;
  uint64_t seed;
  fl_poll *poll;  // as in fl_io, like the rest
  void *poll_arg;
  int32_t *late;
} fl_back_io;

fl_status fl_backward(const fl_model *model, const fl_plan *plan, const fl_back_io *io, void *workspace);

// ---- threads (team.c) ----
int fl_team_max(void);   // threads that the run-time would give
int fl_team_most(void);  // threads that a team may have now: fewer for a while where the system refused more
int fl_team_cpus(void);  // CPUs that the run-time binds its threads to, 0 where it binds none
void fl_team_forked(void);  // call in a forked child: runs are single-threaded from then on
const char *fl_team_name(void);

double fl_now(void);  // seconds of a monotonic clock

// ---- limits of the machine, for benchmarks (measure.c) ----
double fl_measure_fma(const fl_kernels *kernels, double seconds);  // flop/s of one thread
double fl_measure_read(const fl_kernels *kernels, const void *data, int64_t bytes,
                       double seconds);  // bytes/s

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#ifdef __cplusplus
}
#endif

#endif
