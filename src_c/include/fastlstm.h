// SPDX-License-Identifier: BSD-3-Clause
// fastlstm's C interface: shapes, strides, aliasing, ownership and lifetime of every pointer.
//
//   fastlstm_spec, fastlstm_weights
//     |  fastlstm_model_bytes, fastlstm_model_pack
//     v
//   fastlstm_model: packed weights, immutable
//     |  T, B, threads; fastlstm_plan_bytes, fastlstm_plan_make
//     v
//   fastlstm_plan: how work is split, immutable
//     |  fastlstm_io, a workspace; fastlstm_forward
//     v
//   outputs, and a tape if memory for one is given
//     |  fastlstm_back_io with the tape, a plan for FASTLSTM_BACK and its workspace; fastlstm_backward
//     v
//   gradients
//
// Memory. The library allocates nothing: the caller gives memory for a model (fastlstm_model_bytes), a plan
// (fastlstm_plan_bytes), a workspace for a run (fastlstm_plan_workspace_bytes) and a tape
// (fastlstm_tape_bytes), all aligned to FASTLSTM_ALIGN (a plan to 8 bytes at least). fastlstm_alloc and
// fastlstm_free are there for callers without an allocator of their own. No memory of the caller's is kept
// between runs. A model is valid as long as its memory is left alone, a plan as long as its model.
//
// Threads. A model and a plan may be used by any number of threads at once, a workspace by one run at a
// time. Runs on several threads are teams of OpenMP, if the library was compiled with it; without it
// (-DFASTLSTM_SERIAL, or no -fopenmp) every run takes one thread and gives the same bits. OpenMP's threads
// do not live on in a child of fork(): there, make plans for one thread only, and use no others.
//
// Checks. Every function looks at what it is handed before it reads through it: pointers that must not be
// NULL, ranges, alignment, lengths, that a model was packed, that a plan is the model's; and gives a status
// (fastlstm_status_text). What it cannot see is how long arrays are, and what memory no longer is. Where
// a size_t or int32_t of a result goes is taken as it is.
//
// Versions. The first field of fastlstm_spec, fastlstm_io and fastlstm_back_io is their size as the caller's
// header has it (FASTLSTM_SPEC_INIT and the like set it). Structures only grow at their end, where zeros mean
// what there was before. A caller of a newer header may run with an older library as long as fields that it
// does not know are zero: else FASTLSTM_UNKNOWN_FIELD. fastlstm_weights and fastlstm_gradients do not grow.
//
// Building. All C files of src_c but extra/optim.c, by GCC or Clang, as gnu11, with src_c/include and src_c
// on the include path, -O3, -ffp-contract=off (the same bits everywhere hang on it), -fno-math-errno,
// -fno-wrapv (where -fwrapv would be on: it costs up to 1.67 times the time), -fopenmp if teams are wanted,
// and -fvisibility=hidden for a shared library. A caller needs this header only, and any C or C++.
//
// Arrays hold `real`s, aligned as such: float for FASTLSTM_F32, double for FASTLSTM_F64. Strides count
// elements, not bytes; they may be negative.
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

#define FASTLSTM_VERSION_MAJOR 0
#define FASTLSTM_VERSION_MINOR 1
#define FASTLSTM_VERSION_PATCH 0
#define FASTLSTM_VERSION (FASTLSTM_VERSION_MAJOR << 16 | FASTLSTM_VERSION_MINOR << 8 | FASTLSTM_VERSION_PATCH)

#define FASTLSTM_ALIGN 64

