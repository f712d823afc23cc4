# SPDX-License-Identifier: BSD-3-Clause
"""Damaged files, many of them, in a process of their own: a reader refuses them and survives.

What is asserted of each: the reader returns, or raises one of the errors that it documents; it
takes less than a second of the processor's time (and one more a MiB); memory grows by less than ten
times the file, and what an interpreter needs anyway. The same seeds make the same files.
"""

from __future__ import annotations

import importlib
import random
import resource
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support import processes

SECONDS = 1.0  # for a small file, and as many more as it has MiB
SLACK = 48 << 20  # bytes of caches, garbage and modules that are imported late

Mutation = Callable[[bytes, random.Random], bytes]


def of_bytes(data: bytes, rng: random.Random) -> bytes:
    """A file with some bytes changed, cut out, doubled or put in."""
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 4, 8])):
        at = rng.randrange(len(changed) + 1)
        size = rng.choice([1, 1, 2, 4, 8, 64])
        how = rng.randrange(7)
        if how == 0 and at < len(changed):
            changed[at] ^= 1 << rng.randrange(8)
        elif how == 1:
            changed[at : at + size] = rng.choice([b"\0", b"\xff", b"\x7f", b"\x80"]) * size
        elif how == 2:
            del changed[at : at + size]
        elif how == 3:
            changed[at:at] = changed[at : at + size]
        elif how == 4:
            changed[at : at + size] = rng.randbytes(size)
        elif how == 5:
            number = rng.choice([1 << 31, (1 << 63) - 1, 1 << 40, 10**9])
            changed[at : at + 8] = number.to_bytes(8, "little")
        elif rng.randrange(4) == 0:
            del changed[at:]
    return bytes(changed)


def of_nothing(data: bytes, rng: random.Random) -> bytes:
    """The file as it is, to look at memory alone."""
    return data


def assert_survives(
    reader: str,
    file: Path,
    count: int,
    *,
    mutation: str = "support.mutations:of_bytes",
    each: float = 0.2,
    refused: float = 0.25,
) -> None:
    """So many mutants of a file through a reader.

    `reader` and `mutation` are functions, "module:function": of a path, and of bytes and a
    generator; `each` is how long one may take on a loaded machine, in seconds. A share of
    `refused` at least must be refused, else the damage reaches nothing.
    """
    code = (
        "import sys; sys.path[:0] = [sys.argv[1]]; from support import mutations; mutations.main()"
    )
    tests = str(Path(__file__).resolve().parents[1])
    out = processes.check(
        code, tests, reader, mutation, str(file), str(count), timeout=60 + count * each
    )
    found = int(out.split("refused ")[-1].split()[0])
    assert found >= count * refused, out[-500:]


def main() -> None:
    """In the child: all mutants, one after another."""
    reader, mutation = _function(sys.argv[2]), _function(sys.argv[3])
    original, count = Path(sys.argv[4]), int(sys.argv[5])
    data = original.read_bytes()
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
    signal.signal(signal.SIGVTALRM, _hangs)
    outcomes: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / original.name
        path.write_bytes(data)
        reader(path)  # whole, and everything is imported
        for seed in range(count):
            print(f"mutant {seed} of {original.name}", file=sys.stderr, flush=True)
            path.write_bytes(mutation(data, random.Random(seed)))
            outcomes[_tried(reader, path)] += 1
    print(dict(outcomes))
    print(f"refused {count - outcomes['read']} of {count}")


def _function(name: str) -> Callable[..., Any]:
    module, _, function = name.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), function)
    return found


class HangError(Exception):
    """The reader took too long."""


def _hangs(*_: object) -> None:
    raise HangError


def _tried(reader: Callable[[Path], Any], path: Path) -> str:
    """What became of one mutant."""
    from fastlstm.interop import FormatError

    size = path.stat().st_size
    before = memory("VmRSS", reset=True)
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS * (1 + size / (1 << 20)))
    error: FormatError | None = None
    try:
        reader(path)
    except FormatError as caught:
        error = caught
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    check_growth(memory("VmHWM") - before, size)
    if error is None:
        return "read"
    assert str(error).startswith(str(path)), error
    return type(error).__name__


def check_growth(grown: int, size: int) -> None:
    """Memory grew by so many bytes for a file of this size."""
    assert grown <= 10 * size + SLACK, f"{grown} bytes for a file of {size}"


def memory(field: str, reset: bool = False) -> int:
    """A line of this process's status, in bytes; the largest size starts anew if told."""
    if reset:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    with open("/proc/self/status") as file:
        for line in file:
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) * 1024
    raise LookupError(field)
