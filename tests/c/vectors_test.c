// SPDX-License-Identifier: BSD-3-Clause
// Every operation of one vector header against scalar code. Compiled once for each instruction set and dtype,
// with ISA_HEADER, ISA_RUN (the name of its function) and the compiler's flags for the set.
#include <math.h>
#include <float.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "check.h"
#include "platform/cpu.h"
#include "fastlstm.h"
#include ISA_HEADER
#include "kernels/vmath.inc.h"

#ifdef FL_DOUBLE
#define same       same_double
#define FMA        __builtin_fma
#define LDEXP      ldexp
#define ROUND      nearbyint
#define SMALLEST   DBL_MIN
#define LEAST_EXP  (-1022)
#define TANH_ERROR 4e-16L
#define BEYOND_EXP 1024
#else
#define same       same_float
#define FMA        __builtin_fmaf
#define LDEXP      ldexpf
#define ROUND      nearbyintf
#define SMALLEST   FLT_MIN
#define LEAST_EXP  (-126)
#define TANH_ERROR 2.2e-7L
#define BEYOND_EXP 128
#endif
#define FUSED (FL_ISA_ID != FASTLSTM_ISA_GENERIC)

// The scalar code must not be computed by the compiler, which knows of no mode.
static const volatile real SPECIALS[] = {
    0,         -0.0,          1,    -1,       0.5,       1.5,        2.5,   -3.5, 1e-3,          7e5,
    -SMALLEST, SMALLEST,      60,   -90,      (real)0.1, (real)1e30, -1e30, 1e38, (real)-1.3e38, SMALLEST / 4,
    NAN,       -SMALLEST / 8, -NAN, INFINITY, -INFINITY};
enum { COUNT = sizeof SPECIALS / sizeof *SPECIALS };

typedef struct lanes {
  real at[VL];
} lanes;

static lanes lanes_of(vreal v)
{
  lanes out;
  vstoreu(out.at, v);
  return out;
}

// Special numbers from `first` on, every `step`-th of them.
static lanes specials(int first, int step)
{
  lanes out;
  for (int i = 0; i < VL; ++i) out.at[i] = SPECIALS[(first + i * step) % COUNT];
  return out;
}

static void compare(const char *name, vreal got, const real *want, int count)
{
  const lanes is = lanes_of(got);
  for (int i = 0; i < count; ++i)
    CHECK(same(is.at[i], want[i]), "%s: lane %d is %g, not %g", name, i, (double)is.at[i], (double)want[i]);
}

// By its bits: where denormals are flushed a comparison takes them for zero.
static int is_tiny(real a)
{
#ifdef FL_DOUBLE
  uint64_t number, implicit = (uint64_t)1 << 52;
#else
  uint32_t number, implicit = (uint32_t)1 << 23;
#endif
  memcpy(&number, &a, sizeof a);
  number &= ~((__typeof__(number))1 << (8 * sizeof number - 1));
  return number > 0 && number < implicit;
}

// Operations lane by lane. `flushing`: denormals count as zero; what min and max make of them is left open.
static void check_arithmetic(int first, int step, int flushing)
{
  const lanes a = specials(first, 1), b = specials(first + step, 1), c = specials(first, step + 1);
  const vreal va = vloadu(a.at), vb = vloadu(b.at), vc = vloadu(c.at);
  lanes add, sub, mul, div, neg, least, most, fused, positive;
  int open = 0;
  for (int i = 0; i < VL; ++i) {
    const volatile real x = a.at[i], y = b.at[i], z = c.at[i];
    add.at[i] = x + y;
    sub.at[i] = x - y;
    mul.at[i] = x * y;
    div.at[i] = x / y;
    neg.at[i] = -x;
    least.at[i] = x < y ? x : y;
    most.at[i] = x > y ? x : y;
    fused.at[i] = FUSED ? FMA(x, y, z) : (real)(x * y) + z;
    positive.at[i] = y <= 0 ? 0 : x;
    open |= flushing && (is_tiny(x) || is_tiny(y));
  }
  compare("vadd", vadd(va, vb), add.at, VL);
  compare("vsub", vsub(va, vb), sub.at, VL);
  compare("vmul", vmul(va, vb), mul.at, VL);
  compare("vdiv", vdiv(va, vb), div.at, VL);
  compare("vneg", vneg(va), neg.at, VL);
  compare("vfma", vfma(va, vb, vc), fused.at, VL);
  compare("vkeep", vkeep(va), a.at, VL);
  if (open) return;
  compare("vmin", vmin(va, vb), least.at, VL);
  compare("vmax", vmax(va, vb), most.at, VL);
  compare("vzero_where_not_positive", vzero_where_not_positive(va, vb), positive.at, VL);
}

