# SPDX-License-Identifier: BSD-3-Clause
"""What looks at a validation loss after every epoch: when to stop, when to learn more slowly."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from .. import checks
from ..checks import Array


class Stateful(Protocol):
    """What gives all that it knows as arrays and numbers, and takes it back."""

    def state_dict(self) -> Mapping[str, Any]: ...
    def load_state_dict(self, state_dict: Mapping[str, Any], /) -> object: ...


class _Watch:
    """The best loss so far, and how many losses in a row were not better by `min_delta`."""

    def __init__(self, patience: int, min_delta: float, least: int) -> None:
        self.patience = checks.count("patience", patience, least)
        self.min_delta = checks.number("min_delta", min_delta)
        self.best = math.inf
        self.waited = 0

    def _look(self, loss: float) -> bool:
        """Whether this is the best loss so far. NaN never is."""
        if loss < self.best - self.min_delta:
            self.best, self.waited = float(loss), 0
            return True
        self.waited += 1
        return False

    def __repr__(self) -> str:
        seen = f"best loss {self.best:.6g}, {self.waited} since"
        return f"<{type(self).__name__} with patience {self.patience}: {seen}>"

    def state_dict(self) -> dict[str, Any]:
        """What it has seen, for a checkpoint.

        Returns
        -------
        dict
            Numbers by name.
        """
        return {"best": self.best, "waited": self.waited}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave.

        Parameters
        ----------
        state_dict : mapping of str to number or array
            It.
        """
        self.best, self.waited = float(state_dict["best"]), int(state_dict["waited"])


class EarlyStopping(_Watch):
    """Stop when the validation loss gets no better, and keep the best weights.

    Parameters
    ----------
    model : anything with ``state_dict()`` and ``load_state_dict()``
        Whose weights are kept.
    patience : int, default 10
        How many losses in a row that are no better end the training, >= 1.
    min_delta : float, default 0
        A loss is better only if it is lower by more than this.

    Attributes
    ----------
    best : float
        The lowest loss; infinity before there is one.
    waited : int
        Losses since then.

    Raises
    ------
    TypeError, ValueError
        A wrong argument.

    Examples
    --------
    >>> from fastlstm import nn
    >>> model = nn.Linear(3, 2, seed=0)
    >>> stopping = nn.EarlyStopping(model, patience=2)
    >>> [stopping.update(loss) for loss in (0.9, 0.7, 0.8, 0.75)]
    [False, False, False, True]
    >>> stopping.restore()  # the weights of the loss 0.7
    """

    def __init__(self, model: Stateful, patience: int = 10, min_delta: float = 0.0) -> None:
        super().__init__(patience, min_delta, 1)
        self._model = model
        self._kept: dict[str, Array] = {}

    def update(self, loss: float) -> bool:
        """Look at a loss; the model's weights are copied if it is the best one.

        Parameters
        ----------
        loss : float
            Of the model as it is.

        Returns
        -------
        bool
            Whether to stop.
        """
        if self._look(loss):
            self._kept = {name: np.array(v) for name, v in self._model.state_dict().items()}
        return self.waited >= self.patience

    def restore(self) -> None:
        """Give the model the weights of the best loss; none are changed if there was no loss."""
        if self._kept:
            self._model.load_state_dict(self._kept)

    def state_dict(self) -> dict[str, Any]:
        """What it has seen, and the best weights, for a checkpoint.

        Returns
        -------
        dict
            Numbers and arrays by name.
        """
        kept = {f"kept.{name}": values for name, values in self._kept.items()}
        return super().state_dict() | kept

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave.

        Parameters
        ----------
        state_dict : mapping of str to number or array
            It.
        """
        super().load_state_dict(state_dict)
        self._kept = {
            name.removeprefix("kept."): np.array(values)
            for name, values in state_dict.items()
            if name.startswith("kept.")
        }


class ReduceOnPlateau(_Watch):
    """A learning rate that falls where the validation loss gets no better.

    Parameters
    ----------
    lr : float
        The first rate, >= 0.
    factor : float, default 0.1
        Of each fall, in [0, 1).
    patience : int, default 10
        How many losses in a row may be no better; the next such loss lowers the rate, as in
        ``torch.optim.lr_scheduler.ReduceLROnPlateau``.
    min_delta : float, default 0
        A loss is better only if it is lower by more than this.
    least : float, default 0
        The lowest rate, >= 0.

    Attributes
    ----------
    lr : float
        The rate now.
    best : float
        The lowest loss; infinity before there is one.
    waited : int
        Losses since then, or since the last fall.

    Raises
    ------
    TypeError, ValueError
        A wrong argument.

    Examples
    --------
    >>> from fastlstm import nn
    >>> rate = nn.ReduceOnPlateau(0.1, factor=0.5, patience=1)
    >>> [rate.update(loss) for loss in (0.9, 0.7, 0.8, 0.75)]
    [0.1, 0.1, 0.1, 0.05]
    """

    def __init__(
        self,
        lr: float,
        factor: float = 0.1,
        patience: int = 10,
        min_delta: float = 0.0,
        least: float = 0.0,
    ) -> None:
        super().__init__(patience, min_delta, 0)
        self.lr = checks.number("lr", lr)
        self.factor = checks.number("factor", factor, below=1.0)
        self.least = checks.number("least", least)

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]}, rate {self.lr:.6g}>"

    def __call__(self, step: int, /) -> float:
        """The rate now, whatever the update: it can stand where a schedule can.

        Parameters
        ----------
        step : int
            Is not looked at.

        Returns
        -------
        float
            The learning rate.
        """
        return self.lr

    def update(self, loss: float) -> float:
        """Look at a loss.

        Parameters
        ----------
        loss : float
            After an epoch.

        Returns
        -------
        float
            The learning rate from now on.
        """
        if not self._look(loss) and self.waited > self.patience:
            self.lr, self.waited = max(self.lr * self.factor, self.least), 0
        return self.lr

    def state_dict(self) -> dict[str, Any]:
        """What it has seen, and the rate, for a checkpoint.

        Returns
        -------
        dict
            Numbers by name.
        """
        return {**super().state_dict(), "lr": self.lr}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave.

        Parameters
        ----------
        state_dict : mapping of str to number or array
            It.
        """
        super().load_state_dict(state_dict)
        self.lr = float(state_dict["lr"])
