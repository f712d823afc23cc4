# SPDX-License-Identifier: BSD-3-Clause
"""Learning rates by the number of the update: objects that are called with it.

They keep nothing from call to call: training that was stopped goes on as if it had not been.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from .. import checks

Schedule = Callable[[int], float]
"""Whatever gives the learning rate of an update, counted from 0."""


class _Checked:
    """Schedules whose rates are >= 0 and whose numbers of updates are >= 1."""

    def __post_init__(self) -> None:
        for name in ("lr", "least"):
            if name in self.__dict__:
                checks.number(name, self.__dict__[name])
        for name in ("every", "steps"):
            if name in self.__dict__:
                checks.count(name, self.__dict__[name], 1)
        if "factor" in self.__dict__:
            checks.number("factor", self.__dict__["factor"])

    def __call__(self, step: int, /) -> float:
        """The learning rate of an update.

        Parameters
        ----------
        step : int
            How many updates there were before.

        Returns
        -------
        float
            Its learning rate.
        """
        return self._rate(step)

    def _rate(self, step: int) -> float:
        raise NotImplementedError


@dataclass(frozen=True)
class Constant(_Checked):
    """The same learning rate always.

    Parameters
    ----------
    lr : float
        The rate, >= 0.

    Examples
    --------
    >>> from fastlstm import nn
    >>> nn.Constant(0.1)(7)
    0.1
    """

    lr: float

    def _rate(self, step: int) -> float:
        return self.lr


@dataclass(frozen=True)
class StepDecay(_Checked):
    """lr factor^(step // every), as ``torch.optim.lr_scheduler.StepLR``.

    Parameters
    ----------
    lr : float
        The first rate, >= 0.
    every : int
        Updates between two changes.
    factor : float, default 0.1
        Of each change, >= 0.

    Examples
    --------
    >>> from fastlstm import nn
    >>> schedule = nn.StepDecay(0.1, every=2)
    >>> [round(schedule(step), 4) for step in range(5)]
    [0.1, 0.1, 0.01, 0.01, 0.001]
    """

    lr: float
    every: int
    factor: float = 0.1

    def _rate(self, step: int) -> float:
        return self.lr * float(self.factor ** (step // self.every))


@dataclass(frozen=True)
class Exponential(_Checked):
    """lr factor^step, as ``torch.optim.lr_scheduler.ExponentialLR``.

    Parameters
    ----------
    lr : float
        The first rate, >= 0.
    factor : float
        From each update to the next, >= 0.

    Examples
    --------
    >>> from fastlstm import nn
    >>> schedule = nn.Exponential(0.1, factor=0.5)
    >>> [schedule(step) for step in range(4)]
    [0.1, 0.05, 0.025, 0.0125]
    """

    lr: float
    factor: float

    def _rate(self, step: int) -> float:
        return self.lr * float(self.factor**step)


@dataclass(frozen=True)
class Cosine(_Checked):
    """Half a cosine from lr down to `least`, which stays (Loshchilov and Hutter 2017).

    Parameters
    ----------
    lr : float
        The first rate, >= 0.
    steps : int
        Updates until `least` is reached.
    least : float, default 0
        The last rate, >= 0.

    Examples
    --------
    >>> from fastlstm import nn
    >>> schedule = nn.Cosine(0.1, steps=4)
    >>> [round(schedule(step), 4) for step in range(6)]
    [0.1, 0.0854, 0.05, 0.0146, 0.0, 0.0]
    """

    lr: float
    steps: int
    least: float = 0.0

    def _rate(self, step: int) -> float:
        share = min(step / self.steps, 1.0)
        return self.least + (self.lr - self.least) * (1 + math.cos(math.pi * share)) / 2


@dataclass(frozen=True)
class WarmUp(_Checked):
    """A straight line up to another schedule's first rate, then that schedule.

    Parameters
    ----------
    then : Schedule
        What follows; its updates count from the end of the line.
    steps : int
        Updates of the line: the first has 1 / steps of the rate, the last the whole.

    Examples
    --------
    >>> from fastlstm import nn
    >>> schedule = nn.WarmUp(nn.Exponential(0.1, 0.5), steps=2)
    >>> [schedule(step) for step in range(5)]
    [0.05, 0.1, 0.1, 0.05, 0.025]
    """

    then: Schedule
    steps: int

    def _rate(self, step: int) -> float:
        if step < self.steps:
            return self.then(0) * (step + 1) / self.steps
        return self.then(step - self.steps)
