# SPDX-License-Identifier: BSD-3-Clause
"""Estimators and a plain loop of PyTorch, from the same first weights and batches: the same course.

In float64, so that what differs is a fault and no rounding: an update adds some hundred roundings
to a weight. 25 updates that each double the errors before them, at most, end at 100 * 2**-53 *
2**25 = 4e-7; loss curves are compared to 1e-6.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn")
pytest.importorskip("torch")

import torch

from fastlstm.sklearn import LSTMClassifier, LSTMForecaster, LSTMRegressor, fitting
from support.torch_estimators import Network

COMMON: dict[str, Any] = {
    "hidden_size": 6,
    "learning_rate": 1e-2,
    "clip_norm": 0.1,  # which gradients exceed
    "batch_size": 8,
    "max_iter": 5,
    "random_state": 3,
    "dtype": "float64",
}
TOLERANCE = 1e-6


def sequences(ragged: bool) -> Any:
    """40 sequences of 3 features: of 6 steps, or of 2 to 9."""
    rng = np.random.default_rng(5)
    steps = rng.integers(2, 10, 40) if ragged else np.full(40, 6)
    rows = [rng.standard_normal((t, 3)) for t in steps]
    return rows if ragged else np.stack(rows)


def course(model: Any, parts: Any, loss: Any) -> list[float]:
    """Mean losses of the epochs of a PyTorch network that begins with the weights of `model`."""
    first = model.model_.state_dict()
    outputs, inputs = len(first["head.weight"]), first["recurrent.weight_ih_l0"].shape[1]
    network = Network(
        model.cell,
        inputs,
        model.hidden_size,
        outputs,
        model.bidirectional,
        getattr(model, "pooling", "last") == "mean",
    ).double()
    network.load_state_dict({name: torch.tensor(values) for name, values in first.items()})
    adam = torch.optim.Adam(network.parameters(), model.learning_rate)
    losses = []
    for epoch in range(model.max_iter):
        total = 0.0
        for part in parts(epoch):
            lengths = None if part.lengths is None else torch.tensor(part.lengths)
            wrong = loss(network(torch.tensor(part.x), lengths), torch.tensor(part.y))
            adam.zero_grad()
            wrong.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), model.clip_norm)
            adam.step()
            total += wrong.item() * len(part.x)
        losses.append(total / 40)
    return losses


def begun(model: Any, *data: Any) -> Any:
    """A model with first weights that no update has changed."""
    rate, epochs = model.learning_rate, model.max_iter
    model.set_params(learning_rate=0.0, max_iter=1).fit(*data)
    return model.set_params(learning_rate=rate, max_iter=epochs)


def check_course(kind: Any, options: dict[str, Any], X: Any, y: np.ndarray, loss: Any) -> None:
    """The estimator's losses are those of PyTorch from its first weights, and they fall."""
    first = begun(kind(**options), X, y)
    expected = course(
        first, lambda epoch: fitting.parts_of(X, y, None, 8, [first._seed, 2, epoch]), loss
    )
    found = kind(**options).fit(X, y).loss_curve_
    np.testing.assert_allclose(found, expected, rtol=TOLERANCE)
    assert found[-1] < found[0]


@pytest.mark.parametrize("ragged", [False, True], ids=["even", "ragged"])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("pooling", ["last", "mean"])
def test_classifier(ragged: bool, cell: str, pooling: str) -> None:
    X = sequences(ragged)
    y = np.array([int(row[:, 0].sum() > 0) + int(row[-1, 1] > 0) for row in X])
    options = COMMON | {"cell": cell, "pooling": pooling, "bidirectional": pooling == "mean"}
    check_course(LSTMClassifier, options, X, y, torch.nn.functional.cross_entropy)


@pytest.mark.parametrize("ragged", [False, True], ids=["even", "ragged"])
def test_regressor(ragged: bool) -> None:
    X = sequences(ragged)
    y = np.array([[row[:, 0].mean(), row[-1, 1]] for row in X])
    check_course(LSTMRegressor, COMMON, X, y, torch.nn.functional.mse_loss)


def test_forecaster() -> None:
    """The windows are made here, from a series whose mean and deviation are not 0 and 1."""
    steps = np.arange(49)[:, None]
    series = 3 + 5 * np.sin(steps / np.array([3, 5]))
    options = COMMON | {"steps": 7, "horizon": 3}
    first = begun(LSTMForecaster(**options), series)
    scaled = (series - series.mean(axis=0)) / series.std(axis=0)
    windows = np.stack([scaled[k : k + 7] for k in range(40)])
    following = np.stack([scaled[k + 7 : k + 10].ravel() for k in range(40)])
    expected = course(
        first,
        lambda epoch: fitting.parts_of(windows, following, None, 8, [first._seed, 2, epoch]),
        torch.nn.functional.mse_loss,
    )
    found = LSTMForecaster(**options).fit(series).loss_curve_
    np.testing.assert_allclose(found, expected, rtol=TOLERANCE)
    assert found[-1] < found[0]
