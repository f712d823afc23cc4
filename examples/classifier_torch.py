# SPDX-License-Identifier: BSD-3-Clause
"""The classifier of classifier.py as PyTorch has it: an ordinary model and training loop.

Nothing here knows of fastlstm, and `fastlstm.torch.accelerate(model)` needs nothing else.
"""

from collections.abc import Iterator

import numpy as np
import torch
from classifier import Series, Update
from settings import Floats
from torch.nn.utils.rnn import pack_padded_sequence


class TorchClassifier(torch.nn.Module):
    """Bidirectional LSTM; the last states of both directions, side by side, name the class."""

    def __init__(self, inputs: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.lstm = torch.nn.LSTM(inputs, hidden, batch_first=True, bidirectional=True)
        self.linear = torch.nn.Linear(2 * hidden, classes)

    def forward(self, x: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """(B, T, I) -> logits (B, C)."""
        if lengths is not None:
            x = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        _, (h_n, _) = self.lstm(x)
        return self.linear(torch.cat((h_n[0], h_n[1]), dim=1))


def with_weights(parameters: dict[str, Floats]) -> TorchClassifier:
    """A model with a copy of these weights, whose shapes say how large it is."""
    inputs = parameters["recurrent.weight_ih_l0"].shape[1]
    classes, features = parameters["head.weight"].shape
    model = TorchClassifier(inputs, features // 2, classes)
    for layer, ours in ((model.lstm, "recurrent."), (model.linear, "head.")):
        state = {
            name: torch.from_numpy(parameters[ours + name].copy()) for name in layer.state_dict()
        }
        layer.load_state_dict(state)
    return model


def train(model: TorchClassifier, series: Series, plan: list[Update]) -> Iterator[float]:
    """Follows the plan with Adam; yields the loss of every update."""
    x, labels, lengths = (None if a is None else torch.from_numpy(a) for a in series)
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), fused=True)  # the fastest that PyTorch has
    for indices, lr in plan:
        chosen = torch.from_numpy(indices)
        logits = model(x[chosen], None if lengths is None else lengths[chosen])
        loss = torch.nn.functional.cross_entropy(logits, labels[chosen])
        optimizer.param_groups[0]["lr"] = lr
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield loss.item()


def accuracy(model: TorchClassifier, series: Series) -> float:
    """Share of the set that is named rightly."""
    model.eval()
    x, _, lengths = (None if a is None else torch.from_numpy(a) for a in series)
    with torch.inference_mode():
        logits = model(x, lengths).numpy()
    return float(np.mean(logits.argmax(axis=-1) == series.labels))
