# SPDX-License-Identifier: BSD-3-Clause
"""Python code in processes of its own, for what would disturb or kill the tests' process."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fastlstm import container

# Set by sanitize.sh: everything is slower there, and virtual memory means nothing.
SANITIZED = bool(os.environ.get("FASTLSTM_TEST_SANITIZED"))
SETTINGS = ("FASTLSTM_ISA", "FASTLSTM_NUM_THREADS", "OMP_NUM_THREADS", "OMP_THREAD_LIMIT")
SETTINGS += ("OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "OMP_STACKSIZE", "GOMP_STACKSIZE")

# A model, an input and what comes of it on one thread, for code that goes on from there.
MODEL = """
import os, signal, sys, threading, time
import numpy as np, fastlstm
lstm = fastlstm.LSTM(256, 256, seed=0)
x = np.random.default_rng(0).standard_normal((50, 16, 256)).astype(np.float32)
expected = lstm(x, num_threads=1)[0]
assert "2 threads" in lstm.explain(50, 16, num_threads=2), lstm.explain(50, 16, num_threads=2)
"""


@dataclass(frozen=True)
class Finished:
    code: int  # exit status, or minus the signal
    out: str
    err: str
    killed: str  # why the watch killed it, or ""

    def __str__(self) -> str:
        ending = self.killed or f"exit status {self.code}"
        return f"{ending}\n--- stdout\n{self.out}\n--- stderr\n{self.err}"


def run(
    code: str,
    *arguments: str,
    env: Mapping[str, str] | None = None,
    timeout: float = 60,
    rss_limit: int | None = None,
    before: Callable[[], None] | None = None,
) -> Finished:
    """Run `code` in a fresh interpreter that has our settings from `env` alone.

    `timeout` is in seconds. Above `rss_limit` bytes of resident memory the process is killed: a
    test of huge sizes must not take the machine with it. `before` runs in the child.
    """
    full = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    full |= env or {}
    if SANITIZED:
        timeout *= 5
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code), *arguments],
            env=full,
            stdout=out,
            stderr=err,
            preexec_fn=before,
        )
        try:
            killed = _watch(process, timeout, rss_limit)
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
        out.seek(0)
        err.seek(0)
        return Finished(process.returncode, out.read(), err.read(), killed)


def check(code: str, *arguments: str, **options: object) -> str:
    """As `run`, but the process must end well. Returns what it printed."""
    done = run(code, *arguments, **options)  # type: ignore[arg-type]
    assert done.code == 0, str(done)
    return done.out


def _watch(process: subprocess.Popen[bytes], timeout: float, rss_limit: int | None) -> str:
    """Waits for the end; returns why it had to kill the process, if it had to."""
    deadline = time.monotonic() + timeout
    page = resource.getpagesize()
    while True:
        try:
            process.wait(0.005 if rss_limit else max(0, deadline - time.monotonic()))
            return ""
        except subprocess.TimeoutExpired:
            pass
        reason = f"killed after {timeout} s" if time.monotonic() > deadline else ""
        if rss_limit:
            with contextlib.suppress(OSError, IndexError):
                rss = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1]) * page
                if rss > rss_limit:
                    reason = f"killed at {rss >> 20} MiB of resident memory"
        if reason:
            process.send_signal(signal.SIGKILL)
            return reason


def default_threads(cpus: int) -> int:
    """The default number of threads on so many CPUs, in the container that the tests run in."""
    quota = container.cpu_quota()
    return cpus if quota is None else max(1, min(cpus, int(quota)))


def memory(field: str) -> int:
    """A line of /proc/meminfo, in bytes."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise LookupError(field)
