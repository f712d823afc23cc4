# SPDX-License-Identifier: BSD-3-Clause
"""Every public docstring is one that numpydoc parses, and names the parameters that there are."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import fastlstm
import fastlstm.interop
import fastlstm.reference

SECTIONS = [  # in the order in which they must come
    "Parameters", "Attributes", "Returns", "Yields", "Raises", "Warns", "See Also", "Notes",
    "References", "Examples",
]  # fmt: skip


def parsed(text: str) -> tuple[str, dict[str, str]]:
    """The summary, and the text of each section by its name. ValueError where it has a fault."""
    lines = inspect.cleandoc(text).splitlines()
    if not lines or not lines[0].endswith((".", "?")):
        raise ValueError("the summary is no sentence of one line")
    if len(lines) > 1 and lines[1]:
        raise ValueError("the summary is followed by no empty line")
    found: dict[str, list[str]] = {}
    current: list[str] = []
    for at, line in enumerate(lines):
        below = lines[at + 1] if at + 1 < len(lines) else ""
        if re.fullmatch("-{3,}", below):
            if line not in SECTIONS:
                raise ValueError(f"{line!r} is no section")
            if len(below) != len(line) or lines[at - 1]:
                raise ValueError(f"{line} is not underlined by its length, or not set apart")
            if line in found:
                raise ValueError(f"{line} comes twice")
            current = found[line] = []
        elif line in SECTIONS:
            raise ValueError(f"{line} is not underlined")
        elif re.match(r"(Raises|Returns) ", line):
            raise ValueError(f"{line!r} belongs into a section")
        elif not re.fullmatch("-{3,}", line):
            current.append(line)
    if list(found) != [name for name in SECTIONS if name in found]:
        raise ValueError(f"sections come in the order {list(found)}")
    for name, body in found.items():
        if not any(body):
            raise ValueError(f"{name} is empty")
        if name in ("Parameters", "Raises") and body[0].startswith(" "):
            raise ValueError(f"{name} begins with an indented line")
    return lines[0], {name: "\n".join(body) for name, body in found.items()}


def names(section: str) -> list[str]:
    """What a section of entries ("a, b : type", then indented text) is about."""
    entries = [line for line in section.splitlines() if line and not line.startswith(" ")]
    return [name.strip() for entry in entries for name in entry.split(" : ")[0].split(",")]


def fault(text: str | None, parameters: list[str] | None, returns: bool) -> str | None:
    """What is wrong with a docstring, if anything. None for parameters: whatever there are."""
    if not text:
        return "it has no docstring"
    try:
        _, sections = parsed(text)
    except ValueError as error:
        return str(error)
    described = names(sections.get("Parameters", ""))
    if parameters is not None and described != parameters:
        return f"it describes {described} and takes {parameters}"
    if returns and "Returns" not in sections:
        return "it does not say what it returns"
    return None


def takes(function: Callable[..., Any]) -> list[str]:
    """Names of parameters as docstrings have them."""
    stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    found = inspect.signature(function).parameters.values()
    return [stars.get(p.kind, "") + p.name for p in found if p.name != "self"]


def public(module: Any) -> Iterator[tuple[str, str | None, list[str] | None, bool]]:
    """Name, docstring, parameters, and whether it returns something, of all that is public."""
    for name in module.__all__:
        thing = getattr(module, name)
        where = f"{module.__name__}.{name}"
        if inspect.isfunction(thing):
            yield where, thing.__doc__, takes(thing), returns(thing)
        elif inspect.isclass(thing):
            record = issubclass(thing, tuple) or dataclasses.is_dataclass(thing)
            yield where, thing.__dict__.get("__doc__"), None if record else takes(thing), False
            for method, value in members(thing):
                function = getattr(value, "__func__", getattr(value, "fget", value))
                bound = None if isinstance(value, property) else takes(function)
                if isinstance(value, classmethod) and bound:
                    bound = bound[1:]
                gives = not isinstance(value, property) and returns(function)
                yield f"{where}.{method}", function.__doc__, bound, gives


def members(kind: type) -> Iterator[tuple[str, Any]]:
    """Public methods and properties that are ours, inherited ones included."""
    seen = set()
    for base in kind.__mro__:
        for name, value in vars(base).items():
            function = getattr(value, "__func__", getattr(value, "fget", value))
            ours = inspect.isfunction(function) and function.__module__.startswith("fastlstm")
            if ours and (name[0] != "_" or name == "__call__") and name not in seen:
                seen.add(name)
                yield name, value


def returns(function: Any) -> bool:
    return function.__annotations__.get("return", "None") not in ("None", None)


def modules() -> list[Any]:
    found = [fastlstm, fastlstm.interop, fastlstm.nn, fastlstm.optim, fastlstm.reference]
    with contextlib.suppress(ImportError):
        found.append(importlib.import_module("fastlstm.sklearn"))
    try:
        import torch  # noqa: F401
    except ImportError:
        return found
    return [*found, fastlstm.torch]


def test_public_docstrings() -> None:
    found = {name: fault(*rest) for module in modules() for name, *rest in public(module)}
    assert {
        "fastlstm.LSTM", "fastlstm.LSTM.__call__", "fastlstm.RNN.backward", "fastlstm.load",
        "fastlstm.RNNCell.from_torch", "fastlstm.Tape.nbytes", "fastlstm.optim.SGD.step",
        "fastlstm.reference.rnn_forward", "fastlstm.interop.from_onnx",
        "fastlstm.interop.Layer.model", "fastlstm.nn.SequenceModel.backward",
    } <= found.keys()  # fmt: skip
    assert not {name: why for name, why in found.items() if why}


def test_every_public_name_has_an_example() -> None:
    lacking, seen = [], 0
    for module in modules():
        assert ">>> " in str(module.__doc__), module.__name__
        for name in module.__all__:
            thing = getattr(module, name)
            if not (inspect.isfunction(thing) or inspect.isclass(thing)):
                continue  # a type alias, or the version
            seen += 1
            _, sections = parsed(str(vars(thing).get("__doc__", thing.__doc__)))
            if ">>> " not in sections.get("Examples", ""):
                lacking.append(f"{module.__name__}.{name}")
    assert seen > 80
    assert not lacking


SOUND = """What it does.

