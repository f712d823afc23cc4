# SPDX-License-Identifier: BSD-3-Clause
"""What the estimators share: parameters, models, schedules, epochs."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted

from .. import checks, nn
from ..checks import Array
from ..gru import GRU
from ..lstm import LSTM
from ..optim import Adam, AdamW
from ..rnn import RNN
from . import files, fitting, inputs
from .inputs import Sequences

SCHEDULES = ("constant", "cosine", "one_cycle", "plateau")


class SequenceEstimator(BaseEstimator):  # type: ignore[misc]
    """What scikit-learn asks of an estimator, around an `nn.SequenceModel`."""

    _every = False  # whether there is an output for each step, where there is no such parameter

    def __init__(
        self,
        *,
        cell: str,
        hidden_size: int,
        num_layers: int,
        bidirectional: bool,
        dropout: float,
        proj_size: int,
        learning_rate: float,
        schedule: Any,
        weight_decay: float,
        clip_norm: float | None,
        batch_size: int,
        max_iter: int,
        early_stopping: bool,
        validation_fraction: float,
        n_iter_no_change: int,
        tol: float,
        warm_start: bool,
        random_state: Any,
        dtype: str,
        num_threads: int | None,
        verbose: bool,
    ) -> None:
        self.cell = cell
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bidirectional = bidirectional
        self.dropout = dropout
        self.proj_size = proj_size
        self.learning_rate = learning_rate
        self.schedule = schedule
        self.weight_decay = weight_decay
        self.clip_norm = clip_norm
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.warm_start = warm_start
        self.random_state = random_state
        self.dtype = dtype
        self.num_threads = num_threads
        self.verbose = verbose

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        return tags

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "optimizer_" in state:  # arrays that joblib has mapped from a file become our own
            self.optimizer_.load_state_dict(self.optimizer_.state_dict())

    # ---- what a subclass says ----

    def _loss(self, y: Array, part: fitting.Part) -> tuple[float, Array]:
        raise NotImplementedError

    def _encoded(self, y: Any, x: Sequences) -> Any:
        """Targets as the loss takes them."""
        raise NotImplementedError

    def _ready(self) -> None:
        """Whatever must be settled before batches come."""

    # ---- inputs ----

    def _sequences(self, X: Any, *, reset: bool = False) -> Sequences:
        """X checked; its number of features is taken, or compared with what was fitted."""
        x = inputs.as_sequences(X, str(checks.real_dtype(self.dtype)), self)
        features = inputs.width(x)
        if reset:
            self.n_features_in_ = features
        elif features != self.n_features_in_:
            raise ValueError(
                f"X has {features} features, but {type(self).__name__} is expecting "
                f"{self.n_features_in_} features as input"
            )
        return x

    def _sample_weight(self, sample_weight: Any, x: Sequences) -> Array | None:
        if sample_weight is None:
            return None
        given = np.zeros((len(x), 1))
        weights: Array = _check_sample_weight(sample_weight, given, dtype=np.float64)
        if (weights < 0).any():
            raise ValueError("sample_weight must be >= 0")
        return weights

    # ---- models ----

    def _new_model(self, outputs: int, beside: int = 0) -> None:
        """First weights and a new optimiser, by the random state."""
        kinds = {"lstm": LSTM, "gru": GRU, "rnn": RNN}
        if self.cell not in kinds:
            raise ValueError(f"cell must be one of {', '.join(kinds)}, got {self.cell!r}")
        layers = checks.count("num_layers", self.num_layers, 1)
        dropout = checks.number("dropout", self.dropout, below=1.0)
        options: dict[str, Any] = {"proj_size": self.proj_size} if self.cell == "lstm" else {}
        if self.proj_size and not options:
            raise ValueError(f"proj_size must be 0 with cell={self.cell!r}, got {self.proj_size}")
        self._seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        recurrent: Any = kinds[self.cell](
            self.n_features_in_,
            self.hidden_size,
            layers,
            batch_first=True,
            dropout=dropout if layers > 1 else 0.0,
            bidirectional=self.bidirectional,
            dtype=self.dtype,
            seed=[self._seed, 0],
            **options,
        )
        width = recurrent._directions * recurrent._spec.outputs
        head = nn.Linear(width + beside, outputs, dtype=self.dtype, seed=[self._seed, 1])
        every = getattr(self, "per_step", self._every)
        pooling: Any = getattr(self, "pooling", "last")
        if pooling not in ("last", "mean"):
            raise ValueError(f'pooling must be "last" or "mean", got {pooling!r}')
        reads: Any = "every" if checks.flag("per_step", every) else pooling
        self.model_ = nn.SequenceModel(recurrent, head, reads, dropout)
        self._new_optimizer()
        self.n_iter_ = 0
        self.loss_curve_: list[float] = []
        self.validation_loss_curve_: list[float] = []

    def _new_optimizer(self) -> None:
        rate = checks.number("learning_rate", self.learning_rate)
        decay = checks.number("weight_decay", self.weight_decay)
        kind = AdamW if decay else Adam
        self.model_.train()
        self.optimizer_ = kind(self.model_, lr=rate, weight_decay=decay)
        self.model_.eval()

    def _goes_on(self) -> bool:
        """Whether this `fit` starts from weights that there are."""
        return checks.flag("warm_start", self.warm_start) and hasattr(self, "model_")

    def _check_built(self) -> None:
        """The layer that there is must be the one that the parameters describe."""
        for name in ("hidden_size", "num_layers", "bidirectional", "proj_size"):
            there, wanted = getattr(self.model_.recurrent, name, 0), getattr(self, name)
            if there != wanted:
                raise ValueError(
                    f"{name} is {wanted}, but the fitted layer has {there}: fit a new one, with "
                    "warm_start=False"
                )

    def _schedule(self, updates: int | None) -> nn.Schedule:
        """By the number of updates to come; None: nobody knows it."""
        lr = checks.number("learning_rate", self.learning_rate)
        if callable(self.schedule):
            return self.schedule  # type: ignore[no-any-return]
        if self.schedule not in SCHEDULES:
            raise ValueError(
                f"schedule must be one of {', '.join(SCHEDULES)} or callable, got {self.schedule!r}"
            )
        if self.schedule == "constant":
            return nn.Constant(lr)
        if self.schedule == "plateau":
            patience = max(1, self.n_iter_no_change // 2)
            return nn.ReduceOnPlateau(lr, 0.5, patience, self.tol)
        if updates is None:
            raise ValueError(
                f"schedule {self.schedule!r} needs to know how many batches an epoch has"
            )
        if self.schedule == "cosine":
            return nn.Cosine(lr, updates)
        rising = max(1, updates // 10)
        return nn.WarmUp(nn.Cosine(lr, max(1, updates - rising)), rising)

    # ---- training ----

    def _split(self, x: Sequences, stratify: Any) -> tuple[Array, Array]:
        """Which sequences train and which validate."""
        part = checks.probability("validation_fraction", self.validation_fraction)
        if part in (0, 1) or math.ceil(part * len(x)) >= len(x):
            raise ValueError(
                "validation_fraction must leave sequences to train and to validate: "
                f"it is {self.validation_fraction} of {len(x)}"
            )
        if stratify is not None and np.unique(stratify, return_counts=True)[1].min() < 2:
            stratify = None
        which = np.arange(len(x))
        try:
            train, test = train_test_split(
                which, test_size=part, random_state=self._seed, stratify=stratify
            )
        except ValueError:  # fewer sequences than classes in a part, say
            train, test = train_test_split(which, test_size=part, random_state=self._seed)
        return train, test

    def _fit(
        self,
        x: Sequences,
        y: Any,
        weight: Array | None,
        *,
        epochs: int | None = None,
        stratify: Any = None,
        beside: Array | None = None,
    ) -> Self:
        """Train on sequences in memory."""
        self._check_built()
        size = checks.count("batch_size", self.batch_size, 1)
        stopping = epochs is None and checks.flag("early_stopping", self.early_stopping)
        epochs = checks.count("max_iter", self.max_iter, 1) if epochs is None else epochs
        validate = None
        if stopping:
            train, test = self._split(x, stratify)
            own = self._part(x, y, weight, test, beside)
            validate = self._validation(*own)
            x, y, weight, beside = self._part(x, y, weight, train, beside)
        done, seed = self.n_iter_, self._seed
        order = (
            fitting.parts_of(x, y, weight, size, [seed, 2, epoch], beside)
            for epoch in range(done, done + epochs)
        )
        return self._run(order, epochs, epochs * math.ceil(len(x) / size), validate)

    def _part(
        self, x: Sequences, y: Any, weight: Array | None, which: Array, beside: Array | None
    ) -> tuple[Sequences, Any, Array | None, Array | None]:
        return (
            inputs.chosen(x, which),
            inputs.chosen(y, which),
            None if weight is None else weight[which],
            None if beside is None else beside[which],
        )

    def _validation(
        self, x: Sequences, y: Any, weight: Array | None, beside: Array | None = None
    ) -> Callable[[], float]:
        """The mean loss of sequences that do not train."""

        def loss() -> float:
            parts = fitting.parts_of(x, y, weight, fitting.CHUNK, 0, beside)
            losses = 0.0
            for part in parts:
                found = self.model_(
                    part.x,
                    lengths=part.lengths,
                    beside=part.beside,
                    num_threads=self.num_threads,
                )
                losses += self._loss(found, part)[0] * len(part.x)
            return losses / len(x)

        return loss

    def _run(
        self,
        order: Iterable[Iterable[fitting.Part]],
        epochs: int,
        updates: int | None,
        validate: Callable[[], float] | None,
    ) -> Self:
        stopping = None
        if validate is not None:
            patience = checks.count("n_iter_no_change", self.n_iter_no_change, 1)
            tol = checks.number("tol", self.tol)
            stopping = nn.EarlyStopping(self.model_, patience, tol)
        clip = None if self.clip_norm is None else checks.number("clip_norm", self.clip_norm)
        plan = fitting.Plan(
            self._schedule(updates),
            clip,
            self.num_threads,
            self._loss,
            validate,
            stopping,
            checks.flag("verbose", self.verbose),
        )
        course = fitting.train(self.model_, self.optimizer_, order, plan, epochs)
        self.n_iter_ += len(course.losses)
        self.loss_curve_ += course.losses
        self.validation_loss_curve_ += course.validation
        return self

    def _fit_batches(self, batches: Any, outputs: int | None, validation: Any) -> Self:
        """Train from the start on what an iterable gives, batch by batch."""
        epochs = checks.count("max_iter", self.max_iter, 1)
        if not callable(batches) and not np.iterable(batches):
            raise TypeError(
                f"batches must be an iterable or a callable, got {type(batches).__name__}"
            )
        if epochs > 1 and not callable(batches) and iter(batches) is batches:
            raise ValueError(
                f"batches can be read only once, and max_iter is {epochs}: give something that "
                "can be read again, or a callable that makes it anew"
            )
        first = iter(batches(0) if callable(batches) else batches)
        begin = next(first, None)
        if begin is None:
            raise ValueError("batches must hold one batch at least")
        _check_batch(begin)
        x = self._sequences(begin[0], reset=True)
        y = self._encoded(begin[1], x)
        self._new_model(y[0].shape[-1] if outputs is None else outputs)
        self._ready()
        validate = None
        if validation is not None:
            own = self._sequences(validation[0])
            validate = self._validation(own, self._encoded(validation[1], own), None)

        def read(epoch: int) -> Iterator[fitting.Part]:
            if epoch == 0:
                yield self._one(begin)
                yield from (self._one(batch) for batch in first)
            else:
                again = batches(epoch) if callable(batches) else batches
                yield from (self._one(batch) for batch in again)

        return self._run((read(epoch) for epoch in range(epochs)), epochs, None, validate)

    def _one(self, batch: Any) -> fitting.Part:
        """A batch that a caller has made."""
        _check_batch(batch)
        X, y, *sample_weight = batch
        x = self._sequences(X)
        weight = self._sample_weight(sample_weight[0] if sample_weight else None, x)
        return next(fitting.parts_of(x, self._encoded(y, x), weight, len(x), 0))

    def _raw(self, x: Sequences, beside: Array | None = None) -> Any:
        """What the head gives."""
        return fitting.outputs(self.model_, x, self.num_threads, beside)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted estimator into a safetensors file; nothing is pickled.

        Its optimiser is left out: training a loaded estimator goes on with a new one.

        Parameters
        ----------
        path : str or os.PathLike of str
            The file. `fastlstm.sklearn.load` reads it.

        Raises
        ------
        NotFittedError
            There is nothing to save.
        TypeError
            A parameter that such a file cannot hold: a callable of one's own.
        OSError
            The file cannot be written.
        """
        check_is_fitted(self)
        self._check_built()
        files.save(self, path)


def _check_batch(batch: Any) -> None:
    if not isinstance(batch, (tuple, list)) or len(batch) not in (2, 3):
        size = f" of {len(batch)}" if hasattr(batch, "__len__") else ""
        what = f"{type(batch).__name__}{size}"
        raise TypeError(f"batches must hold (X, y) or (X, y, sample_weight), got {what}")
