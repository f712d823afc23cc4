# SPDX-License-Identifier: BSD-3-Clause
"""The Reber grammar, embedded and continual."""

import numpy as np

SYMBOLS = "BTPSXVE"
# State -> where it may go: (symbol, next state). The string begins with B in state 0 and ends with
# E.
GRAPH = {
    0: (("T", 1), ("P", 2)),
    1: (("S", 1), ("X", 3)),
    2: (("T", 2), ("V", 4)),
    3: (("X", 2), ("S", 5)),
    4: (("P", 3), ("V", 5)),
    5: (("E", None),),
}


def embedded(rng):
    """A string of the embedded grammar, and what may follow each of its symbols."""
    branch = "TP"[int(rng.integers(2))]
    string, legal, state = ["B", branch, "B"], ["TP", "B"], 0
    while state is not None:
        choices = GRAPH[state]
        legal.append("".join(symbol for symbol, _ in choices))
        symbol, state = choices[int(rng.integers(len(choices)))]
        string.append(symbol)
    return [*string, branch, "E"], [*legal, branch, "E"]


def one_hot(symbols):
    """(T, 7) of as many symbols; of strings of several, all of theirs are 1."""
    x = np.zeros((len(symbols), len(SYMBOLS)), np.float32)
    for row, some in zip(x, symbols, strict=True):
        row[[SYMBOLS.index(symbol) for symbol in some]] = 1
    return x


def sets(rng, count=256):
    """Strings to learn, as the grammar makes them, and others to test, as many.

    Each is (inputs, targets, legal), (T, 7) each; the last symbol has no follower.
    """
    learned = [embedded(rng) for _ in range(count)]
    known, tested = {"".join(string) for string, _ in learned}, []
    while len(tested) < count:
        string, legal = embedded(rng)
        if "".join(string) not in known:
            tested.append((string, legal))
    return [
        [(one_hot(string[:-1]), one_hot(string[1:]), one_hot(legal)) for string, legal in some]
        for some in (learned, tested)
    ]


def right(outputs, legal):
    """Whether every legal symbol is more active than all that are not, at each step."""
    least = np.where(legal > 0, outputs, np.inf).min(axis=-1)
    most = np.where(legal > 0, -np.inf, outputs).max(axis=-1)
    return least > most


def padded(sequences):
    """Sequences (T_k, 7) as (T, B, 7), and their lengths."""
    lengths = np.array([len(sequence) for sequence in sequences])
    x = np.zeros((lengths.max(), len(sequences), sequences[0].shape[1]), np.float32)
    for k, sequence in enumerate(sequences):
        x[: len(sequence), k] = sequence
    return x, lengths
