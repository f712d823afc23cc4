# SPDX-License-Identifier: BSD-3-Clause
"""The tasks of Hochreiter and Schmidhuber (1997), Sec. 5, made anew for every sequence."""

from dataclasses import dataclass

import numpy as np


class Task:
    """Sequences with one target at their end.

    Attributes
    ----------
    inputs, outputs : int
        Sizes.
    limit : float
        A sequence is right if no output is further from its target.
    mean : float
        Solved needs a mean error below.
    allowed : int
        Solved needs at most as many wrong ones among the last 2000.
    """

    inputs: int
    outputs: int
    limit: float
    mean: float
    allowed: int = 0

    def one(self, rng):
        """x (T, I) and target (O,) of one sequence."""
        raise NotImplementedError

    def draw(self, rng, count):
        """x (T, count, I) with zeros past ends, targets (count, O) and lengths."""
        x, target, lengths = self.stack([self.one(rng) for _ in range(count)])
        return x, target, lengths if count > 1 else None

    def stack(self, drawn):
        """The same of as many sequences and their targets."""
        target = np.array([t for _, t in drawn], np.float32).reshape(len(drawn), self.outputs)
        lengths = np.array([len(x) for x, _ in drawn])
        x = np.zeros((lengths.max(), len(drawn), self.inputs), np.float32)
        for k, (sequence, _) in enumerate(drawn):
            x[: len(sequence), k] = sequence
        return x, target, lengths


@dataclass
class Adding(Task):
    """Experiment 4: the sum of two marked values. Experiment 5 (`product`): their product.

    Products are solved when fewer than 140 of the last 2000 are wrong: the paper's first rule.
    """

    steps: int = 100
    product: bool = False
    inputs: int = 2
    outputs: int = 1
    limit: float = 0.04
    mean: float = 0.01

    def __post_init__(self):
        if self.product:
            self.mean, self.allowed = np.inf, 139

    def one(self, rng):
        """Values beside markers: 1 for the two that count, -1 at both ends, else 0."""
        length = int(rng.integers(self.steps, self.steps + self.steps // 10 + 1))
        x = np.zeros((length, 2), np.float32)
        x[:, 0] = rng.uniform(0 if self.product else -1, 1, length)
        first = int(rng.integers(0, min(10, self.steps // 2 - 2)))
        second = int(rng.integers(0, self.steps // 2 - 1))
        while second == first:
            second = int(rng.integers(0, self.steps // 2 - 1))
        values = x[[first, second], 0].astype(float)
        x[[first, second], 1] = 1
        x[[0, -1], 1] = -1
        if 0 in (first, second):  # the first pair cannot say that it counts: it does not
            values[[first, second].index(0)] = 1.0 if self.product else 0.0
        return x, (values.prod() if self.product else 0.5 + values.sum() / 4)


@dataclass
class TemporalOrder(Task):
    """Experiments 6a (`symbols` 2) and 6b (3): the order of X and Y among distractors."""

    symbols: int = 2
    steps: int = 100
    inputs: int = 8
    outputs: int = 4
    limit: float = 0.3
    mean: float = 0.1

    def __post_init__(self):
        self.outputs = 2**self.symbols

    def one(self, rng):
        """One-hot E, X or Y at two or three places among a, b, c and d, B."""
        length = int(rng.integers(self.steps, self.steps + self.steps // 10 + 1))
        starts = (0.1, 0.5) if self.symbols == 2 else (0.1, 0.33, 0.66)
        symbols = rng.integers(4, 8, length)  # a, b, c, d
        symbols[0], symbols[-1] = 0, 1
        bits = rng.integers(0, 2, self.symbols)
        for start, bit in zip(starts, bits, strict=True):
            place = round(start * self.steps) + int(rng.integers(0, self.steps // 10 + 1))
            symbols[place] = 2 + bit
        target = np.zeros(self.outputs)
        target[int(bits @ (1 << np.arange(self.symbols)[::-1]))] = 1
        return np.eye(8, dtype=np.float32)[symbols], target


@dataclass
class DelayedXor(Task):
    """What the cut gradient does not easily learn (Sec. 6): storing one bit helps nothing."""

    steps: int = 30
    inputs: int = 2
    outputs: int = 1
    limit: float = 0.3
    mean: float = 0.1

    def one(self, rng):
        """Random bits, 1 or -1, beside markers of the two that count; the target is their XOR."""
        length = int(rng.integers(self.steps, self.steps + self.steps // 10 + 1))
        x = np.zeros((length, 2), np.float32)
        x[:, 0] = 2 * rng.integers(0, 2, length) - 1
        first = int(rng.integers(0, self.steps // 10 + 1))
        second = self.steps // 2 + int(rng.integers(0, self.steps // 10 + 1))
        x[[first, second], 1] = 1
        return x, float(x[first, 0] != x[second, 0])


@dataclass
class TwoSequence(Task):
    """Experiment 3: the class is in the first `informative` steps, noise is all the rest."""

    steps: int = 100
    informative: int = 3
    signal_noise: float = 0.0  # its variance: 0 in 3a, 0.2 in 3b
    inputs: int = 1
    outputs: int = 1
    limit: float = 0.2
    mean: float = 0.01

    def one(self, rng):
        """1s or -1s, then noise of variance 0.2; the target is 1 or 0."""
        length = int(rng.integers(self.steps, self.steps + self.steps // 10 + 1))
        x = rng.normal(0, np.sqrt(0.2), (length, 1)).astype(np.float32)
        label = int(rng.integers(0, 2))
        beginning = x[: self.informative]
        beginning *= np.sqrt(self.signal_noise / 0.2)
        beginning += 2 * label - 1
        return x, float(label)
