# SPDX-License-Identifier: BSD-3-Clause
"""Language models: a stack of LSTM layers on one-hot characters or on an embedding of words."""

import numpy as np

import fastlstm
from fastlstm import nn


class LanguageModel(nn.Modules):
    """Ids to logits of the next one; the first layer reads rows of a table."""

    def __init__(self, vocabulary, hidden, layers, *, width, dropout=0.0, forget=None, seed=0):
        options = None if forget is None else {"forget_bias": forget}
        super().__init__(
            table=nn.Embedding(vocabulary, width, seed=seed),
            lstm=fastlstm.LSTM(
                width,
                hidden,
                layers,
                dropout=dropout if layers > 1 else 0.0,
                seed=seed,
                options=options,
            ),
            head=nn.Linear(hidden, vocabulary, seed=seed),
        )
        self.dropout = dropout

    def learn(self, ids, following, state, seed=0):
        """Loss in nats, gradients and state after ids (T, B)."""
        x, looked_up = self.table.forward(ids)
        keep = self._kept(x.shape, [seed, 0])
        y, state, tape = self.lstm.forward(x * keep, state, seed=seed)
        keep_y = self._kept(y.shape, [seed, 1])
        logits, read = self.head.forward(y * keep_y)
        loss, dlogits = nn.cross_entropy(logits, following)
        head = self.head.backward(read, dlogits)
        lstm = self.lstm.backward(tape, head.x * keep_y)
        table = self.table.backward(looked_up, lstm.x * keep)
        parts = {"table": table, "lstm": lstm, "head": head}
        grads = {f"{part}.{k}": g for part, found in parts.items() for k, g in found.params.items()}
        return loss, grads, state

    def _kept(self, shape, seed):
        """Factors of dropout; those between the layers are the engine's own."""
        if not self.dropout:
            return np.float32(1)
        kept = np.random.default_rng(seed).random(shape, np.float32) >= self.dropout
        return kept / np.float32(1 - self.dropout)

    def loss(self, columns, chunk=500):
        """Nats for each of the ids (T, B) but the first ones; columns are read downwards once."""
        state, total = None, 0.0
        for at in range(0, len(columns) - 1, chunk):
            part = columns[at : at + chunk + 1]
            y, state = self.lstm(self.table(part[:-1]), state)
            loss, _ = nn.cross_entropy(self.head(y), part[1:])
            total += loss * (len(part) - 1)
        return total / (len(columns) - 1)

    def stream(self):
        """A function from an id to the logits of the next one, which keeps the state."""
        steps = self.lstm.stream()

        def one(token):
            return self.head(steps(self.table([token])))[0]

        return one


def rows(ids, batch):
    """The text as `batch` columns that are read downwards, (T, batch)."""
    steps = len(ids) // batch
    return np.ascontiguousarray(ids[: steps * batch].reshape(batch, steps).T)


def chunks(columns, steps):
    """Parts (steps, batch) of the columns, and what follows each id."""
    for at in range(0, len(columns) - steps, steps):
        yield columns[at : at + steps], columns[at + 1 : at + steps + 1]
