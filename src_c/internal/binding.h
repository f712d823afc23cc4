// SPDX-License-Identifier: BSD-3-Clause
// What our own Python binding takes beyond the public header; fastlstm/_core.pxd mirrors both.
//
// Nothing in here is a promise to anybody: it may change with every version, it checks little of what it is
// given, and a shared library does not show it. What the library's own files need of it they include too.
#ifndef FL_BINDING_H
#define FL_BINDING_H

#include "fastlstm.h"

typedef struct fl_kernels fl_kernels;  // see kernels/kernels.h

// ---- instruction sets and caches (platform/cpu.c) ----
const fl_kernels *fl_kernels_for(fastlstm_isa isa, fastlstm_dtype dtype);  // NULL if not available

// What the last-level cache is taken to be. Plans differ, results do not.
typedef enum {
  FL_CACHES_OF_CPU = 0,
  FL_CACHES_FAST = 1,
  FL_CACHES_SLOW = 2,
  FL_CACHES_MIDDLE = 3,
} fl_cache_kind;

// Bytes of the caches that serve a core's data, each 0 where the processor does not tell.
typedef struct fl_cache_sizes {
  int64_t l1, l2, l3;
} fl_cache_sizes;
fl_cache_sizes fl_cache_sizes_of_cpu(void);

// ---- content (extra/hash.c) ----
// 64 bits that say whether memory changed: not against an adversary, but any changed word of 8 bytes
// changes them but for a chance near 2^-64. The same for every isa, which must be available here.
uint64_t fl_hash(fastlstm_isa isa, const void *data, size_t bytes, uint64_t seed);

// ---- model (model/pack.c) ----
// For tests. Call before any plan is made of the model: plans then assume caches of this kind.
void fl_model_assume_caches(fastlstm_model *model, fl_cache_kind kind);

// How a layer's hidden units are cut into panels (kernels/product/tile.inc.h), for reports.
typedef struct fl_panels {
  int32_t lanes;      // of a vector
  int32_t bundle;     // panels that hold whole unit vectors only together: 3 of a GRU, else 1
  int32_t full;       // whole panels, or whole bundles of them
  int32_t units;      // that a whole one has room for
  int32_t remainder;  // vectors of the remainder panel, or of the last bundle: 0 (there is none) or more
  int32_t rest;       // units that it has room for
  int32_t chains;     // partial sums of the recurrent product
} fl_panels;
fl_panels fl_model_panels(const fastlstm_model *model);

// ---- plan (plan/plan.c) ----
typedef struct fastlstm_plan {
  const fastlstm_model *model;  // that it is a plan for
  fastlstm_purpose purpose;
  int64_t steps, batch;
  int32_t threads;     // of the team, 1 for a call without one
  int32_t dir_groups;  // 2: the directions run side by side
  // Parts of the batch that run without barriers between them. For FASTLSTM_INFER, dir_groups x row_groups x
  // unit_groups = threads; else their number is a function of the shapes alone, since gradients are summed
  // part by part, and threads take turns.
  int32_t row_groups;
  int32_t unit_groups;    // threads that share a row group by hidden units (one barrier a step)
  int64_t project_steps;  // steps projected ahead of the recurrence; 0: projection inside the step
  int64_t block_steps;    // steps of one layer before the next one (or the next poll) has its turn
  int64_t chunk_rows;  // FASTLSTM_BACK: rows whose gate gradients are turned into weight gradients at a time
  size_t workspace_bytes;
  int64_t layout[24];  // forward: where everything stands in the workspace, an fl_run_layout
} fastlstm_plan;

// What the cost model expects of a forward run, in nanoseconds of one of its threads. Its constants are of
// one machine, so these are for comparing with each other.
typedef struct fl_estimate {
  double total;     // with activations, latency, ends of tiles, barriers and the start of a team
  double multiply;  // the multiply-adds alone, at their peak
  double read;      // reading weights alone
  int32_t level;    // of cache from which most weights come, 1 to 3; 4: memory
} fl_estimate;
fl_estimate fl_plan_estimate(const fastlstm_model *model, const fastlstm_plan *plan);

// For measurements: what a plan does instead of what it chose. No result changes.
typedef struct fl_choice {
  int32_t dir_groups, row_groups, unit_groups;  // as in fastlstm_plan; in training, row groups are threads
  int32_t ahead;                                // inputs are projected ahead of the recurrence
} fl_choice;
fastlstm_status fl_plan_force(const fastlstm_model *model, const fl_choice *choice, fastlstm_plan *plan);

// ---- masks (run/noise.c) ----
// Weight drop of W_hh, or of its gradients: of layer * directions + direction `place`, in place.
void fl_drop_weights(const fl_kernels *kernels, void *weights, int64_t rows, int64_t columns, double p,
                     uint64_t seed, int64_t place);

// ---- threads (platform/team_openmp.c or team_serial.c, clock.c) ----
int fl_team_max(void);   // threads that the run-time would give
int fl_team_most(void);  // threads that a team may have now: fewer for a while where the system refused more
int fl_team_cpus(void);  // CPUs that the run-time binds its threads to, 0 where it binds none
void fl_team_forked(void);  // call in a forked child: runs are single-threaded from then on
const char *fl_team_name(void);

double fl_now(void);  // seconds of a monotonic clock

// ---- limits of the machine, for benchmarks (extra/measure.c) ----
double fl_measure_fma(const fl_kernels *kernels, double seconds);  // flop/s of one thread
double fl_measure_read(const fl_kernels *kernels, const void *data, int64_t bytes,
                       double seconds);  // bytes/s

#endif
