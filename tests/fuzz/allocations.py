# SPDX-License-Identifier: BSD-3-Clause
"""Each of Python's allocations fails in turn, alone or with some after it, in one operation.

What comes of it is MemoryError or the result, the state is that before the operation or that
after it, and everything goes on working. It needs `_testcapi`, which builds of CPython for
distributions may lack.
"""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import fastlstm

from .driver import Skipped
from .hostile import Rng, one_of
from .world import OPERATIONS, World, operation, same

try:
    from _testcapi import remove_mem_hooks, set_nomemory
except ImportError as error:
    raise Skipped("this Python has no _testcapi.set_nomemory") from error

OURS = str(Path(fastlstm.__file__).parent)
# Errors of Python and NumPy where an allocation fails, which are nothing of ours.
OTHERS = (
    "can't allocate lock",
    "can't allocate read lock",
    "NULL object passed to Py_BuildValue",  # array.ctypes
)
# safetensors panics; a new random generator of NumPy's crashes in CPython's context variables.
LEFT_OUT = ("file", "new")


def others(error: BaseException) -> bool:
    """Whether Python or NumPy has gone wrong."""
    innermost = error.__traceback__
    while innermost is not None and innermost.tb_next is not None:
        innermost = innermost.tb_next
    theirs = innermost is not None and not innermost.tb_frame.f_code.co_filename.startswith(OURS)
    return str(error) in OTHERS or (isinstance(error, SystemError) and theirs)


def attempt(call: Any, first: int, last: int) -> tuple[str, Any]:
    """How a call ends whose allocations first to last, not included, fail."""
    result: Any = None
    ending = "well"
    set_nomemory(first, last)
    try:
        result = call()
    except MemoryError:
        ending = "MemoryError"
    except BaseException as error:
        remove_mem_hooks()
        ending = "" if others(error) else repr(error)
        if ending:
            raise AssertionError(f"allocation {first}: {error!r}") from error
    finally:
        remove_mem_hooks()
    return ending, result


def case(rng: Rng) -> None:
    world = World(rng)
    name = one_of(rng, [name for name in OPERATIONS if name not in LEFT_OUT])
    if rng.random() < 0.5:
        world.lstm(world.x)  # packed already
    gc.disable()  # objects of earlier cases are no part of this one
    # Not all to the end: for want of a number CPython 3.11 then unwinds a with statement forever.
    count = one_of(rng, (1, 1, 1, 2, 5, 100))
    first, well = 0, 0
    try:
        while well < 25 and first < 4000:
            before, grads = world.state(), world.grads()
            twin = world.twin()
            expected = operation(twin, name)()
            after = twin.state()
            ending, result = attempt(operation(world, name), first, first + count)
            now = world.state()
            assert same(now, after) or (ending != "well" and same(now, before)), (
                f"{ending or 'an error'}: a state of neither before nor after"
            )
            assert ending != "well" or same(result, expected), "a wrong result"
            now_grads = world.grads()
            if name == "record":
                assert ending != "well" or same(now_grads, twin.grads()), "a wrong tape"
            else:
                assert same(now_grads, grads) if grads is not None else now_grads is None, (
                    "a changed tape"
                )
            world.consistent()
            well = well + 1 if ending == "well" else 0
            first += 1
    except BaseException as error:
        raise AssertionError(f"{name}, allocation {first} of {count}") from error
    finally:
        gc.enable()
