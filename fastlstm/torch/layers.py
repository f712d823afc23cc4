# SPDX-License-Identifier: BSD-3-Clause
"""How modules of ours run, whatever their cell: a call is checked as PyTorch would and goes to the
operators, or to PyTorch's own forward."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch.nn.utils.rnn import PackedSequence

from ..options import LSTMOptions
from . import autocast, fallback, guards, ops, variants
from .copies import FROZEN, Copies, as_torch

Tensor = Any  # torch is an optional dependency, which mypy sees as Any


CELL_NAMES = ["weight_ih", "weight_hh", "bias_ih", "bias_hh"]


class Recurrent(Copies):
    """A base of all modules of ours. A class says in class variables which cell it is; their names
    are none that users' subclasses have.

    Inside, a state is a pair (h, c), whose c is None where the cell has no c.
    """

    _fastlstm_kind: ClassVar[str]
    """the name of PyTorch's class"""
    _fastlstm_cell: str
    """the row of `CELLS`; "" if an attribute names none, which PyTorch refuses as well"""
    _fastlstm_has_c: ClassVar[bool] = False
    """whether a state is a pair (h, c), not h alone"""
    _fastlstm_options: LSTMOptions | None = None
    """what a module that was made with some has of its own, as `_fastlstm_cell` then"""
    parameters: Any  # as every module has it

    def __prepare_scriptable__(self) -> Any:
        variants.refuse_torch(self, "TorchScript")
        fallback.warn(self, "TorchScript")
        return as_torch(self)


class Layer(Recurrent):
    """A stack of layers."""

    def forward(self, input: Any, hx: Any = None) -> Any:
        """As that of PyTorch's class, shapes, PackedSequence and errors included.

        Parameters
        ----------
        input : torch.Tensor or PackedSequence
            (T, B, I), (B, T, I) with batch_first, or (T, I) for one sequence.
        hx : (h_0, c_0), or h_0 alone where the cell has no c, optional
            Each a torch.Tensor of shape (D*L, B, H); zeros if None.

        Returns
        -------
        output : torch.Tensor or PackedSequence
            h_t of the last layer.
        state : (h_n, c_n), or h_n alone where the cell has no c
            Shaped as `hx`.
        """
        if isinstance(input, PackedSequence):
            return self._forward_packed(input, hx)
        module: Any = self
        weights = parameters(module, module._flat_weights_names)
        unfit = fallback.obstacle(module, input, weights)
        rank = 0 if unfit else input.dim()
        if rank == 3:
            layout = "bti" if module.batch_first else "tbi"
            batch = input.shape[0 if module.batch_first else 1]
            lead: tuple[int, ...] = (_layers(module), batch)
        else:
            layout = "ti"
            lead = (_layers(module),)
        state = None
        if not unfit:
            state = _fitting(module, input, _pair(hx, self._fastlstm_has_c), rank in (2, 3), lead)
        cell = self._fastlstm_cell
        if state is None or not cell:
            if isinstance(input, torch.fx.Proxy):
                return _as_node(module, input, hx)
            if unfit == "autocast" and autocast.takes(module, input, hx, weights):
                return autocast.run(Layer.forward, module, input, hx)
            if variants.is_general(module):
                return variants.instead(module, unfit, input, hx)
            fallback.warn(module, unfit)
            input = guards.layer(module, input, hx)
            return super().forward(input, hx)  # type: ignore[misc]
        noisy = False
        if self._fastlstm_options is not None:
            weights, noisy = variants.noise(module, weights)
        y, h_n, c_n = ops.run(
            input,
            state,
            weights,
            cell,
            layout,
            module.bidirectional,
            dropout=_dropout(module),
            frozen=is_frozen(module),
            noisy=noisy,
        )
        return y, (h_n, c_n) if self._fastlstm_has_c else h_n

    def _forward_packed(self, packed: Any, hx: Any) -> Any:
        module: Any = self
        data, batch_sizes, order, back = packed
        weights = parameters(module, module._flat_weights_names)
        unfit = fallback.obstacle(module, data, weights)
        sound = batch_sizes.dtype is torch.int64 and batch_sizes.dim() == 1 and batch_sizes.is_cpu
        state: Any = None
        if sound and not unfit and len(batch_sizes):
            pair = _pair(hx, self._fastlstm_has_c)
            if pair is not None and pair[0] is not None and pair[0].dim() == 3:
                batch = pair[0].shape[1]
            else:
                batch = int(batch_sizes[0]) if back is None else back.shape[0]
            # Compilers cannot know the first size; the operator looks again when it runs.
            known = torch.compiler.is_compiling() or batch == int(batch_sizes[0])
            lead = (_layers(module), batch)
            state = _fitting(module, data, pair, known and data.dim() == 2, lead)
            if state is not None and state[0] is not None and order is not None:
                state = _permuted(module, state, order)
                if any(one is not None and one.shape[:-1] != lead for one in state):
                    state = None  # an order of another length, which PyTorch refuses
        cell = self._fastlstm_cell
        if state is None or not cell:
            if unfit == "autocast" and autocast.takes(module, data, hx, weights):
                return autocast.run(Layer.forward, module, packed, hx)
            if variants.is_general(module):
                return variants.instead(module, unfit, packed, hx)
            fallback.warn(module, unfit)
            packed = guards.layer(module, packed, hx)
            return super().forward(packed, hx)  # type: ignore[misc]
        noisy = False
        if self._fastlstm_options is not None:
            weights, noisy = variants.noise(module, weights)
        y, h_n, c_n = ops.run(
            data,
            state,
            weights,
            cell,
            "packed",
            module.bidirectional,
            batch_sizes=batch_sizes,
            dropout=_dropout(module),
            batch=batch,
            frozen=is_frozen(module),
            noisy=noisy,
        )
        h_n, c_n = _permuted(module, (h_n, c_n), back)
        y = PackedSequence(y, batch_sizes, order, back)
        return y, (h_n, c_n) if self._fastlstm_has_c else h_n


