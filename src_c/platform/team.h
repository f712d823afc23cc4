// SPDX-License-Identifier: BSD-3-Clause
// Threads, and a barrier that suits a time loop: those of OpenMP (team_openmp.c), or none but the caller's
// (team_serial.c). Both files are compiled, and one of them is empty.
#ifndef FL_TEAM_H
#define FL_TEAM_H

#include <stdatomic.h>
#include <stdint.h>

#include "internal/binding.h"

#if defined(FASTLSTM_SERIAL) || !defined(_OPENMP)
#define FL_TEAM_SERIAL
#endif

// Least seconds between two polls of a caller, who may stop a run or the packing of weights.
#define FL_POLL_SECONDS 0.05

typedef void fl_team_body(void *arg, int thread, int threads);

// Runs body on up to `threads` threads (the caller is thread 0); the body is told how many came.
void fl_team_run(int threads, fl_team_body *body, void *arg);

// A counting barrier; generation tells waiters that it is over. Each on its own cache line.
typedef struct fl_barrier {
  _Alignas(FASTLSTM_ALIGN) atomic_int arrived;
  _Alignas(FASTLSTM_ALIGN) atomic_uint generation;
  int members;
} fl_barrier;

void fl_barrier_init(fl_barrier *barrier, int members);
// Returns the nanoseconds waited after patience ran out and the thread began to yield its core.
int64_t fl_barrier_wait(fl_barrier *barrier);

#endif
