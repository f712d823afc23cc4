# SPDX-License-Identifier: BSD-3-Clause
"""A ragged data set made by a rule, of the sizes of JapaneseVowels.

Each of nine speakers has two directions in the space of 12 coefficients, "rest" and "swing", with
entries drawn from N(0, 1). A frame at the share p of an utterance, 0 to 1, is

    rest + swing sin(pi p + phase) + 3 noise,    noise from N(0, 1)

with a phase from U(-0.5, 0.5) for each utterance; this has 7 to 29 frames, all numbers alike
likely. No frame alone tells the speaker: the noise is larger than what they differ by.
"""

import numpy as np
from classifier import Series

SPEAKERS, COEFFICIENTS, SHORTEST, LONGEST = 9, 12, 7, 29


def utterances(train: int = 270, test: int = 370, seed: int = 0) -> tuple[Series, Series]:
    """Training and test set, speakers in turn; every coefficient has deviation 1 in training."""
    rng = np.random.default_rng(seed)
    rest, swing = rng.standard_normal((2, SPEAKERS, COEFFICIENTS))
    sets = []
    for count in (train, test):
        x = np.zeros((count, LONGEST, COEFFICIENTS), dtype=np.float32)
        labels = np.arange(count) % SPEAKERS
        lengths = rng.integers(SHORTEST, LONGEST + 1, count)
        for row, speaker, length in zip(x, labels, lengths, strict=True):
            at = np.pi * np.linspace(0, 1, length) + rng.uniform(-0.5, 0.5)
            noise = 3 * rng.standard_normal((length, COEFFICIENTS))
            row[:length] = rest[speaker] + np.sin(at)[:, None] * swing[speaker] + noise
        sets.append(Series(x, labels, lengths))
    frames = np.concatenate([x[:n] for x, n in zip(sets[0].x, sets[0].lengths, strict=True)])
    return tuple(s._replace(x=s.x / frames.std(axis=0)) for s in sets)  # type: ignore[return-value]
