// SPDX-License-Identifier: BSD-3-Clause
// How a run is split and blocked. A cost model in nanoseconds ranks the candidates: it need not
// be right, only rank alike on every machine, since no choice changes a bit of the result.
#include "internal/plan.h"

#include <string.h>

#include "internal/check.h"
#include "platform/team.h"

// The cost model's constants, in nanoseconds and bytes. They are rounded from measurements of single parts on
// a Zen 5 at 4 GHz with AVX-512, or estimated there. No ratio was recorded for any of them alone: they need
// to rank candidates, not to be right. What differs most between machines, the caches, platform/cpu.c says.
static const double VECTOR_FMA_PER_NS = 8;  // two a cycle at 4 GHz
static const double CELL_NS = 8;            // the activations of one vector of an LSTM's cells
static const double OUTPUT_NS = 2;          // a panel of one row of a second stage, from sums to h and y
static const double STEP_NS = 20;           // the chain of dependent operations of one step
static const double TILE_NS = 3;            // the call of one tile
static const double BARRIER_NS = 120;       // one barrier of two threads
static const double LAUNCH_NS = 8000;       // waking a team that sleeps
static const double POLL_NS = 2e7;          // work between two chances to interrupt a run: 20 ms
// Of the time to read weights, the share that arithmetic never hides, even where a cache is faster than a
// tile.
static const double UNHIDDEN = 0.035;

// Share of the multiply-add peak that a tile of one row reaches, of FEW_ROWS at most, and of more. Estimated;
// no ratio was recorded.
static const double ONE_ROW_PEAK = 0.7, FEW_ROWS_PEAK = 0.9, ROWS_PEAK = 0.97;
enum { FEW_ROWS = 3 };

// A team must promise to take this share of one thread's time at most: its second core may be busy. Chosen;
// no ratio was recorded.
static const double TEAM_SHARE = 0.9;

// Training: shards of the batch, and rows of gate gradients of a chunk, which become weight gradients while
// they are still in cache. Bytes of a shard's weight gradients at most: they stay in a second level.
static const double SHARD_BYTES = 256e3;
enum {
  SHARD_ROWS = 8,  // two shards need a batch of twice as many rows, further ones four times as many each
  MOST_SHARDS = 16,
  CHUNK_ROWS = 512,  // of which the gate gradients of a gate take 2 KB a unit in float32
};

// Steps projected ahead at a time: as many as fill PROJECT_BYTES with sums, which a second level holds, but
// PROJECT_ROWS rows at least, so that reading the input weights is spread over many rows.
enum { PROJECT_BYTES = 128 << 10, PROJECT_ROWS = 192 };

// Who projects ahead, see projects_ahead. Where no ratio is given, none was recorded; `bench --planner`
// compares.
enum {
  FEW_PROJECTED = 4,  // rows of a call of one step below which there is too little to project
  FEW_INPUTS = 4,     // inputs up to which the projection is cheaper than its sums' trip through memory
  FEW_PERSISTENT_INPUTS = 8,  // likewise in a persistent kernel, whose sums never leave the registers
  SMALL_LAYER = 24,           // units of one whose persistent kernel waits for its own results, so that
  MORE_INPUTS = 32,           // a product of so many inputs costs it little: 1.02 to 1.2 times as fast
  MANY_ROWS = 12,             // rows from which on a step makes good use of the input weights it reads
};

// A block of steps of several layers: its inner outputs take INNER_BYTES at most, which a second level holds,
// but INNER_STEPS steps at least, so that reading each layer's weights is spread over many steps. No ratio
// was recorded.
static const double INNER_BYTES = 512e3, INNER_STEPS = 32;

// What the cost model leaves out, since all plans pay for it alike: normalising a row, and drawing all masks
// of noise for a vector of a row's units. Without them blocks of small layers took 0.3 to 1.3 s instead of 20
// ms. Zen 5, H1 to H64, B1 to B256: 130 to 320 ns a row, and 190 to 350 ns a vector.
static const double NORM_NS = 200, NOISE_NS = 300;

// Share of the multiply-add peak that a tile of `rows` rows reaches.
static double row_efficiency(int64_t rows)
{
  return rows == 1 ? ONE_ROW_PEAK : rows <= FEW_ROWS ? FEW_ROWS_PEAK : ROWS_PEAK;
}

