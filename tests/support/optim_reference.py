# SPDX-License-Identifier: BSD-3-Clause
"""The optimisers' equations in plain NumPy, one rounding per operation, and options to run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pytest

import fastlstm.optim as optim

STEPS = 60
U32 = 2.0**-24  # unit roundoff of float32
# What test_optim.py runs; `run` halves lr half-way.
OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "sgd": ("SGD", {"lr": 0.01}),
    "sgd decay": ("SGD", {"lr": 0.01, "weight_decay": 0.05}),
    "sgd momentum": ("SGD", {"lr": 0.01, "momentum": 0.9}),
    "sgd dampening": ("SGD", {"lr": 0.02, "momentum": 0.8, "dampening": 0.3, "weight_decay": 0.03}),
    "sgd negative dampening": ("SGD", {"lr": 0.01, "momentum": 0.5, "dampening": -0.5}),
    "sgd nesterov": ("SGD", {"lr": 0.01, "momentum": 0.9, "nesterov": True}),
    "sgd all": ("SGD", {"lr": 0.01, "momentum": 0.7, "weight_decay": 0.04, "nesterov": True}),
    "adam": ("Adam", {}),
    "adam fast": ("Adam", {"lr": 0.01, "betas": (0.5, 0.9), "eps": 1e-4}),
    "adam no memory": ("Adam", {"lr": 0.01, "betas": (0.0, 0.0)}),
    "adam decay": ("Adam", {"lr": 0.01, "weight_decay": 0.04}),
    "adam amsgrad": ("Adam", {"lr": 0.01, "betas": (0.8, 0.7), "amsgrad": True}),
    "adam all": ("Adam", {"lr": 0.01, "weight_decay": 0.03, "amsgrad": True, "eps": 1e-3}),
    "adamw": ("AdamW", {"lr": 0.01}),
    "adamw decay": ("AdamW", {"lr": 0.01, "weight_decay": 0.1}),
    "adamw all": ("AdamW", {"lr": 0.01, "weight_decay": 0.1, "amsgrad": True}),
    "adamw no decay": ("AdamW", {"lr": 0.01, "weight_decay": 0.0}),
}

SHAPES = {"weight_ih_l0": (12, 5), "bias": (12,), "scalar": (), "empty": (0, 3), "long": (1031,)}


def arrays(dtype: str, seed: int, low: float = -1.0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {k: np.asarray(rng.uniform(low, 1, shape), dtype) for k, shape in SHAPES.items()}


class Gradients:
    """Anything with .params."""

    def __init__(self, **params: np.ndarray) -> None:
        self.params = params


def made(kind: str, params: object, options: dict[str, Any]) -> optim.Optimizer:
    opt: optim.Optimizer = getattr(optim, kind)(params, **options)
    return opt


def run(
    kind: str,
    options: dict[str, Any],
    params: dict[str, np.ndarray],
    grads: Iterable[dict[str, np.ndarray]],
) -> dict[str, np.ndarray]:
    """Runs our optimiser, with lr halved after STEPS // 2 steps; returns params."""
    opt = made(kind, params, options)
    for i, given in enumerate(grads):
        if i == STEPS // 2:
            opt.lr *= 0.5
        opt.step(given)
    return params


def power(base: float, exponent: int) -> float:
    result = 1.0
    while exponent:
        if exponent & 1:
            result *= base
        base *= base
        exponent >>= 1
    return result


class Reference:
    """Equations of src_c/extra/optim.h on arrays of NumPy, all in the arrays' own dtype."""

    def __init__(self, kind: str, params: dict[str, np.ndarray], options: dict[str, Any]) -> None:
        self.kind, self.params, self.options, self.steps = kind, params, options, 0
        self.state = {name: [np.zeros_like(p) for _ in range(3)] for name, p in params.items()}

    def step(self, grads: dict[str, np.ndarray]) -> None:
        self.steps += 1
        for name, p in self.params.items():
            update = self._sgd if self.kind == "SGD" else self._adam
            update(p, grads[name], self.state[name])

    def _sgd(self, p: np.ndarray, g: np.ndarray, state: list[np.ndarray]) -> None:
        real, option = p.dtype.type, self.options.get
        lr, momentum = real(option("lr")), real(option("momentum", 0.0))
        d = g + real(option("weight_decay")) * p if option("weight_decay") else g
        if momentum == 0:
            p[...] = p - lr * d
            return
        b = d if self.steps == 1 else momentum * state[0] + real(1 - option("dampening", 0.0)) * d
        state[0] = np.array(b)
        p[...] = p - lr * (d + momentum * b if option("nesterov") else b)

    def _adam(self, p: np.ndarray, g: np.ndarray, state: list[np.ndarray]) -> None:
        real, option = p.dtype.type, self.options.get
        lr, (beta1, beta2) = option("lr", 1e-3), option("betas", (0.9, 0.999))
        decay = option("weight_decay", 1e-2 if self.kind == "AdamW" else 0.0)
        if self.kind == "AdamW":
            d, kept = g, p * real(1 - lr * decay)
        else:
            d, kept = (g + real(decay) * p if decay else g), p
        m = real(beta1) * state[0] + real(1 - beta1) * d
        v = real(beta2) * state[1] + (real(1 - beta2) * d) * d
        largest = np.maximum(state[2], v) if option("amsgrad") else v
        state[:] = [m, v, largest]
        size = real(lr / (1 - power(beta1, self.steps)))
        root = real(1 / math.sqrt(1 - power(beta2, self.steps)))
        p[...] = kept - (size * m) / (np.sqrt(largest) * root + real(option("eps", 1e-8)))


