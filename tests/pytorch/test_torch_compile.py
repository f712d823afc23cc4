# SPDX-License-Identifier: BSD-3-Clause
"""fastlstm.torch under torch.compile and torch.export: one operator a layer, not stale."""

from __future__ import annotations

from typing import Any

import pytest

from support.processes import check

torch = pytest.importorskip("torch")
rnn = torch.nn.utils.rnn

import fastlstm.torch as fltorch  # noqa: E402

ops = torch.ops.fastlstm
FORWARD = ops.lstm_forward.default, ops.rnn_forward.default


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
        self.gru = torch.nn.GRU(14, 6, 2, batch_first=True, bidirectional=True, **options)
        self.out = torch.nn.Linear(12, 3)

    def forward(self, x: Any) -> Any:
        y, (_, c_n) = self.lstm(x)
        y, h_n = self.gru(y)
        return self.out(torch.relu(y)) + c_n.mean() + h_n.mean()


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
    layer, step = fltorch.RNN(14, 7), fltorch.RNNCell(7, 7, nonlinearity="relu")

    def ragged(packed: Any) -> Any:
        y, (h_n, _) = lstm(packed)
        y, last = layer(y)
        return y.data, h_n, last

    def two_steps(x: Any) -> Any:
        h, c = cell(x[1], cell(x[0]))
        return step(h), c

    packed = rnn.pack_padded_sequence(torch.randn(4, 3, 5), [2, 4, 1], enforce_sorted=False)
    for function, given in ((ragged, packed), (two_steps, torch.randn(2, 3, 5))):
        compiled = torch.compile(function, backend="aot_eager", fullgraph=True)
        for a, b in zip(compiled(given), function(given), strict=True):
            assert torch.equal(a, b)


def test_plain_rnns_compile_as_before() -> None:
    """Dynamo breaks the graph at PyTorch's own RNNs, and at ours where PyTorch does the work."""
    for module in (
        torch.nn.LSTM(2, 3),
        torch.nn.RNN(2, 3),
        torch.nn.GRU(2, 3),
        fltorch.LSTM(2, 3, dtype=torch.bfloat16),
    ):
        compiled = torch.compile(module, backend="eager", fullgraph=True)
        with pytest.raises(torch._dynamo.exc.Unsupported, match="RNN, GRU, or LSTM"):
            compiled(torch.randn(4, 1, 2, dtype=module.weight_ih_l0.dtype))
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
    assert [targets.count(operator) for operator in FORWARD] == [1, 1]
    x = torch.randn(3, 8, 5)
    with torch.no_grad():
        assert_close([program.module()(x)], [theirs(x)])
        assert_close([program.run_decompositions().module()(x)], [theirs(x)])
    # One that is trained after all gets its tape when it runs.
    module = program.module()
    assert_close(gradients(module, module, x), gradients(theirs, theirs, x))


def test_fake_tensors_and_profilers_see_operators() -> None:
    layers = fltorch.LSTM(3, 4), fltorch.RNN(4, 4)
    from torch.utils._python_dispatch import TorchDispatchMode

    seen = []

    class Log(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            seen.append(func)
            return func(*args, **(kwargs or {}))

    with Log():
        layers[1](layers[0](torch.randn(5, 2, 3))[0])[0].sum().backward()
    operators = *FORWARD, ops.lstm_backward.default, ops.rnn_backward.default
    assert [seen.count(operator) for operator in operators] == [1] * 4


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