typedef enum { FASTLSTM_F32 = 0, FASTLSTM_F64 = 1 } fastlstm_dtype;
typedef enum {
  FASTLSTM_LSTM = 0,
  FASTLSTM_RNN_TANH = 1,
  FASTLSTM_RNN_RELU = 2,
  FASTLSTM_GRU = 3,               // linear before reset: r multiplies W_hn h + b_hn
  FASTLSTM_LSTM_GENERAL = 4,      // an LSTM with fastlstm_options
  FASTLSTM_GRU_RESET_BEFORE = 5,  // a GRU whose r multiplies h before the product: W_hn (r h) + b_hn
} fastlstm_cell_kind;
typedef enum { FASTLSTM_PASS_FORWARD = 1, FASTLSTM_PASS_BACKWARD = 2 } fastlstm_pass;
typedef enum {
  FASTLSTM_ISA_GENERIC = 0,
  FASTLSTM_ISA_AVX2 = 1,
  FASTLSTM_ISA_AVX512 = 2,
  FASTLSTM_ISA_NEON = 3,  // aarch64, with the bits of FASTLSTM_ISA_AVX2
  FASTLSTM_ISA_COUNT = 4
} fastlstm_isa;
typedef enum {
  FASTLSTM_OK = 0,
  FASTLSTM_TOO_LARGE = 1,      // a size overflows what can be addressed
  FASTLSTM_INTERRUPTED = 2,    // poll asked to stop; outputs are incomplete
  FASTLSTM_OUT_OF_RANGE = 3,   // a finite weight whose product with the activation's scale is not
  FASTLSTM_INVALID = 4,        // an argument is NULL where it must not be, or out of its range
  FASTLSTM_UNSUPPORTED = 5,    // this CPU lacks the instruction set
  FASTLSTM_UNALIGNED = 6,      // memory is not aligned to FASTLSTM_ALIGN, or an array not to its elements
  FASTLSTM_NOT_PACKED = 7,     // the model is not packed, or not for this pass
  FASTLSTM_OTHER_PLAN = 8,     // the plan is of another model or for another pass
  FASTLSTM_UNKNOWN_FIELD = 9,  // a field is set that only a newer version of this library knows
} fastlstm_status;

uint32_t fastlstm_version(void);  // FASTLSTM_VERSION of the library itself
// What it means, in a few words; "unknown status" for any other value.
const char *fastlstm_status_text(fastlstm_status status);

typedef struct fastlstm_model fastlstm_model;  // packed weights
typedef struct fastlstm_plan fastlstm_plan;    // how a run is split and blocked

// ---- instruction sets ----
const char *fastlstm_isa_name(fastlstm_isa isa);  // "unknown" for any other value
// Whether the CPU has it, the operating system saves its registers, and it was compiled in; 0 for any other
// value. FASTLSTM_ISA_GENERIC is always there.
int fastlstm_isa_available(fastlstm_isa isa);

// ---- memory ----
// Aligned to FASTLSTM_ALIGN, large blocks on huge pages; NULL if there is none.
void *fastlstm_alloc(size_t bytes);
void fastlstm_free(void *memory);  // of fastlstm_alloc, or NULL

// Called by the calling thread now and then; not 0 stops what it is doing.
typedef int fastlstm_poll(void *arg);

// ---- options of FASTLSTM_LSTM_GENERAL ----
// As the ONNX operators of these names, with their alpha and beta. FASTLSTM_USUAL: sigmoid of a gate, else
// tanh.
typedef enum {
  FASTLSTM_USUAL = 0,
  FASTLSTM_SIGMOID = 1,
  FASTLSTM_TANH = 2,
  FASTLSTM_HARD_SIGMOID = 3,  // alpha z + beta, between 0 and 1
  FASTLSTM_RELU = 4,
  FASTLSTM_LEAKY_RELU = 5,        // z where z > 0, else alpha z
  FASTLSTM_THRESHOLDED_RELU = 6,  // z where z > alpha, else 0
  FASTLSTM_ELU = 7,               // z where z > 0, else alpha (e^z - 1)
  FASTLSTM_SOFTSIGN = 8,
  FASTLSTM_SOFTPLUS = 9,
  FASTLSTM_SCALED_TANH = 10,  // alpha tanh(beta z)
  FASTLSTM_AFFINE = 11,       // alpha z + beta
  FASTLSTM_LINEAR = 12,
  FASTLSTM_ACTIVATION_COUNT = 13
} fastlstm_activation_kind;

typedef struct fastlstm_activation {
  fastlstm_activation_kind kind;
  double alpha, beta;  // between -1e30 and 1e30; read where the kind has them
} fastlstm_activation;

