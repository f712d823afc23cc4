// SPDX-License-Identifier: BSD-3-Clause
// fastlstm's C interface: shapes, strides, aliasing, ownership and lifetime of every pointer.
//
//   fl_spec  --fl_model_bytes, fl_model_pack-->  fl_model   packed weights, immutable
//   fl_model + T, B, threads  --fl_plan_bytes, fl_plan_make-->  fl_plan   how work is split, immutable
//   fl_model + fl_plan + fl_io + workspace  --fl_forward-->  outputs, and a tape if one is given
//   fl_model + fl_plan + fl_back_io (with the tape) + workspace  --fl_backward-->  gradients
//
// Memory. The library allocates nothing: the caller gives memory for a model (fl_model_bytes), a plan
// (fl_plan_bytes), a workspace for a run (fl_plan_workspace_bytes) and a tape (fl_tape_bytes), all aligned
// to FL_ALIGN. fl_alloc and fl_free are there for callers without an allocator of their own. Nothing is kept
// between runs. A model is valid as long as its memory is left alone, a plan as long as its model.
//
// Threads. A model and a plan may be used by any number of threads at once, a workspace by one run at a
// time. Runs on several threads are teams of OpenMP, if the library was compiled with it; without it
// (-DFASTLSTM_SERIAL, or no -fopenmp) every run takes one thread and gives the same bits. OpenMP's threads
// do not live on in a child of fork(): there, make plans for one thread only, and use no others.
//
// Checks. Every function looks at what it is handed before it reads through it: pointers that must not be
// NULL, ranges, alignment, lengths, that a model was packed, that a plan is the model's; and gives a status
// (fl_status_text). What it cannot see is how long arrays are, and what memory no longer is.
//
// Versions. The first field of fl_spec, fl_io and fl_back_io is their size as the caller's header has it
// (FL_SPEC_INIT and the like set it). Structures only grow at their end, where zeros mean what
// there was before. A caller of a newer header may run with an older library as long as fields that it does
// not know are zero: else FL_UNKNOWN_FIELD. fl_weights and fl_gradients do not grow.
//
// Building. All C files of src_c but extra/optim.c, by GCC or Clang, as gnu11, with src_c/include and src_c
// on the include path, -ffp-contract=off (the same bits everywhere hang on it), -fno-math-errno, -fopenmp if
// teams are wanted, and -fvisibility=hidden for a shared library. A caller needs this header only, and any C
// or C++.
//
// Arrays hold `real`s, aligned as such: float for FL_F32, double for FL_F64. Strides count elements, not
// bytes; they may be negative.
#ifndef FASTLSTM_H
#define FASTLSTM_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// What this header declares is all that a shared library shows, if it is compiled with -fvisibility=hidden.
#if defined(__GNUC__)
#pragma GCC visibility push(default)
#endif

#define FL_VERSION_MAJOR 0
#define FL_VERSION_MINOR 1
#define FL_VERSION_PATCH 0
#define FL_VERSION       (FL_VERSION_MAJOR << 16 | FL_VERSION_MINOR << 8 | FL_VERSION_PATCH)

#define FL_ALIGN 64

typedef enum { FL_F32 = 0, FL_F64 = 1 } fl_dtype;
typedef enum { FL_LSTM = 0, FL_RNN_TANH = 1, FL_RNN_RELU = 2 } fl_cell_kind;
typedef enum { FL_PASS_FORWARD = 1, FL_PASS_BACKWARD = 2 } fl_pass;
typedef enum {
  FL_ISA_GENERIC = 0,
  FL_ISA_AVX2 = 1,
  FL_ISA_AVX512 = 2,
  FL_ISA_NEON = 3,  // aarch64, with the bits of FL_ISA_AVX2
  FL_ISA_COUNT = 4
} fl_isa;
typedef enum {
  FL_OK = 0,
  FL_TOO_LARGE = 1,      // a size overflows what can be addressed
  FL_INTERRUPTED = 2,    // poll asked to stop; outputs are incomplete
  FL_OUT_OF_RANGE = 3,   // a finite weight whose product with the activation's scale is not
  FL_INVALID = 4,        // an argument is NULL where it must not be, or out of its range
  FL_UNSUPPORTED = 5,    // this CPU lacks the instruction set
  FL_UNALIGNED = 6,      // memory is not aligned to FL_ALIGN, or an array not to its elements
  FL_NOT_PACKED = 7,     // the model is not packed, or not for this pass
  FL_OTHER_PLAN = 8,     // the plan is of another model or for another pass
  FL_UNKNOWN_FIELD = 9,  // a field is set that only a newer version of this library knows
} fl_status;

