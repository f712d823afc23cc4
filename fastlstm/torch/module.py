# SPDX-License-Identifier: BSD-3-Clause
"""torch.nn.LSTM and torch.nn.LSTMCell whose arithmetic runs in the core."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.utils.rnn import PackedSequence

from . import fallback, ops

Tensor = Any  # torch is an optional dependency, which mypy sees as Any


class LSTM(torch.nn.LSTM):  # type: ignore[misc]
    """A ``torch.nn.LSTM``, parameters, state dict and arguments included, that runs in the core.

    Taken over: float32 and float64 on the CPU, every combination of layers, directions, bias,
    batch_first and dropout, PackedSequence, unbatched input, first derivatives, ``torch.compile``
    and ``torch.export``. What the core lacks (projections, other devices and dtypes, autocast,
    TorchScript, torch.func, forward-mode derivatives) runs in PyTorch's own forward, with one
    warning that says why; `torch.jit.script` puts torch's own modules into the scripted model and
    into the one it is given. `torch.fx` keeps the module as it keeps torch's own. A second
    derivative raises NotImplementedError.

    The seed of dropout comes from torch's default CPU generator: `torch.manual_seed` reproduces a
    run, though not the masks that PyTorch's own forward would draw. Threads are those of
    `fastlstm.set_num_threads`, not torch's.
    """

    def forward(self, input: Any, hx: Any = None) -> Any:
        """As ``torch.nn.LSTM.forward``, shapes, PackedSequence and errors included."""
        if isinstance(input, PackedSequence):
            return self._forward_packed(input, hx)
        weights = _parameters(self, self._flat_weights_names)
        unfit = fallback.obstacle(self, input, weights)
        rank = 0 if unfit else input.dim()
        if rank == 3:
            layout = "bti" if self.batch_first else "tbi"
            batch = input.shape[0 if self.batch_first else 1]
            states: tuple[int, ...] = (_layers(self), batch, self.hidden_size)
        else:
            layout = "ti"
            states = _layers(self), self.hidden_size
        if unfit or not _fits(self, input, hx, rank in (2, 3), states):
            if isinstance(input, torch.fx.Proxy):
                return _as_node(self, input, hx)
            fallback.warn(self, unfit)
            return super().forward(input, hx)
        y, h_n, c_n = ops.lstm(
            input,
            (None, None) if hx is None else (hx[0], hx[1]),
            weights,
            layout,
            self.bidirectional,
            dropout=_dropout(self),
        )
        return y, (h_n, c_n)

    def _forward_packed(self, packed: Any, hx: Any) -> Any:
        data, batch_sizes, order, back = packed
        weights = _parameters(self, self._flat_weights_names)
        unfit = fallback.obstacle(self, data, weights)
        if hx is not None and isinstance(hx[0], torch.Tensor) and hx[0].dim() == 3:
            batch = hx[0].shape[1]
        else:
            batch = int(batch_sizes[0]) if back is None else back.shape[0]
        # Compilers cannot know the first size; the operator looks again when it runs.
        known = torch.compiler.is_compiling() or batch == int(batch_sizes[0])
        sound = batch_sizes.dtype is torch.int64 and batch_sizes.dim() == 1 and batch_sizes.is_cpu
        states = (_layers(self), batch, self.hidden_size)
        if unfit or not _fits(self, data, hx, known and sound and data.dim() == 2, states):
            fallback.warn(self, unfit)
            return super().forward(packed, hx)
        hx = (None, None) if hx is None else self.permute_hidden((hx[0], hx[1]), order)
        y, h_n, c_n = ops.lstm(
            data,
            hx,
            weights,
            "packed",
            self.bidirectional,
            batch_sizes=batch_sizes,
            dropout=_dropout(self),
            batch=batch,
        )
        return PackedSequence(y, batch_sizes, order, back), self.permute_hidden((h_n, c_n), back)

    def __prepare_scriptable__(self) -> Any:
        fallback.warn(self, "TorchScript")
        return as_torch(self)


class LSTMCell(torch.nn.LSTMCell):  # type: ignore[misc]
    """A ``torch.nn.LSTMCell`` that runs in the core; falls back as `LSTM` does.

    One sequence without gradients stays with PyTorch, unless a compiler is tracing: to see whether
    the weights are still those that were packed takes as long as the step itself.
    """

    def forward(self, input: Any, hx: Any = None) -> Any:
        """As ``torch.nn.LSTMCell.forward``, shapes and errors included."""
        # Measured with 16 to 1024 units: ours took 1.05 to 1.3 times as long as torch's for one
        # row, 0.35 to 0.96 times for two rows or more or with gradients.
        if _one_row(input, self.input_size) and not _learns(self, input, hx):
            return super().forward(input, hx)
        weights = _parameters(self, _CELL_NAMES if self.bias else _CELL_NAMES[:2])
        unfit = fallback.obstacle(self, input, weights)
        states = () if unfit else (*input.shape[:-1], self.hidden_size)
        if unfit or not _fits(self, input, hx, input.dim() in (1, 2), states):
            if isinstance(input, torch.fx.Proxy):
                return _as_node(self, input, hx)
            fallback.warn(self, unfit)
            return super().forward(input, hx)
        if input.dim() == 1:
            h, c = self.forward(
                input.unsqueeze(0), None if hx is None else (hx[0].unsqueeze(0), hx[1].unsqueeze(0))
            )
            return h.squeeze(0), c.squeeze(0)
        state = (None, None) if hx is None else (hx[0], hx[1])
        h, _, c = ops.lstm(input, state, weights, "cell", False)
        return h, c

    def __prepare_scriptable__(self) -> Any:
        fallback.warn(self, "TorchScript")
        return as_torch(self)


def _one_row(x: Any, features: int) -> bool:
    return type(x) is torch.Tensor and x.numel() == features and not torch.compiler.is_compiling()


def _learns(cell: Any, x: Tensor, hx: Any) -> bool:
    """Whether anything here asks for a gradient."""
    if not torch.is_grad_enabled():
        return False
    tensors = (*_parameters(cell, _CELL_NAMES if cell.bias else _CELL_NAMES[:2]), x, *(hx or ()))
    return any(isinstance(t, torch.Tensor) and t.requires_grad for t in tensors)


def _as_node(module: Any, proxy: Any, hx: Any) -> Any:
    """The module in a graph of torch.fx, which would look into every class that is not torch's."""
    tracer = proxy.tracer
    return tracer.create_proxy("call_module", tracer.path_of_module(module), (proxy, hx), {})


