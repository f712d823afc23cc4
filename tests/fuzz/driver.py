# SPDX-License-Identifier: BSD-3-Clause
"""Runs a fuzzer's cases in a process of their own, and says which one failed."""

from __future__ import annotations

import faulthandler
import importlib
import os
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np

from support import processes

TESTS = str(Path(__file__).resolve().parent.parent)
HANGS = 60  # seconds after which a case is taken to hang
RSS_LIMIT = 3 << 30  # bytes of resident memory that no case may come to need
SKIPPED = 77  # exit status of a worker that cannot run here


class Skipped(Exception):
    """A fuzzer's module raises it on import where it cannot run, with the reason."""


class Done(NamedTuple):
    ok: bool
    skipped: bool
    text: str


def new_seed() -> int:
    return time.time_ns() // 1000 % 10**9


def run(
    name: str,
    *,
    seed: int,
    seconds: float,
    first: int = 0,
    cases: int = 10**9,
    go_on: bool = False,
    code: str = f"import sys; sys.path.insert(0, {TESTS!r}); from fuzz.driver import work; work()",
) -> Done:
    """At most so many cases and so many seconds of a fuzzer; what it found, in words.

    No case starts after these seconds. `code` is what the process runs.
    """
    with tempfile.NamedTemporaryFile() as progress:
        arguments = [name, progress.name, *map(str, (seed, first, cases, seconds, int(go_on)))]
        done = processes.run(
            code,
            *arguments,
            # What has been freed is overwritten, so that reading it gives wrong numbers.
            env={"MALLOC_PERTURB_": "165", "OMP_NUM_THREADS": "1"},
            timeout=seconds + 2 * HANGS,
            rss_limit=None if processes.SANITIZED else RSS_LIMIT,
        )
        last = progress.read().decode().strip() or "none"
    if done.code == 0 and not done.killed:
        return Done(True, False, f"{name}, seed {seed}: {done.out.strip()}")
    if done.code == SKIPPED:
        return Done(True, True, done.out.strip())
    again = f"cd tests; python -m fuzz {name} --seed {seed} --first {last} --cases 1"
    return Done(
        False, False, f"{name}: the last case was {last} of seed {seed}; again:\n  {again}\n{done}"
    )


def work() -> None:
    """The process that runs the cases."""
    name, progress, *numbers = sys.argv[1:]
    seed, first, cases, seconds, go_on = int(numbers[0]), *map(float, numbers[1:])
    if not processes.SANITIZED:  # they have a handler of their own
        faulthandler.enable()
    warnings.simplefilter("ignore")
    try:
        case = importlib.import_module(f"fuzz.{name}").case
    except Skipped as reason:
        print(f"{name} cannot run here: {reason}")
        sys.exit(SKIPPED)
    begin = time.monotonic()
    file = os.open(progress, os.O_WRONLY)
    n, failures = int(first), 0
    while n < first + cases and time.monotonic() - begin < seconds:
        os.pwrite(file, f"{n:<12}".encode(), 0)
        faulthandler.dump_traceback_later(HANGS * (5 if processes.SANITIZED else 1), exit=True)
        try:
            case(np.random.default_rng([seed, n]))
        except BaseException:
            failures += 1
            print(f"---- case {n} of seed {seed}")
            traceback.print_exc(file=sys.stdout)
            sys.stdout.flush()
            if not go_on:
                break
        faulthandler.cancel_dump_traceback_later()
        n += 1
    print(f"{n - int(first)} cases in {time.monotonic() - begin:.0f} s, {failures} failed")
    sys.exit(1 if failures else 0)