// Bytes a nanosecond at which a step's weights are read.
static double weights_rate(const fastlstm_model *model, double bytes)
{
  return bytes <= model->caches.l2_bytes ? model->caches.l2_rate : model->caches.llc_rate;
}

// What the largest step of a run reads its weights from: 1, 2 or 3, the level of cache, or 4, memory.
static int32_t level_of(const fastlstm_model *model, double bytes)
{
  const fl_caches *c = &model->caches;
  return bytes <= c->l1_bytes ? 1 : bytes <= c->l2_bytes ? 2 : bytes <= c->l3_bytes ? 3 : 4;
}

// Adds `times` steps of one worker: rows by panels, the product of `units` with recurrent weights and the
// input product included; `cell_ns`: what follows for a row of a panel. A call of a single step finds no
// weights from the step before, but what the call before has left of the whole model's.
static void add_steps(const fastlstm_model *model, int64_t rows, int64_t panels, int64_t inputs,
                      int64_t units, double cell_ns, int64_t steps, double times, fl_estimate *sum)
{
  const fl_kernels *k = model->kernels;
  const double vectors = FL_PANEL * (double)panels,
               row_bytes = vectors * k->lanes * (double)fl_elem(k->dtype);
  const double peak = (double)rows * vectors * (double)(units + inputs) / VECTOR_FMA_PER_NS,
               fma = peak / row_efficiency(rows);
  const double bytes = row_bytes * (double)(units + (steps == 1 ? inputs : 0));
  const double all =
      steps == 1 ? (double)model->weight_bytes * (double)panels / (double)model->panels : bytes;
  const int32_t level = level_of(model, all);
  const double rate = level == 4 ? model->caches.memory_rate : weights_rate(model, all);
  const double read = level == 1 ? 0 : bytes / rate;
  const double tiles = (double)(fl_ceil_div(rows, k->tile_rows) * panels);
  const double rest = tiles * TILE_NS + (double)(rows * panels) * cell_ns + STEP_NS;
  sum->total += times * ((fma > read ? fma : read) + rest);
  sum->multiply += times * peak;
  sum->read += times * read;
  if (level > sum->level) sum->level = level;
}

// Into how many shares the hidden units can be divided: forward, by panels that hold whole unit vectors;
// backward, by two vectors. Not at all where the cell takes all sums of a row together.
static int32_t unit_shares(const fastlstm_model *model, fastlstm_purpose purpose)
{
  if (model->cell->row_sums) return 1;
  return purpose == FASTLSTM_BACK ? (model->unit_vectors + 1) / 2
                                  : (int32_t)fl_ceil_div(model->panels, fl_bundle_panels(model->cell));
}

fl_estimate fl_plan_estimate(const fastlstm_model *model, const fastlstm_plan *plan)
{
  const fastlstm_spec *spec = &model->spec;
  const int64_t rows = fl_ceil_div(plan->batch, plan->row_groups);
  const int64_t bundle = fl_bundle_panels(model->cell);
  const int64_t panels = fl_ceil_div(fl_ceil_div(model->panels, bundle), plan->unit_groups) * bundle;
  const int64_t output_panels = fl_ceil_div(model->output_panels, plan->unit_groups);
  const double turns = (double)spec->directions / plan->dir_groups;
  fl_estimate sum = {.total = plan->threads > 1 ? LAUNCH_NS : 0, .level = 1};
  for (int64_t l = 0; l < spec->num_layers && l < 2; ++l) {
    const int64_t inputs = model->layers[l * spec->directions].inputs;
    const double layers = l == 0 ? 1 : (double)(spec->num_layers - 1);
    const double times = layers * turns * (double)plan->steps;
    add_steps(model, rows, panels, inputs, model->outputs, CELL_NS, plan->steps, times, &sum);
    if (plan->unit_groups > 1) sum.total += times * BARRIER_NS;
    if (!model->seconds) continue;
    add_steps(model, rows, output_panels, model->seconds[l * spec->directions].inputs, spec->hidden_size,
              OUTPUT_NS, plan->steps, times, &sum);
    if (plan->unit_groups > 1) sum.total += times * BARRIER_NS;
  }
  return sum;
}

static double plan_ns(const fastlstm_model *model, const fastlstm_plan *plan)
{
  return fl_plan_estimate(model, plan).total;
}

