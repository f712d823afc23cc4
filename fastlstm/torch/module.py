# SPDX-License-Identifier: BSD-3-Clause
"""torch.nn.LSTM and torch.nn.LSTMCell whose arithmetic runs in the core."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.utils.rnn import PackedSequence

from . import autocast, fallback, guards, ops
from .copies import FROZEN, Copies, as_torch

Tensor = Any  # torch is an optional dependency, which mypy sees as Any


class LSTM(Copies, torch.nn.LSTM):  # type: ignore[misc]
    """A ``torch.nn.LSTM``, parameters, state dict and arguments included, that runs in the core.

    Taken over: float32 and float64 on the CPU, every combination of layers, directions, bias,
    batch_first and dropout, PackedSequence, unbatched input, first derivatives, ``torch.compile``
    and ``torch.export``. What the core lacks (projections, other devices and dtypes, TorchScript,
    torch.func, forward-mode derivatives) runs in PyTorch's own forward, with one warning that says
    why. So does a call under ``torch.autocast`` on a CPU for which PyTorch has kernels of that
    dtype; on others the core computes it in float32. `torch.jit.script` puts torch's own modules
    into the scripted model and into the one it is given. `torch.fx` keeps the module as it keeps
    torch's own. A second derivative raises NotImplementedError.

    The seed of dropout comes from torch's default CPU generator: `torch.manual_seed` reproduces a
    run, though not the masks that PyTorch's own forward would draw. Threads are those of
    `fastlstm.set_num_threads`, not torch's. ``copy`` copies it as it is, pickle and ``torch.save``
    write a ``torch.nn.LSTM``.

    Parameters
    ----------
    *args, **kwargs
        As of ``torch.nn.LSTM``.

    Raises
    ------
    RuntimeError, ValueError
        What PyTorch raises for wrong arguments, and beyond it for some that PyTorch's own forward
        would read past: weights of a wrong size, storages that were made shorter than their
        tensors, states of a wrong size beside a PackedSequence.
    """

    _torch_class = torch.nn.LSTM

    def forward(self, input: Any, hx: Any = None) -> Any:
        """As ``torch.nn.LSTM.forward``, shapes, PackedSequence and errors included.

        Parameters
        ----------
        input : torch.Tensor or PackedSequence
            (T, B, I), (B, T, I) with batch_first, or (T, I) for one sequence.
        hx : (h_0, c_0), each a torch.Tensor of shape (D*L, B, H), optional
            Zeros if None.

        Returns
        -------
        output : torch.Tensor or PackedSequence
            h_t of the last layer.
        state : (h_n, c_n)
            Shaped as `hx`.
        """
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
        state = None if unfit else _fitting(self, input, _pair(hx), rank in (2, 3), states)
        if state is None:
            if isinstance(input, torch.fx.Proxy):
                return _as_node(self, input, hx)
            if unfit == "autocast" and autocast.takes(input, hx, weights):
                return autocast.run(LSTM.forward, self, input, hx)
            fallback.warn(self, unfit)
            return super().forward(guards.lstm(self, input, hx), hx)
        y, h_n, c_n = ops.lstm(
            input,
            state,
            weights,
            layout,
            self.bidirectional,
            dropout=_dropout(self),
            frozen=is_frozen(self),
        )
        return y, (h_n, c_n)

    def _forward_packed(self, packed: Any, hx: Any) -> Any:
        data, batch_sizes, order, back = packed
        weights = _parameters(self, self._flat_weights_names)
        unfit = fallback.obstacle(self, data, weights)
        sound = batch_sizes.dtype is torch.int64 and batch_sizes.dim() == 1 and batch_sizes.is_cpu
        state: Any = None
        if sound and not unfit and len(batch_sizes):
            pair = _pair(hx)
            if pair is not None and pair[0] is not None and pair[0].dim() == 3:
                batch = pair[0].shape[1]
            else:
                batch = int(batch_sizes[0]) if back is None else back.shape[0]
            # Compilers cannot know the first size; the operator looks again when it runs.
            known = torch.compiler.is_compiling() or batch == int(batch_sizes[0])
            states = (_layers(self), batch, self.hidden_size)
            state = _fitting(self, data, pair, known and data.dim() == 2, states)
            if state is not None and state[0] is not None and order is not None:
                state = self.permute_hidden(state, order)
                if any(one.shape != states for one in state):
                    state = None  # an order of another length, which PyTorch refuses
        if state is None:
            if unfit == "autocast" and autocast.takes(data, hx, weights):
                return autocast.run(LSTM.forward, self, packed, hx)
            fallback.warn(self, unfit)
            return super().forward(guards.lstm(self, packed, hx), hx)
        y, h_n, c_n = ops.lstm(
            data,
            state,
            weights,
            "packed",
            self.bidirectional,
            batch_sizes=batch_sizes,
            dropout=_dropout(self),
            batch=batch,
            frozen=is_frozen(self),
        )
        return PackedSequence(y, batch_sizes, order, back), self.permute_hidden((h_n, c_n), back)

    def __prepare_scriptable__(self) -> Any:
        fallback.warn(self, "TorchScript")
        return as_torch(self)


class LSTMCell(Copies, torch.nn.LSTMCell):  # type: ignore[misc]
    """A ``torch.nn.LSTMCell`` that runs in the core; falls back as `LSTM` does.

    A row has the same bits alone and in a batch, with and without gradients. For that, one row
    without gradients takes 1.1 to 1.4 times as long as in PyTorch (16 to 1024 units, Zen 5): each
    step looks whether the weights are still those that were packed.

    Parameters
    ----------
    input_size, hidden_size, bias, device, dtype
        As of ``torch.nn.LSTMCell``.
    """

    _torch_class = torch.nn.LSTMCell

    def forward(self, input: Any, hx: Any = None) -> Any:
        """As ``torch.nn.LSTMCell.forward``, shapes and errors included.

        Parameters
        ----------
        input : torch.Tensor
            (B, I), or (I,) for one sequence.
        hx : (h_0, c_0), each a torch.Tensor of shape (B, H) or (H,), optional
            Zeros if None.

        Returns
        -------
        h, c : torch.Tensor
            The new state.
        """
        weights = _parameters(self, _CELL_NAMES)
        unfit = fallback.obstacle(self, input, weights)
        states = () if unfit else (*input.shape[:-1], self.hidden_size)
        state = None if unfit else _fitting(self, input, _pair(hx), input.dim() in (1, 2), states)
        if state is None:
            if isinstance(input, torch.fx.Proxy):
                return _as_node(self, input, hx)
            if unfit == "autocast" and autocast.takes(input, hx, weights):
                return autocast.run(LSTMCell.forward, self, input, hx)
            fallback.warn(self, unfit)
            guards.cell(self, input, hx)
            return super().forward(input, hx)
        if input.dim() == 1:
            if state[0] is not None:
                state = state[0].unsqueeze(0), state[1].unsqueeze(0)
            h, _, c = ops.lstm(
                input.unsqueeze(0), state, weights, "cell", False, frozen=is_frozen(self)
            )
            return h.squeeze(0), c.squeeze(0)
        h, _, c = ops.lstm(input, state, weights, "cell", False, frozen=is_frozen(self))
        return h, c

    def __prepare_scriptable__(self) -> Any:
        fallback.warn(self, "TorchScript")
        return as_torch(self)


def _as_node(module: Any, proxy: Any, hx: Any) -> Any:
    """The module in a graph of torch.fx, which would look into every class that is not torch's."""
    tracer = proxy.tracer
    return tracer.create_proxy("call_module", tracer.path_of_module(module), (proxy, hx), {})


