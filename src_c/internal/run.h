// SPDX-License-Identifier: BSD-3-Clause
// One run: what its threads share, and what each has for itself. Private to the time loops.
//
//   forward.c   team -> worker (a direction, some rows, some panels) -> block of steps -> layer
//   segment.c   layer and block -> project | step, step, step ... (barrier after each, where workers
//               share the hidden units)
//   backward.c  team -> worker (some rows, some column panels) -> layer, from the last to the first
//   chunk.c     layer -> chunk of steps -> step, step ... | weight gradients | gradients of the inputs
//   rows.c      which row of the batch stands where, row pointers
//   noise.c     masks: of the run, and where they act outside of steps
//   state.c     states in and out
//   run.c       the team, its barriers, how the caller stops a run
//   slabs.c     a kernel's work in pieces, between which the caller may stop the run
//
// A run that is asked to stop computes no further, but its threads go on through their loops and barriers
// until fl_stopped tells all of them to leave.
//
// Group g of n has every n-th of the rows sorted by falling length, in falling length. So those of a group
// that still run at a step are its first ones, and each group gets its share of the long ones. Without
// lengths rows stand as in the batch.
#ifndef FL_RUN_H
#define FL_RUN_H

#include "internal/plan.h"
#include "platform/team.h"

typedef struct run {
  const fastlstm_model *model;
  const fastlstm_plan *plan;
  const fastlstm_io *io;         // of a forward pass
  const fastlstm_back_io *back;  // of a backward pass
  fl_run_layout layout;
  fl_back_layout back_layout;
  fl_tape_layout tape_layout;
  char *space;
  char *tape;  // or NULL
  int64_t elem;
  int64_t *order;           // [B] row, as dealt to the groups -> place in the batch
  int64_t *sorted_lengths;  // [B] of the rows in their order; fastlstm_io.lengths are in that of the batch
  int64_t *counts;          // [T + 2] room for sorting
  uint32_t key[2];          // of all masks
  fl_mask masks[FL_MASKS];
  int noisy;  // options of the model have masks in this pass
  fastlstm_poll *poll;
  void *poll_arg;
  uint32_t fp_mode;  // floating-point mode of thread 0 before the run; given back around polls
  fl_barrier *team;  // [threads + 1]: [0] of the team, [1 + g] of a group
  atomic_int stop;
  atomic_llong waited;  // nanoseconds that threads waited for stragglers
  double finished;      // when thread 0 had done its part of a team's work
  double started;
  double polled;  // when poll was last called, by thread 0 only
} run;

typedef struct worker {
  run *r;
  int first_dir, last_dir;                       // directions it runs
  int64_t row_begin, row_end;                    // of its row group
  int32_t panel_begin, panel_end;                // forward
  int32_t vector_begin, vector_end;              // unit vectors
  int32_t output_panel_begin, output_panel_end;  // forward: of the second stage, if there is one
  int32_t output_begin, output_end;              // unit vectors of h
  fl_barrier *group;                             // workers that share its rows by hidden units, or NULL
  fl_barrier *team;                              // NULL when alone
  int thread;
  char *projected, *gathered, *sums;
  char **x_at, **y_at, **cells_at, **m_at, **project_at;  // row pointers
} worker;

// Rows of an array of steps: row (t, b) at base + t * t_bytes + b * row_bytes, or, where starts are given,
// at base + (starts[t] + b) * row_bytes.
typedef struct rows_of {
  char *base;
  int64_t t_bytes, row_bytes;
  int by_batch;  // b is the place in the batch, else the row
  const int64_t *starts;
} rows_of;

typedef struct segment {
  const fl_layer *layer;
  int64_t layer_dir;  // layer * directions + direction
  int dir;
  rows_of x, y, cells;
  int has_cells;
} segment;