uint32_t fl_version(void);  // FL_VERSION of the library itself
// What it means, in a few words; "unknown status" for any other value.
const char *fl_status_text(fl_status status);

typedef struct fl_model fl_model;  // packed weights
typedef struct fl_plan fl_plan;    // how a run is split and blocked

// ---- instruction sets ----
const char *fl_isa_name(fl_isa isa);  // "unknown" for any other value
// Whether the CPU has it, the operating system saves its registers, and it was compiled in; 0 for any other
// value. FL_ISA_GENERIC is always there.
int fl_isa_available(fl_isa isa);

// ---- memory ----
void *fl_alloc(size_t bytes);  // aligned to FL_ALIGN, large blocks on huge pages; NULL if there is none
void fl_free(void *memory);    // of fl_alloc, or NULL

// Called by the calling thread now and then; not 0 stops what it is doing.
typedef int fl_poll(void *arg);

// ---- model ----
typedef struct fl_spec {
  size_t struct_size;  // sizeof(fl_spec)
  int64_t input_size, hidden_size, num_layers;
  int32_t directions;  // 1 or 2
  fl_cell_kind cell;
  fl_dtype dtype;
  fl_isa isa;
  int32_t gemm_blas;  // input weights of an LSTM laid out for one BLAS call instead of our kernels: 0 or 1
  int32_t passes;     // what the weights are packed for: FL_PASS_FORWARD, FL_PASS_BACKWARD or both
} fl_spec;

// Weights of one direction of one layer, row-major, G gates: i f g o of an LSTM, one of an RNN; only read
// while packing.
typedef struct fl_weights {
  const void *w_ih;  // (G H, I), I = input_size in layer 0, else directions * H
  const void *w_hh;  // (G H, H)
  const void *b_ih;  // (G H) or NULL
  const void *b_hh;  // (G H) or NULL
} fl_weights;

// FL_INVALID, FL_UNSUPPORTED, FL_TOO_LARGE or FL_UNKNOWN_FIELD for a spec that no model can have.
fl_status fl_model_bytes(const fl_spec *spec, size_t *bytes);
// weights[layer * directions + direction]; the model lives in memory, which must outlive it, and is *model
// if all went well, else NULL. threads, 1 or more: at most so many; they make no difference to the model.
// poll, poll_arg: as in fl_io. For the forward pass finite weights must be below 1 / (2 log2 e) of the
// largest `real` (of gate g, twice that of the others): FL_OUT_OF_RANGE else. Packing into the memory of a
// model ends the life of its plans too.
fl_status fl_model_pack(const fl_spec *spec, const fl_weights *weights, void *memory, int32_t threads,
                        fl_poll *poll, void *poll_arg, fl_model **model);

// ---- plan ----
typedef enum {
  FL_INFER = 0,  // forward, nothing kept
  FL_TRAIN = 1,  // forward onto a tape
  FL_BACK = 2,   // backward from a tape
} fl_purpose;

size_t fl_plan_bytes(void);  // of any plan
// plan: memory of fl_plan_bytes(). threads, 1 or more: at most so many; the plan may take fewer where more
// would be slower, or cannot be had. Results do not depend on them.
fl_status fl_plan_make(const fl_model *model, fl_purpose purpose, int64_t steps, int64_t batch,
                       int32_t threads, fl_plan *plan);
