# SPDX-License-Identifier: BSD-3-Clause
"""What the benchmark asks of an engine."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
from collections.abc import Callable
from typing import Protocol

from .agreement import Outputs
from .shapes import Arrays, Shape

INFERENCE, TRAINING = ("inference",), ("training",)
BOTH = INFERENCE + TRAINING


class Engine(Protocol):
    """One way to run a stack of layers.

    name       as printed and as given to ``--engines``
    package    the distribution whose version is reported
    padded     True for an engine that ignores lengths (its ragged outputs differ by design)
    tasks      what it is measured in
    """

    name: str
    package: str
    padded: bool
    tasks: tuple[str, ...]

    def available(self) -> bool:
        """Whether the libraries can be found. Imports nothing."""
        ...

    def refuses(self, shape: Shape) -> str | None:
        """Why this engine can't run the shape of one of its tasks, or None if it can."""
        ...

    def setup(self, threads: int) -> None:
        """Import, set the thread count and flush denormals; once per process, before `prepare`."""
        ...

    def prepare(self, shape: Shape, arrays: Arrays, threads: int) -> Callable[[], object]:
        """A closure that runs one inference or one training step.

        For a stream each call carries the state on.
        """
        ...

    def output(self, shape: Shape, result: object) -> Outputs:
        """What a call returned, as arrays."""
        ...


def found(*modules: str) -> bool:
    """Whether all of these can be imported. Imports none of them."""
    return all(importlib.util.find_spec(module) is not None for module in modules)


def version(engine: Engine) -> str:
    """The version of an engine's distribution; "unknown" if neither it nor its module says."""
    try:
        return importlib.metadata.version(engine.package)
    except importlib.metadata.PackageNotFoundError:  # built in place, not installed
        return str(getattr(sys.modules.get(engine.package), "__version__", "unknown"))


def refusal(engine: Engine, shape: Shape) -> str | None:
    """Why an engine isn't run on a shape, or None if it is."""
    if shape.task not in engine.tasks:
        return f"it is not measured in {shape.task}"
    return engine.refuses(shape)