# ---- how far float32 may be from exact arithmetic ----


def sgd_bound(
    lr: float,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
) -> float:
    """How far p may be from exact arithmetic after STEPS steps in float32, u = 2^-24.

    |p| <= P, |d| <= D = 1 + weight_decay P, |b| <= B D, B = 1 + |1 - dampening| F and F the sum of
    momentum^k; |move| <= lr D B (1 + momentum). Of rounding alone (constants count as well):

    - d is off by at most 3 u D (constant, product, sum)
    - b takes in 5 u B D a step, fading by momentum, and what d brings: u D (5 B F + 3 B)
    - the move with Nesterov at most (1 + momentum) u D (5 B F + 3 B + 3), without it less
    - lr and its product add 2 u of the move, p's subtraction u P: together 3 u P

    An error of p comes back through the decay: times 1 + lr weight_decay B (1 + momentum) a step.
    """
    fading = sum(momentum**k for k in range(STEPS))
    most_b = 1 + abs(1 - dampening) * fading
    reach = lr * most_b * (1 + momentum)
    moved = STEPS * reach
    assert moved * weight_decay < 0.5
    most_p = (1 + moved) / (1 - moved * weight_decay)  # as P = 1 + moved D
    most_d = 1 + weight_decay * most_p
    move = lr * (1 + momentum) * U32 * most_d * (5 * most_b * fading + 3 * most_b + 3)
    growth = math.exp(moved * weight_decay)
    return growth * STEPS * (move + 3 * U32 * most_p)


def adam_bound(
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    amsgrad: bool = False,
    decoupled: bool = False,
) -> float:
    """The same for Adam. R <= |d| <= D, |p| <= P; so |move| <= lr D / R.

    - m / (1 - beta1^t) is off by at most u D (3 / (1 - beta1) + 5): of its old value 3 u a step
      (constant, product, sum), of the new part 5 u (constant, product, 3 of d)
    - v, a sum of positive terms, by (3 STEPS + 8) u of itself: 3 u a step, and 8 u of a new term,
      whose d is off by 2 u of itself; the root halves that; the largest v so far is no worse
    - the rest of the move takes 8 roundings, p's own line 3 of P

    An error e of p comes back through L2 decay: m by weight_decay e, the root (a norm of all d) by
    weight_decay e. Together times 1 + lr weight_decay / R (1 + D / R) a step. Decoupled decay
    only shrinks it.
    """
    least_d, most_d = 0.35, 1.15
    most_p = 1 + STEPS * lr * most_d / least_d
    back = 0.0 if decoupled else weight_decay
    assert 0.5 - back * most_p >= least_d
    assert 1 + back * most_p <= most_d
    move = lr * most_d / least_d * U32 * (3 / (1 - betas[0]) + 5 + 1.5 * STEPS + 4 + 8)
    growth = math.exp(STEPS * lr * back / least_d * (1 + most_d / least_d))
    return growth * STEPS * (move + 3 * U32 * most_p)


def bound(kind: str, options: dict[str, Any]) -> float:
    if kind == "SGD":
        return sgd_bound(**options)
    return adam_bound(**options, decoupled=kind == "AdamW")


def doubled(given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {k: np.asarray(v, np.float64) for k, v in given.items()}


def torch_run(
    kind: str,
    options: dict[str, Any],
    start: dict[str, np.ndarray],
    grads: Iterator[dict[str, np.ndarray]],
) -> dict[str, np.ndarray]:
    torch = pytest.importorskip("torch")
    params = {name: torch.nn.Parameter(torch.from_numpy(v)) for name, v in start.items()}
    opt = getattr(torch.optim, kind)(params.values(), **options)
    for i, given in enumerate(grads):
        if i == STEPS // 2:
            for group in opt.param_groups:
                group["lr"] *= 0.5
        for name, value in given.items():
            params[name].grad = torch.from_numpy(value)
        opt.step()
    return {name: p.detach().numpy() for name, p in params.items()}
