# SPDX-License-Identifier: BSD-3-Clause
"""``python -m fastlstm inspect``, ``convert`` and ``verify``."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from typing import Any

from . import formats
from .errors import FormatError
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
    except (FormatError, ValueError, TypeError, OSError, ImportError) as error:
        print(error, file=sys.stderr)
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
    if lost and not drop:
        print(f"{target} would lose:", *lost, sep="\n  ", file=sys.stderr)
        print("--drop leaves that out; nothing was written", file=sys.stderr)
        return 1
    models = {name: imported.layers[name] for name in names}
    formats.function(form.writer)(models if len(names) > 1 else models[names[0]], target)
    print(f"wrote {target}:", *(f"{name}: {model!r}" for name, model in models.items()), sep="\n  ")
    bare = Counter(other.kind for other in imported.others if not _holds(other))
    left = [*lost, *([", ".join(f"{n} {kind}" for kind, n in bare.items())] if bare else [])]
    if left:
        print("left out:", *left, sep="\n  ")
    if imported.notes:
        print("notes:", *imported.notes, sep="\n  ")
    return 0


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
    wide = max(map(len, differences))
    for name, difference in differences.items():
        print(f"{name:<{wide}}  {difference:.3g}")
    print(f"{'largest':<{wide}}  {max(differences.values()):.3g}")
    return 0
