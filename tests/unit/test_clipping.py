# SPDX-License-Identifier: BSD-3-Clause
"""Clipping of gradients: as in torch, with a norm whose order of summation is fixed."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest

from fastlstm.optim import clip_grad_norm, clip_grad_value
from support.optim_reference import Gradients, arrays


def norm_in_order(given: dict[str, np.ndarray]) -> float:
    """The documented order of summation: 16 partial sums, added in pairs, then array by array."""
    total = 0.0
    for value in given.values():
        flat = value.astype(np.float64).ravel()
        padded = np.concatenate([flat, np.zeros(-flat.size % 16)])
        sums = np.zeros(16)
        for row in padded.reshape(-1, 16):
            sums += row * row
        for half in (8, 4, 2, 1):
            sums = sums[:half] + sums[half : 2 * half]
        total += float(sums[0])
    return math.sqrt(total)


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e25])
def test_norm(dtype: str, scale: float) -> None:
    """Squares of large and small float32 do not leave the range of float64."""
    grads = {k: np.asarray(v * np.asarray(scale, dtype)) for k, v in arrays(dtype, 3).items()}
    norm = clip_grad_norm(grads, math.inf)
    assert type(norm) is float
    assert norm == norm_in_order(grads)
    exact = math.sqrt(math.fsum(float(x) ** 2 for v in grads.values() for x in v.ravel()))
    # n/16 + 4 + 5 additions and one product, each one roundoff, halved by the root; the root's own
    assert norm == pytest.approx(exact, rel=(1031 / 16 + 12) / 2 * 2.0**-53)


@pytest.mark.parametrize("max_norm", [0.0, 1e-3, 1.0, 10.0, 1e9])
def test_clip_norm_as_torch(dtype: str, max_norm: float) -> None:
    torch = pytest.importorskip("torch")
    grads = arrays(dtype, 3)
    params = []
    for value in grads.values():
        params.append(torch.nn.Parameter(torch.zeros(value.shape, dtype=getattr(torch, dtype))))
        params[-1].grad = torch.from_numpy(value.copy())
    before = copy.deepcopy(grads)
    theirs = torch.nn.utils.clip_grad_norm_(params, max_norm)
    ours = clip_grad_norm(Gradients(**grads), max_norm)
    # torch sums in the dtype, in chains no longer than the 1,103 entries: n / 2 roundoffs, and
    # the factor and the product have three more.
    rel = 560 * float(np.finfo(dtype).eps) / 2
    assert ours == pytest.approx(float(theirs), rel=rel)
    for value, parameter in zip(grads.values(), params, strict=True):
        np.testing.assert_allclose(value, parameter.grad.numpy(), rtol=rel)
    unchanged = all(np.array_equal(grads[k], before[k]) for k in grads)
    assert unchanged == (max_norm >= ours)


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
def test_norm_not_finite(bad: float) -> None:
    """As in torch: an error if asked for, else infinity leaves zeros and NaN, NaN leaves NaN."""
    grads = {"a": np.ones(20), "b": np.array([bad])}
    with pytest.raises(RuntimeError, match="norm of grads"):
        clip_grad_norm(grads, 1.0, error_if_nonfinite=True)
    assert (grads["a"] == 1).all()
    norm = clip_grad_norm(grads, 1.0)
    assert np.isnan(norm) if np.isnan(bad) else norm == math.inf
    assert np.isnan(grads["b"]).all()
    assert np.isnan(grads["a"]).all() if np.isnan(bad) else not grads["a"].any()


def test_clip_value_as_torch(dtype: str) -> None:
    torch = pytest.importorskip("torch")
    grads = {"w": np.array([-np.inf, -3, -0.1, -0.0, 0.0, 0.1, 3, np.inf, np.nan] * 7, dtype)}
    parameter = torch.nn.Parameter(torch.zeros(63, dtype=getattr(torch, dtype)))
    parameter.grad = torch.from_numpy(grads["w"].copy())
    for limit in (math.inf, 0.1, 0.0):
        torch.nn.utils.clip_grad_value_([parameter], limit)
        clip_grad_value(grads, limit)
        np.testing.assert_array_equal(grads["w"], parameter.grad.numpy())


def test_one_array_under_two_names_is_clipped_once() -> None:
    """Its entries count twice in the norm, as they are gradients of two parameters."""
    shared = np.array([3.0, 4.0])
    grads = {"bias_ih": shared, "bias_hh": shared}
    assert clip_grad_norm(grads, 1.0) == pytest.approx(math.sqrt(50), rel=1e-15)
    assert np.linalg.norm(shared) == pytest.approx(math.sqrt(0.5), rel=1e-6)
