#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Builds with AddressSanitizer and UndefinedBehaviorSanitizer in a copy of the tree and runs the
# tests with the marker `sanitize`, and those with `sanitize_each_isa` on every instruction set. Any
# report fails it, also one from a process that a test has started. Arguments (files, folders)
# replace that choice. About ten minutes on two cores.
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
# Python's own blocks from malloc too: memory of ctypes is watched as well.
export PYTHONMALLOC=malloc
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
  local which=$1
  shift
  env "${isa[@]}" "$python" -m pytest -q -p no:cacheprovider -p no:faulthandler \
    --capture=sys -m "$which" "$@" || code=1
}
marked() { grep -rlw --include="test_*.py" "pytest.mark.$1" "$2" | sort; }
isa=()
if [ $# -gt 0 ]; then
  run "not deep" "$@"
else
  # A process for each room: a report ends it, and the rooms that follow still run.
  for room in tests/*/; do
    mapfile -t files < <(marked sanitize "$room")
    [ ${#files[@]} = 0 ] || run "sanitize and not deep" "${files[@]}"
  done
  # What these touch first differs between instruction sets, and they use the best one there is.
  for name in $("$python" -c "import fastlstm; print(*fastlstm.available_isas())"); do
    isa=(FASTLSTM_ISA="$name")
    mapfile -t files < <(marked sanitize_each_isa tests)
    run "sanitize_each_isa and not deep" "${files[@]}"
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
