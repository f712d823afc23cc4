// SPDX-License-Identifier: BSD-3-Clause
// Teams made by OpenMP; no other file uses OpenMP.
#define _GNU_SOURCE
#include "platform/team.h"

#ifndef FL_TEAM_SERIAL

#include <omp.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "platform/cpu.h"

// A forked child has lost the threads of every team, ours and those of other users of the same
// run-time, which would wait for them for ever.
static atomic_int forked;

void fl_team_forked(void) { atomic_store(&forked, 1); }

int fl_team_max(void)
{
  const int most = omp_get_max_threads(), limit = omp_get_thread_limit();
  return atomic_load(&forked) ? 1 : most < limit ? most : limit;
}

#define FL_TEXT_(x) #x
#define FL_TEXT(x)  FL_TEXT_(x)
const char *fl_team_name(void) { return "OpenMP " FL_TEXT(_OPENMP); }

int fl_team_cpus(void)
{
  // A set of CPU numbers, since places may overlap. Beyond its size, all CPUs of the process count.
  enum { CPUS = 4096 };
  uint64_t seen[CPUS / 64] = {0};
  int ids[CPUS], count = 0;
  const int places = omp_get_num_places();
  for (int place = 0; place < places; ++place) {
    const int size = omp_get_place_num_procs(place);
    if (size > CPUS) return omp_get_num_procs();
    omp_get_place_proc_ids(place, ids);
    for (int i = 0; i < size; ++i) {
      if (ids[i] < 0 || ids[i] >= CPUS) return omp_get_num_procs();
      const uint64_t bit = (uint64_t)1 << ids[i] % 64;
      count += !(seen[ids[i] / 64] & bit);
      seen[ids[i] / 64] |= bit;
    }
  }
  return count;
}

// ---- trials: the run-time ends the process where the system refuses it a thread ----
//
// Each calling thread has a pool in the run-time: the workers of its last team. A larger team makes
// the missing ones, a smaller one lets the others end. So before a team with new workers, as many
// threads of the same kind are made here and ended again; what can't be had is left out of the team.

enum {
  TEAM_MOST = 1024,  // threads of a team
  ROOM = 64 << 20,   // bytes of address space that a refused trial leaves to the process
};
static const double RETRY_SECONDS = 1;  // how long a refusal is believed

typedef struct stand_in {
  pthread_t handle;
  atomic_int id;  // of the kernel
} stand_in;

// Under the lock: trials at once would take each other's room.
static pthread_mutex_t starting = PTHREAD_MUTEX_INITIALIZER;
static stand_in stand_ins[TEAM_MOST];
static sem_t gate;

// Of the calling thread: the threads of its last team, which are its pool; and after a refusal the
// threads that there were, and until when that is believed (seconds, 0: nothing was refused).
static _Thread_local int last_team = 1, refused_most;
static _Thread_local double refused_until;

// The run-time's setting for the stacks of its workers, in bytes; 0 where it takes the system's.
static size_t stack_bytes;

static const char *past_blanks(const char *text)
{
  while (*text == ' ' || (*text >= '\t' && *text <= '\r')) ++text;
  return text;
}

// "SIZE" in KiB or with a unit: B, K, M or G. Returns 0 for what the run-time does not understand.
static size_t parse_size(const char *text)
{
  static const char UNITS[] = "BKMG";
  char *end;
  text = past_blanks(text);
  if (*text < '0' || *text > '9') return 0;
  const unsigned long long size = strtoull(text, &end, 10);
  text = past_blanks(end);
  int shift = 10;
  if (*text) {
    const char *unit = strchr(UNITS, *text & ~0x20);
    if (!unit || !*unit) return 0;
    shift = 10 * (int)(unit - UNITS);
    text = past_blanks(text + 1);
  }
  return *text || size > SIZE_MAX >> shift ? 0 : (size_t)size << shift;
}

// When it is loaded, as the run-time does: later changes of the environment count for nothing.
__attribute__((constructor)) static void read_stack_size(void)
{
  static const char *const NAMES[] = {"OMP_STACKSIZE", "GOMP_STACKSIZE"};
  for (int i = 0; i < 2 && !stack_bytes; ++i) {
    const char *text = getenv(NAMES[i]);
    if (text) stack_bytes = parse_size(text);
  }
}

static void *stand(void *arg)
{
  atomic_store(&((stand_in *)arg)->id, (int)syscall(SYS_gettid));
  while (sem_wait(&gate)) {
  }  // interrupted by a signal
  return NULL;
}

// Makes up to `count` threads, all alive at once, and ends them. Returns how many there were.
static int try_threads(int count)
{
  pthread_attr_t attributes;
  if (pthread_attr_init(&attributes)) return 0;
  if (stack_bytes) pthread_attr_setstacksize(&attributes, stack_bytes);  // refuses sizes as the run-time does
  void *room = mmap(NULL, ROOM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  int made = 0;
  if (room != MAP_FAILED) {
    sem_init(&gate, 0, 0);
    for (; made < count; ++made) {
      atomic_store(&stand_ins[made].id, 0);
      if (pthread_create(&stand_ins[made].handle, &attributes, stand, &stand_ins[made])) break;
    }
    for (int i = 0; i < made; ++i) sem_post(&gate);
    for (int i = 0; i < made; ++i) pthread_join(stand_ins[i].handle, NULL);
    // A joined thread counts against limits until the kernel forgets its number.
    const double start = fl_now();
    for (int i = 0; i < made; ++i)
      while (!syscall(SYS_tgkill, getpid(), atomic_load(&stand_ins[i].id), 0) && fl_now() - start < 1)
        sched_yield();
    sem_destroy(&gate);
    munmap(room, ROOM);
  }
  pthread_attr_destroy(&attributes);
  return made;
}

int fl_team_most(void)
{
  if (atomic_load_explicit(&forked, memory_order_relaxed)) return 1;
  if (refused_until > 0 && fl_now() < refused_until) return refused_most;
  refused_until = 0;
  return TEAM_MOST;
}

// Under the lock: how many of `threads` there may be, more than the last team had.
static int grow_team(int threads)
{
  const int limit = omp_get_thread_limit(), missing = (threads < limit ? threads : limit) - last_team;
  const int made = missing > 0 ? try_threads(missing) : missing;
  if (made == missing) return threads;
  refused_most = last_team + made;
  refused_until = fl_now() + RETRY_SECONDS;
  return refused_most;
}

// Apart from fl_team_run, whose calls of one thread need no frame then.
static __attribute__((noinline)) void run_team(int threads, fl_team_body *body, void *arg)
{
  const int grows = threads > last_team;
  if (grows) {
    pthread_mutex_lock(&starting);
    threads = grow_team(threads);
  }
  if (threads > 1) last_team = threads;
#pragma omp parallel num_threads(threads)
  {
    const int thread = omp_get_thread_num();
    if (grows && thread == 0) pthread_mutex_unlock(&starting);  // all have come
    body(arg, thread, omp_get_num_threads());
  }
}

void fl_team_run(int threads, fl_team_body *body, void *arg)
{
  if (threads > 1) {
    const int most = fl_team_most();
    if (threads > most) threads = most;
  }
  if (threads <= 1 || omp_in_parallel())
    body(arg, 0, 1);
  else
    run_team(threads, body, arg);
}

void fl_barrier_init(fl_barrier *barrier, int members)
{
  atomic_init(&barrier->arrived, 0);
  atomic_init(&barrier->generation, 0);
  barrier->members = members;
}

// A step's barrier costs about a hundred nanoseconds when both cores run. When another process holds
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

#endif
