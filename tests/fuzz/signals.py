# SPDX-License-Identifier: BSD-3-Clause
"""Sequences of operations, each interrupted by an exception or a handler that uses the objects.

An interrupt comes before a random bytecode of our Python code, or after a random time, by a
signal. The state afterwards is that before the operation or that after it, of all objects
together.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from typing import Any

from support.bytecodes import before_bytecode

from .hostile import Rng, one_of
from .world import OPERATIONS, READS, World, operation, same


class Arrived(BaseException):
    """What a handler raises."""


class Interrupt:
    """Calls `act` once while an operation runs."""

    def __init__(self, act: Callable[[], None]) -> None:
        self.act, self.inside, self.came = act, False, False

    def __call__(self, *_: object) -> None:
        if self.inside and not self.came:
            self.came = True
            self.act()


@contextlib.contextmanager
def after_time(seconds: float, interrupt: Interrupt) -> Iterator[None]:
    signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def one(rng: Rng, world: World, large: bool, log: list[str]) -> None:
    name, inner = one_of(rng, OPERATIONS), one_of(rng, READS if rng.random() < 0.6 else OPERATIONS)
    kind = one_of(rng, ("raise", "raise", "use", "use and raise"))
    before, grads = world.state(), world.grads()
    expected, expected_grads = ends(world, [name])
    # The handler's operation comes before ours, after it, or not at all where it is refused.
    allowed = [before, expected]
    allowed_grads = [grads, expected_grads]
    if kind != "raise":
        for order in ([inner], [name, inner], [inner, name]):
            one_end, one_grads = ends(world, order)
            allowed.append(one_end)
            allowed_grads.append(one_grads)

    def act() -> None:
        if kind != "raise":
            log.append(inner)
            with contextlib.suppress(RuntimeError):  # what is in use
                operation(world, inner)()
        if kind != "use":
            raise Arrived

    interrupt = Interrupt(act)
    if rng.random() < 0.5:
        when: Any = before_bytecode(int(10 ** rng.uniform(0, 3.3)), interrupt)
    else:
        when = after_time(10 ** rng.uniform(-5.5, -2 if large else -3), interrupt)
    log.append(f"{kind} in {name}: ")
    ended = False
    try:
        with when:
            interrupt.inside = True
            operation(world, name)()
            interrupt.inside = False
            ended = True
    except Arrived:
        pass
    except (RuntimeError, ValueError) as error:
        # The handler's own use may be what is in the way, or its eval() in that of a step.
        refused = isinstance(error, RuntimeError) or (name == "optimise" and inner == "eval")
        if not (refused and interrupt.came and kind != "raise"):
            raise AssertionError(f"{error!r} without a reason") from error
    finally:
        interrupt.inside = False
    if "record" in (name, inner):
        allowed_grads.append(None)
    now = world.state()
    wanted = allowed if interrupt.came or not ended else [expected]
    assert any(same(now, state) for state in wanted), (
        f"a state of neither before nor after: {torn(now, wanted)}"
    )
    now_grads = world.grads()
    assert any(
        same(now_grads, one) if one is not None else now_grads is None for one in allowed_grads
    ), "a tape that is neither that of before nor that of after"
    world.consistent()


def ends(world: World, names: list[str]) -> tuple[Any, Any]:
    """State and gradients after these operations on a twin."""
    twin = world.twin()
    for name in names:
        operation(twin, name)()
    grads = twin.grads() if "record" in names else world.grads()
    return twin.state(), grads


def torn(now: Any, allowed: list[Any]) -> list[list[str]]:
    return [[part for part in now if not same(now[part], one[part])] for one in allowed]


def case(rng: Rng) -> None:
    large = bool(rng.random() < 0.3)
    world, log = World(rng, sizes=(40, 48), extent=(60, 4)) if large else World(rng), list[str]()
    try:
        for _ in range(6):
            one(rng, world, large, log)
            if rng.random() < 0.3:
                world.stream = world.lstm.stream(world.batch)
                world.streamed = world.lstm.state_dict()
    except BaseException as error:
        raise AssertionError(f"after {log}") from error