class Step(Recurrent):
    """One step of one layer."""

    _fastlstm_names = CELL_NAMES

    def forward(self, input: Any, hx: Any = None) -> Any:
        """As that of PyTorch's class, shapes and errors included.

        Parameters
        ----------
        input : torch.Tensor
            (B, I), or (I,) for one sequence.
        hx : (h_0, c_0), or h_0 alone where the cell has no c, optional
            Each a torch.Tensor of shape (B, H) or (H,); zeros if None.

        Returns
        -------
        state : (h, c), or h alone where the cell has no c
            The new one, shaped as `hx`.
        """
        module: Any = self
        weights = parameters(module, self._fastlstm_names)
        unfit = fallback.obstacle(module, input, weights)
        state = None
        if not unfit:
            pair = _pair(hx, self._fastlstm_has_c)
            state = _fitting(module, input, pair, input.dim() in (1, 2), tuple(input.shape[:-1]))
        cell = self._fastlstm_cell
        if state is None or not cell:
            if isinstance(input, torch.fx.Proxy):
                return _as_node(module, input, hx)
            if unfit == "autocast" and autocast.takes(module, input, hx, weights):
                return autocast.run(Step.forward, module, input, hx)
            if variants.is_general(module):
                return variants.instead(module, unfit, input, hx)
            fallback.warn(module, unfit)
            guards.step(module, input, hx)
            return super().forward(input, hx)  # type: ignore[misc]
        noisy = False
        if self._fastlstm_options is not None:
            weights, noisy = variants.noise(module, weights)
        alone = input.dim() == 1
        if alone:
            input = input.unsqueeze(0)
            state = tuple(None if one is None else one.unsqueeze(0) for one in state)
        frozen = is_frozen(module)
        h, _, c = ops.run(input, state, weights, cell, "cell", False, frozen=frozen, noisy=noisy)
        if alone:
            h, c = h.squeeze(0), None if c is None else c.squeeze(0)
        return (h, c) if self._fastlstm_has_c else h


def _as_node(module: Any, proxy: Any, hx: Any) -> Any:
    """The module in a graph of torch.fx, which would look into every class that is not torch's."""
    tracer = proxy.tracer
    return tracer.create_proxy("call_module", tracer.path_of_module(module), (proxy, hx), {})


_NOTHING = type(None)


def parameters(module: Any, names: list[str]) -> list[Tensor]:
    """The weights as they are now, whatever a parametrization or functional_call makes of them:
    four for each layer and direction, two where no bias is, one more where h is projected, and
    those of options; none if one is None.
    """
    if not torch.compiler.is_compiling():
        held = module._parameters
        try:
            found = [held[name] for name in names]
        except KeyError:
            pass
        else:
            if _NOTHING not in map(type, found):
                return found
    found = [getattr(module, name) for name in names]
    if names is CELL_NAMES and found[2] is None and found[3] is None:
        found = found[:2]
    return [] if any(weight is None for weight in found) else found


def _layers(module: Any) -> int:
    layers: int = module.num_layers * (2 if module.bidirectional else 1)
    return layers


def is_frozen(module: Any) -> bool:
    """Whether `accelerate` froze the weights; they are not while the module is in training mode."""
    return FROZEN in module.__dict__ and not module.training


def _permuted(module: Any, state: tuple[Any, Any], order: Tensor | None) -> Any:
    """A state in another order of the batch."""
    if module._fastlstm_has_c:
        return module.permute_hidden(state, order)
    return module.permute_hidden(state[0], order), None


def _dropout(module: Any) -> float:
    return module.dropout if module.training and module.num_layers > 1 else 0.0


def _fitting(module: Any, x: Tensor, state: Any, rank_fits: bool, lead: tuple[int, ...]) -> Any:
    """The `state` of `_pair` if PyTorch would accept the call and finds work in it. `lead`: axes of
    a state before the last one, that of its units.

    All else, None here, goes to PyTorch, which has the right error message, or empty result.
    """
    if not rank_fits or x.shape[-1] != module.input_size or 0 in x.shape:
        return None
    if not 0 <= module.__dict__.get("dropout", 0) <= 1:
        return None
    if state is None or state[0] is None:
        return state
    dtype, strided = x.dtype, torch.strided
    hidden = module.hidden_size
    for one, width in zip(state, (module.__dict__.get("proj_size") or hidden, hidden), strict=True):
        if one is None:  # no c
            continue
        if one.dtype is not dtype or not one.is_cpu or one.layout is not strided:
            return None
        if one.shape != (*lead, width):
            return None
    return state


def _pair(hx: Any, has_c: bool) -> tuple[Any, Any] | None:
    """h and c of hx, read once, or h and None; (None, None) for None; None if it is anything
    else."""
    if hx is None:
        return None, None
    if not has_c:
        return (hx, None) if isinstance(hx, torch.Tensor) else None
    state = tuple(hx) if isinstance(hx, (tuple, list)) else ()
    if len(state) != 2:
        return None
    is_pair = isinstance(state[0], torch.Tensor) and isinstance(state[1], torch.Tensor)
    return state if is_pair else None