static void choose_split(const fastlstm_model *model, int32_t threads, fastlstm_plan *plan)
{
  if (plan->row_groups > 1) {  // shards are given: threads take them in turn
    const double shard = plan_ns(model, plan), shards = plan->row_groups;
    const int32_t team = threads < plan->row_groups ? threads : plan->row_groups;
    if ((double)fl_ceil_div(plan->row_groups, team) * shard + LAUNCH_NS < TEAM_SHARE * shards * shard)
      plan->threads = team;
    return;
  }
  const int32_t most_dirs = plan->purpose == FASTLSTM_BACK ? 1 : model->spec.directions;
  const int32_t most_units = unit_shares(model, plan->purpose);
  fastlstm_plan best = *plan;
  best.threads = best.dir_groups = best.row_groups = best.unit_groups = 1;
  double best_ns = TEAM_SHARE * plan_ns(model, &best);
  for (int32_t dirs = 1; dirs <= most_dirs && dirs <= threads; ++dirs) {
    const int64_t most_rows = plan->purpose == FASTLSTM_INFER ? plan->batch : 1;
    for (int32_t rows = 1; rows <= threads / dirs && rows <= most_rows; ++rows) {
      for (int32_t units = 1; units <= threads / dirs / rows && units <= most_units; ++units) {
        fastlstm_plan candidate = *plan;
        candidate.dir_groups = dirs;
        candidate.row_groups = rows;
        candidate.unit_groups = units;
        candidate.threads = dirs * rows * units;
        const double ns = candidate.threads > 1 ? plan_ns(model, &candidate) : best_ns;
        if (ns < best_ns) {
          best_ns = ns;
          best = candidate;
        }
      }
    }
  }
  *plan = best;
}

// Share of the time to read weights that arithmetic does not hide. In blocks, all rows compute while the next
// weights arrive; else only the first tile does, and the others find them there.
static double unhidden(const fastlstm_model *model, int64_t rows, double bytes)
{
  const fl_kernels *k = model->kernels;
  const int blocks = fl_beyond_l2(model, bytes);
  const double row_rate = VECTOR_FMA_PER_NS * k->lanes * (double)fl_elem(k->dtype);
  const double share = 1 - weights_rate(model, bytes) * (double)(blocks ? rows : k->tile_rows) / row_rate;
  const double least = blocks ? 0 : UNHIDDEN;
  return share > least ? share : least;
}

// Projecting ahead reads the input weights once for many steps; inside the step it spares the gates their
// trip through memory. Few rows make bad use of weights, so they project ahead; MANY_ROWS rows and more do if
// they would wait longer for the weights than the trip takes. Never ahead: hardly any rows and steps, hardly
// any inputs, one row of a single persistent layer with few inputs.
static int projects_ahead(const fastlstm_model *model, const fastlstm_plan *plan)
{
  const int64_t rows = plan->batch > 0 ? fl_ceil_div(plan->batch, plan->row_groups) : 1;
  const int64_t inputs = model->spec.input_size;
  const int64_t row_bytes = (int64_t)model->vectors * model->kernels->lanes * fl_elem(model->spec.dtype);
  if (fl_needs_ahead(model)) return 1;
  const int64_t later = model->spec.num_layers > 1 ? model->layers[model->spec.directions].inputs : 0;
  if (rows * plan->steps == 1 || (plan->steps == 1 && rows < FEW_PROJECTED) ||
      (inputs <= FEW_INPUTS && later <= FEW_INPUTS))
    return 0;
  const int64_t few = model->spec.hidden_size <= SMALL_LAYER ? MORE_INPUTS : FEW_PERSISTENT_INPUTS;
  if (rows == 1 && plan->unit_groups == 1 && fl_is_persistent(model) && inputs <= few &&
      model->spec.num_layers == 1)
    return 0;
  // Tiles with two chains are half as high, so inside the step the input product lacks independent sums.
  if (model->layers[0].chains > 1) return 1;
  const double share = 1.0 / plan->unit_groups;
  const double bytes = share * (double)row_bytes * (double)inputs;
  const double all = bytes + share * (double)row_bytes * (double)model->outputs;
  const double read =
      bytes <= model->caches.l1_bytes ? 0 : unhidden(model, rows, all) * bytes / weights_rate(model, all);
  const double trip = 2 * share * (double)row_bytes * (double)rows / model->caches.l2_rate;
  return rows < MANY_ROWS || read >= trip;
}