More of it.

Parameters
----------
a, b : int
    Two numbers.
c
    Another one.

Returns
-------
int
    Their sum.
"""


@pytest.mark.parametrize(
    "old,new,words",
    [
        ("What it does.", "What it does", "no sentence"),
        ("does.\n\n", "does.\n", "no empty line"),
        ("----------\n", "", "Parameters is not underlined"),
        ("----------\n", "---\n", "underlined by its length"),
        ("it.\n\nPar", "it.\nPar", "not set apart"),
        ("Parameters", "Arguments_", "is no section"),
        ("Returns\n-------\nint\n    Their sum.", "Returns their sum.", "belongs into a section"),
        ("int\n    Their sum.\n", "", "Returns is empty"),
        ("Returns\n-------", "Raises\n------", "does not say what it returns"),
        ("More of it.", "Raises\n------\nE\n    Now.", "in the order"),
        ("More of it.", "Returns\n-------\nint\n    Now.", "comes twice"),
        ("a, b : int", "a : int", "takes ['a', 'b', 'c']"),
        ("a, b : int", "b, a : int", "takes ['a', 'b', 'c']"),
        ("a, b : int", "    a, b : int", "indented line"),
    ],
)
def test_faults_are_seen(old: str, new: str, words: str) -> None:
    assert fault(SOUND, ["a", "b", "c"], True) is None
    assert old in SOUND
    assert words in str(fault(SOUND.replace(old, new, 1), ["a", "b", "c"], True))
    assert fault(None, None, False)
