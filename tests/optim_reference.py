# SPDX-License-Identifier: BSD-3-Clause
"""The optimisers' equations in plain NumPy, one rounding per operation, and options to run."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

import fastlstm.optim as optim

STEPS = 60
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
    """Equations of src_c/optim.h on arrays of NumPy, all in the arrays' own dtype."""

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
