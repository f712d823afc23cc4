# SPDX-License-Identifier: BSD-3-Clause
"""``python -m fastlstm inspect``, ``convert`` and ``verify``."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any, TextIO

import numpy as np

from . import formats
from .description import Layer
from .errors import FormatError, printable
from .imported import Imported, changes


def add_commands(commands: Any) -> None:
    """Put the three commands into a parser of the command line."""
    inspect = commands.add_parser(
        "inspect",
        help="recurrent layers of a model's file",
        description="Show the recurrent layers of a file, what stands around them, and what is "
        "not supported and why.",
    )
    inspect.add_argument("file", help=f"one of {_endings()}")
    inspect.add_argument("--json", action="store_true", help="as JSON")
    convert = commands.add_parser(
        "convert",
        help="recurrent layers from one format into another",
        description="Write the recurrent layers of one file into another, whose format its ending "
        "says. What that cannot hold is named; layers with weights are left out only if told.",
    )
    convert.add_argument("source", metavar="IN", help=f"one of {_endings()}")
    convert.add_argument("target", metavar="OUT", help=f"one of {_endings(writable=True)}")
    convert.add_argument("--layer", metavar="NAME", help="this recurrent layer alone")
    convert.add_argument("--drop", action="store_true", help="leave out what cannot be written")
    verify = commands.add_parser(
        "verify",
        help="a file's recurrent layers in its own engine and here",
        description="Run the recurrent layers of a file on random input, in the engine of its "
        "format and here, and print the largest difference of each.",
    )
    verify.add_argument("file", help=f"one of {_endings(verifiable=True)}")


def run(args: argparse.Namespace) -> int:
    """Run one of the commands; the exit status: 1 where a file or a format says no."""
    try:
        if args.command == "inspect":
            return _inspect(args.file, args.json)
        if args.command == "convert":
            return _convert(args.source, args.target, args.layer, args.drop)
        return _verify(args.file)
    except (FormatError, ValueError, TypeError, OSError, ImportError, MemoryError) as error:
        text = str(error) or type(error).__name__
        print("\n".join(printable(line) for line in text.split("\n")), file=sys.stderr)
        return 1


def _endings(writable: bool = False, verifiable: bool = False) -> str:
    """The endings of the formats there are, or of those that can be written or verified."""
    chosen = [
        form
        for form in formats.FORMATS
        if (form.writer or not writable) and (form.verifier or not verifiable)
    ]
    return ", ".join(end for form in chosen for end in form.suffixes)


def _inspect(file: str, as_json: bool) -> int:
    imported = formats.read(file)
    if as_json:
        print(json.dumps(imported.summary(), indent=2))
        return 0
    print(imported)
    rows = imported.summary()["layers"]
    parameters, size = (sum(row[key] for row in rows) for key in ("parameters", "bytes"))
    print(f"{len(rows)} recurrent, {parameters:,} parameters, {size:,} bytes")
    return 0


def _convert(source: str, target: str, layer: str | None, drop: bool) -> int:
    form = formats.format_of(target)
    if not form.writer:
        raise ValueError(f"{target}: {form.name} is read only; OUT must end in one of "
                         f"{_endings(writable=True)}")  # fmt: skip
    imported = formats.read(source)
    if layer is not None and layer not in imported.layers:
        raise ValueError(f"--layer must be one of {', '.join(imported.layers)}, got {layer!r}")
    names = [*imported.layers] if layer is None else [layer]
    if len(names) > 1 and not form.several:
        raise ValueError(
            f"{target}: {form.name} files hold one recurrent layer here, and {source} has "
            f"{len(names)}: choose one by --layer: {', '.join(names)}"
        )
    lost = _lost(imported, names)
    if form.several and (len(names) > 1 or form.name != "safetensors"):
        lost += [said for name in names for said in _unsaid(name, imported.stacks[name][0])]
    if lost and not drop:
        _list(f"{target} would lose:", lost, sys.stderr)
        print("--drop leaves that out; nothing was written", file=sys.stderr)
        return 1
    models = {name: imported.layers[name] for name in names}
    formats.function(form.writer)(models if len(names) > 1 else models[names[0]], target)
    _list(f"wrote {target}:", [f"{name}: {model!r}" for name, model in models.items()])
    bare = Counter(other.kind for other in imported.others if not _holds(other))
    left = [*lost, *([", ".join(f"{n} {kind}" for kind, n in bare.items())] if bare else [])]
    if left:
        _list("left out:", left)
    if imported.notes:
        _list("notes:", imported.notes)
    return 0


def _list(title: str, lines: Sequence[str], file: TextIO | None = None) -> None:
    """A title, and lines below it."""
    print(*map(printable, (title, *lines)), sep="\n  ", file=file)


def _unsaid(name: str, first: Layer) -> list[str]:
    """What computes the stack and no state dict says: whoever reads it would take another layer."""
    found = []
    if first.options is not None and first.options.equations() is not None:
        found.append(f"of {name}: {first.options!r}")
    if not first.reset_after:
        found.append(f"of {name}: reset_after=False")
    if first.nonlinearity != "tanh":
        found.append(f"of {name}: nonlinearity={first.nonlinearity!r}")
    return found


def _holds(other: Any) -> bool:
    """Whether something between recurrent layers has weights."""
    return any(array.dtype.kind == "f" and array.size > 1 for array in other.weights.values())


def _lost(imported: Imported, names: list[str]) -> list[str]:
    """What a file with these recurrent layers alone no longer has, a line each."""
    found = [f"{name}: {imported.layers[name]!r}" for name in imported.layers if name not in names]
    found += [f"{name}: {why}" for name, why in imported.unsupported.items()]
    found += [
        f"{other.name} ({other.kind}), with weights" for other in imported.others if _holds(other)
    ]
    for name in names:
        layers = imported.stacks[name]
        found += [f"of {name}: {said}" for said in changes(layers[0], layers[-1])]
    return found


def _verify(file: str) -> int:
    form = formats.format_of(file)
    if not form.verifier:
        raise ValueError(
            f"{file}: there is no engine of {form.name} to compare with; "
            f"there is one of {_endings(verifiable=True)}"
        )
    differences = formats.function(form.verifier)(file)
    rows = {printable(name): found for name, found in differences.items()}
    rows["largest"] = float(np.max([*differences.values()]))  # NaN if one is
    wide = max(map(len, rows))
    for name, difference in rows.items():
        print(f"{name:<{wide}}  {difference:.3g}")
    return 0