// The sign of a NaN changes, too, and that of zero.
static void check_signs(void)
{
  const real numbers[4] = {0, -0.0, NAN, -NAN};
  for (int i = 0; i < 4; ++i) {
    const lanes is = lanes_of(vneg(vset1(numbers[i])));
    CHECK(!signbit(is.at[VL - 1]) == !!signbit(numbers[i]), "vneg keeps the sign of %g", (double)numbers[i]);
  }
}

static void check_split(real t)
{
  vreal n;
  const lanes r = lanes_of(vsplit(vset1(t), &n)), whole = lanes_of(n);
  const lanes scaled = lanes_of(vscale2(vadd(vset1(1), vloadu(r.at)), n));
  for (int i = 0; i < VL; ++i) {
    if (t != t) {
      CHECK(scaled.at[i] != scaled.at[i], "2^NaN is %g", (double)scaled.at[i]);
    } else if (t >= BEYOND_EXP) {
      CHECK(scaled.at[i] > 0 && isinf(scaled.at[i]), "2^%g is %g", (double)t, (double)scaled.at[i]);
    } else if (t < LEAST_EXP) {
      CHECK(scaled.at[i] >= 0 && scaled.at[i] <= SMALLEST, "2^%g is %g", (double)t, (double)scaled.at[i]);
    } else {
      CHECK(same(whole.at[i], ROUND(t)) || (whole.at[i] == 0 && ROUND(t) == 0), "%g splits off %g", (double)t,
            (double)whole.at[i]);
      CHECK(r.at[i] == t - ROUND(t), "%g leaves %g", (double)t, (double)r.at[i]);
    }
  }
}

static void check_exponents(void)
{
  uint64_t state = 5;
  for (int i = 0; i < 400; ++i) check_split((real)(1.1 * BEYOND_EXP * random_real(&state)));
  for (int i = 0; i < 40; ++i) check_split((real)(i / 2.0 - 10));  // halves go to the even number
  const real ends[] = {LEAST_EXP, BEYOND_EXP, (real)1e30, (real)-1e30,
                       INFINITY,  -INFINITY,  NAN,        SMALLEST / 2};
  for (size_t i = 0; i < sizeof ends / sizeof *ends; ++i) check_split(ends[i]);
  for (int n = LEAST_EXP; n <= BEYOND_EXP; ++n) {
    lanes p, want;
    for (int i = 0; i < VL; ++i) {
      p.at[i] = (real)(1.05 + 0.35 * random_real(&state));
      if (n == BEYOND_EXP && p.at[i] < 1) p.at[i] = 1;  // below, infinity comes a little early or in time
      want.at[i] = LDEXP(p.at[i], n);
    }
    compare("vscale2", vscale2(vloadu(p.at), vset1((real)n)), want.at, VL);
  }
}

// The bounds that stand in vmath.inc.h, for activations of -30 to 30.
static void check_activations(void)
{
  uint64_t state = 6;
  for (int i = 0; i < 2000; ++i) {
    const double range = i % 2 ? 43 : 2;
    lanes t;
    for (int j = 0; j < VL; ++j) t.at[j] = (real)(range * random_real(&state));
    const vreal one = vset1(1);
    const lanes tanhs = lanes_of(vtanh(vloadu(t.at)));
    const lanes sigmoids = lanes_of(vdiv(one, vadd(one, vexp2(vloadu(t.at)))));
    for (int j = 0; j < VL; ++j) {
      const long double e = exp2l(t.at[j]), tanh_off = tanhs.at[j] - (1 - e) / (1 + e);
      CHECK(fabsl(tanh_off) <= TANH_ERROR, "tanh from %g is %Lg off", (double)t.at[j], tanh_off);
      CHECK(fabsl(sigmoids.at[j] - 1 / (1 + e)) <= TANH_ERROR / 2, "sigmoid from %g is %g", (double)t.at[j],
            (double)sigmoids.at[j]);
    }
  }
}

