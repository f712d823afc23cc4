# SPDX-License-Identifier: BSD-3-Clause
"""Real data: the accuracy of cross-validation is that of the same model trained in PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline

import fastlstm.sklearn
from fastlstm.sklearn import LSTMClassifier, SequenceScaler
from support import fit_cases
from support.series import read_ts

SEEDS = 4


@pytest.mark.deep
@pytest.mark.parametrize("name", fit_cases.CASES)
def test_as_good_as_pytorch(name: str) -> None:
    """The same layers, batches, rates and clipping, from other first weights: means over random
    states may differ by three standard errors of their difference."""
    torch = pytest.importorskip("torch")
    from support import torch_estimators

    case = fit_cases.CASES[name]
    data = case.read()

    def scores(kind: Any) -> np.ndarray:
        models = [fit_cases.model(case, kind, seed) for seed in range(SEEDS)]
        return np.array([cross_val_score(m, data.X, data.y, cv=data.cv).mean() for m in models])

    ours = scores(getattr(fastlstm.sklearn, f"LSTM{case.kind}"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        theirs = scores(getattr(torch_estimators, f"Torch{case.kind}"))
    finally:
        torch.set_num_threads(threads)
    print(f"{name}: fastlstm {ours.mean():.4f}, PyTorch {theirs.mean():.4f}")
    error = np.sqrt((ours.var(ddof=1) + theirs.var(ddof=1)) / SEEDS)
    assert ours.mean() > 0.7
    assert ours.mean() > theirs.mean() - 3 * error


def test_the_test_set_of_japanese_vowels() -> None:
    """Published recurrent classifiers reach 97 to 98 %."""
    X, y = read_ts("japanese_vowels", "TRAIN")
    model = LSTMClassifier(
        bidirectional=True, batch_size=16, max_iter=30, schedule="one_cycle", learning_rate=5e-3,
        random_state=0,
    )  # fmt: skip
    model = make_pipeline(SequenceScaler(), model).fit(X, y)
    assert model.score(*read_ts("japanese_vowels", "TEST")) >= 0.96
