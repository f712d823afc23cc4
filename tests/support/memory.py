# SPDX-License-Identifier: BSD-3-Clause
"""Measuring memory from inside a process of a test's own."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable
from itertools import repeat

import pytest

from support import processes

# `in_use` is what malloc has handed out and not got back, `resident` what a user sees grow.
MALLINFO = """
import ctypes, gc, os
from fastlstm import _core
class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost").split()]
libc = ctypes.CDLL(None)
libc.mallinfo2.restype = Info

def in_use(and_pool=False):
    gc.collect()
    if not and_pool: _core.empty_pool()
    info = libc.mallinfo2()
    return info.uordblks + info.hblkhd

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

def least_growth(step, warm, count):
    # Of both, over `count` steps, in the round of three where it was least: a workspace that is
    # kept grows now and then, depending on what the pool had; a leak grows in all rounds.
    for i in range(warm): step(i)
    found = []
    for _ in range(3):
        before = in_use(), resident()
        for i in range(count): step(i)
        found.append((in_use() - before[0], resident() - before[1]))
    return min(f[0] for f in found), min(f[1] for f in found)
"""
needs_mallinfo = pytest.mark.skipif(
    sys.platform != "linux" or processes.SANITIZED, reason="needs glibc's own malloc"
)


def traced(step: Callable[[], object], *, warm: int, count: int) -> tuple[int, int]:
    """What Python allocates over `count` steps, after `warm` traced ones: the bytes left at the end
    and the most at any time.

    Each is the least of three rounds: the threads of the test runner, which take messages, are
    traced as well, and their bytes come now and then; those of a step come in every round.
    """
    found = []
    tracemalloc.start()
    try:
        for _ in repeat(None, warm):
            step()
        for _ in range(3):
            before = tracemalloc.get_traced_memory()[0]
            tracemalloc.reset_peak()
            for _ in repeat(None, count):
                step()
            after, peak = tracemalloc.get_traced_memory()
            found.append((after - before, peak - before))
    finally:
        tracemalloc.stop()
    return min(growth for growth, _ in found), min(peak for _, peak in found)


def assert_no_growth(name: str, code: str, *, count: int, warm: int) -> None:
    """`code` defines the function `name` of a number. Three times `count` calls of it, after `warm`
    ones, leave behind less than 10 bytes each: the smallest leak would be of 16. In the code the
    name in capitals, in the plural, stands for `count`."""
    out = processes.check(
        "import pickle, textwrap, sys\nimport numpy as np, fastlstm\n"
        + MALLINFO
        + f"{name.upper()}S = int(sys.argv[1])\nexec(textwrap.dedent(sys.argv[2]))\n"
        + f"print(*least_growth({name}, {warm}, {count}))",
        str(count),
        code,
        env={"OMP_NUM_THREADS": "1"},
        timeout=240,
    )
    in_use, resident = map(int, out.split())
    assert in_use < 10 * count, out
    assert resident < 1 << 20, out