// rows.c
int64_t fl_slice_begin(int64_t count, int64_t parts, int64_t part);
void fl_order_rows(run *r, const int64_t *lengths);
int64_t fl_running(const worker *w, int64_t t, int64_t end);  // end of the rows longer than t
// Where step t leaves h, m (of the first of two stages), c (NULL for a cell without) and its activations
// (NULL where neither the backward pass nor a second stage is to read them).
char *fl_h_buffer(const run *r, int64_t layer_dir, int64_t t);
char *fl_m_buffer(const run *r, int64_t layer_dir, int64_t t);
char *fl_whole_buffer(const run *r, int64_t layer_dir);  // h, where its buffers have what products read of it
// c and h of step t before noise, where the tape keeps them, else NULL.
char *fl_new_c_buffer(const run *r, int64_t layer_dir, int64_t t);
char *fl_new_h_buffer(const run *r, int64_t layer_dir, int64_t t);
char *fl_c_buffer(const run *r, int64_t layer_dir, int64_t t);
char *fl_activations(const run *r, int64_t layer_dir, int64_t t);
// How many of `units` unit vector v has; `begin`: the first of them.
int64_t fl_vector_units(const run *r, int64_t units, int64_t v, int64_t *begin);
rows_of fl_user_rows(const run *r, const void *base, int64_t t, int64_t b, int64_t first_column);
rows_of fl_inner_rows(const run *r, int64_t layer, int dir, int64_t block);
void fl_set_rows(const worker *w, const rows_of *rows, int dir, int64_t t, int64_t from, int64_t to,
                 char **at);
char *fl_row_at(const run *r, const rows_of *rows, int64_t row, int64_t time);
void fl_zero_padding(const worker *w, const rows_of *rows, int64_t columns);
void fl_advance_rows(const worker *w, const rows_of *rows, int dir, int64_t t, int64_t steps, int64_t count,
                     char **at);

// Whether products read part of h, or layers part of their inputs.
static inline int fl_masks_h(const run *r)
{
  return r->noisy && r->model->spec.options.variational_dropout > 0;
}
static inline int fl_masks_inputs(const run *r)
{
  return r->noisy && r->model->spec.options.input_dropout > 0;
}

// noise.c
void fl_set_masks(run *r, double dropout, uint64_t seed, int64_t noisy);
void fl_drop(const worker *w, const rows_of *rows, fl_mask_kind kind, int64_t place, int64_t t, int64_t count,
             int64_t first, int64_t columns);
void fl_drop_h(const run *r, int64_t layer_dir, int64_t row, int64_t first, int64_t count, void *h);
fl_noise fl_noise_of(const worker *w, int64_t layer_dir, int dir);  // of step 0
rows_of fl_masked_inputs(const run *r);
void fl_mask_inputs(const worker *w);

// run.c
void fl_run_team(run *r, const fl_common_layout *layout, const int64_t *lengths, fl_team_body *body,
                 int32_t *straggled);
void fl_wait_for(const worker *w, fl_barrier *barrier);  // nothing to wait for if NULL
int fl_stopped(const worker *w);
enum { FL_POLL_ROWS = 1 << 14 };  // whose states are set up between two chances to stop
int fl_polled(const worker *w);   // lets the caller stop the run; returns whether it has been

// slabs.c: kernels on jobs of any size. Of a run that has been stopped, nothing is computed any more.
int fl_is_large(const worker *w, int64_t rows, int64_t inputs);  // a step: too large to go unasked
int64_t fl_slab_rows(int64_t rows, double flops);                // of a slab, when one row takes `flops`
void fl_step_slabs(const worker *w, const fl_layer *layer, const fl_step *job);
void fl_project_slabs(const worker *w, const fl_layer *layer, const fl_project *job);
void fl_back_step_slabs(const worker *w, const fl_layer *layer, const fl_back_step *job);
void fl_dgrad_slabs(const worker *w, const fl_layer *layer, const fl_dgrad *job);
void fl_wgrad_slabs(const worker *w, const fl_layer *layer, const fl_wgrad *job);

// state.c
void fl_load_state(const worker *w, int64_t layer_dir);
void fl_store_state(const worker *w, int64_t layer_dir);

// segment.c
void fl_run_segment(const worker *w, const segment *s, int64_t t_begin, int64_t t_end);

#endif
