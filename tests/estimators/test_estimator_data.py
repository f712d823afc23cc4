# SPDX-License-Identifier: BSD-3-Clause
"""Real data: the accuracy of cross-validation is that of the same model trained in PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline

from fastlstm.sklearn import LSTMClassifier, SequenceScaler
from support.series import read_ts

SETTINGS: dict[str, Any] = {
    "japanese_vowels": {"hidden_size": 32, "max_iter": 12, "learning_rate": 1e-2},
    "basic_motions": {"hidden_size": 16, "max_iter": 30, "learning_rate": 1e-2, "pooling": "mean"},
}


def scores(model: Any, data: str, part: str = "TRAIN") -> np.ndarray:
    """Accuracies of three folds, each in its seeded place."""
    X, y = read_ts(data, part)
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    return cross_val_score(make_pipeline(SequenceScaler(), model), X, y, cv=folds)


@pytest.mark.deep
@pytest.mark.parametrize("data", SETTINGS)
def test_as_accurate_as_pytorch(data: str) -> None:
    """The same layers, batches, rates and clipping; first weights are drawn anew, so the share of
    right answers may differ by chance: by three deviations of a difference of two shares."""
    torch = pytest.importorskip("torch")
    from support.torch_classifier import TorchClassifier

    threads = torch.get_num_threads()
    options = {"bidirectional": True, "batch_size": 16, "random_state": 0, **SETTINGS[data]}
    ours = scores(LSTMClassifier(**options), data).mean()
    torch.set_num_threads(1)
    try:
        theirs = scores(TorchClassifier(**options), data).mean()
    finally:
        torch.set_num_threads(threads)
    print(f"{data}: fastlstm {ours:.4f}, PyTorch {theirs:.4f}")
    count = len(read_ts(data, "TRAIN")[1])
    share = max(ours, theirs)
    assert ours > 0.85
    assert ours > theirs - 3 * np.sqrt(2 * max(share * (1 - share), 1 / count) / count)


def test_the_test_set_of_japanese_vowels() -> None:
    """Published recurrent classifiers reach 97 to 98 %."""
    X, y = read_ts("japanese_vowels", "TRAIN")
    model = LSTMClassifier(
        bidirectional=True, batch_size=16, max_iter=30, schedule="one_cycle", learning_rate=5e-3,
        random_state=0,
    )  # fmt: skip
    model = make_pipeline(SequenceScaler(), model).fit(X, y)
    assert model.score(*read_ts("japanese_vowels", "TEST")) >= 0.96
