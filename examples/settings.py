# SPDX-License-Identifier: BSD-3-Clause
"""What the training scripts share: engines, threads, learning rates."""

import importlib.util
import sys

import numpy as np
from numpy.typing import NDArray

import fastlstm
from fastlstm import nn

Floats = NDArray[np.floating]
Ints = NDArray[np.int64]


def one_cycle(updates: int, peak: float, warm_up: float = 0.1) -> list[float]:
    """Learning rate of every update: a straight line up to `peak`, half a cosine down to zero."""
    rising = max(1, round(warm_up * updates))
    schedule = nn.WarmUp(nn.Cosine(peak, max(1, updates - rising)), rising)
    return [schedule(k) for k in range(updates)]


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
