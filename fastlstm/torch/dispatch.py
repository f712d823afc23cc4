# SPDX-License-Identifier: BSD-3-Clause
"""What stands under the dispatch keys of the operators; see `ops`. Imported for what it registers.

All take the one list of arguments of `schemas`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from . import kernels, schemas
from .operands import bare, checked, refuse_meta, refuse_tangents
from .ops import Backward, Forward, any_grad, plain

Tensor = Any  # torch is an optional dependency, which mypy sees as Any


def _forward_autograd(
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
    with_tape: bool = False,
    *,
    imports: str = "",
    build: str = "",
) -> Any:
    options = (cell, layout, bidirectional, dropout, batch)
    refuse_tangents(x, h_0, c_0, *weights)
    if torch.is_grad_enabled() and any_grad(x, h_0, c_0, weights):
        if with_tape:
            raise ValueError("with_tape=True is for calls without gradients: autograd makes a tape")
        direct = x.is_cpu and plain(x, h_0, c_0, weights)
        if direct:  # straight to the kernels, so unlike the CPU operator this looks here
            checked(x, h_0, c_0, weights, batch_sizes, seed, *options)
        found = Forward.apply(options, direct, batch_sizes, seed, x, h_0, c_0, *weights)
        return _filled(*found)
    with torch._C._AutoDispatchBelowAutograd():
        return schemas.forward(
            x,
            h_0,
            c_0,
            weights,
            batch_sizes,
            seed,
            *options,
            with_tape,
            imports=imports,
            build=build,
        )


def _backward_autograd(
    tape: Tensor,
    x: Tensor,
    weights: list[Tensor],
    batch_sizes: Tensor | None,
    seed: Tensor | None,
    dy: Tensor | None,
    dh_n: Tensor | None,
    dc_n: Tensor | None,
    *options: Any,
) -> Any:
    incoming = (dy, dh_n, dc_n)
    refuse_tangents(x, *incoming, *weights)
    if torch.is_grad_enabled() and (any_grad(x, None, None, weights) or any_grad(*incoming, [])):
        return list(Backward.apply(options, tape, x, batch_sizes, seed, *incoming, *weights))
    with torch._C._AutoDispatchBelowAutograd():
        return schemas.backward(tape, x, weights, batch_sizes, seed, *incoming, *options)


def _forward_cpu(x: Tensor, *rest: Any, imports: str = "", build: str = "") -> Any:
    given, with_tape = _apart(rest)
    h_0, c_0, weights, batch_sizes, seed, *options = given
    x, h_0, c_0, batch_sizes, seed = map(bare, (x, h_0, c_0, batch_sizes, seed))
    arguments: Any = (x, h_0, c_0, list(map(bare, weights)), batch_sizes, seed, *options)
    checked(*arguments)
    return _filled(*kernels.forward(*(*arguments, with_tape)))


def _apart(rest: tuple[Any, ...]) -> tuple[tuple[Any, ...], bool]:
    """What comes after x, and with_tape, which may be left out."""
    return (rest[:10], rest[10]) if len(rest) == 11 else (rest, False)


def _filled(y: Tensor, h_n: Tensor | None, c_n: Tensor | None, tape: Tensor | None = None) -> Any:
    """Operators return tensors, where the kernels have none; but for c_n where there is no c."""
    h_n = y.new_empty(0) if h_n is None else h_n
    return y, h_n, c_n, y.new_empty(0, dtype=torch.uint8) if tape is None else tape


def _forward_fake(x: Tensor, *rest: Any, imports: str = "", build: str = "") -> Any:
    arguments, with_tape = _apart(rest)
    spec, steps, batch = checked(x, *arguments)
    layout = arguments[6]
    h_shape, c_shape = kernels.state_shapes(layout, batch, spec)
    size = kernels.tape_bytes(spec, steps, batch) if with_tape else 0
    refuse_meta(x, arguments)
    return (
        x.new_empty(kernels.output_shape(layout, x.shape, spec)),
        x.new_empty(0 if layout == "cell" else h_shape),
        x.new_empty(c_shape) if spec.has_c else None,
        x.new_empty(size, dtype=torch.uint8),
    )


def _backward_cpu(
    tape: Tensor, x: Tensor, weights: Any, batch_sizes: Any, seed: Any, *rest: Any
) -> Any:
    *grads, cell, layout, bidirectional, dropout, batch, needs = rest
    tape, x, batch_sizes, seed, *grads = map(bare, (tape, x, batch_sizes, seed, *grads))
    weights = list(map(bare, weights))
    options: Any = (cell, layout, bidirectional, dropout, batch)
    spec, steps, batch = checked(x, None, None, weights, batch_sizes, seed, *options)
    kernels.Rows.of(layout, x.shape, batch_sizes, batch)  # complains of sizes before the tape
    size = kernels.tape_bytes(spec, steps, batch)
    if tape.dtype is not torch.uint8 or tape.shape != (size,):
        raise ValueError(
            f"tape is not one of a forward pass of this shape, {size} elements of torch.uint8: got "
            f"{tape.dtype}, {tuple(tape.shape)}"
        )
    others = 3 if spec.has_c else 2  # x and the states
    count, given = others + len(weights), len(needs) - (not spec.has_c)
    if given != count:
        raise ValueError(f"needs must have {count} elements, got {given}")
    arguments: Any = (tape, x, weights, batch_sizes, seed, *grads, *options, needs)
    return kernels.backward(*arguments)


def _backward_fake(
    tape: Tensor, x: Tensor, weights: Any, batch_sizes: Any, seed: Any, *rest: Any
) -> Any:
    _, _, _, cell, layout, bidirectional, dropout, batch, needs = rest
    options: Any = (cell, layout, bidirectional, dropout, batch)
    spec, _, batch = checked(x, None, None, weights, batch_sizes, seed, *options)
    states = kernels.state_shapes(layout, batch, spec)
    refuse_meta(x, (tape, weights, batch_sizes, seed, rest))
    shapes = [x.shape, *states, *(w.shape for w in weights)]
    return [x.new_empty(shape) for shape, need in zip(shapes, needs, strict=True) if need]


def _mapped(name: str, grads: slice) -> Any:
    """Several gradients of one forward pass, as torch.func.vmap maps over them; `grads` are those
    of the operator's arguments that it may map over."""
    operator = getattr(torch.ops.fastlstm, name).default

    def vmap(
        info: Any, in_dims: Any, *arguments: Any, **words: Any
    ) -> tuple[list[Tensor], list[int]]:
        others = (in_dims[: grads.start], in_dims[grads.stop :])
        if any(dim is not None for dim in tree_leaves(others)):
            raise NotImplementedError(f"{name} can be mapped over gradients of results only")
        found = []
        for one in range(info.batch_size):
            chosen = [
                grad if dim is None else grad.select(dim, one)
                for grad, dim in zip(arguments[grads], in_dims[grads], strict=True)
            ]
            rest = arguments[grads.stop :]
            found.append(operator(*arguments[: grads.start], *chosen, *rest, **words))
        stacked = [torch.stack(column) for column in zip(*found, strict=True)]
        return stacked, [0] * len(stacked)

    return vmap


schemas.implement("forward", _forward_autograd, "Autograd")
schemas.implement("forward", _forward_cpu, "CPU")
schemas.implement("forward", _forward_fake, "fake")
schemas.implement("backward", _backward_autograd, "Autograd")
schemas.implement("backward", _backward_cpu, "CPU")
schemas.implement("backward", _backward_fake, "fake")
for _name, _grads in (("lstm_backward", slice(5, 8)), ("rnn_backward", slice(5, 7))):
    torch.library.register_vmap(f"fastlstm::{_name}", _mapped(_name, _grads), lib=schemas.library)