// Layer normalisation, see fastlstm/reference/normalization.py.
typedef enum {
  FASTLSTM_NORM_NONE = 0,
  FASTLSTM_NORM_SUMS = 1,      // of each gate's sums, before its bias
  FASTLSTM_NORM_SEPARATE = 2,  // of the sums of x, of those of h, and of what the output activation takes
  FASTLSTM_NORM_COUNT = 3
} fastlstm_norm_kind;

// The equations are in fastlstm/reference/options.py. All zeros: the plain LSTM's.
typedef struct fastlstm_options {
  int32_t peepholes;       // 0 or 1: fastlstm_spec.peepholes are there
  int32_t coupled;         // 0 or 1: f = 1 - i; the forget gate's weights have no effect
  int32_t no_forget_gate;  // 0 or 1: f = 1; likewise, and not together with `coupled`
  double gate_clip;        // bound of what the activations of gates and candidate take, or 0: none
  double cell_clip;        // bound of c, or 0: none
  fastlstm_activation gate, candidate, output;
  double proj_clip;               // bound of h where it is projected, or 0: none
  fastlstm_norm_kind layer_norm;  // whose weights are fastlstm_spec.norms
  double norm_epsilon;            // added to variances, 1.2e-38 to 1e30; 0 without layer normalisation
  // Probabilities 0 .. 1 of noise in passes that are `noisy`. In others c and h are what is expected of them
  // under zoneout, and of dropout there is none. Formulas in fastlstm/reference/noise.py.
  double zoneout_c, zoneout_h;  // c, or h, stays as it was
  double recurrent_dropout;     // of g
  double variational_dropout;   // of the h that W_hh multiplies, one mask for all steps
  double input_dropout;         // of what each layer reads, one mask for all steps
} fastlstm_options;

// Weights of the peepholes of one direction of one layer, (H) each.
typedef struct fastlstm_peepholes {
  const void *i, *f, *o;
} fastlstm_peepholes;

// What normalises one direction of one layer; what its form does not have is NULL.
typedef struct fastlstm_norms {
  const void *n;             // FASTLSTM_NORM_SUMS: (4H), multiplies the normalised sums
  const void *nx, *nh;       // FASTLSTM_NORM_SEPARATE: (4H), likewise, of x and of h
  const void *nc, *bias_nc;  // likewise: (H), of c, and what is added to that
} fastlstm_norms;

// ---- model ----
typedef struct fastlstm_spec {
  size_t struct_size;  // sizeof(fastlstm_spec)
  int64_t input_size, hidden_size, num_layers;
  int32_t directions;  // 1 or 2
  fastlstm_cell_kind cell;
  fastlstm_dtype dtype;
  fastlstm_isa isa;
  int32_t gemm_blas;  // input weights of an LSTM laid out for one BLAS call instead of our kernels: 0 or 1
  int32_t passes;  // what the weights are packed for: FASTLSTM_PASS_FORWARD, FASTLSTM_PASS_BACKWARD or both
  // P of an LSTM whose output is projected, h_t = W_hr (o tanh(c_t)), 1 to hidden_size - 1; 0: it is not.
  // Below, P is the width of h; without a projection it is H.
  int64_t proj_size;
  fastlstm_options options;             // of FASTLSTM_LSTM_GENERAL, else zeros
  const fastlstm_peepholes *peepholes;  // [layer * directions + direction], only read while packing, or NULL
  const fastlstm_norms *norms;          // likewise
} fastlstm_spec;

// Weights of one direction of one layer, row-major, G gates: i f g o of an LSTM, r z n of a GRU, one of an
// RNN; only read while packing. Where there is a projection, an array of them has as many members once more,
// behind the others and in the same order: of those w_ih is W_hr (P, H), and the rest is NULL.
typedef struct fastlstm_weights {
  const void *w_ih;  // (G H, I), I = input_size in layer 0, else directions * P
  const void *w_hh;  // (G H, P)
  const void *b_ih;  // (G H) or NULL
  const void *b_hh;  // (G H) or NULL
} fastlstm_weights;

