# SPDX-License-Identifier: BSD-3-Clause
"""What PyTorch's own modules do not check before they read memory.

A call that the core does not take runs in PyTorch's own forward. That one lets resized storages
pass, and that of an LSTM states of a wrong size beside a PackedSequence and weights of a wrong
size, and then reads or writes where nothing is. The texts here are those that PyTorch has for the
like.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.utils.rnn import PackedSequence

from ..spec import CELLS
from .engines import check_memory

Tensor = Any  # torch is an optional dependency, which mypy sees as Any


def layer(module: Any, x: Any, hx: Any) -> Any:
    """x, as PyTorch's forward may have it. RuntimeError for what it would not survive."""
    if torch.compiler.is_compiling():
        return x
    packed = isinstance(x, PackedSequence)
    data = x.data if packed else x
    if not isinstance(data, torch.Tensor):
        return x
    module._update_flat_weights()
    weights = dict(zip(module._flat_weights_names, module._flat_weights, strict=True))
    shapes = _shapes(module) if module._fastlstm_has_c else []
    for (name, weight), shape in zip(weights.items(), shapes, strict=False):
        if isinstance(weight, torch.Tensor) and weight.shape != shape:
            raise RuntimeError(f"Expected {name} size {shape}, got {list(weight.shape)}")
    states = _tensors(module, hx)
    if packed:
        x = _packed(module, x, hx)
    _memory(data, *states, *weights.values())
    return x


def step(module: Any, x: Any, hx: Any) -> None:
    """RuntimeError for arguments that the forward of PyTorch's cell would not survive."""
    if torch.compiler.is_compiling() or not isinstance(x, torch.Tensor):
        return
    states = _tensors(module, hx)
    ranks = [state.dim() for state in states]
    if x.dim() in (1, 2) and len(ranks) == 2 and ranks != [x.dim()] * 2 and set(ranks) <= {1, 2}:
        kind = "unbatched 1-D" if x.dim() == 1 else "batched 2-D"
        raise RuntimeError(
            f"For {kind} input, hx and cx should also be {x.dim()}-D but got "
            f"({ranks[0]}-D, {ranks[1]}-D) tensors"
        )
    _memory(x, *states, *module.parameters())


def _packed(module: Any, packed: Any, hx: Any) -> Any:
    data, batch_sizes, order, back = packed
    if data.dim() != 2:
        raise RuntimeError(f"input must have 2 dimensions, got {data.dim()}")
    if batch_sizes.dim() != 1 or len(batch_sizes) == 0:
        raise RuntimeError(
            "batch_sizes must have 1 dimension and an element for every step, got "
            f"{list(batch_sizes.shape)}"
        )
    _memory(batch_sizes)
    if module._fastlstm_has_c and len(_tensors(module, hx)) == 2:
        names = ("hidden[0]", "hidden[1]")
        sizes = (module.get_expected_hidden_size, module.get_expected_cell_size)
        states = module.permute_hidden((hx[0], hx[1]), order)
        for name, state, size in zip(names, states, sizes, strict=True):
            module.check_hidden_size(
                state, size(data, batch_sizes), f"Expected {name} size {{}}, got {{}}"
            )
    # PyTorch reads them one after another, whatever the strides are.
    sizes = batch_sizes.contiguous()
    return packed if sizes is batch_sizes else PackedSequence(data, sizes, order, back)


def _tensors(module: Any, hx: Any) -> list[Tensor]:
    """The states, if they are tensors; PyTorch has the error message for all else."""
    if not module._fastlstm_has_c:
        return [hx] if isinstance(hx, torch.Tensor) else []
    found = list(hx) if isinstance(hx, (tuple, list, torch.Tensor)) and len(hx) else []
    return found if all(isinstance(state, torch.Tensor) for state in found) else []


def _shapes(module: Any) -> list[tuple[int, ...]]:
    """Of all weights of an LSTM, in the order of `_flat_weights_names`."""
    rows = CELLS["lstm"].gates * module.hidden_size
    width = module.proj_size or module.hidden_size
    directions, found = 2 if module.bidirectional else 1, []
    for layer in range(module.num_layers):
        below = width * directions if layer else module.input_size
        one: list[tuple[int, ...]] = [(rows, below), (rows, width)]
        one += [(rows,), (rows,)] if module.bias else []
        one += [(module.proj_size, module.hidden_size)] if module.proj_size else []
        found += one * directions
    return found


def _memory(*tensors: Tensor) -> None:
    """RuntimeError for one of PyTorch's plain tensors on the CPU whose storage is too short."""
    if torch._C._are_functorch_transforms_active():
        return
    for tensor in tensors:
        known = type(tensor) in (torch.Tensor, torch.nn.Parameter) and tensor.is_cpu
        if not known or tensor.layout is not torch.strided or tensor._is_zerotensor():
            continue
        if tensor.numel():
            check_memory(tensor)
