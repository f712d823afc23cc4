// SPDX-License-Identifier: BSD-3-Clause
// What all passes have in common: their team, its barriers, and how the caller stops it.
#include "internal/run.h"

#include "platform/cpu.h"

// A team that spent so much of its time waiting for stragglers has been held up.
static const double STRAGGLER_SHARE = 0.25, STRAGGLER_SECONDS = 2e-4;

// Runs `body` on the plan's threads; rows are in order, barriers of the team and of its groups ready then.
void fl_run_team(run *r, const fl_common_layout *layout, const int64_t *lengths, fl_team_body *body,
                 int32_t *straggled)
{
  const fastlstm_plan *plan = r->plan;
  r->order = (int64_t *)(r->space + layout->order);
  r->sorted_lengths = (int64_t *)(r->space + layout->lengths);
  r->counts = (int64_t *)(r->space + layout->counts);
  r->team = (fl_barrier *)(r->space + layout->barriers);
  fl_order_rows(r, lengths);
  atomic_init(&r->stop, 0);
  atomic_init(&r->waited, 0);
  r->started = r->poll || plan->threads > 1 ? fl_now() : 0;
  r->polled = r->started;
  if (plan->threads > 1) {
    fl_barrier_init(&r->team[0], plan->threads);
    for (int g = 0; g < plan->threads; ++g) fl_barrier_init(&r->team[1 + g], plan->unit_groups);
  }
  r->finished = 0;
  fl_team_run(plan->threads, body, r);
  if (straggled && plan->threads > 1) {
    const double end = fl_now(), waited = 1e-9 * (double)atomic_load(&r->waited) + (end - r->finished);
    *straggled = waited > STRAGGLER_SECONDS && waited > STRAGGLER_SHARE * (end - r->started);
  }
}

void fl_wait_for(const worker *w, fl_barrier *barrier)
{
  if (!barrier) return;
  const int64_t waited = fl_barrier_wait(barrier);
  if (waited > 0) atomic_fetch_add(&w->r->waited, waited);
}

// Threads may see a stop at different times, so it is no reason to leave a loop with barriers.
int fl_polled(const worker *w)
{
  run *r = w->r;
  if (r->poll && w->thread == 0 && fl_now() - r->polled > FL_POLL_SECONDS) {
    fl_fp_leave(r->fp_mode);  // the caller's code runs in there
    const int stop = r->poll(r->poll_arg);
    fl_fp_enter();
    if (stop) atomic_store(&r->stop, 1);
    r->polled = fl_now();
  }
  return atomic_load_explicit(&r->stop, memory_order_relaxed);
}

// Between blocks all threads of a team agree on a stop, and leave.
int fl_stopped(const worker *w)
{
  run *r = w->r;
  if (!r->poll) return 0;
  fl_polled(w);
  fl_wait_for(w, w->team);
  const int stop = atomic_load(&r->stop);
  fl_wait_for(w, w->team);  // nobody polls again before all have looked
  return stop;
}
