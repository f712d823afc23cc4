# SPDX-License-Identifier: BSD-3-Clause
"""Modules of fastlstm.torch beside their twins of torch.nn, and comparing what both give."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

torch = pytest.importorskip("torch")
rnn = torch.nn.utils.rnn

import fastlstm.torch as fltorch  # noqa: E402
from fastlstm.torch import fallback  # noqa: E402

# Relative to the largest entry, against torch in float64. The "a few 1e-6" and 1e-10.
TOLERANCE = {torch.float32: 4e-6, torch.float64: 1e-10}


# Classes of torch.nn that fastlstm.torch has, but for the LSTM's; after a space the nonlinearity.
OTHER_LAYERS = ["RNN", "RNN relu", "GRU"]
OTHER_CELLS = ["RNNCell", "RNNCell relu", "GRUCell"]
LAYERS, CELLS = ["LSTM", *OTHER_LAYERS], ["LSTMCell", *OTHER_CELLS]


@pytest.fixture(autouse=True)
def no_warnings() -> Any:
    """Every fallback would warn: a test that expects none must see none.

    PyTorch gets one thread: its team spins, and crawls where other processes hold the cores.
    """
    fallback._warned.clear()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
    torch.set_num_threads(threads)


def made(modules: Any, kind: str, *args: Any, **kwargs: Any) -> Any:
    """One of `LAYERS` or `CELLS` of `modules`, which is fastlstm.torch or torch.nn."""
    name, _, nonlinearity = kind.partition(" ")
    if nonlinearity:
        kwargs["nonlinearity"] = nonlinearity
    return getattr(modules, name)(*args, **kwargs)


def states(kind: str) -> int:
    """How many tensors a state is: (h, c), or h alone."""
    return 2 if kind.startswith("LSTM") else 1


def joined(state: Any) -> Any:
    """A state as modules take it, of one tensor or two; None of none."""
    state = tuple(state or ())
    return state[0] if len(state) == 1 else state or None


def parts(state: Any) -> list[Any]:
    """The tensors of a state that a module returned."""
    return list(state) if isinstance(state, tuple) else [state]


def pair(kind: str, *args: Any, dtype: Any = torch.float32, **kwargs: Any) -> tuple[Any, Any]:
    """Our module and torch's in float64, with the same weights."""
    ours = made(fltorch, kind, *args, dtype=dtype, **kwargs)
    theirs = made(torch.nn, kind, *args, dtype=torch.float64, **kwargs)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def leaves(*tensors: Any, like: Any) -> list[Any]:
    """Differentiable copies in the dtype of a module."""
    dtype = next(like.parameters()).dtype
    return [t.detach().to(dtype).requires_grad_() for t in tensors]


def loss(outputs: list[Any]) -> Any:
    """Something whose gradient differs from entry to entry."""
    return sum((out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum() for out in outputs)


def assert_close(ours: list[Any], theirs: list[Any], dtype: Any, *, outputs: int = 1) -> None:
    """The first `outputs` are y and the state, the rest are gradients.

    In float64 every tensor is measured by its largest entry. In float32 the core's activations
    have an absolute error (some 1e-7), which is large beside an h or tanh(c) that is small itself:
    so the scale of outputs is 1, and that of gradients, sums of products with such h, is the
    largest entry of all of them.
    """
    assert len(ours) == len(theirs)
    scales = [0.0 if b is None else float(b.detach().abs().max()) for b in theirs]
    largest = max(scales[outputs:], default=0.0)
    for index, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        assert (a is None) == (b is None), index
        if a is None:
            continue
        a, b, scale = a.detach(), b.detach(), scales[index]
        assert a.shape == b.shape, index
        assert a.dtype is dtype, index
        assert scale > 0, "zeros prove nothing"
        if dtype is torch.float32:
            scale = max(scale, 1.0) if index < outputs else largest
        error = float((a.double() - b).abs().max())
        assert error <= TOLERANCE[dtype] * scale, (index, error, scale)


def run(module: Any, x: Any, state: Any, packing: dict[str, Any] | None = None) -> list[Any]:
    """y, h_n, c_n if there is one, and the gradients of x, the states and all parameters."""
    x, *state = leaves(x, *(state or ()), like=module)
    given = x if packing is None else rnn.pack_padded_sequence(x, **packing)
    y, last = module(given, joined(state))
    flat = y.data if packing else y
    module.zero_grad()
    loss([flat, *parts(last)]).backward()
    return [
        flat,
        *parts(last),
        x.grad,
        *(s.grad for s in state),
        *(p.grad for p in module.parameters()),
    ]
