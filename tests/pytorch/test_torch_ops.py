# SPDX-License-Identifier: BSD-3-Clause
"""The operators behind fastlstm.torch: gradcheck, opcheck, torch.compile and torch.export."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from support.processes import check

torch = pytest.importorskip("torch")
rnn = torch.nn.utils.rnn

import fastlstm.torch as fltorch  # noqa: E402

forward = torch.ops.fastlstm.lstm_forward.default
backward = torch.ops.fastlstm.lstm_backward.default
F64 = torch.float64


@pytest.fixture(autouse=True)
def _fresh() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    torch.compiler.reset()
    yield
    torch.set_num_threads(threads)


class Tagger(torch.nn.Module):
    """An LSTM between other layers, as a user would write it."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.lstm = torch.nn.LSTM(5, 7, 2, batch_first=True, bidirectional=True, **options)
        self.out = torch.nn.Linear(14, 3)

    def forward(self, x: Any) -> Any:
        y, (_, c_n) = self.lstm(x)
        return self.out(torch.relu(y)) + c_n.sum()


def pair(**options: Any) -> tuple[Any, Any]:
    """An accelerated model and its plain twin."""
    theirs = Tagger(**options)
    ours = Tagger(**options)
    ours.load_state_dict(theirs.state_dict())
    return fltorch.accelerate(ours), theirs


def gradients(call: Any, model: Any, x: Any) -> list[Any]:
    model.zero_grad()
    x = x.clone().requires_grad_()
    call(x).cos().sum().backward()
    return [x.grad, *(p.grad.clone() for p in model.parameters())]


def assert_close(found: Any, want: Any) -> None:
    """Within a few 1e-6 of the largest entry."""
    scale = max(float(b.detach().abs().max()) for b in want)
    for a, b in zip(found, want, strict=True):
        assert float((a - b).detach().abs().max()) <= 4e-6 * scale


# ---- gradients ----


