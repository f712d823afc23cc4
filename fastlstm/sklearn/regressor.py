# SPDX-License-Identifier: BSD-3-Clause
"""Sequences to values."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils import check_array
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from .. import nn
from ..checks import Array
from . import fitting, inputs
from .base import SequenceEstimator
from .inputs import Sequences
from .words import documented


@documented
class LSTMRegressor(RegressorMixin, SequenceEstimator):  # type: ignore[misc]
    """Estimate values of a sequence, or of each of its steps, by a recurrent layer.

    What the layer gives goes through a linear layer; the mean squared error is minimised by Adam.
    Targets should be of the order of 1: `sklearn.compose.TransformedTargetRegressor` scales them.

    Parameters
    ----------
    pooling : {"last", "mean"}
        What the linear layer reads of a sequence: its last output, of both directions where there
        are two, or the mean of all.
    per_step : bool, default False
        Whether every step has a target. Then y is (n, T) or (n, T, O) or, as X, a list of arrays
        (T_k,) or (T_k, O).
    <parameters>

    Attributes
    ----------
    <attributes>

    Examples
    --------
    >>> import numpy as np
    >>> from fastlstm.sklearn import LSTMRegressor
    >>> X = np.random.default_rng(0).standard_normal((80, 6, 1))
    >>> y = X[:, -2:].mean(axis=(1, 2))
    >>> model = LSTMRegressor(cell="gru", hidden_size=16, learning_rate=1e-2, random_state=0)
    >>> model.fit(X, y).score(X, y) > 0.9
    True
    """

    def __init__(
        self,
        *,
        pooling: str = "last",
        per_step: bool = False,
        cell: str = "lstm",
        hidden_size: int = 64,
        num_layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        proj_size: int = 0,
        learning_rate: float = 1e-3,
        schedule: Any = "constant",
        weight_decay: float = 0.0,
        clip_norm: float | None = 1.0,
        batch_size: int = 32,
        max_iter: int = 100,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        tol: float = 0.0,
        warm_start: bool = False,
        random_state: Any = None,
        dtype: str = "float32",
        num_threads: int | None = None,
        verbose: bool = False,
    ) -> None:
        super().__init__(
            cell=cell,
            hidden_size=hidden_size,
            num_layers=num_layers,
            bidirectional=bidirectional,
            dropout=dropout,
            proj_size=proj_size,
            learning_rate=learning_rate,
            schedule=schedule,
            weight_decay=weight_decay,
            clip_norm=clip_norm,
            batch_size=batch_size,
            max_iter=max_iter,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            n_iter_no_change=n_iter_no_change,
            tol=tol,
            warm_start=warm_start,
            random_state=random_state,
            dtype=dtype,
            num_threads=num_threads,
            verbose=verbose,
        )
        self.pooling = pooling
        self.per_step = per_step

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    # ---- targets ----

    def _values(self, y: Any, x: Sequences) -> Any:
        """y as values (n, O) of each sequence, or (n, T, O) or n (T_k, O) of each step."""
        if self.per_step:
            rows = inputs.step_targets(y, x, np.dtype(self.dtype))
            if not np.isfinite(inputs.flat(rows)).all():
                raise ValueError("y must be finite")
            self._flat = (rows[0].ndim if isinstance(rows, list) else rows.ndim - 1) == 1
            if isinstance(rows, list):
                return [row[:, None] if self._flat else row for row in rows]
            return rows[..., None] if self._flat else rows
        if y is None:
            raise ValueError("this regressor requires y to be passed, but the target y is None")
        given = {"ensure_2d": False, "input_name": "y", "dtype": self.dtype, "estimator": self}
        values = check_array(y, **given)
        check_consistent_length(x, values)
        self._flat = values.ndim == 1
        return values[:, None] if self._flat else values

    def _loss(self, y: Array, part: fitting.Part) -> tuple[float, Array]:
        mask = None
        if self.per_step and part.lengths is not None:
            mask = nn.valid_steps(part.lengths, y.shape[1])
        return nn.mse(y, part.y, sample_weight=part.weight, mask=mask)

    # ---- training ----

    @fitting.whole
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train.

        Parameters
        ----------
        X : array of shape (n, T, I), or list of n arrays of shape (T_k, I)
            Sequences.
        y : array_like of shape (n,) or (n, O)
            Their values. With `per_step`, of shape (n, T) or (n, T, O), or a list of arrays (T_k,)
            or (T_k, O).
        sample_weight : array_like of n numbers, optional
            How much each sequence weighs in the loss, >= 0.

        Returns
        -------
        Self
            The estimator.

        Raises
        ------
        TypeError, ValueError
            A wrong argument, or a wrong parameter of the constructor, which is checked here.
        """
        return self._train(X, y, sample_weight, not self._goes_on(), None)

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train one epoch on some sequences.

        Parameters
        ----------
        X, y, sample_weight
            As for `fit`.

        Returns
        -------
        Self
            The estimator.

        Raises
        ------
        TypeError, ValueError
            A wrong argument, or a wrong parameter of the constructor, which is checked here.

        Examples
        --------
        >>> import numpy as np
        >>> from fastlstm.sklearn import LSTMRegressor
        >>> model = LSTMRegressor(random_state=0)
        >>> for seed in range(3):
        ...     X = np.random.default_rng(seed).standard_normal((8, 5, 2))
        ...     model = model.partial_fit(X, X.mean(axis=(1, 2)))
        >>> model.n_iter_
        3
        """
        return self._train(X, y, sample_weight, not hasattr(self, "model_"), 1)

    def _train(self, X: Any, y: Any, weight: Any, fresh: bool, epochs: int | None) -> Self:
        x = self._sequences(X, reset=fresh)
        values = self._values(y, x)
        weight = self._sample_weight(weight, x)
        outputs = values[0].shape[-1]
        if fresh:
            self._new_model(outputs)
        elif outputs != self.model_.head.out_features:
            wanted = self.model_.head.out_features
            raise ValueError(f"y must have {wanted} values as before, got {outputs}")
        return self._fit(x, values, weight, epochs=epochs)

    @fitting.whole
    def fit_batches(self, batches: Any, *, validation: Any = None) -> Self:
        """Train on sequences that are more than memory holds: every batch is one update.

        Parameters
        ----------
        batches : iterable of (X, y) or (X, y, sample_weight), or callable
            It is read once an epoch; a callable gets the epoch's number and returns an iterable.
        validation : (X, y), optional
            Sequences whose loss is watched: training stops where it gets no better, with the best
            weights.

        Returns
        -------
        Self
            The estimator.

        Raises
        ------
        TypeError, ValueError
            A wrong argument, or a wrong parameter of the constructor, which is checked here.
        """
        return self._fit_batches(batches, None, validation)

    def _encoded(self, y: Any, x: Sequences) -> Any:
        return self._values(y, x)

    # ---- predictions ----

    def predict(self, X: Any) -> Any:
        """Estimate values.

        Parameters
        ----------
        X : array or list
            As for `fit`.

        Returns
        -------
        ndarray of shape (n,) or (n, O), as y was
            With `per_step` (n, T) or (n, T, O), or a list of arrays (T_k,) or (T_k, O).

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before `fit`.
        TypeError, ValueError
            `X` is no such sequences, or has other features than those that were fitted.

        Examples
        --------
        >>> import numpy as np
        >>> from fastlstm.sklearn import LSTMRegressor
        >>> X = [np.ones((3, 1)), np.zeros((5, 1))]
        >>> y = [[0.0, 0.5, 1.0], [0.0, 0.0, 0.0, 0.0, 0.0]]
        >>> model = LSTMRegressor(per_step=True, max_iter=2, random_state=0).fit(X, y)
        >>> [row.shape for row in model.predict(X)]
        [(3,), (5,)]
        """
        check_is_fitted(self)
        found = self._raw(self._sequences(X))
        if not self._flat:
            return found
        return [row[:, 0] for row in found] if isinstance(found, list) else found[..., 0]

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """The coefficient of determination R^2; of all steps with `per_step`.

        Parameters
        ----------
        X, y
            As for `fit`.
        sample_weight : array_like of n numbers, optional
            How much each sequence counts.

        Returns
        -------
        float
            1 at most.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before `fit`.
        TypeError, ValueError
            `X` is no such sequences, or has other features than those that were fitted.
        """
        found = self.predict(X)
        if self.per_step:
            steps = inputs.lengths_of(found)
            sample_weight = None if sample_weight is None else np.repeat(sample_weight, steps)
            found, y = inputs.flat(found), inputs.flat(y)
        return float(r2_score(y, found, sample_weight=sample_weight))
