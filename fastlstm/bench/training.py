# SPDX-License-Identifier: BSD-3-Clause
"""One training step of each engine that can train, and its memory; and the models of both tasks.

A step is the same work for all: forward, then backward from a given dy to the gradients of x, the
initial state (zero) and every parameter. There is no loss and no optimiser. Parameters are read
anew in each step, as if an optimiser had changed them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from .agreement import Outputs
from .shapes import Arrays, Shape

Step = Callable[[], object]

# The step that comes before the one whose memory counts: large enough to call what that one calls
# (megabytes of PyTorch's code on a ragged batch), small enough to leave no memory behind.
TINY = {"T": 16, "B": 4, "I": 8, "H": 32}


def fastlstm_step(shape: Shape, arrays: Arrays) -> Step:
    """Through NumPy: packs the parameters, uses one tape's memory again, makes new gradients."""
    lstm = numpy_model(shape, arrays).train()
    x, lengths, dy = arrays.x, arrays.lengths, arrays.dy
    tape: Any = None

    def step() -> object:
        nonlocal tape
        y, _, tape = lstm.forward(x, lengths=lengths, tape=tape)
        return y, lstm.backward(tape, dy)

    return step


CLASSES: dict[str, tuple[str, dict[str, Any]]] = {
    "lstm": ("LSTM", {}),
    "gru": ("GRU", {}),
    "gru_reset_before": ("GRU", {"reset_after": False}),
    "rnn_tanh": ("RNN", {"nonlinearity": "tanh"}),
    "rnn_relu": ("RNN", {"nonlinearity": "relu"}),
}
"""The class of each cell, in torch.nn as here, and what its constructor takes to be that one; a GRU
that resets before the product is there only here."""


def numpy_model(shape: Shape, arrays: Arrays) -> Any:
    """A model of this package."""
    import fastlstm

    return _model(fastlstm, shape, np.dtype(shape.dtype).type, arrays.params)


def torch_model(modules: Any, shape: Shape, arrays: Arrays) -> Any:
    """A module of torch.nn, or of fastlstm.torch."""
    import torch

    params = {name: torch.from_numpy(values) for name, values in arrays.params.items()}
    return _model(modules, shape, getattr(torch, shape.dtype), params)


def _model(modules: Any, shape: Shape, dtype: Any, params: dict[str, Any]) -> Any:
    name, options = CLASSES[shape.cell]
    options = {**options, "bidirectional": shape.bidirectional, "dtype": dtype}
    if shape.proj:
        options["proj_size"] = shape.proj
    if shape.options:
        options["options"] = dict(shape.options)
    model = getattr(modules, name)(shape.I, shape.H, shape.layers, **options)
    model.load_state_dict(params)
    return model


def fastlstm_outputs(result: Any) -> Outputs:
    y, grads = result
    c_0 = {} if grads.c_0 is None else {"c_0": grads.c_0}
    return {"y": y, "x": grads.x, "h_0": grads.h_0, **c_0, **grads.params}


def torch_step(modules: Any, shape: Shape, arrays: Arrays, padded: bool) -> Step:
    """Of a module of torch.nn or fastlstm.torch, written as its users write one.

    A ragged batch is packed before and unpacked after the call within the step, unless ``padded``
    says to send it as it is.
    """
    import torch
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

    module, leaves, states = _trained(modules, shape, arrays)
    x, dy = torch.from_numpy(arrays.x).requires_grad_(), torch.from_numpy(arrays.dy)
    leaves["x"] = x
    if arrays.lengths is None or padded:
        return _autograd_step(module, leaves, dy, lambda: module(x, states)[0])
    lengths = torch.from_numpy(arrays.lengths)

    def forward() -> Any:
        packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
        return pad_packed_sequence(module(packed, states)[0], total_length=shape.T)[0]

    return _autograd_step(module, leaves, dy, forward)


def _autograd_step(
    module: Any, leaves: dict[str, Any], dy: Any, forward: Callable[[], Any], unpack: Any = None
) -> Step:
    """Forward, which gives y, and backward to the gradients of the leaves.

    Gradients are dropped before each step, so that none is added to, and parameters are marked as
    written to, which an optimiser's step does: `fastlstm.torch` would otherwise keep what it has
    packed. `unpack` is for `torch_outputs`.
    """
    from torch.autograd.graph import increment_version

    parameters, variables = list(module.parameters()), tuple(leaves.values())

    def step() -> object:
        for variable in variables:
            variable.grad = None
        increment_version(parameters)
        y = forward()
        y.backward(dy)
        return y, leaves, unpack

    return step


