# SPDX-License-Identifier: BSD-3-Clause
"""A character model trained with fastlstm in plain NumPy, by truncated backpropagation in time.

The text is cut into B equal stretches that are read side by side, T characters an update. The state
at an update's end is where the next one starts, but no gradient flows back through it.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from settings import Floats, Ints

import fastlstm
from fastlstm import nn

HIDDEN, LAYERS = 128, 2
STEPS, BATCH = 50, 50
CLIP = 5.0  # joint norm of all gradients at most

State = tuple[Floats, Floats]


def numbered(text: str) -> tuple[Ints, int]:
    """The text as numbers of its characters, and how many different ones there are."""
    found, ids = np.unique(list(text), return_inverse=True)
    return ids.astype(np.int64), len(found)


def read_text(path: Path) -> tuple[Ints, int]:
    """A file as `numbered`."""
    return numbered(path.read_text(encoding="utf-8"))


def chunks(ids: Ints, steps: int = STEPS, batch: int = BATCH) -> Iterator[tuple[Ints, Ints, bool]]:
    """Inputs (T, B), the characters that follow them (T, B), and whether the text starts over."""
    stretch = (len(ids) - 1) // batch
    read, following = (
        ids[shift : shift + batch * stretch].reshape(batch, stretch).T for shift in (0, 1)
    )
    while True:
        for start in range(0, stretch - steps + 1, steps):
            part = slice(start, start + steps)
            yield read[part], following[part], start == 0


class CharacterModel(nn.Modules):
    """One-hot characters -> two LSTM layers -> logits of the next character."""

    def __init__(self, characters: int, seed: int) -> None:
        self.one_hot = np.eye(characters, dtype=np.float32)
        super().__init__(
            lstm=fastlstm.LSTM(characters, HIDDEN, LAYERS, seed=seed),
            linear=nn.Linear(HIDDEN, characters, seed=seed),
        )
        self.tape = fastlstm.Tape()  # its memory serves every update

    def __call__(self, ids: Ints, state: State | None = None) -> tuple[Floats, State]:
        """(T, B) -> logits (T, B, characters), state; nothing is kept."""
        y, state = self.lstm(self.one_hot[ids], state)
        return self.linear(y), state

    def gradients(
        self, ids: Ints, following: Ints, state: State | None
    ) -> tuple[float, dict[str, Floats], State]:
        """Loss of one update, its gradient for every parameter, and the state to go on from."""
        y, state, tape = self.lstm.forward(self.one_hot[ids], state, tape=self.tape)
        loss, dlogits = nn.cross_entropy(self.linear(y), following)
        linear = self.linear.backward(y, dlogits)
        lstm = self.lstm.backward(tape, linear.x, input_grad=False)
        return loss, self.joined(lstm=lstm.params, linear=linear.params), state


def train(model: CharacterModel, ids: Ints, rates: list[float]) -> Iterator[float]:
    """Makes an update with each learning rate and yields its loss in nats."""
    model.train()
    optimizer = fastlstm.optim.Adam(model)
    state = None
    for lr, (read, following, afresh) in zip(rates, chunks(ids), strict=False):
        loss, gradients, state = model.gradients(read, following, None if afresh else state)
        fastlstm.optim.clip_grad_norm(gradients, CLIP)
        optimizer.lr = lr
        optimizer.step(gradients)
        yield loss


def held_out_loss(model: CharacterModel, ids: Ints) -> float:
    """Nats per character of a text that training has not seen, read as one sequence."""
    model.eval()  # weights are packed once and kept
    total, state = 0.0, None
    for start in range(0, len(ids) - 1, 4096):
        window = ids[start : start + 4097, None]
        logits, state = model(window[:-1], state)
        total += nn.cross_entropy(logits, window[1:])[0] * (len(window) - 1)
    return total / (len(ids) - 1)
