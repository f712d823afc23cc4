# SPDX-License-Identifier: BSD-3-Clause
"""What the estimators do, as their users would write it with Keras, to compare."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from support.peers import Peer, PeerClassifier, PeerForecaster, PeerRegressor


class Keras(Peer):
    """`Model.fit` with Adam and clipping; zeros past the end of a sequence are masked."""

    def train(self, X: Any, targets: np.ndarray, outputs: int) -> None:
        keras.utils.set_random_seed(self.random_state)
        kind = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU}[self.cell]
        mean = self.pooling == "mean"
        layer = kind(self.hidden_size, return_sequences=mean)
        self.steps_ = max(len(row) for row in X)
        x = self._padded(X)
        ragged = not isinstance(X, np.ndarray)
        self.network_ = keras.Sequential(
            [
                keras.Input(x.shape[1:]),
                *([keras.layers.Masking()] if ragged else []),
                keras.layers.Bidirectional(layer) if self.bidirectional else layer,
                *([keras.layers.GlobalAveragePooling1D()] if mean else []),
                keras.layers.Dense(outputs),
            ]
        )
        labels = targets.dtype.kind == "i"
        self.network_.compile(
            keras.optimizers.Adam(self.learning_rate, global_clipnorm=self.clip_norm),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True) if labels else "mse",
        )
        self.network_.fit(x, targets, batch_size=self.batch_size, epochs=self.max_iter, verbose=0)

    def _padded(self, X: Any) -> np.ndarray:
        """(n, T, I) with the longest T of what was fitted, float32; what is longer is cut."""
        if isinstance(X, np.ndarray):
            return X.astype(np.float32)
        rows = [np.asarray(row, np.float32) for row in X]
        return keras.utils.pad_sequences(
            rows, self.steps_, dtype="float32", padding="post", truncating="post"
        )

    def raw(self, X: Any) -> np.ndarray:
        return np.asarray(self.network_.predict(self._padded(X), verbose=0))


class KerasClassifier(Keras, PeerClassifier):
    pass


class KerasRegressor(Keras, PeerRegressor):
    pass


class KerasForecaster(Keras, PeerForecaster):
    pass
