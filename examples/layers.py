# SPDX-License-Identifier: BSD-3-Clause
"""What a training loop in NumPy needs beside the LSTM: a linear layer, a loss, a schedule.

Names and numbers are PyTorch's: `Linear` is torch.nn.Linear, `cross_entropy` is
torch.nn.functional.cross_entropy.
"""

import importlib.util
import math
import sys

import numpy as np
from numpy.typing import NDArray

import fastlstm

Floats = NDArray[np.floating]
Ints = NDArray[np.int64]


class Linear:
    """y = x W^T + b over the last axis; W is (O, K), b is (O,)."""

    def __init__(self, inputs: int, outputs: int, seed: int) -> None:
        rng, bound = np.random.default_rng(seed), 1 / math.sqrt(inputs)
        self.weight = rng.uniform(-bound, bound, (outputs, inputs)).astype(np.float32)
        self.bias = rng.uniform(-bound, bound, outputs).astype(np.float32)

    def parameters(self) -> dict[str, Floats]:
        """Live arrays: an optimiser changes them in place."""
        return {"weight": self.weight, "bias": self.bias}

    def __call__(self, x: Floats) -> Floats:
        """(..., K) -> (..., O)."""
        return x @ self.weight.T + self.bias

    def backward(self, x: Floats, dy: Floats) -> tuple[Floats, dict[str, Floats]]:
        """dx (..., K), and the gradients of the parameters, of the loss whose gradient is dy."""
        rows_x, rows_dy = x.reshape(-1, x.shape[-1]), dy.reshape(-1, dy.shape[-1])
        return dy @ self.weight, {"weight": rows_dy.T @ rows_x, "bias": rows_dy.sum(axis=0)}


def cross_entropy(logits: Floats, labels: Ints) -> tuple[float, Floats]:
    """(..., C) and (...,) -> the mean of -log softmax(logits)[label], and its gradient (..., C)."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    exponentials = np.exp(shifted)
    sums = exponentials.sum(axis=-1, keepdims=True)
    at = labels[..., None]
    loss = np.mean(np.log(sums) - np.take_along_axis(shifted, at, axis=-1), dtype=np.float64)
    softmax = exponentials / sums
    np.put_along_axis(softmax, at, np.take_along_axis(softmax, at, axis=-1) - 1, axis=-1)
    return float(loss), softmax / np.float32(labels.size)


def one_cycle(updates: int, peak: float, warm_up: float = 0.1) -> list[float]:
    """Learning rate of every update: a straight line up to `peak`, half a cosine down to zero."""
    rising = max(1, round(warm_up * updates))
    falling = max(1, updates - rising)
    return [
        peak * min((k + 1) / rising, (1 + math.cos(math.pi * max(0, k - rising) / falling)) / 2)
        for k in range(updates)
    ]


def joined(lstm: dict[str, Floats], linear: dict[str, Floats]) -> dict[str, Floats]:
    """Parameters or gradients of two layers in one mapping, named as in torch's state dict."""
    named = {f"lstm.{name}": array for name, array in lstm.items()}
    return named | {f"linear.{name}": array for name, array in linear.items()}


def chosen_engines(name: str) -> tuple[str, ...]:
    """Engines of an --engine option; ends the program where PyTorch is missing for it."""
    if name != "fastlstm" and importlib.util.find_spec("torch") is None:
        sys.exit(f"--engine {name} needs PyTorch: pip install torch")
    return ("torch", "fastlstm") if name == "both" else (name,)


def use_threads(count: int) -> None:
    """The same number for fastlstm, for NumPy's matrix products and for PyTorch if installed."""
    fastlstm.set_num_threads(count)
    try:
        import threadpoolctl
    except ImportError:  # then OPENBLAS_NUM_THREADS decides for NumPy
        pass
    else:
        threadpoolctl.threadpool_limits(count, user_api="blas")
    try:
        import torch
    except ImportError:
        pass
    else:
        torch.set_num_threads(count)
