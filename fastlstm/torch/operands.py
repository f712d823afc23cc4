# SPDX-License-Identifier: BSD-3-Clause
"""What the operators of `ops` are given: checks, and refusals of what would go wrong in silence."""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd import forward_ad
from torch.utils._pytree import tree_leaves

from ..spec import Spec
from . import kernels
from .engines import dtype_of, spec_of

Tensor = Any  # torch is an optional dependency, which mypy sees as Any

RESTORE = "run the model through fastlstm.torch.restore first (not one with options: it is refused)"

# Types whose methods are PyTorch's own; any other may answer what it likes.
PLAIN = frozenset((torch.Tensor, torch.nn.Parameter, torch.nn.Buffer, type(None)))


def refuse_tangents(*tensors: Tensor | None) -> None:
    """Below here they would be lost without a word."""
    if forward_ad._current_level < 0:
        return
    if any(t is not None and forward_ad.unpack_dual(t).tangent is not None for t in tensors):
        raise NotImplementedError(
            f"fastlstm's operators have no forward-mode derivatives: {RESTORE}"
        )


def refuse_batches(*grads: Tensor | None) -> None:
    """Of gradients, as the older of PyTorch's two ways of mapping makes them."""
    if any(g is not None and torch._C._functorch.is_legacy_batchedtensor(g) for g in grads):
        raise NotImplementedError(
            "fastlstm.torch takes one gradient at a time: use vectorize=False in place of "
            "vectorize=True, torch.func.vmap over torch.autograd.grad in place of "
            f"is_grads_batched=True, or {RESTORE}"
        )


def checked(
    x: Tensor,
    h_0: Tensor | None,
    c_0: Tensor | None,
    weights: list[Tensor],
    batch_sizes: Tensor | None,
    seed: Tensor | None,
    cell: str,
    layout: str,
    bidirectional: bool,
    dropout: float,
    batch: int,
) -> tuple[Spec, int, int]:
    """The sizes, or ValueError: whoever calls the operators by hand must not crash the process."""
    rank = kernels.RANKS.get(layout)
    if rank is None:
        raise ValueError(f"layout must be one of {', '.join(kernels.RANKS)}, got {layout!r}")
    if (layout == "packed") != (batch_sizes is not None):
        raise ValueError("batch_sizes goes with layout='packed' and with no other")
    spec = spec_of(weights, cell, bidirectional)
    dtype = dtype_of(spec)
    if weights[0].dtype not in (torch.float32, torch.float64):
        raise ValueError(f"weights must be float32 or float64, got {weights[0].dtype}")
    if layout == "cell" and (spec.num_layers != 1 or bidirectional):
        raise ValueError("layout='cell' takes the weights of one layer and direction")
    if x.dim() != rank or x.shape[-1] != spec.input_size or x.dtype != dtype:
        raise ValueError(
            f"x must be a {dtype} tensor of {rank} axes, the last of {spec.input_size}; got "
            f"{x.dtype}, {tuple(x.shape)}"
        )
    if batch_sizes is not None and (batch_sizes.dtype != torch.int64 or batch_sizes.dim() != 1):
        raise ValueError("batch_sizes must be an int64 tensor of one axis")
    steps, batch = kernels.extent(layout, x.shape, batch_sizes, batch)
    shapes = kernels.state_shapes(layout, batch, spec)
    for name, state, shape in zip(("h_0", "c_0"), (h_0, c_0), shapes, strict=True):
        if state is not None and (tuple(state.shape) != shape or state.dtype != dtype):
            raise ValueError(
                f"{name} must be a {dtype} tensor of shape {shape}, got {state.dtype}, "
                f"{tuple(state.shape)}"
            )
    if not 0 <= dropout <= 1:
        raise ValueError(f"dropout must lie in 0..1, got {dropout}")
    if seed is not None and (seed.dtype != torch.int64 or seed.dim() != 0):
        raise ValueError("seed must be an int64 tensor without axes")
    return spec, steps, batch


def bare(tensor: Tensor | None) -> Tensor | None:
    """The tensor without its subclass, which may answer anything when asked for its shape."""
    if type(tensor) in PLAIN:
        return tensor
    with torch._C.DisableTorchFunctionSubclass():
        return torch.Tensor.as_subclass(tensor, torch.Tensor)


def refuse_meta(x: Tensor, others: Any) -> None:
    """One tensor without values among others brings a call here, where nothing is computed."""
    if x.device.type != "meta" and any(
        isinstance(t, torch.Tensor) and t.device.type == "meta" for t in tree_leaves(others)
    ):
        raise ValueError(f"all tensors must hold values as x does, on {x.device}; got one on meta")
