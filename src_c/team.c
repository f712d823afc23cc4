// SPDX-License-Identifier: BSD-3-Clause
#define _GNU_SOURCE
#include "team.h"

#include <omp.h>
#include <sched.h>
#include <time.h>

#include "cpu.h"

// A forked child has lost the threads of every team, ours and those of other users of the same
// run-time, which would wait for them for ever.
static atomic_int forked;

void fl_team_forked(void) { atomic_store(&forked, 1); }

int fl_team_max(void) { return atomic_load(&forked) ? 1 : omp_get_max_threads(); }

#define FL_TEXT_(x) #x
#define FL_TEXT(x)  FL_TEXT_(x)
const char *fl_team_name(void) { return "OpenMP " FL_TEXT(_OPENMP); }

void fl_team_run(int threads, fl_team_body *body, void *arg)
{
  if (threads <= 1 || atomic_load(&forked) || omp_in_parallel()) {
    body(arg, 0, 1);
    return;
  }
#pragma omp parallel num_threads(threads)
  body(arg, omp_get_thread_num(), omp_get_num_threads());
}

void fl_barrier_init(fl_barrier *barrier, int members)
{
  atomic_init(&barrier->arrived, 0);
  atomic_init(&barrier->generation, 0);
  barrier->members = members;
}

// A step's barrier costs some tens of nanoseconds when both cores run. When another process holds
// a core, spinning on would burn the very time that the late thread needs, so waiters yield.
enum { SPINS_BEFORE_YIELD = 2000 };

int64_t fl_barrier_wait(fl_barrier *barrier)
{
  if (barrier->members == 1) return 0;
  const unsigned generation = atomic_load_explicit(&barrier->generation, memory_order_relaxed);
  if (atomic_fetch_add_explicit(&barrier->arrived, 1, memory_order_acq_rel) == barrier->members - 1) {
    atomic_store_explicit(&barrier->arrived, 0, memory_order_relaxed);
    atomic_store_explicit(&barrier->generation, generation + 1, memory_order_release);
    return 0;
  }
  for (int spins = 0; spins < SPINS_BEFORE_YIELD; ++spins) {
    if (atomic_load_explicit(&barrier->generation, memory_order_acquire) != generation) return 0;
    fl_pause();
  }
  const double start = fl_now();
  while (atomic_load_explicit(&barrier->generation, memory_order_acquire) == generation) sched_yield();
  return (int64_t)(1e9 * (fl_now() - start));
}

double fl_now(void)
{
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
