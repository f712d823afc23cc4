# SPDX-License-Identifier: BSD-3-Clause
"""The tasks of the gallery ask what the papers ask, and its nets of 1997 are what they say."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest

from support import EXAMPLES

pytest.importorskip("matplotlib")
NAMES = ("_common", "_online", "_reber", "_tasks")


class Gallery(NamedTuple):
    """Its modules."""

    common: Any
    online: Any
    reber: Any
    tasks: Any


@pytest.fixture
def gallery(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gallery]:
    monkeypatch.syspath_prepend(EXAMPLES / "gallery")
    yield Gallery(*(__import__(name) for name in NAMES))
    for name in NAMES:
        sys.modules.pop(name, None)


def drawn(task: Any, count: int = 200) -> list[tuple[Any, Any]]:
    rng = np.random.default_rng(0)
    return [task.one(rng) for _ in range(count)]


@pytest.mark.parametrize("product", [False, True], ids=["sum", "product"])
def test_adding(gallery: Gallery, product: bool) -> None:
    for x, target in drawn(gallery.tasks.Adding(product=product)):
        assert 100 <= len(x) <= 110
        marked = np.flatnonzero(x[:, 1] == 1)
        assert marked[0] < 10 or marked[1] < 10
        assert marked[1] < 49
        assert x[-1, 1] == -1
        assert x[0, 1] in (-1, 1)
        values = x[marked, 0].astype(float)
        values[marked == 0] = 1 if product else 0
        assert target == (values.prod() if product else 0.5 + values.sum() / 4)


@pytest.mark.parametrize("places", [2, 3])
def test_temporal_order(gallery: Gallery, places: int) -> None:
    spans = ((10, 20), (50, 60)) if places == 2 else ((10, 20), (33, 43), (66, 76))
    for x, target in drawn(gallery.tasks.TemporalOrder(symbols=places)):
        symbols = x.argmax(axis=1)
        assert (x.sum(axis=1) == 1).all()
        assert (symbols[0], symbols[-1]) == (0, 1)
        at = np.flatnonzero((symbols == 2) | (symbols == 3))
        assert all(low <= k <= high for k, (low, high) in zip(at, spans, strict=True))
        assert target.argmax() == int("".join(str(symbols[k] - 2) for k in at), 2)


def test_two_sequence_and_xor(gallery: Gallery) -> None:
    for x, target in drawn(gallery.tasks.TwoSequence()):
        assert (x[:3] == 2 * target - 1).all()
        assert 0.05 < x[3:].var() < 0.5
    for x, target in drawn(gallery.tasks.DelayedXor()):
        first, second = x[x[:, 1] == 1, 0]
        assert target == (first != second)


def test_batches_are_padded_with_zeros(gallery: Gallery) -> None:
    x, target, lengths = gallery.tasks.Adding(steps=20).draw(np.random.default_rng(0), 8)
    assert x.shape == (lengths.max(), 8, 2)
    assert target.shape == (8, 1)
    for k, length in enumerate(lengths):
        assert x[length - 1, k, 1] == -1
        assert not x[length:, k].any()


def test_reber_strings(gallery: Gallery) -> None:
    """The last but one symbol is the second; what follows is legal, and both branches are."""
    strings = gallery.reber.strings(np.random.default_rng(0), 300)
    assert len({inputs.tobytes() for inputs, _, _ in strings}) == 300
    for inputs, targets, legal in strings:
        assert np.array_equal(inputs[1:], targets[:-1])
        assert np.array_equal(inputs[1], targets[-2])
        assert (legal >= targets).all()
        assert set(legal.sum(axis=1)) <= {1, 2}
        assert len(inputs) >= 8
    sizes = np.concatenate([legal.sum(axis=1) for _, _, legal in strings])
    assert (sizes == 2).sum() > 300


def test_right_is_told_from_wrong(gallery: Gallery) -> None:
    legal = np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1]])
    outputs = np.array([[0.9, 0.2, 0.1], [0.9, 0.1, 0.2], [0.1, 0.1, 0.3]])
    assert gallery.reber.right(outputs, legal).tolist() == [True, False, True]


def test_blocks_of_1997_share_gates(gallery: Gallery) -> None:
    """Bit for bit, also after updates; there is no second bias."""
    net = gallery.online.NetOf1997(2, 1, 2, 2, 0.5, input_bias=(-3.0, -6.0), init=0.1)
    task, rng = gallery.tasks.Adding(steps=20), np.random.default_rng(0)
    first = {name: values.copy() for name, values in net.model.parameters().items()}
    for _ in range(20):
        net.learn(*task.draw(rng, 1))
    params = net.model.parameters()
    for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0"):
        gates = params[f"recurrent.{name}"].reshape(4, 2, 2, -1)[[0, 3]]
        assert np.array_equal(gates[:, :, 0], gates[:, :, 1])
        assert not np.array_equal(first[f"recurrent.{name}"], params[f"recurrent.{name}"])
    assert not params["recurrent.bias_hh_l0"].any()


def test_cut_gradient(gallery: Gallery) -> None:
    """Without recurrent weights nothing is cut: both gradients lead to the same weights.

    They are sums of the same products in another order: 10 steps, 5 terms each, of size 1 at most,
    so the difference is below 50 roundings of 6e-8 in a step of 0.1.
    """
    task, nets = gallery.tasks.TwoSequence(steps=10), []
    for cut in (True, False):
        net = gallery.online.NetOf1997(1, 1, 2, 1, 0.1, cut=cut, seed=3, init=0.5)
        net._learned["recurrent.weight_ih_l0"][:, 1:] = 0
        net._hand_over()
        net.learn(*task.draw(np.random.default_rng(1), 1))
        nets.append(net.model.parameters())
    for name, values in nets[0].items():
        assert np.abs(values - nets[1][name]).max() < 50 * 6e-8 * 0.1 + 6e-8, name


def test_cut_gradient_cuts(gallery: Gallery) -> None:
    task, nets = gallery.tasks.TwoSequence(steps=10), []
    for cut in (True, False):
        net = gallery.online.NetOf1997(1, 1, 2, 1, 0.1, cut=cut, seed=3, init=0.5)
        net.learn(*task.draw(np.random.default_rng(1), 1))
        nets.append(net.model.parameters()["recurrent.weight_hh_l0"])
    assert not np.array_equal(*nets)


def test_progress(gallery: Gallery, capfd: pytest.CaptureFixture[str]) -> None:
    """Silent where it takes less than two seconds."""
    assert list(gallery.common.progress("abc", 3, "letters")) == ["a", "b", "c"]
    assert capfd.readouterr().err == ""