// Steps that are projected together, where they are projected ahead.
static int64_t project_steps(const fastlstm_model *model, const fastlstm_plan *plan)
{
  const int64_t rows = plan->batch > 0 ? fl_ceil_div(plan->batch, plan->row_groups) : 1;
  const int64_t row_bytes = (int64_t)model->vectors * model->kernels->lanes * fl_elem(model->spec.dtype);
  int64_t steps = fl_ceil_div(PROJECT_BYTES, row_bytes * rows);
  if (steps * rows < PROJECT_ROWS) steps = fl_ceil_div(PROJECT_ROWS, rows);
  return steps < plan->steps ? steps : plan->steps > 0 ? plan->steps : 1;
}

// Of a worker's step of all layers: what normalisation and noise add to the estimate.
static double options_ns(const fastlstm_model *model, const fastlstm_plan *plan)
{
  const fastlstm_options *o = &model->spec.options;
  const int64_t layers = model->spec.num_layers * (model->spec.directions / plan->dir_groups);
  const double rows = (double)(plan->batch > 0 ? fl_ceil_div(plan->batch, plan->row_groups) : 0);
  const double vectors = (double)fl_ceil_div(model->unit_vectors, plan->unit_groups);
  const double noise = plan->purpose == FASTLSTM_TRAIN && fl_has_noise(o) ? NOISE_NS * vectors : 0;
  return (double)layers * rows * ((o->layer_norm ? NORM_NS : 0) + noise);
}

static int64_t choose_block_steps(const fastlstm_model *model, const fastlstm_plan *plan)
{
  const fastlstm_spec *spec = &model->spec;
  const double all = plan_ns(model, plan) - (plan->threads > 1 ? LAUNCH_NS : 0);
  const double step = all / (double)(plan->steps > 0 ? plan->steps : 1) + options_ns(model, plan);
  double block = POLL_NS / (step > 1 ? step : 1);
  if (spec->directions == 1 && spec->num_layers > 1) {
    // Inner outputs of a block stay in cache; long enough to reuse each layer's weights.
    const double row = (double)(plan->batch * model->outputs * fl_elem(spec->dtype));
    const double cached = INNER_BYTES / (row > 1 ? row : 1);
    const double least = cached < INNER_STEPS ? INNER_STEPS : cached;
    if (block > least) block = least;
  }
  const int64_t project = plan->project_steps ? plan->project_steps : 1;
  int64_t steps = block < (double)plan->steps ? (int64_t)block : plan->steps;
  if (steps < 1) steps = 1;
  return fl_round_up(steps, project);  // whole projections
}

// Shards of the batch for training, from the shapes alone. A shard's thread sums its own weight
// gradients next to its other work, if they fit into its cache; else threads share hidden units.
static int32_t training_shards(const fastlstm_model *model, int64_t batch)
{
  const fastlstm_spec *spec = &model->spec;
  const int64_t inner = spec->num_layers > 1 ? spec->directions * model->outputs : 0;
  const double inputs = (double)(inner > spec->input_size ? inner : spec->input_size);
  const double each =
      (double)fl_weight_gates(model->cell) * (inputs + (double)model->outputs) + (double)spec->proj_size;
  const double bytes = (double)spec->hidden_size * each * (double)fl_elem(spec->dtype);
  if (bytes > SHARD_BYTES || batch < 2 * SHARD_ROWS) return 1;
  const int64_t shards = batch / (4 * SHARD_ROWS);
  return shards < 2 ? 2 : shards > MOST_SHARDS ? MOST_SHARDS : (int32_t)shards;
}

// Steps of the backward pass whose gate gradients become weight gradients together.
static int64_t choose_chunk_rows(const fastlstm_plan *plan)
{
  const int64_t rows = fl_ceil_div(plan->batch, plan->row_groups), all = rows * plan->steps;
  const int64_t chunk = rows > CHUNK_ROWS ? rows : CHUNK_ROWS / (rows > 0 ? rows : 1) * rows;
  return chunk < all ? chunk : all;
}

