# SPDX-License-Identifier: BSD-3-Clause
"""The address space of the process ends at one step after another, in operations on megabytes.

What comes of it is MemoryError or the result, and everything goes on working.
"""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any

from support import processes

from .driver import Skipped
from .hostile import Rng, one_of
from .world import OPERATIONS, World, operation, same

if processes.SANITIZED:
    raise Skipped("sanitizers need all of the address space")

OTHERS = (
    "can't start new thread",
    "can't allocate lock",
)  # errors of Python, which are nothing of ours
STEP = 1 << 18  # bytes
STEPS = 24


def size() -> int:
    """Bytes of address space that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def attempt(call: Any, room: int) -> tuple[str, Any]:
    """How a call ends for which there are so many more bytes."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (size() + room, hard))
    try:
        return "well", call()
    except MemoryError:
        return "MemoryError", None
    except RuntimeError as error:
        if str(error) in OTHERS:
            return "", None
        raise
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))


def case(rng: Rng) -> None:
    world = World(rng, sizes=(64, 96), extent=(int(one_of(rng, [1, 50, 200])), 16))
    # Others are imported late, or by safetensors, which panics.
    name = one_of(rng, [name for name in OPERATIONS if name not in ("file", "look")])
    for i in range(STEPS):
        before = world.state()
        twin = world.twin()
        expected = operation(twin, name)()
        after = twin.state()
        ending, result = attempt(operation(world, name), i * STEP * int(rng.integers(1, 4)))
        now = world.state()
        assert same(now, after) or (ending != "well" and same(now, before)), f"{name}: a torn state"
        assert ending != "well" or same(result, expected), f"{name}: a wrong result"
        world.consistent()
