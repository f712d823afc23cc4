#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Builds with AddressSanitizer and UndefinedBehaviorSanitizer in a copy of the tree and runs the
# tests that reach into every corner of the C core. Any report fails it, also one from a process
# that a test has started. Arguments replace the list of tests. About ten minutes on two cores.
#
# Blind spot: masked vector stores are not instrumented. What they may write is checked by
# test_nothing_beside_out in test_bad_arrays.py.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-$root/.venv/bin/python}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

copy() { cp -r "$root/$1" "$work/"; }
for part in fastlstm src_c tests setup.py pyproject.toml README.md LICENSE; do copy "$part"; done
rm -f "$work"/fastlstm/*.so
cd "$work"
echo "building with sanitizers"
FASTLSTM_SANITIZE=address,undefined "$python" setup.py -q build_ext --inplace >build.log 2>&1 ||
  { cat build.log; exit 1; }

runtime=$(gcc -print-file-name=libasan.so)
[ -e "$runtime" ] || { echo "gcc has no libasan.so"; exit 1; }
runtime="$runtime $(gcc -print-file-name=libstdc++.so.6)"  # or torch's first exception ends it
mkdir "$work/reports"
common="log_path=$work/reports/report:print_stacktrace=1"
export ASAN_OPTIONS="detect_leaks=0:allocator_may_return_null=1:quarantine_size_mb=64:$common"
export UBSAN_OPTIONS="$common"
export PYTHONPATH=$work LD_PRELOAD="$runtime" FASTLSTM_TEST_SANITIZED=1
export PYTHONDONTWRITEBYTECODE=1 OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1

# The sanitizers must be there and must speak up, or nothing below would mean anything.
cat >alive.py <<'PY'
import ctypes
import sys

import numpy as np

import fastlstm
from fastlstm import _core

assert fastlstm.__file__.startswith(sys.argv[1]), fastlstm.__file__
assert b"__asan_report" in open(_core.__file__, "rb").read()
assert b"__ubsan_handle" in open(_core.__file__, "rb").read()
engine = fastlstm.LSTM(3, 32, seed=0)._engine()
x, y = np.zeros((4, 2, 3), np.float32), np.zeros((4, 2, 32), np.float32)
engine.forward(x, y, None, None, None, None, None, None, 1)
print("sound", flush=True)
small = np.zeros(200, np.float32)  # of an address the core must believe what it is told
given = _core.Strided(small.ctypes.data, 4, 2, 64, 32)
engine.forward(x, given, None, None, None, None, None, None, 1)
PY
if output=$("$python" alive.py "$work" 2>&1); then
  echo "a write beyond an array went unnoticed: the sanitizers are asleep"
  exit 1
fi
[ "$output" = sound ] || { echo "$output"; exit 1; }
ls reports/report.* >/dev/null
rm reports/*

code=0
run() {
  echo "-- $*"
  env "${isa[@]}" "$python" -m pytest -q -p no:cacheprovider -p no:faulthandler \
    --capture=sys -m "not deep" "$@" || code=1
}
isa=()
if [ $# -gt 0 ]; then
  run "$@"
else
  # These take every instruction set by turns by themselves,
  run tests/test_engine.py tests/test_packed.py tests/test_caches.py tests/test_bits.py \
    tests/test_accuracy.py tests/test_reports.py tests/test_training.py \
    tests/test_training_bits.py tests/test_training_api.py
  # these use the best one, and what they touch first differs from one to another.
  run tests/test_bad_input.py tests/test_storage.py tests/test_process.py tests/test_threads.py \
    tests/test_atomic.py tests/test_streams.py tests/test_border.py tests/test_changing.py \
    tests/test_interrupts.py tests/test_huge.py tests/test_memory.py \
    tests/test_training_process.py tests/test_training_modes.py tests/test_training_bad_input.py
  run tests/test_fuzz.py tests/test_hostile.py tests/test_atomic.py  # fuzzers run in processes
  for name in $("$python" -c "import fastlstm; print(*fastlstm.available_isas())"); do
    isa=(FASTLSTM_ISA="$name")
    run tests/test_bad_arrays.py tests/test_api.py tests/test_misuse.py
  done
fi

unset LD_PRELOAD
for report in $(grep -rlE "ERROR: AddressSanitizer|runtime error|CHECK failed" reports || true); do
  code=1
  echo "== $report"
  head -30 "$report"
done
[ $code = 0 ] && echo "no reports"
exit $code