// What follows from the split, and from whether inputs are projected ahead.
static fastlstm_status lay_out_forward(const fastlstm_model *model, int ahead, fastlstm_plan *plan)
{
  plan->project_steps = ahead ? project_steps(model, plan) : 0;
  plan->block_steps = choose_block_steps(model, plan);
  fl_run_layout layout;
  if (!fl_run_layout_of(model, plan, &layout)) return FASTLSTM_TOO_LARGE;
  _Static_assert(sizeof layout <= sizeof plan->layout, "a plan has no room for its layout");
  memcpy(plan->layout, &layout, sizeof layout);  // 30 ns, a hundredth of a small call, are not spent again
  plan->workspace_bytes = (size_t)layout.total;
  return FASTLSTM_OK;
}

static fastlstm_status lay_out_backward(const fastlstm_model *model, fastlstm_plan *plan)
{
  plan->chunk_rows = choose_chunk_rows(plan);
  fl_back_layout layout;
  if (!fl_back_layout_of(model, plan, &layout)) return FASTLSTM_TOO_LARGE;
  plan->workspace_bytes = (size_t)layout.total;
  return FASTLSTM_OK;
}

fastlstm_status fastlstm_plan_make(const fastlstm_model *model, fastlstm_purpose purpose, int64_t steps,
                                   int64_t batch, int32_t threads, fastlstm_plan *plan)
{
  fastlstm_status status = fl_check_plan(model, purpose, threads, plan);
  if (status == FASTLSTM_OK) status = fl_check_extent(&model->spec, purpose, steps, batch);
  if (status != FASTLSTM_OK) return status;
  const int32_t most = fl_team_most();
  if (threads > most) threads = most;
  memset(plan, 0, sizeof *plan);
  plan->model = model;
  plan->purpose = purpose;
  plan->steps = batch > 0 ? steps : 0;  // however many there are, nothing happens in them
  plan->batch = batch;
  plan->threads = plan->dir_groups = plan->row_groups = plan->unit_groups = 1;
  if (purpose != FASTLSTM_INFER) plan->row_groups = training_shards(model, batch);
  // BLAS has threads of its own, and OpenBLAS complains of being called from a team's.
  const int alone = model->spec.gemm_blas && purpose != FASTLSTM_BACK;
  if (threads > 1 && !alone && steps > 0 && batch > 0) choose_split(model, threads, plan);
  if (purpose != FASTLSTM_BACK) return lay_out_forward(model, projects_ahead(model, plan), plan);
  return lay_out_backward(model, plan);
}

fastlstm_status fl_plan_force(const fastlstm_model *model, const fl_choice *choice, fastlstm_plan *plan)
{
  if (plan->model != model) return FASTLSTM_OTHER_PLAN;
  const int infer = plan->purpose == FASTLSTM_INFER, back = plan->purpose == FASTLSTM_BACK;
  const int64_t threads = (int64_t)choice->dir_groups * choice->row_groups * choice->unit_groups;
  // In training the shards are given, and row groups are the threads that take them in turn.
  const int64_t most_rows = infer ? plan->batch : plan->row_groups;
  const int one_shard = infer || plan->row_groups == 1;
  const int64_t most_dirs = one_shard && !back ? model->spec.directions : 1;
  const int64_t most_units = one_shard ? unit_shares(model, plan->purpose) : 1;
  if (choice->dir_groups < 1 || choice->dir_groups > most_dirs || choice->row_groups < 1 ||
      choice->row_groups > most_rows || choice->unit_groups < 1 || choice->unit_groups > most_units ||
      threads > fl_team_most() || (model->spec.gemm_blas && !back && threads > 1) ||
      (fl_needs_ahead(model) && !back && !choice->ahead))
    return FASTLSTM_INVALID;
  plan->threads = (int32_t)threads;
  plan->dir_groups = choice->dir_groups;
  if (infer) plan->row_groups = choice->row_groups;
  plan->unit_groups = choice->unit_groups;
  return back ? lay_out_backward(model, plan) : lay_out_forward(model, choice->ahead, plan);
}

size_t fastlstm_plan_bytes(void) { return sizeof(fastlstm_plan); }

size_t fastlstm_plan_workspace_bytes(const fastlstm_plan *plan) { return plan ? plan->workspace_bytes : 0; }

int32_t fastlstm_plan_threads(const fastlstm_plan *plan) { return plan ? plan->threads : 0; }