_CELL_NAMES = ["weight_ih", "weight_hh", "bias_ih", "bias_hh"]


def _parameters(module: Any, names: list[str]) -> list[Tensor]:
    """The weights as they are now, whatever a parametrization or functional_call makes of them:
    four for each layer and direction, or two where no bias is; none if one is None.
    """
    if not torch.compiler.is_compiling():
        parameters = module._parameters
        try:
            found = [parameters[name] for name in names]
        except KeyError:
            pass
        else:
            if None not in map(type_or_none, found):
                return found
    found = [getattr(module, name) for name in names]
    if names is _CELL_NAMES and found[2] is None and found[3] is None:
        found = found[:2]
    return [] if any(weight is None for weight in found) else found


def type_or_none(tensor: Tensor | None) -> Any:
    return None if tensor is None else type(tensor)


def _layers(module: Any) -> int:
    layers: int = module.num_layers * (2 if module.bidirectional else 1)
    return layers


def is_frozen(module: Any) -> bool:
    """Whether `accelerate` froze the weights; they are not while the module is in training mode."""
    return FROZEN in module.__dict__ and not module.training


def _dropout(module: Any) -> float:
    return module.dropout if module.training and module.num_layers > 1 else 0.0


def _fitting(module: Any, x: Tensor, state: Any, rank_fits: bool, states: tuple[int, ...]) -> Any:
    """The `state` of `_pair` if PyTorch would accept the call and finds work in it.

    All else, None here, goes to PyTorch, which has the right error message, or empty result.
    """
    if not rank_fits or x.shape[-1] != module.input_size or 0 in x.shape:
        return None
    if not 0 <= module.__dict__.get("dropout", 0) <= 1:
        return None
    if state is None or state[0] is None:
        return state
    dtype, strided = x.dtype, torch.strided
    for one in state:
        if one.dtype is not dtype or not one.is_cpu or one.layout is not strided:
            return None
        if one.shape != states:
            return None
    return state


def _pair(hx: Any) -> tuple[Any, Any] | None:
    """The two tensors of hx, read once; (None, None) for None; None if it is anything else."""
    if hx is None:
        return None, None
    state = tuple(hx) if isinstance(hx, (tuple, list)) else ()
    if len(state) != 2:
        return None
    is_pair = isinstance(state[0], torch.Tensor) and isinstance(state[1], torch.Tensor)
    return state if is_pair else None
