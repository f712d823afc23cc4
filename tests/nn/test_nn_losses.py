# SPDX-License-Identifier: BSD-3-Clause
"""Losses: torch's values and gradients, finite differences, weights and masks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastlstm import nn
from support.slopes import assert_slope

RNG = np.random.default_rng(0)
LOGITS = RNG.standard_normal((3, 4, 5))
LABELS = RNG.integers(0, 5, (3, 4))
TARGET = RNG.standard_normal((3, 4, 5))
SHARES = RNG.random((3, 4, 5))
WEIGHT = RNG.random((3, 4))
WEIGHT[1, 2] = 0
MASK = nn.valid_steps([4, 1, 0])
CLASSES = RNG.random(5)

LOSSES: dict[str, Any] = {
    "cross entropy": lambda z, **k: nn.cross_entropy(z, LABELS, **k),
    "smoothed": lambda z, **k: nn.cross_entropy(z, LABELS, label_smoothing=0.3, **k),
    "classes": lambda z, **k: nn.cross_entropy(z, LABELS, class_weight=CLASSES, **k),
    "both": lambda z, **k: nn.cross_entropy(
        z, LABELS, class_weight=CLASSES, label_smoothing=0.3, **k
    ),
    "mse": lambda z, **k: nn.mse(z, TARGET, **k),
    "binary": lambda z, **k: nn.binary_cross_entropy_with_logits(z, SHARES, **k),
    "quantile": lambda z, **k: nn.quantile_loss(z, WEIGHT, [0.1, 0.25, 0.5, 0.75, 0.9], **k),
}
WEIGHTED: dict[str, dict[str, Any]] = {
    "plain": {},
    "sum": {"reduction": "sum"},
    "weights": {"sample_weight": WEIGHT},
    "weights of sequences": {"sample_weight": WEIGHT[:, 0], "reduction": "sum"},
    "mask": {"mask": MASK},
    "all": {"mask": MASK, "sample_weight": WEIGHT},
}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("how", WEIGHTED)
def test_gradients(name: str, how: str) -> None:
    z = LOGITS.copy()
    _, grad = LOSSES[name](z, **WEIGHTED[how])
    assert_slope(lambda: LOSSES[name](z, **WEIGHTED[how])[0], z, grad)


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_of_weights_is_the_mean_of_its_entries(name: str) -> None:
    """Of one entry at a time, by the sums over each alone."""
    weights = WEIGHT * MASK
    loss, grad = LOSSES[name](LOGITS, sample_weight=WEIGHT, mask=MASK)
    alone, total = 0.0, 0.0
    slopes = np.zeros_like(LOGITS)
    for at in np.ndindex(3, 4):
        only = np.zeros((3, 4))
        only[at] = weights[at]
        value, slope = LOSSES[name](LOGITS, sample_weight=only, reduction="sum")
        per = {"mse": 5, "binary": 5, "quantile": 5}.get(name, 1)
        if name in ("classes", "both"):
            per = CLASSES[LABELS[at]]
        alone, total, slopes = alone + value, total + per * weights[at], slopes + slope
    assert loss == pytest.approx(alone / total, rel=1e-12)
    np.testing.assert_allclose(grad, slopes / total, rtol=1e-12, atol=1e-15)


def theirs(name: str, torch: Any, z: Any, reduction: str) -> Any:
    F = torch.nn.functional
    target, shares = torch.from_numpy(TARGET).to(z.dtype), torch.from_numpy(SHARES).to(z.dtype)
    if name == "mse":
        return F.mse_loss(z, target, reduction=reduction)
    if name == "binary":
        return F.binary_cross_entropy_with_logits(z, shares, reduction=reduction)
    weight = torch.from_numpy(CLASSES).to(z.dtype) if name in ("classes", "both") else None
    smoothing = 0.3 if name in ("smoothed", "both") else 0.0
    labels = torch.from_numpy(LABELS.ravel())
    return F.cross_entropy(
        z.reshape(-1, 5), labels, weight, label_smoothing=smoothing, reduction=reduction
    )


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "quantile"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_agrees_with_torch(name: str, reduction: str, dtype: str) -> None:
    torch = pytest.importorskip("torch")
    z = torch.from_numpy(LOGITS.astype(dtype)).requires_grad_()
    wanted = theirs(name, torch, z, reduction)
    wanted.backward()
    loss, grad = LOSSES[name](LOGITS.astype(dtype), reduction=reduction)
    assert grad.dtype == dtype
    # At most 60 terms of the order of 4, each off by some roundings.
    eps = float(np.finfo(dtype).eps)
    assert loss == pytest.approx(wanted.item(), abs=(1000 if reduction == "sum" else 20) * eps)
    np.testing.assert_allclose(grad, z.grad.numpy(), rtol=0, atol=20 * eps)


def test_ignore_index_is_torch_s() -> None:
    torch = pytest.importorskip("torch")
    labels = LABELS.copy()
    labels[0, :2] = -100
    z = torch.from_numpy(LOGITS).requires_grad_()
    wanted = torch.nn.functional.cross_entropy(
        z.reshape(-1, 5), torch.from_numpy(labels.ravel()), label_smoothing=0.1
    )
    wanted.backward()
    loss, grad = nn.cross_entropy(LOGITS, labels, ignore_index=-100, label_smoothing=0.1)
    assert loss == pytest.approx(wanted.item(), rel=1e-12)
    np.testing.assert_allclose(grad, z.grad.numpy(), rtol=0, atol=1e-15)


@pytest.mark.parametrize("name", LOSSES)
def test_what_is_masked_counts_for_nothing(name: str) -> None:
    spoiled = LOGITS.copy()
    spoiled[~MASK] = np.nan
    wanted, slope = LOSSES[name](LOGITS, mask=MASK)
    loss, grad = LOSSES[name](spoiled, mask=MASK)
    assert loss == wanted
    assert np.array_equal(grad, slope)
    assert not grad[~MASK].any()
    none = np.zeros((3, 4), bool)
    loss, grad = LOSSES[name](spoiled, mask=none)
    assert loss == 0
    assert not grad.any()


def test_large_logits() -> None:
    loss, grad = nn.cross_entropy(np.array([[1e4, -1e4]], np.float32), [1])
    assert loss == 2e4
    assert grad.tolist() == [[1.0, -1.0]]
    loss, grad = nn.binary_cross_entropy_with_logits(np.array([1e4, -1e4], np.float32), [0.0, 0.0])
    assert loss == 5e3
    assert grad.tolist() == [0.5, 0.0]


def test_a_quantile_is_where_its_share_lies_below() -> None:
    values = np.arange(100.0)
    q = 0.8
    losses = [nn.quantile_loss(np.full((100, 1), c), values, [q])[0] for c in np.arange(100.0)]
    assert int(np.argmin(losses)) in (79, 80)


@pytest.mark.parametrize(
    "call,error,words",
    [
        (lambda: nn.cross_entropy(LOGITS.astype(int), LABELS), TypeError, "logits"),
        (lambda: nn.cross_entropy(LOGITS, LABELS[0]), ValueError, "labels must have shape (3, 4)"),
        (lambda: nn.cross_entropy(LOGITS, LABELS + 1.0), TypeError, "labels must be integers"),
        (lambda: nn.cross_entropy(LOGITS, LABELS + 1), ValueError, "between 0 and 4"),
        (lambda: nn.cross_entropy(LOGITS, LABELS, class_weight=[1]), ValueError, "class_weight"),
        (lambda: nn.cross_entropy(LOGITS, LABELS, label_smoothing=2), ValueError, "label_smooth"),
        (lambda: nn.cross_entropy(LOGITS, LABELS, reduction="no"), ValueError, "reduction"),
        (lambda: nn.mse(LOGITS, TARGET[0]), ValueError, "target must have shape"),
        (lambda: nn.mse(LOGITS, TARGET, mask=WEIGHT), TypeError, "mask"),
        (lambda: nn.mse(LOGITS, TARGET, mask=MASK.T), ValueError, "mask must have shape"),
        (lambda: nn.mse(LOGITS, TARGET, sample_weight=-WEIGHT), ValueError, "sample_weight"),
        (lambda: nn.mse(LOGITS, np.ma.array(TARGET)), TypeError, "masked"),
        (lambda: nn.quantile_loss(LOGITS, WEIGHT, [0.5]), ValueError, "(..., 1)"),
        (lambda: nn.quantile_loss(LOGITS, WEIGHT[0], [0.5] * 5), ValueError, "target"),
        (lambda: nn.quantile_loss(LOGITS, WEIGHT, [1.5] * 5), ValueError, "quantiles"),
    ],
)
def test_bad_input(call: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error) as caught:
        call()
    assert words in str(caught.value)
