# SPDX-License-Identifier: BSD-3-Clause
"""The core as a library of C, compiled by the system's compiler and without OpenMP."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import fastlstm
from fastlstm import _core
from support import ROOT, declarations, readme

SOURCES = ROOT / "src_c"
INCLUDES = [f"-I{SOURCES / 'include'}", f"-I{SOURCES}"]
# Not optimised: it is compiled to be linked and looked at. No flag of these may change a bit.
FLAGS = ["-std=gnu11", "-O0", "-w", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off"]
CC = shutil.which("gcc") or shutil.which("cc")

pytestmark = pytest.mark.skipif(CC is None, reason="needs a C compiler")


def run(*command: str | Path) -> str:
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-5000:]
    return done.stdout


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shared library of everything but the optimisers, which are an extension of their own."""
    to = tmp_path_factory.mktemp("library")
    sources = [path for path in sorted(SOURCES.rglob("*.c")) if path.name != "optim.c"]

    def compile(source: Path) -> Path:
        run(str(CC), *FLAGS, *INCLUDES, "-c", source, "-o", to / f"{source.stem}.o")
        return to / f"{source.stem}.o"

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(compile, sources))
    run(str(CC), "-shared", *objects, "-lm", "-o", to / "libfastlstm.so")
    return to / "libfastlstm.so"


@pytest.mark.skipif(shutil.which("nm") is None, reason="nm comes with compilers")
def test_what_the_library_shows_and_needs(library: Path) -> None:
    """The public functions, and no run-time of threads."""
    shown = {line.split()[-1] for line in run("nm", "-D", "--defined-only", library).splitlines()}
    declared = declarations.header().functions.items()
    assert shown == {name for name, (kind, _) in declared if "typedef" not in kind}
    needed = run("nm", "-D", "--undefined-only", library)
    assert "clock_gettime" in needed
    assert not [line for line in needed.splitlines() if "GOMP" in line or "omp_" in line]


@pytest.mark.parametrize("batch", [1, 3, 16])
def test_a_c_program_gets_the_same_bits(
    library: Path, tmp_path: Path, isa: str, batch: int
) -> None:
    """By the public header alone, on one thread though it asks for four."""
    program = tmp_path / "border_smoke"
    source = ROOT / "tests" / "c" / "border_smoke.c"
    strict = ["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
    rpath = f"-Wl,-rpath,{library.parent}"
    run(str(CC), *strict, INCLUDES[0], source, library, rpath, "-o", program)

    steps, inputs, units = 5, 7, 21
    lstm = fastlstm.LSTM(inputs, units, seed=0)
    x = np.random.default_rng(0).standard_normal((steps, batch, inputs)).astype(np.float32)
    y, (h_n, c_n) = lstm(x)
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    weights = [np.asarray(lstm.state_dict()[name]) for name in names]

    code = [*reversed(_core.isa_names())].index(isa)
    sizes = (code, steps, batch, inputs, units)
    done = subprocess.run(
        [str(program), *map(str, sizes)],
        input=b"".join(array.tobytes() for array in (x, *weights)),
        capture_output=True,
    )
    assert (done.returncode, done.stderr) == (0, b"1")
    assert done.stdout == b"".join(array.tobytes() for array in (y, h_n, c_n))


def test_a_c_program_is_told_what_is_wrong(library: Path, tmp_path: Path) -> None:
    program = tmp_path / "border_smoke"
    source = ROOT / "tests" / "c" / "border_smoke.c"
    run(str(CC), INCLUDES[0], source, library, f"-Wl,-rpath,{library.parent}", "-o", program)
    done = subprocess.run([str(program), "9", "1", "1", "1", "1"], input=bytes(4 * 17), stderr=-1)
    status = declarations.header().enums["fastlstm_status"][done.returncode]
    assert status == "FASTLSTM_INVALID"
    assert done.stderr == b"an argument is missing or out of its range\n"


def test_the_page_for_c_programs(
    library: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Its program compiles and prints what its Python says."""
    page = ROOT / "docs" / "start" / "embedded.md"
    (program,) = re.findall(r"^```c\n(.*?)^```$", page.read_text(encoding="utf-8"), re.M | re.S)
    (tmp_path / "main.c").write_text(program)
    strict = ["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
    rpath = f"-Wl,-rpath,{library.parent}"
    main = tmp_path / "main"
    run(str(CC), *strict, INCLUDES[0], tmp_path / "main.c", library, rpath, "-o", main)

    monkeypatch.chdir(tmp_path)
    readme.run(page, [])  # writes weights.bin
    expected = capsys.readouterr().out.split()
    printed = run(main).split()
    assert len(printed) == len(expected) == 5
    assert np.allclose(np.array(printed, float), np.array(expected, float), rtol=0, atol=1e-6)
    best, own = fastlstm.available_isas()[0], fastlstm.config()["isa"]
    if "generic" not in (best, own) or best == own:  # else the promise on bits does not hold
        assert printed == expected


USE = """
#include "fastlstm.h"
fastlstm_io io = FASTLSTM_IO_INIT;
fastlstm_spec spec = FASTLSTM_SPEC_INIT;
fastlstm_status use() { return fastlstm_forward(nullptr, nullptr, &io, nullptr); }
"""


def test_the_header_is_cplusplus_too(tmp_path: Path) -> None:
    compiler = shutil.which("g++") or shutil.which("c++")
    if compiler is None:
        pytest.skip("needs a C++ compiler")
    (tmp_path / "use.cpp").write_text(USE)
    strict = ["-std=c++11", "-Wall", "-Wpedantic", "-Werror", "-fsyntax-only"]
    run(compiler, *strict, INCLUDES[0], tmp_path / "use.cpp")
