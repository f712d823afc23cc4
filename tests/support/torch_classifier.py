# SPDX-License-Identifier: BSD-3-Clause
"""What LSTMClassifier does, as its users would write it with PyTorch, to compare."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence


class Network(torch.nn.Module):
    """A recurrent layer, its last output or the mean of all, and a linear layer."""

    def __init__(
        self, cell: str, inputs: int, hidden: int, outputs: int, both: bool, mean: bool
    ) -> None:
        super().__init__()
        kind = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[cell]
        self.recurrent = kind(inputs, hidden, batch_first=True, bidirectional=both)
        self.head = torch.nn.Linear(2 * hidden if both else hidden, outputs)
        self.mean = mean

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        y, state = self.recurrent(packed)
        if not self.mean:
            h_n = state[0] if isinstance(state, tuple) else state
            return self.head(torch.cat(list(h_n), dim=1))
        y, _ = pad_packed_sequence(y, batch_first=True)
        return self.head(y.sum(dim=1) / lengths[:, None])


class TorchClassifier(ClassifierMixin, BaseEstimator):
    """Adam with clipping on minibatches in a new order every epoch."""

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

    def fit(self, X: Any, y: Any) -> Self:
        torch.manual_seed(self.random_state)
        self.classes_, labels = np.unique(y, return_inverse=True)
        x, steps = _padded(X)
        targets = torch.from_numpy(labels)
        self.network_ = Network(
            self.cell,
            x.shape[2],
            self.hidden_size,
            len(self.classes_),
            self.bidirectional,
            self.pooling == "mean",
        )
        adam = torch.optim.Adam(self.network_.parameters(), self.learning_rate)
        for _ in range(self.max_iter):
            for chosen in torch.randperm(len(x)).split(self.batch_size):
                own = steps[chosen]
                logits = self.network_(x[chosen, : own.max()], own)
                loss = torch.nn.functional.cross_entropy(logits, targets[chosen])
                adam.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(self.network_.parameters(), self.clip_norm)
                adam.step()
        return self

    def predict(self, X: Any) -> np.ndarray:
        with torch.inference_mode():
            return self.classes_[self.network_(*_padded(X)).argmax(dim=1).numpy()]


def _padded(X: Any) -> tuple[torch.Tensor, torch.Tensor]:
    rows = [torch.tensor(np.asarray(x), dtype=torch.float32) for x in X]
    return pad_sequence(rows, batch_first=True), torch.tensor([len(x) for x in X])
