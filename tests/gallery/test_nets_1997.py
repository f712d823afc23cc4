# SPDX-License-Identifier: BSD-3-Clause
"""The nets of 1997 are what their paper says: weights, functions, the cut of the gradient."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from support import EXAMPLES


@pytest.fixture
def nets(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(EXAMPLES / "gallery")
    yield __import__("_nets_1997")
    for name in ("_nets_1997", "_online", "_tasks"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("sizes", "biased", "weights"),
    [
        ((7, 7, 4, 1), "gates", 264),
        ((7, 7, 3, 2), "gates", 276),
        ((1, 1, 3, 1), "hidden", 102),
        ((2, 1, 2, 2), "all", 93),
        ((8, 4, 2, 2), "all", 156),
        ((8, 8, 3, 2), "all", 308),
    ],
    ids=["1-1", "1-2", "3", "4", "6a", "6b"],
)
def test_as_many_weights_as_published(
    nets: Any, sizes: tuple[int, ...], biased: str, weights: int
) -> None:
    """Table 10 of the paper; those that do not exist are zero and stay so."""
    net = nets.NetsOf1997([0], *sizes, 0.1, biased=biased)
    assert net.weights == weights
    x = np.random.default_rng(0).normal(size=(6, 1, sizes[0]))
    net.learn(x, np.ones((1, sizes[1])), np.array([6]))
    assert np.count_nonzero(net.hidden) + np.count_nonzero(net.output) == weights


def f(z: Any) -> Any:
    return 1 / (1 + np.exp(-z))


def truncated_loss(
    hidden: Any,
    output: Any,
    x: Any,
    frozen: Any,
    target: Any,
    blocks: int,
    size: int,
    linear: bool,
) -> float:
    """Half the squared error by the paper's equations, one unit after the other.

    Hidden units of the step before are given, as if they did not depend on weights: that is the
    cut. Without them, they are what the equations make of them, and are appended to `frozen`.
    """
    before, states = np.zeros(len(hidden)), np.zeros(blocks * size)
    loss, recorded = 0.0, len(frozen) == len(x)
    for t, inputs in enumerate(x):
        if recorded:
            before = frozen[t]
        else:
            frozen.append(before)
        net = [row @ np.concatenate((inputs, before, [1])) for row in hidden]
        after = [*map(f, net[: 2 * blocks])]
        for c in range(blocks * size):
            block = c // size
            states[c] += after[block] * (4 * f(net[2 * blocks + c]) - 2)
            after.append(after[blocks + block] * (2 * f(states[c]) - 1))
        z = output @ np.array([*after[2 * blocks :], 1])
        if target.ndim == 2 or t == len(x) - 1:
            wanted = target[t] if target.ndim == 2 else target
            loss += np.sum((wanted - (z if linear else f(z))) ** 2)
        before = np.array(after)
    return loss / 2


@pytest.mark.parametrize(("size", "linear"), [(1, True), (1, False), (2, False)])
@pytest.mark.parametrize("every", [False, True], ids=["end", "every"])
def test_cut_gradient(nets: Any, every: bool, size: int, linear: bool) -> None:
    """Against differences of a slow reference, for two nets, one sequence of them longer.

    Central differences at 1e-5: third derivatives of order 10 make an error of 2e-10, roundings of
    a loss of order 10 one of 1e-10 at most; 1e-8 leaves room for both.
    """
    blocks, rng, lengths = 2, np.random.default_rng(3), np.array([4, 6])
    net = nets.NetsOf1997([5, 6], 2, 3, blocks, size, 0.1, init=1.0, every=every, linear=linear)
    x = rng.normal(size=(6, 2, 2))
    target = rng.random((6, 2, 3) if every else (2, 3))
    _, *gradients = net.gradients(x, target, lengths)
    for k, length in enumerate(lengths):
        wanted = target[:length, k] if every else target[k]
        frozen: list[Any] = []
        given = net.hidden[k], net.output[k], x[:length, k], frozen, wanted, blocks, size, linear
        truncated_loss(*given)
        for weights, gradient in zip((net.hidden[k], net.output[k]), gradients, strict=True):
            for at in np.ndindex(weights.shape):
                losses, old = [], weights[at]
                for step in (1e-5, -1e-5):
                    weights[at] = old + step
                    losses.append(truncated_loss(*given))
                weights[at] = old
                difference = (losses[0] - losses[1]) / 2e-5
                assert abs(difference - gradient[k][at]) < 1e-8, (k, at)


@pytest.mark.parametrize("every", [False, True], ids=["end", "every"])
def test_alone_as_in_company(nets: Any, every: bool) -> None:
    """Nets that train side by side do not know of each other, nor of what pads their sequences.

    The same sums in another order: 20 updates by 8 steps of 12 terms, so below 2000 roundings of
    1.1e-16 in numbers of order 1.
    """
    given: dict[str, Any] = {"every": every, "init": 0.5}
    together = nets.NetsOf1997([7, 8, 9], 2, 3, 2, 1, 0.5, **given)
    alone = nets.NetsOf1997([8], 2, 3, 2, 1, 0.5, **given)
    rng = np.random.default_rng(0)
    for _ in range(20):
        lengths = rng.integers(3, 9, 3)
        x = rng.normal(size=(lengths.max(), 3, 2))
        target = rng.random((len(x), 3, 3) if every else (3, 3))
        own = x[: lengths[1], 1:2], target[: lengths[1], 1:2] if every else target[1:2]
        p, q = together.learn(x, target, lengths), alone.learn(*own, lengths[1:2])
        seen = p[: lengths[1], 1:2] if every else p[1:2]
        assert np.abs(seen - q).max() < 2000 * 1.1e-16
    assert np.abs(together.hidden[1] - alone.hidden[0]).max() < 2000 * 1.1e-16
    together.keep(np.array([False, True, True]))
    outputs = together(x, lengths, [0]), alone(x, lengths)
    assert np.abs(outputs[0] - outputs[1]).max() < 2000 * 1.1e-16


def test_outputs_are_those_before_an_update(nets: Any) -> None:
    net = nets.NetsOf1997([1, 2], 2, 3, 2, 2, 0.5)
    x, lengths = np.random.default_rng(0).normal(size=(5, 2, 2)), np.array([5, 3])
    before = net(x, lengths)  # both sequences in both nets
    p = net.learn(x, np.zeros((2, 3)), lengths)
    assert np.abs(p - before[[0, 1], [0, 1]]).max() < 1e-14  # 70 terms
    assert (net(x, lengths) < before).all()  # targets of zero


def test_gates_read_gates(nets: Any) -> None:
    """Of the step before: the first step does not tell, the second does."""
    given: dict[str, Any] = {"every": True, "init": 1.0}
    x, lengths = np.ones((2, 1, 1)), np.array([2])
    reads = nets.NetsOf1997([4], 1, 1, 1, 1, 0.1, **given)
    blind = nets.NetsOf1997([4], 1, 1, 1, 1, 0.1, gates_read_gates=False, **given)
    difference = np.abs(reads(x, lengths) - blind(x, lengths))
    assert difference[0] == 0
    assert difference[1] > 1e-3
    assert reads.weights - blind.weights == 3 * 2


def test_without_reading_gates_it_is_a_layer_of_today(nets: Any) -> None:
    """The engine computes the same outputs; without recurrent weights, the same update.

    In float32: 30 steps of about 10 roundings of 6e-8 in numbers up to 2, below 4e-5.
    """
    online = __import__("_online")
    net = nets.NetsOf1997([2], 2, 1, 3, 1, 0.5, init=0.5, gates_read_gates=False)
    for recurrent in (True, False):
        layer = online.CellsOf1997(2, 1, 3, 1, 0.5)
        if not recurrent:
            net.hidden[:, :, 2:-1] = 0
        i, o, g = net.hidden[0].reshape(3, 3, -1)
        rows, params = np.concatenate((i, 0 * i, g, o)), layer.model.parameters()
        params["recurrent.weight_ih_l0"][:] = rows[:, :2]
        params["recurrent.weight_hh_l0"][:] = rows[:, 8:-1]
        params["recurrent.bias_ih_l0"][:] = rows[:, -1]
        params["head.weight"][:], params["head.bias"][:] = (
            net.output[0, :, :-1],
            net.output[0, :, -1],
        )
        x = np.random.default_rng(0).normal(size=(30, 1, 2)).astype(np.float32)
        target, lengths = np.ones((1, 1), np.float32), np.array([30])
        assert np.abs(net.learn(x, target, lengths) - layer.learn(x, target)).max() < 4e-5
    i, o, g = net.hidden[0].reshape(3, 3, -1)
    weight = params["recurrent.weight_ih_l0"].reshape(4, 3, 2)
    for ours, theirs in zip((i, g, o), weight[[0, 2, 3]], strict=True):
        assert np.abs(ours[:, :2] - theirs).max() < 4e-5


def test_solved_nets_leave(nets: Any) -> None:
    """The first of two is always right, so it leaves after 2000 sequences; the other goes on."""
    online, tasks = __import__("_online"), __import__("_tasks")

    class Constant(tasks.TwoSequence):
        def one(self, rng: Any) -> tuple[Any, float]:
            return np.zeros((1, 1), np.float32), 1.0

    pair = nets.NetsOf1997([1, 2], 1, 1, 1, 1, 0.0)
    pair.output[:, :, -1] = [[10], [-10]]
    courses = online.solve_together(pair, Constant(), 0, range(2200), tested=300)
    assert [course.sequences for course in courses] == [2000, 2200]
    assert [course.solved for course in courses] == [True, False]
    assert [course.wrong for course in courses] == [0, 300]
    assert [course.tested for course in courses] == [300, 300]
    assert courses[0].error < 1e-4 < 0.99 < courses[1].error
    assert len(pair) == 1
