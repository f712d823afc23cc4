# SPDX-License-Identifier: BSD-3-Clause
"""``python -m fastlstm inspect``, ``convert`` and ``verify``."""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Any, TextIO

import numpy as np

from . import formats
from .description import Layer
from .errors import FormatError, printable
from .imported import Imported, changes

# Nodes of ONNX that hand on all their values, whatever the shape.
_MOVES = ("Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")


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
    _add_external(inspect)
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
    _add_external(convert)
    verify = commands.add_parser(
        "verify",
        help="a file's recurrent layers in its own engine and here",
        description="Run the recurrent layers of a file on random input, in the engine of its "
        "format and here, and print the largest difference of each.",
    )
    verify.add_argument("file", help=f"one of {_endings(verifiable=True)}")
    _add_external(verify)


def _add_external(command: Any) -> None:
    command.add_argument(
        "--external-data",
        action="store_true",
        help="of ONNX: read weights from other files of the model's folder, such as .onnx.data",
    )


def run(args: argparse.Namespace) -> int:
    """Run one of the commands; the exit status: 1 where a file or a format says no."""
    try:
        if args.command == "inspect":
            return _inspect(args.file, args.json, args.external_data)
        if args.command == "convert":
            return _convert(args.source, args.target, args.layer, args.drop, args.external_data)
        return _verify(args.file, args.external_data)
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


def _inspect(file: str, as_json: bool, external_data: bool) -> int:
    imported = formats.read(file, external_data)
    if as_json:
        print(json.dumps(imported.summary(), indent=2))
        return 0
    print(imported)
    rows = imported.summary()["layers"]
    parameters, size = (sum(row[key] for row in rows) for key in ("parameters", "bytes"))
    print(f"{len(rows)} recurrent, {parameters:,} parameters, {size:,} bytes")
    return 0


def _convert(source: str, target: str, layer: str | None, drop: bool, external_data: bool) -> int:
    form = formats.format_of(target)
    if not form.writer:
        raise ValueError(f"{target}: {form.name} is read only; OUT must end in one of "
                         f"{_endings(writable=True)}")  # fmt: skip
    imported = formats.read(source, external_data)
    if layer is not None and layer not in imported.layers:
        raise ValueError(f"--layer must be one of {', '.join(imported.layers)}, got {layer!r}")
    names = [*imported.layers] if layer is None else [layer]
    if len(names) > 1 and not form.several:
        raise ValueError(
            f"{target}: {form.name} files hold one recurrent layer here, and {source} has "
            f"{len(names)}: choose one by --layer: {', '.join(names)}"
        )
    lost = _lost(imported, names)
    bare = form.several and (len(names) > 1 or form.name != "safetensors")
    if bare:  # a state dict and nothing else
        lost += [said for name in names for said in _unsaid(name, imported.stacks[name][0])]
    if lost and not drop:
        _list(f"{target} would lose:", lost, sys.stderr)
        print("--drop leaves that out; nothing was written", file=sys.stderr)
        return 1
    models = {name: imported.layers[name] for name in names}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        formats.function(form.writer)(models if len(names) > 1 else models[names[0]], target)
    _list(f"wrote {target}:", [f"{name}: {model!r}" for name, model in models.items()])
    kinds = Counter(other.kind for other in imported.others if _plain(other))
    left = [*lost, *([", ".join(f"{n} {kind}" for kind, n in kinds.items())] if kinds else [])]
    if left:
        _list("left out:", left)
    notes = [*imported.notes, *(str(warned.message) for warned in caught)]
    if bare:
        first = any(getattr(model, "batch_first", False) for model in models.values())
        way = f"interop.from_torch({target!r}, batch_first={first})"
        notes.append(f"a state dict, without batch_first: {way} reads it, fastlstm.load does not")
    if notes:
        _list("notes:", notes)
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


def _why(other: Any) -> str:
    """Why results are others without something between recurrent layers; "": it may be nothing."""
    if other.kind == "masking":
        return "which says what steps count"
    holds = any(array.dtype.kind == "f" and array.size > 1 for array in other.weights.values())
    return "with weights" if holds else ""


def _plain(other: Any) -> bool:
    """Whether it is neither that nor a node of ONNX that only moves axes."""
    return not _why(other) and other.kind not in _MOVES


def _lost(imported: Imported, names: list[str]) -> list[str]:
    """What a file with these recurrent layers alone no longer has, a line each."""
    found = [f"{name}: {imported.layers[name]!r}" for name in imported.layers if name not in names]
    found += [f"{name}: {why}" for name, why in imported.unsupported.items()]
    found += [
        f"{other.name} ({other.kind}), {why}" for other in imported.others if (why := _why(other))
    ]
    for name in names:
        layers = imported.stacks[name]
        found += [f"of {name}: {said}" for said in changes(layers[0], layers[-1])]
    return found


def _verify(file: str, external_data: bool) -> int:
    form = formats.format_of(file)
    if not form.verifier:
        raise ValueError(
            f"{file}: there is no engine of {form.name} to compare with; "
            f"there is one of {_endings(verifiable=True)}"
        )
    options = formats.options(form, file, external_data)
    differences = formats.function(form.verifier)(file, **options)
    rows = {printable(name): found for name, found in differences.items()}
    rows["largest"] = float(np.max([*differences.values()]))  # NaN if one is
    wide = max(map(len, rows))
    for name, difference in rows.items():
        print(f"{name:<{wide}}  {difference:.3g}")
    return 0
