# SPDX-License-Identifier: BSD-3-Clause
"""Running models: straight to the kernels where nobody looks, else through the operators.

    key        forward                                  backward
    Autograd   with grad: _Forward, which asks for a    with grad (create_graph): _Backward, which
               tape, else on to the CPU                 refuses to be differentiated once more
    CPU        kernels.forward                          kernels.backward
    fake       shapes alone: meta tensors, compilers, exporters

A caller passes ``with_tape=False``; only _Forward asks for tapes and hides them from the caller. So
an exported or compiled inference graph keeps nothing, and one that is trained after all gets its
tape when it runs. In plain eager code `run` and _Forward go straight to the kernels: a round
through the dispatcher to a Python kernel costs more than a small LSTM.

What stands under the keys is in `dispatch`.
"""

from __future__ import annotations

from typing import Any

import torch

from ..spec import FORWARD
from . import kernels, schemas
from .engines import BOTH, engine_for
from .operands import PLAIN, RESTORE, refuse_batches

Tensor = Any  # torch is an optional dependency, which mypy sees as Any


def run(
    x: Tensor,
    state: tuple[Tensor | None, Tensor | None],
    weights: list[Tensor],
    cell: str,
    layout: str,
    bidirectional: bool,
    *,
    batch_sizes: Tensor | None = None,
    dropout: float = 0.0,
    batch: int = 0,
    frozen: bool = False,
    noisy: bool = False,
) -> tuple[Tensor, Any, Any]:
    """(y, h_n, c_n) of checked arguments, differentiable. In the layout "cell" h is y, and h_n
    means nothing; c_n is None where the cell has no c.

    frozen: see `engine_for`; of calls without gradients that no compiler or mode sees.

    With dropout > 0, or where the noise of options acts (`noisy`), the masks come from a seed drawn
    from torch's default CPU generator.
    """
    seed = None
    if dropout > 0 or noisy:
        seed = torch.randint(0, 2**63 - 1, (), dtype=torch.int64, device="cpu")
    h_0, c_0 = state
    options = (cell, layout, bidirectional, dropout, batch)
    if torch.compiler.is_compiling() or not plain(x, h_0, c_0, weights):
        y, h_n, c_n, _ = schemas.forward(
            x,
            h_0,
            c_0,
            weights,
            batch_sizes,
            seed,
            *options,
            imports=schemas.IMPORTS,
            build=schemas.BUILD,
        )
        return y, h_n, c_n
    if torch.is_grad_enabled() and any_grad(x, h_0, c_0, weights):
        # Nothing of torch.func is active: the part of `apply` that looks after it can be left out.
        found: tuple[Tensor, Any, Any] = _apply(
            options, True, batch_sizes, seed, x, h_0, c_0, *weights
        )
        return found
    packed: tuple[Any, ...] = ()
    if frozen:
        packed = engine_for(weights, cell, bidirectional, FORWARD, frozen=True)[:2]
    return kernels.forward(x, h_0, c_0, weights, batch_sizes, seed, *options, False, *packed)[:3]


def plain(x: Tensor, h_0: Tensor | None, c_0: Tensor | None, weights: list[Tensor]) -> bool:
    """Whether nobody between here and the CPU kernel could want to see the operators."""
    return (
        not torch._C._len_torch_dispatch_stack()
        and not torch._C._are_functorch_transforms_active()
        and not torch._C._is_torch_function_mode_enabled()
        and PLAIN.issuperset(map(type, (x, h_0, c_0, *weights)))
    )


def any_grad(x: Tensor, h_0: Tensor | None, c_0: Tensor | None, weights: list[Tensor]) -> bool:
    return any(t is not None and t.requires_grad for t in (*weights, x, h_0, c_0))


class Forward(torch.autograd.Function):  # type: ignore[misc]
    """(y, h_n, c_n) of the arguments of `run`, with their gradients."""

    @staticmethod
    def forward(
        ctx: Any,
        options: tuple[str, str, bool, float, int],
        plain: bool,
        batch_sizes: Tensor | None,
        seed: Tensor | None,
        x: Tensor,
        h_0: Tensor | None,
        c_0: Tensor | None,
        *weights: Tensor,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        ctx.options = options
        ctx.set_materialize_grads(False)
        table = list(weights)
        arguments = (x, h_0, c_0, table, batch_sizes, seed, *options, True)
        ctx.packed = None, None
        if plain:
            # Packed for both passes and held for the second, unless that takes much memory.
            cell, _, bidirectional, *_ = options
            spec, engine, passes = engine_for(table, cell, bidirectional, BOTH, lean=True)
            packed = spec, engine
            if passes == BOTH:
                ctx.packed = packed
            y, h_n, c_n, tape = kernels.forward(*arguments, *packed)
        else:
            with torch._C._AutoDispatchBelowAutograd():
                y, h_n, c_n, tape = schemas.forward(*arguments, build=schemas.BUILD)
            if options[1] == "cell":
                h_n = None
        ctx.save_for_backward(tape, batch_sizes, seed, x, *weights)
        return y, h_n, c_n

    @staticmethod
    def backward(
        ctx: Any, dy: Tensor | None, dh_n: Tensor | None, dc_n: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        tape, batch_sizes, seed, x, *weights = ctx.saved_tensors
        refuse_batches(dy, dh_n, dc_n)
        needs = ctx.needs_input_grad[4:]
        given = (tape, x, weights, batch_sizes, seed, dy, dh_n, dc_n)
        arguments: Any = (*given, *ctx.options, needs)
        if torch.is_grad_enabled() or not (plain(x, dy, dc_n, weights) and type(dh_n) in PLAIN):
            found = iter(schemas.backward(*arguments))
        else:
            packed = ctx.packed
            ctx.packed = None, None  # a second pass, which is rare, packs again
            found = iter(kernels.backward(*(*arguments, *packed)))
        return (None, None, None, None, *[next(found) if need else None for need in needs])


_apply = super(torch.autograd.Function, Forward).apply


class Backward(torch.autograd.Function):  # type: ignore[misc]
    """The backward pass with a gradient of its own: an error in place of a wrong number."""

    @staticmethod
    def forward(ctx: Any, options: tuple[Any, ...], *tensors: Tensor) -> tuple[Tensor, ...]:
        tape, x, batch_sizes, seed, dy, dh_n, dc_n, *weights = tensors
        given = (tape, x, weights, batch_sizes, seed, dy, dh_n, dc_n)
        with torch._C._AutoDispatchBelowAutograd():
            return tuple(schemas.backward(*given, *options))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> None:
        raise NotImplementedError(
            "fastlstm.torch gives first derivatives only: for a gradient of a gradient " + RESTORE
        )
