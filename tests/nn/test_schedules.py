# SPDX-License-Identifier: BSD-3-Clause
"""Learning rates: torch's schedulers, and what looks at validation losses."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from fastlstm import nn


def torch_rates(make: Any, count: int) -> list[float]:
    torch = pytest.importorskip("torch")
    sgd = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    scheduler, rates = make(torch.optim.lr_scheduler, sgd), []
    for _ in range(count):
        rates.append(sgd.param_groups[0]["lr"])
        sgd.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize(
    "ours,theirs",
    [
        (nn.Constant(0.5), lambda s, o: s.LambdaLR(o, lambda k: 1.0)),
        (nn.StepDecay(0.5, 7, 0.3), lambda s, o: s.StepLR(o, 7, 0.3)),
        (nn.Exponential(0.5, 0.9), lambda s, o: s.ExponentialLR(o, 0.9)),
        (nn.Cosine(0.5, 29, 0.1), lambda s, o: s.CosineAnnealingLR(o, 29, 0.1)),
        (
            nn.WarmUp(nn.Constant(0.5), 10),
            lambda s, o: s.LambdaLR(o, lambda k: min((k + 1) / 10, 1)),
        ),
    ],
    ids=["constant", "step", "exponential", "cosine", "warm-up"],
)
def test_agrees_with_torch(ours: nn.Schedule, theirs: Any) -> None:
    # Each of 30 factors of a recursive formula is off by a rounding.
    assert [ours(k) for k in range(30)] == pytest.approx(torch_rates(theirs, 30), rel=1e-13)


def test_ends_and_joints() -> None:
    cosine = nn.Cosine(0.5, 10, 0.1)
    assert [cosine(0), cosine(10), cosine(99)] == [0.5, 0.1, 0.1]
    both = nn.WarmUp(cosine, 5)
    assert [both(0), both(4), both(5), both(15)] == [0.1, 0.5, 0.5, 0.1]
    assert pickle.loads(pickle.dumps(both)) == both


def test_plateau_agrees_with_torch() -> None:
    torch = pytest.importorskip("torch")
    sgd = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        sgd, factor=0.3, patience=2, threshold=0.1, threshold_mode="abs", min_lr=0.01, eps=0
    )
    ours = nn.ReduceOnPlateau(0.5, 0.3, 2, 0.1, 0.01)
    losses = np.random.default_rng(0).random(60) / np.sqrt(np.arange(1, 61))
    rates = set()
    for loss in losses:
        theirs.step(loss)
        assert ours.update(loss) == ours(3) == pytest.approx(sgd.param_groups[0]["lr"], rel=1e-13)
        rates.add(ours.lr)
    assert len(rates) > 3
    assert min(rates) == 0.01
    again = nn.ReduceOnPlateau(9.0)
    again.load_state_dict(ours.state_dict())
    assert (again.lr, again.best, again.waited) == (ours.lr, ours.best, ours.waited)


def test_early_stopping_keeps_the_best() -> None:
    model = nn.Linear(2, 1, seed=0).train()
    watch = nn.EarlyStopping(model, patience=3, min_delta=0.1)
    watch.restore()  # nothing is kept yet
    losses = [3.0, 2.0, 1.95, float("nan"), 1.85, 1.84, 1.83, 1.82, 0.0]
    stops = []
    for k, loss in enumerate(losses):
        model.bias[:] = k
        stops.append(watch.update(loss))
    assert stops == [False] * 7 + [True, False]
    assert watch.best == 0.0
    watch = nn.EarlyStopping(model, patience=1)
    model.bias[:] = 5
    assert not watch.update(1.0)
    model.bias[:] = 6
    assert watch.update(1.0)
    other = nn.EarlyStopping(model)
    other.load_state_dict(watch.state_dict())
    assert (other.best, other.waited) == (1.0, 1)
    other.restore()
    assert model.bias.tolist() == [5.0]


@pytest.mark.parametrize(
    "call,error,words",
    [
        (lambda: nn.Constant(-1), ValueError, "lr"),
        (lambda: nn.StepDecay(1, 0), ValueError, "every"),
        (lambda: nn.Exponential(1, "a"), TypeError, "factor"),
        (lambda: nn.Cosine(1, 1.5), TypeError, "steps"),
        (lambda: nn.WarmUp(nn.Constant(1), 0), ValueError, "steps"),
        (lambda: nn.ReduceOnPlateau(1, 1.0), ValueError, "factor"),
        (lambda: nn.EarlyStopping(nn.Linear(1, 1), 0), ValueError, "patience"),
    ],
)
def test_bad_input(call: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error) as caught:
        call()
    assert words in str(caught.value)
