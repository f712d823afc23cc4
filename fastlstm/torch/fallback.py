# SPDX-License-Identifier: BSD-3-Clause
"""What the core does not do, and the one warning about it."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch.autograd import forward_ad

Tensor = Any  # torch is an optional dependency, which mypy sees as Any

_DTYPES = (torch.float32, torch.float64)
_warned: set[tuple[str, str]] = set()


def unsupported(module: Any, weights: list[Tensor]) -> str:
    """Why a module cannot run in the core wherever it is called; "" if it can."""
    for weight in weights:
        if weight.is_cpu and weight.dtype in _DTYPES and weight.layout is torch.strided:
            continue
        if not weight.is_cpu:
            return f"device {weight.device.type}"
        if weight.dtype not in _DTYPES:
            return f"dtype {str(weight.dtype).removeprefix('torch.')}"
        return f"layout {str(weight.layout).removeprefix('torch.')}"
    return ""


def _lacks_a_bias(module: Any) -> bool:
    """Of a cell, which PyTorch takes all the same."""
    is_cell = isinstance(module, torch.nn.RNNCellBase)
    return is_cell and None not in (module.weight_ih, module.weight_hh)


def _alike(module: Any, x: Tensor, weights: list[Tensor]) -> bool:
    """Whether x and all weights are strided CPU tensors of one dtype that the core has."""
    if x.dtype not in _DTYPES:
        return False
    dtype, strided = x.dtype, torch.strided
    for tensor in (x, *weights):
        if tensor.dtype is not dtype or not tensor.is_cpu or tensor.layout is not strided:
            return False
    return True


def obstacle(module: Any, x: Tensor, weights: list[Tensor]) -> str:
    """Why this call cannot run in the core; "" if it can, "-" if PyTorch refuses it as well."""
    if not weights:
        return "one bias without the other" if _lacks_a_bias(module) else "-"
    if not (isinstance(x, torch.Tensor) and _alike(module, x, weights)):
        unfit = unsupported(module, weights)
        return unfit or ("autocast" if torch.is_autocast_enabled("cpu") else "-")
    if torch.is_autocast_enabled("cpu"):
        return "autocast"
    if torch.compiler.is_compiling():
        return "ONNX export" if torch.onnx.is_in_onnx_export() else ""
    if torch._C._get_tracing_state() is not None:
        return "TorchScript"
    if torch._C._are_functorch_transforms_active():
        return "torch.func"
    if forward_ad._current_level >= 0:
        return "forward-mode differentiation"
    return ""


def warn(module: Any, reason: str) -> None:
    """Tell once for each reason that PyTorch does the work."""
    if reason in ("", "-") or torch.compiler.is_compiling():
        return
    key = type(module).__name__, reason
    if key not in _warned:
        _warned.add(key)
        name = module._fastlstm_kind
        warnings.warn(
            f"fastlstm.torch.{name} runs as torch.nn.{name} where it meets {reason}: the core "
            "does not support it",
            stacklevel=3,
        )
