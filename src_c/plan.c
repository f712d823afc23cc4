// SPDX-License-Identifier: BSD-3-Clause
// How a run is split and blocked. A cost model in nanoseconds ranks the candidates: it need not
// be right, only rank alike on every machine, since no choice changes a bit of the result.
#include "plan.h"

#include <string.h>

#include "team.h"

// Rates and sizes are rounded from measurements on Zen 5; what a step, a tile, a barrier and a launch
// cost is estimated. Enough to rank candidates.
static const double VECTOR_FMA_PER_NS = 8;  // two a cycle at 4 GHz
static const double L1_BYTES = 40e3;        // weights that stay in the first-level cache
static const double L2_BYTES = 900e3;       // ... in the second
static const double L2_BYTES_PER_NS = 200;  // reading from the second-level cache
static const double L3_BYTES_PER_NS = 90;   // ... from beyond
static const double CELL_NS = 8;            // activations of one vector of cells
static const double STEP_NS = 20;           // latency of a step's dependent chain
static const double TILE_NS = 3;            // a call
static const double BARRIER_NS = 120;
static const double LAUNCH_NS = 8000;  // waking a team
static const double POLL_NS = 2e7;     // work between two chances to interrupt

// Rows projected at a time: enough to use each input weight well, and what a cache holds anyway.
enum { PROJECT_BYTES = 128 << 10, PROJECT_ROWS = 384 };

static int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Share of the multiply-add peak that a tile of so many rows reaches.
static double row_efficiency(int64_t rows) { return rows == 1 ? 0.7 : rows <= 3 ? 0.9 : 0.97; }

static double weights_ns(double bytes)
{
  return bytes <= L1_BYTES ? 0 : bytes <= L2_BYTES ? bytes / L2_BYTES_PER_NS : bytes / L3_BYTES_PER_NS;
}

// One step of one worker: rows by panels, the input part included.
static double step_ns(const fl_model *model, int64_t rows, int64_t panels, int64_t inputs)
{
  const fl_kernels *k = model->kernels;
  const int64_t units = model->spec.hidden_size;
  const double vectors = 4.0 * (double)panels;
  const double fma =
      (double)rows * vectors * (double)(units + inputs) / VECTOR_FMA_PER_NS / row_efficiency(rows);
  const double bytes = vectors * k->lanes * (double)fl_elem(k->dtype) * (double)units;
  const double memory = weights_ns(bytes);
  const double tiles = (double)(ceil_div(rows, k->max_rows) * panels);
  return (fma > memory ? fma : memory) + tiles * TILE_NS + (double)(rows * panels) * CELL_NS + STEP_NS;
}

static double plan_ns(const fl_model *model, const fl_plan *plan)
{
  const fl_spec *spec = &model->spec;
  const int64_t rows = ceil_div(plan->batch, plan->row_groups);
  const int64_t panels = ceil_div(model->panels, plan->unit_groups);
  const double turns = (double)spec->directions / plan->dir_groups;
  const int threads = plan->dir_groups * plan->row_groups * plan->unit_groups;
  const double barrier = plan->unit_groups > 1 ? BARRIER_NS : 0;
  double total = threads > 1 ? LAUNCH_NS : 0;
  for (int64_t l = 0; l < spec->num_layers && l < 2; ++l) {
    const int64_t inputs = model->layers[l * spec->directions].inputs;
    const double times = l == 0 ? 1 : (double)(spec->num_layers - 1);
    total += times * turns * (double)plan->steps * (step_ns(model, rows, panels, inputs) + barrier);
  }
  return total;
}

