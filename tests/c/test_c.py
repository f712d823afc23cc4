# SPDX-License-Identifier: BSD-3-Clause
"""Builds and runs the C tests beside this file: here, with sanitizers, and for Arm."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
BUILD = HERE.parents[1] / "build" / "c-tests"
PROGRAMS = ["vectors", "kernels_f32", "kernels_f64", "model"]

pytestmark = pytest.mark.skipif(not shutil.which("make"), reason="make is not here")


def make(*arguments: str) -> str:
    """What make says; an error if it fails. Processes of a parallel run build in one folder, and
    so one after the other: what is being linked can't be run."""
    command = ["make", "-s", f"-j{os.cpu_count()}", "-C", str(HERE), *arguments]
    BUILD.mkdir(parents=True, exist_ok=True)
    with (BUILD / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # until the file is closed
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def built() -> Path:
    """The folder of the programs for this machine."""
    make("build")
    return BUILD / "native"


@pytest.mark.parametrize("program", PROGRAMS)
def test_here(built: Path, program: str) -> None:
    arguments = [str(HERE / "bits.txt")] if program == "model" else []
    done = subprocess.run([built / program, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith(" 0 failed\n")


@pytest.mark.deep
def test_with_sanitizers() -> None:
    assert make("SANITIZE=address,undefined").count(" 0 failed\n") == len(PROGRAMS)


@pytest.mark.deep
@pytest.mark.skipif(
    not (shutil.which("aarch64-linux-gnu-gcc") and shutil.which("qemu-aarch64")),
    reason="the cross compiler or qemu is not here",
)
def test_for_arm() -> None:
    told = make("TARGET=arm")
    assert told.count(" 0 failed\n") == len(PROGRAMS)
    assert "neon\n" in told


def test_what_is_missing_is_named() -> None:
    command = ["make", "-s", "-C", str(HERE), "TARGET=arm", "ARM_CC=no-such-compiler"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode != 0
    assert "not found: no-such-compiler" in done.stderr