_CELL_NAMES = ["weight_ih", "weight_hh", "bias_ih", "bias_hh"]


def as_torch(module: Any) -> Any:
    """A plain torch module with the very parameters, buffers and hooks of one of ours."""
    twin = (torch.nn.LSTM if isinstance(module, LSTM) else torch.nn.LSTMCell).__new__(
        torch.nn.LSTM if isinstance(module, LSTM) else torch.nn.LSTMCell
    )
    twin.__dict__.update(module.__dict__)
    return twin


def _parameters(module: Any, names: list[str]) -> list[Tensor]:
    """The weights as they are now, whatever a parametrization or functional_call makes of them."""
    if not torch.compiler.is_compiling():
        parameters = module._parameters
        try:
            found = [parameters[name] for name in names]
        except KeyError:
            pass
        else:
            if None not in map(type_or_none, found):
                return found
    return [getattr(module, name) for name in names]


def type_or_none(tensor: Tensor | None) -> Any:
    return None if tensor is None else type(tensor)


def _layers(module: Any) -> int:
    layers: int = module.num_layers * (2 if module.bidirectional else 1)
    return layers


def _dropout(module: Any) -> float:
    return module.dropout if module.training and module.num_layers > 1 else 0.0


def _fits(module: Any, x: Tensor, hx: Any, rank_fits: bool, states: tuple[int, ...]) -> bool:
    """Whether the call is one that PyTorch would accept, with something in it to do.

    All else goes to PyTorch, which has the right error message, or empty result, for it.
    """
    if not rank_fits or x.shape[-1] != module.input_size or 0 in x.shape:
        return False
    if not 0 <= module.__dict__.get("dropout", 0) <= 1:
        return False
    if hx is None:
        return True
    dtype = x.dtype
    return len(hx) == 2 and all(
        isinstance(s, torch.Tensor) and s.shape == states and s.dtype is dtype and s.is_cpu
        for s in hx
    )