static void choose_split(const fl_model *model, int32_t threads, fl_plan *plan)
{
  fl_plan best = *plan;
  best.threads = best.dir_groups = best.row_groups = best.unit_groups = 1;
  // A team must promise a tenth at least: its second core may be busy.
  double best_ns = 0.9 * plan_ns(model, &best);
  for (int32_t dirs = 1; dirs <= model->spec.directions && dirs <= threads; ++dirs) {
    for (int32_t rows = 1; rows <= threads / dirs && rows <= plan->batch; ++rows) {
      for (int32_t units = 1; units <= threads / dirs / rows && units <= model->panels; ++units) {
        fl_plan candidate = *plan;
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

// Projecting ahead reads the input weights once for many steps; inside the step it spares the
// gates their trip through memory. Few rows make bad use of weights, so they always project
// ahead; more rows do if the input weights come from so far away that a thirtieth of the time to read
// them, which is what the arithmetic does not hide, exceeds the trip.
static int64_t choose_project_steps(const fl_model *model, const fl_plan *plan)
{
  const int64_t rows = plan->batch > 0 ? ceil_div(plan->batch, plan->row_groups) : 1;
  const int64_t inputs = model->spec.input_size;
  const int64_t row_bytes = (int64_t)model->vectors * model->kernels->lanes * fl_elem(model->spec.dtype);
  if (model->spec.gemm_blas == 0) {
    if (plan->steps * rows < 4 || inputs <= 4) return 0;
    const int sequence =
        rows == 1 && plan->unit_groups == 1 && model->vectors <= model->kernels->sequence_vectors;
    if (sequence && inputs <= 8 && model->spec.num_layers == 1) return 0;
    const double share = 1.0 / plan->unit_groups;
    const double read = 0.035 * weights_ns(share * (double)row_bytes * (double)inputs);
    const double trip = 2 * share * (double)row_bytes * (double)rows / L2_BYTES_PER_NS;
    if (rows >= 12 && read < trip) return 0;
  }
  int64_t steps = ceil_div(PROJECT_BYTES, row_bytes * rows);
  if (steps * rows < PROJECT_ROWS) steps = ceil_div(PROJECT_ROWS, rows);
  return steps < plan->steps ? steps : plan->steps > 0 ? plan->steps : 1;
}

static int64_t choose_block_steps(const fl_model *model, const fl_plan *plan)
{
  const fl_spec *spec = &model->spec;
  fl_plan one = *plan;
  one.steps = 1;
  const double step = plan_ns(model, &one) - (plan->threads > 1 ? LAUNCH_NS : 0);
  double block = POLL_NS / (step > 1 ? step : 1);
  if (spec->directions == 1 && spec->num_layers > 1) {
    // Inner outputs of a block stay in cache; long enough to reuse each layer's weights.
    const double row = (double)(plan->batch * spec->hidden_size * fl_elem(spec->dtype));
    const double cached = 512e3 / (row > 1 ? row : 1);
    const double least = cached < 32 ? 32 : cached;
    if (block > least) block = least;
  }
  const int64_t project = plan->project_steps ? plan->project_steps : 1;
  int64_t steps = block < (double)plan->steps ? (int64_t)block : plan->steps;
  if (steps < 1) steps = 1;
  return fl_round_up(steps, project);  // whole projections
}

static int64_t take(double *total, double bytes)
{
  const double at = *total;
  *total += bytes + (FL_ALIGN - 1);
  return at < 9e18 ? fl_round_up((int64_t)at, FL_ALIGN) : 0;
}

int fl_plan_map(const fl_model *model, const fl_plan *plan, fl_map *map)
{
  const fl_spec *spec = &model->spec;
  const double elem = (double)fl_elem(spec->dtype), batch = (double)plan->batch;
  const double lanes = model->kernels->lanes;
  const int64_t width = (int64_t)model->panels * model->kernels->lanes;
  const double rows_per_group = (double)ceil_div(plan->batch, plan->row_groups);
  const int blas = spec->gemm_blas;
  memset(map, 0, sizeof *map);
  // Rows a multiple of 4096 bytes apart would all fall into one set of the cache.
  map->h_stride = width + 64 / fl_elem(spec->dtype);
  const int64_t outputs = spec->directions * spec->hidden_size;
  map->inner_stride = fl_round_up(outputs, 16) + 16;
  const double h_bytes = batch * (double)map->h_stride * elem;
  const double c_bytes = batch * (double)model->panels * lanes * elem;
  const double projected = (double)plan->project_steps * batch;
  const double gates = projected * 4 * (double)model->panels * lanes * elem;
  double widest = (double)(spec->num_layers > 1 && outputs > spec->input_size ? outputs : spec->input_size);
  const double gathered = blas ? (double)plan->project_steps * rows_per_group * widest * elem : 0;
  const double pointers = (double)plan->project_steps * rows_per_group + 3 * rows_per_group;
  const double inner_steps = spec->directions == 2 ? (double)plan->steps : (double)plan->block_steps;
  const double inner = spec->num_layers > 1 ? inner_steps * batch * (double)map->inner_stride * elem : 0;
  const double largest = 1e18;
  if (h_bytes > largest || c_bytes > largest || gates > largest || gathered > largest || pointers > largest ||
      inner > largest || (double)plan->steps > largest)
    return 0;
  map->h_bytes = fl_round_up((int64_t)h_bytes, FL_ALIGN);
  map->c_bytes = fl_round_up((int64_t)c_bytes, FL_ALIGN);
  map->state_bytes = 2 * map->h_bytes + map->c_bytes;
  map->gates_bytes = fl_round_up((int64_t)gates, FL_ALIGN);
  map->gathered_bytes = fl_round_up((int64_t)gathered, FL_ALIGN);
  map->pointer_count = fl_round_up((int64_t)pointers, FL_ALIGN / 8);
  map->inner_bytes = fl_round_up((int64_t)inner, FL_ALIGN);

  double total = 0;
  const double threads = plan->threads;
  map->barriers = take(&total, (double)sizeof(fl_barrier) * (threads + 1));
  map->order = take(&total, 8 * batch);
  map->lengths = take(&total, 8 * batch);
  map->counts = take(&total, 8 * ((double)plan->steps + 2));
  map->state = take(&total, (double)map->state_bytes * (double)(spec->num_layers * spec->directions));
  map->gates = take(&total, (double)map->gates_bytes * plan->dir_groups);
  map->gathered = take(&total, (double)map->gathered_bytes * threads);
  map->pointers = take(&total, 8 * (double)map->pointer_count * threads);
  map->inner = take(&total, 2 * (double)map->inner_bytes);
  if (total > largest) return 0;
  map->total = (int64_t)total + FL_ALIGN;
  return 1;
}

fl_status fl_plan_make(const fl_model *model, int64_t steps, int64_t batch, int32_t threads, fl_plan *plan)
{
  memset(plan, 0, sizeof *plan);
  plan->steps = steps;
  plan->batch = batch;
  plan->threads = plan->dir_groups = plan->row_groups = plan->unit_groups = 1;
  if (threads > 1 && steps > 0 && batch > 0) choose_split(model, threads, plan);
  plan->project_steps = choose_project_steps(model, plan);
  plan->block_steps = choose_block_steps(model, plan);
  fl_map map;
  if (!fl_plan_map(model, plan, &map)) return FL_TOO_LARGE;
  plan->workspace_bytes = (size_t)map.total;
  return FL_OK;
}