// FASTLSTM_INVALID, FASTLSTM_UNSUPPORTED, FASTLSTM_TOO_LARGE or FASTLSTM_UNKNOWN_FIELD for a spec that no
// model can have.
fastlstm_status fastlstm_model_bytes(const fastlstm_spec *spec, size_t *bytes);
// weights[layer * directions + direction], and projections behind them; the model lives in memory, which must
// outlive it, and is *model if all went well, else NULL. threads, 1 or more: at most so many; they make no
// difference to the model. poll, poll_arg: as in fastlstm_io. For the forward pass finite weights must be
// below 1 / (2 log2 e) of the largest `real` (of gates with a sigmoid, twice that): FASTLSTM_OUT_OF_RANGE
// else. Packing into the memory of a model ends the life of its plans too.
fastlstm_status fastlstm_model_pack(const fastlstm_spec *spec, const fastlstm_weights *weights, void *memory,
                                    int32_t threads, fastlstm_poll *poll, void *poll_arg,
                                    fastlstm_model **model);

// ---- plan ----
typedef enum {
  FASTLSTM_INFER = 0,  // forward, nothing kept
  FASTLSTM_TRAIN = 1,  // forward onto a tape
  FASTLSTM_BACK = 2,   // backward from a tape
} fastlstm_purpose;

size_t fastlstm_plan_bytes(void);  // of any plan
// plan: memory of fastlstm_plan_bytes(). threads, 1 or more: at most so many; the plan may take fewer where
// more would be slower, or cannot be had. Results do not depend on them.
fastlstm_status fastlstm_plan_make(const fastlstm_model *model, fastlstm_purpose purpose, int64_t steps,
                                   int64_t batch, int32_t threads, fastlstm_plan *plan);
size_t fastlstm_plan_workspace_bytes(const fastlstm_plan *plan);  // of a run by this plan; 0 for NULL
int32_t fastlstm_plan_threads(const fastlstm_plan *plan);         // that a run takes, at most; 0 for NULL

// What a forward pass must keep for the backward pass, whatever the threads of either. Contents are
// private; they hold for this spec and these sizes.
fastlstm_status fastlstm_tape_bytes(const fastlstm_spec *spec, int64_t steps, int64_t batch, size_t *bytes);

// ---- forward ----
// C[rows, n] += A[rows, k] B[k, n], row-major with leading dimensions lda, ldb, ldc.
typedef void fastlstm_gemm(fastlstm_dtype dtype, int64_t rows, int64_t n, int64_t k, const void *a,
                           int64_t lda, const void *b, int64_t ldb, void *c, int64_t ldc);

// T and B are the plan's steps and batch. x and y may be NULL where there are none.
typedef struct fastlstm_io {
  size_t struct_size;  // sizeof(fastlstm_io)
  const void *x;       // (T, B, I): element (t, b, k) at t * x_t + b * x_b + k
  int64_t x_t, x_b;
  void *y;  // (T, B, D P) likewise; overlaps no input. Steps past a sequence's end become zero.
  int64_t y_t, y_b;
  void *cells;  // (T, B, D H) c of every step of the last layer, or NULL; NULL for a cell without c
  int64_t cells_t, cells_b;
  const void *h_0;         // (L D, B, P) contiguous, or NULL for zeros
  const void *c_0;         // (L D, B, H) likewise; NULL for a cell without c
  void *h_n, *c_n;         // likewise, or NULL; may be h_0 and c_0 themselves
  const int64_t *lengths;  // (B), each 0 .. T, or NULL: all T
  // (T), or NULL. Given, x, y and cells hold only the steps that there are: (t, b) is their row
  // starts[t] + b. Lengths are given then and do not rise; x_t, y_t and cells_t mean nothing.
  const int64_t *starts;
  fastlstm_gemm *gemm;  // for a model with gemm_blas, else unused
  fastlstm_poll *poll;  // or NULL
  void *poll_arg;
  void *tape;      // written for fastlstm_backward under a plan for FASTLSTM_TRAIN, else NULL
  double dropout;  // probability 0 .. 1 for outputs of layers but the last; 0 without a tape
  uint64_t seed;   // of the masks of dropout and noise
  // Out, or NULL: set to 1 if a thread of the team came so late that others waited long. Another
  // process holds its core; the caller had better take one thread for a while. Else 0 after a team's run.
  int32_t *straggled;
  int64_t noisy;  // 0 or 1: the noise of fastlstm_options acts, by masks of `seed`; 0 without a tape
} fastlstm_io;

