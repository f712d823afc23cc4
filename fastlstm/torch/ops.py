# SPDX-License-Identifier: BSD-3-Clause
"""The operators ``torch.ops.fastlstm.lstm_forward`` and ``lstm_backward``.

    key        lstm_forward                             lstm_backward
    Autograd   with grad: _Forward, which asks for a    with grad (create_graph): _Backward, which
               tape, else on to the CPU                 refuses to be differentiated once more
    CPU        kernels.forward                          kernels.backward
    fake       shapes alone: meta tensors, compilers, exporters

A caller passes ``with_tape=False``; only _Forward asks for tapes and hides them from the caller. So
an exported or compiled inference graph keeps nothing, and one that is trained after all gets its
tape when it runs. In plain eager code `lstm` and _Forward go straight to the kernels: a round
through the dispatcher to a Python kernel costs more than a small LSTM.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from .. import runtime
from ..spec import FORWARD
from . import kernels
from .engines import BOTH, engine_for
from .operands import PLAIN, bare, checked, refuse_batches, refuse_meta, refuse_tangents

Tensor = Any  # torch is an optional dependency, which mypy sees as Any

_library = torch.library.Library("fastlstm", "DEF")
_library.define(
    "lstm_forward(Tensor x, Tensor? h_0, Tensor? c_0, Tensor[] weights, Tensor? batch_sizes, "
    "Tensor? seed, str layout, bool bidirectional, float dropout, SymInt batch, "
    "bool with_tape=False, *, str imports='', str build='') "
    "-> (Tensor y, Tensor h_n, Tensor c_n, Tensor tape)"
)
_library.define(
    "lstm_backward(Tensor tape, Tensor x, Tensor[] weights, Tensor? batch_sizes, Tensor? seed, "
    "Tensor? dy, Tensor? dh_n, Tensor? dc_n, str layout, bool bidirectional, float dropout, "
    "SymInt batch, bool[] needs) -> Tensor[]"
)
_forward_op = torch.ops.fastlstm.lstm_forward.default
_backward_op = torch.ops.fastlstm.lstm_backward.default


def lstm(
    x: Tensor,
    state: tuple[Tensor, Tensor] | tuple[None, None],
    weights: list[Tensor],
    layout: str,
    bidirectional: bool,
    *,
    batch_sizes: Tensor | None = None,
    dropout: float = 0.0,
    batch: int = 0,
    frozen: bool = False,
) -> tuple[Tensor, Any, Tensor]:
    """(y, h_n, c_n) of checked arguments, differentiable. A cell's h is y; its h_n means nothing.

    frozen: see `engine_for`; of calls without gradients that no compiler or mode sees.

    With dropout > 0 its masks come from a seed drawn from torch's default CPU generator.
    """
    seed = None
    if dropout > 0:
        seed = torch.randint(0, 2**63 - 1, (), dtype=torch.int64, device="cpu")
    h_0, c_0 = state
    options = (layout, bidirectional, dropout, batch)
    if torch.compiler.is_compiling() or not _plain(x, h_0, c_0, weights):
        y, h_n, c_n, _ = _forward_op(
            x, h_0, c_0, weights, batch_sizes, seed, *options, imports=_IMPORTS, build=_BUILD
        )
        return y, h_n, c_n
    if torch.is_grad_enabled() and _any_grad(x, h_0, c_0, weights):
        # Nothing of torch.func is active: the part of `apply` that looks after it can be left out.
        found: tuple[Tensor, Any, Tensor] = _apply(
            options, True, batch_sizes, seed, x, h_0, c_0, *weights
        )
        return found
    packed: tuple[Any, ...] = ()
    if frozen:
        packed = engine_for(weights, bidirectional, FORWARD, frozen=True)[:2]
    return kernels.forward(x, h_0, c_0, weights, batch_sizes, seed, *options, False, *packed)[:3]


# Two arguments that do nothing. PyTorch shows the arguments of an operator that it does not find,
# so who loads an exported program learns what to import. And Inductor keeps on disk what it
# compiled, by the arguments of all operators, with the size of the tape, which another version or
# instruction set changes.
_IMPORTS = "fastlstm.torch"
_BUILD = f"{runtime.__version__} {runtime.active_isa()}"


def _plain(x: Tensor, h_0: Tensor | None, c_0: Tensor | None, weights: list[Tensor]) -> bool:
    """Whether nobody between here and the CPU kernel could want to see the operators."""
    return (
        not torch._C._len_torch_dispatch_stack()
        and not torch._C._are_functorch_transforms_active()
        and not torch._C._is_torch_function_mode_enabled()
        and PLAIN.issuperset(map(type, (x, h_0, c_0, *weights)))
    )


def _any_grad(x: Tensor, h_0: Tensor | None, c_0: Tensor | None, weights: list[Tensor]) -> bool:
    return any(t is not None and t.requires_grad for t in (*weights, x, h_0, c_0))


class _Forward(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(
        ctx: Any,
        options: tuple[str, bool, float, int],
        plain: bool,
        batch_sizes: Tensor | None,
        seed: Tensor | None,
        x: Tensor,
        h_0: Tensor | None,
        c_0: Tensor | None,
        *weights: Tensor,
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        ctx.options = options
        ctx.set_materialize_grads(False)
        table = list(weights)
        arguments = (x, h_0, c_0, table, batch_sizes, seed, *options, True)
        ctx.packed = None, None
        if plain:
            # Packed for both passes and held for the second, unless that takes much memory.
            spec, engine, passes = engine_for(table, options[1], BOTH, lean=True)
            packed = spec, engine
            if passes == BOTH:
                ctx.packed = packed
            y, h_n, c_n, tape = kernels.forward(*arguments, *packed)
        else:
            with torch._C._AutoDispatchBelowAutograd():
                y, h_n, c_n, tape = _forward_op(*arguments, build=_BUILD)
            if options[0] == "cell":
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
        if torch.is_grad_enabled() or not (_plain(x, dy, dc_n, weights) and type(dh_n) in PLAIN):
            found = iter(_backward_op(*arguments))
        else:
            packed = ctx.packed
            ctx.packed = None, None  # a second pass, which is rare, packs again
            found = iter(kernels.backward(*(*arguments, *packed)))
        return (None, None, None, None, *[next(found) if need else None for need in needs])


_apply = super(torch.autograd.Function, _Forward).apply


class _Backward(torch.autograd.Function):  # type: ignore[misc]
    """lstm_backward with a gradient of its own: an error in place of a wrong number."""

    @staticmethod
    def forward(ctx: Any, options: tuple[Any, ...], *tensors: Tensor) -> tuple[Tensor, ...]:
        tape, x, batch_sizes, seed, dy, dh_n, dc_n, *weights = tensors
        with torch._C._AutoDispatchBelowAutograd():
            found = _backward_op(tape, x, weights, batch_sizes, seed, dy, dh_n, dc_n, *options)
        return tuple(found)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> None:
        raise NotImplementedError(
            "fastlstm.torch gives first derivatives only: for a gradient of a gradient run the "
            "model through fastlstm.torch.restore first"
        )


def _forward_autograd(
    x: Tensor,
    h_0: Tensor | None,
    c_0: Tensor | None,
    weights: list[Tensor],
    batch_sizes: Tensor | None,
    seed: Tensor | None,
    layout: str,
    bidirectional: bool,
    dropout: float,
    batch: int,
    with_tape: bool = False,
    *,
    imports: str = "",
    build: str = "",
) -> Any:
    options = (layout, bidirectional, dropout, batch)
    refuse_tangents(x, h_0, c_0, *weights)
    if torch.is_grad_enabled() and _any_grad(x, h_0, c_0, weights):
        if with_tape:
            raise ValueError("with_tape=True is for calls without gradients: autograd makes a tape")
        plain = x.is_cpu and _plain(x, h_0, c_0, weights)
        if plain:  # straight to the kernels, so unlike the CPU operator this looks here
            checked(x, h_0, c_0, weights, batch_sizes, seed, *options)
        found = _Forward.apply(options, plain, batch_sizes, seed, x, h_0, c_0, *weights)
        return _filled(*found)
    with torch._C._AutoDispatchBelowAutograd():
        return _forward_op(
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
    layout: str,
    bidirectional: bool,
    dropout: float,
    batch: int,
    needs: list[bool],
) -> Any:
    options = (layout, bidirectional, dropout, batch, needs)
    incoming = (dy, dh_n, dc_n)
    refuse_tangents(x, *incoming, *weights)
    if torch.is_grad_enabled() and (_any_grad(x, None, None, weights) or _any_grad(*incoming, [])):
        return list(_Backward.apply(options, tape, x, batch_sizes, seed, *incoming, *weights))
    with torch._C._AutoDispatchBelowAutograd():
        return _backward_op(tape, x, weights, batch_sizes, seed, *incoming, *options)


def _forward_cpu(x: Tensor, *rest: Any, imports: str = "", build: str = "") -> Any:
    *given, with_tape = rest if len(rest) == 10 else (*rest, False)
    h_0, c_0, weights, batch_sizes, seed, *options = given
    x, h_0, c_0, batch_sizes, seed = map(bare, (x, h_0, c_0, batch_sizes, seed))
    arguments: Any = (x, h_0, c_0, list(map(bare, weights)), batch_sizes, seed, *options)
    checked(*arguments)
    return _filled(*kernels.forward(*(*arguments, with_tape)))


def _filled(y: Tensor, h_n: Tensor | None, c_n: Tensor, tape: Tensor | None = None) -> Any:
    """Operators return tensors, where the kernels have none."""
    h_n = y.new_empty(0) if h_n is None else h_n
    return y, h_n, c_n, y.new_empty(0, dtype=torch.uint8) if tape is None else tape


def _forward_fake(x: Tensor, *rest: Any, imports: str = "", build: str = "") -> Any:
    *arguments, with_tape = rest if len(rest) == 10 else (*rest, False)
    spec, steps, batch = checked(x, *arguments)
    layout = arguments[5]
    state = kernels.state_shape(layout, batch, spec)
    size = kernels.tape_bytes(spec, steps, batch) if with_tape else 0
    refuse_meta(x, arguments)
    return (
        x.new_empty(kernels.output_shape(layout, x.shape, spec)),
        x.new_empty(0 if layout == "cell" else state),
        x.new_empty(state),
        x.new_empty(size, dtype=torch.uint8),
    )


def _backward_cpu(
    tape: Tensor, x: Tensor, weights: Any, batch_sizes: Any, seed: Any, *rest: Any
) -> Any:
    *grads, layout, bidirectional, dropout, batch, needs = rest
    tape, x, batch_sizes, seed, *grads = map(bare, (tape, x, batch_sizes, seed, *grads))
    weights = list(map(bare, weights))
    options: Any = (layout, bidirectional, dropout, batch)
    spec, steps, batch = checked(x, None, None, weights, batch_sizes, seed, *options)
    kernels.Rows.of(layout, x.shape, batch_sizes, batch)  # complains of sizes before the tape
    size = kernels.tape_bytes(spec, steps, batch)
    if tape.dtype is not torch.uint8 or tape.shape != (size,):
        raise ValueError(
            f"tape is not one of a forward pass of this shape, {size} elements of torch.uint8: got "
            f"{tape.dtype}, {tuple(tape.shape)}"
        )
    if len(needs) != 3 + len(weights):
        raise ValueError(f"needs must have {3 + len(weights)} elements, got {len(needs)}")
    arguments: Any = (tape, x, weights, batch_sizes, seed, *grads, *options, needs)
    return kernels.backward(*arguments)


def _backward_fake(
    tape: Tensor, x: Tensor, weights: Any, batch_sizes: Any, seed: Any, *rest: Any
) -> Any:
    _, _, _, layout, bidirectional, dropout, batch, needs = rest
    spec, _, batch = checked(
        x, None, None, weights, batch_sizes, seed, layout, bidirectional, dropout, batch
    )
    state = kernels.state_shape(layout, batch, spec)
    refuse_meta(x, (tape, weights, batch_sizes, seed, rest))
    shapes = [x.shape, state, state, *(w.shape for w in weights)]
    return [x.new_empty(shape) for shape, need in zip(shapes, needs, strict=True) if need]


def _backward_vmap(info: Any, in_dims: Any, *arguments: Any) -> tuple[list[Tensor], list[int]]:
    """Several gradients of one forward pass, as torch.func.vmap maps over them."""
    grads = slice(5, 8)  # dy, dh_n, dc_n
    if any(dim is not None for dim in tree_leaves((in_dims[:5], in_dims[8:]))):
        raise NotImplementedError("lstm_backward can be mapped over dy, dh_n and dc_n only")
    found = []
    for one in range(info.batch_size):
        chosen = [
            grad if dim is None else grad.select(dim, one)
            for grad, dim in zip(arguments[grads], in_dims[grads], strict=True)
        ]
        found.append(_backward_op(*arguments[:5], *chosen, *arguments[8:]))
    stacked = [torch.stack(column) for column in zip(*found, strict=True)]
    return stacked, [0] * len(stacked)


_library.impl("lstm_forward", _forward_autograd, "Autograd")
_library.impl("lstm_forward", _forward_cpu, "CPU")
_library.impl("lstm_backward", _backward_autograd, "Autograd")
_library.impl("lstm_backward", _backward_cpu, "CPU")
torch.library.register_fake("fastlstm::lstm_forward", _forward_fake, lib=_library)
torch.library.register_fake("fastlstm::lstm_backward", _backward_fake, lib=_library)
torch.library.register_vmap("fastlstm::lstm_backward", _backward_vmap, lib=_library)