static void check_shuffles(void)
{
  lanes a, b, low, high;
  for (int i = 0; i < VL; ++i) {
    a.at[i] = (real)(i + 1);
    b.at[i] = (real) - (i + 1);
  }
  for (int i = 0; i < VL; ++i) {
    low.at[i] = (i % 2 ? b : a).at[i / 2];
    high.at[i] = (i % 2 ? b : a).at[VL / 2 + i / 2];
  }
  const vreal va = vloadu(a.at);
  compare("vzip_low", vzip_low(va, vloadu(b.at)), low.at, VL);
  compare("vzip_high", vzip_high(va, vloadu(b.at)), high.at, VL);
  compare("vupper", vupper(va), a.at + VL / 2, VL / 2);
  if (VL < 4) return;
  compare("vquarter 0", vquarter(va, 0), a.at, VL / 4);
  compare("vquarter 1", vquarter(va, 1), a.at + VL / 4, VL / 4);
  compare("vquarter 2", vquarter(va, 2), a.at + VL / 2, VL / 4);
  compare("vquarter 3", vquarter(va, 3), a.at + VL / 4 * 3, VL / 4);
}

static void check_memory(void)
{
  real there[3 * VL] __attribute__((aligned(64)));
  const lanes a = specials(2, 3);
  const vreal v = vloadu(a.at);
  compare("vset1", vset1((real)2.5), (const real[]){2.5}, 1);
  const lanes minus = lanes_of(vbroadcast((real)-7)), zero = lanes_of(vset1((real)-0.0));
  for (int i = 0; i < VL; ++i)
    CHECK(minus.at[i] == -7 && signbit(zero.at[i]), "a broadcast misses lane %d", i);
  vstore(there, v);
  compare("vstore, vload", vload(there), a.at, VL);
  vstream(there + VL, v);
  compare("vstream, vload", vload(there + VL), a.at, VL);
  vstoreu(there + 1, v);
  compare("vstoreu, vloadu", vloadu(there + 1), a.at, VL);
}

// The first n lanes, at the very end of what may be touched.
static void check_tails(void)
{
  const size_t page = (size_t)sysconf(_SC_PAGESIZE);
  char *pages = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(pages != MAP_FAILED && mprotect(pages + page, page, PROT_NONE) == 0, "no page to guard");
  real *const end = (real *)(void *)(pages + page);
  for (int n = 0; n <= VL; ++n) {
    real *const at = end - n;
    lanes want = {{0}};
    for (int i = 0; i < n; ++i) want.at[i] = at[i] = (real)(i + 1);
    compare("vload_first", vload_first(at, n), want.at, VL);
    memset(pages, 0, page);
    vstore_first(at, vloadu(specials(1, 1).at), n);
    for (int i = 0; i < n; ++i)
      CHECK(same(at[i], SPECIALS[1 + i]), "vstore_first of %d misses lane %d", n, i);
    real *const inside = end - 2 * VL;
    memset(pages, 0, page);
    vstore_first(inside, vset1(1), n);
    for (int i = -VL; i < 2 * VL; ++i)
      CHECK(inside[i] == (i >= 0 && i < n), "vstore_first of %d leaves %g at %d", n, (double)inside[i], i);
  }
  munmap(pages, 2 * page);
}

void ISA_RUN(void)
{
  for (int flushing = 0; flushing < 2; ++flushing) {
    const uint32_t mode = flushing ? fl_fp_enter() : 0;
    for (int first = 0; first < COUNT; ++first)
      for (int step = 0; step < COUNT; ++step) check_arithmetic(first, step, flushing);
    const volatile real smallest = SMALLEST;
    const lanes half = lanes_of(vmul(vset1(smallest), vset1((real)0.5)));
    CHECK((half.at[0] == 0) == flushing && (half.at[VL - 1] == 0) == flushing, "denormals: mode %d",
          flushing);
    if (flushing) fl_fp_leave(mode);
  }
  check_signs();
  check_exponents();
  check_activations();
  check_shuffles();
  check_memory();
  check_tails();
}