def packed_step(modules: Any, shape: Shape, arrays: Arrays) -> Step:
    """As `torch_step`, of a ragged batch that is packed, with dy, before the first step."""
    import torch
    from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

    module, leaves, states = _trained(modules, shape, arrays)
    lengths = torch.from_numpy(arrays.lengths)
    packed = pack_padded_sequence(torch.from_numpy(arrays.x), lengths, enforce_sorted=False)
    dy = pack_padded_sequence(torch.from_numpy(arrays.dy), lengths, enforce_sorted=False).data
    leaves["x"] = packed.data.requires_grad_()

    def unpack(values: Any) -> Any:
        sequence = PackedSequence(
            values, packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices
        )
        return pad_packed_sequence(sequence, total_length=shape.T)[0]

    return _autograd_step(module, leaves, dy, lambda: module(packed, states)[0].data, unpack)


def least_step(shape: Shape, arrays: Arrays) -> Step:
    """`fastlstm_step` as the two halves of a `torch.autograd.Function` that does nothing else.

    What this takes longer than `fastlstm_step` is PyTorch's own share of any training step whose
    passes are written in Python: `fastlstm.torch` cannot be faster. Not for ragged batches.
    """
    import torch

    module, leaves, states = _trained(torch.nn, shape, arrays)
    leaves["x"] = torch.from_numpy(arrays.x).requires_grad_()
    variables, dy = tuple(leaves.values()), torch.from_numpy(arrays.dy)
    pair = isinstance(states, tuple)
    state: Any = tuple(one.detach().numpy() for one in (states if pair else (states,)))
    state = state if pair else state[0]
    lstm = numpy_model(shape, arrays).train()
    tape: Any = None

    class Least(torch.autograd.Function):  # type: ignore[misc]
        @staticmethod
        def forward(ctx: Any, *given: Any) -> Any:
            nonlocal tape
            y, _, tape = lstm.forward(arrays.x, state, tape=tape)
            return torch.from_numpy(y)

        @staticmethod
        def backward(ctx: Any, grad: Any) -> Any:
            grads = lstm.backward(tape, grad.numpy())
            c_0 = (grads.c_0,) if pair else ()
            found = (grads.h_0, *c_0, *grads.params.values(), grads.x)
            return tuple(map(torch.from_numpy, found))

    return _autograd_step(module, leaves, dy, lambda: Least.apply(*variables))


def _trained(modules: Any, shape: Shape, arrays: Arrays) -> tuple[Any, Any, Any]:
    """The module; name -> all that gradients are taken of, but x; its zero state."""
    import torch

    module, dtype = torch_model(modules, shape, arrays).train(), getattr(torch, shape.dtype)
    leading, widths = (shape.directions * shape.layers, shape.B), (shape.outputs, shape.H)
    states = {
        f"{letter}_0": torch.zeros(*leading, width, dtype=dtype, requires_grad=True)
        for letter, width in zip(shape.states, widths, strict=False)
    }
    given = tuple(states.values())
    return (
        module,
        {**states, **dict(module.named_parameters())},
        given if len(given) > 1 else given[0],
    )


def torch_outputs(result: Any) -> Outputs:
    y, leaves, unpack = result
    values = {"y": y.detach(), **{name: leaf.grad for name, leaf in leaves.items()}}
    if unpack is not None:
        values |= {name: unpack(values[name]) for name in ("y", "x")}
    return {name: tensor.numpy() for name, tensor in values.items()}


# ---- memory ----


def _status_bytes(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) << 10
    raise OSError(f"/proc/self/status has no {field}")


def peak_bytes(prepare: Callable[[Shape], Step], shape: Shape) -> int | None:
    """How far one training step raises this process's resident memory, in bytes.

    To be called in a process that has run nothing yet. A tiny step of the same kind comes first, so
    that code and thread pools are there already (and hardly any memory to use again). Then the
    model and its input are made, Linux's mark of the highest resident size is reset to the present
    one (5 into ``/proc/self/clear_refs``), one step runs, and the result is the mark (VmHWM) less
    the resident size before the step (VmRSS): all that the step holds at its worst moment, so tape,
    packed weights, workspace, outputs and gradients, but neither the parameters nor the input. The
    kernel counts pages in lots, and code that is touched for the first time counts as well, so a
    megabyte more or less says nothing.

    None where the system cannot tell: not Linux, or no right to reset the mark.
    """
    tiny = {name: min(getattr(shape, name), most) for name, most in TINY.items()}
    prepare(replace(shape, **tiny))()
    step = prepare(shape)
    try:
        Path("/proc/self/clear_refs").write_text("5")
        before = _status_bytes("VmRSS")
        result = step()
        after = _status_bytes("VmHWM")
    except OSError:
        return None
    del result
    return max(0, after - before)
