# SPDX-License-Identifier: BSD-3-Clause
"""Series to their next steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from sklearn.metrics import r2_score
from sklearn.utils.validation import check_is_fitted

from .. import checks, nn
from ..checks import Array
from . import fitting, inputs
from .base import SequenceEstimator
from .series import beside_of, same_width, scales, series_of
from .words import documented


@documented
class LSTMForecaster(SequenceEstimator):
    """Forecast the next steps of a series of several variables by a recurrent layer.

    Windows of the series go through the layer, whose last output gives all steps ahead at once.
    Variables are scaled to mean 0 and deviation 1 over the series that are fitted.

    Parameters
    ----------
    steps : int, default 24
        Length of a window: what a forecast looks back at.
    horizon : int, default 1
        Steps ahead.
    quantiles : sequence of float or None, default None
        Quantiles to forecast, for intervals; the mean if None.
    stride : int, default 1
        From the start of a window to that of the next.
    <parameters>

    Attributes
    ----------
    <attributes>

    Examples
    --------
    >>> import numpy as np
    >>> from fastlstm.sklearn import LSTMForecaster
    >>> series = np.sin(np.arange(300) / 5)[:, None]
    >>> model = LSTMForecaster(steps=20, horizon=5, hidden_size=16, max_iter=30, random_state=0)
    >>> model.fit(series[:250]).predict(series[:250]).shape
    (5, 1)
    >>> model.score(series[250:]) > 0.9
    True
    """

    _names: list[str] | None = None  # columns of the DataFrame that was fitted

    def __init__(
        self,
        *,
        steps: int = 24,
        horizon: int = 1,
        quantiles: Sequence[float] | None = None,
        stride: int = 1,
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
        self.steps = steps
        self.horizon = horizon
        self.quantiles = quantiles
        self.stride = stride

    # ---- series ----

    def _windows(self, X: Any, exogenous: Any, stride: int) -> nn.Windows:
        """Windows of all series, scaled."""
        self._same_names(X)
        series = series_of(self, X)
        beside = beside_of(self, exogenous, series)
        found = []
        for values, more in zip(series, beside, strict=True):
            same_width("X", values, self._mean)
            scaled = (values - self._mean) / self._deviation
            known = None if more is None else (more - self._known[0]) / self._known[1]
            dtype = np.dtype(self.dtype)
            known = None if known is None else known.astype(dtype)
            found.append(
                nn.windows(
                    scaled.astype(dtype), self.steps, self.horizon, stride=stride, exogenous=known
                )
            )
        x, y = (np.concatenate([w[k] for w in found]) for k in (0, 1))
        future = None if beside[0] is None else np.concatenate([w.future for w in found])
        return nn.Windows(x, y, future)

    def _same_names(self, X: Any) -> None:
        names = inputs.names_of(X)
        if names is not None and self._names is not None and names != self._names:
            raise ValueError(f"X must have the columns {self._names} as in fit, got {names}")

    def _refuse_other(self, exogenous: Any) -> None:
        if (exogenous is None) != (self._known is None):
            there = "none" if self._known is None else "some"
            raise ValueError(f"exogenous must be given as in fit, where there were {there}")

    # ---- training ----

    @fitting.whole
    def fit(self, X: Any, y: None = None, exogenous: Any = None) -> Self:
        """Train on every window of one series, or of several.

        Parameters
        ----------
        X : array of shape (T, I) or (T,), or list of such arrays
            The series.
        y : None
            Not looked at: a series is its own target.
        exogenous : array of shape (T, E) or (T,), or list of such arrays, optional
            What is known beside each series, of its future too.

        Returns
        -------
        Self
            The estimator.

        Raises
        ------
        TypeError, ValueError
            A wrong argument, or a wrong parameter of the constructor, which is checked here.
        """
        checks.count("steps", self.steps, 1)
        outputs = checks.count("horizon", self.horizon, 1) * self._columns()
        stride = checks.count("stride", self.stride, 1)
        fresh = not self._goes_on()
        if fresh:
            series = series_of(self, X)
            self._names = inputs.names_of(X)
            self._mean, self._deviation = scales(np.concatenate(series))
            self._known: Any = None
            if exogenous is not None:
                self._known = scales(np.concatenate(beside_of(self, exogenous, series)))
        else:
            self._refuse_other(exogenous)
        found = self._windows(X, exogenous, stride)
        count = len(found.x)
        variables = found.y.shape[2]
        known = 0 if found.future is None else found.future.shape[2]
        if fresh:
            self.n_features_in_ = variables + known
            self._new_model(outputs * variables, self.horizon * known)
            self.n_features_in_ = variables
        target = found.y.reshape(count, -1)
        future = None if found.future is None else found.future.reshape(count, -1)
        return self._fit(found.x, target, None, beside=future)

    def _check_built(self) -> None:
        super()._check_built()
        outputs = self.model_.head.out_features
        if self.horizon * self._columns() * len(self._mean) != outputs:
            raise ValueError(
                f"horizon = {self.horizon} and quantiles = {self.quantiles} do not fit the "
                f"{outputs} outputs of the fitted model: fit a new one, with warm_start=False"
            )

    def _columns(self) -> int:
        """Values that each variable has in each step ahead."""
        if self.quantiles is None:
            return 1
        if not np.iterable(self.quantiles):
            raise TypeError(f"quantiles must be numbers or None, got {self.quantiles!r}")
        shares = [checks.probability("quantiles", q) for q in self.quantiles]
        if not shares or shares != sorted(set(shares)):
            raise ValueError(f"quantiles must rise, got {self.quantiles}")
        return len(shares)

    def _loss(self, y: Array, part: fitting.Part) -> tuple[float, Array]:
        if self.quantiles is None:
            return nn.mse(y, part.y)
        columns = y.reshape(*part.y.shape, len(self.quantiles))
        loss, slope = nn.quantile_loss(columns, part.y, self.quantiles)
        return loss, slope.reshape(y.shape)

    # ---- forecasts ----

    def _forecast(self, x: Array, future: Array | None) -> Array:
        """Windows (N, steps, I + E), scaled -> (N, horizon, I, Q), Q = 1 for the mean."""
        self._check_built()
        beside = None if future is None else future.reshape(len(x), -1)
        raw = self._raw(x, beside).reshape(len(x), self.horizon, len(self._mean), -1)
        values: Array = np.sort(raw, axis=-1) * self._deviation[:, None] + self._mean[:, None]
        return values.astype(self.dtype)

    def _ahead(self, X: Any, exogenous: Any, future: Any) -> Array:
        """Forecasts of what follows each series, (n, horizon, I, Q)."""
        check_is_fitted(self)
        self._refuse_other(exogenous)
        self._same_names(X)
        series = series_of(self, X)
        beside = beside_of(self, exogenous, series)
        dtype = np.dtype(self.dtype)
        rows, known = [], []
        if self._known is None and future is not None:
            raise ValueError("future must be None: there was nothing exogenous in fit")
        if self._known is not None:
            known = series_of(self, future, "future") if future is not None else []
            if [e.shape for e in known] != [(self.horizon, len(self._known[0]))] * len(series):
                raise ValueError(
                    f"future must have shape {(self.horizon, len(self._known[0]))} for each "
                    f"series, got {[e.shape for e in known]}"
                )
        for values, more in zip(series, beside, strict=True):
            same_width("X", values, self._mean)
            if len(values) < self.steps:
                raise ValueError(f"X must have {self.steps} steps at least, got {len(values)}")
            row = (values[-self.steps :] - self._mean) / self._deviation
            if more is not None:
                same_width("exogenous", more, self._known[0])
                scaled = (more[-self.steps :] - self._known[0]) / self._known[1]
                row = np.concatenate((row, scaled), axis=1)
            rows.append(row.astype(dtype))
        coming = [((e - self._known[0]) / self._known[1]).astype(dtype) for e in known]
        return self._forecast(np.stack(rows), np.stack(coming) if coming else None)

    def predict(self, X: Any, exogenous: Any = None, future: Any = None) -> Array:
        """Forecast the steps that follow a series.

        Parameters
        ----------
        X : array of shape (T, I) or (T,), or list of such arrays
            The series so far, T >= `steps`.
        exogenous : array of shape (T, E), or list of such arrays, optional
            What is known beside it, if there was such in `fit`.
        future : array of shape (horizon, E), or list of such arrays, optional
            The same of the steps ahead.

        Returns
        -------
        ndarray of shape (horizon, I), or (n, horizon, I) of a list
            The mean; with `quantiles`, the one next to the median.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before `fit`.
        TypeError, ValueError
            A series is too short for a window, or has other columns than those that were fitted.
        """
        found = self._middle(self._ahead(X, exogenous, future))
        return found if isinstance(X, (list, tuple)) and np.ndim(X[0]) else found[0]

    def _middle(self, values: Array) -> Array:
        """The forecast among the quantiles that stands for all."""
        shares = [0.5] if self.quantiles is None else self.quantiles
        return values[..., int(np.argmin([abs(share - 0.5) for share in shares]))]

    def predict_quantiles(self, X: Any, exogenous: Any = None, future: Any = None) -> Array:
        """Forecast all quantiles of the steps that follow a series.

        Parameters
        ----------
        X, exogenous, future
            As for `predict`.

        Returns
        -------
        ndarray of shape (horizon, I, Q), or (n, horizon, I, Q) of a list
            Rising along the last axis.

        Raises
        ------
        sklearn.exceptions.NotFittedError, TypeError, ValueError
            As `predict` does, and without `quantiles`.

        Examples
        --------
        >>> import numpy as np
        >>> from fastlstm.sklearn import LSTMForecaster
        >>> series = np.sin(np.arange(60) / 5)[:, None]
        >>> model = LSTMForecaster(
        ...     steps=8, horizon=3, quantiles=[0.1, 0.9], max_iter=2, random_state=0
        ... )
        >>> model.fit(series).predict_quantiles(series).shape
        (3, 1, 2)
        """
        if self.quantiles is None:
            raise ValueError("quantiles must be given to the constructor to be forecast")
        found = self._ahead(X, exogenous, future)
        return found if isinstance(X, (list, tuple)) and np.ndim(X[0]) else found[0]

    def predict_windows(self, X: Any, exogenous: Any = None) -> tuple[Array, Array]:
        """Forecast from every window of a series that is known further, to compare.

        Parameters
        ----------
        X, exogenous
            As for `fit`.

        Returns
        -------
        forecast : ndarray of shape (N, horizon, I), or (N, horizon, I, Q) with `quantiles`
            Of the steps after each window.
        truth : ndarray of shape (N, horizon, I)
            What came.

        Raises
        ------
        sklearn.exceptions.NotFittedError, TypeError, ValueError
            As `predict` does.
        """
        check_is_fitted(self)
        self._refuse_other(exogenous)
        found = self._windows(X, exogenous, 1)
        forecast = self._forecast(found.x, found.future)
        truth = (found.y * self._deviation + self._mean).astype(self.dtype)
        return (forecast[..., 0] if self.quantiles is None else forecast), truth

    def score(self, X: Any, y: None = None, exogenous: Any = None) -> float:
        """R^2 of the forecasts from every window, the mean over variables and steps ahead.

        Parameters
        ----------
        X, y, exogenous
            As for `fit`.

        Returns
        -------
        float
            1 at most.

        Raises
        ------
        sklearn.exceptions.NotFittedError, TypeError, ValueError
            As `predict` does.
        """
        forecast, truth = self.predict_windows(X, exogenous)
        if self.quantiles is not None:
            forecast = self._middle(forecast)
        return float(r2_score(truth.reshape(len(truth), -1), forecast.reshape(len(truth), -1)))
