# SPDX-License-Identifier: BSD-3-Clause
"""The operators behind fastlstm.torch: gradcheck, opcheck, wrong arguments."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

torch = pytest.importorskip("torch")
rnn = torch.nn.utils.rnn

import fastlstm.torch as fltorch  # noqa: E402
from support.torch_runs import joined, made, parts, states  # noqa: E402

ops = torch.ops.fastlstm
FORWARD = {"LSTM": ops.lstm_forward.default}
FORWARD |= dict.fromkeys(("RNN", "GRU"), ops.rnn_forward.default)
BACKWARD = {"LSTM": ops.lstm_backward.default}
BACKWARD |= dict.fromkeys(("RNN", "GRU"), ops.rnn_backward.default)
forward, backward = FORWARD["LSTM"], BACKWARD["LSTM"]
F64 = torch.float64


@pytest.fixture(autouse=True)
def _fresh() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    torch.compiler.reset()
    yield
    torch.set_num_threads(threads)


# ---- gradients ----


SIZES = list(itertools.product((1, 2), (False, True), (False, True)))


@pytest.mark.parametrize(
    "of,num_layers,bias,bidirectional",
    [("LSTM", *sizes) for sizes in SIZES] + [(of, 2, True, True) for of in ("RNN", "GRU")],
)
@pytest.mark.parametrize("kind", ["tbi", "bti", "ti", "packed", "dropout"])
def test_gradcheck(of: str, kind: str, num_layers: int, bias: bool, bidirectional: bool) -> None:
    lstm = made(
        fltorch,
        of,
        3,
        4,
        num_layers,
        bias=bias,
        batch_first=kind == "bti",
        bidirectional=bidirectional,
        dropout=0.4 if kind == "dropout" and num_layers > 1 else 0.0,
        dtype=F64,
    )
    middle = () if kind == "ti" else (3,)
    shape = (3, 2, 3) if kind == "bti" else (2, *middle, 3)
    x = torch.randn(shape, dtype=F64, requires_grad=True)
    count = states(of)
    state = [
        torch.randn(num_layers * (1 + bidirectional), *middle, 4, dtype=F64, requires_grad=True)
        for _ in range(count)
    ]
    names = [name for name, _ in lstm.named_parameters()]

    def run(x: Any, *given: Any) -> Any:
        torch.manual_seed(0)
        if kind == "packed":
            x = rnn.pack_padded_sequence(x, [1, 2, 1], enforce_sorted=False)
        named = dict(zip(names, given[count:], strict=True))
        y, last = torch.func.functional_call(lstm, named, (x, joined(given[:count])))
        return (y.data if kind == "packed" else y, *parts(last))

    # All that there is element by element; parts of it along one random direction.
    whole = num_layers == 2 and bias and bidirectional
    assert torch.autograd.gradcheck(run, (x, *state, *lstm.parameters()), fast_mode=not whole)


@pytest.mark.parametrize("of", ["LSTMCell", "RNNCell", "GRUCell"])
def test_gradcheck_of_the_cell(of: str) -> None:
    cell = made(fltorch, of, 3, 4, dtype=F64)
    count = states(of)
    sizes = (3, *[4] * count)
    inputs = [torch.randn(2, n, dtype=F64, requires_grad=True) for n in sizes]

    def run(x: Any, *given: Any) -> Any:
        names = [name for name, _ in cell.named_parameters()]
        named = dict(zip(names, given[count:], strict=True))
        return torch.func.functional_call(cell, named, (x, joined(given[:count])))

    assert torch.autograd.gradcheck(run, (*inputs, *cell.parameters()))


# ---- operators ----


def arguments(layout: str, dtype: Any, kind: str = "LSTM") -> tuple[Any, ...]:
    step = layout == "cell"
    lstm = made(fltorch, kind, 3, 4, 1 if step else 2, bidirectional=not step, dtype=dtype)
    shapes = {"tbi": (5, 3, 3), "bti": (3, 5, 3), "ti": (5, 3), "packed": (6, 3), "cell": (3, 3)}
    state = {"cell": (3, 4), "ti": (4, 4)}.get(layout, (4, 3, 4))
    x, h_0 = (torch.randn(s, dtype=dtype, requires_grad=True) for s in (shapes[layout], state))
    sizes = torch.tensor([3, 2, 1]) if layout == "packed" else None
    batch = 3 if layout == "packed" else 0
    seed = None if step else torch.tensor(5)
    weights, options = list(lstm.parameters()), (layout, not step, 0.5, batch)
    if kind != "LSTM":
        cell = {"RNN": "rnn_tanh", "GRU": "gru"}[kind]
        return x, h_0, weights, sizes, seed, cell, *options
    return x, h_0, torch.randn_like(h_0), weights, sizes, seed, *options


LAYOUTS = ["tbi", "bti", "ti", "packed", "cell"]


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_opcheck_forward(layout: str, dtype: str, kind: str) -> None:
    torch.library.opcheck(FORWARD[kind], arguments(layout, getattr(torch, dtype), kind))


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_opcheck_backward(layout: str, dtype: str, kind: str) -> None:
    given, count = arguments(layout, getattr(torch, dtype), kind), states(kind)
    with torch.no_grad():
        y, *last, tape = FORWARD[kind](*given, True)
    x, weights, sizes, seed, *options = given[0], *given[1 + count :]
    x, weights = x.detach(), [w.detach() for w in weights]
    for every in (1, 2, 3):
        needs = [index % every == 0 for index in range(1 + count + len(weights))]
        # Of the last state alone: in the layout "cell" h_n means nothing.
        dlast = [None, torch.randn_like(last[-1])] if count == 2 else [None]
        found = (tape, x, weights, sizes, seed, torch.randn_like(y), *dlast, *options, needs)
        torch.library.opcheck(BACKWARD[kind], found)


def test_operators_equal_the_modules() -> None:
    """Eager modules go straight to the kernels, compilers through the operators."""
    x, h_0, c_0, weights, *rest = arguments("tbi", torch.float32)
    lstm = fltorch.LSTM(3, 4, 2, bidirectional=True)
    with torch.no_grad():
        for mine, given in zip(lstm.parameters(), weights, strict=True):
            mine.copy_(given)
    y, (h_n, c_n) = lstm(x, (h_0, c_0))
    rest[1] = None  # no dropout
    found = forward(x, h_0, c_0, weights, *rest)
    assert all(torch.equal(a, b) for a, b in zip(found, (y, h_n, c_n)))  # noqa: B905
    mine = torch.autograd.grad(y.cos().sum(), [x, h_0, *lstm.parameters()])
    theirs = torch.autograd.grad(found[0].cos().sum(), [x, h_0, *weights])
    assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))


def _replace(position: int, value: Any) -> Any:
    return lambda given: (*given[:position], value, *given[position + 1 :])


@pytest.mark.parametrize(
    "layout,change,message",
    [
        ("tbi", _replace(0, torch.zeros(5, 3, 4)), "x must be"),
        ("tbi", _replace(0, torch.zeros(5, 3, 3, dtype=F64)), "x must be"),
        ("tbi", _replace(0, torch.zeros(5, 3)), "x must be"),
        ("tbi", _replace(1, torch.zeros(4, 2, 4)), "h_0 must be"),
        ("tbi", _replace(2, torch.zeros(4, 3, 4, dtype=F64)), "c_0 must be"),
        ("tbi", lambda g: (*g[:3], g[3][:-1], *g[4:]), "weights must hold"),
        ("tbi", lambda g: (*g[:3], [*g[3][:-1], g[3][0]], *g[4:]), r"weights\[15\] must be"),
        ("tbi", lambda g: (*g[:3], [w.half() for w in g[3]], *g[4:]), "weights must be float32"),
        ("tbi", _replace(4, torch.tensor([3, 2, 1])), "batch_sizes goes with"),
        ("tbi", _replace(5, torch.tensor(1.0)), "seed must be"),
        ("tbi", _replace(6, "itb"), "layout must be"),
        ("tbi", _replace(8, 1.5), "dropout must lie"),
        ("packed", _replace(4, torch.tensor([3, 2, 2])), "batch_sizes must fall"),
        ("packed", _replace(4, torch.tensor([2, 3, 1])), "batch must be"),
        ("packed", _replace(4, torch.tensor([3, 3, 0])), "batch_sizes must fall"),
        ("packed", _replace(4, torch.tensor([3, 2, 1], dtype=torch.int32)), "batch_sizes must be"),
    ],
)
@pytest.mark.parametrize("grad", [False, True])
def test_wrong_arguments_of_operators(layout: str, change: Any, message: str, grad: bool) -> None:
    """With a weight that learns, too, where autograd goes straight to the kernels."""
    given = change(arguments(layout, torch.float32))
    with torch.set_grad_enabled(grad), pytest.raises(ValueError, match=message):
        forward(*given)


@pytest.mark.parametrize(
    "change,message",
    [
        (_replace(0, torch.zeros(5, 3, 4)), "x must be"),
        (_replace(1, torch.zeros(4, 2, 4)), "h_0 must be"),
        (_replace(5, "lstm"), "cell must be one of gru, .*, rnn_relu, rnn_tanh, got 'lstm'"),
        (_replace(5, "elman"), "cell must be one of"),
        (lambda g: (*g[:2], g[2][:-1], *g[3:]), "weights must hold"),
    ],
)
@pytest.mark.parametrize("grad", [False, True])
def test_wrong_arguments_without_c(change: Any, message: str, grad: bool) -> None:
    given = change(arguments("tbi", torch.float32, "RNN"))
    with torch.set_grad_enabled(grad), pytest.raises(ValueError, match=message):
        FORWARD["RNN"](*given)
    x, _, weights, *rest = arguments("tbi", torch.float32, "RNN")
    with torch.no_grad():
        y, _, tape = FORWARD["RNN"](x, None, weights, *rest, True)
        for count in (1, 3):
            needs = [True] * (count + len(weights))
            message = rf"needs must have {2 + len(weights)} elements, got {len(needs)}"
            with pytest.raises(ValueError, match=message):
                BACKWARD["RNN"](tape, x, weights, *rest[:2], y, None, *rest[2:], needs)


def test_wrong_tape() -> None:
    given = arguments("tbi", torch.float32)
    x, _, _, weights, sizes, seed, *options = given
    needs = [True] * (3 + len(weights))
    with torch.no_grad():
        y, _, _, tape = forward(*given, True)
        for wrong in (tape[:-1], tape.float()):
            with pytest.raises(ValueError, match="tape is not one of"):
                backward(wrong, x, weights, sizes, seed, y, None, None, *options, needs)
        with pytest.raises(ValueError, match="dy must be"):
            backward(tape, x, weights, sizes, seed, y[:-1], None, None, *options, needs)
        with pytest.raises(ValueError, match="needs must have"):
            backward(tape, x, weights, sizes, seed, y, None, None, *options, needs[1:])
    with pytest.raises(ValueError, match="with_tape=True is for calls without gradients"):
        forward(*given, True)


def test_wrong_batch_of_a_backward_pass() -> None:
    given = arguments("packed", torch.float32)
    x, _, _, weights, sizes, seed, layout, bidirectional, dropout, batch = given
    with torch.no_grad():
        y, _, _, tape = forward(*given, True)
        options = (layout, bidirectional, dropout, batch + 1, [True] * (3 + len(weights)))
        with pytest.raises(ValueError, match="batch must be"):
            backward(tape, x, weights, sizes, seed, y, None, None, *options)


@pytest.mark.parametrize("position", [0, 1, 3])
@pytest.mark.parametrize("functional", [False, True])
def test_forward_mode_is_refused(position: int, functional: bool) -> None:
    """A tangent that the kernels do not see would be taken for zero."""
    given = list(arguments("tbi", torch.float32))
    given[0], given[1] = given[0].detach(), given[1].detach()
    given[3] = [w.detach() for w in given[3]]

    def run(t: Any) -> Any:
        changed = [t, *given[3][1:]] if position == 3 else t
        return forward(*given[:position], changed, *given[position + 1 :])[0]

    def dual(t: Any) -> Any:
        with torch.autograd.forward_ad.dual_level():
            return run(torch.autograd.forward_ad.make_dual(t, t))

    at = given[3][0] if position == 3 else given[position]
    call = (lambda t: torch.func.jvp(run, (t,), (t,))) if functional else dual
    with pytest.raises(NotImplementedError, match="no forward-mode derivatives"):
        call(at)