size_t fl_plan_workspace_bytes(const fl_plan *plan);  // of a run by this plan; 0 for NULL
int32_t fl_plan_threads(const fl_plan *plan);         // that a run takes, at most; 0 for NULL

// What a forward pass must keep for the backward pass, whatever the threads of either. Contents are
// private; they hold for this spec and these sizes.
fl_status fl_tape_bytes(const fl_spec *spec, int64_t steps, int64_t batch, size_t *bytes);

// ---- forward ----
// C[rows, n] += A[rows, k] B[k, n], row-major with leading dimensions lda, ldb, ldc.
typedef void fl_gemm(fl_dtype dtype, int64_t rows, int64_t n, int64_t k, const void *a, int64_t lda,
                     const void *b, int64_t ldb, void *c, int64_t ldc);

// T and B are the plan's steps and batch. x and y may be NULL where there are none.
typedef struct fl_io {
  size_t struct_size;  // sizeof(fl_io)
  const void *x;       // (T, B, I): element (t, b, k) at t * x_t + b * x_b + k
  int64_t x_t, x_b;
  void *y;  // (T, B, D H) likewise; overlaps no input. Steps past a sequence's end become zero.
  int64_t y_t, y_b;
  void *cells;  // c of every step of the last layer, shaped as y, or NULL; NULL for a cell without c
  int64_t cells_t, cells_b;
  const void *h_0, *c_0;   // (L D, B, H) contiguous, or NULL for zeros; c_0 NULL for a cell without c
  void *h_n, *c_n;         // likewise, or NULL; may be h_0 and c_0 themselves
  const int64_t *lengths;  // (B), each 0 .. T, or NULL: all T
  // (T), or NULL. Given, x, y and cells hold only the steps that there are: (t, b) is their row
  // starts[t] + b. Lengths are given then and do not rise; x_t, y_t and cells_t mean nothing.
  const int64_t *starts;
  fl_gemm *gemm;  // for a model with gemm_blas, else unused
  fl_poll *poll;  // or NULL
  void *poll_arg;
  void *tape;      // written for fl_backward under a plan for FL_TRAIN, else NULL
  double dropout;  // probability 0 .. 1 for outputs of layers but the last; 0 without a tape
  uint64_t seed;   // of the dropout masks
  // Out, or NULL: set to 1 if a thread of the team came so late that others waited long. Another
  // process holds its core; the caller had better take one thread for a while. Else 0 after a team's run.
  int32_t *late;
} fl_io;

// After any status but FL_OK and FL_INTERRUPTED nothing has been written.
fl_status fl_forward(const fl_model *model, const fl_plan *plan, const fl_io *io, void *workspace);

// ---- backward ----
// Gradients of one direction of one layer, contiguous, shaped as fl_weights.
typedef struct fl_gradients {
  void *w_ih, *w_hh;
  void *b_ih, *b_hh;  // both get the same; each may be NULL
} fl_gradients;

typedef struct fl_back_io {
  size_t struct_size;  // sizeof(fl_back_io)
  const void *tape;    // from a forward pass over the same x, lengths, dropout and seed
  const void *x;       // as in fl_io
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

// Statuses as of fl_forward. dcells, dc_n and dc_0 are NULL for a cell without c.
fl_status fl_backward(const fl_model *model, const fl_plan *plan, const fl_back_io *io, void *workspace);

// Structures of zeros that know their size: `fl_io io = FL_IO_INIT;`
#ifdef __cplusplus
#define FL_SPEC_INIT    {sizeof(fl_spec)}
#define FL_IO_INIT      {sizeof(fl_io)}
#define FL_BACK_IO_INIT {sizeof(fl_back_io)}
#else
#define FL_SPEC_INIT    {.struct_size = sizeof(fl_spec)}
#define FL_IO_INIT      {.struct_size = sizeof(fl_io)}
#define FL_BACK_IO_INIT {.struct_size = sizeof(fl_back_io)}
#endif

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#ifdef __cplusplus
}
#endif

#endif
