# SPDX-License-Identifier: BSD-3-Clause
"""Labelled series in the .ts format of timeseriesclassification.com."""

from __future__ import annotations

import numpy as np

from support.helpers import shared_data

NAMES = {"japanese_vowels": "JapaneseVowels", "basic_motions": "BasicMotions"}


def read_ts(data: str, part: str) -> tuple[list[np.ndarray], np.ndarray]:
    """Sequences (T_k, I) and labels of a data set's "TRAIN" or "TEST"; skips where it is absent."""
    path = shared_data(data) / f"{NAMES[data]}_{part}.ts"
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    X, y = [], []
    for line in lines[lines.index("@data") + 1 :]:
        *channels, label = line.split(":")
        X.append(np.stack([np.array(c.split(","), np.float64) for c in channels], axis=1))
        y.append(label.strip())
    return X, np.array(y)
