// SPDX-License-Identifier: BSD-3-Clause
// The team where there is no OpenMP: the calling thread alone. Plans know (fl_team_most), results are the
// same. Chosen by -DFASTLSTM_SERIAL or by a compiler without -fopenmp, see team.h.
#include "platform/team.h"

#ifdef FL_TEAM_SERIAL

int fl_team_max(void) { return 1; }

int fl_team_most(void) { return 1; }

int fl_team_cpus(void) { return 0; }

void fl_team_forked(void) {}

const char *fl_team_name(void) { return "one thread, compiled without OpenMP"; }

void fl_team_run(int threads, fl_team_body *body, void *arg)
{
  (void)threads;
  body(arg, 0, 1);
}

void fl_barrier_init(fl_barrier *barrier, int members) { barrier->members = members; }

int64_t fl_barrier_wait(fl_barrier *barrier)
{
  (void)barrier;  // nobody else comes
  return 0;
}

#endif
