# SPDX-License-Identifier: BSD-3-Clause
"""Calls under ``torch.autocast("cpu")``: computed in float32, results in the dtypes that PyTorch
gives there.

PyTorch's own LSTM fails under autocast where its library has no kernel of that dtype: bfloat16 on
CPUs without AVX-512, float16 on most. There the core computes in float32 and rounds once, at the
end. Where PyTorch has kernels of that dtype it keeps the call: with instructions for bfloat16 it is
up to 1.8 times as fast (Zen 5, B32 H512). It has kernels for the LSTM only; other cells it makes of
products, step by step, so those run in the core: a GRU as fast to 8 times as fast as there in
bfloat16, an RNN 0.7 (B64 H512) to 10 times (B1 H256). An LSTM with a projection runs in PyTorch all
the same: what dtypes it gives there has not been looked into.

What PyTorch gives on a CPU that has the kernels: the autocast dtype from an LSTM; from one of a
ragged PackedSequence and from an LSTMCell, which it computes step by step, the dtype that this one
and c_0's promote to; where there is no c_0, x's dtype takes its place. From an RNN and an RNNCell
always the autocast dtype; from a GRU and a GRUCell always the promoted one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.utils.rnn import PackedSequence

from .variants import is_general

Tensor = Any  # torch is an optional dependency, which mypy sees as Any

_LOW = (torch.bfloat16, torch.float16)


def _supported(name: str) -> bool:
    """What PyTorch's library says of this CPU; False in builds without the library."""
    ask = getattr(torch.ops.mkldnn, f"_is_mkldnn_{name}_supported", None)
    return ask is not None and bool(ask())


_BFLOAT16, _FLOAT16 = _supported("bf16"), _supported("fp16")  # here, where no compiler traces


def takes(module: Any, x: Any, hx: Any, weights: list[Tensor]) -> bool:
    """Whether the core does this call: float32 weights, x and states in float32 or the dtype of
    autocast, all on the CPU, and PyTorch has no kernels of that cell and dtype here.
    """
    low = torch.get_autocast_dtype("cpu")
    has_c = module._fastlstm_has_c
    of_torch = has_c and not is_general(module)
    if of_torch and (_has_kernels(low) or module.__dict__.get("proj_size")):
        return False
    states = () if hx is None else hx if has_c else (hx,)
    if low not in _LOW or not isinstance(states, (tuple, list)):
        return False
    if len(states) not in (0, 1 + has_c):
        return False
    if any(weight.dtype is not torch.float32 or not weight.is_cpu for weight in weights):
        return False
    return all(
        isinstance(tensor, torch.Tensor) and tensor.is_cpu and tensor.dtype in (torch.float32, low)
        for tensor in (x, *states)
    )


def _has_kernels(low: Any) -> bool:
    """Whether PyTorch's library computes an LSTM in this dtype here."""
    return _BFLOAT16 if low is torch.bfloat16 else _FLOAT16 and not torch.is_grad_enabled()


def run(forward: Any, module: Any, x: Any, hx: Any) -> Any:
    """``forward(module, x, hx)`` of arguments that `takes` accepts; x may be a PackedSequence."""
    low = torch.get_autocast_dtype("cpu")
    if _promotes(module, x):
        of_state = x.data if hx is None else hx[1]
        low = torch.promote_types(low, of_state.dtype)
    with torch.autocast("cpu", enabled=False):
        return _to(forward(module, _to(x, torch.float32), _to(hx, torch.float32)), low)


def _promotes(module: Any, x: Any) -> bool:
    """Whether the dtype of the state has a say in that of the results."""
    if not module._fastlstm_has_c:
        return bool(module._fastlstm_cell == "gru")
    if not isinstance(x, PackedSequence):
        return isinstance(module, torch.nn.LSTMCell)
    return int(x.batch_sizes[0]) * len(x.batch_sizes) != len(x.data)


def _to(value: Any, dtype: Any) -> Any:
    """A tensor, a PackedSequence, a state or a tuple of them in another dtype."""
    if isinstance(value, PackedSequence):
        return PackedSequence(value.data.to(dtype), *value[1:])
    if isinstance(value, (tuple, list)):
        return tuple(_to(one, dtype) for one in value)
    return None if value is None else value.to(dtype)
