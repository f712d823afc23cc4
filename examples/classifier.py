# SPDX-License-Identifier: BSD-3-Clause
"""Training with fastlstm in plain NumPy: a classifier of sequences, and its training loop."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from layers import Floats, Ints, Linear, cross_entropy, joined, one_cycle

import fastlstm


class Series(NamedTuple):
    """A labelled set of sequences."""

    x: Floats  # (N, T, I)
    labels: Ints  # (N,)
    lengths: Ints | None = None  # (N,), steps of each; all T if None


class Update(NamedTuple):
    """One update of the parameters."""

    chosen: Ints  # which sequences
    lr: float


class Classifier:
    """Bidirectional LSTM; the last states of both directions, side by side, name the class."""

    def __init__(self, inputs: int, hidden: int, classes: int, seed: int) -> None:
        self.lstm = fastlstm.LSTM(inputs, hidden, batch_first=True, bidirectional=True, seed=seed)
        self.linear = Linear(2 * hidden, classes, seed)
        self.tape = fastlstm.Tape()  # its memory serves every batch

    def parameters(self) -> dict[str, Floats]:
        """Of both layers, by the names that torch's state dict has for them."""
        return joined(self.lstm.parameters(), self.linear.parameters())

    def __call__(self, x: Floats, lengths: Ints | None = None) -> Floats:
        """(B, T, I) -> logits (B, C); nothing is kept."""
        _, (h_n, _) = self.lstm(x, lengths=lengths)
        return self.linear(np.concatenate((h_n[0], h_n[1]), axis=1))

    def gradients(
        self, x: Floats, labels: Ints, lengths: Ints | None = None
    ) -> tuple[float, dict[str, Floats]]:
        """The loss of a batch, and its gradient for every parameter."""
        _, (h_n, _), tape = self.lstm.forward(x, lengths=lengths, tape=self.tape)
        last = np.concatenate((h_n[0], h_n[1]), axis=1)
        loss, dlogits = cross_entropy(self.linear(last), labels)
        dlast, linear = self.linear.backward(last, dlogits)
        dh_n = np.stack(np.split(dlast, 2, axis=1))
        lstm = self.lstm.backward(tape, dstate=(dh_n, None), input_grad=False)
        return loss, joined(lstm.params, linear)


def train(model: Classifier, series: Series, plan: list[Update]) -> Iterator[float]:
    """Follows the plan with Adam; yields the loss of every update."""
    model.lstm.train()
    optimizer = fastlstm.optim.Adam(model)
    for chosen, lr in plan:
        lengths = None if series.lengths is None else series.lengths[chosen]
        loss, gradients = model.gradients(series.x[chosen], series.labels[chosen], lengths)
        optimizer.lr = lr
        optimizer.step(gradients)
        yield loss


def accuracy(model: Classifier, series: Series) -> float:
    """Share of the set that is named rightly."""
    model.lstm.eval()  # weights are packed once and kept
    logits = model(series.x, series.lengths)
    return float(np.mean(logits.argmax(axis=-1) == series.labels))


def planned(count: int, batch: int, epochs: int, peak: float, seed: int = 0) -> list[Update]:
    """Batches drawn anew in each epoch, with the learning rate of each."""
    rng = np.random.default_rng(seed)
    batches = [
        order[start : start + batch]
        for order in (rng.permutation(count) for _ in range(epochs))
        for start in range(0, count, batch)
    ]
    rates = one_cycle(len(batches), peak)
    return [Update(chosen, lr) for chosen, lr in zip(batches, rates, strict=True)]
