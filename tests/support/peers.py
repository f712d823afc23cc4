# SPDX-License-Identifier: BSD-3-Clause
"""Estimators like those of `fastlstm.sklearn`, whose networks another library trains, to compare.

Here is what does not depend on the library: parameters, labels, windows. `torch_estimators` and
`keras_estimators` say how a network is trained.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.metrics import r2_score


class Peer(BaseEstimator):
    """The parameters of all; `steps`, `horizon` and `stride` are a forecaster's."""

    def __init__(
        self,
        *,
        cell: str = "lstm",
        hidden_size: int = 64,
        bidirectional: bool = False,
        pooling: str = "last",
        learning_rate: float = 1e-3,
        clip_norm: float = 1.0,
        batch_size: int = 32,
        max_iter: int = 100,
        random_state: int = 0,
        steps: int = 24,
        horizon: int = 1,
        stride: int = 1,
    ) -> None:
        self.cell = cell
        self.hidden_size = hidden_size
        self.bidirectional = bidirectional
        self.pooling = pooling
        self.learning_rate = learning_rate
        self.clip_norm = clip_norm
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.random_state = random_state
        self.steps = steps
        self.horizon = horizon
        self.stride = stride

    def train(self, X: Any, targets: np.ndarray, outputs: int) -> None:
        """Fit a new network: to labels where targets (n,) are integers, else to (n, outputs)."""
        raise NotImplementedError

    def raw(self, X: Any) -> np.ndarray:
        """What the network gives for each sequence, (n, outputs)."""
        raise NotImplementedError


class PeerClassifier(ClassifierMixin, Peer):
    def fit(self, X: Any, y: Any) -> Self:
        self.classes_, labels = np.unique(y, return_inverse=True)
        self.train(X, labels, len(self.classes_))
        return self

    def predict(self, X: Any) -> np.ndarray:
        return self.classes_[self.raw(X).argmax(axis=1)]


class PeerRegressor(RegressorMixin, Peer):
    def fit(self, X: Any, y: Any) -> Self:
        self.train(X, np.asarray(y, np.float32)[:, None], 1)
        return self

    def predict(self, X: Any) -> np.ndarray:
        return self.raw(X)[:, 0]


class PeerForecaster(Peer):
    """The next `horizon` steps of a series from windows of `steps`, all of them at once."""

    def fit(self, X: np.ndarray, y: None = None) -> Self:
        self.mean_, self.deviation_ = X.mean(axis=0), X.std(axis=0)
        windows, following = self._windows(X, self.stride)
        self.train(windows, following, following.shape[1])
        return self

    def _windows(self, X: np.ndarray, stride: int) -> tuple[np.ndarray, np.ndarray]:
        """Scaled windows (N, steps, I), and what follows each, (N, horizon * I)."""
        scaled = ((X - self.mean_) / self.deviation_).astype(np.float32)
        both = sliding_window_view(scaled, self.steps + self.horizon, axis=0)[::stride]
        both = both.swapaxes(1, 2)
        following = both[:, self.steps :].reshape(len(both), -1)
        return np.ascontiguousarray(both[:, : self.steps]), following

    def score(self, X: np.ndarray, y: None = None) -> float:
        windows, following = self._windows(X, 1)
        return float(r2_score(following, self.raw(windows)))
