# SPDX-License-Identifier: BSD-3-Clause
"""Training with fastlstm in plain NumPy: a classifier of sequences, and its training loop."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from settings import Floats, Ints, one_cycle

import fastlstm
from fastlstm import nn


class Series(NamedTuple):
    """A labelled set of sequences."""

    x: Floats  # (N, T, I)
    labels: Ints  # (N,)
    lengths: Ints | None = None  # (N,), steps of each; all T if None


class Update(NamedTuple):
    """One update of the parameters."""

    chosen: Ints  # which sequences
    lr: float


class Classifier(nn.SequenceModel):
    """Bidirectional LSTM; the last states of both directions, side by side, name the class."""

    def __init__(self, inputs: int, hidden: int, classes: int, seed: int) -> None:
        lstm = fastlstm.LSTM(inputs, hidden, batch_first=True, bidirectional=True, seed=seed)
        super().__init__(lstm, nn.Linear(2 * hidden, classes, seed=seed))


def train(model: Classifier, series: Series, plan: list[Update]) -> Iterator[float]:
    """Follows the plan with Adam; yields the loss of every update."""
    model.train()
    optimizer = fastlstm.optim.Adam(model)
    tape = nn.SequenceTape()  # its memory serves every batch
    for chosen, lr in plan:
        lengths = None if series.lengths is None else series.lengths[chosen]
        logits, tape = model.forward(series.x[chosen], lengths=lengths, tape=tape)
        loss, dlogits = nn.cross_entropy(logits, series.labels[chosen])
        optimizer.lr = lr
        optimizer.step(model.backward(tape, dlogits))
        yield loss


def accuracy(model: Classifier, series: Series) -> float:
    """Share of the set that is named rightly."""
    model.eval()  # weights are packed once and kept
    logits = model(series.x, lengths=series.lengths)
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