@pytest.mark.parametrize(
    "num_layers,bias,bidirectional", list(itertools.product((1, 2), (False, True), (False, True)))
)
@pytest.mark.parametrize("kind", ["tbi", "bti", "ti", "packed", "dropout"])
def test_gradcheck(kind: str, num_layers: int, bias: bool, bidirectional: bool) -> None:
    lstm = fltorch.LSTM(
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
    states = [
        torch.randn(num_layers * (1 + bidirectional), *middle, 4, dtype=F64, requires_grad=True)
        for _ in range(2)
    ]
    names = [name for name, _ in lstm.named_parameters()]

    def run(x: Any, h_0: Any, c_0: Any, *weights: Any) -> Any:
        torch.manual_seed(0)
        if kind == "packed":
            x = rnn.pack_padded_sequence(x, [1, 2, 1], enforce_sorted=False)
        named = dict(zip(names, weights, strict=True))
        y, state = torch.func.functional_call(lstm, named, (x, (h_0, c_0)))
        return (y.data if kind == "packed" else y, *state)

    assert torch.autograd.gradcheck(run, (x, *states, *lstm.parameters()))


def test_gradcheck_of_the_cell() -> None:
    cell = fltorch.LSTMCell(3, 4, dtype=F64)
    inputs = [torch.randn(2, n, dtype=F64, requires_grad=True) for n in (3, 4, 4)]

    def run(x: Any, h: Any, c: Any, *weights: Any) -> Any:
        named = dict(zip([name for name, _ in cell.named_parameters()], weights, strict=True))
        return torch.func.functional_call(cell, named, (x, (h, c)))

    assert torch.autograd.gradcheck(run, (*inputs, *cell.parameters()))


# ---- operators ----


def arguments(layout: str, dtype: Any) -> tuple[Any, ...]:
    cell = layout == "cell"
    lstm = fltorch.LSTM(3, 4, 1 if cell else 2, bidirectional=not cell, dtype=dtype)
    shapes = {"tbi": (5, 3, 3), "bti": (3, 5, 3), "ti": (5, 3), "packed": (6, 3), "cell": (3, 3)}
    state = {"cell": (3, 4), "ti": (4, 4)}.get(layout, (4, 3, 4))
    x, h_0 = (torch.randn(s, dtype=dtype, requires_grad=True) for s in (shapes[layout], state))
    sizes = torch.tensor([3, 2, 1]) if layout == "packed" else None
    batch = 3 if layout == "packed" else 0
    seed = None if cell else torch.tensor(5)
    weights = list(lstm.parameters())
    return x, h_0, torch.randn_like(h_0), weights, sizes, seed, layout, not cell, 0.5, batch


LAYOUTS = ["tbi", "bti", "ti", "packed", "cell"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_opcheck_forward(layout: str, dtype: str) -> None:
    torch.library.opcheck(forward, arguments(layout, getattr(torch, dtype)))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_opcheck_backward(layout: str, dtype: str) -> None:
    given = arguments(layout, getattr(torch, dtype))
    with torch.no_grad():
        y, _, c_n, tape = forward(*given, True)
    x, _, _, weights, sizes, seed, *options = given
    x, weights = x.detach(), [w.detach() for w in weights]
    for every in (1, 2, 3):
        needs = [index % every == 0 for index in range(3 + len(weights))]
        grads = (torch.randn_like(y), None, torch.randn_like(c_n))
        torch.library.opcheck(backward, (tape, x, weights, sizes, seed, *grads, *options, needs))


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


# ---- compilers and exporters ----


@pytest.mark.parametrize("dynamic", [None, True])
def test_compile(dynamic: Any) -> None:
    ours, theirs = pair()
    compiled = torch.compile(ours, backend="aot_eager", fullgraph=True, dynamic=dynamic)
    for batch, steps in ((4, 6), (3, 8), (5, 9)):  # the second shape makes sizes symbolic
        x = torch.randn(batch, steps, 5)
        assert_close(gradients(compiled, ours, x), gradients(theirs, theirs, x))
        with torch.no_grad():
            assert_close([compiled(x)], [theirs(x)])


def test_compiled_weights_are_not_stale() -> None:
    ours, theirs = pair()
    compiled = torch.compile(ours, backend="aot_eager", fullgraph=True)
    x = torch.randn(4, 6, 5)
    with torch.no_grad():
        for _ in range(3):
            for _ in range(3):
                assert_close([compiled(x)], [theirs(x)])
            for model in (ours, theirs):
                model.lstm.weight_hh_l1.data.mul_(1.5)


def test_compiled_dropout_draws_eager_masks() -> None:
    ours, _ = pair(dropout=0.5)
    compiled = torch.compile(ours, backend="aot_eager", fullgraph=True)
    x = torch.randn(4, 6, 5)
    found = []
    for call, seed in ((ours, 1), (compiled, 1), (compiled, 2)):
        torch.manual_seed(seed)
        found.append(gradients(call, ours, x))
    assert all(torch.equal(a, b) for a, b in zip(*found[:2], strict=True))
    assert not torch.equal(found[1][0], found[2][0])


def test_compile_packed_sequence_and_cell() -> None:
    lstm, cell = fltorch.LSTM(5, 7, bidirectional=True), fltorch.LSTMCell(5, 7)

    def ragged(packed: Any) -> Any:
        y, (h_n, _) = lstm(packed)
        return y.data, h_n

    def two_steps(x: Any) -> Any:
        return cell(x[1], cell(x[0]))

    packed = rnn.pack_padded_sequence(torch.randn(4, 3, 5), [2, 4, 1], enforce_sorted=False)
    for function, given in ((ragged, packed), (two_steps, torch.randn(2, 3, 5))):
        compiled = torch.compile(function, backend="aot_eager", fullgraph=True)
        for a, b in zip(compiled(given), function(given), strict=True):
            assert torch.equal(a, b)


def test_plain_rnns_compile_as_before() -> None:
    """Dynamo breaks the graph at PyTorch's own RNNs, and at ours where PyTorch does the work."""
    for module in (torch.nn.LSTM(2, 3), torch.nn.GRU(2, 3), fltorch.LSTM(2, 3, proj_size=2)):
        compiled = torch.compile(module, backend="eager", fullgraph=True)
        with pytest.raises(torch._dynamo.exc.Unsupported, match="RNN, GRU, or LSTM"):
            compiled(torch.randn(4, 1, 2))
    assert not torch._dynamo.config.allow_rnn


@pytest.mark.parametrize("order", ["before", "after"])
def test_compile_whichever_is_imported_first(order: str) -> None:
    """Dynamo is loaded by many things; fastlstm.torch itself does not load it."""
    check(
        f"""
        import sys, torch
        if {order == "before"}:
            import torch._dynamo
        import fastlstm.torch
        assert ("torch._dynamo" in sys.modules) == {order == "before"}
        lstm = fastlstm.torch.LSTM(2, 3)
        x = torch.randn(4, 1, 2)
        found = torch.compile(lstm, backend="eager", fullgraph=True)(x)[0]
        assert torch.equal(found, lstm(x)[0])
        """
    )


@pytest.mark.parametrize("strict", [False, True])
def test_export(strict: bool) -> None:
    ours, theirs = pair()
    sizes = {0: torch.export.Dim("batch", min=2), 1: torch.export.Dim("steps", min=2)}
    program = torch.export.export(
        ours, (torch.randn(4, 6, 5),), dynamic_shapes={"x": sizes}, strict=strict
    )
    targets = [node.target for node in program.graph.nodes if node.op == "call_function"]
    assert targets.count(forward) == 1
    x = torch.randn(3, 8, 5)
    with torch.no_grad():
        assert_close([program.module()(x)], [theirs(x)])
        assert_close([program.run_decompositions().module()(x)], [theirs(x)])
    # One that is trained after all gets its tape when it runs.
    module = program.module()
    assert_close(gradients(module, module, x), gradients(theirs, theirs, x))


def test_fake_tensors_and_profilers_see_operators() -> None:
    lstm = fltorch.LSTM(3, 4)
    from torch.utils._python_dispatch import TorchDispatchMode

    seen = []

    class Log(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            seen.append(func)
            return func(*args, **(kwargs or {}))

    with Log():
        lstm(torch.randn(5, 2, 3))[0].sum().backward()
    assert seen.count(forward) == 1
    assert seen.count(backward) == 1


@pytest.mark.deep
@pytest.mark.parametrize("dynamic", [None, True])
def test_inductor(dynamic: Any) -> None:
    ours, theirs = pair()
    compiled = torch.compile(ours, fullgraph=True, dynamic=dynamic)
    for batch, steps in ((4, 6), (3, 8)):
        x = torch.randn(batch, steps, 5)
        assert_close(gradients(compiled, ours, x), gradients(theirs, theirs, x))
        with torch.no_grad():
            assert_close([compiled(x)], [theirs(x)])
