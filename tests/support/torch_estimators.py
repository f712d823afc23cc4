# SPDX-License-Identifier: BSD-3-Clause
"""What the estimators do, as their users would write it with PyTorch, to compare."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

from support.peers import Peer, PeerClassifier, PeerForecaster, PeerRegressor


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

    def forward(self, x: torch.Tensor, lengths: torch.Tensor | None) -> torch.Tensor:
        """(B, outputs); x (B, T, I), padded where there are lengths."""
        packed: Any = x
        if lengths is not None:
            packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        y, state = self.recurrent(packed)
        if not self.mean:
            h_n = state[0] if isinstance(state, tuple) else state
            return self.head(torch.cat(list(h_n), dim=1))
        if lengths is None:
            return self.head(y.mean(dim=1))
        y, _ = pad_packed_sequence(y, batch_first=True)
        return self.head(y.sum(dim=1) / lengths[:, None])


class Torch(Peer):
    """Adam with clipping on minibatches in a new order every epoch."""

    def train(self, X: Any, targets: np.ndarray, outputs: int) -> None:
        torch.manual_seed(self.random_state)
        x, lengths = tensors(X)
        wanted = torch.from_numpy(targets.copy())
        both, mean = self.bidirectional, self.pooling == "mean"
        network = Network(self.cell, x.shape[2], self.hidden_size, outputs, both, mean)
        labels = not wanted.is_floating_point()
        loss = torch.nn.functional.cross_entropy if labels else torch.nn.functional.mse_loss
        adam = torch.optim.Adam(network.parameters(), self.learning_rate)
        for _ in range(self.max_iter):
            for chosen in torch.randperm(len(x)).split(self.batch_size):
                own = None if lengths is None else lengths[chosen]
                batch = x[chosen] if own is None else x[chosen, : own.max()]
                wrong = loss(network(batch, own), wanted[chosen])
                adam.zero_grad()
                wrong.backward()
                torch.nn.utils.clip_grad_norm_(network.parameters(), self.clip_norm)
                adam.step()
        self.network_ = network

    def raw(self, X: Any) -> np.ndarray:
        with torch.inference_mode():
            return self.network_(*tensors(X)).numpy()


class TorchClassifier(Torch, PeerClassifier):
    pass


class TorchRegressor(Torch, PeerRegressor):
    pass


class TorchForecaster(Torch, PeerForecaster):
    pass


def tensors(X: Any) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Sequences of one length as they are; a list of others padded, with its lengths."""
    if isinstance(X, np.ndarray):
        return torch.from_numpy(X.astype(np.float32)), None
    rows = [torch.tensor(np.asarray(x), dtype=torch.float32) for x in X]
    return pad_sequence(rows, batch_first=True), torch.tensor([len(x) for x in X])