// After any status but FASTLSTM_OK and FASTLSTM_INTERRUPTED nothing has been written.
fastlstm_status fastlstm_forward(const fastlstm_model *model, const fastlstm_plan *plan,
                                 const fastlstm_io *io, void *workspace);

// ---- backward ----
// Gradients of one direction of one layer, contiguous, shaped as fastlstm_weights; those of projections stand
// behind the others likewise.
typedef struct fastlstm_gradients {
  void *w_ih, *w_hh;
  void *b_ih, *b_hh;  // both get the same, but for gate n of FASTLSTM_GRU; each may be NULL
} fastlstm_gradients;

// Of its peepholes, (H) each.
typedef struct fastlstm_peephole_gradients {
  void *i, *f, *o;
} fastlstm_peephole_gradients;

// Of what normalises, shaped as fastlstm_norms.
typedef struct fastlstm_norm_gradients {
  void *n;
  void *nx, *nh;
  void *nc, *bias_nc;
} fastlstm_norm_gradients;

typedef struct fastlstm_back_io {
  size_t struct_size;  // sizeof(fastlstm_back_io)
  const void *tape;    // from a forward pass over the same x, lengths, dropout, seed and noise
  const void *x;       // as in fastlstm_io
  int64_t x_t, x_b;
  const int64_t *lengths;  // as in fastlstm_io
  const int64_t *starts;   // as in fastlstm_io; for dy, dcells and dx as well
  const void *dy;          // (T, B, D P) gradient of y, or NULL for zeros; padding is not read
  int64_t dy_t, dy_b;
  const void *dcells;  // (T, B, D H) gradient of all c of the last layer, or NULL
  int64_t dcells_t, dcells_b;
  const void *dh_n, *dc_n;  // (L D, B, P) and (L D, B, H) contiguous, or NULL for zeros
  void *dx;                 // (T, B, I) out, or NULL; padding becomes zero
  int64_t dx_t, dx_b;
  void *dh_0, *dc_0;                    // (L D, B, P) and (L D, B, H) contiguous out, or NULL
  const fastlstm_gradients *gradients;  // [layer * directions + direction] out, or NULL
  int32_t accumulate;                   // add to gradients instead of overwriting them
  double dropout;
  uint64_t seed;
  fastlstm_poll *poll;  // as in fastlstm_io, like the rest
  void *poll_arg;
  int32_t *straggled;
  // [layer * directions + direction] out; given where there are peepholes and `gradients`, else NULL.
  const fastlstm_peephole_gradients *peepholes;
  const fastlstm_norm_gradients *norms;  // likewise, where there is layer normalisation
  int64_t noisy;                         // as in the forward pass
} fastlstm_back_io;

// Statuses as of fastlstm_forward. dcells, dc_n and dc_0 are NULL for a cell without c.
fastlstm_status fastlstm_backward(const fastlstm_model *model, const fastlstm_plan *plan,
                                  const fastlstm_back_io *io, void *workspace);

// Structures of zeros that know their size: `fastlstm_io io = FASTLSTM_IO_INIT;`
#ifdef __cplusplus
#define FASTLSTM_SPEC_INIT    {sizeof(fastlstm_spec)}
#define FASTLSTM_IO_INIT      {sizeof(fastlstm_io)}
#define FASTLSTM_BACK_IO_INIT {sizeof(fastlstm_back_io)}
#else
#define FASTLSTM_SPEC_INIT    {.struct_size = sizeof(fastlstm_spec)}
#define FASTLSTM_IO_INIT      {.struct_size = sizeof(fastlstm_io)}
#define FASTLSTM_BACK_IO_INIT {.struct_size = sizeof(fastlstm_back_io)}
#endif

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#ifdef __cplusplus
}
#endif

#endif
