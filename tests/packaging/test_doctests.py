# SPDX-License-Identifier: BSD-3-Clause
"""Examples in docstrings run as they stand, each by itself, and print what they say."""

from __future__ import annotations

import doctest
import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import fastlstm
from support import tflite_build

ROOM = Path(fastlstm.__file__).parent
NEEDED = {"sklearn": "sklearn", "torch": "torch"}  # package -> the library that all of it needs
OPTIONAL = {"h5py", "onnx", "tflite", "torch"}  # what single examples need


def modules(package: str) -> Iterator[ModuleType]:
    """The modules of a package that have examples: others may need libraries that are not there."""
    for path in sorted((ROOM / package).glob("*.py")):
        if ">>> " in path.read_text():
            names = ["fastlstm", package, path.stem.removeprefix("__init__")]
            yield importlib.import_module(".".join(filter(None, names)))


def examples(package: str) -> list[doctest.DocTest]:
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = [test for module in modules(package) for test in finder.find(module, globs={})]
    return [test for test in found if test.examples]


def provide(test: doctest.DocTest) -> str:
    """Make the file that an example reads and no writer of ours makes; what that lacks, or ""."""
    if "model.tflite" not in str(test.docstring):
        return ""
    flags = ("both", "projection", "peepholes", "coupled", "norm", "time_major")
    config = {**dict.fromkeys(flags, False), "cell_clip": 0.0, "proj_clip": 0.0, "reduce": ""}
    try:
        data, _ = tflite_build.lstm(0, config)
    except ImportError as error:
        return f"{test.name}: {error}"
    Path("model.tflite").write_bytes(data)
    return ""


def run(test: doctest.DocTest) -> tuple[str, str]:
    """What is wrong with an example, and what it lacks to run; "" and "" where it ran."""
    try:
        doctest.DebugRunner(verbose=False).run(test)
    except doctest.DocTestFailure as failure:
        source, wanted = failure.example.source, failure.example.want
        return f"{test.name}: {source}gave\n{failure.got}instead of\n{wanted}", ""
    except doctest.UnexpectedException as failure:
        error = failure.exc_info[1]
        if isinstance(error, ImportError) and str(error.name).split(".")[0] in OPTIONAL:
            return "", f"{test.name}: {error}"
        return f"{test.name}: {failure.example.source}raised {error!r}", ""
    return "", ""


@pytest.mark.parametrize("package", ["", "bench", "interop", "nn", "reference", "sklearn", "torch"])
def test_examples(package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if package in NEEDED:
        pytest.importorskip(NEEDED[package], reason=f"fastlstm.{package} needs {NEEDED[package]}")
    monkeypatch.chdir(tmp_path)  # where examples write files
    found = examples(package)
    assert f"fastlstm.{package}".rstrip(".") in [test.name for test in found]
    outcomes = [("", lack) if (lack := provide(test)) else run(test) for test in found]
    wrong = [fault for fault, _ in outcomes if fault]
    assert not wrong, "\n".join(wrong)
    lacking = [lack for _, lack in outcomes if lack]
    if lacking:
        pytest.skip("; ".join(lacking))


@pytest.mark.parametrize(
    "text,words",
    [
        (">>> 1 + 1\n3\n", "gave\n2\ninstead of\n3"),
        (">>> np.ones(3)\n", "raised NameError"),
        (">>> import no_such_module\n", "raised ModuleNotFoundError"),
        (">>> 1 + 1\n2\n>>> 1 + 2\n", "gave\n3\ninstead of\n"),
    ],
    ids=["value", "name", "module", "silence"],
)
def test_wrong_examples_are_seen(text: str, words: str) -> None:
    test = doctest.DocTestParser().get_doctest(text, {}, "it", None, None)
    fault, lack = run(test)
    assert words in fault
    assert not lack


def test_missing_libraries_are_told() -> None:
    text = ">>> raise ImportError('onnx is needed', name='onnx.helper')\n"
    test = doctest.DocTestParser().get_doctest(text, {}, "it", None, None)
    assert run(test) == ("", "it: onnx is needed")
